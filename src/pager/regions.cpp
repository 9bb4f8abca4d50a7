// Keeps the table; see regions.h.
#include "pager/regions.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "farswap/request.h"

namespace farswap {

Regions::Regions() : rows_(kRowsMax), cells_(kRowsMax * kColumnsMax) {
    slots_.fill(kNone);
    names_.reserve(kNamesMax);
}

/// Where the key is, or would be put: linear probing, and never full.
std::size_t Regions::slot_of(std::uint64_t key) const noexcept {
    std::size_t slot = (key * 0x9e3779b97f4a7c15u) >> 54;  // 2^64 by the golden ratio; ten bits of it
    while (slots_[slot] != kNone && rows_[slots_[slot]].key != key) slot = (slot + 1) % kSlots;
    return slot;
}

Regions::Row* Regions::row_of(std::uint64_t address) noexcept {
    const std::uint64_t key = address >> shift_;
    const std::size_t slot = slot_of(key);
    if (slots_[slot] != kNone) return &rows_[slots_[slot]];
    if (used_ == kRowsMax) {
        is_full_ = true;
        return nullptr;
    }
    slots_[slot] = static_cast<std::uint16_t>(used_);
    rows_[used_] = Row{.key = key};
    return &rows_[used_++];
}

void Regions::make_room() {
    if (!is_full_) return;
    // To a half: otherwise the next page would do it again.
    do coarsen();
    while (used_ > kRowsMax / 2);
    is_full_ = false;
}

void Regions::merge_row(std::size_t into, std::size_t from) {
    Row& row = rows_[into];
    const Row& other = rows_[from];
    row.refaults += other.refaults;
    row.far_pages += other.far_pages;
    row.far_in_pass += other.far_in_pass;
    row.mapped_pages += other.mapped_pages;
    row.mapped_now += other.mapped_now;
    if (other.named_pages > row.named_pages) {
        row.name = other.name;
        row.named_pages = other.named_pages;
    }
    for (std::size_t column = 0; column < columns_; column++) {
        Cell& cell = cells_[into * kColumnsMax + column];
        const Cell& more = cells_[from * kColumnsMax + column];
        cell.refaults += more.refaults;
        cell.far_pages += more.far_pages;
    }
}

/// Regions twice as large: rows move to lower numbers, or into those that have.
void Regions::coarsen() {
    shift_++;
    slots_.fill(kNone);
    const std::size_t before = std::exchange(used_, 0);
    for (std::size_t from = 0; from < before; from++) {
        const std::uint64_t key = rows_[from].key >> 1;
        const std::size_t slot = slot_of(key);
        if (slots_[slot] != kNone) {
            merge_row(slots_[slot], from);
            continue;
        }
        const std::size_t into = used_++;
        slots_[slot] = static_cast<std::uint16_t>(into);
        if (into != from) {
            rows_[into] = rows_[from];
            std::copy_n(cells_.begin() + static_cast<std::ptrdiff_t>(from * kColumnsMax), kColumnsMax,
                        cells_.begin() + static_cast<std::ptrdiff_t>(into * kColumnsMax));
        }
        rows_[into].key = key;
    }
    std::fill(cells_.begin() + static_cast<std::ptrdiff_t>(used_ * kColumnsMax), cells_.end(), Cell{});
}

void Regions::begin_pass() noexcept {
    for (std::size_t i = 0; i < used_; i++) rows_[i].far_in_pass = 0;
}

void Regions::end_pass() noexcept {
    for (std::size_t i = 0; i < used_; i++) rows_[i].far_pages = rows_[i].far_in_pass;
}

void Regions::begin_mapped() noexcept {
    for (std::size_t i = 0; i < used_; i++) rows_[i].mapped_now = 0;
}

void Regions::add_mapped(Row& row, std::uint64_t bytes) noexcept {
    row.mapped_now += static_cast<std::uint32_t>(bytes / kPageSize);
    row.mapped_pages = std::max(row.mapped_pages, row.mapped_now);
}

void Regions::note_mapped(std::uint64_t start, std::uint64_t end, bool sparse) {
    for (std::size_t i = 0; sparse && i < used_; i++) {
        const std::uint64_t from = std::max(start, rows_[i].key << shift_);
        const std::uint64_t to = std::min(end, (rows_[i].key + 1) << shift_);
        if (from < to) add_mapped(rows_[i], to - from);
    }
    while (!sparse && start < end) {
        Row* row = row_of(start);
        if (row == nullptr) {
            make_room();
            continue;
        }
        const std::uint64_t region_end = std::min(end, ((start >> shift_) + 1) << shift_);
        add_mapped(*row, region_end - start);
        start = region_end;
    }
}

void Regions::begin_names() noexcept {
    for (std::size_t i = 0; i < used_; i++) rows_[i].named_pages = 0;
}

/// Only regions that are known: most mappings are never paged.
void Regions::note_name(std::uint64_t start, std::uint64_t end, std::string_view name) {
    const std::uint16_t number = number_of(name);
    for (std::size_t i = 0; i < used_; i++) {
        Row& row = rows_[i];
        const std::uint64_t from = std::max(start, row.key << shift_);
        const std::uint64_t to = std::min(end, (row.key + 1) << shift_);
        if (from >= to) continue;
        const auto pages = static_cast<std::uint32_t>((to - from) / kPageSize);
        if (pages <= row.named_pages) continue;
        row.name = number;
        row.named_pages = pages;
    }
}

/// The first, empty one when there is no room for another.
std::uint16_t Regions::number_of(std::string_view name) {
    name = name.substr(0, kNameBytesMax);
    const auto found = std::ranges::find(names_, name);
    if (found == names_.end() && names_.size() == kNamesMax) return 0;
    const auto number = static_cast<std::uint16_t>(found - names_.begin());
    if (found == names_.end()) names_.emplace_back(name);
    return number;
}

void Regions::end_stretch(std::uint64_t at_ms) {
    pending_ms_ = at_ms;
    if (++calls_ < calls_each_) return;
    if (columns_ == kColumnsMax) halve();
    if (calls_ >= calls_each_) push();
}

void Regions::finish() {
    if (calls_ == 0) return;
    if (columns_ == kColumnsMax) halve();
    push();
}

void Regions::push() {
    for (std::size_t i = 0; i < used_; i++) {
        Row& row = rows_[i];
        cells_[i * kColumnsMax + columns_] = {row.refaults, row.far_pages};
        row.refaults = 0;
    }
    ended_ms_[columns_++] = pending_ms_;
    calls_ = 0;
}

/// Two columns become one, and take twice as long from now on.
void Regions::halve() {
    for (std::size_t i = 0; i < kRowsMax; i++) {
        Cell* row = &cells_[i * kColumnsMax];
        for (std::size_t at = 0; at < kColumnsMax / 2; at++)
            row[at] = {row[at * 2].refaults + row[at * 2 + 1].refaults, row[at * 2 + 1].far_pages};
        std::fill(row + kColumnsMax / 2, row + kColumnsMax, Cell{});
    }
    for (std::size_t at = 0; at < kColumnsMax / 2; at++) ended_ms_[at] = ended_ms_[at * 2 + 1];
    columns_ = kColumnsMax / 2;
    calls_each_ *= 2;
}

std::vector<std::size_t> Regions::rows_by_address() const {
    std::vector<std::size_t> numbers(used_);
    std::iota(numbers.begin(), numbers.end(), std::size_t{0});
    std::ranges::sort(numbers, {}, [this](std::size_t number) { return rows_[number].key; });
    return numbers;
}

}  // namespace farswap
