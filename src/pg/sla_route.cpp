// Taking a lead from a rep who has missed it, for somebody else: the part of a step
// (sql/sla_sweep.sql) that decides and records. The lead's row is locked by whoever calls, so its
// record stands still.
#include "again.h"
#include "lead_row.h"
#include "lead_table.h"
#include "shared.h"
#include "tenant.h"

// What the step says beside what the record does.
struct Taking {
    Reroute how;
    Datum avoid; // bigint[]
    int32 hops;
};

static void take_away(LeadTable* table, const Lead* lead, const Taking* taking, Decision* d) {
    Standing standing = {};
    if (!standing_read(table, lead, &standing))
        elog(ERROR, "lead %s has no open episode", lead->id);
    standing.avoid = taking->avoid;
    standing.hops = taking->hops;
    TenantRules* rules = lead_table_rules(table, lead->relation, &lead->key, frame_current());
    decide_reroute(table, rules, lead, &standing, &taking->how, d);
    record_next(&d->row, "breached");
    decide_alerts(table, lead, d);
    if (d->slot != NULL && checkpoint_due(d->slot))
        checkpoint_write_if_due(d->slot, &lead->key);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_sla_route);

// _sla_route(relation regclass, lead_row record, pool integer, bound boolean, avoid bigint[],
// hops integer, OUT assignments text, OUT wanted text, OUT taker bigint)
Datum leadroute_sla_route(PG_FUNCTION_ARGS) {
    shared_require();
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    TupleTableSlot* slot = lead_row_slot(relation, PG_GETARG_HEAPTUPLEHEADER(1));
    LeadTable* table = lead_table_of(relation);
    Taking taking = {
        {PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2), !PG_ARGISNULL(2) && PG_GETARG_BOOL(3)},
        PG_ARGISNULL(4) ? (Datum)0 : PointerGetDatum(PG_GETARG_ARRAYTYPE_P(4)),
        PG_GETARG_INT32(5)};
    Lead lead;
    Decision decision;
    if (!lead_read(table, relation, slot, &lead))
        elog(ERROR, "the lead cannot be read");
    take_away(table, &lead, &taking, &decision);
    Datum values[3] = {};
    bool nulls[3] = {};
    decision_texts(table, &lead, &decision, values, nulls);
    values[2] = Int64GetDatum(decision.row.rep);
    nulls[2] = !decision.assigned;
    ExecDropSingleTupleTableSlot(slot);
    relation_close(relation, NoLock);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
}
