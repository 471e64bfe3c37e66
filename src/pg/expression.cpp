// Parsing and checking of one expression of a rule or territory.
//
// The text is parsed as the server parses a trigger's WHEN, with the lead's columns in sight and
// nothing else, by its author and with a search_path nobody can plant objects in. What the server
// accepts there but a rule cannot use is refused here.
#include "expression.h"

#include "attempt.h"

extern "C" {
#include "catalog/partition.h"
#include "catalog/pg_proc.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/regproc.h"
}

constexpr size_t kMaxConditionBytes = 65536;
// Far below what the stack holds, as the condition is parsed and planned below a running statement.
constexpr int kMaxDepth = 200;

constexpr char kSchemaHint[] =
    "Functions, operators and types outside pg_catalog must be written with their schema.";

// How messages speak of an expression, by ExpressionUse.
struct Wording {
    const char* of;
    const char* hint;
    const char* detail;
};
static const Wording kWordings[] = {
    {"condition of rule", "A condition is one boolean expression over the lead's columns.",
     "A condition is an SQL expression over the columns of one lead; it sees nothing else."},
    {"needs of rule",
     "Give an array of skills, such as ARRAY['enterprise>=2', 'licence:' || region].",
     "Needs are an SQL expression over the columns of one lead that gives text[]."},
    {"key of territory", "Give an expression over the lead's columns, such as postal_code.",
     "A key is an SQL expression over the columns of one lead; it sees nothing else."},
    {"sticky_on of lead table", "Give an expression over the lead's columns, such as lower(email).",
     "It is an SQL expression over the columns of one lead; it sees nothing else."},
    {"value_expression of lead table",
     "Give a number over the lead's columns, such as deal_value * probability.",
     "It is an SQL expression over the columns of one lead that gives a number."}};

static const Wording* wording(const Condition* condition) {
    return &kWordings[static_cast<int>(condition->use)];
}

static void pin(const char* setting, const char* value) {
    (void)set_config_option(setting, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                            false);
}

static bool zone_is_utc(void) {
    const char* zone = pg_get_timezone_name(session_timezone);
    return strcmp(zone, "UTC") == 0 || strcmp(zone, "Etc/UTC") == 0;
}

void author_scope_begin(AuthorScope* scope, Oid author) {
    GetUserIdAndSecContext(&scope->user, &scope->security_context);
    SetUserIdAndSecContext(author, scope->security_context | SECURITY_LOCAL_USERID_CHANGE |
                                       SECURITY_RESTRICTED_OPERATION);
    scope->read_only = XactReadOnly;
    XactReadOnly = true;
    scope->guc_level = NewGUCNestLevel();
    // Comparing first is cheaper than setting: most of these stand at their defaults.
    if (strcmp(namespace_search_path, "pg_catalog, pg_temp") != 0)
        pin("search_path", "pg_catalog, pg_temp");
    if (!zone_is_utc())
        pin("TimeZone", "UTC");
    if (DateStyle != USE_ISO_DATES || DateOrder != DATEORDER_MDY)
        pin("DateStyle", "ISO, MDY");
    if (IntervalStyle != INTSTYLE_POSTGRES)
        pin("IntervalStyle", "postgres");
    if (!standard_conforming_strings)
        pin("standard_conforming_strings", "on");
    if (Transform_null_equals)
        pin("transform_null_equals", "off");
    if (!Array_nulls)
        pin("array_nulls", "on");
}

void author_scope_end(AuthorScope* scope) {
    AtEOXact_GUC(false, scope->guc_level);
    XactReadOnly = scope->read_only;
    SetUserIdAndSecContext(scope->user, scope->security_context);
}

bool function_executable(Oid function, Oid role) {
#if LR_PG16_GE
    return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
    return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

static bool readable_in(Oid relation, AttrNumber column, Oid role) {
    if (pg_class_aclcheck(relation, role, ACL_SELECT) == ACLCHECK_OK)
        return true;
    if (column == InvalidAttrNumber)
        return pg_attribute_aclcheck_all(relation, role, ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
    return pg_attribute_aclcheck(relation, column, role, ACL_SELECT) == ACLCHECK_OK;
}

bool column_readable(Relation lead, AttrNumber column, Oid role) {
    if (readable_in(RelationGetRelid(lead), column, role))
        return true;
    if (!lead->rd_rel->relispartition)
        return false;
    ListCell* cell;
    foreach (cell, get_partition_ancestors(RelationGetRelid(lead))) {
        Oid ancestor = lfirst_oid(cell);
        AttrNumber there = InvalidAttrNumber;
        if (column != InvalidAttrNumber)
            there = get_attnum(ancestor,
                               NameStr(TupleDescAttr(RelationGetDescr(lead), column - 1)->attname));
        if ((column == InvalidAttrNumber || there > 0) && readable_in(ancestor, there, role))
            return true;
    }
    return false;
}

// --- parsing ---

// The one expression of a parsed text, and nothing around it.
static Node* only_expression(const char* text) {
    List* parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
    SelectStmt* select = castNode(SelectStmt, linitial_node(RawStmt, parsed)->stmt);
    ResTarget* target =
        list_length(select->targetList) == 1 ? linitial_node(ResTarget, select->targetList) : NULL;
    bool plain =
        target != NULL && target->name == NULL && select->distinctClause == NIL &&
        select->fromClause == NIL && select->whereClause == NULL && select->groupClause == NIL &&
        select->havingClause == NULL && select->windowClause == NIL && select->sortClause == NIL &&
        select->limitOffset == NULL && select->limitCount == NULL && select->lockingClause == NIL;
    if (plain && IsA(target->val, ColumnRef)) {
        ColumnRef* column = castNode(ColumnRef, target->val);
        plain = !IsA(linitial(column->fields), A_Star);
    }
    if (!plain)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("it is not one plain expression")));
    return target->val;
}

struct Check {
    Condition* condition;
    ParseState* parse;
    int depth;
    int location; // of the node at hand
};

static void check_column(Check* check, const Var* var) {
    Condition* condition = check->condition;
    TupleDesc columns = RelationGetDescr(condition->lead);
    if (var->varattno < 0)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("system columns cannot be used"),
                 errdetail("They have no value before the lead is stored."),
                 parser_errposition(check->parse, var->location)));
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attgenerated == '\0' || (var->varattno != 0 && var->varattno != i + 1))
            continue;
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("generated columns cannot be used"),
                 errdetail("Column \"%s\" has no value before the lead is stored.",
                           NameStr(column->attname)),
                 parser_errposition(check->parse, var->location)));
    }
    if (!column_readable(condition->lead, var->varattno, condition->author))
        ereport(ERROR, (errcode(ERRCODE_LR_DENIED),
                        var->varattno == 0
                            ? errmsg("permission denied for table %s",
                                     RelationGetRelationName(condition->lead))
                            : errmsg("permission denied for column \"%s\" of table %s",
                                     NameStr(TupleDescAttr(columns, var->varattno - 1)->attname),
                                     RelationGetRelationName(condition->lead)),
                        errhint("Its author, role \"%s\", needs SELECT on what it reads.",
                                GetUserNameFromId(condition->author, false)),
                        parser_errposition(check->parse, var->location)));
}

static bool check_function(Oid function, void* context) {
    Check* check = static_cast<Check*>(context);
    Condition* condition = check->condition;
    if (list_member_oid(condition->functions, function))
        return false;
    if (isAnyTempNamespace(get_func_namespace(function)))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("function %s is temporary", format_procedure(function)),
                        parser_errposition(check->parse, check->location)));
    if (func_volatile(function) == PROVOLATILE_VOLATILE)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("function %s is volatile", format_procedure(function)),
                        errhint("Use functions that are immutable or stable; now() is."),
                        parser_errposition(check->parse, check->location)));
    if (!function_executable(function, condition->author))
        ereport(ERROR, (errcode(ERRCODE_LR_DENIED),
                        errmsg("permission denied for function %s", format_procedure(function)),
                        errhint("Its author, role \"%s\", needs EXECUTE on what it "
                                "calls.",
                                GetUserNameFromId(condition->author, false)),
                        parser_errposition(check->parse, check->location)));
    condition->functions = lappend_oid(condition->functions, function);
    return false;
}

// A temporary type would be another in every session, with functions of its own behind it.
static void check_type(const Check* check, Oid type) {
    if (type < FirstNormalObjectId)
        return;
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    bool temporary =
        HeapTupleIsValid(tuple) &&
        isAnyTempNamespace(reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple))->typnamespace);
    if (HeapTupleIsValid(tuple))
        ReleaseSysCache(tuple);
    if (temporary)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("type %s is temporary", format_type_be(type)),
                        parser_errposition(check->parse, check->location)));
}

// A call's arguments with the defaults of those left out, which the parser does not add.
static Node* call_arguments(const FuncExpr* call) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for function %u", call->funcid);
    List* arguments = expand_function_arguments(call->args, false, call->funcresulttype, tuple);
    ReleaseSysCache(tuple);
    return reinterpret_cast<Node*>(arguments);
}

static bool check_node(Node* node, void* context) {
    Check* check = static_cast<Check*>(context);
    if (node == NULL)
        return false;
    int level = IsA(node, List) ? 0 : 1;
    check->depth += level;
    if (check->depth > kMaxDepth)
        ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX), errmsg("it is nested too deeply"),
                        errdetail("A condition may have %d levels.", kMaxDepth)));
    if (!IsA(node, List) && !IsA(node, CaseWhen)) {
        int location = exprLocation(node);
        check->location = location >= 0 ? location : check->location;
        check_type(check, exprType(node));
        if (IsA(node, Var))
            check_column(check, reinterpret_cast<const Var*>(node));
        else
            (void)check_functions_in_node(node, check_function, check);
    }
    if (IsA(node, FuncExpr))
        (void)check_node(call_arguments(reinterpret_cast<const FuncExpr*>(node)), context);
    else
        (void)walk_tree(node, check_node, context);
    check->depth -= level;
    return false;
}

// The expression over the lead, of the type that its use asks for.
static Node* transform(const Condition* condition, ParseState* parse, Node* raw) {
    if (condition->use == ExpressionUse::condition)
        return transformWhereClause(parse, raw, EXPR_KIND_TRIGGER_WHEN, "a condition");
    bool key = condition->use == ExpressionUse::key;
    Node* tree = transformExpr(parse, raw, EXPR_KIND_TRIGGER_WHEN);
    Oid type = exprType(tree);
    Oid wanted = condition->use == ExpressionUse::value   ? FLOAT8OID
                 : condition->use == ExpressionUse::needs ? TEXTARRAYOID
                                                          : TEXTOID;
    Node* cast = coerce_to_target_type(
        parse, tree, type, wanted, -1, key ? COERCION_EXPLICIT : COERCION_ASSIGNMENT,
        key ? COERCE_EXPLICIT_CAST : COERCE_IMPLICIT_CAST, exprLocation(tree));
    if (cast == NULL)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("it must be of type %s, not %s", format_type_be(wanted),
                               format_type_be(type)),
                        parser_errposition(parse, exprLocation(tree))));
    return cast;
}

static bool too_long(const Condition* condition) {
    return strlen(condition->text) > kMaxConditionBytes;
}

// Takes the position of an error as one in the condition, before whoever runs the statement that
// writes the rule takes it as one in that.
static void locate(void* argument) {
    int position = geterrposition();
    if (position <= 0)
        return;
    errposition(0);
    internalerrposition(position);
    internalerrquery(static_cast<const Condition*>(argument)->text);
}

static void parse(void* argument) {
    Condition* condition = static_cast<Condition*>(argument);
    ErrorContextCallback context;
    context.callback = locate;
    context.arg = condition;
    context.previous = error_context_stack;
    error_context_stack = &context;
    if (too_long(condition))
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("it is too long"),
                        errdetail("A condition may have %zu bytes.", kMaxConditionBytes)));
    Node* raw = only_expression(condition->text);
    if (condition->lead == NULL) {
        error_context_stack = context.previous;
        return;
    }

    ParseState* parse = make_parsestate(NULL);
    parse->p_sourcetext = condition->text;
    ParseNamespaceItem* lead = addRangeTableEntryForRelation(
        parse, condition->lead, AccessShareLock, makeAlias("lead", NIL), false, false);
    addNSItemToQuery(parse, lead, false, true, true);
    Node* tree = transform(condition, parse, raw);
    assign_expr_collations(parse, tree);

    Check check = {condition, parse, 0, -1};
    (void)check_node(tree, &check);
    if (contain_volatile_functions(tree))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("it is volatile")));
    pull_varattnos(tree, 1, &condition->columns);
    condition->expression = reinterpret_cast<Expr*>(tree);
    free_parsestate(parse);
    error_context_stack = context.previous;
}

[[noreturn]] static void refuse(const Condition* condition, ErrorData* error) {
    if (error_must_pass(error))
        ReThrowError(error);
    bool denied = error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
                  error->sqlerrcode == ERRCODE_LR_DENIED;
    bool unknown = error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION ||
                   error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT;
    bool located =
        error->internalquery != NULL && strcmp(error->internalquery, condition->text) == 0;
    const Wording* words = wording(condition);
    const char* hint =
        error->hint == NULL ? psprintf("%s %s", words->hint, kSchemaHint) : error->hint;
    if (error->hint != NULL && unknown)
        hint = psprintf("%s %s", error->hint, kSchemaHint);
    ereport(ERROR,
            (errcode(denied ? ERRCODE_LR_DENIED : ERRCODE_LR_EXPRESSION),
             errmsg("%s \"%s\" refused: %s", words->of, condition->rule, error->message),
             errdetail_internal("%s", error->detail != NULL ? error->detail : words->detail),
             errhint("%s", hint), internalerrquery(too_long(condition) ? NULL : condition->text),
             internalerrposition(located ? error->internalpos : 0)));
}

void condition_parse(Condition* condition) {
    condition->columns = NULL;
    condition->functions = NIL;
    AuthorScope scope;
    author_scope_begin(&scope, condition->author);
    ErrorData* error = attempt(parse, condition);
    author_scope_end(&scope);
    if (error != NULL)
        refuse(condition, error);
}
