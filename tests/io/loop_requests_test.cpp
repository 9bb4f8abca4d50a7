// File requests: transfers, short transfers, deadlines, cancellation, registration.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <functional>
#include <random>

#include "io_fixture.h"

namespace farswap::io {
namespace {

using std::chrono::milliseconds;

class LoopRequests : public LoopTest {
  protected:
    using LoopTest::LoopTest;
    LoopRequests() : fd_(scratch_file()), file_{.fd = fd_.get(), .base = kPageSize} {}

    Fd fd_;
    File file_;
};

TEST_P(LoopRequests, WritesAndReadsBackAtTheBaseOffset) {
    Buffer out(64 * kPageSize), in(64 * kPageSize);
    out.fill(0xa5);
    Recorded write(WRITE, 8 * kPageSize, out.data(), out.size());
    loop_->submit(write, file_);
    EXPECT_EQ(write.completions, 0) << "completed inside submit";
    run_until_complete(write);
    EXPECT_EQ(write.result, static_cast<int>(out.size()));
    struct stat info {};
    ASSERT_EQ(::fstat(fd_.get(), &info), 0);
    EXPECT_EQ(static_cast<std::size_t>(info.st_size), (1 + 8 + 64) * kPageSize);

    Recorded read(READ, 8 * kPageSize, in.data(), in.size());
    loop_->submit(read, file_);
    run_until_complete(read);
    EXPECT_EQ(read.result, static_cast<int>(in.size()));
    EXPECT_EQ(std::memcmp(in.data(), out.data(), in.size()), 0);
    EXPECT_EQ(loop_->requests_in_flight(), 0u);
}

TEST_P(LoopRequests, BadRequestCompletesWithInvalid) {
    Buffer memory(kPageSize);
    Recorded empty(READ, 0, memory.data(), 0);
    Recorded nowhere(READ, 0, nullptr, kPageSize);
    Recorded unpinned(KERNEL_READ, 0, memory.data(), kPageSize);
    for (Recorded* request : {&empty, &nowhere, &unpinned}) {
        loop_->submit(*request, file_);
        EXPECT_EQ(request->completions, 0);
        run_until_complete(*request);
        EXPECT_EQ(request->result, -EINVAL);
    }
}

TEST_P(LoopRequests, ResultThatIsKnownAlreadyIsNotWaitedFor) {
    Recorded refused(READ, 0, nullptr, kPageSize), unopened(READ, 0, nullptr, 0);
    loop_->submit(refused, file_);
    loop_->complete_later(unopened, -EROFS);
    const auto start = Clock::now();
    EXPECT_EQ(loop_->run_once(std::chrono::seconds(60)), 2);
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(30));
    EXPECT_EQ(refused.result, -EINVAL);
    EXPECT_EQ(unopened.result, -EROFS);
}

TEST_P(LoopRequests, ReadPastTheEndIsAnError) {
    Buffer memory(2 * kPageSize);
    Recorded write(WRITE, 0, memory.data(), kPageSize);
    loop_->submit(write, file_);
    run_until_complete(write);
    Recorded read(READ, 0, memory.data(), 2 * kPageSize);
    loop_->submit(read, file_);
    run_until_complete(read);
    EXPECT_EQ(read.result, -EIO);
}

TEST_P(LoopRequests, ErrorsOfTheKernelAreReported) {
    Buffer memory(kPageSize);
    File closed{.fd = 99'999};
    Recorded read(READ, 0, memory.data(), kPageSize);
    loop_->submit(read, closed);
    run_until_complete(read);
    EXPECT_EQ(read.result, -EBADF);
}

// The first half is all there is at first, so that the kernel answers short; the rest is written before the
// loop asks for it.
TEST_P(LoopRequests, ShortTransfersAreContinued) {
    Buffer half(2 * kPageSize), memory(4 * kPageSize);
    half.fill(1);
    const off_t start = kPageSize;
    ASSERT_EQ(::pwrite(fd_.get(), half.data(), half.size(), start), static_cast<ssize_t>(half.size()));
    Recorded read(READ, 0, memory.data(), memory.size());
    loop_->submit(read, file_);
    while (read.done == 0 && read.completions == 0) loop_->run_once(milliseconds(1));
    ASSERT_EQ(read.completions, 0);
    EXPECT_EQ(read.done, half.size());
    // More than is asked for: the rest of the request ends where its memory does.
    Buffer more(4 * kPageSize);
    more.fill(2);
    const auto rest = start + static_cast<off_t>(half.size());
    ASSERT_EQ(::pwrite(fd_.get(), more.data(), more.size(), rest), static_cast<ssize_t>(more.size()));
    run_until_complete(read);
    EXPECT_EQ(read.result, static_cast<int>(memory.size()));
    for (std::size_t at = 0; at < memory.size(); ++at)
        ASSERT_EQ(memory.data()[at], std::byte(at / half.size() + 1)) << at;
}

TEST_P(LoopRequests, DeadlineEndsARequestThatTheKernelHolds) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kPageSize);
    Recorded read(READ, 0, memory.data(), memory.size());
    read.timeout = milliseconds(20);
    const auto start = Clock::now();
    loop_->submit(read, socket);
    run_until_complete(read);
    EXPECT_EQ(read.result, -ETIMEDOUT);
    EXPECT_GE(Clock::now() - start, milliseconds(20));

    // The memory is ours again: what arrives now goes to the next request.
    ASSERT_EQ(::write(far.get(), "late", 4), 4);
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(memory.data()[0], std::byte{0});
    EXPECT_EQ(read.completions, 1);
}

TEST_P(LoopRequests, CancelEndsAHeldRequestAndIsHarmlessAfterwards) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kPageSize);
    Recorded held(READ, 0, memory.data(), memory.size());
    loop_->submit(held, socket);
    loop_->run_once(milliseconds(1));
    loop_->cancel(held);
    EXPECT_EQ(held.completions, 0) << "completed inside cancel";
    run_until_complete(held);
    EXPECT_EQ(held.result, -ECANCELED);
    loop_->cancel(held);

    Recorded queued(READ, 0, memory.data(), memory.size());
    loop_->submit(queued, socket);  // takes the same place in the table
    loop_->cancel(held);
    loop_->run_once(milliseconds(1));
    EXPECT_EQ(queued.completions, 0);
    loop_->cancel(queued);
    run_until_complete(queued);
    EXPECT_EQ(queued.result, -ECANCELED);
}

// The cancellation of a request that completes in the same round must not reach the one that takes its place.
TEST_P(LoopRequests, CancelThatComesTooLateSparesTheNextRequest) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kPageSize);
    ASSERT_EQ(::pwrite(fd_.get(), memory.data(), memory.size(), kPageSize),
              static_cast<ssize_t>(memory.size()));

    struct Context {
        Loop* loop;
        Recorded first, next;
        File* socket;
    } context{loop_.get(), {}, {READ, 0, memory.data(), memory.size()}, &socket};
    context.first = Recorded(READ, 0, memory.data(), memory.size());
    context.first.owner = &context;
    context.first.complete = [](Request& request, int result) {
        auto& at = *static_cast<Context*>(request.owner);
        at.first.result = result;
        ++at.first.completions;
        at.loop->submit(at.next, *at.socket);
    };
    Timer timer;
    timer.owner = &context;
    timer.fire = [](Timer& fired) {
        auto& at = *static_cast<Context*>(fired.owner);
        at.loop->cancel(at.first);
    };
    loop_->submit(context.first, file_);
    loop_->arm(timer, Clock::now());  // fires before the completions of its round are looked at
    run_until_complete(context.first);
    // A thread may not have begun it by then. The kernel, asked first, has done it.
    const int done = static_cast<int>(memory.size());
    if (GetParam() == EngineKind::kEpoll)
        EXPECT_THAT(context.first.result, testing::AnyOf(done, -ECANCELED));
    else
        EXPECT_EQ(context.first.result, done);
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(context.next.completions, 0);
    loop_->cancel(context.next);
    run_until_complete(context.next);
}

TEST_P(LoopRequests, CancelBeforeTheKernelHasItMeansNoIo) {
    Buffer memory(kPageSize);
    Recorded write(WRITE, 0, memory.data(), memory.size());
    loop_->submit(write, file_);
    loop_->cancel(write);
    EXPECT_EQ(write.completions, 0) << "completed inside cancel";
    run_until_complete(write);
    EXPECT_EQ(write.result, -ECANCELED);
    struct stat info {};
    ASSERT_EQ(::fstat(fd_.get(), &info), 0);
    EXPECT_EQ(info.st_size, 0);
    EXPECT_EQ(write.completions, 1);
}

// Between two pieces of a transfer the request is neither waiting nor in the kernel.
TEST_P(LoopRequests, CancelBetweenTwoPiecesEndsTheTransfer) {
    Buffer half(2 * kPageSize), memory(4 * kPageSize);
    ASSERT_EQ(::pwrite(fd_.get(), half.data(), half.size(), kPageSize), static_cast<ssize_t>(half.size()));
    Recorded read(READ, 0, memory.data(), memory.size());
    loop_->submit(read, file_);
    while (read.done == 0 && read.completions == 0) loop_->run_once(milliseconds(1));
    ASSERT_EQ(read.completions, 0);
    loop_->cancel(read);
    run_until_complete(read);
    EXPECT_EQ(read.result, -ECANCELED);
    EXPECT_EQ(loop_->requests_in_flight(), 0u);
}

// A deadline is the time from submit to completion: the pieces of a slow transfer do not each get it anew.
TEST_P(LoopRequests, DeadlineCoversAllPiecesOfATransfer) {
    Buffer memory(64u << 20);
    Recorded read(READ, 0, memory.data(), memory.size());
    read.timeout = milliseconds(20);
    // The file grows by a byte whenever the loop has read to its end: by pieces alone this would take for
    // ever.
    ASSERT_EQ(::pwrite(fd_.get(), "x", 1, kPageSize), 1);
    loop_->submit(read, file_);
    while (read.completions == 0) {
        const std::uint32_t before = read.done;
        while (read.completions == 0 && read.done == before) loop_->run_once(milliseconds(1));
        if (read.completions > 0) break;
        ASSERT_EQ(::pwrite(fd_.get(), "x", 1, static_cast<off_t>(kPageSize + read.done)), 1);
    }
    EXPECT_EQ(read.result, -ETIMEDOUT);
}

// A place in the table serves many requests; the deadline of one is not that of the next.
TEST_P(LoopRequests, DeadlineOfACompletedRequestSparesTheNextInItsPlace) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kPageSize);
    Recorded quick(WRITE, 0, memory.data(), memory.size());
    quick.timeout = milliseconds(50);
    const auto due = Clock::now() + quick.timeout;
    loop_->submit(quick, file_);
    run_until_complete(quick);
    ASSERT_EQ(quick.result, static_cast<int>(memory.size()));

    Recorded held(READ, 0, memory.data(), memory.size());
    loop_->submit(held, socket);
    struct Fired : Timer {
        bool yes = false;
    } after;
    after.fire = [](Timer& timer) { static_cast<Fired&>(timer).yes = true; };
    loop_->arm(after, due + milliseconds(1));
    run_until([&] { return after.yes; });
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(held.completions, 0);
    loop_->cancel(held);
    run_until_complete(held);
}

TEST_P(LoopRequests, FirstReasonForAnEarlyEndIsTheOneThatIsTold) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kPageSize);
    Recorded held(READ, 0, memory.data(), memory.size());
    held.timeout = milliseconds(20);
    const auto due = Clock::now() + held.timeout;
    loop_->submit(held, socket);
    loop_->run_once(milliseconds(0));
    loop_->cancel(held);
    // Its deadline passes before the loop comes to the cancellation.
    while (Clock::now() < due + milliseconds(1)) continue;
    run_until_complete(held);
    EXPECT_EQ(held.result, -ECANCELED);
}

TEST_P(LoopRequests, SyncAndAllocate) {
    Recorded allocate(READ, 0, nullptr, 16 << 20);
    loop_->submit_allocate(allocate, file_);
    run_until_complete(allocate);
    EXPECT_EQ(allocate.result, 0);
    struct stat info {};
    ASSERT_EQ(::fstat(fd_.get(), &info), 0);
    EXPECT_EQ(info.st_size, (16 << 20) + static_cast<off_t>(kPageSize));
    EXPECT_GE(info.st_blocks * 512, 16 << 20);

    Recorded sync(READ, 0, nullptr, 0);
    loop_->submit_sync(sync, file_);
    run_until_complete(sync);
    EXPECT_EQ(sync.result, 0);
}

TEST_P(LoopRequests, RegisteredMemoryAndFile) {
    Buffer memory(16 * kPageSize), outside(kPageSize);
    const Status registered = loop_->register_memory({memory.data(), memory.size()});
    if (!registered) GTEST_SKIP() << registered.error().message;
    const bool registers = GetParam() == EngineKind::kIoUring;
    EXPECT_EQ(loop_->memory_registered(), registers);
    ASSERT_TRUE(loop_->register_file(file_));
    EXPECT_EQ(file_.fixed >= 0, registers);
    memory.fill(0x3c);
    Recorded write(WRITE, 0, memory.data(), 8 * kPageSize);
    loop_->submit(write, file_);
    run_until_complete(write);
    EXPECT_EQ(write.result, static_cast<int>(8 * kPageSize));
    Recorded inside(READ, 0, memory.data() + 8 * kPageSize, 8 * kPageSize);
    Recorded plain(READ, kPageSize, outside.data(), kPageSize);
    memory.fill(0);
    loop_->submit(inside, file_);
    loop_->submit(plain, file_);
    run_until_complete(inside);
    run_until_complete(plain);
    EXPECT_EQ(memory.data()[8 * kPageSize], std::byte{0x3c});
    EXPECT_EQ(memory.data()[16 * kPageSize - 1], std::byte{0x3c});
    EXPECT_EQ(outside.data()[0], std::byte{0x3c});
    loop_->unregister_file(file_);
    EXPECT_EQ(file_.fixed, -1);
    Recorded after(READ, 0, outside.data(), kPageSize);
    loop_->submit(after, file_);
    run_until_complete(after);
    EXPECT_EQ(after.result, static_cast<int>(kPageSize));
}

TEST_P(LoopRequests, CallbackMaySubmitAgain) {
    struct Again : Recorded {
        Loop* loop = nullptr;
        File* file = nullptr;
    };
    Buffer memory(kPageSize);
    Again again;
    static_cast<Recorded&>(again) = Recorded(WRITE, 0, memory.data(), kPageSize);
    again.loop = loop_.get();
    again.file = &file_;
    again.complete = [](Request& request, int result) {
        auto& self = static_cast<Again&>(request);
        EXPECT_EQ(result, static_cast<int>(kPageSize));
        if (++self.completions < 100) self.loop->submit(self, *self.file);
    };
    loop_->submit(again, file_);
    run_until([&] { return again.completions == 100; });
}

class LoopWithFewPlaces : public LoopRequests {
  protected:
    LoopWithFewPlaces() {
        auto made = Loop::create(LoopOptions{.requests_max = 4, .engine = GetParam()});
        if (made) loop_ = std::move(*made);
    }
};

TEST_P(LoopWithFewPlaces, MoreRequestsThanPlacesWaitAndComplete) {
    constexpr std::size_t kCount = 3000;
    Buffer memory(kCount * kPageSize);
    std::vector<Recorded> requests;
    for (std::size_t i = 0; i < kCount; ++i) {
        std::memset(memory.data() + i * kPageSize, static_cast<int>(i % 251), kPageSize);
        requests.emplace_back(WRITE, i * kPageSize, memory.data() + i * kPageSize, kPageSize);
    }
    for (Recorded& request : requests) loop_->submit(request, file_);
    EXPECT_EQ(loop_->requests_in_flight(), kCount);
    run_until([&] { return loop_->requests_in_flight() == 0; });
    for (const Recorded& request : requests) ASSERT_EQ(request.result, static_cast<int>(kPageSize));
    std::vector<unsigned char> page(kPageSize);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(::pread(fd_.get(), page.data(), kPageSize, static_cast<off_t>((i + 1) * kPageSize)),
                  static_cast<ssize_t>(kPageSize));
        ASSERT_EQ(page[17], i % 251);
    }
}

TEST_P(LoopWithFewPlaces, DeadlineAndCancelReachWaitingRequests) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(8 * kPageSize);
    std::vector<Recorded> requests;
    for (std::size_t i = 0; i < 8; ++i)
        requests.emplace_back(READ, 0, memory.data() + i * kPageSize, kPageSize);
    requests[5].timeout = milliseconds(20);
    requests[6].timeout = milliseconds(40);
    for (Recorded& request : requests) loop_->submit(request, socket);  // four places: 4 to 7 wait
    loop_->run_once(milliseconds(0));
    loop_->cancel(requests[7]);
    run_until_complete(requests[7]);
    EXPECT_EQ(requests[7].result, -ECANCELED);
    run_until_complete(requests[6]);
    EXPECT_EQ(requests[5].result, -ETIMEDOUT);
    EXPECT_EQ(requests[6].result, -ETIMEDOUT);
    for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(requests[i].completions, 0);
    for (std::size_t i = 0; i < 5; ++i) loop_->cancel(requests[i]);
    run_until([&] { return loop_->requests_in_flight() == 0; });
    for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(requests[i].result, -ECANCELED);
}

// Waiting counts: a request that gets its place late has only what is left of its time. By the order of two
// deadlines, which holds however late the loop is: the second request is submitted at least kPlaceAfter after
// the first one, with half of that less time.
TEST_P(LoopWithFewPlaces, DeadlineBeginsAtSubmissionAndNotAtThePlace) {
    constexpr milliseconds kPlaceAfter{100}, kTimeout{1000};
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(6 * kPageSize);
    std::vector<Request*> ended;
    struct Late : Recorded {
        using Recorded::Recorded;
        std::vector<Request*>* order = nullptr;
    };
    std::vector<Late> requests;
    for (std::size_t i = 0; i < 6; ++i) {
        Late& request = requests.emplace_back(READ, 0, memory.data() + i * kPageSize, kPageSize);
        request.order = &ended;
        request.complete = [](Request& at, int value) {
            auto& self = static_cast<Late&>(at);
            self.result = value;
            ++self.completions;
            self.order->push_back(&at);
        };
    }
    Late &first = requests[4], &second = requests[5];
    first.timeout = kTimeout;
    second.timeout = kTimeout - kPlaceAfter / 2;
    for (std::size_t i = 0; i < 5; ++i) loop_->submit(requests[i], socket);  // the last one waits

    struct MakeRoom : Timer {
        std::function<void()> run;
    } make_room;
    make_room.fire = [](Timer& timer) { static_cast<MakeRoom&>(timer).run(); };
    make_room.run = [&] {
        loop_->cancel(requests[0]);
        loop_->cancel(requests[1]);
        loop_->submit(second, socket);
    };
    loop_->arm(make_room, Clock::now() + kPlaceAfter);
    run_until_complete(second);
    run_until_complete(first);
    ASSERT_EQ(ended.size(), 4u);
    EXPECT_THAT(std::span(ended).first(2), testing::UnorderedElementsAre(&requests[0], &requests[1]));
    EXPECT_THAT(std::span(ended).last(2), testing::ElementsAre(&first, &second));
    EXPECT_EQ(first.result, -ETIMEDOUT);
    EXPECT_EQ(second.result, -ETIMEDOUT);
    for (std::size_t i = 2; i < 4; ++i) loop_->cancel(requests[i]);
    run_until([&] { return loop_->requests_in_flight() == 0; });
}

TEST_P(LoopWithFewPlaces, DestructionEndsWhatTheKernelHolds) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    Buffer memory(kPageSize);
    Recorded held(READ, 0, memory.data(), kPageSize);
    loop_->submit(held, socket);
    loop_->run_once(milliseconds(0));
    const auto start = Clock::now();
    loop_.reset();
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(4));
    EXPECT_EQ(held.completions, 0);
    ASSERT_EQ(::write(far.get(), "late", 4), 4);
    EXPECT_EQ(memory.data()[0], std::byte{0});
}

FARSWAP_LOOP_TEST(LoopRequests);
FARSWAP_LOOP_TEST(LoopWithFewPlaces);

}  // namespace
}  // namespace farswap::io
