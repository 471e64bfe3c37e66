// Cases; see rule_cases.h. Each division leaves nothing out, NULL included: a proof rests on that.
#include "rule_cases.h"

#include "expression.h"

extern "C" {
#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/typcache.h"
}

bool cases_values(const Expr* constant, Datum** values, int* count) {
    if (!IsA(constant, Const) || reinterpret_cast<const Const*>(constant)->constisnull)
        return false;
    const Const* value = reinterpret_cast<const Const*>(constant);
    Oid element = get_element_type(value->consttype);
    if (!OidIsValid(element)) {
        *values = static_cast<Datum*>(palloc(sizeof(Datum)));
        (*values)[0] = value->constvalue;
        *count = 1;
        return true;
    }
    int16 length;
    bool by_value;
    char align;
    get_typlenbyvalalign(element, &length, &by_value, &align);
    bool* nulls;
    int all;
    deconstruct_array(DatumGetArrayTypeP(value->constvalue), element, length, by_value, align,
                      values, &nulls, &all);
    *count = 0;
    for (int i = 0; i < all; i++)
        if (!nulls[i])
            (*values)[(*count)++] = (*values)[i];
    return true;
}

int cases_count(const Expr* clause) {
    if (!IsA(clause, ScalarArrayOpExpr))
        return 0;
    const ScalarArrayOpExpr* list = reinterpret_cast<const ScalarArrayOpExpr*>(clause);
    const Node* array = static_cast<const Node*>(lsecond(list->args));
    if (!list->useOr || !IsA(array, Const) || reinterpret_cast<const Const*>(array)->constisnull)
        return 0;
    ArrayType* values = DatumGetArrayTypeP(reinterpret_cast<const Const*>(array)->constvalue);
    return ArrayGetNItems(ARR_NDIM(values), ARR_DIMS(values));
}

struct Order {
    FmgrInfo* compare;
    Oid collation;
};

static int compare_values(const void* one, const void* other, void* argument) {
    const Order* order = static_cast<const Order*>(argument);
    return DatumGetInt32(FunctionCall2Coll(order->compare, order->collation,
                                           *static_cast<const Datum*>(one),
                                           *static_cast<const Datum*>(other)));
}

static bool order_of(Oid type, Oid collation, Order* order) {
    TypeCacheEntry* entry = lookup_type_cache(type, TYPECACHE_CMP_PROC_FINFO);
    order->compare = &entry->cmp_proc_finfo;
    order->collation = collation;
    return OidIsValid(order->compare->fn_oid);
}

int cases_sort(Oid type, Oid collation, Datum* values, int count) {
    Order order;
    if (count == 0 || !order_of(type, collation, &order))
        return 0;
    qsort_arg(values, count, sizeof(Datum), compare_values, &order);
    int kept = 1;
    for (int i = 1; i < count; i++)
        if (compare_values(&values[kept - 1], &values[i], &order) != 0)
            values[kept++] = values[i];
    return kept;
}

bool cases_found(Oid type, Oid collation, const Datum* sorted, int count, Datum value) {
    Order order;
    if (!order_of(type, collation, &order))
        return false;
    int low = 0;
    int high = count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int sign = compare_values(&sorted[middle], &value, &order);
        if (sign == 0)
            return true;
        if (sign < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static Expr* comparison(Oid operation, Expr* left, Oid type, Datum value, Oid collation) {
    int16 length;
    bool by_value;
    get_typlenbyval(type, &length, &by_value);
    Const* constant = makeConst(type, -1, get_typcollation(type), length, value, false, by_value);
    Expr* made = make_opclause(operation, BOOLOID, false, left, reinterpret_cast<Expr*>(constant),
                               InvalidOid, collation);
    set_opfuncid(reinterpret_cast<OpExpr*>(made));
    return made;
}

// --- lists and ORs ---

static List* list_arms(const ScalarArrayOpExpr* list) {
    Expr* array = static_cast<Expr*>(lsecond(list->args));
    Oid type = get_element_type(exprType(reinterpret_cast<Node*>(array)));
    Datum* values;
    int count;
    if (!OidIsValid(type) || !cases_values(array, &values, &count))
        return NIL;
    List* arms = NIL;
    for (int i = 0; i < count; i++)
        arms = lappend(arms,
                       list_make1(comparison(list->opno, static_cast<Expr*>(linitial(list->args)),
                                             type, values[i], list->inputcollid)));
    return arms;
}

static List* arms_of(Expr* clause) {
    int count = cases_count(clause);
    if (count > 1 && count <= kMaxCases)
        return list_arms(reinterpret_cast<const ScalarArrayOpExpr*>(clause));
    if (!is_orclause(clause))
        return NIL;
    List* arms = NIL;
    ListCell* cell;
    foreach (cell, reinterpret_cast<BoolExpr*>(clause)->args)
        arms = lappend(arms, make_ands_implicit(static_cast<Expr*>(lfirst(cell))));
    return arms;
}

List* cases_listed(List* clauses) {
    ListCell* cell;
    foreach (cell, clauses) {
        List* arms = arms_of(static_cast<Expr*>(lfirst(cell)));
        if (arms == NIL || list_length(arms) > kMaxCases)
            continue;
        List* others = list_delete_nth_cell(list_copy(clauses), foreach_current_index(cell));
        ListCell* arm;
        foreach (arm, arms)
            lfirst(arm) = list_concat_copy(others, static_cast<List*>(lfirst(arm)));
        return arms;
    }
    return NIL;
}

// --- by a column's values ---

// What a column is compared with.
struct Boundaries {
    Var* column;
    Expr* side; // the column as it is compared, NULL: only with NULL
    Oid family;
    Oid left;
    Oid type;
    Oid collation;
    Datum values[kMaxBoundaries];
    int count;
};

struct Gathering {
    Boundaries columns[kMaxColumns];
    int count;
};

static Var* plain_column(Node* side) {
    while (side != NULL && IsA(side, RelabelType))
        side = reinterpret_cast<Node*>(reinterpret_cast<RelabelType*>(side)->arg);
    return side != NULL && IsA(side, Var) && reinterpret_cast<Var*>(side)->varattno > 0
               ? reinterpret_cast<Var*>(side)
               : NULL;
}

static Boundaries* boundaries_of(Gathering* gathering, Var* column) {
    for (int i = 0; i < gathering->count; i++)
        if (gathering->columns[i].column->varattno == column->varattno)
            return &gathering->columns[i];
    if (gathering->count == kMaxColumns)
        return NULL;
    Boundaries* made = &gathering->columns[gathering->count++];
    *made = {};
    made->column = column;
    return made;
}

static void add_boundary(Gathering* gathering, const OpExpr* call) {
    if (list_length(call->args) != 2)
        return;
    Node* left = static_cast<Node*>(linitial(call->args));
    Node* right = static_cast<Node*>(lsecond(call->args));
    Oid operation = call->opno;
    if (IsA(left, Const)) {
        Node* constant = left;
        left = right;
        right = constant;
        operation = get_commutator(operation);
    }
    Var* column = plain_column(left);
    if (column == NULL || !IsA(right, Const) || reinterpret_cast<Const*>(right)->constisnull ||
        !OidIsValid(operation) ||
        (OidIsValid(call->inputcollid) && call->inputcollid != DEFAULT_COLLATION_OID &&
         call->inputcollid != C_COLLATION_OID))
        return;
    List* meanings = operator_meanings(operation);
    Boundaries* at = meanings == NIL ? NULL : boundaries_of(gathering, column);
    if (at == NULL || at->count == kMaxBoundaries)
        return;
    const OperatorMeaning* meaning = static_cast<const OperatorMeaning*>(linitial(meanings));
    Oid type = reinterpret_cast<Const*>(right)->consttype;
    if (at->side == NULL) {
        at->side = reinterpret_cast<Expr*>(left);
        at->family = meaning->opfamily_id;
        at->left = meaning->oplefttype;
        at->type = meaning->oprighttype;
        at->collation = call->inputcollid;
    }
    if (at->family == meaning->opfamily_id && at->left == meaning->oplefttype &&
        at->type == meaning->oprighttype && at->type == type &&
        at->collation == call->inputcollid && equal(at->side, left))
        at->values[at->count++] = reinterpret_cast<Const*>(right)->constvalue;
}

static bool gather(Node* node, void* context) {
    Gathering* gathering = static_cast<Gathering*>(context);
    if (node == NULL)
        return false;
    if (IsA(node, OpExpr))
        add_boundary(gathering, reinterpret_cast<OpExpr*>(node));
    else if (IsA(node, NullTest)) {
        Var* column = plain_column(reinterpret_cast<Node*>(reinterpret_cast<NullTest*>(node)->arg));
        if (column != NULL && !reinterpret_cast<NullTest*>(node)->argisrow)
            (void)boundaries_of(gathering, column);
    } else if (IsA(node, Var) && reinterpret_cast<Var*>(node)->vartype == BOOLOID &&
               reinterpret_cast<Var*>(node)->varattno > 0)
        (void)boundaries_of(gathering, reinterpret_cast<Var*>(node));
    return walk_tree(node, gather, context);
}

static Expr* null_test(Var* column, NullTestType kind) {
    NullTest* test = makeNode(NullTest);
    test->arg = reinterpret_cast<Expr*>(column);
    test->nulltesttype = kind;
    test->argisrow = false;
    test->location = -1;
    return reinterpret_cast<Expr*>(test);
}

static Expr* against(const Boundaries* at, int strategy, int value) {
    Oid operation =
        get_opfamily_member(at->family, at->left, at->type, static_cast<int16>(strategy));
    return OidIsValid(operation)
               ? comparison(operation, at->side, at->type, at->values[value], at->collation)
               : NULL;
}

static List* region(List* clauses, Expr* one, Expr* other) {
    List* all = lappend(list_copy(clauses), one);
    return other == NULL ? all : lappend(all, other);
}

// Below, at and between the boundaries, and above.
static List* ranges(List* clauses, Boundaries* at) {
    at->count = cases_sort(at->type, at->collation, at->values, at->count);
    List* cases = NIL;
    for (int i = 0; i < at->count; i++) {
        Expr* below = against(at, BTLessStrategyNumber, i);
        Expr* equals = against(at, BTEqualStrategyNumber, i);
        Expr* above = i == 0 ? NULL : against(at, BTGreaterStrategyNumber, i - 1);
        if (below == NULL || equals == NULL || (i > 0 && above == NULL))
            return NIL;
        cases = lappend(cases, region(clauses, below, above));
        cases = lappend(cases, region(clauses, equals, NULL));
    }
    Expr* top = at->count == 0 ? NULL : against(at, BTGreaterStrategyNumber, at->count - 1);
    return top == NULL ? NIL : lappend(cases, region(clauses, top, NULL));
}

List* cases_by_column(List* clauses, List* conditions, int number) {
    Gathering gathering = {};
    (void)gather(reinterpret_cast<Node*>(conditions), &gathering);
    Boundaries* at = &gathering.columns[number];
    if (number >= gathering.count || at->column == NULL)
        return NIL;
    Expr* column = reinterpret_cast<Expr*>(at->column);
    List* cases = NIL;
    if (at->column->vartype == BOOLOID)
        cases = list_make2(region(clauses, column, NULL),
                           region(clauses, make_notclause(column), NULL));
    else if (at->count > 0)
        cases = ranges(clauses, at);
    else
        cases = list_make1(region(clauses, null_test(at->column, IS_NOT_NULL), NULL));
    return cases == NIL ? NIL
                        : lappend(cases, region(clauses, null_test(at->column, IS_NULL), NULL));
}
