// KERNEL_READ and KERNEL_WRITE by way of the loop: pinned frames of a registered pool as source and target of
// I/O, and what is refused before any I/O.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "io_fixture.h"
#include "page/pool.h"

namespace farswap::io {
namespace {

using std::chrono::milliseconds;

std::size_t pinned_kib() {
    std::ifstream status("/proc/self/status");
    std::string key;
    while (status >> key) {
        if (std::size_t kib = 0; key == "VmPin:" && status >> kib) return kib;
    }
    return 0;
}

class LoopKernelPages : public LoopTest {
  protected:
    static constexpr std::uint32_t kRun = 4;
    static constexpr std::uint32_t kFrames = 16;

    LoopKernelPages() : fd_(scratch_file()), file_{.fd = fd_.get()} {
        auto made = Pool::create({.frames = kFrames, .lock = false, .huge_pages = false});
        if (made) pool_ = std::move(*made);
    }

    /// A request for kRun frames, pinned as `write` says.
    struct Transfer : Recorded {
        std::array<page*, kRun> pins{};
    };
    Transfer transfer(std::uint32_t op, FrameRun run, int write) {
        Transfer made;
        static_cast<Recorded&>(made) = Recorded(op, 0, pool_->address(run.first), kRun * kPageSize);
        std::array<kvec, kRun> segments;
        for (std::uint32_t i = 0; i < kRun; ++i) segments[i] = {pool_->address(run.first + i), kPageSize};
        EXPECT_EQ(get_kernel_pages(segments.data(), kRun, write, made.pins.data()), static_cast<int>(kRun));
        made.page_count = kRun;
        return made;
    }
    void submit(Transfer& request, File& file) {
        request.pages = request.pins.data();
        loop_->submit(request, file);
    }
    static void put(const Transfer& request) {
        for (page* pin : request.pins) put_page(pin);
    }
    FrameRun take(unsigned char content) {
        const FrameRun run = pool_->allocate_run(kRun);
        EXPECT_EQ(run.count, kRun);
        std::memset(pool_->address(run.first), content, kRun * kPageSize);
        return run;
    }
    off_t file_size() const {
        struct stat info {};
        EXPECT_EQ(::fstat(fd_.get(), &info), 0);
        return info.st_size;
    }

    Fd fd_;
    File file_;
    std::unique_ptr<Pool> pool_;
};

TEST_P(LoopKernelPages, RegisteredPoolIsPinnedByTheKernel) {
    const std::size_t before_kib = pinned_kib();
    ASSERT_TRUE(loop_->register_memory(pool_->memory()));
    // Threads have nothing to register: the kernel pins what it uses, for as long as it does.
    const std::size_t pinned = GetParam() == EngineKind::kIoUring ? kFrames * kPageSize / 1024 : 0;
    EXPECT_EQ(pinned_kib(), before_kib + pinned);
}

// Whole MiB, as they become ready; a transfer that lies in two of them, or beyond, goes without.
TEST_P(LoopKernelPages, MemoryIsRegisteredAsItBecomesReady) {
    constexpr std::size_t kMiB = 1 << 20;
    const auto pool = Pool::create({.frames = 5 * 128, .huge_pages = false}).value();  // 2.5 MiB
    const std::size_t before_kib = pinned_kib();
    const auto pinned = [&](std::size_t kib) { return GetParam() == EngineKind::kIoUring ? kib : 0; };
    ASSERT_TRUE(loop_->register_memory(pool->memory(), kMiB + kMiB / 2));
    EXPECT_EQ(pinned_kib(), before_kib + pinned(1024));
    const auto write_and_read = [&](std::size_t at) {
        std::byte* const memory = pool->memory().data() + at;
        const std::vector<std::byte> right(kRun * kPageSize, static_cast<std::byte>(at / kPageSize + 1));
        std::memcpy(memory, right.data(), right.size());
        Recorded out(WRITE, 0, memory, kRun * kPageSize);
        loop_->submit(out, file_);
        run_until_complete(out);
        EXPECT_EQ(out.result, static_cast<int>(kRun * kPageSize));
        std::memset(memory, 0, right.size());
        Recorded in(READ, 0, memory, kRun * kPageSize);
        loop_->submit(in, file_);
        run_until_complete(in);
        EXPECT_EQ(std::memcmp(memory, right.data(), right.size()), 0) << "at " << at;
    };
    for (const std::size_t at : {std::size_t{0}, kMiB - kPageSize, kMiB, 2 * kMiB}) write_and_read(at);
    ASSERT_TRUE(loop_->register_memory(pool->memory(), 2 * kMiB));
    EXPECT_EQ(pinned_kib(), before_kib + pinned(2048));
    ASSERT_TRUE(loop_->register_memory(pool->memory(), pool->memory().size()));
    EXPECT_EQ(pinned_kib(), before_kib + pinned(2560));
    for (const std::size_t at : {std::size_t{0}, kMiB - kPageSize, kMiB, 2 * kMiB}) write_and_read(at);
}

TEST_P(LoopKernelPages, FramesGoOutAndComeBack) {
    ASSERT_TRUE(loop_->register_memory(pool_->memory()));
    const FrameRun source = take(0xa5), target = take(0);
    Transfer out = transfer(KERNEL_WRITE, source, 0);
    submit(out, file_);
    run_until_complete(out);
    EXPECT_EQ(out.result, static_cast<int>(kRun * kPageSize));
    Transfer in = transfer(KERNEL_READ, target, 1);
    submit(in, file_);
    run_until_complete(in);
    EXPECT_EQ(in.result, static_cast<int>(kRun * kPageSize));
    EXPECT_EQ(std::memcmp(pool_->address(source.first), pool_->address(target.first), kRun * kPageSize), 0);

    put(out);
    put(in);
    EXPECT_FALSE(page_dirty(out.pins[0])) << "I/O has only read from it";
    EXPECT_TRUE(page_dirty(in.pins[0])) << "I/O has stored into it";
    EXPECT_EQ(pool_->pinned_frames(), 0u);
}

TEST_P(LoopKernelPages, PinOfTheOtherDirectionIsRefusedBeforeAnyIo) {
    const FrameRun run = take(0x5a);
    Transfer out = transfer(KERNEL_WRITE, run, 1);
    Transfer in = transfer(KERNEL_READ, run, 0);  // both kinds are held now
    submit(out, file_);
    run_until_complete(out);
    EXPECT_EQ(out.result, -EINVAL);
    EXPECT_EQ(file_size(), 0);

    const std::array<char, kRun * kPageSize> stored{};
    ASSERT_EQ(::pwrite(fd_.get(), stored.data(), stored.size(), 0), static_cast<ssize_t>(stored.size()));
    submit(in, file_);
    run_until_complete(in);
    EXPECT_EQ(in.result, -EINVAL);
    EXPECT_EQ(*pool_->address(run.first), std::byte{0x5a});
    put(out);
    put(in);
}

TEST_P(LoopKernelPages, PageThatWasPutIsRefusedBeforeAnyIo) {
    Transfer out = transfer(KERNEL_WRITE, take(1), 0);
    put_page(out.pins[2]);
    submit(out, file_);
    run_until_complete(out);
    EXPECT_EQ(out.result, -EINVAL);
    EXPECT_EQ(file_size(), 0);
    for (const std::size_t i : {0, 1, 3}) put_page(out.pins[i]);
}

// The pins and not the owner keep the frames while the kernel may still store into them.
TEST_P(LoopKernelPages, FramesInTheKernelAreNotReusedThoughTheirOwnerLetGo) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Fd near(ends[0]), far(ends[1]);
    File socket{.fd = near.get()};
    const FrameRun run = take(0);
    Transfer in = transfer(KERNEL_READ, run, 1);
    submit(in, socket);
    loop_->run_once(milliseconds(0));
    for (std::uint32_t i = 0; i < kRun; ++i) pool_->release(run.first + i);
    while (pool_->allocate_run(kFrames).count > 0) continue;
    EXPECT_EQ(pool_->pinned_frames(), kRun) << "all others were handed out";

    const std::array<char, kRun* kPageSize> late = [] {
        std::array<char, kRun * kPageSize> bytes;
        bytes.fill('L');
        return bytes;
    }();
    ASSERT_EQ(::write(far.get(), late.data(), late.size()), static_cast<ssize_t>(late.size()));
    run_until_complete(in);
    EXPECT_EQ(in.result, static_cast<int>(late.size()));
    EXPECT_EQ(std::memcmp(page_address(in.pins[3]), late.data(), kPageSize), 0);
    EXPECT_EQ(pool_->allocate_run(1).count, 0u);
    put(in);
    EXPECT_EQ(pool_->allocate_run(kRun).count, kRun);
}

/// As a user whose locked-memory limit has room for the ring and not for the pool. The kernel counts by user:
/// the number is one that nobody else has.
void become_a_user_who_may_lock_little() {
    constexpr uid_t kUser = 61'849;
    const rlimit little{1 << 20, 1 << 20};
    if (::setrlimit(RLIMIT_MEMLOCK, &little) != 0) std::_Exit(2);
    if (::geteuid() == 0 && ::setresuid(kUser, kUser, kUser) != 0) std::_Exit(2);
}

TEST(LoopKernelPagesDeathTest, WithoutTheRightToRegisterRequestsServe) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto serve = [] {
        become_a_user_who_may_lock_little();
        auto loop = Loop::create({.engine = EngineKind::kIoUring});
        auto pool = Pool::create({.frames = 1024, .lock = false, .huge_pages = false});
        if (!loop || !pool) std::_Exit(3);
        const Status registered = (*loop)->register_memory((*pool)->memory());
        if (registered || registered.error().code != ENOMEM || (*loop)->memory_registered()) std::_Exit(4);
        std::fputs(registered.error().message.c_str(), stderr);
        const Fd zeros(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
        File file{.fd = zeros.get()};
        std::byte* const memory = (*pool)->address((*pool)->allocate_run(1).first);
        *memory = std::byte{1};
        page* pin = nullptr;
        if (get_kernel_page(reinterpret_cast<unsigned long>(memory), 1, &pin) != 1) std::_Exit(5);
        Recorded read(KERNEL_READ, 0, memory, kPageSize);
        read.pages = &pin;
        read.page_count = 1;
        (*loop)->submit(read, file);
        while (read.completions == 0) (*loop)->run_once(std::chrono::seconds(1));
        put_page(pin);
        std::_Exit(read.result == static_cast<int>(kPageSize) && *memory == std::byte{0} ? 0 : 1);
    };
    EXPECT_EXIT(serve(), testing::ExitedWithCode(0), "ulimit -l");
}

FARSWAP_LOOP_TEST(LoopKernelPages);

}  // namespace
}  // namespace farswap::io
