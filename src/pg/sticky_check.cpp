// What SQL asks of sticky_on: whether it works on the lead table, and which contact a lead has that
// is there already. It runs with the rights of its author, in the same scope as a rule's condition.
#include "expression.h"
#include "lead.h"
#include "lead_row.h"
#include "sticky.h"
#include "trigger_call.h"

static void check(Relation lead, const char* table, const char* text, const char* author) {
    Oid role = get_role_oid(author, true);
    if (!OidIsValid(role)) {
        // a restore, by a superuser
        ereport(WARNING, (errmsg("role \"%s\" does not exist: sticky_on of \"%s\" is inactive "
                                 "until it does",
                                 author, table)));
        return;
    }
    if (role != GetUserId() && !superuser())
        ereport(ERROR, (errcode(ERRCODE_LR_DENIED),
                        errmsg("sticky_on of \"%s\" cannot be written in the name of role \"%s\"",
                               table, author),
                        errdetail("It is evaluated with its author's rights."),
                        errhint("Set sticky_author = current_user to take it over.")));
    Condition condition = {};
    condition.lead = lead;
    condition.rule = table;
    condition.text = text;
    condition.author = role;
    condition.use = ExpressionUse::contact;
    condition_parse(&condition);
}

static Oid lead_relation(int32 attachment) {
    Oid types[] = {INT4OID};
    Datum values[] = {Int32GetDatum(attachment)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    if (SPI_execute_with_args("SELECT leadroute._lead_relation($1)::pg_catalog.oid",
                              lengthof(types), types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot find a lead table");
    bool isnull;
    Datum relation = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    SPI_finish();
    owner_scope_end(&owner);
    return isnull ? InvalidOid : DatumGetObjectId(relation);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_check_sticky);
PG_FUNCTION_INFO_V1(leadroute_check_sticky_on);
PG_FUNCTION_INFO_V1(leadroute_contact);

// _check_sticky(lead regclass, name text, sticky_on text, author name) -> void
Datum leadroute_check_sticky(PG_FUNCTION_ARGS) {
    Relation lead = relation_open(PG_GETARG_OID(0), AccessShareLock);
    check(lead, text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(2)),
          NameStr(*PG_GETARG_NAME(3)));
    relation_close(lead, NoLock);
    PG_RETURN_VOID();
}

// BEFORE UPDATE ROW on lead_table, when sticky_on or its author changes.
Datum leadroute_check_sticky_on(PG_FUNCTION_ARGS) {
    const TriggerData* data = trigger_data(fcinfo);
    HeapTuple row = data->tg_newtuple;
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    bool isnull;
    int32 id = DatumGetInt32(heap_getattr(row, SPI_fnumber(columns, "id"), columns, &isnull));
    const char* text = SPI_getvalue(row, columns, SPI_fnumber(columns, "sticky_on"));
    Oid relation = text == NULL ? InvalidOid : lead_relation(id);
    Relation lead = OidIsValid(relation) ? try_relation_open(relation, AccessShareLock) : NULL;
    if (lead != NULL) {
        check(lead, SPI_getvalue(row, columns, SPI_fnumber(columns, "name")), text,
              SPI_getvalue(row, columns, SPI_fnumber(columns, "sticky_author")));
        relation_close(lead, NoLock);
    }
    return PointerGetDatum(row);
}

// _contact(lead regclass, row record) -> bigint: of a lead that is there; NULL: it has none, or the
// expression raised an error.
Datum leadroute_contact(PG_FUNCTION_ARGS) {
    if (!shared_ready())
        PG_RETURN_NULL();
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    TupleTableSlot* slot = lead_row_slot(relation, PG_GETARG_HEAPTUPLEHEADER(1));
    LeadTable* table = lead_table_of(relation);
    Lead lead;
    StickyContact contact = {};
    if (lead_read(table, relation, slot, &lead))
        sticky_contact(lead_table_rules(table, relation, &lead.key, frame_current())->rules, slot,
                       &contact);
    ExecDropSingleTupleTableSlot(slot);
    relation_close(relation, NoLock);
    if (!contact.present)
        PG_RETURN_NULL();
    PG_RETURN_INT64(contact.hash);
}
}
