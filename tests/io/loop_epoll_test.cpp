// What threads do otherwise than a ring: a system call that has begun cannot be taken back. Memory behind a
// userfaultfd holds one up for as long as a test wants.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <filesystem>
#include <fstream>

#include "io_fixture.h"

namespace farswap::io {
namespace {

using std::chrono::milliseconds;

/// Memory that nobody can read or write before let_go(), not even the kernel.
class HeldMemory {
  public:
    explicit HeldMemory(std::size_t bytes) : memory_(bytes) {
        uffd_ = Fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
        uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
        uffdio_register all{.range = range(), .mode = UFFDIO_REGISTER_MODE_MISSING, .ioctls = 0};
        held_ = uffd_ && ::ioctl(uffd_.get(), UFFDIO_API, &api) == 0 &&
                ::ioctl(uffd_.get(), UFFDIO_REGISTER, &all) == 0;
        EXPECT_TRUE(held_) << "a userfaultfd needs root";
    }
    ~HeldMemory() { let_go(); }

    std::byte* data() const { return memory_.data(); }
    std::size_t size() const { return memory_.size(); }
    /// Whether somebody waits for it; waits until that is so.
    void wait_until_wanted() const {
        uffd_msg message{};
        while (held_ && ::read(uffd_.get(), &message, sizeof message) != sizeof message) continue;
    }
    void let_go() {
        if (!std::exchange(held_, false)) return;
        uffdio_zeropage zeros{.range = range(), .mode = 0, .zeropage = 0};
        EXPECT_EQ(::ioctl(uffd_.get(), UFFDIO_ZEROPAGE, &zeros), 0);
    }

  private:
    uffdio_range range() const { return {reinterpret_cast<std::uintptr_t>(memory_.data()), memory_.size()}; }

    Buffer memory_;
    Fd uffd_;
    bool held_ = false;
};

class LoopEpoll : public LoopTest {
  protected:
    LoopEpoll() : fd_(scratch_file()), file_{.fd = fd_.get()} {
        Buffer content(kPageSize);
        content.fill(0x77);
        EXPECT_EQ(::pwrite(fd_.get(), content.data(), kPageSize, 0), static_cast<ssize_t>(kPageSize));
    }

    Fd fd_;
    File file_;
};

// The memory is the kernel's until then: to give it back at the deadline would let a late read spoil what
// comes next.
TEST_P(LoopEpoll, TransferThatHasBegunEndsAfterItsDeadlineWithItsResult) {
    HeldMemory memory(kPageSize);
    Recorded read(READ, 0, memory.data(), memory.size());
    read.timeout = milliseconds(1);
    const auto due = Clock::now() + read.timeout;
    loop_->submit(read, file_);
    loop_->run_once(milliseconds(0));
    memory.wait_until_wanted();
    while (Clock::now() < due) loop_->run_once(milliseconds(1));
    loop_->cancel(read);
    for (int i = 0; i < 3; ++i) loop_->run_once(milliseconds(1));
    EXPECT_EQ(read.completions, 0);
    memory.let_go();
    run_until_complete(read);
    EXPECT_EQ(read.result, static_cast<int>(kPageSize));
    EXPECT_EQ(memory.data()[0], std::byte{0x77});
}

// Writes and syncs that a disk holds on to leave threads for the reads that programs wait for; and the other
// way round.
TEST_P(LoopEpoll, OneKindOfRequestLeavesThreadsForTheOther) {
    constexpr std::size_t kMany = 32;  // more than there are threads
    for (const std::uint32_t held : {WRITE, READ}) {
        HeldMemory memory(kMany * kPageSize);
        std::vector<Recorded> stuck;
        for (std::size_t i = 0; i < kMany; ++i)
            stuck.emplace_back(held, 0, memory.data() + i * kPageSize, kPageSize);
        for (Recorded& request : stuck) loop_->submit(request, file_);
        Buffer page(kPageSize);
        Recorded other(held == WRITE ? READ : WRITE, 0, page.data(), kPageSize), sync(READ, 0, nullptr, 0);
        loop_->submit(other, file_);
        run_until_complete(other);
        EXPECT_EQ(other.result, static_cast<int>(kPageSize));
        if (held == READ) {
            loop_->submit_sync(sync, file_);
            run_until_complete(sync);
        }
        for (Recorded& request : stuck) EXPECT_EQ(request.completions, 0);
        memory.let_go();
        run_until([&] { return loop_->requests_in_flight() == 0; });
        for (Recorded& request : stuck) EXPECT_EQ(request.result, static_cast<int>(kPageSize));
    }
}

TEST_P(LoopEpoll, CancelTakesBackWhatNoThreadHasBegun) {
    constexpr std::size_t kMany = 32;
    HeldMemory memory(kMany * kPageSize);
    std::vector<Recorded> reads;
    for (std::size_t i = 0; i < kMany; ++i)
        reads.emplace_back(READ, 0, memory.data() + i * kPageSize, kPageSize);
    for (Recorded& read : reads) loop_->submit(read, file_);
    loop_->run_once(milliseconds(0));
    memory.wait_until_wanted();
    for (Recorded& read : reads) loop_->cancel(read);
    run_until_complete(reads.back());
    EXPECT_EQ(reads.back().result, -ECANCELED);
    EXPECT_EQ(reads.front().completions, 0);
    memory.let_go();
    run_until([&] { return loop_->requests_in_flight() == 0; });
    EXPECT_EQ(reads.front().result, static_cast<int>(kPageSize));
}

std::size_t threads_named(const std::string& name) {
    std::size_t count = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string found, line, key, mask;
        std::ifstream(task.path() / "comm") >> found;
        if (found != name) continue;
        ++count;
        std::ifstream status(task.path() / "status");
        while (status >> key)
            if (key == "SigBlk:" && status >> mask) break;
        // All but SIGKILL, SIGSTOP and the two that glibc keeps for itself (nptl(7)).
        EXPECT_EQ(std::stoull(mask, nullptr, 16) | 0x1'8000'0000, 0xffff'ffff'fffb'feff) << mask;
    }
    return count;
}

TEST_P(LoopEpoll, ThreadsAreNamedBlockSignalsAndEndWithTheLoop) {
    Recorded sync(READ, 0, nullptr, 0);
    loop_->submit_sync(sync, file_);
    run_until_complete(sync);
    while (threads_named("farswap-io") < 8) continue;
    loop_.reset();
    EXPECT_EQ(threads_named("farswap-io"), 0u);
}

INSTANTIATE_TEST_SUITE_P(, LoopEpoll, testing::Values(EngineKind::kEpoll),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

}  // namespace
}  // namespace farswap::io
