// After its creation a loop allocates nothing: counts what this thread takes from the heap while every kind
// of work is done, in greater number than the loop has places for.
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "allocation_counter.h"
#include "io_fixture.h"

namespace farswap::io {
namespace {

using std::chrono::milliseconds;

class LoopAllocation : public LoopTest {
  protected:
    LoopAllocation() : LoopTest(LoopOptions{.requests_max = 4, .watches_max = 4, .timers_max = 4}) {}

    /// As run_until(), whose assertions may allocate.
    template <typename Done>
    void run_quietly_until(Done done) {
        while (!done()) loop_->run_once(std::chrono::seconds(10));
    }
};

TEST_P(LoopAllocation, RequestsDeadlinesAndCancellationsAllocateNothing) {
    constexpr std::size_t kCount = 32;
    const Fd fd = scratch_file();
    File file{.fd = fd.get()};
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kCount * kPageSize);
    std::vector<Recorded> writes, held;
    for (std::size_t i = 0; i < kCount; ++i) {
        std::byte* const data = memory.data() + i * kPageSize;
        writes.emplace_back(WRITE, i * kPageSize, data, kPageSize);
        held.emplace_back(READ, 0, data, kPageSize);
        if (i % 2 == 0) held.back().timeout = milliseconds(1 + i);
    }
    Recorded sync(READ, 0, nullptr, 0), refused(READ, 0, nullptr, 0);
    const auto all_ended = [&] { return loop_->requests_in_flight() == 0; };

    const test::AllocationCounter counter;
    for (Recorded& write : writes) loop_->submit(write, file);
    run_quietly_until(all_ended);
    loop_->submit_sync(sync, file);
    loop_->submit(refused, file);
    run_quietly_until(all_ended);
    for (Recorded& read : held) loop_->submit(read, socket);
    run_quietly_until([&] { return held[kCount - 2].completions > 0; });
    for (Recorded& read : held) loop_->cancel(read);
    run_quietly_until(all_ended);
    EXPECT_EQ(counter.allocations(), 0u);

    EXPECT_EQ(writes.back().result, static_cast<int>(kPageSize));
    EXPECT_EQ(sync.result, 0);
    EXPECT_EQ(refused.result, -EINVAL);
    for (std::size_t i = 0; i < kCount; ++i)
        EXPECT_EQ(held[i].result, i % 2 == 0 ? -ETIMEDOUT : -ECANCELED) << i;
}

TEST_P(LoopAllocation, WatchesTimersAndWakingAllocateNothing) {
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int readied = 0, fired = 0;
    Watch watch{.fd = event.get(),
                .ready = [](Watch& at, std::uint32_t) { ++*static_cast<int*>(at.owner); },
                .owner = &readied};
    Timer timer{.fire = [](Timer& at) { ++*static_cast<int*>(at.owner); }, .owner = &fired};

    const test::AllocationCounter counter;
    for (int round = 1; round <= 8; ++round) {
        loop_->add(watch);
        const std::uint64_t one = 1;
        ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
        const int before = readied;
        run_quietly_until([&] { return readied > before; });
        loop_->modify(watch, EPOLLIN | EPOLLOUT);
        loop_->remove(watch);
        loop_->arm(timer, Clock::now());
        run_quietly_until([&] { return fired == round; });
        loop_->wake();
        loop_->run_once(std::chrono::seconds(10));
    }
    EXPECT_EQ(counter.allocations(), 0u);
}

FARSWAP_LOOP_TEST(LoopAllocation);

}  // namespace
}  // namespace farswap::io
