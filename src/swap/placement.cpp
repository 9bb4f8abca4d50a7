// See placement.h.
#include "swap/placement.h"

#include <algorithm>

#include "base/assert.h"

namespace farswap {

Placement::Placement(Slots& slots, const std::vector<std::unique_ptr<WriteOut>>& writes,
                     const std::vector<std::unique_ptr<Reservation>>& reservations,
                     const SwapAreaOptions& options)
    : slots_(slots), writes_(writes), reservations_(reservations), options_(options) {
    for (std::size_t store = 0; store < slots.parts().size(); ++store) {
        const int priority =
            store < options.priorities.size() ? options.priorities[store] : SwapAreaOptions::kNoPriority;
        auto group = std::ranges::find(groups_, priority, &Group::priority);
        if (group == groups_.end()) {
            group = groups_.emplace(groups_.end());
            group->priority = priority;
        }
        group->members.push_back(store);
    }
    std::ranges::sort(groups_, std::ranges::greater{}, &Group::priority);
    for (Group& group : groups_)
        group.turn_left = group.turn_slots = group.members.size() > 1 ? options.write_run_max : ~0u;
}

/// Unsafe pages that one store may hold.
std::uint32_t Placement::share() const noexcept {
    if (writes_.size() == 1) return ~0u;
    std::uint64_t frames = slots_.cache().pool().frames() - options_.read_frames_min;
    for (const std::unique_ptr<WriteOut>& out : writes_)
        if (out->failed()) frames -= std::min<std::uint64_t>(frames, out->pages_unsafe());
    return static_cast<std::uint32_t>(std::max<std::uint64_t>(frames / 4 * 3, 1));
}

/// Pages that the store has blocks and slots for.
std::uint32_t Placement::left(std::size_t store) const noexcept {
    const StorePart& part = slots_.parts()[store];
    return std::min(part.blocks_left(), part.slots.capacity() - part.slots.used());
}

/// Slots of the store that may be used now.
std::uint32_t Placement::room(std::size_t store) const noexcept {
    if (writes_[store]->failed()) return 0;
    const std::uint32_t most = share();
    return std::min(left(store), most - std::min(most, writes_[store]->pages_unsafe()));
}

SlotRun Placement::allocate_in(Group& group, std::uint32_t count_max) noexcept {
    for (std::size_t tried = 0; tried <= group.members.size(); ++tried) {
        const std::size_t store = group.members[group.turn];
        StorePart& part = slots_.parts()[store];
        const SlotRun run = slots_.allocate(part, std::min({count_max, group.turn_left, room(store)}));
        reservations_[store]->consider();
        group.turn_left -= run.count;
        if (run.count == 0 || group.turn_left == 0) {
            group.turn = (group.turn + 1) % group.members.size();
            group.turn_left = group.turn_slots;
        }
        if (run.count > 0) return run;
    }
    return {};
}

SlotRun Placement::allocate(std::uint32_t count_max) noexcept {
    for (Group& group : groups_)
        if (const SlotRun run = allocate_in(group, count_max); run.count > 0) return run;
    // Nobody is below his share: better beyond it than nowhere.
    for (const Group& group : groups_) {
        for (const std::size_t store : group.members) {
            if (writes_[store]->failed()) continue;
            const SlotRun run = slots_.allocate(slots_.parts()[store], count_max);
            if (run.count > 0) return run;
        }
    }
    return {};
}

std::uint32_t Placement::lendable(std::uint32_t lent) noexcept {
    patient_until_ = io::Clock::time_point::max();
    std::uint64_t total = 0;
    for (Group& group : groups_) {
        std::uint64_t here = 0;
        for (const std::size_t store : group.members) here += room(store);
        total += here;
        if (here > 0) group.short_since = kNotShort;
        if (total > lent) return static_cast<std::uint32_t>(std::min<std::uint64_t>(total - lent, ~0u));
        if (&group == &groups_.back() || !may_gain(group)) continue;
        const auto now = io::Clock::now();
        if (group.short_since == kNotShort) group.short_since = now;
        if (now < group.short_since + options_.overflow_patience) {
            patient_until_ = group.short_since + options_.overflow_patience;
            return 0;
        }
    }
    std::uint64_t free = 0;
    for (std::size_t store = 0; store < writes_.size(); ++store)
        if (!writes_[store]->failed()) free += left(store);
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(free - std::min<std::uint64_t>(free, lent), ~0u));
}

/// Whether the group may have room soon, without a slot being released: space is reserved, or a write ends.
bool Placement::may_gain(const Group& group) const noexcept {
    return std::ranges::any_of(group.members, [this](std::size_t store) { return can_take(store); });
}

bool Placement::can_take(std::size_t store) const noexcept {
    const StorePart& part = slots_.parts()[store];
    return !writes_[store]->failed() && (left(store) > 0 || part.unplaced > 0 || part.blocks.parked() > 0 ||
                                         reservations_[store]->can_grow());
}

std::uint32_t Placement::shortage() const noexcept {
    std::uint64_t capacity = 0;
    std::uint64_t room = 0;
    for (std::size_t store = 0; store < writes_.size(); ++store) {
        if (writes_[store]->failed()) continue;
        const StorePart& part = slots_.parts()[store];
        const std::uint32_t most =
            reservations_[store]->can_grow() ? part.blocks.capacity() : part.blocks.limit();
        capacity += most;
        room +=
            std::min(most - part.blocks.used() - part.unplaced, part.slots.capacity() - part.slots.used());
    }
    const std::uint64_t wanted = capacity / 64 + 1;
    return static_cast<std::uint32_t>(wanted - std::min(wanted, room));
}

bool Placement::exhausted() const noexcept {
    for (std::size_t store = 0; store < writes_.size(); ++store)
        if (can_take(store)) return false;
    return true;
}

bool Placement::others_go_on(const StorePart& part) const noexcept {
    std::uint64_t stuck = 0;
    bool others = false;
    for (std::size_t store = 0; store < writes_.size(); ++store) {
        if (writes_[store]->failed()) stuck += writes_[store]->pages_unsafe();
        others = others || (&slots_.parts()[store] != &part && can_take(store));
    }
    const std::uint64_t needed = std::uint64_t{options_.read_frames_min} + options_.write_run_max;
    return others && slots_.cache().pool().frames() >= stuck + needed;
}

}  // namespace farswap
