// See record_target.h. Handles are closed before commit; an abort takes them away.
#include "record_target.h"
#include "record.h"
#include "record_change.h"

static const char* const column_names[kColumns] = {
    "tenant",     "ticket",        "decided_at", "rep",         "rule",         "lead_table",
    "episode",    "pool",          "day",        "rep_cap",     "member_cap",   "deficit",
    "tag",        "lead_id",       "method",     "explanation", "label",        "open_cap",
    "contact",    "cost",          "score",      "needs",       "at_front",     "avoid",
    "offered_to", "offered_until", "sla",        "due_at",      "next_step_at", "hops",
    "pool_bound", "rule_version"};

constexpr int kTargets = 4; // one, but on a distributed engine
static Target targets[kTargets];
static int next_target;
static bool any_open;
static bool callback_registered;

static void relation_changed(Datum, Oid relation) {
    for (Target& target : targets) {
        if (!OidIsValid(target.oid))
            continue;
        bool mine = relation == InvalidOid || relation == target.oid;
        for (int i = 0; i < target.index_count && !mine; i++)
            mine = target.index[i].oid == relation;
        target.outdated = target.outdated || mine;
    }
}

static void close_target(Target* target) {
    for (int i = 0; i < target->index_count; i++) {
        if (target->index[i].relation != NULL)
            index_close(target->index[i].relation, NoLock);
        target->index[i].relation = NULL;
    }
    if (target->relation != NULL)
        table_close(target->relation, NoLock);
    target->relation = NULL;
}

void record_close(void) {
    if (!any_open)
        return;
    ResourceOwner caller = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    for (Target& target : targets)
        close_target(&target);
    record_change_close();
    CurrentResourceOwner = caller;
    any_open = false;
}

void record_abandon(void) {
    record_change_abandon();
    for (Target& target : targets) {
        target.relation = NULL;
        for (int i = 0; i < target.index_count; i++)
            target.index[i].relation = NULL;
    }
    any_open = false;
}

static bool is_written(const Target* target, AttrNumber column) {
    for (AttrNumber written : target->column)
        if (written == column)
            return true;
    return false;
}

// What a predicate asks of columns that no row written here fills is known beforehand: leaves out
// the tests that always hold, says whether one never does.
static bool never_holds(const Target* target, List** predicate) {
    List* rest = NIL;
    ListCell* cell;
    foreach (cell, *predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        if (!IsA(test, NullTest) || test->argisrow || !IsA(test->arg, Var) ||
            is_written(target, reinterpret_cast<const Var*>(test->arg)->varattno))
            rest = lappend(rest, lfirst(cell));
        else if (test->nulltesttype == IS_NOT_NULL)
            return true;
    }
    *predicate = rest;
    return false;
}

// Is the index one of the rows alone that have this column, or that do not?
static bool wants(const Target* target, const List* predicate, Column column, NullTestType type) {
    const ListCell* cell;
    foreach (cell, predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        if (IsA(test, NullTest) && test->nulltesttype == type && IsA(test->arg, Var) &&
            reinterpret_cast<const Var*>(test->arg)->varattno == target->column[column])
            return true;
    }
    return false;
}

static void describe_index(Target* target, Oid oid) {
    Relation index = index_open(oid, RowExclusiveLock);
    IndexTarget* entry = &target->index[target->index_count];
    entry->oid = oid;
    entry->relation = index;
    entry->info = BuildIndexInfo(index);
    List* predicate = entry->info->ii_Predicate;
    if (never_holds(target, &predicate)) {
        index_close(index, NoLock);
        memset(static_cast<void*>(entry), 0, sizeof(*entry));
        return;
    }
    entry->by_contact = wants(target, predicate, C_CONTACT, IS_NOT_NULL);
    entry->by_step = wants(target, predicate, C_NEXT_STEP_AT, IS_NOT_NULL);
    entry->by_waiting = wants(target, predicate, C_REP, IS_NULL);
    entry->predicate = predicate == NIL ? NULL : ExecPrepareQual(predicate, target->executor);
    target->index_count++;
}

// Learns the relation's columns and indexes; it is open. What an error leaves is begun anew.
static void describe(Target* target) {
    static uint64 times;
    target->outdated = true;
    target->described = ++times;
    target->context =
        AllocSetContextCreate(TopMemoryContext, "leadroute record", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(target->context);
    target->executor = CreateExecutorState();
    for (int c = 0; c < kColumns; c++) {
        target->column[c] = get_attnum(target->oid, column_names[c]);
        if (target->column[c] == InvalidAttrNumber)
            ereport(ERROR, (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                            errmsg("relation \"%s\" has no column \"%s\"",
                                   RelationGetRelationName(target->relation), column_names[c]),
                            errdetail("The library writes it with each decision."),
                            errhint("ALTER EXTENSION leadroute UPDATE;")));
    }
    List* indexes = RelationGetIndexList(target->relation);
    if (list_length(indexes) > kMaxIndexes)
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION),
                        errmsg("relation \"%s\" has more than %d indexes",
                               RelationGetRelationName(target->relation), kMaxIndexes),
                        errdetail("It has %d, and each decision is entered into every one.",
                                  list_length(indexes)),
                        errhint("Drop those that are not needed.")));
    ListCell* cell;
    foreach (cell, indexes)
        describe_index(target, lfirst_oid(cell));
    target->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(target->relation)),
                                            &TTSOpsVirtual);
    MemoryContextSwitchTo(caller);
    target->outdated = false;
}

static void forget_target(Target* target) {
    if (target->relation != NULL)
        close_target(target);
    if (target->context != NULL)
        MemoryContextDelete(target->context);
    memset(static_cast<void*>(target), 0, sizeof(*target));
}

static Target* find_target(Oid assignment) {
    for (Target& target : targets)
        if (target.oid == assignment)
            return &target;
    Target* target = &targets[next_target];
    next_target = (next_target + 1) % kTargets;
    forget_target(target);
    return target;
}

Target* target_open(Oid assignment) {
    Target* target = find_target(assignment);
    if (target->relation != NULL && !target->outdated)
        return target;
    if (!callback_registered) {
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
        callback_registered = true;
    }
    ResourceOwner caller = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    any_open = true;
    if (target->outdated)
        forget_target(target);
    if (target->relation == NULL)
        target->relation = table_open(assignment, RowExclusiveLock);
    target->oid = assignment;
    if (target->outdated) { // it changed before the lock was ours
        forget_target(target);
        target->oid = assignment;
        target->relation = table_open(assignment, RowExclusiveLock);
    }
    if (target->context == NULL)
        describe(target);
    CurrentResourceOwner = caller;
    return target;
}

Relation target_index(IndexTarget* index) {
    if (index->relation == NULL) {
        ResourceOwner caller = CurrentResourceOwner;
        CurrentResourceOwner = TopTransactionResourceOwner;
        index->relation = index_open(index->oid, RowExclusiveLock);
        CurrentResourceOwner = caller;
    }
    return index->relation;
}

// Is the index on just these columns, of some rows?
static bool is_on(const Target* target, const IndexInfo* info, const Column* columns, int count) {
    if (info->ii_Predicate == NIL || info->ii_NumIndexKeyAttrs != count)
        return false;
    for (int k = 0; k < count; k++)
        if (info->ii_IndexAttrNumbers[k] != target->column[columns[k]])
            return false;
    return true;
}

static bool is_for(const Target* target, const IndexInfo* info, RecordKey key) {
    static const Column lead[] = {C_TENANT, C_LEAD_TABLE, C_LEAD_ID};
    static const Column contact[] = {C_TENANT, C_LEAD_TABLE, C_CONTACT, C_DECIDED_AT};
    static const Column step[] = {C_NEXT_STEP_AT};
    switch (key) {
    case RecordKey::open_lead:
        return info->ii_Unique && is_on(target, info, lead, 3);
    case RecordKey::contact:
        return is_on(target, info, contact, 4);
    default:
        // of all that have one, are open and not touched
        return is_on(target, info, step, 1) && list_length(info->ii_Predicate) == 3;
    }
}

bool record_index(Oid assignment, RecordKey key, RecordIndex* found) {
    Target* target = target_open(assignment);
    for (int i = 0; i < target->index_count; i++) {
        if (is_for(target, target->index[i].info, key)) {
            *found = {target->relation, target_index(&target->index[i])};
            return true;
        }
    }
    return false;
}
