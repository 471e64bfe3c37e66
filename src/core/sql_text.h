// SQL text written into a buffer of the caller's. What does not fit is dropped and remembered.
#pragma once

#include <cstddef>
#include <cstring>
#include <string_view>

namespace leadroute::core {

// A piece of text that somebody else keeps.
using Piece = std::string_view;

class SqlText {
  public:
    SqlText(char* buffer, size_t room) noexcept : buffer_(buffer), room_(room) {}

    SqlText& operator<<(std::string_view piece) noexcept {
        overflown_ = overflown_ || piece.size() > room_ - used_;
        if (!overflown_) {
            memcpy(buffer_ + used_, piece.data(), piece.size());
            used_ += piece.size();
        }
        return *this;
    }
    // One character of a string literal between the quotes; `escapes` for a literal E'...'.
    void literal_char(char c, bool escapes) noexcept {
        if (c == '\'' || (c == '\\' && escapes))
            *this << std::string_view(&c, 1);
        *this << std::string_view(&c, 1);
    }
    bool overflown() const noexcept { return overflown_; }
    std::string_view text() const noexcept { return {buffer_, used_}; }

  private:
    char* buffer_;
    size_t room_;
    size_t used_ = 0;
    bool overflown_ = false;
};

// What is wrong with a text that is translated, and where in it (in bytes, from 0).
struct TextProblem {
    const char* what = nullptr;    // nullptr: nothing
    std::string_view subject = {}; // the piece of the text it is about; may be empty
    size_t at = 0;
    bool unknown_field = false; // subject is a field that nobody has mapped
};

} // namespace leadroute::core
