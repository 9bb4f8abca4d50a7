// See outage.h.
#include "pager/outage.h"

#include <algorithm>

#include "base/log.h"

namespace farswap {
namespace {

std::string duration(std::chrono::nanoseconds time) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time).count();
    return seconds < 120 ? fmt::format("{} s", seconds)
                         : fmt::format("{} min {} s", seconds / 60, seconds % 60);
}

}  // namespace

Status OutageWatch::update(std::chrono::nanoseconds passed, const std::vector<StoreWait>& waits) {
    std::vector<Outage> now;
    for (const StoreWait& wait : waits) {
        const auto known = std::ranges::find_if(outages_, [&](const Outage& outage) {
            return outage.wait.store == wait.store && outage.wait.since == wait.since;
        });
        now.push_back(known == outages_.end() ? Outage{.wait = wait} : *known);
        if (known == outages_.end()) continue;
        now.back().silent += std::min<std::chrono::nanoseconds>(passed, kStepMax);
        outages_.erase(known);
    }
    for (const Outage& ended : outages_) note_end(ended);
    outages_ = std::move(now);
    for (Outage& outage : outages_) {
        if (max_ && outage.silent >= *max_)
            return fail(ETIMEDOUT, "{}: no answer for {} s; the job is stopped, as --on-outage stop:{} asks",
                        outage.wait.store->name(), max_->count(), max_->count());
        say(outage);
    }
    return {};
}

void OutageWatch::say(Outage& outage) const {
    const bool first = outage.said.count() == 0;
    if (outage.silent < (first ? kNoticed : outage.said + kRepeat)) return;
    outage.said = outage.silent;
    const std::string end = max_ ? fmt::format(", until {}", duration(*max_)) : std::string();
    log::warning("{}: no answer for {}; what needs it waits{}", outage.wait.store->name(),
                 duration(outage.silent), end);
}

void OutageWatch::note_end(const Outage& outage) const {
    if (outage.said.count() == 0) return;
    log::warning("{}: answers again, after {}", outage.wait.store->name(), duration(outage.silent));
}

}  // namespace farswap
