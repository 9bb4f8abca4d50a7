// How much memory a process has, read often and cheaply: nothing that changes may be missed.
#include "target/memory_gauge.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child.h"

namespace farswap::target {
namespace {

constexpr std::size_t kMuch = std::size_t{32} << 20;
constexpr double kLittle = 1 << 20;

/// Memory that is mapped and not touched.
struct Mapped {
    explicit Mapped(int kind)
        : at(mmap(nullptr, kMuch, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0)) {}
    ~Mapped() { munmap(at, kMuch); }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
    void touch() const { touch_pages(at, kMuch); }
    void* at;
};

TEST(MemoryGauge, SeesAnonymousMemoryComeAndGo) {
    MemoryGauge gauge;
    ASSERT_TRUE(gauge.open(getpid()));
    const Mapped memory(MAP_PRIVATE);
    const auto before = gauge.read(true);
    memory.touch();
    const auto touched = gauge.read(false);
    ASSERT_TRUE(before && touched);
    EXPECT_NEAR(static_cast<double>(touched->rss_anon - before->rss_anon), kMuch, kLittle);
    EXPECT_NEAR(static_cast<double>(touched->rss_anon), static_cast<double>(gauge.read_once()->rss_anon),
                kLittle);
    madvise(memory.at, kMuch, MADV_DONTNEED);
    EXPECT_NEAR(static_cast<double>(gauge.read(false)->rss_anon), static_cast<double>(before->rss_anon),
                kLittle);
}

TEST(MemoryGauge, SeesSharedMemoryThatIsTouched) {
    MemoryGauge gauge;
    ASSERT_TRUE(gauge.open(getpid()));
    const Mapped memory(MAP_SHARED);
    const auto before = gauge.read(true);
    memory.touch();
    const auto touched = gauge.read(false);
    ASSERT_TRUE(before && touched);
    EXPECT_NEAR(static_cast<double>(touched->rss_shmem - before->rss_shmem), kMuch, kLittle);
    EXPECT_NEAR(static_cast<double>(touched->rss_anon), static_cast<double>(before->rss_anon), kLittle);
}

TEST(MemoryGauge, TellsAnEnd) {
    MemoryGauge gauge;
    Child child([] { return pause(); });
    ASSERT_TRUE(gauge.open(child.process()));
    EXPECT_TRUE(gauge.read(true)->has_memory);
    kill(child.process(), SIGKILL);
    ASSERT_TRUE(wait_until([&] { return read_state(child.process()) == 'Z'; }));
    const auto zombie = gauge.read(false);
    EXPECT_FALSE(zombie && zombie->has_memory);
    child.join();
    EXPECT_EQ(gauge.read(false).error().code, ESRCH);
}

TEST(MemoryGauge, ANewTaskShows) {
    const Fd loadavg(open("/proc/loadavg", O_RDONLY | O_CLOEXEC));
    const auto before = read_newest_task(loadavg.get());
    EXPECT_NE(before, 0u);
    const Child child([] { return pause(); });
    EXPECT_NE(read_newest_task(loadavg.get()), before);
    EXPECT_EQ(read_newest_task(-1), 0u);
}

}  // namespace
}  // namespace farswap::target
