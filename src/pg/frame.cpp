// The stack of running statements that write; see frame.h.
#include "frame.h"
#include "transaction.h"

extern "C" {
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/utility.h"
}

static ExecutorRun_hook_type previous_run;
static ExecutorFinish_hook_type previous_finish;
static ProcessUtility_hook_type previous_utility;

static Frame* top;  // running now
static Frame* kept; // ran, and wait for ExecutorFinish with decisions whose rows may yet arrive
static Frame loose; // for callers that are neither executor nor COPY
static uint64 statements;

// --- what a plan may do ---

struct PlanFacts {
    bool on_conflict;
    bool moves;
};

static void inspect_plan(Plan* plan, PlanFacts* facts) {
    if (plan == NULL || !IsA(plan, ModifyTable))
        return;
    ModifyTable* modify = reinterpret_cast<ModifyTable*>(plan);
    if (modify->onConflictAction != ONCONFLICT_NONE)
        facts->on_conflict = true;
    if (modify->operation != CMD_INSERT && modify->operation != CMD_DELETE)
        facts->moves = true;
}

void frame_inspect(Frame* frame) {
    if (frame->inspected)
        return;
    frame->inspected = true;
    if (frame->query == NULL)
        return;
    PlanFacts facts = {false, false};
    PlannedStmt* statement = frame->query->plannedstmt;
    inspect_plan(statement->planTree, &facts);
    // a ModifyTable in WITH is the top of a subplan, never below one
    ListCell* cell;
    foreach (cell, statement->subplans)
        inspect_plan(static_cast<Plan*>(lfirst(cell)), &facts);
    frame->may_drop_rows = facts.on_conflict;
    frame->may_move_rows = facts.moves;
}

static bool writes(const QueryDesc* query) {
    return query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE;
}

// --- the stack ---

static void push(Frame* frame, QueryDesc* query) {
    memset(static_cast<void*>(frame), 0, sizeof(*frame));
    frame->query = query;
    frame->number = ++statements;
    frame->level = GetCurrentTransactionNestLevel();
    frame->previous = top;
    top = frame;
}

static void release(Frame* frame) {
    record_buffer_free(frame->buffer);
    frame->buffer = NULL;
    if (frame->context != NULL)
        MemoryContextDelete(frame->context);
    frame->context = NULL;
    frame->contacts = NULL;
    frame->first = frame->last = frame->cursor = NULL;
}

Frame* frame_current(void) {
    if (top != NULL)
        return top;
    // Each row by itself: whoever calls here inserts what its triggers let through.
    loose.loose = true;
    loose.inspected = true;
    loose.last_deferred = false;
    loose.number = ++statements;
    loose.level = GetCurrentTransactionNestLevel();
    return &loose;
}

MemoryContext frame_context(Frame* frame) {
    if (frame->context == NULL)
        frame->context = AllocSetContextCreate(TopTransactionContext, "leadroute decisions",
                                               ALLOCSET_DEFAULT_SIZES);
    return frame->context;
}

struct DeferredContact {
    ContactKey key;
    int64 rep;
};

static void note_contact(Frame* frame, const RecordRow* row) {
    if (!row->has_contact || !row->has_rep)
        return;
    if (frame->contacts == NULL) {
        HASHCTL control = {};
        control.keysize = sizeof(ContactKey);
        control.entrysize = sizeof(DeferredContact);
        control.hcxt = frame_context(frame);
        frame->contacts =
            hash_create("leadroute contacts", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    ContactKey key = {row->tenant, row->contact, row->lead_table};
    bool found;
    static_cast<DeferredContact*>(hash_search(frame->contacts, &key, HASH_ENTER, &found))->rep =
        row->rep;
}

bool frame_known_rep(const ContactKey* key, int64* rep) {
    for (const Frame* frame = top; frame != NULL; frame = frame->previous) {
        if (frame->contacts != NULL) {
            const DeferredContact* known = static_cast<const DeferredContact*>(
                hash_search(frame->contacts, key, HASH_FIND, NULL));
            if (known != NULL) {
                *rep = known->rep;
                return true;
            }
        }
        if (record_buffer_knows(frame->buffer, key, rep))
            return true;
    }
    return false;
}

void frame_defer(Frame* frame, Deferred* deferred) {
    deferred->next = NULL;
    note_contact(frame, &deferred->row);
    frame->again += deferred->again ? 1 : 0;
    if (frame->last == NULL)
        frame->first = deferred;
    else
        frame->last->next = deferred;
    frame->last = deferred;
}

// The rows of these decisions did not arrive.
static void give_up_unconfirmed(Frame* frame) {
    for (Deferred* d = frame->first; d != NULL; d = d->next) {
        if (d->confirmed || !d->row.has_day)
            continue;
        if (d->slot != NULL)
            charge_undo(d->slot, d->row.pool, d->row.rep, d->row.day, d->row.extra);
        charge_undo_draft();
    }
    frame->first = frame->last = frame->cursor = NULL;
}

void frames_forget(void) {
    top = NULL;
    kept = NULL;
    memset(static_cast<void*>(&loose), 0, sizeof(loose));
}

void frames_abort(int nest_level) {
    // Frames that run are popped as the error passes their hook; those kept go with their level.
    Frame** link = &kept;
    while (*link != NULL) {
        if ((*link)->level >= nest_level)
            *link = (*link)->kept_next;
        else
            link = &(*link)->kept_next;
    }
}

// --- the AFTER trigger ---

constexpr int kFewRelations = 4;

// The trigger in the statement's copy of the relation that this BEFORE trigger fires for.
static Trigger* find_trigger(const List* relations, const TriggerData* data, Oid trigger) {
    if (list_length(relations) > kFewRelations)
        return NULL;
    ListCell* cell;
    foreach (cell, relations) {
        const ResultRelInfo* relation = static_cast<const ResultRelInfo*>(lfirst(cell));
        TriggerDesc* triggers = relation->ri_TrigDesc;
        if (triggers == NULL || data->tg_trigger < triggers->triggers ||
            data->tg_trigger >= triggers->triggers + triggers->numtriggers)
            continue;
        for (int i = 0; i < triggers->numtriggers; i++)
            if (triggers->triggers[i].tgoid == trigger)
                return &triggers->triggers[i];
    }
    return NULL;
}

void frame_after_trigger(Frame* frame, const TriggerData* data, Oid trigger, char enabled) {
    if (frame->query == NULL)
        return;
    if (frame->after_relation != data->tg_relation) {
        const EState* state = frame->query->estate;
        Trigger* found = find_trigger(state->es_opened_result_relations, data, trigger);
        if (found == NULL)
            found = find_trigger(state->es_tuple_routing_result_relations, data, trigger);
        frame->after_relation = data->tg_relation;
        frame->after_trigger = found;
    }
    if (frame->after_trigger != NULL)
        frame->after_trigger->tgenabled = enabled;
}

// --- hooks ---

static void keep_for_finish(Frame* frame) {
    Frame* copy = static_cast<Frame*>(MemoryContextAlloc(frame_context(frame), sizeof(Frame)));
    *copy = *frame;
    copy->buffer = NULL;
    copy->kept_next = kept;
    kept = copy;
}

static void run(LR_RUN_PARAMETERS) {
    if (previous_run)
        previous_run(LR_RUN_ARGUMENTS);
    else
        standard_ExecutorRun(LR_RUN_ARGUMENTS);
}

static void run_hook(LR_RUN_PARAMETERS) {
    if (!writes(query)) {
        run(LR_RUN_ARGUMENTS);
        return;
    }
    Frame frame;
    push(&frame, query);
    PG_TRY();
    {
        run(LR_RUN_ARGUMENTS);
        record_finish(frame.buffer);
    }
    PG_CATCH();
    {
        top = frame.previous;
        release(&frame);
        PG_RE_THROW();
    }
    PG_END_TRY();
    top = frame.previous;
    record_buffer_free(frame.buffer);
    if (frame.first != NULL)
        keep_for_finish(&frame);
    else if (frame.context != NULL)
        MemoryContextDelete(frame.context);
}

static Frame* take_kept(const QueryDesc* query) {
    for (Frame** link = &kept; *link != NULL; link = &(*link)->kept_next) {
        Frame* frame = *link;
        if (frame->query == query) {
            *link = frame->kept_next;
            return frame;
        }
    }
    return NULL;
}

static void finish(QueryDesc* query) {
    if (previous_finish)
        previous_finish(query);
    else
        standard_ExecutorFinish(query);
}

static void finish_hook(QueryDesc* query) {
    // take every run's decisions of this statement (a portal may run it in portions)
    Frame* first = take_kept(query);
    if (first == NULL) {
        finish(query);
        return;
    }
    Frame frame = *first;
    frame.previous = top;
    top = &frame;
    PG_TRY();
    {
        finish(query);
        record_finish(frame.buffer);
        give_up_unconfirmed(&frame);
    }
    PG_FINALLY();
    {
        top = frame.previous;
        release(&frame);
    }
    PG_END_TRY();
}

static bool is_copy_from(const PlannedStmt* statement) {
    Node* utility = statement->utilityStmt;
    return utility != NULL && IsA(utility, CopyStmt) &&
           reinterpret_cast<CopyStmt*>(utility)->is_from;
}

static void utility(PlannedStmt* statement, const char* text, bool read_only,
                    ProcessUtilityContext context, ParamListInfo parameters,
                    QueryEnvironment* environment, DestReceiver* destination,
                    QueryCompletion* completion) {
    if (previous_utility)
        previous_utility(statement, text, read_only, context, parameters, environment, destination,
                         completion);
    else
        standard_ProcessUtility(statement, text, read_only, context, parameters, environment,
                                destination, completion);
}

static void utility_hook(PlannedStmt* statement, const char* text, bool read_only,
                         ProcessUtilityContext context, ParamListInfo parameters,
                         QueryEnvironment* environment, DestReceiver* destination,
                         QueryCompletion* completion) {
    if (!is_copy_from(statement)) {
        utility(statement, text, read_only, context, parameters, environment, destination,
                completion);
        return;
    }
    Frame frame;
    push(&frame, NULL);
    PG_TRY();
    {
        utility(statement, text, read_only, context, parameters, environment, destination,
                completion);
        record_finish(frame.buffer);
        give_up_unconfirmed(&frame);
    }
    PG_FINALLY();
    {
        top = frame.previous;
        release(&frame);
    }
    PG_END_TRY();
}

void frame_init(void) {
    previous_run = ExecutorRun_hook;
    ExecutorRun_hook = run_hook;
    previous_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = finish_hook;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = utility_hook;
}
