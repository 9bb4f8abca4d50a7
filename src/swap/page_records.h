// What a slot's page looks like on its store, and by what it is known again. Knows no I/O and no frames.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/secret_memory.h"
#include "base/worth_trying.h"
#include "swap/compress.h"
#include "swap/packed_pages.h"
#include "swap/place.h"
#include "swap/seal.h"
#include "swap/slot_map.h"

namespace farswap {

/// A record is a page, or the compressed page and its length (16 bits), filled up with zeros to whole units;
/// all of it sealed. As long as a page, it is that.
///
/// A page has a tag from when it is added: its keyed checksum. When its record is made the first time, it
/// gets a seal number, and the seal's tag takes the checksum's place. A record that is written once more,
/// whether tried again, written to another copy or after a loss, is the same to the byte: the number stays (a
/// write of unknown fate may come late, see Store::in_doubt). Without seals the checksum stays.
///
/// One thread. Allocates nothing after create().
class PageRecords {
  public:
    /// What is sealed; half-made records are in locked memory if anything is.
    struct Sealed {
        bool outside = true;  ///< what leaves
        bool inside = false;  ///< what stays in memory, compressed, as that cannot be locked
        bool any() const noexcept { return outside || inside; }
    };
    /// EPERM or ENOMEM: no memory can be locked for the key, or for half-made records.
    static Result<PageRecords> create(Sealed sealed, Compression compression,
                                      Sealer::Births births = nullptr);

    bool sealed() const noexcept { return sealed_.outside; }
    bool sealed_inside() const noexcept { return sealed_.inside; }
    /// Of the seals that are made now; 0: none are.
    std::uint32_t seal_epoch() const noexcept { return sealer_ != nullptr ? sealer_->epoch() : 0; }
    /// Whether a record may differ from its page, so that it needs memory of its own while it is written.
    bool differ() const noexcept { return sealed() || compresses_; }

    /// The page has been put under the slot. Nothing may be stored into it from now on.
    void note(SlotMap& map, SlotId slot, const std::byte* page) noexcept;
    /// Whether the page is still what note() saw; true when its record has been sealed since.
    bool unchanged(const SlotMap& map, SlotId slot, const std::byte* page) const noexcept;
    /// Makes the record of the slot's page, at most kPageSize bytes, and sets the slot's units. Where
    /// differ() only. `store` is its store's index.
    void make(SlotMap& map, SlotId slot, std::uint32_t store, const std::byte* page,
              std::byte* record) noexcept;
    /// Makes the page of the record that was read; once, as `record` is of no use afterwards. It may lie
    /// within `page`. False: it is not the slot's; neither is of use then.
    [[nodiscard]] bool open(const SlotMap& map, SlotId slot, std::uint32_t store, std::byte* record,
                            std::byte* page) noexcept;
    /// The record of a page that stays in memory, not sealed yet: the page itself if it gets no smaller.
    /// Valid until the next call.
    std::span<const std::byte> pack_to_keep(const std::byte* page) noexcept;
    /// The same of the slot's page, whose record has been made; without the work if is_of() has just done it.
    std::span<const std::byte> pack_again(SlotId slot, const std::byte* page) noexcept;
    /// Puts such a record where it stays: sealed, and `seal` told, if sealed_inside(); else `seal` is null.
    void keep(std::span<const std::byte> record, std::byte* into, MemorySeal* seal) noexcept;
    /// Makes the page of such a record of `units` again; never of one that was outside.
    void unpack(const std::byte* record, std::uint32_t units, const MemorySeal* seal,
                std::byte* page) noexcept;
    /// Some bits by which a page that stays in memory is known again.
    std::uint32_t checksum(const std::byte* page) const noexcept;
    /// Whether `page` is the slot's page, whose record has been made.
    bool is_of(const SlotMap& map, SlotId slot, std::uint32_t store, const std::byte* page) noexcept;

  private:
    /// Half-made records.
    struct Scratch {
        std::byte packed[kPageSize];
        std::byte opened[kPageSize];
    };

    PageRecords(Sealed sealed, std::unique_ptr<Sealer> sealer, std::unique_ptr<Compressor> compressor,
                Compression compression, std::uint64_t seed)
        : sealed_(sealed),
          sealer_(std::move(sealer)),
          compressor_(std::move(compressor)),
          compresses_(compression != Compression::kOff),
          seed_(seed) {}

    std::uint32_t pack(const std::byte* page) noexcept;
    std::uint32_t pack_if_worth_it(const std::byte* page) noexcept;

    Sealed sealed_;
    std::unique_ptr<Sealer> sealer_;  ///< null where nothing is sealed
    std::unique_ptr<Compressor> compressor_;
    Secret<Scratch> locked_scratch_;  ///< one of them
    std::unique_ptr<Scratch> scratch_on_heap_;
    Scratch* scratch_ = nullptr;
    bool compresses_;
    std::uint64_t seed_;
    SlotId in_scratch_ = kNoSlot;  ///< whose record is_of() has left there
    std::uint32_t scratch_units_ = 0;
    WorthTrying packing_;
};

/// The word that the whole page consists of, if there is one.
std::optional<std::uint64_t> fill_word(const std::byte* page) noexcept;

}  // namespace farswap
