// Routing a lead again; see again.h. The lead's row is locked by whoever calls, so its record
// stands still.
#include "again.h"
#include "lead_row.h"
#include "tenant.h"
#include "transaction.h"

// An array of SPI's, kept for the caller; 0: none.
static Datum kept_array(HeapTuple row, TupleDesc columns, int column) {
    bool isnull;
    Datum value = SPI_getbinval(row, columns, column, &isnull);
    return isnull ? (Datum)0 : SPI_datumTransfer(value, false, -1);
}

bool standing_read(const LeadTable* table, const Lead* lead, Standing* standing) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT8OID, INT4OID, TEXTOID};
    Datum values[] = {Int64GetDatum(lead->key.tenant), Int32GetDatum(table->id),
                      CStringGetTextDatum(lead->id)};
    if (SPI_execute_with_args(
            "SELECT rep IS NOT NULL, method IN ('manual', 'sticky'), COALESCE(rule, 0),"
            "       COALESCE(pool, 0), COALESCE(rep, 0),"
            "       COALESCE((leadroute._tried_pools(explanation))[1], pool, 0),"
            "       needs, avoid, COALESCE(at_front, false),"
            "       COALESCE(rep IS NULL AND offered_until > clock_timestamp(), false),"
            "       COALESCE(rep IS NULL AND offered_until <= clock_timestamp(), false),"
            "       rep IS NULL AND offered_to IS NOT NULL,"
            "       COALESCE(hops, 0), COALESCE(pool_bound, false)"
            "  FROM leadroute.assignment WHERE tenant = $1 AND lead_table = $2"
            "   AND lead_id = $3 AND ended_at IS NULL",
            3, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.assignment");
    bool found = SPI_processed == 1;
    if (found) {
        HeapTuple row = SPI_tuptable->vals[0];
        TupleDesc columns = SPI_tuptable->tupdesc;
        bool isnull;
        standing->has_rep = DatumGetBool(SPI_getbinval(row, columns, 1, &isnull));
        standing->given = DatumGetBool(SPI_getbinval(row, columns, 2, &isnull));
        standing->rule = DatumGetInt64(SPI_getbinval(row, columns, 3, &isnull));
        standing->pool = DatumGetInt32(SPI_getbinval(row, columns, 4, &isnull));
        standing->rep = DatumGetInt64(SPI_getbinval(row, columns, 5, &isnull));
        standing->asked_pool = DatumGetInt32(SPI_getbinval(row, columns, 6, &isnull));
        standing->needs = kept_array(row, columns, 7);
        standing->avoid = kept_array(row, columns, 8);
        standing->at_front = DatumGetBool(SPI_getbinval(row, columns, 9, &isnull));
        standing->offered = DatumGetBool(SPI_getbinval(row, columns, 10, &isnull));
        standing->offer_ends = DatumGetBool(SPI_getbinval(row, columns, 11, &isnull));
        standing->offer_over =
            DatumGetBool(SPI_getbinval(row, columns, 12, &isnull)) && !standing->offered;
        standing->hops = DatumGetInt32(SPI_getbinval(row, columns, 13, &isnull));
        standing->pool_bound = DatumGetBool(SPI_getbinval(row, columns, 14, &isnull));
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return found;
}

bool standing_moved(const LeadTable* table, const Lead* lead) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT8OID, INT4OID, TEXTOID};
    Datum values[] = {Int64GetDatum(lead->key.tenant), Int32GetDatum(table->id),
                      CStringGetTextDatum(lead->id)};
    // follow_key() has just written them; what a lead with this key left earlier is not touched
    if (SPI_execute_with_args("(SELECT xmin FROM leadroute.assignment WHERE tenant = $1"
                              "   AND lead_table = $2 AND lead_id = $3 AND ended_at IS NOT NULL"
                              "   AND end_reason = 'closed' ORDER BY episode DESC LIMIT 1)"
                              " UNION ALL SELECT xmin FROM leadroute.unmanaged_lead"
                              "  WHERE tenant = $1 AND lead_table = $2 AND lead_id = $3",
                              3, types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.assignment");
    bool moved = false;
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        Datum xmin = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
        moved |= TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return moved;
}

void record_next(RecordRow* row, const char* reason) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    Oid types[] = {INT4OID, INT8OID, TEXTOID, TEXTOID};
    Datum values[] = {Int32GetDatum(row->lead_table), Int64GetDatum(row->tenant),
                      CStringGetTextDatum(row->lead_id), CStringGetTextDatum(reason)};
    if (SPI_execute_with_args("SELECT e.next_episode FROM leadroute._end_episode($1, $2, $3, $4) e",
                              4, types, values, NULL, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot end an episode");
    bool isnull;
    int32 episode =
        DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
    owner_scope_end(&owner);
    if (!isnull)
        row->episode = episode;
    record_write(NULL, row);
}

void decision_columns(const LeadTable* table, const Decision* d, bool clears,
                      ColumnValues* columns) {
    columns->count = 0;
    if (d->sets_owner || (clears && !d->assigned)) {
        columns->column[0] = table->owner_column;
        columns->value[0] = d->sets_owner ? d->owner : (Datum)0;
        columns->isnull[0] = !d->sets_owner;
        columns->count = 1;
    }
    for (int i = 0; d->rule != NULL && i < d->rule->label_count; i++) {
        const RuleLabel* label = &d->rule->labels[i];
        if (label->attribute == table->owner_column || label->attribute == table->key_column)
            continue;
        columns->column[columns->count] = label->attribute;
        columns->value[columns->count] = label->value;
        columns->isnull[columns->count++] = label->isnull;
    }
}

static char* column_text(Form_pg_attribute column, Datum value, bool isnull) {
    if (isnull)
        return NULL;
    Oid output;
    bool variable;
    getTypeOutputInfo(column->atttypid, &output, &variable);
    return OidOutputFunctionCall(output, value);
}

// "column = 'value', ..." for an UPDATE of the lead, and the owner's text.
static char* assignments_text(const Lead* lead, const ColumnValues* columns,
                              AttrNumber owner_column, char** owner) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < columns->count; i++) {
        Form_pg_attribute column =
            TupleDescAttr(RelationGetDescr(lead->relation), columns->column[i] - 1);
        char* value = column_text(column, columns->value[i], columns->isnull[i]);
        appendStringInfo(&text, "%s%s = %s", i == 0 ? "" : ", ",
                         quote_identifier(NameStr(column->attname)),
                         value == NULL ? "NULL" : quote_literal_cstr(value));
        if (columns->column[i] == owner_column)
            *owner = value;
    }
    return text.data;
}

void decision_texts(const LeadTable* table, const Lead* lead, const Decision* d, Datum* values,
                    bool* nulls) {
    int natts = RelationGetDescr(lead->relation)->natts;
    ColumnValues columns = {0, static_cast<int*>(palloc(sizeof(int) * (natts + 1))),
                            static_cast<Datum*>(palloc(sizeof(Datum) * (natts + 1))),
                            static_cast<bool*>(palloc(natts + 1))};
    decision_columns(table, d, true, &columns);
    char* owner = NULL;
    values[0] = CStringGetTextDatum(assignments_text(lead, &columns, table->owner_column, &owner));
    nulls[0] = false;
    nulls[1] = owner == NULL;
    if (owner != NULL)
        values[1] = CStringGetTextDatum(owner);
}

// Decides and records. False: the lead goes on waiting as before.
static bool route_waiting(LeadTable* table, const Lead* lead, Decision* d) {
    Standing standing = {};
    (void)standing_read(table, lead, &standing);
    TenantRules* rules = lead_table_rules(table, lead->relation, &lead->key, frame_current());
    if (!decide_again(table, rules, lead, &standing, "backlog", d)) {
        // an offer that nobody took up, and now nobody can take the lead
        if (standing.offer_ends)
            decide_alerts(table, lead, d);
        return false;
    }
    record_next(&d->row, "routed");
    decide_alerts(table, lead, d);
    if (d->slot != NULL && checkpoint_due(d->slot))
        checkpoint_write_if_due(d->slot, &lead->key);
    return true;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_route_waiting);

// _route_lead(relation regclass, tenant bigint, lead_row record, OUT assignments text,
// OUT wanted text): for a lead that waits, whose row is locked.
Datum leadroute_route_waiting(PG_FUNCTION_ARGS) {
    shared_require();
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    TupleTableSlot* slot = lead_row_slot(relation, PG_GETARG_HEAPTUPLEHEADER(2));
    LeadTable* table = lead_table_of(relation);
    Lead lead;
    Decision decision;
    Datum values[2] = {};
    bool nulls[2] = {true, true};
    if (lead_read(table, relation, slot, &lead) && route_waiting(table, &lead, &decision))
        decision_texts(table, &lead, &decision, values, nulls);
    ExecDropSingleTupleTableSlot(slot);
    relation_close(relation, NoLock);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
}
