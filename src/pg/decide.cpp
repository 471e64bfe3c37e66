// decide(): the middle of a lead's way; see decide.h.
#include "decide.h"
#include "alert.h"
#include "backlog.h"
#include "frame.h"
#include "lead_value.h"
#include "sla.h"
#include "sticky.h"
#include "waiting.h"

extern "C" {
#include "utils/geo_decls.h"
}

static core::Explanation explanation;
static uint8 encoded[core::kMaxEncoded];

static void start(LeadTable* table, const Lead* lead, TimestampTz now, Decision* d) {
    memset(static_cast<void*>(d), 0, offsetof(Decision, failures));
    d->failures.count = 0;
    d->failures.first_message[0] = '\0';
    explanation.note = core::Note::none;
    explanation.rule_error_count = 0;
    explanation.miss_count = 0;
    explanation.tried_count = 0;
    RecordRow* row = &d->row;
    row->tenant = lead->key.tenant;
    row->decided_at = now;
    row->lead_table = table->id;
    row->episode = 1;
    row->rep_cap = row->member_cap = row->open_cap = kNoCap;
    row->lead_id = lead->id;
    row->method = "push";
    row->assignment = lead->key.assignment;
}

static void finish(Decision* d) {
    if (!leadroute_explain && explanation.rule_error_count == 0 && explanation.miss_count == 0)
        return;
    d->row.explanation_length = core::encode(explanation, encoded);
    d->row.explanation = encoded;
}

static void explain_failures(const RuleFailures* failures) {
    explanation.rule_error_count = failures->count;
    int kept = Min(failures->count, Min(kMaxFailures, core::kMaxRuleErrors));
    for (int i = 0; i < kept; i++) {
        core::RuleError* error = &explanation.rule_errors[i];
        error->rule = failures->failure[i].rule;
        memcpy(error->sqlstate, unpack_sql_state(failures->failure[i].sqlstate), 5);
    }
}

static void explain_misses(const RuleMisses* misses) {
    explanation.miss_count = misses->count;
    int kept = Min(misses->count, Min(kMaxFailures, core::kMaxMisses));
    for (int i = 0; i < kept; i++)
        explanation.misses[i] = misses->rule[i];
}

static void take(const Pick* picked, Decision* d) {
    RecordRow* row = &d->row;
    d->slot = picked->slot;
    d->assigned = true;
    row->ticket = picked->ticket;
    if (picked->decided_at != 0)
        row->decided_at = picked->decided_at;
    row->has_rep = true;
    row->rep = picked->rep;
    row->pool = picked->pool;
    row->has_day = true;
    row->day = picked->day;
    row->rep_cap = picked->rep_cap;
    row->member_cap = picked->member_cap;
    row->open_cap = picked->open_cap;
    row->has_deficit = picked->pool != 0;
    row->deficit = (float4)picked->deficit;
    row->tag = picked->tag;
    row->extra = picked->extra;
    sla_record(picked, row);
}

static void count(const TenantKey* key, Counter counter) {
    TenantSlot* slot = slot_find(key);
    if (slot == NULL)
        return;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (slot->used && same_key(&slot->key, key))
        slot->counter[counter]++;
    LWLockRelease(slot_lock(slot));
}

// Nobody took it: it waits in a pool that it has come to whose leads are not given out, else in the
// queue of the pool it was meant for, or in `unmatched`.
static void wait(const Pick* picked, const PickRequest* request, Decision* d) {
    d->row.needs = waiting_needs(request->needs);
    if (picked->waits_in != 0) {
        d->row.pool = picked->waits_in;
        d->row.method = picked->overflowed ? "overflow" : "push";
        d->to_claim = true;
        explanation.note = core::Note::pull;
        if (picked->offered_count > 0) {
            explanation.note = core::Note::offered;
            waiting_offer(picked, &d->row);
        }
        return;
    }
    d->row.pool = request->pool;
    explanation.note = d->rule != NULL ? core::Note::nobody : core::Note::unmatched;
    if (d->rule == NULL && request->pool == 0)
        return;
    d->alert = "nobody_available";
    d->alert_message =
        picked->memory_full ? "Shared memory of leadroute is full: raise leadroute.max_members."
        : request->avoid_count > 0
            ? "All who might take the lead, there and in overflow pools, are away or capped, or "
              "have given it up."
        : request->needs != NULL
            ? "All who have the skills that the lead needs, there and in overflow pools, are away "
              "or "
              "capped, or nobody has them."
            : "All its members, and those of its overflow pools, are away or capped.";
}

// Where the lead is; NULL: the table has no such column, or this lead nothing on the globe in it.
static const core::Spot* place_of(const LeadTable* table, const Lead* lead) {
    static core::Spot place;
    if (table->location_column == InvalidAttrNumber)
        return NULL;
    bool isnull;
    Datum value = slot_getattr(lead->slot, table->location_column, &isnull);
    if (isnull)
        return NULL;
    const Point* point = DatumGetPointP(value);
    place = core::spot_of(point->x, point->y);
    return core::is_somewhere(place) ? &place : NULL;
}

// The contact, for the record.
static void read_contact(const TenantRules* rules, const Lead* lead, StickyContact* contact,
                         Decision* d) {
    sticky_contact(rules->rules, lead->slot, contact);
    d->row.has_contact = contact->present;
    d->row.contact = contact->hash;
    if (contact->on)
        d->sticky = contact->sqlstate != 0 ? StickyStep::failed
                    : contact->present     ? StickyStep::unknown
                                           : StickyStep::none;
}

// Puts an error of sticky_on before those of the rules.
static void add_failure(const StickyContact* contact, RuleFailures* failures) {
    if (!contact->on || contact->sqlstate == 0)
        return;
    int kept = Min(failures->count, kMaxFailures - 1);
    memmove(&failures->failure[1], &failures->failure[0], sizeof(RuleFailure) * kept);
    failures->failure[0] = {kStickyFailure, contact->sqlstate};
    failures->count++;
    strlcpy(failures->first_message, contact->message, sizeof(failures->first_message));
}

// Who is told of each candidate, when it is only asked.
struct Rehearsal {
    CandidateVisitor visit;
    void* context;
};

static void ask(const PickRequest* request, const Rehearsal* rehearsal, Pick* picked) {
    if (request->pool == 0 && request->rep == 0)
        return;
    if (rehearsal == NULL)
        pick(request, picked, &explanation);
    else
        pick_rehearse(request, picked, &explanation, rehearsal->visit, rehearsal->context);
}

// Gives the lead to the rep who has its contact; false: nobody has, or the rep takes none now.
static bool give_known(LeadTable* table, TenantRules* rules, const Lead* lead,
                       const Rehearsal* rehearsal, Decision* d) {
    if (d->sticky != StickyStep::unknown)
        return false;
    TimestampTz now = d->row.decided_at;
    ContactKey key = {lead->key.tenant, d->row.contact, table->id};
    int64 rep;
    if (!frame_known_rep(&key, &rep) &&
        !record_known_rep(lead->key.assignment, &key, sticky_since(rules->rules, now), &rep))
        return false;
    d->sticky = StickyStep::known;
    PickRequest request = {&lead->key, 0,    rep,  0,   ref_need(table->owner_kind),
                           now,        NULL, NULL, true};
    request.table_sla = rules->sla;
    Pick picked = {};
    ask(&request, rehearsal, &picked);
    if (!picked.found) {
        if (explanation.tried_count > 0 && explanation.tried[0].members == 0)
            d->sticky = StickyStep::gone;
        return false;
    }
    take(&picked, d);
    d->row.method = "sticky";
    d->sets_owner = owner_from_rep(table, rules, picked.rep, &d->owner);
    explanation.note = core::Note::sticky;
    return true;
}

// Finds the rule, and says whom it asks for a taker.
static PickRequest match_rule(LeadTable* table, TenantRules* rules, const Lead* lead,
                              const StickyContact* contact, Decision* d) {
    TimestampTz now = d->row.decided_at;
    d->rule = rules_match(rules->rules, lead->slot, now, &d->failures);
    add_failure(contact, &d->failures);
    const Rule* rule = d->rule;
    explain_misses(rules_misses(rules->rules));
    if (rule == NULL) {
        explanation.note = core::Note::unmatched;
        return {&lead->key, rules->fallback_pool, 0, 0, ref_need(table->owner_kind), now,
                NULL,       place_of(table, lead)};
    }
    d->row.rule = rule->id;
    d->row.rule_version = rule->version;
    d->row.has_label = rule->has_label;
    d->row.label = rule->label;
    const RuleAsk* ask = rules_asked(rules->rules);
    return {&lead->key,
            ask->pool,
            ask->rep,
            rule->overflow_pool,
            ref_need(table->owner_kind),
            now,
            ask->needs,
            place_of(table, lead)};
}

static bool goes_by_value(const TenantRules* rules, int32 pool) {
    for (int i = 0; i < rules->value_pool_count; i++)
        if (rules->value_pools[i] == pool)
            return true;
    return false;
}

// What the lead is worth is asked where it may matter alone.
static void weigh(const TenantRules* rules, const Lead* lead, PickRequest* request, Decision* d) {
    if (goes_by_value(rules, request->pool) || goes_by_value(rules, request->overflow_pool))
        request->value = lead_value(rules->rules, lead->slot, &d->failures);
    if (d->failures.count > 0)
        explain_failures(&d->failures);
}

static PickRequest match(LeadTable* table, TenantRules* rules, const Lead* lead,
                         const StickyContact* contact, Decision* d) {
    PickRequest request = match_rule(table, rules, lead, contact, d);
    request.sla = d->rule == NULL ? 0 : d->rule->sla;
    request.table_sla = rules->sla;
    weigh(rules, lead, &request, d);
    return request;
}

static void settle(LeadTable* table, TenantRules* rules, const Lead* lead,
                   const PickRequest* request, const Pick* picked, Decision* d) {
    if (!picked->found) {
        waiting_score(table, lead, &d->row);
        wait(picked, request, d);
        return;
    }
    take(picked, d);
    d->row.method = picked->overflowed ? "overflow" : "push";
    d->sets_owner = owner_from_rep(table, rules, picked->rep, &d->owner);
}

// Counts what became of the lead, and says what a person must see.
static void conclude(const Lead* lead, const PickRequest* request, Decision* d) {
    if (d->failures.count > 0)
        count(&lead->key, COUNT_RULE_ERRORS);
    if (d->rule == NULL)
        count(&lead->key, COUNT_UNMATCHED);
    if (!d->assigned) {
        count(&lead->key, COUNT_WAITING);
        if (!d->to_claim)
            backlog_note_waiting(&lead->key);
        else if (d->row.offered_to != 0 && d->row.offered_until != DT_NOEND)
            backlog_note_offer(d->row.offered_until);
        if (d->alert != NULL)
            count(&lead->key, COUNT_CAPPED);
    }
    if (d->rule == NULL && d->alert == NULL) {
        d->alert = "unmatched";
        d->alert_message = request->pool != 0
                               ? "no rule matched: leads go to the fallback pool"
                               : "no rule matched: leads wait in the queue unmatched";
    }
    finish(d);
}

void decide(LeadTable* table, TenantRules* rules, const Lead* lead, Decision* d) {
    StickyContact contact;
    start(table, lead, GetCurrentTimestamp(), d);
    read_contact(rules, lead, &contact, d);
    if (give_known(table, rules, lead, NULL, d)) {
        finish(d);
        return;
    }
    PickRequest request = match(table, rules, lead, &contact, d);
    Pick picked = {};
    ask(&request, NULL, &picked);
    settle(table, rules, lead, &request, &picked, d);
    conclude(lead, &request, d);
}

// Would the rule that the lead stands by ask whom it asked then?
static bool same_ask(const PickRequest* request, const Standing* standing, const Decision* d) {
    if (d->row.rule != standing->rule)
        return false;
    if (d->rule != NULL && d->rule->pool == 0 && d->rule->rep == 0 && // by its territory
        (request->pool != standing->asked_pool ||
         (request->rep != 0 && request->rep != standing->rep)))
        return false;
    return !standing->has_rep || request->needs == NULL ||
           pick_has_skills(request->key, standing->rep, request->needs);
}

// Those who gave the lead up do not get it again, from this decision or a later one.
static void avoid_former(const Standing* standing, PickRequest* request, Decision* d) {
    if (standing->avoid == 0)
        return;
    const ArrayType* reps = DatumGetArrayTypeP(standing->avoid);
    d->row.avoid = standing->avoid;
    request->avoid = reinterpret_cast<const int64*>(ARR_DATA_PTR(reps));
    // by its size: NULLs take no room
    request->avoid_count = static_cast<int32>(
        (ARR_SIZE(reps) - (ARR_DATA_PTR(reps) - reinterpret_cast<const char*>(reps))) /
        sizeof(int64));
}

// It waits where it waited, for somebody with the same skills.
static bool stays_waiting(const Standing* standing, const Decision* d) {
    if (standing->offer_over && !d->to_claim)
        return true;
    if (d->row.pool != standing->pool || (d->row.offered_to != 0 && !standing->offered))
        return false;
    return !d->to_claim || waiting_same_needs(standing->needs, d->row.needs);
}

// The lead is for this pool, whatever its rule says.
static void bind(int32 pool, PickRequest* request, Decision* d) {
    request->pool = pool;
    request->rep = 0;
    request->overflow_pool = 0;
    request->pool_bound = d->row.pool_bound = true;
}

bool decide_again(LeadTable* table, TenantRules* rules, const Lead* lead, const Standing* standing,
                  const char* method, Decision* d) {
    StickyContact contact;
    start(table, lead, GetCurrentTimestamp(), d);
    read_contact(rules, lead, &contact, d);
    PickRequest request = match(table, rules, lead, &contact, d);
    avoid_former(standing, &request, d);
    request.push_pool = standing->offer_over ? standing->pool : 0;
    bool bound = !standing->has_rep && standing->pool_bound;
    if (bound)
        bind(standing->pool, &request, d);
    bool same = bound || same_ask(&request, standing, d);
    if (standing->has_rep && same)
        return false;
    Pick picked = {};
    ask(&request, NULL, &picked);
    settle(table, rules, lead, &request, &picked, d);
    d->row.at_front = !d->assigned && standing->at_front;
    d->row.hops = standing->hops;
    if (!d->assigned && !standing->has_rep && same && stays_waiting(standing, d))
        return false;
    d->row.method = method;
    conclude(lead, &request, d);
    return true;
}

static bool is_avoided(const PickRequest* request) {
    for (int32 i = 0; i < request->avoid_count; i++)
        if (request->avoid[i] == request->rep)
            return true;
    return false;
}

void decide_reroute(LeadTable* table, TenantRules* rules, const Lead* lead,
                    const Standing* standing, const Reroute* how, Decision* d) {
    StickyContact contact;
    start(table, lead, GetCurrentTimestamp(), d);
    read_contact(rules, lead, &contact, d);
    PickRequest request = match_rule(table, rules, lead, &contact, d);
    request.sla = d->rule == NULL ? 0 : d->rule->sla;
    request.table_sla = rules->sla;
    avoid_former(standing, &request, d);
    if (how->bound)
        bind(how->pool, &request, d);
    else if (how->pool != 0)
        request.pool = how->pool;
    if (how->pool != 0 || is_avoided(&request))
        request.rep = 0;
    weigh(rules, lead, &request, d);
    Pick picked = {};
    ask(&request, NULL, &picked);
    settle(table, rules, lead, &request, &picked, d);
    d->row.method = "reroute";
    d->row.hops = standing->hops;
    conclude(lead, &request, d);
}

void decide_rehearse(LeadTable* table, TenantRules* rules, const Lead* lead, CandidateVisitor visit,
                     void* context, Decision* d) {
    StickyContact contact;
    Rehearsal rehearsal = {visit, context};
    start(table, lead, GetCurrentTimestamp(), d);
    read_contact(rules, lead, &contact, d);
    if (!give_known(table, rules, lead, &rehearsal, d)) {
        PickRequest request = match(table, rules, lead, &contact, d);
        Pick picked = {};
        ask(&request, &rehearsal, &picked);
        settle(table, rules, lead, &request, &picked, d);
    }
    d->row.explanation_length = core::encode(explanation, encoded);
    d->row.explanation = encoded;
}

void decide_given(LeadTable* table, TenantRules* rules, const Lead* lead, Datum owner,
                  Decision* d) {
    TimestampTz now = GetCurrentTimestamp();
    start(table, lead, now, d);
    if (rules != NULL) {
        StickyContact contact;
        read_contact(rules, lead, &contact, d);
        add_failure(&contact, &d->failures);
        explain_failures(&d->failures);
    }
    d->row.method = "manual";
    explanation.note = core::Note::manual;
    d->assigned = true;
    int64 rep;
    if (rep_from_owner(table, lead->key.tenant, owner, &rep)) {
        Pick given = {};
        if (shared_ready())
            pick_given(&lead->key, rep, now, 0, rules == NULL ? 0 : rules->sla, &given);
        if (given.found)
            take(&given, d);
        d->row.has_rep = true;
        d->row.rep = rep;
    }
    if (shared_ready())
        count(&lead->key, COUNT_MANUAL);
    finish(d);
}

void decide_unowned(LeadTable* table, const Lead* lead, Decision* d) {
    start(table, lead, GetCurrentTimestamp(), d);
    explanation.note = core::Note::nobody;
    waiting_score(table, lead, &d->row);
    d->alert = "nobody_available";
    d->alert_message = shared_ready() ? "Another trigger took the owner of the lead away."
                                      : "leadroute is not in shared_preload_libraries.";
    finish(d);
}

void decide_alerts(const LeadTable* table, const Lead* lead, const Decision* d) {
    Alert alert = {};
    alert.tenant = lead->key.tenant;
    alert.lead_table = table->id;
    alert.lead_id = lead->id;
    for (int i = 0; i < Min(d->failures.count, kMaxFailures); i++) {
        alert.kind = "rule_error";
        int64 rule = d->failures.failure[i].rule;
        alert.rule = rule == kValueFailure ? 0 : rule;
        alert.message = i == 0                  ? d->failures.first_message
                        : rule == kValueFailure ? "value_expression raised an error"
                                                : "the rule raised an error";
        raise_alert(&alert);
    }
    if (d->alert == NULL)
        return;
    alert.kind = d->alert;
    alert.rule = d->row.rule;
    alert.pool = d->row.pool;
    alert.message = d->alert_message;
    raise_alert(&alert);
}
