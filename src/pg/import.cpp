// What importing rules needs beyond SQL: formulas and filters as conditions, and the type of an
// expression over a lead. What is wrong with them is told as a value, for the caller knows the
// entry.
#include "core/formula.h"
#include "expression.h"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

namespace core = leadroute::core;

// As much as a condition may have.
constexpr size_t kMaxImported = 65536;

static core::Piece view(const text* value) {
    return {VARDATA_ANY(value), (size_t)VARSIZE_ANY_EXHDR(value)};
}

static core::Piece* views(ArrayType* array, int* count) {
    Datum* values;
    bool* nulls;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, count);
    core::Piece* found =
        static_cast<core::Piece*>(palloc((Size)(*count + 1) * sizeof(core::Piece)));
    for (int i = 0; i < *count; i++)
        found[i] = nulls[i] ? core::Piece() : view(DatumGetTextPP(values[i]));
    return found;
}

// {condition} or {NULL, problem, position in characters from 1, field that is not mapped}
static Datum answer(core::Piece source, const core::SqlText* sql, core::TextProblem* problem) {
    Datum values[4];
    bool nulls[4] = {true, true, true, true};
    if (problem->what == NULL && sql->overflown())
        problem->what = "too long a condition";
    if (problem->what == NULL) {
        nulls[0] = false;
        values[0] =
            PointerGetDatum(cstring_to_text_with_len(sql->text().data(), (int)sql->text().size()));
    } else {
        int position = pg_mbstrlen_with_len(source.data(), (int)problem->at) + 1;
        int length = (int)Min(problem->subject.size(), (size_t)200);
        length = pg_mbcliplen(problem->subject.data(), length, length);
        nulls[1] = nulls[2] = false;
        values[1] = CStringGetTextDatum(
            length == 0 ? problem->what
                        : psprintf("%s \"%.*s\"", problem->what, length, problem->subject.data()));
        values[2] = CStringGetTextDatum(psprintf("%d", position));
        nulls[3] = !problem->unknown_field;
        if (problem->unknown_field)
            values[3] = PointerGetDatum(cstring_to_text_with_len(problem->subject.data(), length));
    }
    int dims[] = {4}, lower[] = {1};
    return PointerGetDatum(
        construct_md_array(values, nulls, 1, dims, lower, TEXTOID, -1, false, TYPALIGN_INT));
}

static core::FormulaKind kind_named(core::Piece name) {
    static const struct {
        core::Piece name;
        core::FormulaKind kind;
    } kinds[] = {{"number", core::FormulaKind::number},
                 {"boolean", core::FormulaKind::boolean},
                 {"date", core::FormulaKind::date},
                 {"datetime", core::FormulaKind::datetime},
                 {"list", core::FormulaKind::list}};
    for (const auto& one : kinds) {
        if (one.name == name)
            return one.kind;
    }
    return core::FormulaKind::text;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_formula);
PG_FUNCTION_INFO_V1(leadroute_filter);
PG_FUNCTION_INFO_V1(leadroute_expression_type);

// _formula(formula, names text[], expressions text[], kinds text[]) -> text[], as answer() says
Datum leadroute_formula(PG_FUNCTION_ARGS) {
    core::Piece formula = view(PG_GETARG_TEXT_PP(0));
    int count, expressions, kinds;
    core::Piece* names = views(PG_GETARG_ARRAYTYPE_P(1), &count);
    core::Piece* sqls = views(PG_GETARG_ARRAYTYPE_P(2), &expressions);
    core::Piece* types = views(PG_GETARG_ARRAYTYPE_P(3), &kinds);
    if (expressions != count || kinds != count)
        elog(ERROR, "a field map of %d names, %d expressions, %d kinds", count, expressions, kinds);
    core::FormulaField* fields =
        static_cast<core::FormulaField*>(palloc((Size)(count + 1) * sizeof(core::FormulaField)));
    for (int i = 0; i < count; i++)
        fields[i] = {names[i], sqls[i], kind_named(types[i])};
    core::FormulaTree tree = {};
    tree.nodes = static_cast<core::FormulaNode*>(MemoryContextAllocHuge(
        CurrentMemoryContext, (formula.size() + 1) * sizeof(core::FormulaNode)));
    core::SqlText sql(static_cast<char*>(palloc(kMaxImported)), kMaxImported);
    core::TextProblem problem;
    if (core::formula_parse(formula, fields, count, &tree, &problem))
        core::formula_write(tree, &sql);
    PG_RETURN_DATUM(answer(formula, &sql, &problem));
}

// _filter(filter, conditions text[]) -> text[], as answer() says
Datum leadroute_filter(PG_FUNCTION_ARGS) {
    core::Piece filter = view(PG_GETARG_TEXT_PP(0));
    int count;
    core::Piece* conditions = views(PG_GETARG_ARRAYTYPE_P(1), &count);
    core::SqlText sql(static_cast<char*>(palloc(kMaxImported)), kMaxImported);
    core::TextProblem problem;
    (void)core::filter_write(filter, conditions, count, &sql, &problem);
    PG_RETURN_DATUM(answer(filter, &sql, &problem));
}

// _expression_type(lead regclass, name, expression) -> oid: LR004 for what a rule cannot use
Datum leadroute_expression_type(PG_FUNCTION_ARGS) {
    Relation lead = relation_open(PG_GETARG_OID(0), AccessShareLock);
    Condition condition = {};
    condition.rule = text_to_cstring(PG_GETARG_TEXT_PP(1));
    condition.text = text_to_cstring(PG_GETARG_TEXT_PP(2));
    condition.author = GetUserId();
    condition.use = ExpressionUse::condition;
    condition_parse(&condition);
    // of any type, in a test that has it as its argument
    condition.lead = lead;
    condition.text = psprintf("(%s\n) IS NULL", condition.text);
    condition_parse(&condition);
    relation_close(lead, NoLock);
    const NullTest* test = reinterpret_cast<const NullTest*>(condition.expression);
    if (!IsA(test, NullTest))
        elog(ERROR, "no test for NULL");
    PG_RETURN_OID(getBaseType(exprType(reinterpret_cast<const Node*>(test->arg))));
}
}
