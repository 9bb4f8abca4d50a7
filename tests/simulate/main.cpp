// The command line of the simulator.
#include <fmt/format.h>
#include <getopt.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "runner.h"

using namespace farswap::simulate;

namespace {

constexpr const char* kUsage =
    "usage: simulate [--seed N] [--seeds N] [--steps N] [--seconds N | --hours N] [--jobs N]\n"
    "                [--processes N] [--pages N] [--no-FEATURE]... [--with-FEATURE]... [--no-shrink] "
    "[--trace]\n"
    "features:";

[[noreturn]] void refuse() {
    std::string text = kUsage;
    for (const auto feature : kFeatureNames) text += fmt::format(" {}", feature);
    fmt::print(stderr, "{}\n", text);
    std::exit(2);
}

std::uint64_t number(const char* text) {
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0') refuse();
    return value;
}

enum Choice {
    kSeed = 1,
    kSeeds,
    kSteps,
    kSeconds,
    kHours,
    kJobs,
    kProcesses,
    kPages,
    kTrace,
    kNoShrink,
    kNo,
    kWith = kNo + static_cast<int>(kFeatures)
};

std::vector<option> choices(const std::vector<std::string>& without, const std::vector<std::string>& with) {
    std::vector<option> all = {{"seed", required_argument, nullptr, kSeed},
                               {"seeds", required_argument, nullptr, kSeeds},
                               {"steps", required_argument, nullptr, kSteps},
                               {"seconds", required_argument, nullptr, kSeconds},
                               {"hours", required_argument, nullptr, kHours},
                               {"jobs", required_argument, nullptr, kJobs},
                               {"processes", required_argument, nullptr, kProcesses},
                               {"pages", required_argument, nullptr, kPages},
                               {"trace", no_argument, nullptr, kTrace},
                               {"no-shrink", no_argument, nullptr, kNoShrink}};
    for (unsigned i = 0; i < kFeatures; ++i) {
        all.push_back({without[i].c_str(), no_argument, nullptr, static_cast<int>(kNo + i)});
        all.push_back({with[i].c_str(), no_argument, nullptr, static_cast<int>(kWith + i)});
    }
    all.push_back({});
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> without, with;
    for (const auto feature : kFeatureNames) {
        without.push_back(fmt::format("no-{}", feature));
        with.push_back(fmt::format("with-{}", feature));
    }
    const std::vector<option> all = choices(without, with);
    Campaign campaign;
    for (int choice = 0; (choice = getopt_long(argc, argv, "", all.data(), nullptr)) != -1;) {
        const std::uint64_t value = optarg == nullptr ? 0 : number(optarg);
        switch (choice) {
            case kSeed:
                campaign.first.seed = value;
                break;
            case kSeeds:
                campaign.seeds = value;
                break;
            case kSteps:
                campaign.first.steps = value;
                break;
            case kSeconds:
                campaign.time = std::chrono::seconds(value);
                break;
            case kHours:
                campaign.time = std::chrono::hours(value);
                break;
            case kJobs:
                campaign.jobs = static_cast<unsigned>(value);
                break;
            case kProcesses:
                campaign.first.processes = static_cast<std::uint32_t>(value);
                break;
            case kPages:
                campaign.first.pages = static_cast<std::uint32_t>(value);
                break;
            case kTrace:
                campaign.first.trace = true;
                break;
            case kNoShrink:
                campaign.shrinks = false;
                break;
            default:
                if (choice < kNo) refuse();
                if (choice < kWith)
                    campaign.first.allowed &= ~(1ull << (choice - kNo));
                else
                    campaign.first.wanted |= 1ull << (choice - kWith);
        }
    }
    if (optind != argc || campaign.jobs == 0) refuse();
    if (campaign.seeds == 0 && campaign.time.count() == 0) campaign.seeds = 1;
    return run_campaign(campaign);
}
