// Triggers that notice SQL writing leadroute's own tables: configuration, and the record.
#include "backlog.h"
#include "pick.h"
#include "record.h"
#include "sla.h"
#include "placement.h"
#include "restore.h"
#include "rule_shelf.h"
#include "shared.h"
#include "tenant.h"
#include "transaction.h"
#include "trigger_call.h"

extern "C" {
#include "utils/datum.h"
}

static int64 tenant_column(const TriggerData* data, HeapTuple tuple) {
    AttrNumber number = get_attnum(RelationGetRelid(data->tg_relation), "tenant");
    if (number == InvalidAttrNumber)
        return 0;
    bool isnull;
    Datum value = heap_getattr(tuple, number, RelationGetDescr(data->tg_relation), &isnull);
    return isnull ? 0 : DatumGetInt64(value);
}

static bool is_lead_table(const TriggerData* data) {
    return strcmp(RelationGetRelationName(data->tg_relation), "lead_table") == 0;
}

// What sessions share of the rules: each rule, and what it says of territories and policies.
static void note_rules(const TriggerData* data, HeapTuple tuple, int64 tenant) {
    const char* table = RelationGetRelationName(data->tg_relation);
    if (strcmp(table, "rule") == 0) {
        AttrNumber id = get_attnum(RelationGetRelid(data->tg_relation), "id");
        bool isnull;
        rule_edit_note(tenant, DatumGetInt64(heap_getattr(
                                   tuple, id, RelationGetDescr(data->tg_relation), &isnull)));
        backlog_rules_edited();
    } else if (strcmp(table, "territory") == 0 || strcmp(table, "sla_policy") == 0 ||
               restore_running()) {
        rule_edit_note_all(tenant, false);
    }
}

static bool update_keeps(const TriggerData* data, const char* column) {
    AttrNumber number = get_attnum(RelationGetRelid(data->tg_relation), column);
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    Form_pg_attribute attribute = TupleDescAttr(columns, number - 1);
    bool no_old, no_new;
    Datum old = heap_getattr(data->tg_trigtuple, number, columns, &no_old);
    Datum made = heap_getattr(data->tg_newtuple, number, columns, &no_new);
    return no_old == no_new &&
           (no_old || datum_image_eq(old, made, attribute->attbyval, attribute->attlen));
}

// A block knows which policy a rule names, and nothing else of it.
static bool blocks_have_it(const TriggerData* data, HeapTuple tuple) {
    if (restore_running() || strcmp(RelationGetRelationName(data->tg_relation), "rule") != 0)
        return true;
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
        return !update_keeps(data, "tenant") || !update_keeps(data, "id") ||
               !update_keeps(data, "sla");
    AttrNumber sla = get_attnum(RelationGetRelid(data->tg_relation), "sla");
    return !heap_attisnull(tuple, sla, RelationGetDescr(data->tg_relation));
}

static void config_row(const TriggerData* data, HeapTuple tuple) {
    int64 tenant = tenant_column(data, tuple);
    if (blocks_have_it(data, tuple))
        config_changed(tenant, false);
    else
        rules_changed(tenant);
    note_rules(data, tuple, tenant);
    // who is restored has not joined: the record says where everybody stands
    if (restore_running())
        record_edited(placement(InvalidOid, tenant), tenant, true);
}

// A manual row that _give() has charged already, until it is inserted.
static Pick given;
static int64 given_tenant;

// given_at, policy, due_at and next_step_at of a pick; NULLs where it has none.
static void clock_values(const Pick* pick, TimestampTz now, Datum* values, bool* nulls) {
    RecordRow row = {};
    row.tenant = given_tenant;
    row.rep = pick->rep;
    row.decided_at = pick->decided_at != 0 ? pick->decided_at : now;
    sla_record(pick, &row);
    values[0] = TimestampTzGetDatum(row.decided_at);
    values[1] = Int32GetDatum(row.sla);
    values[2] = TimestampTzGetDatum(row.due_at);
    values[3] = TimestampTzGetDatum(row.next_step_at);
    nulls[0] = !pick->found;
    nulls[1] = nulls[2] = row.sla == 0;
    nulls[3] = row.sla == 0 || row.next_step_at == DT_NOEND;
}

static bool same_value(const TriggerData* data, HeapTuple tuple, const char* column, int64 expected,
                       bool date) {
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    AttrNumber number = get_attnum(RelationGetRelid(data->tg_relation), column);
    bool isnull;
    Datum value = heap_getattr(tuple, number, columns, &isnull);
    return !isnull && (date ? DatumGetDateADT(value) : DatumGetInt64(value)) == expected;
}

static bool is_given(const TriggerData* data, HeapTuple tuple) {
    if (!given.found || !TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
        tenant_column(data, tuple) != given_tenant ||
        !same_value(data, tuple, "rep", given.rep, false) ||
        !same_value(data, tuple, "ticket", given.ticket, false) ||
        !same_value(data, tuple, "day", given.day, true))
        return false;
    given.found = false;
    return true;
}

static void edit_record(Oid assignment, int64 tenant) {
    TenantKey key = {MyDatabaseId, assignment, tenant};
    if (shared_ready())
        record_edited(assignment, tenant, true);
    checkpoint_bar(&key);
}

// A row that takes no turn and counts for no day is but one more, or less, open lead.
static bool is_open_alone(const TriggerData* data, HeapTuple tuple) {
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
        return false;
    bool no_pool, no_day;
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    Oid relation = RelationGetRelid(data->tg_relation);
    (void)heap_getattr(tuple, get_attnum(relation, "pool"), columns, &no_pool);
    (void)heap_getattr(tuple, get_attnum(relation, "day"), columns, &no_day);
    return no_pool && no_day;
}

static void record_row(const TriggerData* data, HeapTuple tuple) {
    if (is_given(data, tuple))
        return;
    if (is_open_alone(data, tuple) && shared_ready())
        record_edited(RelationGetRelid(data->tg_relation), tenant_column(data, tuple), false);
    else
        edit_record(RelationGetRelid(data->tg_relation), tenant_column(data, tuple));
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_config_changed);
PG_FUNCTION_INFO_V1(leadroute_config_truncated);
PG_FUNCTION_INFO_V1(leadroute_record_edited);
PG_FUNCTION_INFO_V1(leadroute_record_truncated);
PG_FUNCTION_INFO_V1(leadroute_give);

// AFTER ROW on rep, pool, pool_member, rule, lead_table.
Datum leadroute_config_changed(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    if (!shared_ready())
        PG_RETURN_POINTER(NULL);
    if (is_lead_table(data)) {
        backlog_rules_edited();
        attachments_changed();
        PG_RETURN_POINTER(NULL);
    }
    config_row(data, data->tg_trigtuple);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
        config_row(data, data->tg_newtuple);
    PG_RETURN_POINTER(NULL);
}

Datum leadroute_config_truncated(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    if (!shared_ready())
        PG_RETURN_POINTER(NULL);
    backlog_rules_edited();
    rule_edit_note_all(0, true);
    if (is_lead_table(data))
        attachments_changed();
    else
        config_changed(0, true);
    PG_RETURN_POINTER(NULL);
}

// AFTER ROW on assignment, for rows that count.
Datum leadroute_record_edited(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    record_row(data, data->tg_trigtuple);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
        record_row(data, data->tg_newtuple);
    PG_RETURN_POINTER(NULL);
}

// A tenant that is not in memory has no other checkpoints than those deleted here.
Datum leadroute_record_truncated(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    checkpoints_drop();
    for (int i = 0; shared_ready() && i < shared->slot_count; i++) {
        TenantKey key = shared_slot(i)->key;
        if (shared_slot(i)->used && key.database == MyDatabaseId &&
            key.assignment == RelationGetRelid(data->tg_relation))
            edit_record(key.assignment, key.tenant);
    }
    PG_RETURN_POINTER(NULL);
}

// _give(tenant, rep, sla integer, table_sla integer, OUT ticket bigint, OUT day date,
// OUT given_at timestamptz, OUT policy integer, OUT due_at timestamptz,
// OUT next_step_at timestamptz): charges a lead that a person gave to the rep, for a manual row
// that the caller inserts next with this ticket and day, and starts the clock of its policy.
// Nulls: no such rep; no policy.
Datum leadroute_give(PG_FUNCTION_ARGS) {
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Datum values[6] = {};
    bool nulls[6] = {true, true, true, true, true, true};
    given.found = false;
    if (shared_ready() && !PG_ARGISNULL(0) && !PG_ARGISNULL(1)) {
        given_tenant = PG_GETARG_INT64(0);
        TenantKey key = {MyDatabaseId, placement(InvalidOid, given_tenant), given_tenant};
        TimestampTz now = GetCurrentTimestamp();
        pick_given(&key, PG_GETARG_INT64(1), now, PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2),
                   PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3), &given);
        values[0] = Int64GetDatum(given.ticket);
        values[1] = DateADTGetDatum(given.day);
        nulls[0] = nulls[1] = !given.found;
        clock_values(&given, now, values + 2, nulls + 2);
    }
    HeapTuple tuple = heap_form_tuple(BlessTupleDesc(descriptor), values, nulls);
    PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}
}
