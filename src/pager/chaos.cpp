#include "pager/chaos.h"

#include <algorithm>

#include "base/log.h"

namespace farswap {
namespace {

constexpr std::chrono::milliseconds kPeriod{2};
constexpr int kStrikesMax = 16;                // a period
constexpr double kOwedMax = 16 * kBatchPages;  // a pager that was held up does not make good for it

}  // namespace

Chaos::Chaos(io::Loop& loop, Pager& pager, std::uint32_t rate)
    : loop_(loop), pager_(pager), rate_(rate), random_(std::random_device{}()) {
    timer_.owner = this;
    timer_.fire = [](io::Timer& timer) { static_cast<Chaos*>(timer.owner)->strike(); };
}

Chaos::~Chaos() {
    loop_.cancel(timer_);
}

void Chaos::start() {
    last_ = io::Clock::now();
    loop_.arm(timer_, last_);
}

void Chaos::strike() {
    const auto now = io::Clock::now();
    owed_ = std::min(owed_ + std::chrono::duration<double>(now - last_).count() * rate_, kOwedMax);
    last_ = now;
    for (int i = 0; i < kStrikesMax && owed_ >= 1; i++) owed_ -= pager_.evict_at_random(random_);
    loop_.arm(timer_, now + kPeriod);
}

std::uint32_t Pager::evict_at_random(std::mt19937_64& random) {
    if (failed_ || processes_.empty()) return 0;
    const auto below = [&](std::uint64_t end) {
        return std::uniform_int_distribution<std::uint64_t>(0, end - 1)(random);
    };
    Process& process = *processes_[below(processes_.size())];
    if (process.gone || process.leaving || process.holds > 0 || !process.target->has_agent() ||
        !process.target->agent_idle())
        return 0;
    const auto& ranges = process->evictable().ranges();
    if (ranges.empty()) return 0;
    const target::AddressRange& range = ranges[below(ranges.size())];
    process.hand = range.start + below((range.end - range.start) / kPageSize) * kPageSize;
    const auto pages = static_cast<std::uint32_t>(1 + below(kBatchPages));
    if (!process.shared.empty()) return step(process) ? pages : 0;
    return move_out(process, pages) ? pages : 0;
}

}  // namespace farswap
