// See page_records.h.
#include "swap/page_records.h"

#include <sys/random.h>

#include <cstring>

#include "base/assert.h"
#include "swap/checksum.h"

namespace farswap {

Result<PageRecords> PageRecords::create(bool sealed) {
    std::uint64_t seed = 0;
    if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) return fail_errno(errno, "no random numbers");
    std::unique_ptr<Sealer> sealer;
    if (sealed) {
        auto made = Sealer::create();
        if (!made) return std::unexpected(std::move(made.error()));
        sealer = std::move(*made);
    }
    return PageRecords(std::move(sealer), seed);
}

void PageRecords::note(SlotMap& map, SlotId slot, const std::byte* page) noexcept {
    map.set_tag(slot, page_checksum(page, seed_), 0);
}

bool PageRecords::unchanged(const SlotMap& map, SlotId slot, const std::byte* page) const noexcept {
    return map.seal(slot) != 0 || page_checksum(page, seed_) == map.tag(slot);
}

void PageRecords::make(SlotMap& map, SlotId slot, std::uint32_t store, const std::byte* page,
                       std::byte* record) noexcept {
    const SealNumber before = map.seal(slot);
    const SealNumber number = before != 0 ? before : sealer_->next_number();
    const std::uint64_t tag = sealer_->seal(number, {store, slot}, page, kPageSize, record);
    // Two contents under one number would give both away.
    FARSWAP_ASSERT(before == 0 || tag == map.tag(slot));
    map.set_tag(slot, tag, number);
}

bool PageRecords::open(const SlotMap& map, SlotId slot, std::uint32_t store, std::byte* record) noexcept {
    if (!sealed()) return page_checksum(record, seed_) == map.tag(slot);
    return sealer_->open(map.seal(slot), {store, slot}, map.tag(slot), record, kPageSize, record);
}

bool PageRecords::is_of(const SlotMap& map, SlotId slot, std::uint32_t store,
                        const std::byte* page) noexcept {
    if (!sealed()) return page_checksum(page, seed_) == map.tag(slot);
    return sealer_->tag_of(map.seal(slot), {store, slot}, page, kPageSize) == map.tag(slot);
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
