// The pool: creation in all its kinds, the memory, runs of frames, many pools at a time.
#include "page/pool.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "page/mapping.h"
#include "page/registry.h"
#include "page_fixture.h"

namespace farswap {
namespace {

std::size_t resident_bytes(const Pool& pool) {
    struct stat status {};
    EXPECT_EQ(::fstat(pool.memfd(), &status), 0);
    return static_cast<std::size_t>(status.st_blocks) * 512;
}

std::size_t locked_kib() {
    std::ifstream status("/proc/self/status");
    std::string key;
    while (status >> key) {
        if (std::size_t kib = 0; key == "VmLck:" && status >> kib) return kib;
    }
    return 0;
}

TEST(Pool, ImpossibleSizesAreRefused) {
    for (const std::size_t frames : {std::size_t{0}, (std::size_t{1} << 31) + 1, SIZE_MAX}) {
        const auto pool = Pool::create({.frames = frames});
        ASSERT_FALSE(pool);
        EXPECT_EQ(pool.error().code, EINVAL);
        EXPECT_THAT(pool.error().message, testing::HasSubstr(std::to_string(frames)));
    }
}

TEST(Pool, StartsFreeCleanAndZero) {
    const auto pool = make_pool(100);
    EXPECT_EQ(pool->frames(), 100u);
    EXPECT_EQ(pool->free_frames(), 100u);
    EXPECT_EQ(pool->pinned_frames(), 0u);
    EXPECT_EQ(pool->memory().size(), 100 * kPageSize);
    EXPECT_EQ(address_of(pool->memory().data()) % kPageSize, 0u);
    for (const std::byte byte : pool->memory()) ASSERT_EQ(byte, std::byte{0});
}

TEST(Pool, UnlockedPoolIsNotPopulated) {
    const auto pool = make_pool(100);
    EXPECT_FALSE(pool->locked());
    EXPECT_EQ(resident_bytes(*pool), 0u);
}

TEST(Pool, LockedPoolIsLockedAndPopulated) {
    const std::size_t before_kib = locked_kib();
    auto pool = Pool::create({.frames = 256});
    ASSERT_TRUE(pool) << pool.error().message;
    if (!(*pool)->locked()) GTEST_SKIP() << "this user may not lock a MiB";
    EXPECT_EQ(resident_bytes(**pool), 256 * kPageSize);
    EXPECT_GE(locked_kib() - before_kib, 256 * kPageSize / 1024);
    pool->reset();
    EXPECT_EQ(locked_kib(), before_kib);
}

/// The VmFlags of the mapping that holds `address`: proc_pid_smaps(5).
std::string flags_of(const void* address) {
    std::ifstream smaps("/proc/self/smaps");
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
        unsigned long begin = 0, end = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2)
            inside = begin <= address_of(address) && address_of(address) < end;
        else if (inside && line.starts_with("VmFlags:"))
            return line + " ";
    }
    return {};
}

TEST(Pool, HugePagesAreAskedForOnlyWhereTheyAreWanted) {
    if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage"))
        GTEST_SKIP() << "the kernel has none";
    const auto wanted = Pool::create({.frames = 1024, .lock = false, .huge_pages = true});
    ASSERT_TRUE(wanted) << wanted.error().message;
    EXPECT_THAT(flags_of((*wanted)->memory().data()), testing::HasSubstr(" hg "));
    const auto unwanted = make_pool(1024);
    EXPECT_THAT(flags_of(unwanted->memory().data()), testing::Not(testing::HasSubstr(" hg ")));
}

TEST(Pool, FramesAreAllocatedOnceTheyArePrepared) {
    const auto pool = Pool::create({.frames = 200, .frames_ready = 70, .huge_pages = false}).value();
    EXPECT_EQ(pool->frames(), 200u);
    EXPECT_EQ(pool->ready_frames(), 70u);
    EXPECT_EQ(resident_bytes(*pool), 70 * kPageSize);
    EXPECT_EQ(Pool::create({.frames = 200, .frames_ready = 70}).value()->close(), 0u);
    EXPECT_EQ(pool->allocate_run(100).count, 70u);
    EXPECT_EQ(pool->free_frames(), 0u);
    EXPECT_EQ(pool->allocate_run(1).count, 0u);
    ASSERT_EQ(pool->prepare(100), 0);
    EXPECT_EQ(resident_bytes(*pool), 170 * kPageSize);
    const FrameRun second = pool->allocate_run(100);
    EXPECT_EQ(second.first, 70u);
    EXPECT_EQ(second.count, 100u);
    ASSERT_EQ(pool->prepare(100), 0);
    EXPECT_EQ(pool->ready_frames(), 200u);
    EXPECT_EQ(pool->free_frames(), 30u);
    for (FrameIndex frame = 0; frame < 170; ++frame) pool->release(frame);
    EXPECT_EQ(pool->allocate_run(200).count, 200u);
    for (FrameIndex frame = 0; frame < 200; ++frame) pool->release(frame);
}

// A core of whoever holds the pool is not the place for the program's pages.
TEST(Pool, MemoryStaysOutOfCoreDumps) {
    const auto pool = make_pool(16);
    EXPECT_THAT(flags_of(pool->memory().data()), testing::HasSubstr(" dd "));
}

/// As a user who may lock nothing, or so much.
void become_unprivileged(rlim_t lockable = 0) {
    const rlimit limit{lockable, lockable};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) std::_Exit(2);
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) std::_Exit(2);
}

TEST(PoolDeathTest, WithoutTheRightToLockAnUnlockedPoolServes) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto serve = [] {
        become_unprivileged();
        auto pool = Pool::create({.frames = 64, .lock = true});
        const bool serves = pool && !(*pool)->locked() && resident_bytes(**pool) == 0 &&
                            (*pool)->allocate_run(64).count == 64;
        std::_Exit(serves ? 0 : 1);
    };
    EXPECT_EXIT(serve(), testing::ExitedWithCode(0), "");
}

TEST(PoolDeathTest, WithoutTheRightToLockARequiredLockFailsAndSaysWhatToDo) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto fail_to_lock = [] {
        become_unprivileged();
        const auto pool = Pool::create({.frames = 64, .lock = true, .locked_least = 64});
        if (pool || (pool.error().code != EPERM && pool.error().code != ENOMEM)) std::_Exit(1);
        std::fputs(pool.error().message.c_str(), stderr);
        errno = 0;
        const bool refused =
            farswap_pool_create(64, FARSWAP_POOL_LOCKED) == nullptr && errno == pool.error().code;
        std::_Exit(refused ? 0 : 1);
    };
    EXPECT_EXIT(fail_to_lock(), testing::ExitedWithCode(0), "cannot lock the page pool's 256 KiB.*ulimit -l");
}

TEST(PoolDeathTest, AsManyFramesServeAsCanBeLockedBesideWhatOthersLock) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto serve = [] {
        become_unprivileged(8 << 20);
        auto pool = Pool::create({.frames = 1 << 14, .locked_least = 256, .lock_spare = 1 << 20});
        if (!pool || !(*pool)->locked()) std::_Exit(1);
        // 8 MiB less a MiB and the table, to a sixteenth.
        if ((*pool)->frames() > 7 * 256 || (*pool)->frames() < 6 * 256) std::_Exit(3);
        if (resident_bytes(**pool) != (*pool)->frames() * kPageSize) std::_Exit(4);
        const auto other = Mapping::anonymous(1 << 20);
        std::_Exit(::mlock(other->data(), other->size()) == 0 ? 0 : 5);
    };
    EXPECT_EXIT(serve(), testing::ExitedWithCode(0), "");
}

TEST(PoolDeathTest, FewerFramesThanTheLeastAreRefused) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto refuse = [] {
        become_unprivileged(1 << 20);
        const auto pool = Pool::create({.frames = 1 << 14, .locked_least = 256, .lock_spare = 1 << 20});
        if (pool || pool.error().code != ENOMEM) std::_Exit(1);
        std::fputs(pool.error().message.c_str(), stderr);
        std::_Exit(0);
    };
    EXPECT_EXIT(refuse(), testing::ExitedWithCode(0), "cannot lock the page pool's 2048 KiB.*ulimit -l");
}

TEST(Pool, MemoryIsASealedMemfdThatAnotherProcessCanMap) {
    const auto pool = make_pool(4);
    EXPECT_EQ(::fcntl(pool->memfd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT_NE(::ftruncate(pool->memfd(), 0), 0);
    EXPECT_EQ(errno, EPERM);
    void* other = ::mmap(nullptr, kPageSize, PROT_READ, MAP_SHARED, pool->memfd(), 2 * kPageSize);
    ASSERT_NE(other, MAP_FAILED);
    std::memset(pool->address(2), 0x5a, kPageSize);
    EXPECT_EQ(std::memcmp(other, pool->address(2), kPageSize), 0);
    ::munmap(other, kPageSize);
}

TEST(Pool, FrameOfFindsTheFrameOfAnyByte) {
    const auto pool = make_pool(4);
    EXPECT_EQ(pool->frame_of(pool->address(0)), 0u);
    EXPECT_EQ(pool->frame_of(pool->address(2) + 1), 2u);
    EXPECT_EQ(pool->frame_of(pool->address(3) + kPageSize - 1), 3u);
    EXPECT_EQ(pool->frame_of(pool->address(3) + kPageSize), kNoFrame);
    EXPECT_EQ(pool->frame_of(pool->address(0) - 1), kNoFrame);
    EXPECT_EQ(pool->frame_of(nullptr), kNoFrame);
}

TEST(Pool, RunIsFullWhileNeighboursAreFree) {
    const auto pool = make_pool(256);
    const FrameRun run = pool->allocate_run(100);
    EXPECT_EQ(run.count, 100u);
    EXPECT_EQ(pool->free_frames(), 156u);
    for (FrameIndex frame = run.first; frame < run.first + run.count; ++frame) pool->release(frame);
    EXPECT_EQ(pool->free_frames(), 256u);
}

TEST(Pool, RunIsShorterWhenFreeFramesAreScattered) {
    const auto pool = make_pool(256);
    ASSERT_EQ(pool->allocate_run(256).count, 256u);
    for (FrameIndex frame = 0; frame < 256; frame += 2) pool->release(frame);
    const FrameRun run = pool->allocate_run(16);
    EXPECT_EQ(run.count, 1u);
    pool->release(61);
    EXPECT_EQ(pool->allocate_run(16).count, 3u) << "60, 61 and 62";
}

TEST(Pool, RunIsEmptyWhenNothingIsFree) {
    const auto pool = make_pool(3);
    EXPECT_EQ(pool->allocate_run(100).count, 3u);
    const FrameRun none = pool->allocate_run(1);
    EXPECT_EQ(none.count, 0u);
    EXPECT_EQ(none.first, kNoFrame);
}

TEST(Pool, PinnedFramesAreCountedOnce) {
    const auto pool = make_pool(4);
    ASSERT_EQ(pool->allocate_run(2).count, 2u);
    page* pins[3];
    for (page*& pin : pins) ASSERT_EQ(get_kernel_page(address_of(pool->address(1)), 0, &pin), 1);
    EXPECT_EQ(pool->pinned_frames(), 1u);
    EXPECT_EQ(pool->pins(1), 3u);
    for (page* pin : pins) put_page(pin);
    EXPECT_EQ(pool->pinned_frames(), 0u);
}

TEST(Pool, PoolLargerThan4GiBAddressesItsLastFrame) {
    constexpr std::size_t kFrames = (std::size_t{5} << 30) / kPageSize;
    const auto pool = make_pool(kFrames);
    while (pool->allocate_run(kFrames).count > 0) continue;
    EXPECT_EQ(pool->free_frames(), 0u);
    std::byte* const last = pool->memory().data() + pool->memory().size() - kPageSize;
    EXPECT_EQ(pool->address(kFrames - 1), last);
    EXPECT_EQ(pool->frame_of(last), kFrames - 1);
    page* pinned = nullptr;
    ASSERT_EQ(get_kernel_page(address_of(last), 0, &pinned), 1);
    EXPECT_EQ(page_address(pinned), last);
    EXPECT_EQ(pool->pins(kFrames - 1), 1u);
    put_page(pinned);
}

TEST(Pool, AsManyPoolsAsTheRegistryHolds) {
    std::vector<std::unique_ptr<Pool>> pools;
    std::optional<Error> refusal;
    while (!refusal && pools.size() <= registry::kPoolsMax) {
        auto pool = Pool::create({.frames = 2, .lock = false});
        if (pool) {
            pools.push_back(std::move(*pool));
        } else {
            refusal = pool.error();
        }
    }
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->code, EMFILE);
    EXPECT_GT(pools.size(), registry::kPoolsMax / 2);  // tests before may have left pools with pins
    for (const auto& pool : pools) {
        page* pinned = nullptr;
        const FrameIndex frame = pool->allocate_run(1).first;
        ASSERT_EQ(get_kernel_page(address_of(pool->address(frame)), 1, &pinned), 1);
        EXPECT_EQ(pool->pins(frame), 1u);
        put_page(pinned);
    }
    pools.pop_back();
    EXPECT_TRUE(Pool::create({.frames = 2, .lock = false}));
}

}  // namespace
}  // namespace farswap
