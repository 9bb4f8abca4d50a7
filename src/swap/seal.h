// Seals: what leaves the machine is encrypted and cannot be forged, replayed or put elsewhere. Knows bytes
// and numbers; nothing of frames, slots' states and stores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/assert.h"
#include "base/result.h"
#include "farswap/request.h"

namespace farswap {

/// Says under which nonce something was sealed: never used twice with one key. The upper 32 bits are the
/// pager's epoch, the lower 32 count seals. 0 is no seal.
using SealNumber = std::uint64_t;

/// Gives seal numbers, each once: they only grow. A counter that is through goes on in the next epoch, so
/// that there are 2^64 of them, whatever was the reason for each epoch: pages of 64 ZiB.
class SealNumbers {
  public:
    static constexpr unsigned kCounterBits = 32;

    explicit SealNumbers(SealNumber first) noexcept : next_(first) {}

    /// The last one of all is never given: a job that came so far would end here.
    SealNumber take() noexcept {
        FARSWAP_ASSERT(next_ != ~SealNumber{0});
        return next_++;
    }
    /// What is given from now on is of another epoch, with the count as it was. In the last epoch there is no
    /// other: it goes on.
    void begin_epoch() noexcept {
        if (epoch() != ~std::uint32_t{0}) next_ += SealNumber{1} << kCounterBits;
    }
    std::uint32_t epoch() const noexcept { return static_cast<std::uint32_t>(next_ >> kCounterBits); }

  private:
    SealNumber next_;
};

/// The place that a record is sealed for: anywhere else it does not open.
struct SealPlace {
    std::uint32_t store = 0;  ///< the store's index in the job
    std::uint32_t slot = 0;
};

/// AES-256-GCM (NIST SP 800-38D) under a key that is made for the job and never leaves this object.
///
/// The nonce is 32 bits of epoch and 64 bits of counter, both of the seal number (the upper half of the
/// counter is zeros); the job's random name, the place and the record's length are authenticated with the
/// content. Nothing of that is stored with the record: whoever keeps the seal number and the tag in his own
/// memory needs no byte more on the store than the content has, and a record that was right once is not right
/// any more after its slot has been sealed again.
///
/// The tag is cut to 64 bits. It never leaves the machine, and a job ends at the first record that does not
/// open, so that a forger has one try at 2^-56 (a page has 2^8 blocks; SP 800-38D, appendix C).
///
/// Each 2^36 numbers, which are 16 epochs and 256 TiB at most, have a key of their own, derived from the
/// job's as in RFC 8452, section 4: long before so much was encrypted under one that it could be told from
/// noise.
///
/// An epoch begins when another process goes on in the place of this one, before it takes a number.
///
/// One thread. Allocates nothing after create().
class Sealer {
  public:
    /// How often another process has gone on in the place of this one (keeper::births()); null: none ever
    /// does.
    using Births = std::uint32_t (*)() noexcept;
    /// EPERM or ENOMEM: there is no page of locked memory for the key.
    static Result<std::unique_ptr<Sealer>> create(Births births = nullptr);
    /// Wipes the key.
    ~Sealer();
    Sealer(const Sealer&) = delete;
    Sealer& operator=(const Sealer&) = delete;

    /// A number that no seal has had yet.
    SealNumber next_number() noexcept;
    /// That of the next number.
    std::uint32_t epoch() noexcept;

    /// Writes `length` sealed bytes to `sealed`, which may be `plain`; returns the tag. The same number seals
    /// the same bytes only.
    std::uint64_t seal(SealNumber number, SealPlace place, const std::byte* plain, std::uint32_t length,
                       std::byte* sealed) noexcept;
    /// Writes the content to `plain`, which may be `sealed`. False: what is in `sealed` is not what was
    /// sealed there last; `plain` holds nothing of use then.
    [[nodiscard]] bool open(SealNumber number, SealPlace place, std::uint64_t tag, const std::byte* sealed,
                            std::uint32_t length, std::byte* plain) noexcept;
    /// The tag that seal() would return. `length` is kPageSize at most.
    std::uint64_t tag_of(SealNumber number, SealPlace place, const std::byte* plain,
                         std::uint32_t length) noexcept;

    static constexpr unsigned kKeyBits = 36;  ///< log2 of the numbers under one key

  private:
    struct State;
    explicit Sealer(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace farswap
