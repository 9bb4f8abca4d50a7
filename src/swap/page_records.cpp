// See page_records.h.
#include "swap/page_records.h"

#include <sys/random.h>

#include <cstring>

#include "base/assert.h"
#include "base/step.h"
#include "swap/checksum.h"

namespace farswap {

namespace {

/// That of no store, for records that stay in memory. Each has a number of its own, so that no more is
/// needed.
constexpr SealPlace kInside{.store = 0xffffffffu, .slot = 0};

}  // namespace

Result<PageRecords> PageRecords::create(Sealed sealed, Compression compression, Sealer::Births births) {
    std::uint64_t seed = 0;
    if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) return fail_errno(errno, "no random numbers");
    std::unique_ptr<Sealer> sealer;
    if (sealed.any()) {
        auto made = Sealer::create(births);
        if (!made) return std::unexpected(std::move(made.error()));
        sealer = std::move(*made);
    }
    auto compressor = Compressor::create(compression, sealed.any());
    if (!compressor) return std::unexpected(std::move(compressor.error()));
    PageRecords records(sealed, std::move(sealer), std::move(*compressor), compression, seed);
    if (sealed.any())
        records.locked_scratch_ = make_secret<Scratch>();
    else
        records.scratch_on_heap_ = std::make_unique<Scratch>();
    records.scratch_ = sealed.any() ? records.locked_scratch_.get() : records.scratch_on_heap_.get();
    if (records.scratch_ == nullptr) return fail_errno(errno, "no locked memory for half-made records");
    return records;
}

void PageRecords::note(SlotMap& map, SlotId slot, const std::byte* page) noexcept {
    map.set_tag(slot, page_checksum(page, seed_), 0);
    map.set_units(slot, 0);
}

bool PageRecords::unchanged(const SlotMap& map, SlotId slot, const std::byte* page) const noexcept {
    return map.seal(slot) != 0 || page_checksum(page, seed_) == map.tag(slot);
}

/// Packs the page into whole units of scratch, filled up with zeros; how many, kUnitsPerBlock if it gives no
/// fewer than that.
std::uint32_t PageRecords::pack(const std::byte* page) noexcept {
    constexpr std::uint32_t kLengthBytes = sizeof(std::uint16_t);
    constexpr std::uint32_t kMost = (kUnitsPerBlock - 1) * kUnitBytes - kLengthBytes;
    if (!compresses_) return kUnitsPerBlock;
    std::byte* const packed = scratch_->packed;
    in_scratch_ = kNoSlot;
    const std::uint32_t length = compressor_->compress(page, packed + kLengthBytes, kMost);
    if (length == 0) return kUnitsPerBlock;
    const auto stored = static_cast<std::uint16_t>(length);
    std::memcpy(packed, &stored, kLengthBytes);
    const std::uint32_t units = (kLengthBytes + length + kUnitBytes - 1) / kUnitBytes;
    std::memset(packed + kLengthBytes + length, 0, units * kUnitBytes - kLengthBytes - length);
    return units;
}

/// Of pages that do not get smaller, most are not tried.
std::uint32_t PageRecords::pack_if_worth_it(const std::byte* page) noexcept {
    if (!packing_.now()) return kUnitsPerBlock;
    const std::uint32_t units = pack(page);
    packing_.tried(units < kUnitsPerBlock);
    return units;
}

void PageRecords::make(SlotMap& map, SlotId slot, std::uint32_t store, const std::byte* page,
                       std::byte* record) noexcept {
    const During sealing(Step::kSealing);
    const std::uint32_t before = map.units(slot);
    const std::uint32_t units = before == 0                ? pack_if_worth_it(page)
                                : before == kUnitsPerBlock ? before
                                                           : pack(page);
    FARSWAP_ASSERT(before == 0 || units == before);
    map.set_units(slot, units);
    const std::byte* const content = units == kUnitsPerBlock ? page : scratch_->packed;
    if (!sealed()) {
        std::memcpy(record, content, units * kUnitBytes);
        return;
    }
    const SealNumber number = map.seal(slot) != 0 ? map.seal(slot) : sealer_->next_number();
    const std::uint64_t tag = sealer_->seal(number, {store, slot}, content, units * kUnitBytes, record);
    // Two contents under one number would give both away.
    FARSWAP_ASSERT(map.seal(slot) == 0 || tag == map.tag(slot));
    map.set_tag(slot, tag, number);
}

bool PageRecords::open(const SlotMap& map, SlotId slot, std::uint32_t store, std::byte* record,
                       std::byte* page) noexcept {
    const During opening(Step::kOpening);
    const std::uint32_t units = map.units(slot);
    const std::uint32_t length = units * kUnitBytes;
    const bool is_packed = units < kUnitsPerBlock;
    std::byte* const content = is_packed ? scratch_->opened : page;
    if (sealed()) {
        if (!sealer_->open(map.seal(slot), {store, slot}, map.tag(slot), record, length, content))
            return false;
    } else if (content != record) {
        std::memcpy(content, record, length);
    }
    if (is_packed) {
        std::uint16_t stored = 0;
        std::memcpy(&stored, content, sizeof stored);
        if (sizeof stored + stored > length) return false;
        if (!compressor_->expand(content + sizeof stored, stored, page)) return false;
    }
    return sealed() || page_checksum(page, seed_) == map.tag(slot);
}

std::span<const std::byte> PageRecords::pack_to_keep(const std::byte* page) noexcept {
    const std::uint32_t units = pack_if_worth_it(page);
    return {units == kUnitsPerBlock ? page : scratch_->packed, std::size_t{units} * kUnitBytes};
}

std::span<const std::byte> PageRecords::pack_again(SlotId slot, const std::byte* page) noexcept {
    const std::uint32_t units = in_scratch_ == slot ? scratch_units_ : pack_if_worth_it(page);
    return {units == kUnitsPerBlock ? page : scratch_->packed, std::size_t{units} * kUnitBytes};
}

void PageRecords::keep(std::span<const std::byte> record, std::byte* into, MemorySeal* seal) noexcept {
    FARSWAP_ASSERT((seal != nullptr) == sealed_inside());
    if (seal == nullptr) {
        std::memcpy(into, record.data(), record.size());
        return;
    }
    const During sealing(Step::kSealing);
    seal->number = sealer_->next_number();
    seal->tag =
        sealer_->seal(seal->number, kInside, record.data(), static_cast<std::uint32_t>(record.size()), into);
}

void PageRecords::unpack(const std::byte* record, std::uint32_t units, const MemorySeal* seal,
                         std::byte* page) noexcept {
    FARSWAP_ASSERT((seal != nullptr) == sealed_inside());
    if (seal != nullptr) {
        const During opening(Step::kOpening);
        std::byte* const content = units == kUnitsPerBlock ? page : scratch_->opened;
        const bool ours =
            sealer_->open(seal->number, kInside, seal->tag, record, units * kUnitBytes, content);
        FARSWAP_ASSERT(ours);  // it has been in this process's memory only
        record = content;
    }
    if (units == kUnitsPerBlock) {
        if (record != page) std::memcpy(page, record, kPageSize);
    } else {
        std::uint16_t stored = 0;
        std::memcpy(&stored, record, sizeof stored);
        FARSWAP_ASSERT(sizeof stored + stored <= units * kUnitBytes);
        FARSWAP_ASSERT(compressor_->expand(record + sizeof stored, stored, page));
    }
}

std::uint32_t PageRecords::checksum(const std::byte* page) const noexcept {
    return static_cast<std::uint32_t>(page_checksum(page, seed_));
}

bool PageRecords::is_of(const SlotMap& map, SlotId slot, std::uint32_t store,
                        const std::byte* page) noexcept {
    if (!sealed()) return page_checksum(page, seed_) == map.tag(slot);
    const std::uint32_t units = map.units(slot);
    if (units < kUnitsPerBlock && pack(page) != units) return false;
    const std::byte* const content = units == kUnitsPerBlock ? page : scratch_->packed;
    if (sealer_->tag_of(map.seal(slot), {store, slot}, content, units * kUnitBytes) != map.tag(slot))
        return false;
    if (units < kUnitsPerBlock) in_scratch_ = slot, scratch_units_ = units;
    return true;
}

std::optional<std::uint64_t> fill_word(const std::byte* page) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, page, sizeof word);
    // The second page word and those behind it are the first one, if each is the one before it.
    if (std::memcmp(page, page + kPageSize - sizeof word, sizeof word) != 0) return std::nullopt;
    if (std::memcmp(page, page + sizeof word, kPageSize - sizeof word) != 0) return std::nullopt;
    return word;
}

}  // namespace farswap
