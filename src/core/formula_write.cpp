// Writing a formula as SQL: plain comparisons of a column with a value where it says no more, since
// those are what people read and what can be looked up.
#include "formula.h"

namespace leadroute::core {

namespace {

bool is_blank(const FormulaNode& node) noexcept {
    return node.op == FormulaOp::blank || (node.op == FormulaOp::literal && node.text.empty());
}

class Writer {
  public:
    Writer(const FormulaTree& tree, SqlText* sql) noexcept : tree_(tree), sql_(*sql) {}

    void value(int index) noexcept {
        const FormulaNode& node = tree_.nodes[index];
        switch (node.op) {
        case FormulaOp::field:
            if (node.kind == FormulaKind::text)
                sql_ << "coalesce(" << node.field->sql << ", '')";
            else
                sql_ << node.field->sql;
            break;
        case FormulaOp::literal:
            if (node.kind == FormulaKind::text)
                literal(node.text, false);
            else
                sql_ << node.text;
            break;
        case FormulaOp::truth:
            sql_ << node.text;
            break;
        case FormulaOp::blank:
            sql_ << "NULL";
            break;
        case FormulaOp::logic:
            joined(node.first, node.text);
            break;
        case FormulaOp::negation:
            negation(node.first);
            break;
        case FormulaOp::comparison:
            comparison(node.text, node.first, next(node.first));
            break;
        case FormulaOp::arithmetic:
            arithmetic(node);
            break;
        case FormulaOp::concatenation:
            operand(node.first, FormulaKind::text);
            sql_ << " || ";
            operand(next(node.first), FormulaKind::text);
            break;
        case FormulaOp::minus:
            sql_ << "-";
            operand(node.first);
            break;
        case FormulaOp::call:
            call(node);
            break;
        }
    }

  private:
    const FormulaTree& tree_;
    SqlText& sql_;

    const FormulaNode& at(int index) const noexcept { return tree_.nodes[index]; }
    int next(int index) const noexcept { return at(index).next; }
    // In parentheses unless it is one thing to SQL.
    void operand(int index, FormulaKind kind = FormulaKind::blank) noexcept {
        bool whole = is_whole(at(index));
        sql_ << (whole ? "" : "(");
        typed(index, kind);
        sql_ << (whole ? "" : ")");
    }
    static bool is_whole(const FormulaNode& node) noexcept {
        switch (node.op) {
        case FormulaOp::field:
        case FormulaOp::literal:
        case FormulaOp::truth:
        case FormulaOp::blank:
            return true;
        case FormulaOp::call:
            return node.kind != FormulaKind::boolean ||
                   node.function == FormulaFunction::condition ||
                   node.function == FormulaFunction::choice ||
                   node.function == FormulaFunction::blank_value;
        default:
            return false;
        }
    }
    // A blank among texts is ''.
    void typed(int index, FormulaKind kind) noexcept {
        if (kind == FormulaKind::text && at(index).op == FormulaOp::blank)
            sql_ << "''";
        else
            value(index);
    }
    void joined(int first, std::string_view word) noexcept {
        for (int index = first; index >= 0; index = next(index)) {
            if (index != first)
                sql_ << " " << word << " ";
            operand(index);
        }
    }
    void negation(int index) noexcept {
        sql_ << "(";
        value(index);
        sql_ << ") IS NOT TRUE";
    }

    void literal(std::string_view source, bool pattern) noexcept {
        bool escapes = false;
        for (size_t i = 0; i < source.size(); i++) {
            char c = decoded(source, &i);
            escapes = escapes || c == '\\' || (pattern && (c == '%' || c == '_'));
        }
        sql_ << (escapes ? "E'" : "'");
        for (size_t i = 0; i < source.size(); i++) {
            char c = decoded(source, &i);
            if (pattern && (c == '%' || c == '_' || c == '\\'))
                sql_.literal_char('\\', true);
            sql_.literal_char(c, escapes);
        }
        sql_ << (pattern ? "%'" : "'");
    }
    static char decoded(std::string_view source, size_t* i) noexcept {
        if (source[*i] != '\\' || *i + 1 == source.size())
            return source[*i];
        char c = source[++*i];
        return c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
    }

    void comparison(std::string_view sign, int left, int right) noexcept {
        if (at(left).op == FormulaOp::literal || at(left).op == FormulaOp::blank) {
            bool turned = sign == "=" || sign == "<>";
            if (turned && at(right).op != FormulaOp::literal)
                return comparison(sign, right, left);
        }
        bool different = sign == "<>";
        FormulaKind kind = at(left).kind == FormulaKind::blank ? at(right).kind : at(left).kind;
        if ((different || sign == "=") && kind != FormulaKind::text && is_blank(at(right))) {
            operand(left);
            sql_ << (different ? " IS NOT NULL" : " IS NULL");
        } else if (kind == FormulaKind::boolean) {
            truth(left);
            sql_ << " " << sign << " ";
            truth(right);
        } else if (kind == FormulaKind::text) {
            text_comparison(sign, left, right);
        } else {
            operand(left);
            sql_ << " " << (different ? "IS DISTINCT FROM" : sign) << " ";
            operand(right);
        }
    }
    void truth(int index) noexcept {
        sql_ << "(";
        operand(index);
        sql_ << " IS TRUE)";
    }
    // A field and a text: a NULL need not be made '' to be another.
    void text_comparison(std::string_view sign, int left, int right) noexcept {
        bool plain = at(left).op == FormulaOp::field && at(right).op == FormulaOp::literal &&
                     !is_blank(at(right)) && (sign == "=" || sign == "<>");
        if (plain) {
            std::string_view field = at(left).field->sql;
            if (sign == "<>")
                sql_ << "(" << field << " IS NULL OR ";
            sql_ << field << " " << sign << " ";
            literal(at(right).text, false);
            sql_ << (sign == "<>" ? ")" : "");
            return;
        }
        operand(left, FormulaKind::text);
        sql_ << " " << sign << " ";
        operand(right, FormulaKind::text);
    }

    void arithmetic(const FormulaNode& node) noexcept {
        int left = node.first, right = next(left);
        bool days = node.kind == FormulaKind::date || node.kind == FormulaKind::datetime;
        bool share = node.text == "/";
        operand(left);
        sql_ << (share ? "::numeric " : " ") << node.text << " ";
        if (days) {
            sql_ << "(";
            value(right);
            sql_ << (node.kind == FormulaKind::date ? ")::integer" : ") * interval '1 day'");
        } else if (share) {
            call_of("nullif(", right, "::numeric, 0)");
        } else {
            operand(right);
        }
    }
    // opening, the operand, closing
    void call_of(std::string_view opening, int index, std::string_view closing) noexcept {
        sql_ << opening;
        operand(index);
        sql_ << closing;
    }
    void function(std::string_view name, int first) noexcept {
        sql_ << name << "(";
        for (int index = first; index >= 0; index = next(index)) {
            sql_ << (index == first ? "" : ", ");
            typed(index, FormulaKind::text);
        }
        sql_ << ")";
    }

    void call(const FormulaNode& node) noexcept {
        int first = node.first;
        switch (node.function) {
        case FormulaFunction::logic_and:
        case FormulaFunction::logic_or:
            joined(first, node.function == FormulaFunction::logic_and ? "AND" : "OR");
            break;
        case FormulaFunction::negation:
            return negation(first);
        case FormulaFunction::condition:
        case FormulaFunction::choice:
            return choice(node);
        case FormulaFunction::is_picked:
            return text_comparison("=", first, next(first));
        case FormulaFunction::is_blank:
            return blank_test(first);
        case FormulaFunction::blank_value:
            sql_ << (node.kind == FormulaKind::text ? "coalesce(nullif(" : "coalesce(");
            typed(first, node.kind);
            sql_ << (node.kind == FormulaKind::text ? ", ''), " : ", ");
            typed(next(first), node.kind);
            sql_ << ")";
            break;
        case FormulaFunction::text:
            return typed(first, FormulaKind::text);
        case FormulaFunction::begins:
            return prefix(first, next(first));
        case FormulaFunction::contains:
            function("strpos", first);
            sql_ << " > 0";
            break;
        case FormulaFunction::includes:
            return membership(first, next(first));
        default:
            return plain_call(node);
        }
    }
    // Calls that SQL has by another name, or with other types.
    void plain_call(const FormulaNode& node) noexcept {
        int first = node.first;
        switch (node.function) {
        case FormulaFunction::length:
            return function("length", first);
        case FormulaFunction::lower:
            return function("lower", first);
        case FormulaFunction::upper:
            return function("upper", first);
        case FormulaFunction::trim:
            return function("btrim", first);
        case FormulaFunction::left:
        case FormulaFunction::right:
            sql_ << (node.function == FormulaFunction::left ? "left(" : "right(");
            typed(first, FormulaKind::text);
            call_of(", greatest(", next(first), "::integer, 0))");
            break;
        case FormulaFunction::absolute:
            return function("abs", first);
        case FormulaFunction::round:
            call_of("round(", first, "::numeric, ");
            call_of("", next(first), "::integer)");
            break;
        case FormulaFunction::now:
            sql_ << "now()";
            break;
        default: // the condition's time zone is UTC, as everywhere in rules
            sql_ << "current_date";
            break;
        }
    }
    // IF(condition, then, else) and CASE(value, option, result, ..., else)
    void choice(const FormulaNode& node) noexcept {
        bool simple = node.function == FormulaFunction::choice;
        int index = node.first;
        FormulaKind options = at(index).kind;
        sql_ << "CASE";
        if (simple) {
            sql_ << " ";
            operand(index);
            index = next(index);
        }
        for (; next(index) >= 0; index = next(next(index))) {
            sql_ << " WHEN ";
            typed(index, options);
            sql_ << " THEN ";
            typed(next(index), node.kind);
        }
        sql_ << " ELSE ";
        typed(index, node.kind);
        sql_ << " END";
    }
    void blank_test(int index) noexcept {
        if (at(index).kind == FormulaKind::text) {
            operand(index);
            sql_ << " = ''";
        } else if (at(index).kind == FormulaKind::list) {
            call_of("coalesce(cardinality(", index, "), 0) = 0");
        } else {
            operand(index);
            sql_ << " IS NULL";
        }
    }
    void prefix(int text, int begins) noexcept {
        bool plain = at(text).op == FormulaOp::field && at(begins).op == FormulaOp::literal &&
                     !is_blank(at(begins));
        if (!plain)
            return function("starts_with", text);
        sql_ << at(text).field->sql << " LIKE ";
        literal(at(begins).text, true);
    }
    void membership(int list, int option) noexcept {
        if (at(list).kind == FormulaKind::list) {
            operand(option, FormulaKind::text);
            call_of(" = ANY (", list, ")");
            return;
        }
        call_of("strpos(';' || ", list, " || ';', ");
        call_of("';' || ", option, " || ';') > 0");
    }
};

} // namespace

void formula_write(const FormulaTree& tree, SqlText* sql) noexcept {
    Writer(tree, sql).value(tree.root);
}

} // namespace leadroute::core
