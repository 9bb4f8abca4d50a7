// Fills the rectangle; see text_grid.h.
#include "cli/text_grid.h"

#include <algorithm>
#include <utility>

namespace farswap::cli {

namespace {

/// Latin, Greek, Cyrillic, arrows, boxes and blocks: those of which no terminal doubts the width. Not 0xad, a
/// hyphen that may be invisible, nor the combining ones from 0x300 on and 0x483 on.
bool is_one_column(char32_t c) {
    return (c >= 0x20 && c < 0x7f) || (c >= 0xa1 && c < 0x300 && c != 0xad) || (c >= 0x391 && c < 0x482) ||
           (c >= 0x2190 && c < 0x2194) || (c >= 0x2500 && c < 0x25a0);
}

/// The next character and how many bytes it has (RFC 3629, section 3); '?' and 1 for a byte that begins none.
std::pair<char32_t, std::size_t> decode(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return {first, 1};
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < length) return {U'?', 1};
    char32_t c = first & (0xffu >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {U'?', 1};
        c = c << 6 | (byte(i) & 0x3fu);
    }
    return {c, length};
}

void append(std::string& text, char32_t c) {
    const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (c >> shift & 0x3f)); };
    if (c < 0x80) {
        text += static_cast<char>(c);
    } else if (c < 0x800) {
        text += static_cast<char>(0xc0 | c >> 6);
        tail(0);
    } else {
        text += static_cast<char>(0xe0 | (c >> 12 & 0xf));
        tail(6);
        tail(0);
    }
}

}  // namespace

std::u32string printable(std::string_view text) {
    std::u32string characters;
    while (!text.empty()) {
        const auto [c, length] = decode(text);
        characters += is_one_column(c) ? c : U'?';
        text.remove_prefix(length);
    }
    return characters;
}

std::string utf8(std::u32string_view text) {
    std::string bytes;
    for (const char32_t c : text) append(bytes, c);
    return bytes;
}

void TextGrid::put(std::size_t row, std::size_t column, char32_t glyph, Style style) {
    if (row < rows_ && column < columns_) cells_[row * columns_ + column] = {glyph, style};
}

std::size_t TextGrid::put(std::size_t row, std::size_t column, std::string_view text, Style style,
                          std::size_t width) {
    const auto characters = printable(text);
    const auto count = std::min(characters.size(), width);
    for (std::size_t i = 0; i < count; ++i) put(row, column + i, characters[i], style);
    return column + count;
}

void TextGrid::put_right(std::size_t row, std::size_t end, std::string_view text, Style style) {
    const auto characters = printable(text);
    if (characters.size() <= end) put(row, end - characters.size(), text, style);
}

void TextGrid::style_row(std::size_t row, Style style) {
    for (std::size_t column = 0; row < rows_ && column < columns_; ++column) {
        auto& cell = cells_[row * columns_ + column];
        if (cell.style == Style::kPlain) cell.style = style;
    }
}

std::string TextGrid::text() const {
    std::string lines;
    for (std::size_t row = 0; row < rows_; ++row) {
        std::u32string line;
        for (std::size_t column = 0; column < columns_; ++column) line += at(row, column).glyph;
        line.resize(line.find_last_not_of(U' ') + 1);
        lines += utf8(line) + "\n";
    }
    return lines;
}

}  // namespace farswap::cli
