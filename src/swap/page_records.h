// What a slot's page looks like on its store, and by what it is known again. Knows no I/O and no frames.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/result.h"
#include "swap/seal.h"
#include "swap/slot_map.h"

namespace farswap {

/// A page has a tag from when it is added: its keyed checksum. When its record is made the first time, it
/// gets a seal number, and the seal's tag takes the checksum's place. A record that is written once more,
/// whether tried again, written to another copy or after a loss, is the same to the byte: the number stays (a
/// write of unknown fate may come late, see Store::in_doubt). Without seals the record is the page, and the
/// checksum stays.
///
/// One thread. Allocates nothing after create().
class PageRecords {
  public:
    /// EPERM or ENOMEM: no memory can be locked for the key.
    static Result<PageRecords> create(bool sealed);

    /// Whether a record differs from its page, so that it needs memory of its own while it is written.
    bool sealed() const noexcept { return sealer_ != nullptr; }

    /// The page has been put under the slot. Nothing may be stored into it from now on.
    void note(SlotMap& map, SlotId slot, const std::byte* page) noexcept;
    /// Whether the page is still what note() saw; true when its record has been made since.
    bool unchanged(const SlotMap& map, SlotId slot, const std::byte* page) const noexcept;
    /// Makes the record of the slot's page: kPageSize bytes. Sealed areas only. `store` is its store's index.
    void make(SlotMap& map, SlotId slot, std::uint32_t store, const std::byte* page,
              std::byte* record) noexcept;
    /// Makes the page of what was read, in its place; once. False: that is not the slot's record; the bytes
    /// are of no use then.
    [[nodiscard]] bool open(const SlotMap& map, SlotId slot, std::uint32_t store, std::byte* record) noexcept;
    /// Whether `page` is the slot's page, whose record has been made.
    bool is_of(const SlotMap& map, SlotId slot, std::uint32_t store, const std::byte* page) noexcept;

  private:
    PageRecords(std::unique_ptr<Sealer> sealer, std::uint64_t seed) noexcept
        : sealer_(std::move(sealer)), seed_(seed) {}

    std::unique_ptr<Sealer> sealer_;
    std::uint64_t seed_;
};

/// The word that the whole page consists of, if there is one.
std::optional<std::uint64_t> fill_word(const std::byte* page) noexcept;

}  // namespace farswap
