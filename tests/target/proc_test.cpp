// What /proc says of this process and of children made for it.
#include "target/proc.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cstring>
#include <ctime>
#include <thread>

#include "child.h"
#include "farswap/request.h"

namespace farswap::target {
namespace {

constexpr std::size_t kBytes = 64 * kPageSize;
constexpr pid_t kNobody = 0x7fffffff;  // above every pid_max

/// A private anonymous mapping between two guards, so that it is merged with nothing.
class Guarded {
  public:
    explicit Guarded(std::size_t bytes = kBytes)
        : bytes_(bytes),
          base_(mmap(nullptr, bytes + 2 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        mprotect(data(), bytes_, PROT_READ | PROT_WRITE);
    }
    ~Guarded() { munmap(base_, bytes_ + 2 * kPageSize); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;
    char* data() const { return static_cast<char*>(base_) + kPageSize; }
    std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(data()); }

  private:
    std::size_t bytes_;
    void* base_;
};

bool covers(const std::vector<AddressRange>& ranges, std::uint64_t address) {
    return std::ranges::any_of(ranges,
                               [&](const AddressRange& r) { return r.start <= address && address < r.end; });
}

// A program names itself, and the name stands in the first line of its status: prctl(2) PR_SET_NAME.
TEST(Proc, ANameThatLooksLikeAFieldIsNoField) {
    constexpr const char* kNames[] = {"RssAnon:9999999", "Threads:777", "VmSwap:9999999", "SigPnd:ffffffff"};
    char before[16] = {};
    ASSERT_EQ(prctl(PR_GET_NAME, before), 0);
    const Fd status(open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(status);
    const auto plain = read_memory_use(status.get());
    ASSERT_TRUE(plain);
    for (const char* name : kNames) {
        ASSERT_EQ(prctl(PR_SET_NAME, name), 0);
        const auto named = read_memory_use(status.get());
        ASSERT_TRUE(named);
        EXPECT_LT(named->rss_anon, plain->rss_anon + (64u << 20)) << name;
        EXPECT_EQ(named->threads, plain->threads) << name;
        EXPECT_EQ(named->swap, plain->swap) << name;
        EXPECT_FALSE(signal_is_deliverable(gettid(), 0)) << name;
    }
    prctl(PR_SET_NAME, before);
}

TEST(Proc, LinesOfMappingsAreReadToTheirEndAndNoFurther) {
    constexpr std::string_view kLine = "7f00a000-7f00b000 rw-p 00001000 fd:01 1234   /usr/lib/a b";
    Mapping whole;
    ASSERT_TRUE(parse_mapping(kLine, whole));
    EXPECT_EQ(whole.start, 0x7f00a000u);
    EXPECT_EQ(whole.end, 0x7f00b000u);
    EXPECT_EQ(std::string_view(whole.permissions, 4), "rw-p");
    EXPECT_EQ(whole.inode, 1234u);
    EXPECT_TRUE(whole.has_device);
    EXPECT_EQ(whole.name, "/usr/lib/a b");
    // Every beginning of it, in memory of its own: the address sanitizer sees a byte too many.
    for (std::size_t length = 0; length < kLine.size(); ++length) {
        const std::vector<char> piece(kLine.begin(), kLine.begin() + static_cast<std::ptrdiff_t>(length));
        Mapping mapping;
        if (!parse_mapping({piece.data(), piece.size()}, mapping)) continue;
        EXPECT_LE(mapping.name.size(), length) << length;
    }
    Mapping shortest;
    ASSERT_TRUE(parse_mapping("1000-2000 r--p ", shortest));
    EXPECT_EQ(shortest.name, "");
}

TEST(Proc, MappingsOfThisProcess) {
    const Guarded memory;
    bool found = false, has_program = false;
    std::uint64_t before = 0;
    auto visited = for_each_mapping(getpid(), [&](const Mapping& mapping) {
        EXPECT_LE(before, mapping.start);
        EXPECT_LT(mapping.start, mapping.end);
        before = mapping.end;
        if (mapping.start == memory.address()) {
            found = true;
            EXPECT_EQ(mapping.end, memory.address() + kBytes);
            EXPECT_EQ(std::string(mapping.permissions, 4), "rw-p");
            EXPECT_EQ(mapping.inode, 0u);
            EXPECT_FALSE(mapping.has_device);
            EXPECT_EQ(mapping.name, "");
        }
        if (mapping.name.ends_with("target_test")) {
            has_program = true;
            EXPECT_NE(mapping.inode, 0u);
        }
    });
    EXPECT_TRUE(visited);
    EXPECT_TRUE(found);
    EXPECT_TRUE(has_program);
}

TEST(Proc, OneMappingIsWhatAllOfThemSay) {
    const Guarded memory;
    const Fd maps(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    std::array<char, 4096> name;
    const auto mine = mapping_at(maps.get(), memory.address() + kBytes - 1, name);
    if (!mine && mine.error().code == ENOTTY) GTEST_SKIP() << "the kernel has no PROCMAP_QUERY";
    ASSERT_TRUE(mine) << mine.error().message;
    EXPECT_EQ(mine->start, memory.address());
    EXPECT_EQ(mapping_at(maps.get(), memory.address() + kBytes, name)->permissions[0], '-') << "the guard";
    EXPECT_EQ(mapping_at(maps.get(), 0, name).error().code, ENOENT);
    int compared = 0;
    auto visited = for_each_mapping(getpid(), [&](const Mapping& seen) {
        const auto asked = mapping_at(maps.get(), seen.start, name);
        if (seen.name == "[vsyscall]" || !asked || asked->end != seen.end) return;  // this loop allocates
        compared++;
        EXPECT_EQ(asked->start, seen.start);
        EXPECT_EQ(std::string_view(asked->permissions, 4), std::string_view(seen.permissions, 4));
        EXPECT_EQ(asked->offset, seen.offset);
        EXPECT_EQ(asked->inode, seen.inode);
        EXPECT_EQ(asked->has_device, seen.has_device);
        EXPECT_EQ(asked->name, seen.name);
        std::array<char, 4> little;
        if (seen.name.size() < little.size()) return;
        EXPECT_EQ(mapping_at(maps.get(), seen.start, little)->name, "???") << seen.name;
    });
    EXPECT_TRUE(visited);
    EXPECT_GT(compared, 10);
}

TEST(Proc, FindsMappingsByName) {
    auto vdso = find_mapping(getpid(), "[vdso]");
    ASSERT_TRUE(vdso) << vdso.error().message;
    EXPECT_EQ(std::memcmp(reinterpret_cast<const char*>(vdso->start), "\177ELF", 4), 0);
    EXPECT_EQ(find_mapping(getpid(), "[no such]").error().code, ENOENT);
}

TEST(Proc, ProcessesThatAreGoneAreESRCH) {
    EXPECT_EQ(for_each_mapping(kNobody, [](const Mapping&) {}).error().code, ESRCH);
    EXPECT_EQ(fork_ranges(kNobody, 0).error().code, ESRCH);
    EXPECT_EQ(read_pss(kNobody).error().code, ESRCH);
    EXPECT_EQ(read_state(kNobody), 0);

    Child zombie([] { return 0; });
    Fd status(open(("/proc/" + std::to_string(zombie.process()) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(wait_until([&] { return read_state(zombie.process()) == 'Z'; }));
    EXPECT_EQ(for_each_mapping(zombie.process(), [](const Mapping&) {}).error().code, ESRCH);
    zombie.join();
    EXPECT_EQ(read_memory_use(status.get()).error().code, ESRCH);
}

// Kernel fact 2.10: these are not in a forked child, or are zeros there.
TEST(Proc, InheritedRangesLeaveOutWhatAForkDoes) {
    const Guarded plain, unforked, wiped;
    ASSERT_EQ(madvise(unforked.data(), kBytes, MADV_DONTFORK), 0);
    ASSERT_EQ(madvise(wiped.data(), kBytes, MADV_WIPEONFORK), 0);
    auto ranges = fork_ranges(getpid(), plain.address());
    ASSERT_TRUE(ranges) << ranges.error().message;
    EXPECT_TRUE(covers(ranges->inherited, plain.address()));
    EXPECT_TRUE(covers(ranges->inherited, plain.address() + kBytes - 1));
    EXPECT_FALSE(covers(ranges->inherited, unforked.address()));
    EXPECT_FALSE(covers(ranges->inherited, wiped.address()));
    EXPECT_TRUE(covers(ranges->wiped, wiped.address()));
    EXPECT_FALSE(covers(ranges->wiped, unforked.address()));
    ASSERT_EQ(madvise(unforked.data(), kBytes, MADV_DOFORK), 0);
    ASSERT_EQ(madvise(wiped.data(), kBytes, MADV_KEEPONFORK), 0);
    ranges = fork_ranges(getpid(), plain.address());
    ASSERT_TRUE(ranges) << ranges.error().message;
    EXPECT_TRUE(covers(ranges->inherited, unforked.address()));
    EXPECT_TRUE(covers(ranges->inherited, wiped.address()));
    EXPECT_EQ(fork_ranges(getpid(), plain.address() + kPageSize).error().code, ESRCH)
        << "a program without the witness is another one";
}

// Kernel fact 2.16: RssAnon counts a page that a fork shares in each process, Pss_Anon once.
TEST(Proc, MemoryIsMeasuredOnceByPssAndTwiceByRss) {
    constexpr std::uint64_t kMuch = 32u << 20;
    Fd status(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    const auto use_before = read_memory_use(status.get());
    const auto pss_before = read_pss(getpid());
    ASSERT_TRUE(use_before && pss_before);
    const Guarded memory(kMuch);
    touch_pages(memory.data(), kMuch);
    const auto use = read_memory_use(status.get());
    EXPECT_NEAR(static_cast<double>(use->rss_anon - use_before->rss_anon), kMuch, 4e6);
    EXPECT_NEAR(static_cast<double>(*read_pss(getpid()) - *pss_before), kMuch, 4e6);
    EXPECT_EQ(use->threads, 1u);

    Child child([] { return pause(); });
    EXPECT_NEAR(static_cast<double>(*read_pss(getpid()) + *read_pss(child.process()) - *pss_before), kMuch,
                8e6);
    EXPECT_GE(read_memory_use(status.get())->rss_anon, kMuch);
}

TEST(Proc, RunTimeIsWhatAThreadHasUsed) {
    const auto before = read_run_time(getpid());
    const std::clock_t began = std::clock();
    while (std::clock() - began < CLOCKS_PER_SEC / 50) {
    }
    EXPECT_GE(read_run_time(getpid()) - before, std::chrono::milliseconds(15));
    EXPECT_EQ(read_run_time(kNobody).count(), 0);
}

TEST(Proc, ThreadsAndChildren) {
    std::barrier meet(2);
    Shared<pid_t> of_thread;
    pid_t thread = 0;
    std::thread other([&] {
        thread = gettid();
        const Child second([] { return pause(); });
        *of_thread.get() = second.process();
        meet.arrive_and_wait();
        meet.arrive_and_wait();
    });
    const Child first([] { return pause(); });
    meet.arrive_and_wait();
    std::vector<pid_t> threads, children;
    append_threads(getpid(), threads);
    append_children(getpid(), children);
    EXPECT_THAT(threads, ::testing::UnorderedElementsAre(getpid(), thread));
    EXPECT_THAT(children, ::testing::UnorderedElementsAre(first.process(), *of_thread.get()));
    meet.arrive_and_wait();
    other.join();
}

TEST(Proc, StateIsReadBehindAnyName) {
    Child child([] {
        pthread_setname_np(pthread_self(), "a) R (b) Z");
        return pause();
    });
    EXPECT_TRUE(wait_until([&] { return is_in_system_call(child.process(), SYS_pause); }));
    EXPECT_EQ(read_state(child.process()), 'S');
    kill(child.process(), SIGSTOP);
    EXPECT_TRUE(wait_until([&] { return read_state(child.process()) == 'T'; }));
}

TEST(Proc, DeliverableSignalsArePendingAndNotBlocked) {
    Child child([] {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, nullptr);
        return pause();
    });
    ASSERT_TRUE(wait_until([&] { return is_in_system_call(child.process(), SYS_pause); }));
    EXPECT_FALSE(signal_is_deliverable(child.process(), 0));
    kill(child.process(), SIGUSR1);
    EXPECT_TRUE(signal_is_deliverable(child.process(), 0));
    EXPECT_FALSE(signal_is_deliverable(child.process(), 1ull << (SIGUSR1 - 1)));
    EXPECT_TRUE(signal_is_deliverable(child.process(), 1ull << (SIGUSR2 - 1)));
}

TEST(Proc, TellsWhoSharesAnAddressSpace) {
    const Guarded stack;
    const pid_t borrower = clone([](void*) { return static_cast<int>(syscall(SYS_pause)); },
                                 stack.data() + kBytes, CLONE_VM | SIGCHLD, nullptr);
    ASSERT_GT(borrower, 0);
    const Child sharing(borrower);
    const Child forked([] { return pause(); });
    EXPECT_TRUE(share_address_space(getpid(), sharing.process()));
    EXPECT_FALSE(share_address_space(getpid(), forked.process()));
    EXPECT_FALSE(share_address_space(getpid(), kNobody));
}

TEST(Proc, WhoIsKilledIsEndingFromThatMomentOn) {
    EXPECT_FALSE(is_ending(getpid()));
    const pid_t child = fork();
    if (child == 0) {
        for (;;) pause();
    }
    EXPECT_FALSE(is_ending(child));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    EXPECT_TRUE(is_ending(child)) << "whether it has come to run since or not";
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(is_ending(child));
}

}  // namespace
}  // namespace farswap::target
