// Which sets of rules are still valid: what they depend on, and the callbacks that tell of changes.
//
// A callback may come at any time, even while a set runs, so it only sets flags. What changes often
// without touching a rule (statistics of the lead table, a password) makes a set suspect;
// rules_valid() then compares columns and rights before giving it up.
#include "rule_set.h"

#include "attempt.h"
#include "territory.h"

extern "C" {
#include "catalog/partition.h"
}

struct ObjectKey {
    int cache;
    uint32 hash;
};

static RuleSet* sets;

static bool depends_on(const RuleSet* set, int cache, uint32 hash) {
    ObjectKey key = {cache, hash};
    return hash_search(set->objects, &key, HASH_FIND, NULL) != NULL;
}

static void object_changed(Datum, int cache, uint32 hash) {
    for (RuleSet* set = sets; set != NULL; set = set->next)
        if (hash == 0 || set->broken || depends_on(set, cache, hash))
            set->stale = true;
}

// Schemas and operators: what a name means may have changed.
static void names_changed(Datum, int, uint32) {
    for (RuleSet* set = sets; set != NULL; set = set->next)
        if (set->broken || set->user_objects)
            set->stale = true;
}

static void roles_changed(Datum, int, uint32) {
    for (RuleSet* set = sets; set != NULL; set = set->next)
        set->suspect = true;
}

static void relation_changed(Datum, Oid relation) {
    territory_relation_changed(relation); // the server has room for few callbacks
    for (RuleSet* set = sets; set != NULL; set = set->next)
        if (!OidIsValid(relation) || list_member_oid(set->relations, relation))
            set->suspect = true;
}

static void register_callbacks(void) {
    static bool done;
    if (done)
        return;
    CacheRegisterSyscacheCallback(PROCOID, object_changed, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(TYPEOID, object_changed, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(NAMESPACEOID, names_changed, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(OPEROID, names_changed, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(AUTHOID, roles_changed, static_cast<Datum>(0));
    CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, static_cast<Datum>(0));
    CacheRegisterRelcacheCallback(relation_changed, static_cast<Datum>(0));
    done = true;
}

static void forget(void* argument) {
    RuleSet* set = static_cast<RuleSet*>(argument);
    if (set->previous != NULL)
        set->previous->next = set->next;
    else
        sets = set->next;
    if (set->next != NULL)
        set->next->previous = set->previous;
}

void rule_set_watch(RuleSet* set, Relation lead) {
    register_callbacks();
    HASHCTL control = {};
    control.keysize = sizeof(ObjectKey);
    control.entrysize = sizeof(ObjectKey);
    control.hcxt = set->context;
    set->objects =
        hash_create("leadroute rule objects", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

    MemoryContextCallback* callback = static_cast<MemoryContextCallback*>(
        MemoryContextAlloc(set->context, sizeof(MemoryContextCallback)));
    callback->func = forget;
    callback->arg = set;
    set->next = sets;
    if (sets != NULL)
        sets->previous = set;
    sets = set;
    MemoryContextRegisterResetCallback(set->context, callback);

    MemoryContext caller = MemoryContextSwitchTo(set->context);
    set->lead = RelationGetRelid(lead);
    set->columns = CreateTupleDescCopyConstr(RelationGetDescr(lead));
    if (lead->rd_rel->relispartition)
        set->relations = get_partition_ancestors(set->lead);
    set->relations = lappend_oid(set->relations, set->lead);
    MemoryContextSwitchTo(caller);
}

void rule_set_depend_object(RuleSet* set, int cache, uint32 hash) {
    ObjectKey key = {cache, hash};
    (void)hash_search(set->objects, &key, HASH_ENTER, NULL);
}

static AuthorNeeds* needs_of(RuleSet* set, const char* author, Oid role) {
    ListCell* cell;
    foreach (cell, set->authors) {
        AuthorNeeds* needs = static_cast<AuthorNeeds*>(lfirst(cell));
        if (needs->role == role)
            return needs;
    }
    AuthorNeeds* needs = static_cast<AuthorNeeds*>(palloc0(sizeof(AuthorNeeds)));
    needs->name = pstrdup(author);
    needs->role = role;
    set->authors = lappend(set->authors, needs);
    return needs;
}

void rule_set_depend_condition(RuleSet* set, const char* author, const Condition* condition) {
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    AuthorNeeds* needs = needs_of(set, author, condition->author);
    needs->columns = bms_add_members(needs->columns, condition->columns);
    ListCell* cell;
    foreach (cell, condition->functions) {
        Oid function = lfirst_oid(cell);
        if (function >= FirstNormalObjectId)
            set->user_objects = true;
        if (list_member_oid(needs->functions, function))
            continue;
        needs->functions = lappend_oid(needs->functions, function);
        rule_set_depend_object(set, PROCOID,
                               GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function)));
    }
    MemoryContextSwitchTo(caller);
}

static bool still_allowed(const AuthorNeeds* needs, Relation lead) {
    if (get_role_oid(needs->name, true) != needs->role)
        return false;
    int member = -1;
    while ((member = bms_next_member(needs->columns, member)) >= 0) {
        int column = member + FirstLowInvalidHeapAttributeNumber;
        if (!column_readable(lead, static_cast<AttrNumber>(column), needs->role))
            return false;
    }
    ListCell* cell;
    foreach (cell, needs->functions)
        if (!function_executable(lfirst_oid(cell), needs->role))
            return false;
    return true;
}

bool rule_set_allowed(const RuleSet* set, Relation lead) {
    ListCell* cell;
    foreach (cell, set->authors)
        if (!still_allowed(static_cast<const AuthorNeeds*>(lfirst(cell)), lead))
            return false;
    return true;
}

static bool unchanged(const RuleSet* set) {
    if (set->broken)
        return false;
    Relation lead = RelationIdGetRelation(set->lead);
    if (!RelationIsValid(lead))
        return false;
    bool same =
        equalTupleDescs(set->columns, RelationGetDescr(lead)) && rule_set_allowed(set, lead);
    RelationClose(lead);
    return same;
}

bool rules_valid(const RuleSet* set) {
    if (set->suspect && !set->stale) {
        // cleared first: what changes while we look makes it suspect again
        set->suspect = false;
        set->suspect = !unchanged(set) || set->suspect;
    }
    return !set->stale && !set->suspect;
}

void rules_free(RuleSet* set) {
    rules_forbid_nesting();
    if (set != NULL)
        MemoryContextDelete(set->context);
}
