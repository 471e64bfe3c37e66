// The history of configuration: triggers that number a row's changes and log them.
//
//   stamp(), BEFORE INSERT OR UPDATE ROW: sets version and changed_at. What a superuser inserts
//   with a version, as a restore does, keeps both, and the log's trigger leaves it alone: its
//   history is part of what is restored. stamp('key column'): a row that had been deleted goes on
//   where it ended, so that a version names one state of a row for good. log_change('key column',
//   …), AFTER ROW and, for TRUNCATE, BEFORE STATEMENT: writes config_change, which nobody but its
//   owner may.
#include "leadroute.h"

#include "placement.h"

extern "C" {
#include "access/genam.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
}

struct Stamp {
    int version, changed_at; // attribute numbers
};

static Stamp stamp_columns(TupleDesc columns) {
    Stamp stamp = {SPI_fnumber(columns, "version"), SPI_fnumber(columns, "changed_at")};
    if (stamp.version <= 0 || stamp.changed_at <= 0)
        elog(ERROR, "the table has no columns version and changed_at");
    return stamp;
}

static int32 version_of(HeapTuple row, TupleDesc columns, int column) {
    bool isnull;
    Datum value = heap_getattr(row, column, columns, &isnull);
    return isnull ? 0 : DatumGetInt32(value);
}

// Do the rows differ in what is not of the stamp?
static bool differs(HeapTuple a, HeapTuple b, TupleDesc columns, const Stamp* stamp) {
    for (int i = 1; i <= columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i - 1);
        if (column->attisdropped || i == stamp->version || i == stamp->changed_at)
            continue;
        bool a_null, b_null;
        Datum a_value = heap_getattr(a, i, columns, &a_null);
        Datum b_value = heap_getattr(b, i, columns, &b_null);
        if (a_null != b_null ||
            (!a_null && !datum_image_eq(a_value, b_value, column->attbyval, column->attlen)))
            return true;
    }
    return false;
}

static void key_is(ScanKeyData* scan, AttrNumber column, Oid collation, RegProcedure equal,
                   Datum value) {
    ScanKeyEntryInitialize(scan, 0, column, BTEqualStrategyNumber, InvalidOid, collation, equal,
                           value);
}

static AttrNumber history_column(Relation history, const char* name) {
    return get_attnum(RelationGetRelid(history), name);
}

// The latest version that the history has of a row; 0: none. By the index that is made for it:
// while statistics are missing, a query might read all changes of the tenant.
static int32 latest_version(Datum tenant, const char* table, Datum row_key) {
    Oid schema = leadroute_schema();
    Relation history = table_open(get_relname_relid("config_change", schema), AccessShareLock);
    Oid index = get_relname_relid("config_change_key", schema);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    ScanKeyData keys[3];
    key_is(&keys[0], history_column(history, "tenant"), InvalidOid, F_INT8EQ, tenant);
    key_is(&keys[1], history_column(history, "table_name"), DEFAULT_COLLATION_OID, F_TEXTEQ,
           CStringGetTextDatum(table));
    key_is(&keys[2], history_column(history, "key"), InvalidOid, F_JSONB_EQ, row_key);
    SysScanDesc scan =
        systable_beginscan(history, index, OidIsValid(index), snapshot, lengthof(keys), keys);
    AttrNumber version = history_column(history, "version");
    int32 latest = 0;
    while (HeapTuple change = systable_getnext(scan)) {
        bool isnull;
        Datum value = heap_getattr(change, version, RelationGetDescr(history), &isnull);
        latest = Max(latest, isnull ? 0 : DatumGetInt32(value));
    }
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(history, AccessShareLock);
    return latest;
}

// The version of a row that is inserted: 1, or one more than the history of its key has.
static int32 first_version(const TriggerData* data, HeapTuple row) {
    const Trigger* trigger = data->tg_trigger;
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    if (trigger->tgnargs == 0)
        return 1;
    bool isnull;
    Datum tenant = heap_getattr(row, SPI_fnumber(columns, "tenant"), columns, &isnull);
    char* key = SPI_getvalue(row, columns, SPI_fnumber(columns, trigger->tgargs[0]));
    if (isnull || key == NULL)
        return 1; // which is refused
    // as history_log() writes it
    StringInfoData text;
    initStringInfo(&text);
    escape_json(&text, trigger->tgargs[0]);
    Datum row_key =
        DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{%s: %s}", text.data, key)));
    return latest_version(tenant, RelationGetRelationName(data->tg_relation), row_key) + 1;
}

static void require_trigger(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger")));
}

// What a session set must not show in the history: it is read again in others, ranges and
// intervals among it.
static int portable_output(void) {
    static const char* const settings[][2] = {
        {"datestyle", "ISO"}, {"intervalstyle", "postgres"}, {"extra_float_digits", "3"}};
    int level = NewGUCNestLevel();
    for (const auto& setting : settings)
        (void)set_config_option(setting[0], setting[1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                                true, 0, false);
    return level;
}

static Datum row_json(HeapTuple row, TupleDesc columns) {
    Datum json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(row, columns));
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));
}

static const char kInsert[] = "INSERT INTO leadroute.config_change"
                              " (tenant, changed_by, login, table_name, key, version, old, new)"
                              " SELECT COALESCE((r.row ->> 'tenant')::bigint, 0), $1, $2, $3,"
                              " (SELECT jsonb_object_agg(k, r.row -> k) FROM unnest($4) k),"
                              " COALESCE((r.new ->> 'version')::integer, (r.old ->> "
                              "'version')::integer + 1, 1), r.old, r.new";

static SPIPlanPtr one_row; // the statement for one changed row, for all tables

static SPIPlanPtr prepare(const char* from) {
    Oid types[] = {NAMEOID, NAMEOID, TEXTOID, TEXTARRAYOID, JSONBOID, JSONBOID};
    SPIPlanPtr plan = SPI_prepare(psprintf("%s FROM %s", kInsert, from), lengthof(types), types);
    if (plan == NULL)
        elog(ERROR, "cannot prepare the log: %s", SPI_result_code_string(SPI_result));
    return plan;
}

// `truncated` logs all rows of that table as deleted.
static SPIPlanPtr statement(const char* truncated) {
    if (truncated != NULL)
        return prepare(psprintf("(SELECT to_jsonb(t) AS old, NULL::jsonb AS new, to_jsonb(t) AS row"
                                " FROM leadroute.%s t WHERE $5 IS NULL AND $6 IS NULL) r",
                                quote_identifier(truncated)));
    if (one_row == NULL) {
        SPIPlanPtr plan = prepare("(SELECT $5 AS old, $6 AS new, COALESCE($6, $5) AS row) r");
        if (SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot keep the log's statement");
        one_row = plan;
    }
    return one_row;
}

static void write_log(TriggerData* data, const char* truncated, Datum old_row, Datum new_row) {
    Trigger* trigger = data->tg_trigger;
    Datum* keys = static_cast<Datum*>(palloc(sizeof(Datum) * (trigger->tgnargs + 1)));
    for (int i = 0; i < trigger->tgnargs; i++)
        keys[i] = CStringGetTextDatum(trigger->tgargs[i]);
    NameData changed_by, login;
    namestrcpy(&changed_by, GetUserNameFromId(GetUserId(), false));
    namestrcpy(&login, GetUserNameFromId(GetSessionUserId(), true));
    Datum values[] = {
        NameGetDatum(&changed_by),
        NameGetDatum(&login),
        CStringGetTextDatum(RelationGetRelationName(data->tg_relation)),
        PointerGetDatum(construct_array(keys, trigger->tgnargs, TEXTOID, -1, false, TYPALIGN_INT)),
        old_row,
        new_row};
    char nulls[] = {' ', ' ', ' ', ' ', old_row == 0 ? 'n' : ' ', new_row == 0 ? 'n' : ' '};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    if (SPI_execute_plan(statement(truncated), values, nulls, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "cannot write leadroute.config_change");
    SPI_finish();
    owner_scope_end(&owner);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_stamp);
PG_FUNCTION_INFO_V1(leadroute_log_change);

Datum leadroute_stamp(PG_FUNCTION_ARGS) {
    require_trigger(fcinfo);
    TriggerData* data = reinterpret_cast<TriggerData*>(fcinfo->context);
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    Stamp stamp = stamp_columns(columns);
    bool inserted = TRIGGER_FIRED_BY_INSERT(data->tg_event);
    HeapTuple row = inserted ? data->tg_trigtuple : data->tg_newtuple;
    int numbers[] = {stamp.version, stamp.changed_at};
    Datum values[] = {Int32GetDatum(1), TimestampTzGetDatum(GetCurrentTransactionStartTimestamp())};
    bool nulls[] = {false, false};
    if (inserted) {
        if (version_of(row, columns, stamp.version) > 0 && superuser())
            return PointerGetDatum(row);
        values[0] = Int32GetDatum(first_version(data, row));
    } else {
        HeapTuple old = data->tg_trigtuple;
        int32 version = version_of(old, columns, stamp.version);
        if (differs(old, row, columns, &stamp)) {
            values[0] = Int32GetDatum(version + 1);
        } else {
            values[0] = heap_getattr(old, stamp.version, columns, &nulls[0]);
            values[1] = heap_getattr(old, stamp.changed_at, columns, &nulls[1]);
        }
    }
    return PointerGetDatum(
        heap_modify_tuple_by_cols(row, columns, lengthof(numbers), numbers, values, nulls));
}

Datum leadroute_log_change(PG_FUNCTION_ARGS) {
    require_trigger(fcinfo);
    TriggerData* data = reinterpret_cast<TriggerData*>(fcinfo->context);
    if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)) {
        int level = portable_output();
        write_log(data, RelationGetRelationName(data->tg_relation), (Datum)0, (Datum)0);
        AtEOXact_GUC(true, level);
        PG_RETURN_POINTER(NULL);
    }
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    HeapTuple old_row = TRIGGER_FIRED_BY_INSERT(data->tg_event) ? NULL : data->tg_trigtuple;
    HeapTuple new_row = TRIGGER_FIRED_BY_INSERT(data->tg_event)   ? data->tg_trigtuple
                        : TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
                                                                  : NULL;
    int level = portable_output();
    write_log(data, NULL, old_row == NULL ? (Datum)0 : row_json(old_row, columns),
              new_row == NULL ? (Datum)0 : row_json(new_row, columns));
    AtEOXact_GUC(true, level);
    PG_RETURN_POINTER(NULL);
}
}
