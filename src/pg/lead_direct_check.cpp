// Which lead tables may be dealt with directly; see lead_direct.h. When in doubt, none.
#include "lead_direct_check.h"
#include "placement.h"

extern "C" {
#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/prs2lock.h"
#include "utils/typcache.h"
}

static bool in_set(AttrNumber column, const Bitmapset* set) {
    return bms_is_member(column - FirstLowInvalidHeapAttributeNumber, set);
}

// Does the condition of a trigger ask of this column, before or after the change?
static bool condition_asks(const char* condition, AttrNumber column) {
    Node* qual = static_cast<Node*>(stringToNode(condition));
    Bitmapset* columns = NULL;
    pull_varattnos(qual, PRS2_OLD_VARNO, &columns);
    pull_varattnos(qual, PRS2_NEW_VARNO, &columns);
    return in_set(column, columns) || in_set(InvalidAttrNumber, columns);
}

// leadroute's own have WHEN some column changes; follow_owner() has been told of this change.
static bool is_own_and_idle(const Trigger* trigger, AttrNumber owner) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(trigger->tgfoid));
    if (!HeapTupleIsValid(tuple))
        return false;
    Form_pg_proc function = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    bool own = function->pronamespace == leadroute_schema();
    bool follows = own && strcmp(NameStr(function->proname), "follow_owner") == 0;
    ReleaseSysCache(tuple);
    return follows || (own && trigger->tgqual != NULL && !condition_asks(trigger->tgqual, owner));
}

// UPDATE OF other columns?
static bool is_of_others(const Trigger* trigger, AttrNumber owner) {
    for (int i = 0; i < trigger->tgnattr; i++)
        if (trigger->tgattr[i] == owner)
            return false;
    return trigger->tgnattr > 0;
}

static bool may_matter(const Trigger* trigger, AttrNumber owner) {
    if (trigger->tgenabled == TRIGGER_DISABLED || !TRIGGER_FOR_UPDATE(trigger->tgtype))
        return false;
    // a foreign key is looked at by its columns
    return RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_NONE &&
           !is_of_others(trigger, owner) && !is_own_and_idle(trigger, owner);
}

static bool triggers_matter(Relation relation, AttrNumber owner) {
    const TriggerDesc* triggers = relation->trigdesc;
    for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
        if (may_matter(&triggers->triggers[i], owner))
            return true;
    return false;
}

// Is the owner part of a foreign key, or of what one may refer to?
static bool in_foreign_key(Relation relation, AttrNumber owner) {
    ListCell* cell;
    foreach (cell, RelationGetFKeyList(relation)) {
        const ForeignKeyCacheInfo* key = static_cast<const ForeignKeyCacheInfo*>(lfirst(cell));
        for (int i = 0; i < key->nkeys; i++)
            if (key->conkey[i] == owner)
                return true;
    }
    return in_set(owner, RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_KEY));
}

static bool is_plain(Relation relation, AttrNumber owner) {
    const FormData_pg_class* form = relation->rd_rel;
    const FormData_pg_attribute* column = TupleDescAttr(RelationGetDescr(relation), owner - 1);
    const TupleConstr* constraints = RelationGetDescr(relation)->constr;
    return form->relkind == RELKIND_RELATION && !form->relispartition && !form->relhassubclass &&
           relation->rd_rules == NULL && !form->relforcerowsecurity && column->atttypmod == -1 &&
           getBaseType(column->atttypid) == column->atttypid &&
           (constraints == NULL || !constraints->has_generated_stored);
}

// The primary key has to be on the lead's key, and the tenant, alone.
static bool learn_key(Relation relation, const DirectColumns* columns, DirectLead* lead) {
    (void)RelationGetIndexList(relation); // which finds it
    if (!OidIsValid(relation->rd_pkindex))
        return false;
    Relation index = index_open(relation->rd_pkindex, AccessShareLock);
    const Form_pg_index form = index->rd_index;
    bool known = form->indisvalid && form->indimmediate &&
                 form->indnkeyatts == (columns->tenant == InvalidAttrNumber ? 1 : 2);
    lead->index = RelationGetRelid(index);
    lead->keys = form->indnkeyatts;
    for (int i = 0; known && i < lead->keys; i++) {
        AttrNumber attribute = form->indkey.values[i];
        Oid type = index->rd_opcintype[i];
        Oid equals = get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);
        lead->attribute[i] = attribute;
        lead->is_tenant[i] = attribute == columns->tenant;
        lead->equal[i] = OidIsValid(equals) ? get_opcode(equals) : InvalidOid;
        lead->collation[i] = index->rd_indcollation[i];
        Oid wanted =
            getBaseType(TupleDescAttr(RelationGetDescr(relation), attribute - 1)->atttypid);
        known = (lead->is_tenant[i] ? wanted == INT8OID : attribute == columns->key) &&
                OidIsValid(lead->equal[i]) && (wanted == type || wanted == VARCHAROID);
    }
    index_close(index, AccessShareLock);
    return known;
}

// --- what may fail for one lead and not for another ---

static bool asks_for_nulls_alone(const List* predicate) {
    const ListCell* cell;
    foreach (cell, predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        if (!IsA(test, NullTest) || test->argisrow || !IsA(test->arg, Var))
            return false;
    }
    return true;
}

// An entry that grows by its owner may become too long, a key that is checked later be there twice.
static bool takes_any_entry(Relation index, AttrNumber owner) {
    const Form_pg_index form = index->rd_index;
    for (int i = 0; i < form->indnatts; i++)
        if (form->indkey.values[i] == owner && form->indnatts > 1)
            return false;
    return !form->indisexclusion && (!form->indisunique || form->indimmediate) &&
           RelationGetIndexExpressions(index) == NIL &&
           asks_for_nulls_alone(RelationGetIndexPredicate(index));
}

// Has a row of the table room in a page, whatever it holds?
static bool rows_fit(TupleDesc columns) {
    Size most = MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(columns->natts));
    for (int i = 0; i < columns->natts; i++) {
        const FormData_pg_attribute* column = TupleDescAttr(columns, i);
        if (column->attlen < 0 && column->attstorage == TYPSTORAGE_PLAIN)
            return false;
        most += MAXALIGN(column->attlen < 0 ? TOAST_POINTER_SIZE : column->attlen);
    }
    return most <= MaxHeapTupleSize;
}

static bool is_sure(Relation relation, AttrNumber owner) {
    TupleDesc columns = RelationGetDescr(relation);
    bool sure = TupleDescAttr(columns, owner - 1)->attlen > 0 && rows_fit(columns) &&
                (columns->constr == NULL || columns->constr->num_check == 0);
    ListCell* cell;
    foreach (cell, RelationGetIndexList(relation)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        sure = sure && takes_any_entry(index, owner);
        index_close(index, AccessShareLock);
    }
    return sure;
}

bool direct_check(Oid relation, const DirectColumns* columns, DirectLead* lead) {
    Relation table = table_open(relation, AccessShareLock);
    memset(static_cast<void*>(lead), 0, sizeof(*lead));
    lead->relation = relation;
    lead->owner = columns->owner;
    lead->has_foreign_keys = RelationGetFKeyList(table) != NIL;
    bool known = is_plain(table, columns->owner) && !triggers_matter(table, columns->owner) &&
                 !in_foreign_key(table, columns->owner) && learn_key(table, columns, lead);
    if (known) {
        bool variable;
        getTypeOutputInfo(TupleDescAttr(RelationGetDescr(table), columns->owner - 1)->atttypid,
                          &lead->owner_output, &variable);
        lead->is_sure = is_sure(table, columns->owner);
    }
    table_close(table, NoLock);
    return known;
}
