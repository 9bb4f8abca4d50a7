#include "death.h"

#include <fmt/format.h>

#include <algorithm>

#include "store.h"
#include "world.h"

namespace farswap::simulate {
namespace {

constexpr std::uint64_t kDeathSeed = 0xdead;
constexpr std::int64_t kMicrosecond = 1'000;

}  // namespace

Death::Death(const Options& options)
    : random(options.seed ^ kDeathSeed), has_any_(options.has(Feature::kDeath)) {
    plan_next();
}

/// Some come one upon the other: a pager that has only just gone on is killed, too.
void Death::plan_next() {
    const std::uint64_t now = world == nullptr ? 0 : world->steps;
    due_ = now + (random.once_in(4) ? random.below(50) : 300 + random.below(9000));
    points_to_go_ = random.below(random.once_in(2) ? 8 : 200);
}

bool Death::is_due() {
    if (!has_any_ || is_dead_ || world->steps < due_) return false;
    return points_to_go_-- == 0;
}

/// From the kill to the heir's first instruction it takes 2 to 4 ms (decision 0025), on a busy machine more.
void Death::die() {
    is_dead_ = true;
    ++births_;
    if (is_tracing()) trace(fmt::format("the pager is killed for the {}. time", births_));
    for (SimulatedStore* store : world->stores) store->submitter_died();
    const auto takes = static_cast<std::int64_t>(random.between(2000, random.once_in(16) ? 30'000 : 4000));
    const std::int64_t end = world->now + takes * kMicrosecond;
    const std::uint64_t before = world->pages_in_use();
    while (world->now < end)
        if (!world->step()) world->now = end;
    growth_ += world->pages_in_use() - std::min(before, world->pages_in_use());
    trace("the pager's heir goes on");
    is_dead_ = false;
    went_on_ = world->steps;
    plan_next();
}

std::uint64_t Death::last_step() const {
    return is_dead_ ? world->steps : went_on_;
}

}  // namespace farswap::simulate
