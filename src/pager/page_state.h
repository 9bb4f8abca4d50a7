// The state of one page of one process: one word, and the only rules by which it may change. Pure: no I/O, no
// system call, no clock; tests drive it through every order of events.
#pragma once

#include <cstdint>

#include "base/assert.h"

namespace farswap {

enum class PageState : std::uint8_t {
    kInside = 0,    ///< the kernel has it: present, or never touched (then it reads as zeros)
    kDoubtful = 1,  ///< present when a REMOVE was announced: it may be dropped any moment, so it must not be
                    ///< evicted; or pinned when it was to be moved
    kKept = 2,      ///< inside, and never to be evicted (a thread's control block)
    kFar = 3,       ///< in the swap area; `value` is the slot
    kBack = 4,      ///< inside, and in the swap area as it was when it came back; `value` is the slot
};

/// What to do for a thread that waits for a page.
enum class FaultAction { kFillZeros, kFromSlot };

/// How much a page is in use (working_set.h).
struct Warmth {
    static constexpr std::uint8_t kMost = 15;
    std::uint8_t heat = 0;   ///< stays with it while it is outside
    std::uint8_t turns = 0;  ///< so often the sweep passes it by

    friend constexpr bool operator==(Warmth, Warmth) = default;
};

/// state (bits 0-2), fetching (3), heat (4-7), value (8-39), turns or when it left (40-47), generation
/// (48-63).
class PageWord {
  public:
    constexpr PageWord() = default;

    constexpr PageState state() const { return static_cast<PageState>(raw_ & 7); }
    constexpr std::uint8_t heat() const { return (raw_ >> 4) & 15; }
    /// The next sweep passes it by.
    constexpr bool hot() const { return is_inside() && marked() != 0; }
    /// When it left, by WorkingSet::now().
    constexpr std::uint8_t left_at() const {
        FARSWAP_ASSERT(is_far());
        return marked();
    }
    /// A read of its slot is under way for a waiting thread.
    constexpr bool fetching() const { return (raw_ & kFetchingBit) != 0; }
    constexpr std::uint32_t value() const { return static_cast<std::uint32_t>(raw_ >> 8); }
    /// Changes at every step, so that an answer that comes late is recognised.
    constexpr std::uint32_t generation() const { return static_cast<std::uint32_t>(raw_ >> 48); }
    /// Its content is nowhere but in the swap area.
    constexpr bool is_far() const { return state() == PageState::kFar; }
    /// It refers to a slot, which is to be put when the word forgets it.
    constexpr bool has_slot() const { return is_far() || state() == PageState::kBack; }
    /// The kernel has it, and it may be evicted as far as that goes.
    constexpr bool is_inside() const { return state() == PageState::kInside || state() == PageState::kBack; }
    constexpr bool is_default() const { return (raw_ & 0xffu) == 0; }

    constexpr FaultAction fault_action() const {
        return state() == PageState::kFar ? FaultAction::kFromSlot : FaultAction::kFillZeros;
    }

    /// Whether the sweep may move it out: inside, not kept, and not awaiting a removal.
    constexpr bool evictable() const { return is_inside() && !hot(); }

    // The steps. Each states what must hold before it.

    /// A MOVE has taken it and its content is in the swap area. The caller has let go of another slot than
    /// that.
    constexpr PageWord evicted(std::uint32_t slot, std::uint8_t now = 0) const {
        FARSWAP_ASSERT(evictable());
        return next(PageState::kFar, slot, {heat(), now});
    }
    constexpr PageWord fetch_started() const {
        FARSWAP_ASSERT(state() == PageState::kFar && !fetching());
        PageWord word = next(PageState::kFar, value(), {heat(), marked()});
        word.raw_ |= kFetchingBit;
        return word;
    }
    constexpr PageWord fetch_ended() const {
        FARSWAP_ASSERT(state() == PageState::kFar && fetching());
        return next(PageState::kFar, value(), {heat(), marked()});
    }
    /// The page was filled, or a fault proved that nothing was there.
    constexpr PageWord brought_back(Warmth warmth) const {
        return state() == PageState::kKept ? *this : next(PageState::kInside, 0, warmth);
    }
    /// The page was filled from its slot, and the slot stays its own: if it has not changed when it leaves
    /// again, it need not be written.
    constexpr PageWord brought_back_with_slot(Warmth warmth) const {
        FARSWAP_ASSERT(state() == PageState::kFar);
        return next(PageState::kBack, value(), warmth);
    }
    /// The slot is given up, as others need it more.
    constexpr PageWord without_slot() const {
        FARSWAP_ASSERT(state() == PageState::kBack);
        return next(PageState::kInside, 0, {heat(), marked()});
    }
    /// The sweep has passed it by, which counts for so many turns.
    constexpr PageWord passed_by(std::uint32_t turns) const {
        FARSWAP_ASSERT(is_inside());
        const std::uint8_t left = marked() > turns ? static_cast<std::uint8_t>(marked() - turns) : 0;
        return next(state(), value(), {heat(), left});
    }
    /// A REMOVE was announced. `present`: the kernel still shows the page. The caller lets go of the slot
    /// first.
    constexpr PageWord removal_announced(bool present, std::uint32_t now) const {
        if (state() == PageState::kKept) return *this;
        return present ? next(PageState::kDoubtful, now) : next(PageState::kInside, 0);
    }
    /// A device or another process has it pinned: it cannot be moved, and is not asked for again for a while.
    /// The caller lets go of its slot first.
    constexpr PageWord pinned(std::uint32_t now) const {
        FARSWAP_ASSERT(is_inside());
        return next(PageState::kDoubtful, now);
    }
    /// The removal must have happened long ago (MADV_FREE never proves it by a fault).
    constexpr PageWord doubt_expired() const {
        FARSWAP_ASSERT(state() == PageState::kDoubtful);
        return next(PageState::kInside, 0);
    }
    /// A thread's control block lies in it. Only for a page that is inside; the caller lets go of its slot
    /// first.
    constexpr PageWord kept() const {
        FARSWAP_ASSERT(fault_action() == FaultAction::kFillZeros);
        return next(PageState::kKept, 0);
    }
    constexpr PageWord unmapped() const { return next(PageState::kInside, 0); }
    /// The page moved to another address (mremap): who waited at the old one is woken there.
    constexpr PageWord relocated() const { return next(state(), value(), {heat(), marked()}); }
    /// A forked child's view of the page: it shares the slot. What it will use is not known.
    constexpr PageWord inherited() const {
        return next(state(), value(), {0, is_far() ? marked() : std::uint8_t{0}});
    }

    friend constexpr bool operator==(PageWord, PageWord) = default;

  private:
    static constexpr std::uint64_t kFetchingBit = 1u << 3;

    /// Turns of a page that is inside; when a far one has left.
    constexpr std::uint8_t marked() const { return (raw_ >> 40) & 255; }
    constexpr PageWord next(PageState state, std::uint32_t value, Warmth warmth = {}) const {
        PageWord word;
        word.raw_ = static_cast<std::uint64_t>(state) | std::uint64_t{warmth.heat} << 4 |
                    std::uint64_t{value} << 8 | std::uint64_t{warmth.turns} << 40 | ((raw_ >> 48) + 1) << 48;
        return word;
    }

    std::uint64_t raw_ = 0;
};
static_assert(sizeof(PageWord) == 8);

}  // namespace farswap
