// Criteria combined by number. AND binds tighter than OR, as in SQL; NOT tighter than both.
// Salesforce asks for parentheses where the two meet, so that no filter depends on it.
#include "formula.h"
#include "formula_words.h"

#include <cstdint>

namespace leadroute::core {

namespace {

class Filter {
  public:
    Filter(std::string_view filter, const std::string_view* conditions, int count, SqlText* sql,
           TextProblem* problem) noexcept
        : words_(filter, problem), conditions_(conditions), count_(count), sql_(sql),
          problem_(problem) {}

    bool run() noexcept {
        words_.next();
        bool good = terms() && (words_.kind() == WordKind::end ||
                                fail("unexpected", words_.text(), words_.at()));
        return good && problem_->what == nullptr;
    }

  private:
    FormulaWords words_;
    const std::string_view* conditions_;
    int count_;
    SqlText* sql_;
    TextProblem* problem_;
    int depth_ = 0;

    bool fail(const char* what, std::string_view subject, size_t at) noexcept {
        if (problem_->what == nullptr)
            *problem_ = {what, subject, at, false};
        return false;
    }
    bool is(std::string_view word) const noexcept {
        return words_.kind() == WordKind::name && same_word(words_.text(), word);
    }

    bool terms() noexcept {
        if (++depth_ > kMaxFormulaDepth)
            return fail("nested too deeply", {}, words_.at());
        for (;;) {
            if (!term())
                return false;
            if (!is("AND") && !is("OR"))
                break;
            *sql_ << (is("AND") ? " AND " : " OR ");
            words_.next();
        }
        depth_--;
        return true;
    }
    // NOT makes true of what is false or NULL, as blank is in Salesforce.
    bool term() noexcept {
        bool negated = false;
        for (; is("NOT"); words_.next())
            negated = !negated;
        if (negated && !words_.is("("))
            *sql_ << "(";
        bool good = words_.is("(") ? group() : criterion();
        if (negated)
            *sql_ << (words_closed_group_ ? " IS NOT TRUE" : ") IS NOT TRUE");
        return good;
    }
    bool group() noexcept {
        *sql_ << "(";
        words_.next();
        if (!terms())
            return false;
        if (!words_.is(")"))
            return fail("a closing parenthesis is missing", {}, words_.at());
        words_.next();
        *sql_ << ")";
        words_closed_group_ = true;
        return true;
    }
    bool criterion() noexcept {
        words_closed_group_ = false;
        if (words_.kind() != WordKind::number)
            return fail(words_.kind() == WordKind::end
                            ? "it ends too early"
                            : "the number of a criterion is expected before",
                        words_.text(), words_.at());
        int number = 0;
        for (char c : words_.text())
            number = is_digit(c) && number <= count_ ? number * 10 + (c - '0') : count_ + 1;
        if (number < 1 || number > count_)
            return fail("no criterion has the number", words_.text(), words_.at());
        *sql_ << conditions_[number - 1];
        words_.next();
        return true;
    }
    bool words_closed_group_ = false; // the latest term was one in parentheses
};

} // namespace

bool filter_write(std::string_view filter, const std::string_view* conditions, int count,
                  SqlText* sql, TextProblem* problem) noexcept {
    return Filter(filter, conditions, count, sql, problem).run();
}

} // namespace leadroute::core
