// Who gets what of the budget, with hand-made jobs and a clock of our own.
#include "daemon/ledger.h"
#include "base/units.h"

#include <gmock/gmock.h>

#include <random>

namespace farswap::daemon {
namespace {

using namespace std::chrono_literals;
using cli::ShareReply;
using cli::ShareReplyKind;
using cli::ShareRequest;
using cli::ShareRequestKind;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Config config_of(std::uint64_t ram_mib) {
    Config config;
    config.ram = ram_mib * kMiB;
    return config;
}

/// A pager as the ledger sees it.
struct FakeJob {
    uid_t user = 1000;
    std::uint64_t most = 10000 * kMiB, least = 40 * kMiB;
    std::uint64_t cap = 0, ram = 0, far = 0, refaults = 0, serial = 0;
    bool is_stubborn = false;  ///< does not come down
    bool is_refused = false, is_granted = false;
    std::string text{};

    ShareRequest request(ShareRequestKind kind) const {
        return {.kind = kind,
                .serial = serial,
                .cap = cap,
                .least = least,
                .most = most,
                .ram = ram,
                .far = far,
                .refaults = refaults};
    }
};

class LedgerTest : public testing::Test {
  protected:
    void configure(Config config) { ledger_ = std::make_unique<Ledger>(std::move(config)); }

    /// It comes, and takes what it is told at once.
    FakeJob& start(Ledger::Id id, uid_t user, FakeJob job = {}) {
        job.user = user;
        FakeJob& one = jobs_[id] = job;
        const auto refusal = ledger_->ask(id, {.process = static_cast<pid_t>(4000 + id), .user = user},
                                          one.request(ShareRequestKind::kAsk), now_);
        if (refusal) take(one, *refusal);
        settle();
        return one;
    }
    void take(FakeJob& job, const ShareReply& reply) {
        job.text = reply.text;
        if (reply.kind == ShareReplyKind::kRefused) job.is_refused = true;
        if (reply.kind == ShareReplyKind::kGranted) job.is_granted = true;
        if (reply.kind != ShareReplyKind::kGranted && reply.kind != ShareReplyKind::kCap) return;
        job.cap = reply.cap;
        job.serial = reply.serial;
    }
    void deliver() {
        for (const auto& [id, reply, is_last] : ledger_->take_replies(now_)) take(jobs_.at(id), reply);
        for (auto& line : ledger_->take_lines()) log_.push_back(std::move(line));
    }
    void report(Ledger::Id id) { ledger_->report(id, jobs_.at(id).request(ShareRequestKind::kReport), now_); }
    /// All say how they do, and come down to their caps.
    void settle(int rounds = 4) {
        for (int i = 0; i < rounds; ++i) {
            deliver();
            now_ += 500ms;
            for (auto& [id, job] : jobs_) {
                if (job.is_refused) continue;
                if (!job.is_stubborn) job.ram = std::min(job.ram, job.cap);
                report(id);
            }
        }
        deliver();
    }
    void end(Ledger::Id id) {
        ledger_->release(id);
        jobs_.erase(id);
        settle();
    }
    std::uint64_t cap_mib(Ledger::Id id) { return (jobs_.at(id).cap + kMiB / 2) / kMiB; }

    Ledger::Clock::time_point now_{};
    std::unique_ptr<Ledger> ledger_;
    std::map<Ledger::Id, FakeJob> jobs_;
    std::vector<std::string> log_;
};

TEST_F(LedgerTest, WithoutABudgetThereIsNothingToHave) {
    configure({});
    const auto reply = ledger_->ask(1, {.user = 1}, {.kind = ShareRequestKind::kAsk, .most = kMiB}, now_);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->kind, ShareReplyKind::kNone);
    EXPECT_EQ(ledger_->size(), 0u);
}

TEST_F(LedgerTest, AMistakeRefusesWhoComesAndLeavesWhoRuns) {
    configure({.mistake = "f.toml:1:1: no TOML"});
    EXPECT_TRUE(start(1, 1000).is_refused);
    EXPECT_THAT(jobs_.at(1).text, HasSubstr("has a mistake: ask the administrator"));
    EXPECT_THAT(log_, ElementsAre("user 1000, process 4001: refused: the configuration has a mistake"));
    ASSERT_EQ(ledger_->entries().size(), 1u);
    EXPECT_EQ(ledger_->entries().front().kind, ShareReplyKind::kRefused);
    EXPECT_FALSE(start(2, 1000, {.cap = 300 * kMiB}).is_refused) << "it tries again by and by";
    EXPECT_EQ(ledger_->size(), 0u);
    EXPECT_EQ(log_.size(), 1u) << "and each time without a line";
    ledger_->reconfigure(config_of(400));
    start(2, 1000, {.cap = 300 * kMiB});
    EXPECT_EQ(ledger_->size(), 1u);
    EXPECT_THAT(log_, Contains(HasSubstr("came back with a cap of 300 MiB")));
}

TEST_F(LedgerTest, AJobAloneGetsAllAndIsToldTheDefaults) {
    Config config = config_of(1000);
    config.defaults = {.swap = {"file:/a", "file:/b"}, .compress = "zstd", .on_full = "wait"};
    config.others.stores = {"file:/a"};
    configure(config);
    const FakeJob& job = start(1, 1000);
    EXPECT_TRUE(job.is_granted);
    EXPECT_EQ(cap_mib(1), 1000u);
    EXPECT_THAT(
        log_, ElementsAre("user 1000, process 4001: granted 1000 MiB of 9.8 GiB asked; 1000 MiB of 1000 MiB "
                          "are held"));
    start(2, 1000, {.most = 100 * kMiB});
    EXPECT_EQ(jobs_.at(2).text, "swap file:/a\nswap file:/b\nstore file:/a\ncompress zstd\non-full wait\n");
}

TEST_F(LedgerTest, TheSecondHasItsShareOnceTheFirstHasComeDown) {
    configure(config_of(1000));
    start(1, 1000).ram = 900 * kMiB;
    settle();
    jobs_[2] = {.user = 1001};
    ledger_->ask(2, {.process = 4002, .user = 1001}, jobs_[2].request(ShareRequestKind::kAsk), now_);
    deliver();
    EXPECT_EQ(cap_mib(1), 500u) << "told to come down";
    report(1);
    deliver();
    EXPECT_EQ(cap_mib(2), 0u) << "it has not come down";
    jobs_[1].ram = 490 * kMiB;
    report(1);
    deliver();
    EXPECT_EQ(cap_mib(2), 500u);
    end(2);
    EXPECT_EQ(cap_mib(1), 1000u);
    EXPECT_THAT(log_, Contains("user 1001, process 4002: released 500 MiB; 500 MiB of 1000 MiB are held"));
    EXPECT_THAT(log_, Contains("user 1000, process 4001: cap 1000 MiB instead of 500 MiB"));
}

TEST_F(LedgerTest, OneThatDoesNotComeDownIsNamedAndCountsAsItIs) {
    configure(config_of(1000));
    FakeJob& job = start(1, 1000);
    job.ram = 970 * kMiB;
    job.is_stubborn = true;
    settle();
    start(2, 1001);
    settle(60);
    EXPECT_THAT(log_,
                Contains("user 1000, process 4001: has 970 MiB for 20 s although its cap is 500 MiB: it "
                         "counts as 970 MiB"));
    EXPECT_TRUE(jobs_[2].is_refused);
    EXPECT_THAT(jobs_[2].text, HasSubstr("no room came free within 30 s: the machine's budget is 1000 MiB "
                                         "(user 1000: 970 MiB in 1 job"));
    EXPECT_LE(ledger_->held(), 1000 * kMiB);
}

TEST_F(LedgerTest, OneThatGoesBackToItsOldCapIsBelieved) {
    configure(config_of(1000));
    FakeJob& job = start(1, 1000);
    job.ram = 970 * kMiB;
    job.is_stubborn = true;
    settle();
    start(2, 1001);
    jobs_[1].cap = 1000 * kMiB;
    report(1);
    deliver();
    EXPECT_EQ(ledger_->held(), 1000 * kMiB);
    EXPECT_THAT(log_, Contains("user 1000, process 4001: cannot come down, and has 1000 MiB"));
}

TEST_F(LedgerTest, ANewOneBeginsWithLessRatherThanNotAtAll) {
    configure(config_of(1000));
    start(1, 1000).ram = 900 * kMiB;
    settle();
    jobs_[1].ram = 600 * kMiB;
    start(2, 1001);
    EXPECT_TRUE(jobs_[2].is_granted);
    jobs_.clear();
    configure(config_of(1000));
    start(1, 1000, {.most = 900 * kMiB}).ram = 900 * kMiB;
    settle();
    jobs_[2] = {.user = 1001};
    ledger_->ask(2, {.process = 4002, .user = 1001}, jobs_[2].request(ShareRequestKind::kAsk), now_);
    for (int i = 0; i < 11; ++i) {
        deliver();
        now_ += 500ms;
    }
    EXPECT_TRUE(jobs_[2].is_granted);
    EXPECT_EQ(cap_mib(2), 100u);
}

TEST_F(LedgerTest, Refusals) {
    Config config = config_of(1000);
    config.jobs_max = 4;
    config.defaults.ram_least = 100 * kMiB;
    config.users.emplace_back(1, Rule{.is_allowed = false});
    config.users.emplace_back(2, Rule{.jobs_max = 1});
    config.users.emplace_back(3, Rule{.ram_max = 150 * kMiB});
    configure(config);
    EXPECT_THAT(start(1, 1).text, HasSubstr("may not run jobs here"));
    EXPECT_TRUE(start(2, 2).is_granted);
    EXPECT_THAT(start(3, 2).text, HasSubstr("as many jobs of this user run already as are allowed (1)"));
    EXPECT_TRUE(start(4, 3).is_granted);
    EXPECT_LE(cap_mib(4), 150u);
    EXPECT_THAT(start(5, 3).text, HasSubstr("the jobs of this user may have 150 MiB together"));
    EXPECT_THAT(start(6, 3, {.least = 200 * kMiB}).text, HasSubstr("a job may have 150 MiB here"));
    EXPECT_THAT(start(7, 4, {.least = 900 * kMiB}).text,
                HasSubstr("no room: the machine's budget is 1000 MiB"));
    EXPECT_THAT(log_.back(), HasSubstr("user 4, process 4007: refused: no room"));
    start(8, 4);
    start(9, 4);
    EXPECT_THAT(start(10, 5).text, HasSubstr("as many jobs run already as this machine allows (4)"));
    EXPECT_EQ(ledger_->size(), 4u);
}

TEST_F(LedgerTest, WhatOneHasNoUseForGoesToTheOther) {
    configure(config_of(1000));
    start(1, 1000);
    start(2, 1001);
    jobs_[1].ram = 100 * kMiB;
    jobs_[2].ram = 500 * kMiB;
    jobs_[2].far = 500 * kMiB;
    for (int i = 0; i < 240; ++i) {  // two minutes
        jobs_[2].refaults += 5000;
        jobs_[2].ram = jobs_[2].cap;
        settle(1);
    }
    EXPECT_GE(cap_mib(2), 800u);
    EXPECT_GE(cap_mib(1), 130u);
    jobs_[1].ram = jobs_[1].cap;
    jobs_[1].far = 900 * kMiB;
    for (int i = 0; i < 30; ++i) {
        jobs_[1].refaults += 5000;
        jobs_[1].ram = jobs_[1].cap;
        settle(1);
    }
    EXPECT_GE(cap_mib(1), 460u) << "and comes back when it is needed";
}

TEST_F(LedgerTest, ColdPagesOutsideAreNotDemanded) {
    configure(config_of(1000));
    start(1, 1000);
    start(2, 1001);
    jobs_[1].ram = 100 * kMiB;
    jobs_[1].far = 5000 * kMiB;
    for (int i = 0; i < 240; ++i) {
        jobs_[2].refaults += 5000;
        jobs_[2].far = 800 * kMiB;
        jobs_[2].ram = jobs_[2].cap;
        settle(1);
    }
    EXPECT_GE(cap_mib(2), 800u);
}

TEST_F(LedgerTest, OtherRulesHoldAtOnce) {
    configure(config_of(1000));
    start(1, 1000);
    ledger_->reconfigure(config_of(600));
    settle();
    EXPECT_EQ(cap_mib(1), 600u);
    ledger_->reconfigure({});
    settle();
    EXPECT_EQ(cap_mib(1), 10000u) << "no budget any more";
}

TEST_F(LedgerTest, ThoseThatComeBackKeepWhatTheyHave) {
    configure(config_of(1000));
    start(1, 1000, {.cap = 800 * kMiB, .ram = 700 * kMiB});
    start(2, 1001, {.cap = 800 * kMiB, .ram = 700 * kMiB});
    EXPECT_THAT(log_, Contains("user 1001, process 4002: came back with a cap of 800 MiB"));
    EXPECT_EQ(cap_mib(1), 500u);
    EXPECT_EQ(cap_mib(2), 500u);
    EXPECT_LE(ledger_->held(), 1000 * kMiB);
}

TEST_F(LedgerTest, LiesWinNothingBeyondTheirUsersPart) {
    Config config = config_of(1000);
    config.others.jobs_max = 1;
    configure(config);
    start(1, 1000);
    FakeJob& liar = start(2, 1001);
    EXPECT_EQ(cap_mib(1), 500u);
    liar.least = 5000 * kMiB;  // cannot do with less
    settle();
    EXPECT_EQ(cap_mib(1), 500u);
    EXPECT_EQ(cap_mib(2), 500u);
    liar.cap = 5000 * kMiB;  // has more
    report(2);
    settle(1);
    EXPECT_LE(ledger_->held(), 1000 * kMiB);
    jobs_.erase(2);
    ledger_->release(2);
    EXPECT_TRUE(start(3, 1000, {.cap = 900 * kMiB}).is_refused) << "came back, but was never there";
    start(4, 1001, {.cap = 1ull << 49});
    EXPECT_LE(ledger_->held(), 2000 * kMiB) << "no more than there is, beside the first";
    settle();
    EXPECT_EQ(cap_mib(1), 500u);
}

TEST_F(LedgerTest, ListsWhoHoldsWhat) {
    configure(config_of(1000));
    start(1, 1000, {.most = 300 * kMiB});
    const auto entries = ledger_->entries();
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].user, 1000u);
    EXPECT_EQ(entries[0].process, 4001u);
    EXPECT_EQ(entries[0].cap, 300 * kMiB);
    EXPECT_EQ(entries[1].kind, ShareReplyKind::kEnd);
    EXPECT_EQ(entries[1].held, 300 * kMiB);
}

/// Pagers that come down slowly, grow at once, come, go, and send nonsense: what they have together never
/// exceeds the budget.
TEST_F(LedgerTest, NeverMoreThanThereIs) {
    for (unsigned seed = 0; seed < 40; ++seed) {
        std::mt19937 random(seed);
        const auto pick = [&](unsigned low, unsigned high) {
            return std::uniform_int_distribution(low, high)(random);
        };
        configure(config_of(4000));
        jobs_.clear();
        std::map<Ledger::Id, std::uint64_t> holds;  // the greatest cap that it still follows
        for (Ledger::Id step = 1; step < 400; ++step) {
            now_ += std::chrono::milliseconds(pick(1, 1500));
            if (pick(0, 9) == 0 && jobs_.size() < 12) {
                FakeJob job{.user = pick(1, 4), .most = pick(50, 5000) * kMiB};
                jobs_[step] = job;
                const auto reply = ledger_->ask(step, {.process = 1, .user = job.user},
                                                job.request(ShareRequestKind::kAsk), now_);
                if (reply) jobs_.erase(step);
            }
            if (pick(0, 19) == 0 && !jobs_.empty()) {
                const Ledger::Id gone = jobs_.begin()->first;
                ledger_->release(gone);
                jobs_.erase(gone);
                holds.erase(gone);
            }
            for (const auto& [id, reply, is_last] : ledger_->take_replies(now_)) {
                take(jobs_.at(id), reply);
                holds[id] = std::max(holds[id], reply.cap);
                if (is_last) jobs_.erase(id), holds.erase(id);
            }
            for (auto& [id, job] : jobs_) {
                if (pick(0, 2) == 0) continue;
                const bool comes_down = pick(0, 1) == 0;
                job.ram = comes_down ? std::min<std::uint64_t>(pick(1, 2000) * kMiB, job.cap)
                                     : std::min<std::uint64_t>(pick(1, 6000) * kMiB, holds[id]);
                job.far = pick(0, 3000) * kMiB;
                job.refaults += pick(0, 3000);
                holds[id] = std::max(job.ram, job.cap);
                report(id);
            }
            std::uint64_t sum = 0;
            for (const auto& [id, bytes] : holds) sum += bytes;
            ASSERT_LE(sum, 4000 * kMiB) << "seed " << seed << ", step " << step;
        }
    }
}

}  // namespace
}  // namespace farswap::daemon
