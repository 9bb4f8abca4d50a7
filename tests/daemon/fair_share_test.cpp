// The division of the budget: hand-made cases, and what must hold whatever the jobs want.
#include "daemon/fair_share.h"
#include "base/units.h"

#include <gmock/gmock.h>

#include <map>
#include <numeric>
#include <random>

namespace farswap::daemon {
namespace {

using testing::ElementsAre;

/// Of a user, with what it demands and wants at the most.
ShareNow job(uid_t user, std::uint64_t demand_mib, std::uint64_t most_mib, std::uint32_t weight = 1) {
    return {.user = user,
            .weight = weight,
            .floor = 32 * kMiB,
            .demand = demand_mib * kMiB,
            .most = most_mib * kMiB};
}
ShareNow running(ShareNow job, std::uint64_t told_mib, std::uint64_t held_mib = 0) {
    job.told = told_mib * kMiB;
    job.held = std::max(job.told, held_mib * kMiB);
    return job;
}

std::vector<std::uint64_t> in_mib(std::vector<std::uint64_t> amounts) {
    for (auto& amount : amounts) amount = (amount + kMiB / 2) / kMiB;
    return amounts;
}
std::vector<std::uint64_t> shares_mib(const std::vector<ShareNow>& jobs, std::uint64_t budget_mib) {
    return in_mib(fair_shares(jobs, budget_mib * kMiB));
}
std::vector<std::uint64_t> caps_mib(const std::vector<ShareNow>& jobs, std::uint64_t budget_mib) {
    return in_mib(next_caps(jobs, budget_mib * kMiB));
}

TEST(FairShare, OneAloneGetsWhatItWants) {
    EXPECT_THAT(shares_mib({job(1, 100, 800)}, 1000), ElementsAre(800));
    EXPECT_THAT(shares_mib({job(1, 100, 8000)}, 1000), ElementsAre(1000));
}

TEST(FairShare, UsersAreEqualHoweverManyJobsTheyHave) {
    EXPECT_THAT(shares_mib({job(1, 900, 900), job(2, 900, 900), job(2, 900, 900)}, 1000),
                ElementsAre(500, 250, 250));
}

TEST(FairShare, WeightsCount) {
    EXPECT_THAT(shares_mib({job(1, 900, 900, 3), job(2, 900, 900)}, 1000), ElementsAre(750, 250));
}

TEST(FairShare, WhatOneDoesNotNeedGoesToTheOthers) {
    EXPECT_THAT(shares_mib({job(1, 100, 900), job(2, 900, 900), job(3, 900, 900)}, 1000),
                ElementsAre(100, 450, 450));
    EXPECT_THAT(shares_mib({job(1, 100, 900), job(1, 900, 900), job(2, 900, 900)}, 1000),
                ElementsAre(100, 400, 500));
}

TEST(FairShare, WhatNobodyNeedsIsDividedToo) {
    EXPECT_THAT(shares_mib({job(1, 100, 900), job(2, 200, 900)}, 1000), ElementsAre(500, 500));
}

TEST(FairShare, AUsersLimitHoldsForAllHisJobs) {
    std::vector<ShareNow> jobs{job(1, 900, 900), job(1, 900, 900), job(2, 900, 900)};
    jobs[0].user_most = jobs[1].user_most = 300 * kMiB;
    EXPECT_THAT(shares_mib(jobs, 1000), ElementsAre(150, 150, 700));
}

TEST(FairShare, TheFloorIsEverybodys) {
    std::vector<ShareNow> jobs{job(1, 900, 900), job(2, 900, 900)};
    jobs[0].floor = 700 * kMiB;
    EXPECT_THAT(shares_mib(jobs, 1000), ElementsAre(700, 300));
}

TEST(NextCaps, ADecreaseComesBeforeTheIncreaseThatItServes) {
    std::vector<ShareNow> jobs{running(job(1, 900, 900), 900), running(job(2, 900, 900), 100)};
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(500, 100)) << "nothing is free yet";
    jobs[0] = running(job(1, 900, 900), 500, 900);
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(500, 100)) << "told, but not yet done";
    jobs[0] = running(job(1, 900, 900), 500);
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(500, 500));
}

TEST(NextCaps, ANewOneWaitsForItsShareOrTakesLess) {
    std::vector<ShareNow> jobs{running(job(1, 900, 900), 500, 900), job(2, 900, 900)};
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(500, 0));
    jobs[1].takes_less = true;
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(500, 100));
    jobs[0].held = 990 * kMiB;
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(500, 0)) << "less than its floor is no beginning";
}

TEST(NextCaps, NobodyGrowsWhileSomebodyWaits) {
    const std::vector<ShareNow> jobs{running(job(1, 900, 900), 300), running(job(3, 900, 900), 300, 550),
                                     job(2, 900, 900)};
    EXPECT_THAT(caps_mib(jobs, 900), ElementsAre(300, 300, 0));
    const std::vector<ShareNow> more{running(job(1, 900, 900), 200), running(job(3, 900, 900), 300, 550),
                                     job(2, 900, 900)};
    EXPECT_THAT(caps_mib(more, 900), ElementsAre(200, 300, 0));
}

TEST(NextCaps, SmallChangesAreLeftAlone) {
    const std::vector<ShareNow> jobs{running(job(1, 900, 900), 490), running(job(2, 900, 900), 510)};
    EXPECT_THAT(caps_mib(jobs, 1000), ElementsAre(490, 510));
}

TEST(NextCaps, SmallChangesAreMadeForWhoLacks) {
    std::vector<ShareNow> jobs;
    for (uid_t user = 1; user <= 10; ++user) jobs.push_back(running(job(user, 900, 900), 100));
    jobs.push_back(job(11, 900, 900));
    const auto caps = caps_mib(jobs, 1000);
    EXPECT_EQ(caps.front(), 91u);
    EXPECT_EQ(caps.back(), 0u);
}

/// Jobs that come, go, change their minds and come down when they like.
class ChangingJobs {
  public:
    explicit ChangingJobs(unsigned seed) : random_(seed) {}

    void change() {
        const auto floors =
            std::accumulate(jobs.begin(), jobs.end(), std::uint64_t{0},
                            [](std::uint64_t sum, const ShareNow& one) { return sum + one.floor; });
        const ShareNow fresh = any();
        switch (pick(0, 5)) {
            case 0:
                if (jobs.size() < 20 && floors + fresh.floor <= budget) jobs.push_back(fresh);
                break;
            case 1:
                if (!jobs.empty())
                    jobs.erase(jobs.begin() + static_cast<std::ptrdiff_t>(pick(0, jobs.size() - 1)));
                break;
            default:
                if (!jobs.empty()) one().demand = pick(1, 2000) * kMiB;
        }
    }
    void come_down() {
        if (jobs.empty()) return;
        ShareNow& job = one();
        job.held = job.told;
    }
    void all_come_down() {
        for (ShareNow& job : jobs) job.held = job.told;
    }
    void tell() {
        const auto caps = next_caps(jobs, budget);
        for (std::size_t i = 0; i < jobs.size(); ++i) {
            jobs[i].told = caps[i];
            jobs[i].held = std::max(jobs[i].held, caps[i]);
        }
    }
    std::uint64_t held() const {
        std::uint64_t sum = 0;
        for (const ShareNow& job : jobs) sum += job.held;
        return sum;
    }

    std::vector<ShareNow> jobs;
    static constexpr std::uint64_t budget = 4000 * kMiB;

  private:
    std::uint64_t pick(std::uint64_t low, std::uint64_t high) {
        return std::uniform_int_distribution<std::uint64_t>(low, high)(random_);
    }
    ShareNow& one() { return jobs[pick(0, jobs.size() - 1)]; }
    ShareNow any() {
        const uid_t user = static_cast<uid_t>(pick(1, 5));
        const std::uint64_t floor = pick(20, 200) * kMiB;
        return {.user = user,
                .weight = user,
                .user_most = user == 5 ? 900 * kMiB : 0,
                .floor = floor,
                .demand = pick(20, 2000) * kMiB,
                .most = floor + pick(1, 4000) * kMiB,
                .takes_less = pick(0, 1) == 1};
    }
    std::mt19937 random_;
};

TEST(NextCaps, NeverMoreThanThereIsAndAllComeToTheirShare) {
    for (unsigned seed = 0; seed < 300; ++seed) {
        ChangingJobs machine(seed);
        for (int step = 0; step < 60; ++step) {
            machine.change();
            machine.tell();
            ASSERT_LE(machine.held(), ChangingJobs::budget) << "seed " << seed << ", step " << step;
            machine.come_down();
        }
        for (int step = 0; step < 10; ++step) {
            machine.tell();
            ASSERT_LE(machine.held(), ChangingJobs::budget) << "seed " << seed << ", at the end";
            machine.all_come_down();
        }
        const auto shares = fair_shares(machine.jobs, ChangingJobs::budget);
        for (std::size_t i = 0; i < machine.jobs.size(); ++i) {
            const ShareNow& job = machine.jobs[i];
            EXPECT_TRUE(job.told == shares[i] || is_small_change(job.told, shares[i]))
                << "seed " << seed << ", job " << i << ": " << job.told / kMiB << " of " << shares[i] / kMiB;
            EXPECT_GE(job.told, job.floor);
        }
        const auto told = machine.jobs;
        machine.tell();
        for (std::size_t i = 0; i < told.size(); ++i)
            EXPECT_EQ(machine.jobs[i].told, told[i].told) << "it has settled";
    }
}

/// Nobody has less than he demands while another has more than an equal part and could give.
TEST(FairShare, IsMaxMin) {
    for (unsigned seed = 0; seed < 300; ++seed) {
        ChangingJobs machine(seed);
        for (int step = 0; step < 60; ++step) machine.change();
        const auto shares = fair_shares(machine.jobs, ChangingJobs::budget);
        std::uint64_t weights = 0;
        std::map<uid_t, std::uint64_t> demands, amounts, jobs_of;
        for (std::size_t i = 0; i < shares.size(); ++i) {
            const ShareNow& job = machine.jobs[i];
            if (jobs_of[job.user]++ == 0) weights += job.weight;
            demands[job.user] += std::min(job.demand, job.most);
            amounts[job.user] += shares[i];
        }
        std::uint64_t floors = 0;
        for (const ShareNow& job : machine.jobs) floors += job.floor;
        for (const auto& [user, amount] : amounts) {
            // What floors take beyond a fair part is taken from all.
            const std::uint64_t fair =
                (ChangingJobs::budget - floors) / std::max<std::uint64_t>(weights, 1) * user;
            const std::uint64_t limit = user == 5 ? 900 * kMiB : ChangingJobs::budget;
            EXPECT_GE(amount + kMiB, std::min({fair, demands[user], limit}))
                << "seed " << seed << ", user " << user;
        }
    }
}

}  // namespace
}  // namespace farswap::daemon
