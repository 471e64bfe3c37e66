// Splitting a formula into words.
#include "formula_words.h"

namespace leadroute::core {

namespace {

bool is_blank(char c) noexcept {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
bool begins_name(char c) noexcept {
    return (upper(c) >= 'A' && upper(c) <= 'Z') || c == '_' || c == '$';
}
bool goes_on_in_name(char c) noexcept {
    return begins_name(c) || is_digit(c) || c == '.' || c == ':';
}

} // namespace

void FormulaWords::take(WordKind kind, size_t length) noexcept {
    kind_ = kind;
    text_ = source_.substr(position_, length);
    position_ += length;
}

void FormulaWords::refuse(const char* what, std::string_view subject) noexcept {
    kind_ = WordKind::bad;
    text_ = subject;
    if (problem_->what == nullptr)
        *problem_ = {what, subject, at_, false};
}

// False: within a comment that does not end.
bool FormulaWords::skip_blanks() noexcept {
    for (;;) {
        while (position_ < source_.size() && is_blank(source_[position_]))
            position_++;
        if (peek(0) != '/' || peek(1) != '*')
            return true;
        size_t end = source_.find("*/", position_ + 2);
        if (end == std::string_view::npos)
            return false;
        position_ = end + 2;
    }
}

void FormulaWords::take_text(char quote) noexcept {
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote)
        end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size())
        return refuse("a text without its closing quote", {});
    kind_ = WordKind::text;
    text_ = source_.substr(position_ + 1, end - position_ - 1);
    position_ = end + 1;
}

void FormulaWords::next() noexcept {
    if (kind_ == WordKind::bad)
        return;
    bool closed = skip_blanks();
    at_ = position_;
    if (!closed)
        return refuse("a comment without its end", {});
    if (position_ == source_.size())
        return take(WordKind::end, 0);
    char c = source_[position_];
    size_t length = 1;
    if (c == '"' || c == '\'')
        return take_text(c);
    if (begins_name(c)) {
        while (goes_on_in_name(peek(length)))
            length++;
        return take(WordKind::name, length);
    }
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) {
        while (is_digit(peek(length)))
            length++;
        if (c != '.' && peek(length) == '.' && is_digit(peek(length + 1))) {
            length++;
            while (is_digit(peek(length)))
                length++;
        }
        return take(WordKind::number, length);
    }
    for (std::string_view sign : {"||", "&&", "<>", "!=", "==", "<=", ">="}) {
        if (source_.substr(position_, 2) == sign)
            return take(WordKind::sign, 2);
    }
    if (std::string_view("=<>+-*/&!(),").find(c) == std::string_view::npos) {
        // a whole character in UTF-8
        while ((peek(length) & 0xC0) == 0x80)
            length++;
        return refuse("not translated:", source_.substr(position_, length));
    }
    take(WordKind::sign, 1);
}

} // namespace leadroute::core
