// What is refused when a rule is written, and what is wrong with a stored one.
#include "rule_set.h"

#include "attempt.h"
#include "rule_label.h"
#include "territory.h"

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_check_rule);
PG_FUNCTION_INFO_V1(leadroute_rule_error);
}

struct RuleWrite {
    TriggerData* trigger;
    FmgrInfo* statement; // of the trigger, which ends with the statement
    HeapTuple row;       // as it will be stored
    char* name;
    Oid author; // InvalidOid: a role that is missing, named by a superuser
};

struct LeadTable {
    Oid relation; // InvalidOid: not attached (yet)
    ReservedColumns reserved;
};

// What a statement keeps from row to row: the table it wrote a rule of last.
struct Kept {
    MemoryContext memory; // of the name and the rest
    const char* name;     // NULL: none
    LeadTable table;
};

static Datum field_of(const RuleWrite* write, HeapTuple row, const char* column, bool* isnull) {
    TupleDesc columns = RelationGetDescr(write->trigger->tg_relation);
    int number = SPI_fnumber(columns, column);
    if (number <= 0)
        elog(ERROR, "leadroute.rule has no column \"%s\"", column);
    return heap_getattr(row, number, columns, isnull);
}

static char* text_of(const RuleWrite* write, const char* column) {
    TupleDesc columns = RelationGetDescr(write->trigger->tg_relation);
    char* text = SPI_getvalue(write->row, columns, SPI_fnumber(columns, column));
    return text == NULL ? pstrdup("") : text;
}

static bool is_insert(const RuleWrite* write) {
    return TRIGGER_FIRED_BY_INSERT(write->trigger->tg_event);
}

static bool changed(const RuleWrite* write, const char* column) {
    if (is_insert(write))
        return true;
    TupleDesc columns = RelationGetDescr(write->trigger->tg_relation);
    bool was_null;
    bool is_null;
    Datum was = field_of(write, write->trigger->tg_trigtuple, column, &was_null);
    Datum is = field_of(write, write->row, column, &is_null);
    if (was_null || is_null)
        return was_null != is_null;
    Form_pg_attribute attribute = TupleDescAttr(columns, SPI_fnumber(columns, column) - 1);
    return !datum_image_eq(was, is, attribute->attbyval, attribute->attlen);
}

// What runs with the author's rights, or decides where it does.
static bool rights_matter(const RuleWrite* write) {
    return changed(write, "condition") || changed(write, "needs") || changed(write, "lead_table") ||
           changed(write, "author");
}

// A rule runs with its author's rights, so nobody writes one in another's name; a superuser may,
// and a restore does.
static void check_author(RuleWrite* write) {
    char* author = text_of(write, "author");
    write->author = get_role_oid(author, true);
    if (write->author == GetUserId() || !rights_matter(write))
        return;
    if (superuser()) {
        if (!OidIsValid(write->author))
            ereport(WARNING, (errmsg("role \"%s\" does not exist: rule \"%s\" is inactive until it "
                                     "does",
                                     author, write->name)));
        return;
    }
    if (!OidIsValid(write->author))
        ereport(ERROR, (errcode(ERRCODE_LR_NO_SUCH_OBJECT),
                        errmsg("author of rule \"%s\" does not exist", write->name),
                        errdetail("There is no role \"%s\".", author),
                        errhint("Leave the author out: it is who writes the rule.")));
    ereport(
        ERROR,
        (errcode(ERRCODE_LR_DENIED),
         errmsg("rule \"%s\" cannot be written in the name of role \"%s\"", write->name, author),
         errdetail("A rule runs with its author's rights. Only a superuser may name "
                   "another author than himself, or change what runs in another's name."),
         errhint("Set author = current_user to take the rule over.")));
}

static void find_lead_table(const char* name, LeadTable* found) {
    *found = {};
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(name)};
    MemoryContext memory = CurrentMemoryContext;
    OwnerScope scope;
    owner_scope_begin(&scope);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    int result = SPI_execute_with_args(
        "SELECT leadroute._lead_relation(t.id)::pg_catalog.oid, t.key_column, t.owner_column,"
        "       t.tenant_column"
        "  FROM leadroute.lead_table t WHERE t.name OPERATOR(pg_catalog.=) $1",
        1, types, values, NULL, true, 1);
    if (result == SPI_OK_SELECT && SPI_processed == 1) {
        HeapTuple row = SPI_tuptable->vals[0];
        TupleDesc columns = SPI_tuptable->tupdesc;
        bool isnull;
        Datum relation = SPI_getbinval(row, columns, 1, &isnull);
        found->relation = isnull ? InvalidOid : DatumGetObjectId(relation);
        MemoryContext spi = MemoryContextSwitchTo(memory);
        found->reserved = {SPI_getvalue(row, columns, 2), SPI_getvalue(row, columns, 3),
                           SPI_getvalue(row, columns, 4)};
        MemoryContextSwitchTo(spi);
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&scope);
}

// Looked for once in a statement, which mostly writes rules of one table. From then on the lock on
// the lead table keeps it attached.
static const LeadTable* lead_table_of_statement(const RuleWrite* write) {
    const char* name = text_of(write, "lead_table");
    FmgrInfo* statement = write->statement;
    Kept* kept = static_cast<Kept*>(statement->fn_extra);
    if (kept == NULL) {
        kept = static_cast<Kept*>(MemoryContextAllocZero(statement->fn_mcxt, sizeof(Kept)));
        kept->memory =
            AllocSetContextCreate(statement->fn_mcxt, "lead table of rules", ALLOCSET_SMALL_SIZES);
        statement->fn_extra = kept;
    }
    if (kept->name != NULL && strcmp(kept->name, name) == 0)
        return &kept->table;
    kept->name = NULL;
    MemoryContextReset(kept->memory);
    MemoryContext memory = MemoryContextSwitchTo(kept->memory);
    find_lead_table(name, &kept->table);
    if (OidIsValid(kept->table.relation))
        kept->name = pstrdup(name);
    MemoryContextSwitchTo(memory);
    return &kept->table;
}

static void check_condition(const RuleWrite* write, Relation lead) {
    Condition condition = {};
    condition.lead = lead;
    condition.rule = write->name;
    condition.text = text_of(write, "condition");
    condition.author = write->author;
    condition_parse(&condition);
}

static void check_needs(const RuleWrite* write, Relation lead) {
    bool isnull;
    (void)field_of(write, write->row, "needs", &isnull);
    if (isnull)
        return;
    Condition needs = {};
    needs.lead = lead;
    needs.rule = write->name;
    needs.text = text_of(write, "needs");
    needs.author = write->author;
    needs.use = ExpressionUse::needs;
    condition_parse(&needs);
    needs_check_fixed(&needs);
}

// The key runs with the rights of the territory's author, whoever writes the rule.
static void check_territory(const RuleWrite* write, Relation lead) {
    bool isnull;
    Datum name = field_of(write, write->row, "territory", &isnull);
    if (isnull)
        return;
    int64 tenant = DatumGetInt64(field_of(write, write->row, "tenant", &isnull));
    territory_check_key(lead, tenant, TextDatumGetCString(name));
}

struct LabelCheck {
    Relation lead;
    const ReservedColumns* reserved;
    Oid author;
    const LabelValue* value;
};

static void convert_value(void* argument) {
    const LabelCheck* check = static_cast<const LabelCheck*>(argument);
    (void)label_convert(check->lead, check->reserved, check->value);
}

static void check_value(const RuleWrite* write, LabelCheck* check) {
    AuthorScope scope;
    author_scope_begin(&scope, check->author);
    ErrorData* error = attempt(convert_value, check);
    author_scope_end(&scope);
    if (error == NULL)
        return;
    if (error_must_pass(error))
        ReThrowError(error);
    ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION),
                    errmsg("label of rule \"%s\" refused: %s", write->name, error->message),
                    error->detail != NULL ? errdetail_internal("%s", error->detail) : 0,
                    errhint("Keys that are columns of the lead table are written to the lead.")));
}

static void check_label(const RuleWrite* write, Relation lead, const ReservedColumns* reserved) {
    bool isnull;
    Datum label = field_of(write, write->row, "label", &isnull);
    if (isnull)
        return;
    LabelCheck check = {lead, reserved, write->author, NULL};
    int count;
    const LabelValue* values = label_values(lead, DatumGetJsonbP(label), &count);
    for (int i = 0; i < count; i++) {
        check.value = &values[i];
        check_value(write, &check);
    }
}

static void check_label_shape(const RuleWrite* write) {
    bool isnull;
    Datum label = field_of(write, write->row, "label", &isnull);
    if (!isnull && !JB_ROOT_IS_OBJECT(DatumGetJsonbP(label)))
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION),
                 errmsg("label of rule \"%s\" refused: it is not a JSON object", write->name),
                 errhint("Write it as {\"priority\": \"high\"}.")));
}

// A broken rule can always be renamed, moved and switched off; switched on, it is checked again.
static bool needs_check(const RuleWrite* write) {
    bool isnull;
    bool active = DatumGetBool(field_of(write, write->row, "active", &isnull));
    return rights_matter(write) || changed(write, "label") || changed(write, "territory") ||
           (active && changed(write, "active"));
}

// The rule follows its lead table, which was given another name: nothing else is new.
static bool follows_rename(const RuleWrite* write) {
    if (is_insert(write) || !changed(write, "lead_table") || changed(write, "condition") ||
        changed(write, "needs") || changed(write, "territory") || changed(write, "author") ||
        changed(write, "label") || changed(write, "active"))
        return false;
    bool isnull;
    Datum old_name = field_of(write, write->trigger->tg_trigtuple, "lead_table", &isnull);
    LeadTable old_table;
    find_lead_table(TextDatumGetCString(old_name), &old_table);
    return !OidIsValid(old_table.relation);
}

static void check_against_lead(const RuleWrite* write) {
    if (follows_rename(write))
        return;
    const LeadTable* table = lead_table_of_statement(write);
    if (!OidIsValid(table->relation))
        return; // a restore makes the lead table's triggers after its data
    Relation lead = try_relation_open(table->relation, AccessShareLock);
    if (lead == NULL)
        return;
    check_condition(write, lead);
    check_needs(write, lead);
    check_territory(write, lead);
    check_label(write, lead, &table->reserved);
    relation_close(lead, NoLock);
}

Datum leadroute_check_rule(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("leadroute._check_rule() is a trigger function")));
    RuleWrite write = {};
    write.trigger = reinterpret_cast<TriggerData*>(fcinfo->context);
    write.statement = fcinfo->flinfo;
    TriggerEvent event = write.trigger->tg_event;
    if (!TRIGGER_FIRED_BEFORE(event) || !TRIGGER_FIRED_FOR_ROW(event) ||
        !(TRIGGER_FIRED_BY_INSERT(event) || TRIGGER_FIRED_BY_UPDATE(event)))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("leadroute._check_rule() is for BEFORE INSERT OR UPDATE, for each "
                               "row")));
    write.row = is_insert(&write) ? write.trigger->tg_trigtuple : write.trigger->tg_newtuple;
    write.name = text_of(&write, "name");
    check_label_shape(&write);
    check_author(&write);
    if (OidIsValid(write.author) && needs_check(&write))
        check_against_lead(&write);
    return PointerGetDatum(write.row);
}

Datum leadroute_rule_error(PG_FUNCTION_ARGS) {
    Relation lead = relation_open(PG_GETARG_OID(0), AccessShareLock);
    char* problem = rule_problem(lead, PG_GETARG_INT32(1), PG_GETARG_INT64(2), PG_GETARG_INT64(3));
    relation_close(lead, AccessShareLock);
    if (problem == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(problem));
}
