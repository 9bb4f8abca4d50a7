#include "options.h"

#include "random.h"

namespace farswap::simulate {

const std::array<std::string_view, kFeatures> kFeatureNames = {
    "fork",   "unmap",       "remap",    "discard",  "exec",   "exit",   "threads",   "mutexes", "pin",
    "lock",   "fork-advice", "hold",     "chaos",    "slow",   "errors", "losses",    "outages", "late",
    "stores", "corrupt",     "failure",  "full",     "memory", "tier",   "preempted", "twice",   "mirror",
    "grow",   "brief",       "restless", "careless", "leave",  "hasty",  "again",     "death"};

void Options::choose() {
    Random random(seed ^ 0x5eedull);
    // Not all at once: what one kind of event hides another shows.
    for (unsigned feature = 0; feature < kFeaturesBySeed; ++feature) {
        bool on = random.below(100) < 60;
        switch (static_cast<Feature>(feature)) {
            case Feature::kCorrupt:
            case Feature::kFull:
            case Feature::kMemory:
                on = random.below(100) < 10;
                break;
            case Feature::kFailure:
                on = random.below(100) < 5;
                break;
            default:
                break;
        }
        if (on) chosen |= 1ull << feature;
    }
    // By chance of its own: what else a seed has is what it was before there were deaths.
    Random deaths(seed ^ 0xdea1ull);
    if (deaths.once_in(4)) chosen |= 1ull << static_cast<unsigned>(Feature::kDeath);
    chosen = (chosen | wanted) & allowed;
    if (processes == 0) processes = static_cast<std::uint32_t>(random.between(1, 5));
    threads = static_cast<std::uint32_t>(random.between(1, 4));
    if (pages == 0) pages = static_cast<std::uint32_t>(random.between(100, 900));
    frames = static_cast<std::uint32_t>(random.between(48, 256));
    cap_pages = static_cast<std::uint32_t>(random.between(640, 1100));
}

}  // namespace farswap::simulate
