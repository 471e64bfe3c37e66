// The value of a lead; see lead_value.h.
#include "lead_value.h"
#include "alert.h"
#include "attempt.h"
#include "rule_set.h"

struct Compile {
    RuleSet* set;
    Relation lead;
    Oid role;
};

static void parse(Condition* condition, Relation lead, const LeadValue* value, Oid role) {
    condition->lead = lead;
    condition->rule = value->table;
    condition->text = value->text;
    condition->author = role;
    condition->use = ExpressionUse::value;
    condition_parse(condition);
}

static void compile(void* argument) {
    const Compile* compile = static_cast<const Compile*>(argument);
    LeadValue* value = compile->set->value;
    Condition condition = {};
    parse(&condition, compile->lead, value, compile->role);
    rule_expression_keep(compile->set, &condition, value->author, &value->expression);
}

static void tell(const RuleSet* set, const char* message) {
    if (set->rehearsal || XactReadOnly)
        return; // the next lead will tell
    Alert alert = {};
    alert.kind = "rule_error";
    alert.tenant = set->tenant;
    alert.lead_table = set->lead_table;
    alert.message = message;
    raise_alert(&alert);
}

void lead_value_compile(RuleSet* set, Relation lead, const char* table, const char* text,
                        const char* author) {
    Compile work = {set, lead, get_role_oid(author, true)};
    if (!OidIsValid(work.role)) {
        set->broken = true;
        tell(set, psprintf("value_expression of \"%s\" is inactive: its author, role \"%s\", does "
                           "not exist",
                           table, author));
        return;
    }
    LeadValue* value =
        static_cast<LeadValue*>(MemoryContextAllocZero(set->context, sizeof(LeadValue)));
    value->table = MemoryContextStrdup(set->context, table);
    value->text = MemoryContextStrdup(set->context, text);
    value->author = MemoryContextStrdup(set->context, author);
    set->value = value;
    rule_expression_try(set, compile, &work, &value->sqlstate, &value->message);
}

static void failed(RuleSet* set, int sqlstate, const char* message, RuleFailures* failures) {
    char* words = psprintf("value_expression of \"%s\" raised an error, such leads count as the "
                           "pool's average: %s",
                           set->value->table, message);
    if (set->rehearsal)
        rule_set_fault(set, 0, sqlstate, words);
    if (failures->count < kMaxFailures)
        failures->failure[failures->count] = {kValueFailure, sqlstate};
    if (failures->count++ == 0)
        message_copy(failures->first_message, sizeof(failures->first_message), words);
}

double lead_value(RuleSet* set, TupleTableSlot* slot, RuleFailures* failures) {
    LeadValue* value = set->value;
    if (value == NULL)
        return 0;
    if (value->sqlstate != 0) {
        failed(set, value->sqlstate, value->message, failures);
        return 0;
    }
    Datum result;
    ErrorData* error;
    if (rule_expression_alone(set, &value->expression, slot, &result, &error)) {
        double worth = DatumGetFloat8(result);
        return worth > 0 && !isinf(worth) ? worth : 0;
    }
    if (error != NULL)
        failed(set, error->sqlerrcode, error->message, failures);
    return 0;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_check_value);

// _check_value(lead regclass, name text, expression text, author name)
Datum leadroute_check_value(PG_FUNCTION_ARGS) {
    LeadValue value = {};
    value.table = text_to_cstring(PG_GETARG_TEXT_PP(1));
    value.text = text_to_cstring(PG_GETARG_TEXT_PP(2));
    Oid role = get_role_oid(NameStr(*PG_GETARG_NAME(3)), false);
    if (role != GetUserId() && !superuser())
        ereport(ERROR,
                (errcode(ERRCODE_LR_DENIED),
                 errmsg("value_expression of \"%s\" cannot be written in the name of another",
                        value.table),
                 errdetail("It is evaluated with its author's rights."),
                 errhint("Set value_author = current_user to take it over.")));
    Relation lead = relation_open(PG_GETARG_OID(0), AccessShareLock);
    Condition condition = {};
    parse(&condition, lead, &value, role);
    relation_close(lead, AccessShareLock);
    PG_RETURN_VOID();
}
}
