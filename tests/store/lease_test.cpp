// The lease: its record, and the rules about who is alive.
#include "store/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace farswap {
namespace {

using ::testing::HasSubstr;

TEST(Lease, RecordRoundTrip) {
    const auto lease = make_lease(12345);
    ASSERT_TRUE(lease) << lease.error().message;
    std::array<std::byte, kLeaseSize> block;
    encode_lease(*lease, block);
    Lease read;
    ASSERT_EQ(decode_lease(block, read), LeaseContent::kLease);
    EXPECT_EQ(read.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(read.nonce, lease->nonce);
    EXPECT_EQ(read.capacity, 12345u);
    EXPECT_EQ(read.host, lease->host);
    EXPECT_EQ(read.state, Lease::State::kOwned);
}

// Who was named, a keeper, may have been killed, and the job goes on.
TEST(Lease, IsRenewedInTheNameOfOneWhoLives) {
    auto lease = make_lease(1);
    ASSERT_TRUE(lease);
    const auto own = lease->pid;
    const auto began = lease->pid_start;
    lease->pid = 0x7ffffff0;
    lease->pid_start = 1;
    renew_lease(*lease);
    EXPECT_EQ(lease->pid, own);
    EXPECT_EQ(lease->pid_start, began);
}

TEST(Lease, EveryDamagedByteIsSeen) {
    const auto lease = make_lease(1);
    ASSERT_TRUE(lease);
    std::array<std::byte, kLeaseSize> block;
    encode_lease(*lease, block);
    for (std::size_t at = 0; at < 192; ++at) {
        block[at] ^= std::byte{1};
        Lease read;
        ASSERT_EQ(decode_lease(block, read), LeaseContent::kForeign) << at;
        block[at] ^= std::byte{1};
    }
    std::ranges::fill(block, std::byte{0});
    Lease read;
    EXPECT_EQ(decode_lease(block, read), LeaseContent::kEmpty);
    block.back() = std::byte{1};
    EXPECT_EQ(decode_lease(block, read), LeaseContent::kForeign);
}

class JudgeLease : public ::testing::Test {
  protected:
    void SetUp() override {
        auto lease = make_lease(1);
        auto here = observe_from_here();
        ASSERT_TRUE(lease && here);
        lease_ = *lease;
        here_ = *here;
    }
    Lease lease_;
    Observer here_;
};

TEST_F(JudgeLease, OnThisMachineTheProcessDecides) {
    EXPECT_EQ(judge(lease_, here_), Owner::kAlive);
    lease_.beat_time_s -= 1'000'000;  // stopped for days, but alive
    EXPECT_EQ(judge(lease_, here_), Owner::kAlive);
    ++lease_.pid_start;  // another process has the number now
    EXPECT_EQ(judge(lease_, here_), Owner::kDead);
}

TEST_F(JudgeLease, ElsewhereTheBeatDecides) {
    lease_.boot_id[0] ^= 1;
    EXPECT_EQ(judge(lease_, here_), Owner::kAlive);
    lease_.beat_time_s = here_.now_s - kLeaseExpiry.count() - 1;
    EXPECT_EQ(judge(lease_, here_), Owner::kUnknown);
    lease_.beat_time_s = here_.now_s + 1'000'000;  // its clock is ahead
    EXPECT_EQ(judge(lease_, here_), Owner::kUnknown);
}

TEST_F(JudgeLease, NameAndPidNamespaceMustBeOursForThePidToMeanAnything) {
    ++lease_.pid_start;
    Lease other_host = lease_;
    other_host.host[0] ^= 1;
    EXPECT_EQ(judge(other_host, here_), Owner::kAlive);
    Lease container = lease_;
    ++container.pid_namespace;
    EXPECT_EQ(judge(container, here_), Owner::kAlive);
}

TEST_F(JudgeLease, GivenUpIsNobodys) {
    lease_.state = Lease::State::kFree;
    EXPECT_EQ(judge(lease_, here_), Owner::kNone);
}

TEST_F(JudgeLease, ZombieIsDead) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(0);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
    bool runs_at_any_start = false;
    for (std::uint64_t start = lease_.pid_start; start < lease_.pid_start + 10'000; ++start)
        runs_at_any_start |= process_runs(static_cast<std::uint32_t>(child), start);
    EXPECT_FALSE(runs_at_any_start);
    ::waitpid(child, nullptr, 0);
}

TEST_F(JudgeLease, OwnerIsDescribed) {
    EXPECT_THAT(describe_owner(lease_, lease_.beat_time_s + 3 * 3600),
                HasSubstr("last sign of life 3 h ago"));
    EXPECT_THAT(describe_owner(lease_, lease_.beat_time_s), HasSubstr(std::to_string(::getpid())));
}

// Whoever may write to the server may write the record.
TEST_F(JudgeLease, NameThatWouldMoveACursorIsShownWithoutIt) {
    constexpr char kName[] = "nas\x1b[2Jrm\xc3\xa4\n";
    std::copy(std::begin(kName), std::end(kName), lease_.host.begin());
    EXPECT_THAT(describe_owner(lease_, lease_.beat_time_s), HasSubstr("host nas?[2Jrm???, pid"));
}

TEST_F(JudgeLease, TimesAtTheEndsOfTheirRangeAreFarAway) {
    constexpr auto kFirst = std::numeric_limits<std::int64_t>::min();
    constexpr auto kLast = std::numeric_limits<std::int64_t>::max();
    lease_.boot_id.front() ^= 1;
    for (const auto& [beat, now] : {std::pair{kFirst, kLast}, {kLast, kFirst}, {kFirst, std::int64_t{0}}}) {
        lease_.beat_time_s = beat;
        here_.now_s = now;
        EXPECT_EQ(judge(lease_, here_), Owner::kUnknown) << beat << " " << now;
        EXPECT_THAT(describe_owner(lease_, now), HasSubstr(beat < now ? " days ago" : " 0 s ago"));
    }
}

}  // namespace
}  // namespace farswap
