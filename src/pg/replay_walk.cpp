// The replay itself, on a private block that begins empty. What happened before `since`, what
// people gave by hand, leads that are gone and those of the tenant's other tables happen as they
// did; a lead that arrives in time is decided about. What came to such a lead later (the backlog, a
// claim, another rep, its end, a credit) comes to it again where the replay has it where it was;
// elsewhere its rep has it until it ended for good.
#include "replay.h"
#include "availability.h"
#include "lead_value.h"
#include "rebuild.h"
#include "sticky.h"
#include "tenant.h"

extern "C" {
#include "utils/geo_decls.h"
}

// Who has had a contact last.
struct Known {
    int64 contact; // hash key
    int64 rep;
    TimestampTz at;
};

struct Walk {
    Replay* replay;
    TenantBlock* block;
    TenantRules* rules;
    TupleTableSlot* slot;
    HTAB* contacts; // NULL: the table has no sticky_on
    bool has_value;
};

static core::Explanation explanation;

// --- what happened ---

static void remember(const Walk* walk, int64 contact, int64 rep, TimestampTz at) {
    if (walk->contacts == NULL)
        return;
    bool found;
    Known* known = static_cast<Known*>(hash_search(walk->contacts, &contact, HASH_ENTER, &found));
    known->rep = rep;
    known->at = at;
}

static int64 extra_of(const Past* past) {
    return past->cost == 1 ? 0 : core::extra_of(past->cost);
}

// --- deciding ---

static void fill_slot(const Walk* walk, const Life* life) {
    TupleTableSlot* slot = walk->slot;
    HeapTupleData tuple = {};
    tuple.t_len = HeapTupleHeaderGetDatumLength(life->row);
    tuple.t_data = life->row;
    ExecClearTuple(slot);
    heap_deform_tuple(&tuple, slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
    // the owner that it has came after the decision
    slot->tts_isnull[walk->replay->table->owner_column - 1] = true;
    ExecStoreVirtualTuple(slot);
}

// What the lead needed of whoever received it, as far as the rules still say so.
static const Needs* needed(const Walk* walk, const Life* life, TimestampTz at) {
    RuleSet* rules = walk->rules->rules;
    RuleFailures failures;
    failures.count = 0;
    if (life->row == NULL)
        return NULL;
    fill_slot(walk, life);
    const Rule* rule = rules_match(rules, walk->slot, at, &failures);
    rules_forget_faults(rules);
    return rule == NULL ? NULL : rules_asked(rules)->needs;
}

// An episode as it was: a turn, a lead of the day, or but one more open lead.
static void happen(const Walk* walk, const Past* past) {
    if (past->rep == 0)
        return;
    TenantBlock* block = walk->block;
    const Life* life = &walk->replay->lives[past->life];
    if (past->has_contact && life->ours)
        remember(walk, past->contact, past->rep, past->at);
    if (past->has_day) {
        bool by_rules = past->pool != 0 && life->ours;
        RefNeed ref = by_rules ? ref_need(walk->replay->table->owner_kind) : RefNeed::none;
        PickRequest request = {&walk->replay->key,
                               past->pool,
                               past->rep,
                               0,
                               ref,
                               past->at,
                               by_rules ? needed(walk, life, past->at) : NULL,
                               NULL};
        pick_repeat(block, &request, past->day, extra_of(past));
        return;
    }
    int32 rep = block_find_rep(block, past->rep);
    if (rep < 0)
        return;
    rep_open_add(block, rep, 1, 0);
    rep_refresh(block, rep, zone_days(past->at, true));
}

static const core::Spot* place_of(const Walk* walk) {
    static core::Spot place;
    AttrNumber column = walk->replay->table->location_column;
    bool isnull = column == InvalidAttrNumber;
    Datum value = isnull ? (Datum)0 : slot_getattr(walk->slot, column, &isnull);
    if (isnull)
        return NULL;
    const Point* point = DatumGetPointP(value);
    place = core::spot_of(point->x, point->y);
    return core::is_somewhere(place) ? &place : NULL;
}

static void ask(const Walk* walk, const PickRequest* request, Pick* picked) {
    memset(static_cast<void*>(picked), 0, sizeof(*picked));
    explanation.tried_count = 0;
    if (request->pool != 0 || request->rep != 0)
        pick_private(walk->block, request, picked, &explanation);
}

static void take(Life* life, const Pick* picked, int64 rule) {
    life->rep = picked->rep;
    life->pool = picked->pool;
    life->rule = rule;
}

// To the known owner of its contact; false: nobody is, or that rep takes none.
static bool give_known(const Walk* walk, Life* life, const StickyContact* contact, TimestampTz at,
                       Pick* picked) {
    if (!contact->present || walk->contacts == NULL)
        return false;
    const Known* known =
        static_cast<Known*>(hash_search(walk->contacts, &contact->hash, HASH_FIND, NULL));
    if (known == NULL || known->at < sticky_since(walk->rules->rules, at))
        return false;
    PickRequest request = {&walk->replay->key,
                           0,
                           known->rep,
                           0,
                           ref_need(walk->replay->table->owner_kind),
                           at,
                           NULL,
                           NULL,
                           true};
    ask(walk, &request, picked);
    life->is_known = picked->found;
    if (picked->found)
        take(life, picked, 0);
    return picked->found;
}

// By the rules, as decide() does.
static void give_by_rules(const Walk* walk, Life* life, TimestampTz at, Pick* picked) {
    RuleSet* rules = walk->rules->rules;
    RuleFailures failures;
    failures.count = 0;
    const Rule* rule = rules_match(rules, walk->slot, at, &failures);
    const RuleAsk* asked = rule == NULL ? NULL : rules_asked(rules);
    PickRequest request = {&walk->replay->key,
                           asked == NULL ? walk->rules->fallback_pool : asked->pool,
                           asked == NULL ? 0 : asked->rep,
                           rule == NULL ? 0 : rule->overflow_pool,
                           ref_need(walk->replay->table->owner_kind),
                           at,
                           asked == NULL ? NULL : asked->needs,
                           place_of(walk)};
    request.value = life->value;
    int64 id = rule == NULL ? 0 : rule->id;
    ask(walk, &request, picked);
    take(life, picked, id);
    if (!picked->found)
        life->pool = picked->waits_in != 0 ? picked->waits_in : request.pool;
}

// What of the rep's, or of its membership's, this lead has filled.
static const char* filled_by(const Walk* walk, const Pick* picked) {
    TenantBlock* block = walk->block;
    const RepState* rep = rep_of(block, picked->rep);
    int32 member = picked->pool == 0 ? -1 : block_find_member_of(block, picked->pool, picked->rep);
    if (rep->cap != kNoCap && days_used(&rep->days, picked->day) >= rep->cap)
        return "daily cap";
    if (member >= 0 && block->member(member)->cap != kNoCap &&
        days_used(&block->member(member)->days, picked->day) >= block->member(member)->cap)
        return "daily cap";
    return rep->open_cap != kNoCap && rep->open.used >= rep->open_cap ? "capacity" : NULL;
}

// As then: the same owner, or the same queue.
static bool is_as_then(const Life* life, const Past* past) {
    return life->rep == past->rep && (life->rep != 0 || life->pool == past->pool);
}

static void decide(const Walk* walk, Life* life, const Past* past) {
    RuleSet* rules = walk->rules->rules;
    StickyContact contact;
    Pick picked;
    fill_slot(walk, life);
    life->decided = true;
    if (walk->has_value) {
        RuleFailures failures;
        failures.count = 0;
        life->value = lead_value(rules, walk->slot, &failures);
    }
    sticky_contact(rules, walk->slot, &contact);
    if (!give_known(walk, life, &contact, past->at, &picked))
        give_by_rules(walk, life, past->at, &picked);
    rules_forget_faults(rules);
    if (picked.found) {
        life->filled = filled_by(walk, &picked);
        if (contact.present)
            remember(walk, contact.hash, life->rep, past->at);
    }
    life->as_then = is_as_then(life, past);
}

// --- events ---

static void start(const Walk* walk, const Past* past, MemoryContext results) {
    Replay* replay = walk->replay;
    Life* life = &replay->lives[past->life];
    bool arrives = past == &replay->pasts[life->first];
    if (arrives && life->in_time && life->row != NULL && !past->manual) {
        decide(walk, life, past);
        if (!life->as_then)
            life->reason = MemoryContextStrdup(
                results, replay_reason(replay, walk->block, life, zone_days(past->at, true)));
        return;
    }
    if (arrives) {
        life->as_then = true;
        life->rep = past->rep;
        life->rule = past->rule;
        life->pool = past->pool;
    }
    if (life->as_then)
        happen(walk, past);
}

// Elsewhere than then a lead is open until its last episode ended.
static void end(const Walk* walk, const Past* past) {
    const Life* life = &walk->replay->lives[past->life];
    bool last = past == &walk->replay->pasts[life->first + life->count - 1];
    int64 rep = life->as_then ? past->rep : last ? life->rep : 0;
    if (rep == 0)
        return;
    Held held = {core::Effect::end, 0, rep, 0, 1};
    block_keep(walk->block, &held, zone_days(past->ended_at, true));
}

static void credit(const Walk* walk, const Past* past) {
    const Life* life = &walk->replay->lives[past->life];
    if (!life->as_then || past->rep == 0 || !past->has_day)
        return;
    Held held = {past->credits_day ? core::Effect::credit_day : core::Effect::credit,
                 past->pool,
                 past->rep,
                 past->day,
                 1,
                 extra_of(past)};
    block_keep(walk->block, &held, zone_days(past->credited_at, true));
}

// --- entering ---

static TenantBlock* empty_block(const Replay* replay) {
    TimestampTz first = replay->events[0].at;
    TimestampTz last = replay->events[replay->event_count - 1].at;
    Horizon horizon = {first - USECS_PER_DAY, last + USECS_PER_DAY};
    Configuration configuration = {};
    configuration_read_for(replay->key.tenant, &horizon, &configuration);
    TenantBlock* block = configuration_block(&configuration, NULL);
    for (int32 i = 0; i < block->rep_count; i++)
        block->rep(i)->open.known = OpenKnown::yes;
    // who was signed in then is not kept
    for (int32 i = 0; i < block->pool_count; i++)
        block->pool(i)->presence_required = false;
    start_level(block, zone_days(first, true));
    return block;
}

static HTAB* contacts_table(void) {
    HASHCTL control = {};
    control.keysize = sizeof(int64);
    control.entrysize = sizeof(Known);
    control.hcxt = CurrentMemoryContext;
    return hash_create("leadroute replay contacts", 1024, &control,
                       HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void replay_walk(Replay* replay) {
    if (replay->event_count == 0)
        return;
    LeadTable* table = replay->table;
    Walk walk = {};
    walk.replay = replay;
    walk.block = empty_block(replay);
    walk.rules = lead_table_rehearse(table, replay->relation, &replay->key);
    walk.has_value = table->value != NULL;
    if (walk.has_value && walk.rules->value_pool_count == 0)
        lead_value_compile(walk.rules->rules, replay->relation, table->name, table->value,
                           table->value_author);
    walk.contacts = table->sticky ? contacts_table() : NULL;
    walk.slot = MakeSingleTupleTableSlot(RelationGetDescr(replay->relation), &TTSOpsVirtual);
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute replay lead",
                                                  ALLOCSET_DEFAULT_SIZES);
    MemoryContext results = MemoryContextSwitchTo(scratch);
    for (int32 i = 0; i < replay->event_count; i++) {
        CHECK_FOR_INTERRUPTS();
        const Event* event = &replay->events[i];
        const Past* past = &replay->pasts[event->past];
        if (event->step == Step::start)
            start(&walk, past, results);
        else if (event->step == Step::end)
            end(&walk, past);
        else
            credit(&walk, past);
        MemoryContextReset(scratch);
    }
    MemoryContextSwitchTo(results);
    ExecDropSingleTupleTableSlot(walk.slot);
    rules_free(walk.rules->rules);
}
