// Formulas of the Salesforce formula language, as assignment rules have them, translated to SQL
// conditions. What SQL cannot say the same way is refused with its position.
//
// Blank is one thing in a formula and two in SQL: a text that is NULL counts as ''. A comparison
// with a number or date that is NULL is not true. Comparisons of text are by case, as in a formula.
#pragma once

#include "sql_text.h"

#include <cstdint>

namespace leadroute::core {

enum class FormulaKind : uint8_t {
    text,
    number,
    boolean,
    date,
    datetime,
    list, // of texts: a multi-select picklist
    blank // the literal NULL, which is of any kind
};

// What a name in a formula stands for: an SQL operand (a column, or in parentheses).
struct FormulaField {
    std::string_view name;
    std::string_view sql;
    FormulaKind kind;
};

enum class FormulaOp : uint8_t {
    field,
    literal, // number or text
    truth,   // TRUE or FALSE
    blank,
    logic, // and, or
    negation,
    comparison,
    arithmetic,
    concatenation,
    minus,
    call
};

enum class FormulaFunction : uint8_t {
    logic_and,
    logic_or,
    negation,
    condition, // IF
    choice,    // CASE
    is_picked,
    is_blank,
    blank_value,
    text,
    begins,
    contains,
    includes,
    length,
    left,
    right,
    lower,
    upper,
    trim,
    absolute,
    round,
    today,
    now,
    none
};

// A formula's syntax tree, in an array. Children are chained: first, then each one's next; -1:
// none.
struct FormulaNode {
    FormulaOp op;
    FormulaKind kind;
    FormulaFunction function;
    int first;
    int next;
    std::string_view text; // literal without its quotes; operator as SQL writes it
    const FormulaField* field;
};

// Every node takes at least one byte of the formula, so that as many are enough as it has bytes.
struct FormulaTree {
    FormulaNode* nodes;
    int count;
    int root;
};

// The most levels of a formula or filter.
constexpr int kMaxFormulaDepth = 60;
// The most operators between values: their tree may be as deep.
constexpr int kMaxFormulaInfixes = 1000;

// Reads a formula into tree->nodes, which has room for formula.size() + 1. False: problem says why.
bool formula_parse(std::string_view formula, const FormulaField* fields, int field_count,
                   FormulaTree* tree, TextProblem* problem) noexcept;
// Writes a parsed formula of kind boolean as an SQL condition.
void formula_write(const FormulaTree& tree, SqlText* sql) noexcept;

// Criteria combined by number, such as `1 AND (2 OR NOT 3)`, where the conditions[] are operands of
// SQL. False: problem says why.
bool filter_write(std::string_view filter, const std::string_view* conditions, int count,
                  SqlText* sql, TextProblem* problem) noexcept;

} // namespace leadroute::core
