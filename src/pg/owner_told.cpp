// follow_owner(): an owner that was changed; see owner_told.h.
#include "owner_told.h"
#include "lead.h"
#include "placement.h"
#include "trigger_call.h"

extern "C" {
#include "catalog/pg_proc.h"
}

static OwnerTold* innermost;

void owner_told_begin(OwnerTold* told) {
    told->outer = innermost;
    innermost = told;
}

void owner_told_end(const OwnerTold* told) {
    innermost = told->outer;
}

static bool names_owner(const OwnerTold* told, const TriggerData* data, AttrNumber column) {
    bool isnull;
    Datum owner = slot_getattr(data->tg_newslot, column, &isnull);
    if (isnull || told->owner == NULL)
        return isnull && told->owner == NULL;
    Oid output;
    bool variable;
    getTypeOutputInfo(TupleDescAttr(RelationGetDescr(data->tg_relation), column - 1)->atttypid,
                      &output, &variable);
    return strcmp(OidOutputFunctionCall(output, owner), told->owner) == 0;
}

// Is it the change that is told? Another one of the same lead, made meanwhile by a trigger of its
// table, ends that: the record is told of it, and has to be asked from then on.
static bool is_told(const TriggerData* data) {
    OwnerTold* told = innermost;
    if (told == NULL || told->key == NULL || data->tg_trigger->tgnargs != 1 ||
        pg_strtoint32(data->tg_trigger->tgargs[0]) != told->attachment)
        return false;
    const LeadTable* table = lead_table_of(data->tg_relation);
    Lead lead;
    if (table->id != told->attachment ||
        !lead_read(table, data->tg_relation, data->tg_newslot, &lead) ||
        lead.key.tenant != told->tenant || strcmp(lead.id, told->key) != 0)
        return false;
    if (names_owner(told, data, table->owner_column))
        return true;
    told->key = NULL;
    return false;
}

// Has a trigger that fired before given the row another owner since, or deleted it? Then the
// trigger of that change has seen to it, and what is known here is out of date.
static bool is_outdated(const TriggerData* data) {
    Relation relation = data->tg_relation;
    TupleTableSlot* now = table_slot_create(relation, NULL);
    ItemPointerData row = data->tg_newslot->tts_tid;
    bool outdated = false;
    if (!table_tuple_fetch_row_version(relation, &row, SnapshotSelf, now)) {
        TableScanDesc scan = table_beginscan_tid(relation, SnapshotSelf);
        table_tuple_get_latest_tid(scan, &row);
        table_endscan(scan);
        AttrNumber column = lead_table_of(relation)->owner_column;
        bool was_null, is_null;
        Datum was = slot_getattr(data->tg_newslot, column, &was_null);
        outdated = !table_tuple_fetch_row_version(relation, &row, SnapshotSelf, now);
        if (!outdated) {
            Datum is = slot_getattr(now, column, &is_null);
            Form_pg_attribute type = TupleDescAttr(RelationGetDescr(relation), column - 1);
            outdated = was_null != is_null ||
                       (!was_null && !datum_image_eq(was, is, type->attbyval, type->attlen));
        }
    }
    ExecDropSingleTupleTableSlot(now);
    return outdated;
}

// leadroute._follow_owner(), which asks the record.
static FmgrInfo* asking(FmgrInfo* gate) {
    if (gate->fn_extra != NULL)
        return static_cast<FmgrInfo*>(gate->fn_extra);
    Oid oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("_follow_owner"),
                              PointerGetDatum(buildoidvector(NULL, 0)),
                              ObjectIdGetDatum(leadroute_schema()));
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("there is no function leadroute._follow_owner()"),
                        errhint("ALTER EXTENSION leadroute UPDATE;")));
    FmgrInfo* info = static_cast<FmgrInfo*>(MemoryContextAlloc(gate->fn_mcxt, sizeof(FmgrInfo)));
    fmgr_info_cxt(oid, info, gate->fn_mcxt);
    gate->fn_extra = info;
    return info;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_follow_owner);

// AFTER UPDATE ROW of a lead whose owner changed.
Datum leadroute_follow_owner(PG_FUNCTION_ARGS) {
    const TriggerData* data = trigger_data(fcinfo);
    if (TRIGGER_FIRED_FOR_ROW(data->tg_event) && TRIGGER_FIRED_AFTER(data->tg_event) &&
        TRIGGER_FIRED_BY_UPDATE(data->tg_event) && (is_told(data) || is_outdated(data)))
        PG_RETURN_POINTER(NULL);
    LOCAL_FCINFO(call, 0);
    InitFunctionCallInfoData(*call, asking(fcinfo->flinfo), 0, PG_GET_COLLATION(), fcinfo->context,
                             fcinfo->resultinfo);
    Datum result = FunctionCallInvoke(call);
    fcinfo->isnull = call->isnull;
    return result;
}
}
