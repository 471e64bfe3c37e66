// Reading the rules of one lead relation and tenant.
//
// All of them are read by a query that is planned anew: how depends on their number. What a session
// reads at its first lead, or because a rule was changed, has a plan that it keeps, which finds
// rows by indexes alone: a table that was small when it was planned may have many rows now.
#include "rule_compile.h"

struct KeptPlan {
    SPIPlanPtr plan;
    const char* query;
    int types;
    Oid type[3];
};

static KeptPlan table_plan = {
    NULL,
    "SELECT key_column, owner_column, tenant_column, sticky_on, sticky_author, sticky_window,"
    "       event_salt, name"
    "  FROM leadroute.lead_table WHERE id OPERATOR(pg_catalog.=) $1",
    1,
    {INT4OID, InvalidOid, InvalidOid},
};

#define RULES_FROM                                                                                 \
    "SELECT r.id, r.position, r.name, r.condition, r.author, p.id, r.rep, o.id, r.label, r.valid," \
    "       r.needs, y.name, y.key, y.match, y.author, s.id, r.version"                            \
    "  FROM leadroute.rule r"                                                                      \
    "  LEFT JOIN leadroute.pool p ON p.tenant OPERATOR(pg_catalog.=) r.tenant"                     \
    "        AND p.name OPERATOR(pg_catalog.=) r.pool"                                             \
    "  LEFT JOIN leadroute.pool o ON o.tenant OPERATOR(pg_catalog.=) r.tenant"                     \
    "        AND o.name OPERATOR(pg_catalog.=) r.overflow_pool"                                    \
    "  LEFT JOIN leadroute.territory y ON y.tenant OPERATOR(pg_catalog.=) r.tenant"                \
    "        AND y.name OPERATOR(pg_catalog.=) r.territory"                                        \
    "  LEFT JOIN leadroute.sla_policy s ON s.tenant OPERATOR(pg_catalog.=) r.tenant"               \
    "        AND s.name OPERATOR(pg_catalog.=) r.sla"                                              \
    " WHERE r.tenant OPERATOR(pg_catalog.=) $2 AND "
#define RULES_ORDER " ORDER BY r.position, r.id"

static const char kAll[] =
    RULES_FROM "r.active AND r.lead_table OPERATOR(pg_catalog.=) $1" RULES_ORDER;

// With the rule's lead table as an expression: few rules are found by their ids, not by an index of
// the table's rules that looks as good while statistics are missing.
static KeptPlan among_plan = {
    NULL,
    RULES_FROM
    "r.active AND r.id OPERATOR(pg_catalog.=) ANY ($3)"
    " AND (r.lead_table OPERATOR(pg_catalog.||) '') OPERATOR(pg_catalog.=) $1" RULES_ORDER,
    3,
    {TEXTOID, INT8OID, INT8ARRAYOID},
};
static KeptPlan one_plan = {
    NULL,
    RULES_FROM "r.id OPERATOR(pg_catalog.=) $3"
               " AND (r.lead_table OPERATOR(pg_catalog.||) '') OPERATOR(pg_catalog.=) $1",
    3,
    {TEXTOID, INT8OID, INT8OID},
};

static void run_kept(KeptPlan* kept, Datum* values) {
    if (kept->plan == NULL) {
        SPIPlanPtr made =
            SPI_prepare_cursor(kept->query, kept->types, kept->type, CURSOR_OPT_GENERIC_PLAN);
        if (made == NULL || SPI_keepplan(made) != 0)
            elog(ERROR, "cannot prepare to read rules: %s", SPI_result_code_string(SPI_result));
        kept->plan = made;
    }
    if (SPI_execute_plan(kept->plan, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "reading the rules failed: %s", SPI_result_code_string(SPI_result));
}

static char* text_at(HeapTuple row, int column) {
    return SPI_getvalue(row, SPI_tuptable->tupdesc, column);
}

static Datum value_at(HeapTuple row, int column, bool* isnull) {
    return SPI_getbinval(row, SPI_tuptable->tupdesc, column, isnull);
}

static int64 number_at(HeapTuple row, int column) {
    bool isnull;
    Datum value = value_at(row, column, &isnull);
    if (isnull)
        return 0;
    return SPI_gettypeid(SPI_tuptable->tupdesc, column) == INT8OID ? DatumGetInt64(value)
                                                                   : DatumGetInt32(value);
}

static void read_rule(Compiler* compiler, RuleSource* source, HeapTuple row) {
    Rule* rule = static_cast<Rule*>(MemoryContextAllocZero(compiler->kept, sizeof(Rule)));
    source->rule = rule;
    rule->id = number_at(row, 1);
    rule->position = static_cast<int32>(number_at(row, 2));
    rule->name = MemoryContextStrdup(compiler->kept, text_at(row, 3));
    source->condition = text_at(row, 4);
    source->author = text_at(row, 5);
    rule->pool = static_cast<int32>(number_at(row, 6));
    rule->rep = number_at(row, 7);
    rule->overflow_pool = static_cast<int32>(number_at(row, 8));
    rule->sla = static_cast<int32>(number_at(row, 16));
    rule->version = static_cast<int32>(number_at(row, 17));
    bool isnull;
    Datum label = value_at(row, 9, &isnull);
    rule->has_label = !isnull;
    if (!isnull) {
        MemoryContext caller = MemoryContextSwitchTo(compiler->kept);
        rule->label = PointerGetDatum(PG_DETOAST_DATUM_COPY(label));
        MemoryContextSwitchTo(caller);
    }
    Datum valid = value_at(row, 10, &isnull);
    source->has_valid = !isnull;
    if (!isnull)
        source->valid = PointerGetDatum(PG_DETOAST_DATUM_COPY(valid));
    rule->demand = rule_demand_read(compiler->set, row, 11);
}

// Copies what SPI found into `memory`, which outlives SPI_finish().
static void read_rows(Compiler* compiler, MemoryContext memory) {
    MemoryContext caller = MemoryContextSwitchTo(memory);
    compiler->sources = static_cast<RuleSource*>(palloc0(sizeof(RuleSource) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++)
        read_rule(compiler, &compiler->sources[compiler->count++], SPI_tuptable->vals[i]);
    MemoryContextSwitchTo(caller);
}

// The lead table's own row; its name. NULL: it is gone.
static char* read_table(Compiler* compiler, MemoryContext memory) {
    Datum values[] = {Int32GetDatum(compiler->set->lead_table)};
    run_kept(&table_plan, values);
    if (SPI_processed == 0)
        return NULL;
    MemoryContext caller = MemoryContextSwitchTo(memory);
    HeapTuple row = SPI_tuptable->vals[0];
    compiler->reserved = {text_at(row, 1), text_at(row, 2), text_at(row, 3)};
    sticky_read(compiler->set, row, 4);
    char* name = text_at(row, 8);
    MemoryContextSwitchTo(caller);
    return name;
}

static Datum ids_array(const RuleIds* ids) {
    Datum* values = static_cast<Datum*>(palloc(sizeof(Datum) * (ids->count + 1)));
    for (int i = 0; i < ids->count; i++)
        values[i] = Int64GetDatum(ids->id[i]);
    return PointerGetDatum(construct_array(values, ids->count, INT8OID, sizeof(int64),
                                           FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void read_all(const Compiler* compiler, Datum name) {
    Oid types[] = {TEXTOID, INT8OID};
    Datum values[] = {name, Int64GetDatum(compiler->set->tenant)};
    if (SPI_execute_with_args(kAll, lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "reading the rules failed: %s", SPI_result_code_string(SPI_result));
}

static void read_few(const Compiler* compiler, Datum name, KeptPlan* plan, Datum which) {
    Datum values[] = {name, Int64GetDatum(compiler->set->tenant), which};
    run_kept(plan, values);
}

void rules_read(Compiler* compiler, int64 rule, const RuleIds* among) {
    MemoryContext memory = CurrentMemoryContext;
    compiler->count = 0;
    OwnerScope scope;
    owner_scope_begin(&scope);
    SPI_connect();
    // one for all: the table may be renamed
    PushActiveSnapshot(GetLatestSnapshot());
    char* table = read_table(compiler, memory);
    if (table != NULL && (among == NULL || among->count > 0)) {
        Datum name = CStringGetTextDatum(table);
        if (rule == 0 && among == NULL) {
            read_all(compiler, name);
        } else {
            (void)set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
                                    GUC_ACTION_SAVE, true, 0, false); // until the scope ends
            if (rule != 0)
                read_few(compiler, name, &one_plan, Int64GetDatum(rule));
            else
                read_few(compiler, name, &among_plan, ids_array(among));
        }
        read_rows(compiler, memory);
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&scope);
}
