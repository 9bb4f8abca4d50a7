// ThreadWatch on this process: the pages that the kernel writes to while a thread exits (kernel fact 2.4).
#include "target/threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <thread>

#include "child.h"
#include "farswap/request.h"

namespace farswap::target {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;

std::uint64_t page_of(const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) & ~std::uint64_t{kPageSize - 1};
}

/// Where the kernel writes 0 when the calling thread ends.
const void* clear_child_tid() {
    const void* address = nullptr;
    EXPECT_EQ(prctl(PR_GET_TID_ADDRESS, &address), 0);
    return address;
}

bool everything_can_be_read(std::uint64_t, bool) {
    return true;
}

class ThreadWatchTest : public ::testing::Test {
  protected:
    /// Looks until every thread has told.
    std::vector<std::uint64_t> scan(pid_t agent = 0) {
        std::vector<std::uint64_t> pages;
        EXPECT_TRUE(wait_until([&] { return watch_.scan(getpid(), agent, false, pages); }));
        return pages;
    }
    std::vector<std::uint64_t> held() const {
        std::vector<std::uint64_t> pages;
        watch_.held_mutexes(getpid(), everything_can_be_read, pages);
        return pages;
    }
    ThreadWatch watch_;
};

TEST_F(ThreadWatchTest, FindsThePageThatEachThreadClearsAtItsEnd) {
    constexpr int kThreads = 3;
    std::barrier meet(kThreads + 1);
    const void* words[kThreads];
    pid_t numbers[kThreads];
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; i++) {
        threads.emplace_back([&, i] {
            words[i] = clear_child_tid();
            numbers[i] = gettid();
            meet.arrive_and_wait();
            meet.arrive_and_wait();
        });
    }
    meet.arrive_and_wait();
    const auto pages = scan();
    EXPECT_EQ(watch_.count(), kThreads + 1u);
    EXPECT_THAT(pages, Contains(page_of(clear_child_tid())));
    for (const void* word : words) EXPECT_THAT(pages, Contains(page_of(word)));
    EXPECT_THAT(scan(), IsEmpty()) << "threads that are known are not told again";

    ThreadWatch other;
    std::vector<std::uint64_t> without_agent;
    EXPECT_TRUE(wait_until([&] { return other.scan(getpid(), numbers[0], false, without_agent); }));
    EXPECT_EQ(other.count(), std::size_t{kThreads});

    meet.arrive_and_wait();
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(wait_until([&] { return scan().empty() && watch_.count() == 1; }))
        << "ended threads are forgotten";
}

/// A robust mutex whose lock word and list entry lie on two pages: the entry is 32 bytes into it (glibc).
class StraddlingMutex {
  public:
    explicit StraddlingMutex(int protocol = PTHREAD_PRIO_NONE)
        : memory_(static_cast<char*>(
              mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))),
          mutex_(reinterpret_cast<pthread_mutex_t*>(memory_ + kPageSize - 32)) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutexattr_setprotocol(&attributes, protocol);
        pthread_mutex_init(mutex_, &attributes);
    }
    ~StraddlingMutex() { munmap(memory_, 2 * kPageSize); }
    StraddlingMutex(const StraddlingMutex&) = delete;
    StraddlingMutex& operator=(const StraddlingMutex&) = delete;
    void lock() { ASSERT_EQ(pthread_mutex_lock(mutex_), 0); }
    void unlock() { ASSERT_EQ(pthread_mutex_unlock(mutex_), 0); }
    std::uint64_t lock_page() const { return page_of(memory_); }
    std::uint64_t entry_page() const { return page_of(memory_ + kPageSize); }

  private:
    char* memory_;
    pthread_mutex_t* mutex_;
};

// The kernel marks a dead owner's robust mutexes in its exit, when no fault can be served.
TEST_F(ThreadWatchTest, FindsBothPagesOfAHeldRobustMutex) {
    for (int protocol : {PTHREAD_PRIO_NONE, PTHREAD_PRIO_INHERIT}) {
        StraddlingMutex first(protocol), second(protocol);
        scan();
        EXPECT_THAT(held(), IsEmpty());
        first.lock();
        second.lock();
        for (const StraddlingMutex* mutex : {&first, &second}) {
            EXPECT_THAT(held(), Contains(mutex->lock_page()));
            EXPECT_THAT(held(), Contains(mutex->entry_page()));
        }
        first.unlock();
        EXPECT_THAT(held(), Not(Contains(first.lock_page())));
        EXPECT_THAT(held(), Contains(second.lock_page()));
        second.unlock();
        EXPECT_THAT(held(), IsEmpty());
    }
}

// Reading a page that is outside would wait for the pager, which is the one that reads.
TEST_F(ThreadWatchTest, FollowsAListUpToThePageThatIsOutside) {
    StraddlingMutex first, second;
    scan();
    first.lock();
    second.lock();  // the list leads from the head to the second, then to the first
    std::vector<std::uint64_t> pages;
    const auto may_read = [&](std::uint64_t page, bool of_mutex) {
        EXPECT_TRUE(of_mutex || page != second.entry_page());
        return page != second.entry_page();
    };
    watch_.held_mutexes(getpid(), may_read, pages);
    EXPECT_THAT(pages, Contains(second.entry_page()));
    EXPECT_THAT(pages, Contains(second.lock_page()));
    EXPECT_THAT(pages, Not(Contains(first.entry_page())));
    first.unlock();
    second.unlock();
}

/// A thread that hardly runs, and sets a robust list when it is told to, as one does whose first page comes
/// late.
class LateThread {
  public:
    LateThread() {
        EXPECT_EQ(pipe(go_on_), 0);
        list_.list.next = &list_.list;
        constexpr int kThread =
            CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
        EXPECT_GT(clone(run, stack_.data() + stack_.size(), kThread | CLONE_CHILD_CLEARTID, this, nullptr,
                        nullptr, &alive_),
                  0);
    }
    ~LateThread() {
        go_on();
        while (__atomic_load_n(&alive_, __ATOMIC_ACQUIRE) != 0) sched_yield();
        close(go_on_[0]);
        close(go_on_[1]);
    }
    LateThread(const LateThread&) = delete;
    LateThread& operator=(const LateThread&) = delete;
    void go_on() const { EXPECT_EQ(write(go_on_[1], "", 1), 1); }
    std::uint64_t list_page() const { return page_of(&list_); }

  private:
    static int run(void* self) {
        LateThread& thread = *static_cast<LateThread*>(self);
        char byte = 0;
        syscall(SYS_read, thread.go_on_[0], &byte, 1);
        syscall(SYS_set_robust_list, &thread.list_, sizeof thread.list_);
        syscall(SYS_read, thread.go_on_[0], &byte, 1);
        syscall(SYS_exit, 0);
        return 0;
    }

    int go_on_[2] = {-1, -1};
    robust_list_head list_{};
    pid_t alive_ = 1;
    alignas(16) std::array<char, 16384> stack_{};
};

// A store that does not answer for seconds, or SIGSTOP, may keep a thread from its first instructions.
TEST_F(ThreadWatchTest, AThreadThatSleptLongInItsFirstInstructionsIsFoundWhenItGoesOn) {
    for (const bool some_wait : {true, false}) {
        LateThread late;
        std::vector<std::uint64_t> pages;
        const auto all_told = [&] { return watch_.scan(getpid(), 0, some_wait, pages); };
        EXPECT_FALSE(all_told()) << "it is young";
        ASSERT_TRUE(wait_until(all_told)) << "who sleeps for ever must not keep all others' pages in";
        watch_.page_came();
        EXPECT_EQ(all_told(), !some_wait) << "it may set its list now, and end";
        EXPECT_THAT(pages, Not(Contains(late.list_page())));
        late.go_on();
        EXPECT_TRUE(wait_until(
            [&] { return all_told() && std::ranges::find(pages, late.list_page()) != pages.end(); }));
    }
}

}  // namespace
}  // namespace farswap::target
