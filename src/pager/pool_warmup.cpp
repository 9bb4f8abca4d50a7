// See pool_warmup.h.
#include "pager/pool_warmup.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/no_allocation.h"

namespace farswap {
namespace {

constexpr std::chrono::milliseconds kPause{1};

}  // namespace

PoolWarmup::PoolWarmup(io::Loop& loop, Pool& pool, Budget& budget) noexcept
    : loop_(loop),
      pool_(pool),
      budget_(budget),
      timer_{.fire = [](io::Timer& timer) { static_cast<PoolWarmup*>(timer.owner)->prepare_more(); },
             .owner = this} {}

PoolWarmup::~PoolWarmup() {
    loop_.cancel(timer_);
}

void PoolWarmup::look() noexcept {
    if (gave_up_ || timer_.armed() || pool_.ready_frames() == pool_.frames()) return;
    if (budget_.used() >= budget_.engage_at() / 2) loop_.arm(timer_, io::Clock::now());
}

void PoolWarmup::prepare_more() noexcept {
    const MayAllocate beginning(
        "nothing has had to leave yet, or it leaves through the frames that are there");
    const std::uint32_t before = pool_.ready_frames();
    if (const int error = pool_.prepare(kAtOnce)) {
        gave_up_ = true;
        log::warning("the pool stays at {} MiB of {}: {}", before * kPageSize >> 20,
                     pool_.frames() * kPageSize >> 20, ::strerrordesc_np(error));
        return;
    }
    const std::uint32_t ready = pool_.ready_frames();
    budget_.filled(std::uint64_t{ready - before} * kPageSize);
    // Without it requests cost more; the summary says so.
    (void)loop_.register_memory(pool_.memory(), std::size_t{ready} * kPageSize);
    if (ready < pool_.frames()) loop_.arm(timer_, io::Clock::now() + kPause);
}

}  // namespace farswap
