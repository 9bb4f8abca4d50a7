// Which store gets the next slots: priorities, turns, and stores that cannot take any now. Knows how many
// slots and unsafe pages a store has; nothing of frames or pages.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "io/loop.h"
#include "swap/reservation.h"
#include "swap/slots.h"
#include "swap/write_out.h"

namespace farswap {

/// Slots come from the stores of the highest priority that have free ones and work (swapon(8)): stores of
/// equal priority take turns by runs of write_run_max slots, so that each gets an equal share in writes of
/// full size.
///
/// While another store could take them, no store is given pages beyond its share: three quarters of the
/// frames with pages that are not safe yet. A store that hangs, and later fails, thus leaves frames to the
/// others.
///
/// Where all stores of a priority are only short for the moment (space is being reserved, or they are at
/// their share) lower ones are not used at once: pages that went there in a burst would stay there. They are
/// after overflow_patience in which nothing has changed.
class Placement {
  public:
    Placement(Slots& slots, const std::vector<std::unique_ptr<WriteOut>>& writes,
              const std::vector<std::unique_ptr<Reservation>>& reservations, const SwapAreaOptions& options);

    /// Up to `count_max` neighbouring slots for pages whose frames were lent; empty when no slot is free.
    SlotRun allocate(std::uint32_t count_max) noexcept;

    /// Slots that may be lent frames for now, beyond the `lent` ones that are out already.
    std::uint32_t lendable(std::uint32_t lent) noexcept;
    /// When lendable() has returned 0 only for a while: the time at which it will say more.
    io::Clock::time_point patient_until() const noexcept { return patient_until_; }

    /// Slots that somebody should give up who can: a 64th of what the stores can hold is to be free or to
    /// come.
    std::uint32_t shortage() const noexcept;
    /// No slot is free, and none will be unless one is released.
    bool exhausted() const noexcept;
    /// Whether a store other than `part` takes what is to come, and has frames left for it.
    bool others_go_on(const StorePart& part) const noexcept;

  private:
    /// Stores of one priority.
    struct Group {
        int priority = 0;
        std::vector<std::size_t> members;
        std::size_t turn = 0;          ///< the member that gets the next slots
        std::uint32_t turn_slots = 0;  ///< what a member gets in one turn; one alone has no end of it
        std::uint32_t turn_left = 0;
        io::Clock::time_point short_since = kNotShort;
    };
    static constexpr io::Clock::time_point kNotShort = io::Clock::time_point::max();

    SlotRun allocate_in(Group& group, std::uint32_t count_max) noexcept;
    std::uint32_t share() const noexcept;
    std::uint32_t left(std::size_t store) const noexcept;
    std::uint32_t room(std::size_t store) const noexcept;
    bool may_gain(const Group& group) const noexcept;
    bool can_take(std::size_t store) const noexcept;

    Slots& slots_;
    const std::vector<std::unique_ptr<WriteOut>>& writes_;
    const std::vector<std::unique_ptr<Reservation>>& reservations_;
    const SwapAreaOptions& options_;
    std::vector<Group> groups_;  ///< the highest priority first
    io::Clock::time_point patient_until_ = io::Clock::time_point::max();
};

}  // namespace farswap
