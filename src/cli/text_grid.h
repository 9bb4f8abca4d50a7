// A rectangle of characters with styles: what a screen shows, before there is a terminal. Knows nothing of
// what it means, nor of how it is shown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace farswap::cli {

/// A terminal without colours shows what differs by more than its colour: bold, reverse.
enum class Style : std::uint8_t { kPlain, kBold, kDim, kHeading, kSelected, kGraph, kGood, kWarning, kBad };

struct Cell {
    char32_t glyph = U' ';  ///< one column wide
    Style style = Style::kPlain;
    bool operator==(const Cell&) const = default;
};

class TextGrid {
  public:
    TextGrid(std::size_t rows, std::size_t columns)
        : rows_(rows), columns_(columns), cells_(rows * columns) {}

    std::size_t rows() const { return rows_; }
    std::size_t columns() const { return columns_; }
    const Cell& at(std::size_t row, std::size_t column) const { return cells_[row * columns_ + column]; }

    /// What lies outside of the grid is left out.
    void put(std::size_t row, std::size_t column, char32_t glyph, Style style = Style::kPlain);
    /// UTF-8, at most `width` columns of it; what is not one column wide or no text becomes '?'. The column
    /// behind it.
    std::size_t put(std::size_t row, std::size_t column, std::string_view text, Style style = Style::kPlain,
                    std::size_t width = ~std::size_t{0});
    /// So that it ends before column `end`.
    void put_right(std::size_t row, std::size_t end, std::string_view text, Style style = Style::kPlain);
    /// Gives the whole row the style, where it has none of its own.
    void style_row(std::size_t row, Style style);

    /// UTF-8, a line each row, without spaces at their ends.
    std::string text() const;

  private:
    std::size_t rows_, columns_;
    std::vector<Cell> cells_;
};

/// The characters of UTF-8 as a terminal may be given them: control characters (which could command it),
/// characters that are not one column wide and bytes that are no UTF-8 are '?'.
std::u32string printable(std::string_view text);
/// UTF-8 of characters.
std::string utf8(std::u32string_view text);

}  // namespace farswap::cli
