// Counts kills, and says what was counted. See kill_census.h.
#include "pager/kill_census.h"

#include <fmt/format.h>

#include <atomic>

#include "target/target.h"

namespace farswap {
namespace {

constexpr std::array<const char*, kSteps> kStepNames{"elsewhere",  "staged",  "sealing", "writing",
                                                     "committing", "opening", "copying"};
constexpr std::array kKindNames{"move", "write", "uncommitted", "commit", "read"};

constinit KillCensus census;
constinit std::atomic<const SwapArea*> watched_area{nullptr};

}  // namespace

void KillCensus::count(bool has_begun, Step step, const UnderWay& under_way) noexcept {
    static_assert(kKindNames.size() == kKinds);
    kills_++;
    if (!has_begun) {
        not_begun_++;
        return;
    }
    in_[static_cast<unsigned>(step)]++;
    const SwapArea::UnderWay& stores = under_way.stores;
    const std::array<std::uint32_t, kKinds> found{under_way.moves, stores.writes, stores.pages_uncommitted,
                                                  stores.flushes, stores.reads};
    for (unsigned kind = 0; kind < kKinds; kind++) with_[kind] += found[kind] > 0 ? 1 : 0;
}

std::string KillCensus::text() const {
    std::string text = fmt::format("kills={} not_begun={} in:", kills_, not_begun_);
    for (unsigned step = 0; step < kSteps; step++) text += fmt::format(" {}={}", kStepNames[step], in_[step]);
    text += " with:";
    for (unsigned kind = 0; kind < kKinds; kind++)
        text += fmt::format(" {}={}", kKindNames[kind], with_[kind]);
    return text;
}

namespace kills {

void watch(const SwapArea* area) noexcept {
    watched_area = area;
}

void note(bool has_begun) noexcept {
    const SwapArea* const area = watched_area;
    census.count(has_begun, current_step.load(std::memory_order_relaxed),
                 {.moves = target::Target::moves_under_way(),
                  .stores = area == nullptr ? SwapArea::UnderWay{} : area->under_way()});
}

std::string so_far() {
    return census.text();
}

}  // namespace kills

}  // namespace farswap
