// From a planned condition to a predicate; see rule_analyse.h.
#include "rule_draft.h"

extern "C" {
#include "access/stratnum.h"
#include "utils/fmgroids.h"
}

constexpr int kMaxList = 20000;

static Ways analyse(const Analysis* a, Node* node);

static Way* new_way(bool exact) {
    Way* way = static_cast<Way*>(palloc0(sizeof(Way)));
    way->exact = exact;
    return way;
}

// Holds for every lead, or may.
static Ways anything(bool exact) {
    return {list_make1(new_way(exact))};
}

static Ways one(Draft* draft) {
    if (draft == NULL)
        return anything(false);
    Way* way = new_way(true);
    way->atoms[way->count++] = draft;
    return {list_make1(way)};
}

// `column LIKE 'text%'`: what stands before the first wildcard. Where one more than the last %
// follows, that is not all.
static Ways like(const Analysis* a, const Side* side, const core::Value* pattern) {
    char* literal = static_cast<char*>(palloc(pattern->length + 1));
    uint32 length = 0, i = 0;
    for (; i < pattern->length && pattern->text[i] != '%' && pattern->text[i] != '_'; i++) {
        if (pattern->text[i] == '\\' && ++i == pattern->length)
            return anything(false);
        literal[length++] = pattern->text[i];
    }
    core::Value* list = static_cast<core::Value*>(palloc(sizeof(core::Value)));
    *list = core::text_value(literal, length);
    if (i == pattern->length)
        return one(draft_among(slot_of(a, side), list, 1));
    Ways ways = one(draft_prefix(slot_of(a, side), literal, Min(length, kMaxPrefix)));
    bool all = pattern->text[i] == '%' && i + 1 == pattern->length && length <= kMaxPrefix;
    Way* way = static_cast<Way*>(linitial(ways.all));
    way->exact = way->exact && all;
    return ways;
}

static Ways analyse_call(const Analysis* a, const OpExpr* call) {
    if (list_length(call->args) != 2)
        return anything(false);
    const Node* left = static_cast<const Node*>(linitial(call->args));
    const Node* right = static_cast<const Node*>(lsecond(call->args));
    Oid operation = call->opno;
    if (IsA(left, Const)) {
        const Node* swapped = left;
        left = right;
        right = swapped;
        operation = get_commutator(operation);
    }
    Side side;
    core::Value value;
    if (!OidIsValid(operation) || !IsA(right, Const) || !side_of(left, &side))
        return anything(false);
    const Const* constant = reinterpret_cast<const Const*>(right);
    if (constant->constisnull)
        return {NIL};
    if (!constant_of(&side, constant->consttype, constant->constvalue, &value))
        return anything(false);
    bool straight = operation == call->opno;
    if (reads_text(side.reader) && straight && call->opfuncid == F_TEXTLIKE)
        return like(a, &side, &value);
    if (reads_text(side.reader) && straight && call->opfuncid == F_STARTS_WITH)
        return one(draft_prefix(slot_of(a, &side), value.text, value.length));
    return one(draft_compare(
        a, &side,
        get_op_opfamily_strategy(operation, type_family(getBaseType(side.column->vartype))),
        value));
}

static Ways analyse_list(const Analysis* a, const ScalarArrayOpExpr* call) {
    Side side;
    const Node* right = static_cast<const Node*>(lsecond(call->args));
    if (!call->useOr || !IsA(right, Const) ||
        !side_of(static_cast<const Node*>(linitial(call->args)), &side) ||
        get_op_opfamily_strategy(call->opno, type_family(getBaseType(side.column->vartype))) !=
            BTEqualStrategyNumber)
        return anything(false);
    const Const* constant = reinterpret_cast<const Const*>(right);
    if (constant->constisnull)
        return {NIL};
    ArrayType* array = DatumGetArrayTypeP(constant->constvalue);
    Oid type = ARR_ELEMTYPE(array);
    int16 size;
    bool by_value;
    char align;
    Datum* elements;
    bool* nulls;
    int count;
    get_typlenbyvalalign(type, &size, &by_value, &align);
    deconstruct_array(array, type, size, by_value, align, &elements, &nulls, &count);
    if (count > kMaxList || (reads_fraction(side.reader) && count > kMaxAlternatives / 2))
        return anything(false);
    core::Value* list = static_cast<core::Value*>(palloc(sizeof(core::Value) * (count + 1)));
    int kept = 0;
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            continue; // equals nothing
        if (!constant_of(&side, type, elements[i], &list[kept++]))
            return anything(false);
    }
    if (kept == 0)
        return {NIL};
    if (!reads_fraction(side.reader))
        return one(draft_among(slot_of(a, &side), list, kept));
    Ways ways = {NIL};
    for (int i = 0; i < kept; i++)
        ways.all =
            list_concat(ways.all, one(draft_range(slot_of(a, &side), list[i].lo, list[i].lo)).all);
    return ways;
}

// --- booleans and NULL ---

static Draft* boolean(const Analysis* a, const Var* column, bool value) {
    Side side = {column, SlotReader::boolean, InvalidOid};
    return draft_compare(a, &side, BTEqualStrategyNumber, core::number_value(value ? 1 : 0));
}

static Draft* null_test(const Analysis* a, const Var* column, bool null) {
    Side side = {column, slot_reader(getBaseType(column->vartype)), InvalidOid};
    return new_draft(slot_of(a, &side), null ? core::AtomKind::null : core::AtomKind::present);
}

static bool is_boolean(const Var* column) {
    return column != NULL && getBaseType(column->vartype) == BOOLOID;
}

static Ways either(Ways x, Ways y) {
    if (list_length(x.all) + list_length(y.all) > kMaxAlternatives)
        return anything(false);
    return {list_concat(x.all, y.all)};
}

static Ways analyse_boolean_test(const Analysis* a, const BooleanTest* test) {
    Node* argument = reinterpret_cast<Node*>(test->arg);
    if (test->booltesttype == IS_TRUE)
        return analyse(a, argument);
    const Var* column = lead_column_of(argument);
    if (!is_boolean(column))
        return anything(false);
    switch (test->booltesttype) {
    case IS_FALSE:
        return one(boolean(a, column, false));
    case IS_NOT_TRUE:
        return either(one(boolean(a, column, false)), one(null_test(a, column, true)));
    case IS_NOT_FALSE:
        return either(one(boolean(a, column, true)), one(null_test(a, column, true)));
    case IS_UNKNOWN:
        return one(null_test(a, column, true));
    default:
        return one(null_test(a, column, false));
    }
}

// --- AND, OR ---

static Draft* narrowed(const Draft* x, const Draft* y) {
    return draft_range(x->atom.slot, Max(x->atom.lo, y->atom.lo), Min(x->atom.hi, y->atom.hi));
}

static void add_atom(Way* way, Draft* draft) {
    for (int i = 0; i < way->count && draft->atom.kind == core::AtomKind::range; i++) {
        const core::Atom* other = &way->atoms[i]->atom;
        if (other->kind == core::AtomKind::range && other->slot == draft->atom.slot) {
            way->atoms[i] = narrowed(way->atoms[i], draft);
            return;
        }
    }
    if (way->count == kMaxAtoms)
        way->exact = false;
    else
        way->atoms[way->count++] = draft;
}

// What holds for both; where that is too much to say, what holds for the first.
static Ways both(Ways x, Ways y) {
    Ways product = {NIL};
    ListCell* cell;
    if (list_length(x.all) * list_length(y.all) > kMaxAlternatives) {
        foreach (cell, x.all)
            static_cast<Way*>(lfirst(cell))->exact = false;
        return x;
    }
    foreach (cell, x.all) {
        ListCell* other;
        foreach (other, y.all) {
            const Way* second = static_cast<const Way*>(lfirst(other));
            Way* way = static_cast<Way*>(palloc(sizeof(Way)));
            *way = *static_cast<const Way*>(lfirst(cell));
            way->exact = way->exact && second->exact;
            for (int i = 0; i < second->count; i++)
                add_atom(way, second->atoms[i]);
            product.all = lappend(product.all, way);
        }
    }
    return product;
}

static Ways analyse_join(const Analysis* a, const BoolExpr* join) {
    if (join->boolop == NOT_EXPR) {
        const Var* column = lead_column_of(static_cast<const Node*>(linitial(join->args)));
        return is_boolean(column) ? one(boolean(a, column, false)) : anything(false);
    }
    Ways ways = {NIL};
    ListCell* cell;
    foreach (cell, join->args) {
        Ways next = analyse(a, static_cast<Node*>(lfirst(cell)));
        if (foreach_current_index(cell) == 0)
            ways = next;
        else
            ways = join->boolop == AND_EXPR ? both(ways, next) : either(ways, next);
    }
    return ways;
}

static Ways analyse(const Analysis* a, Node* node) {
    const Var* column = lead_column_of(node);
    if (is_boolean(column))
        return one(boolean(a, column, true));
    switch (nodeTag(node)) {
    case T_Const: {
        const Const* value = reinterpret_cast<const Const*>(node);
        return value->constisnull || !DatumGetBool(value->constvalue) ? Ways{NIL} : anything(true);
    }
    case T_BoolExpr:
        return analyse_join(a, reinterpret_cast<const BoolExpr*>(node));
    case T_OpExpr:
        return analyse_call(a, reinterpret_cast<const OpExpr*>(node));
    case T_ScalarArrayOpExpr:
        return analyse_list(a, reinterpret_cast<const ScalarArrayOpExpr*>(node));
    case T_BooleanTest:
        return analyse_boolean_test(a, reinterpret_cast<const BooleanTest*>(node));
    case T_NullTest: {
        const NullTest* test = reinterpret_cast<const NullTest*>(node);
        const Var* tested = lead_column_of(reinterpret_cast<const Node*>(test->arg));
        if (test->argisrow || tested == NULL)
            return anything(false);
        return one(null_test(a, tested, test->nulltesttype == IS_NULL));
    }
    default:
        return anything(false);
    }
}

core::Predicate* rule_unknown(void) {
    return rule_lay_out(anything(false));
}

// lower() and upper() raise no error where they are read for the index, so they count as their
// column here.
static Node* without_case(Node* node, void* context) {
    if (node == NULL)
        return NULL;
    if (case_call(node) != NULL && IsA(node, FuncExpr))
        return static_cast<Node*>(linitial(reinterpret_cast<FuncExpr*>(node)->args));
    return mutate_tree(node, without_case, context);
}

core::Predicate* rule_analyse(Expr* planned, Relation lead, RuleSlots* slots) {
    Node* node = reinterpret_cast<Node*>(planned);
    Expr* quiet = reinterpret_cast<Expr*>(without_case(node, NULL));
    ConditionClass kind = condition_class(quiet);
    if (kind == CONDITION_NEVER)
        return rule_lay_out({NIL});
    if (kind != CONDITION_BARE)
        return rule_unknown();
    Analysis a = {lead, slots};
    return rule_lay_out(analyse(&a, node));
}
