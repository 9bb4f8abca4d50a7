// Which parts of the address space were in use, and which outside, over time: a table of regions and
// stretches of time whose size never changes. Regions double when there are too many of them, and so do
// stretches. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace farswap {

/// One thread. Allocates all that it ever has when it is made, but for the names. Addresses of all processes
/// of a job lie in one space: forks have the same, and others are seldom in each other's way.
class Regions {
  public:
    static constexpr std::size_t kRowsMax = 256;
    static constexpr std::size_t kColumnsMax = 128;  ///< even
    static constexpr unsigned kLeastShift = 18;      ///< a region is 2^18 bytes at first
    static constexpr std::size_t kNamesMax = 64;
    static constexpr std::size_t kNameBytesMax = 80;

    /// In one region during one stretch.
    struct Cell {
        std::uint32_t refaults = 0;   ///< pages that came back because they were touched
        std::uint32_t far_pages = 0;  ///< outside at its end, by the last pass that was complete
    };
    struct Row {
        std::uint64_t key = 0;       ///< address divided by the size of a region
        std::uint32_t refaults = 0;  ///< in this stretch
        std::uint32_t far_pages = 0, far_in_pass = 0;
        std::uint32_t mapped_pages = 0, mapped_now = 0;  ///< the most, and now
        std::uint32_t named_pages = 0;                   ///< under its name, at the last look
        std::uint16_t name = 0;
    };

    Regions();

    /// The page at `address` is wanted back. Costs one look into a table; with no row free it is left out
    /// until make_room().
    void refault(std::uint64_t address) noexcept {
        if (Row* row = row_of(address)) row->refaults++;
    }
    /// Larger regions if there were more than fit. To be called now and then, not while somebody waits.
    void make_room();

    /// A pass over all pages that are outside; several calls of note_far() between these two.
    void begin_pass() noexcept;
    void note_far(std::uint64_t address) noexcept {
        if (Row* row = row_of(address)) row->far_in_pass++;
    }
    void end_pass() noexcept;

    /// All that is mapped and may be paged, from begin_mapped() on.
    void begin_mapped() noexcept;
    /// `sparse`: only regions of it that were in use are rows.
    void note_mapped(std::uint64_t start, std::uint64_t end, bool sparse);

    /// What mappings are called, from begin_names() on.
    void begin_names() noexcept;
    void note_name(std::uint64_t start, std::uint64_t end, std::string_view name);

    /// A stretch of time has ended. To be called at a steady pace.
    void end_stretch(std::uint64_t at_ms);
    /// What has not become a column yet becomes one.
    void finish();

    bool empty() const noexcept { return used_ == 0; }
    std::uint64_t region_bytes() const noexcept { return std::uint64_t{1} << shift_; }
    std::size_t columns() const noexcept { return columns_; }
    std::uint64_t ended_ms(std::size_t column) const noexcept { return ended_ms_[column]; }
    /// The numbers of the rows that are in use, by address.
    std::vector<std::size_t> rows_by_address() const;
    const Row& row(std::size_t number) const noexcept { return rows_[number]; }
    const Cell& cell(std::size_t row, std::size_t column) const noexcept {
        return cells_[row * kColumnsMax + column];
    }
    const std::string& name_of(const Row& row) const noexcept { return names_[row.name]; }

  private:
    static constexpr std::size_t kSlots = 1024;  // a power of two, several times kRowsMax
    static constexpr std::uint16_t kNone = 0xffff;

    Row* row_of(std::uint64_t address) noexcept;
    std::size_t slot_of(std::uint64_t key) const noexcept;
    void coarsen();
    void merge_row(std::size_t into, std::size_t from);
    void push();
    void halve();
    std::uint16_t number_of(std::string_view name);
    static void add_mapped(Row& row, std::uint64_t bytes) noexcept;

    std::vector<Row> rows_;
    std::vector<Cell> cells_;
    std::array<std::uint16_t, kSlots> slots_{};  ///< a row's number by its key, or kNone
    std::size_t used_ = 0;                       ///< rows
    unsigned shift_ = kLeastShift;
    bool is_full_ = false;  ///< a row was wanted that there was no room for
    std::size_t columns_ = 0;
    std::array<std::uint64_t, kColumnsMax> ended_ms_{};
    std::uint64_t pending_ms_ = 0;
    std::uint32_t calls_ = 0, calls_each_ = 1;
    std::vector<std::string> names_{""};
};

}  // namespace farswap
