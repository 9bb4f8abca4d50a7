// Calls that populate memory or put guards into it wait until they are let go or answered; all others go on.
#include "target/advice_gate.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "child.h"
#include "farswap/request.h"
#include "target/uapi.h"

namespace farswap::target {
namespace {

constexpr std::size_t kBytes = 64 * kPageSize;

struct Progress {
    std::atomic<int> listener{-1};
    std::atomic<bool> taken{false};
    std::atomic<int> result{-1};
    std::atomic<int> populated{-1};  ///< pages, before and after the call
};

void* map_fresh() {
    return mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int populated(void* memory) {
    std::vector<unsigned char> pages(kBytes / kPageSize);
    if (mincore(memory, kBytes, pages.data()) != 0) return -1;
    int count = 0;
    for (unsigned char page : pages) count += page & 1;
    return count;
}

class AdviceGateTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto loop = io::Loop::create();
        ASSERT_TRUE(loop) << loop.error().message;
        loop_ = std::move(*loop);
        gate_ = std::make_unique<AdviceGate>(*loop_, [this](const auto& call) { calls_.push_back(call); });
    }
    /// Starts a child behind a gate and takes the gate over.
    void start(const std::function<int()>& body) {
        child_ = std::make_unique<Child>([this, &body] {
            progress_->listener = AdviceGate::install();
            while (!progress_->taken) usleep(100);
            return body();
        });
        ASSERT_TRUE(wait_until([&] { return progress_->listener != -1; }));
        ASSERT_GE(progress_->listener, 0) << "errno " << -progress_->listener;
        const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child_->process(), 0)));
        gate_->listen(
            Fd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), progress_->listener.load(), 0))));
        progress_->taken = true;
    }
    bool call_comes() {
        for (int turns = 0; calls_.empty() && turns < 600; turns++)
            loop_->run_once(std::chrono::milliseconds(100));
        return !calls_.empty();
    }

    std::unique_ptr<io::Loop> loop_;
    Shared<Progress> progress_;
    std::unique_ptr<AdviceGate> gate_;
    std::vector<AdviceGate::Call> calls_;
    std::unique_ptr<Child> child_;
};

TEST_F(AdviceGateTest, APopulatingCallWaitsUntilItIsLetGo) {
    start([this] {
        void* memory = map_fresh();
        progress_->populated = populated(memory);
        progress_->result = madvise(memory, kBytes, MADV_POPULATE_WRITE);
        progress_->populated = populated(memory);
        return 0;
    });
    ASSERT_TRUE(call_comes());
    EXPECT_EQ(calls_[0].process, child_->process());
    EXPECT_EQ(calls_[0].bytes, kBytes);
    EXPECT_EQ(progress_->populated, 0);
    EXPECT_EQ(progress_->result, -1);
    gate_->let_go(calls_[0]);
    EXPECT_EQ(child_->join(), 0);
    EXPECT_EQ(progress_->result, 0);
    EXPECT_EQ(progress_->populated, static_cast<int>(kBytes / kPageSize));
}

TEST_F(AdviceGateTest, WhatIsExecutedBehindItIsHeldUpToo) {
    start([] {
        execl("/usr/bin/python3", "python3", "-c",
              "import mmap; m = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m.madvise(22)",
              nullptr);
        return 1;
    });
    ASSERT_TRUE(call_comes());
    EXPECT_EQ(calls_[0].bytes, 1u << 20);
    gate_->let_go(calls_[0]);
    EXPECT_EQ(child_->join(), 0);
}

TEST_F(AdviceGateTest, ACallCanBeAnsweredWithoutBeingMade) {
    start([this] {
        void* memory = map_fresh();
        *static_cast<char*>(memory) = 1;
        progress_->result = madvise(memory, kBytes, MADV_GUARD_INSTALL);
        const bool unharmed = *static_cast<char*>(memory) == 1;
        const bool refused = madvise(memory, kPageSize, MADV_GUARD_INSTALL) == -1 && errno == ENOSPC;
        return unharmed && refused ? 0 : 1;
    });
    ASSERT_TRUE(call_comes());
    EXPECT_FALSE(calls_[0].populates());
    gate_->answer(calls_[0], 0);
    calls_.clear();
    ASSERT_TRUE(call_comes());
    EXPECT_EQ(progress_->result, 0);
    gate_->answer(calls_[0], ENOSPC);
    EXPECT_EQ(child_->join(), 0);
}

TEST_F(AdviceGateTest, OtherAdviceIsNotHeldUp) {
    start([] {
        void* memory = map_fresh();
        return madvise(memory, kBytes, MADV_DONTNEED) | madvise(memory, kBytes, MADV_WILLNEED);
    });
    EXPECT_EQ(child_->join(), 0);
    EXPECT_TRUE(calls_.empty());
}

TEST_F(AdviceGateTest, WhatIsSaidOfForksIsToldWithItsRange) {
    start([] {
        void* memory = map_fresh();
        return madvise(memory, kBytes, MADV_WIPEONFORK) | madvise(memory, kBytes, MADV_DONTFORK) |
               madvise(memory, kBytes, MADV_DOFORK) | madvise(memory, kBytes, MADV_KEEPONFORK);
    });
    std::uint64_t start = 0;
    for (const bool wipes : {true, false}) {
        ASSERT_TRUE(call_comes());
        EXPECT_TRUE(calls_[0].is_about_forks());
        EXPECT_EQ(calls_[0].wipes(), wipes);
        EXPECT_EQ(calls_[0].bytes, kBytes);
        EXPECT_EQ(calls_[0].start, start == 0 ? calls_[0].start : start);
        start = calls_[0].start;
        EXPECT_FALSE(calls_[0].populates() || calls_[0].may_wipe_unseen);
        gate_->let_go(calls_[0]);
        calls_.clear();
    }
    EXPECT_EQ(child_->join(), 0);
    EXPECT_TRUE(calls_.empty());
}

TEST_F(AdviceGateTest, WhatMayAdviseUnseenIsTold) {
    start([] {
        (void)syscall(SYS_process_madvise, -1, nullptr, 0, MADV_WIPEONFORK, 0);
        (void)syscall(SYS_process_madvise, -1, nullptr, 0, MADV_COLD, 0);
        (void)syscall(SYS_io_uring_setup, 0, nullptr);
        return 0;
    });
    for (int i = 0; i < 2; i++) {
        ASSERT_TRUE(call_comes());
        EXPECT_TRUE(calls_[0].may_wipe_unseen);
        EXPECT_FALSE(calls_[0].populates() || calls_[0].is_about_forks());
        gate_->let_go(calls_[0]);
        calls_.clear();
    }
    EXPECT_EQ(child_->join(), 0);
    EXPECT_TRUE(calls_.empty());
}

TEST_F(AdviceGateTest, ACallerThatIsKilledMeanwhileIsNobody) {
    start([] { return madvise(map_fresh(), kBytes, MADV_POPULATE_READ); });
    ASSERT_TRUE(call_comes());
    kill(child_->process(), SIGKILL);
    child_.reset();
    EXPECT_FALSE(gate_->let_go(calls_[0]));
    loop_->run_once(std::chrono::milliseconds(100));
    EXPECT_EQ(calls_.size(), 1u);
}

TEST_F(AdviceGateTest, OfNamespacesOnlyTheCallsForASingleThreadWait) {
    start([this] {
        (void)unshare(CLONE_FS | CLONE_FILES | CLONE_NEWNS);
        (void)setns(-1, CLONE_NEWNET);
        (void)unshare(CLONE_NEWUSER);
        (void)setns(-1, CLONE_NEWUSER);
        (void)setns(-1, 0);
        progress_->result = 0;
        return 0;
    });
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(call_comes());
        ASSERT_EQ(calls_.size(), 1u);
        EXPECT_TRUE(calls_[0].is_for_one_thread);
        EXPECT_FALSE(calls_[0].populates() || calls_[0].is_about_forks());
        EXPECT_EQ(calls_[0].process, child_->process());
        EXPECT_EQ(progress_->result, -1);
        gate_->let_go(calls_[0]);
        calls_.clear();
    }
    EXPECT_EQ(child_->join(), 0) << "no other call waits";
}

TEST_F(AdviceGateTest, OfFiltersOnlyThoseForAllThreadsWait) {
    start([this] {
        const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        const sock_fprog program{1, const_cast<sock_filter*>(&allow)};
        const unsigned action = SECCOMP_RET_ALLOW;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 1;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 2;
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &program) != 0) return 3;
        if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0) return 4;
        progress_->populated = 0;
        const long synchronised = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                          SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG, &program);
        progress_->result = static_cast<int>(synchronised);
        return synchronised == 0 ? 0 : 5;
    });
    ASSERT_TRUE(call_comes());
    EXPECT_TRUE(calls_[0].is_for_all_threads);
    EXPECT_FALSE(calls_[0].is_for_one_thread || calls_[0].populates() || calls_[0].is_about_forks());
    EXPECT_EQ(progress_->populated, 0) << "no other filter waits";
    EXPECT_EQ(progress_->result, -1);
    gate_->let_go(calls_[0]);
    EXPECT_EQ(child_->join(), 0);
}

}  // namespace
}  // namespace farswap::target
