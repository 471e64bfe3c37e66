// The words of a formula or of a filter: names, numbers, texts in quotes, signs. Comments are
// blanks.
#pragma once

#include "sql_text.h"

namespace leadroute::core {

enum class WordKind { end, bad, name, number, text, sign };

inline bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}
inline char upper(char c) noexcept {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}
inline bool same_word(std::string_view a, std::string_view b) noexcept {
    bool same = a.size() == b.size();
    for (size_t i = 0; same && i < a.size(); i++)
        same = upper(a[i]) == upper(b[i]);
    return same;
}

class FormulaWords {
  public:
    FormulaWords(std::string_view source, TextProblem* problem) noexcept
        : source_(source), problem_(problem) {}

    WordKind kind() const noexcept { return kind_; }
    // Of a text what is between the quotes, as it is written there.
    std::string_view text() const noexcept { return text_; }
    size_t at() const noexcept { return at_; }
    bool is(std::string_view sign) const noexcept {
        return kind_ == WordKind::sign && text_ == sign;
    }
    // Goes to the next word; bad, with the problem told, where there is none.
    void next() noexcept;

  private:
    std::string_view source_;
    TextProblem* problem_;
    size_t position_ = 0;
    WordKind kind_ = WordKind::end;
    std::string_view text_;
    size_t at_ = 0;

    bool skip_blanks() noexcept;
    void take_text(char quote) noexcept;
    void take(WordKind kind, size_t length) noexcept;
    void refuse(const char* what, std::string_view subject) noexcept;
    char peek(size_t ahead) const noexcept {
        return position_ + ahead < source_.size() ? source_[position_ + ahead] : '\0';
    }
};

} // namespace leadroute::core
