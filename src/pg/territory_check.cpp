// What is refused when a territory is written: a key that would not work on a lead table whose
// rules use it. A key runs with the rights of the territory's author, in the same scope as a
// condition.
#include "expression.h"
#include "territory.h"
#include "trigger_call.h"

extern "C" {
#include "parser/parser.h"
}

static void check_key(Relation lead, const char* territory, const char* key, Oid author) {
    Condition condition = {};
    condition.lead = lead;
    condition.rule = territory;
    condition.text = key;
    condition.author = author;
    condition.use = ExpressionUse::key;
    condition_parse(&condition);
}

// Runs a query as leadroute's owner; its rows are in SPI_tuptable until finish_query().
static void run_query(OwnerScope* owner, const char* sql, int64 tenant, const char* name) {
    Oid types[] = {INT8OID, TEXTOID};
    Datum values[] = {Int64GetDatum(tenant), CStringGetTextDatum(name)};
    owner_scope_begin(owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_with_args(sql, lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read territories");
}

static void finish_query(OwnerScope* owner) {
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(owner);
}

void territory_check_key(Relation lead, int64 tenant, const char* territory) {
    MemoryContext memory = CurrentMemoryContext;
    OwnerScope owner;
    run_query(&owner, "SELECT key, author FROM leadroute.territory WHERE tenant = $1 AND name = $2",
              tenant, territory);
    char* key = NULL;
    char* author = NULL;
    if (SPI_processed == 1) {
        HeapTuple row = SPI_tuptable->vals[0];
        MemoryContext spi = MemoryContextSwitchTo(memory);
        key = SPI_getvalue(row, SPI_tuptable->tupdesc, 1);
        author = SPI_getvalue(row, SPI_tuptable->tupdesc, 2);
        MemoryContextSwitchTo(spi);
    }
    finish_query(&owner);
    Oid role = author == NULL ? InvalidOid : get_role_oid(author, true);
    if (key != NULL && OidIsValid(role))
        check_key(lead, territory, key, role);
}

// The lead relations of the rules that use the territory.
static List* lead_relations(int64 tenant, const char* territory) {
    MemoryContext memory = CurrentMemoryContext;
    List* relations = NIL;
    OwnerScope owner;
    run_query(&owner,
              "SELECT DISTINCT leadroute._lead_relation(t.id)::oid FROM leadroute.rule r"
              "  JOIN leadroute.lead_table t ON t.name = r.lead_table"
              " WHERE r.tenant = $1 AND r.territory = $2",
              tenant, territory);
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        Datum relation = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
        MemoryContext spi = MemoryContextSwitchTo(memory);
        if (!isnull)
            relations = lappend_oid(relations, DatumGetObjectId(relation));
        MemoryContextSwitchTo(spi);
    }
    finish_query(&owner);
    return relations;
}

struct Write {
    const TriggerData* data;
    HeapTuple row;
};

static char* text_of(const Write* write, HeapTuple row, const char* column) {
    TupleDesc columns = RelationGetDescr(write->data->tg_relation);
    return SPI_getvalue(row, columns, SPI_fnumber(columns, column));
}

static bool changed(const Write* write, const char* column) {
    return !TRIGGER_FIRED_BY_UPDATE(write->data->tg_event) ||
           strcmp(text_of(write, write->data->tg_trigtuple, column),
                  text_of(write, write->row, column)) != 0;
}

// Only a superuser may leave a key in another's name, or put it there.
static void check_author(const char* name, const char* author, Oid role) {
    if (role == GetUserId())
        return;
    if (superuser()) {
        if (!OidIsValid(role))
            ereport(WARNING, (errmsg("role \"%s\" does not exist: the rules of territory \"%s\" "
                                     "are inactive until it does",
                                     author, name)));
        return;
    }
    ereport(ERROR,
            (errcode(ERRCODE_LR_DENIED),
             errmsg("territory \"%s\" cannot be written in the name of role \"%s\"", name, author),
             errdetail("The key is evaluated with its author's rights."),
             errhint("Set author = current_user to take the territory over.")));
}

static void check_everywhere(const Write* write, const char* name, Oid role) {
    bool isnull;
    TupleDesc columns = RelationGetDescr(write->data->tg_relation);
    int64 tenant =
        DatumGetInt64(heap_getattr(write->row, SPI_fnumber(columns, "tenant"), columns, &isnull));
    // rules follow a new name after this
    const char* known_as = TRIGGER_FIRED_BY_UPDATE(write->data->tg_event)
                               ? text_of(write, write->data->tg_trigtuple, "name")
                               : name;
    ListCell* cell;
    foreach (cell, lead_relations(tenant, known_as)) {
        Relation lead = try_relation_open(lfirst_oid(cell), AccessShareLock);
        if (lead == NULL)
            continue;
        check_key(lead, name, text_of(write, write->row, "key"), role);
        relation_close(lead, NoLock);
    }
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_check_territory_key);

// BEFORE INSERT OR UPDATE ROW on territory.
Datum leadroute_check_territory_key(PG_FUNCTION_ARGS) {
    const TriggerData* data = trigger_data(fcinfo);
    Write write = {data, TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
                                                                 : data->tg_trigtuple};
    if (changed(&write, "key") || changed(&write, "author")) {
        char* name = text_of(&write, write.row, "name");
        char* author = text_of(&write, write.row, "author");
        Oid role = get_role_oid(author, true);
        check_author(name, author, role);
        if (OidIsValid(role)) {
            check_key(NULL, name, text_of(&write, write.row, "key"), role);
            check_everywhere(&write, name, role);
        }
    }
    return PointerGetDatum(write.row);
}
}
