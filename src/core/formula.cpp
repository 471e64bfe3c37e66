// Reading a formula: its words, its grammar by descent, and the kinds of its values.
#include "formula.h"

#include "formula_words.h"

namespace leadroute::core {

namespace {

struct Function {
    std::string_view name;
    FormulaFunction function;
    int least, most; // arguments
};
constexpr int kAny = 1000000;
constexpr Function kFunctions[] = {
    {"AND", FormulaFunction::logic_and, 1, kAny},
    {"OR", FormulaFunction::logic_or, 1, kAny},
    {"NOT", FormulaFunction::negation, 1, 1},
    {"IF", FormulaFunction::condition, 3, 3},
    {"CASE", FormulaFunction::choice, 4, kAny},
    {"ISPICKVAL", FormulaFunction::is_picked, 2, 2},
    {"ISBLANK", FormulaFunction::is_blank, 1, 1},
    {"ISNULL", FormulaFunction::is_blank, 1, 1},
    {"BLANKVALUE", FormulaFunction::blank_value, 2, 2},
    {"NULLVALUE", FormulaFunction::blank_value, 2, 2},
    {"TEXT", FormulaFunction::text, 1, 1},
    {"BEGINS", FormulaFunction::begins, 2, 2},
    {"CONTAINS", FormulaFunction::contains, 2, 2},
    {"INCLUDES", FormulaFunction::includes, 2, 2},
    {"LEN", FormulaFunction::length, 1, 1},
    {"LEFT", FormulaFunction::left, 2, 2},
    {"RIGHT", FormulaFunction::right, 2, 2},
    {"LOWER", FormulaFunction::lower, 1, 1},
    {"UPPER", FormulaFunction::upper, 1, 1},
    {"TRIM", FormulaFunction::trim, 1, 1},
    {"ABS", FormulaFunction::absolute, 1, 1},
    {"ROUND", FormulaFunction::round, 2, 2},
    {"TODAY", FormulaFunction::today, 0, 0},
    {"NOW", FormulaFunction::now, 0, 0},
};

struct Infix {
    std::string_view text;
    int level; // binds tighter the higher
    FormulaOp op;
    std::string_view sql;
};
constexpr Infix kInfixes[] = {
    {"||", 1, FormulaOp::logic, "OR"},        {"&&", 2, FormulaOp::logic, "AND"},
    {"=", 3, FormulaOp::comparison, "="},     {"==", 3, FormulaOp::comparison, "="},
    {"<>", 3, FormulaOp::comparison, "<>"},   {"!=", 3, FormulaOp::comparison, "<>"},
    {"<", 3, FormulaOp::comparison, "<"},     {">", 3, FormulaOp::comparison, ">"},
    {"<=", 3, FormulaOp::comparison, "<="},   {">=", 3, FormulaOp::comparison, ">="},
    {"&", 4, FormulaOp::concatenation, "||"}, {"+", 4, FormulaOp::arithmetic, "+"},
    {"-", 4, FormulaOp::arithmetic, "-"},     {"*", 5, FormulaOp::arithmetic, "*"},
    {"/", 5, FormulaOp::arithmetic, "/"},
};

class Parser {
  public:
    Parser(std::string_view formula, const FormulaField* fields, int field_count, FormulaTree* tree,
           TextProblem* problem) noexcept
        : words_(formula, problem), fields_(fields), field_count_(field_count), tree_(tree),
          problem_(problem) {}

    bool run() noexcept {
        tree_->count = 0;
        words_.next();
        tree_->root = infix(1);
        if (tree_->root >= 0 && words_.kind() != WordKind::end)
            (void)fail("unexpected", words_.text(), words_.at());
        if (tree_->root >= 0 && problem_->what == nullptr)
            (void)want(tree_->root, FormulaKind::boolean, 0, "the formula must be true or false");
        return problem_->what == nullptr;
    }

  private:
    FormulaWords words_;
    const FormulaField* fields_;
    int field_count_;
    FormulaTree* tree_;
    TextProblem* problem_;
    int depth_ = 0;
    int infixes_ = 0;

    // The first problem found is the one that is told.
    int fail(const char* what, std::string_view subject, size_t at) noexcept {
        if (problem_->what == nullptr)
            *problem_ = {what, subject, at, false};
        return -1;
    }
    FormulaNode& node(int index) noexcept { return tree_->nodes[index]; }
    int add(FormulaOp op, FormulaKind kind, std::string_view text) noexcept {
        tree_->nodes[tree_->count] = {op, kind, FormulaFunction::none, -1, -1, text, nullptr};
        return tree_->count++;
    }
    bool want(int index, FormulaKind kind, size_t at, const char* what) noexcept {
        if (node(index).kind == kind)
            return true;
        (void)fail(what, {}, at);
        return false;
    }
    // The kind of two values that are compared or stand in for each other; list: none.
    FormulaKind common(int a, int b) noexcept {
        FormulaKind left = node(a).kind, right = node(b).kind;
        if (left == FormulaKind::blank)
            return right;
        return right == FormulaKind::blank || left == right ? left : FormulaKind::list;
    }

    int infix(int least) noexcept {
        if (++depth_ > kMaxFormulaDepth)
            return fail("nested too deeply", {}, words_.at());
        int left = prefix();
        while (left >= 0 && words_.kind() == WordKind::sign) {
            const Infix* found = nullptr;
            for (const Infix& one : kInfixes) {
                if (one.text == words_.text() && one.level >= least)
                    found = &one;
            }
            if (found == nullptr)
                break;
            size_t at = words_.at();
            if (++infixes_ > kMaxFormulaInfixes)
                return fail("too many operators", {}, at);
            words_.next();
            int right = infix(found->level + 1);
            left = right < 0 ? -1 : binary(*found, left, right, at);
        }
        depth_--;
        return left;
    }

    int binary(const Infix& infix, int left, int right, size_t at) noexcept {
        FormulaKind kind = common(left, right);
        FormulaOp op = infix.op;
        FormulaKind result = FormulaKind::boolean;
        if (op == FormulaOp::logic) {
            if (!want(left, FormulaKind::boolean, at, "this joins what is true or false") ||
                !want(right, FormulaKind::boolean, at, "this joins what is true or false"))
                return -1;
            if (node(left).op == FormulaOp::logic && node(left).text == infix.sql) {
                node(last_of(node(left).first)).next = right;
                return left;
            }
        } else if (op == FormulaOp::comparison) {
            if (kind == FormulaKind::list)
                return fail("these values are not of one type", infix.text, at);
        } else {
            if (infix.text == "+" && kind == FormulaKind::text)
                op = FormulaOp::concatenation;
            result = op == FormulaOp::concatenation ? kind : computed(infix, left, right);
            if (result == FormulaKind::blank || result == FormulaKind::boolean ||
                result == FormulaKind::list ||
                (op == FormulaOp::concatenation && kind != FormulaKind::text))
                return fail("no such calculation with values of these types", infix.text, at);
        }
        int index = add(op, result, op == FormulaOp::concatenation ? "||" : infix.sql);
        node(index).first = left;
        node(left).next = right;
        return index;
    }
    int last_of(int index) noexcept {
        while (node(index).next >= 0)
            index = node(index).next;
        return index;
    }
    // Numbers, and days added to a date.
    FormulaKind computed(const Infix& infix, int left, int right) noexcept {
        FormulaKind a = node(left).kind, b = node(right).kind;
        if (a == FormulaKind::number && b == FormulaKind::number)
            return FormulaKind::number;
        bool dated = a == FormulaKind::date || a == FormulaKind::datetime;
        if (infix.level == 4 && dated && b == FormulaKind::number)
            return a;
        if (infix.text == "-" && a == FormulaKind::date && b == FormulaKind::date)
            return FormulaKind::number;
        return FormulaKind::blank;
    }

    int prefix() noexcept {
        size_t at = words_.at();
        if (words_.is("!") || words_.is("-")) {
            bool negation = words_.is("!");
            words_.next();
            if (++depth_ > kMaxFormulaDepth)
                return fail("nested too deeply", {}, at);
            int inner = prefix();
            depth_--;
            if (inner < 0)
                return -1;
            FormulaKind kind = negation ? FormulaKind::boolean : FormulaKind::number;
            if (!want(inner, kind, at, "this cannot stand before such a value"))
                return -1;
            int index = add(negation ? FormulaOp::negation : FormulaOp::minus, kind, {});
            node(index).first = inner;
            return index;
        }
        return primary();
    }

    int primary() noexcept {
        const std::string_view text = words_.text();
        const size_t at = words_.at();
        const WordKind kind = words_.kind();
        if (kind == WordKind::bad)
            return -1;
        if (kind == WordKind::end)
            return fail("the formula ends too early", {}, at);
        words_.next();
        if (kind == WordKind::number)
            return add(FormulaOp::literal, FormulaKind::number, text);
        if (kind == WordKind::text)
            return add(FormulaOp::literal, FormulaKind::text, text);
        if (kind == WordKind::name)
            return words_.is("(") ? call(text, at) : named(text, at);
        if (text != "(")
            return fail("unexpected", text, at);
        int inner = infix(1);
        if (inner < 0)
            return -1;
        if (!words_.is(")"))
            return fail("a closing parenthesis is missing", {}, words_.at());
        words_.next();
        return inner;
    }

    int named(std::string_view name, size_t at) noexcept {
        if (same_word(name, "TRUE") || same_word(name, "FALSE"))
            return add(FormulaOp::truth, FormulaKind::boolean,
                       same_word(name, "TRUE") ? "true" : "false");
        if (same_word(name, "NULL"))
            return add(FormulaOp::blank, FormulaKind::blank, {});
        const FormulaField* field = find(name);
        if (field == nullptr) {
            (void)fail("no such field in the field map:", name, at);
            problem_->unknown_field = problem_->subject == name;
            return -1;
        }
        int index = add(FormulaOp::field, field->kind, {});
        node(index).field = field;
        return index;
    }
    // A formula names the record's own fields without their object, criteria with it.
    const FormulaField* find(std::string_view name) const noexcept {
        for (int i = 0; i < field_count_; i++) {
            if (same_word(fields_[i].name, name))
                return &fields_[i];
        }
        for (int i = 0; i < field_count_; i++) {
            if (same_word(own_field(fields_[i].name), own_field(name)))
                return &fields_[i];
        }
        return nullptr;
    }
    static std::string_view own_field(std::string_view name) noexcept {
        bool own = name.size() > 5 &&
                   (same_word(name.substr(0, 5), "Lead.") || same_word(name.substr(0, 5), "Case."));
        return own ? name.substr(5) : name;
    }

    int call(std::string_view name, size_t at) noexcept {
        const Function* function = nullptr;
        for (const Function& one : kFunctions) {
            if (same_word(one.name, name))
                function = &one;
        }
        if (function == nullptr)
            return fail("not translated: the function", name, at);
        words_.next();
        int index = add(FormulaOp::call, FormulaKind::boolean, {});
        node(index).function = function->function;
        int count = 0;
        int last = -1;
        while (!words_.is(")")) {
            if (count > 0 && !words_.is(","))
                return fail("a comma or closing parenthesis is missing", {}, words_.at());
            if (count > 0)
                words_.next();
            int argument = infix(1);
            if (argument < 0)
                return -1;
            (last < 0 ? node(index).first : node(last).next) = argument;
            last = argument;
            count++;
        }
        words_.next();
        if (count < function->least || count > function->most)
            return fail("a wrong number of arguments for", name, at);
        return typed(index, count, name, at) ? index : -1;
    }

    int argument(int index, int number) noexcept {
        int at = node(index).first;
        while (number-- > 0)
            at = node(at).next;
        return at;
    }
    bool all(int index, FormulaKind kind) noexcept {
        for (int at = node(index).first; at >= 0; at = node(at).next) {
            if (node(at).kind != kind &&
                !(kind == FormulaKind::text && node(at).op == FormulaOp::blank))
                return false;
        }
        return true;
    }
    // Sets a call's kind by its arguments'.
    bool typed(int index, int count, std::string_view name, size_t at) noexcept {
        FormulaNode& call = node(index);
        int first = call.first;
        bool good = true;
        switch (call.function) {
        case FormulaFunction::logic_and:
        case FormulaFunction::logic_or:
        case FormulaFunction::negation:
            good = all(index, FormulaKind::boolean);
            break;
        case FormulaFunction::condition:
            call.kind = common(node(first).next, argument(index, 2));
            good = node(first).kind == FormulaKind::boolean && call.kind != FormulaKind::list &&
                   call.kind != FormulaKind::blank;
            break;
        case FormulaFunction::choice:
            good = typed_choice(index, count);
            break;
        case FormulaFunction::is_blank:
            break;
        case FormulaFunction::blank_value:
            call.kind = common(first, node(first).next);
            good = call.kind != FormulaKind::list && call.kind != FormulaKind::blank;
            break;
        case FormulaFunction::includes:
            good =
                (node(first).kind == FormulaKind::list || node(first).kind == FormulaKind::text) &&
                node(node(first).next).kind == FormulaKind::text;
            break;
        case FormulaFunction::length:
            call.kind = FormulaKind::number;
            good = all(index, FormulaKind::text);
            break;
        case FormulaFunction::left:
        case FormulaFunction::right:
            call.kind = FormulaKind::text;
            good = node(first).kind == FormulaKind::text &&
                   node(node(first).next).kind == FormulaKind::number;
            break;
        case FormulaFunction::absolute:
        case FormulaFunction::round:
            call.kind = FormulaKind::number;
            good = all(index, FormulaKind::number);
            break;
        case FormulaFunction::today:
            call.kind = FormulaKind::date;
            break;
        case FormulaFunction::now:
            call.kind = FormulaKind::datetime;
            break;
        case FormulaFunction::text:
        case FormulaFunction::lower:
        case FormulaFunction::upper:
        case FormulaFunction::trim:
            call.kind = FormulaKind::text;
            [[fallthrough]];
        case FormulaFunction::is_picked:
        case FormulaFunction::begins:
        case FormulaFunction::contains:
        case FormulaFunction::none:
            good = all(index, FormulaKind::text);
            break;
        }
        if (!good)
            (void)fail("arguments of other types are expected by", name, at);
        return good;
    }
    // CASE(value, option, result, ..., else)
    bool typed_choice(int index, int count) noexcept {
        if (count % 2 != 0)
            return false;
        int value = node(index).first;
        int otherwise = argument(index, count - 1);
        FormulaKind kind = node(otherwise).kind;
        if (node(value).kind == FormulaKind::list || node(value).kind == FormulaKind::blank)
            return false;
        for (int option = node(value).next; option != otherwise;
             option = node(node(option).next).next) {
            int result = node(option).next;
            if (common(value, option) == FormulaKind::list)
                return false;
            if (kind == FormulaKind::blank)
                kind = node(result).kind;
            if (node(result).kind != kind && node(result).kind != FormulaKind::blank)
                return false;
        }
        node(index).kind = kind;
        return kind != FormulaKind::blank && kind != FormulaKind::list;
    }
};

} // namespace

bool formula_parse(std::string_view formula, const FormulaField* fields, int field_count,
                   FormulaTree* tree, TextProblem* problem) noexcept {
    return Parser(formula, fields, field_count, tree, problem).run();
}

} // namespace leadroute::core
