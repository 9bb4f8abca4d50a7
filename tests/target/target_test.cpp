// A managed process seen through Target: each event of its address space is told once, in an order in which
// nothing stale can be filled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <atomic>

#include "target/proc.h"
#include "target_fixture.h"

namespace farswap::target {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

/// Forks a child that does nothing, and leaves its number in `child`.
Puppet::Step fork_a_sleeper(std::atomic<pid_t>& child) {
    return [&child](Arena&) {
        const pid_t forked = fork();
        if (forked == 0) {
            for (;;) pause();
        }
        child = forked;
        return 0;
    };
}

TEST_F(TargetTest, TheUserfaultfdTellsWhatIsRegisteredAndFillsNothingWhenAsked) {
    start({[](Arena& arena) {
        munmap(arena.data() + 4 * kPageSize, 2 * kPageSize);
        return 0;
    }});
    move_out(2, 3);
    const auto asked = [&](std::uint64_t first, std::uint64_t pages) {
        return target_->uffd().is_registered(page(first), pages * kPageSize);
    };
    EXPECT_EQ(asked(0, kArenaPages), true);
    EXPECT_EQ(asked(2, 1), true);
    EXPECT_EQ(asked(kArenaPages, 1), false) << "the guard behind";
    EXPECT_EQ(asked(kArenaPages - 1, 2), false) << "in part";
    std::array<AddressRange, 4> present;
    auto scan = target_->scan_present(page(2), page(5), 3, present);
    ASSERT_TRUE(scan) << scan.error().message;
    EXPECT_EQ(scan->count, 0u);

    const int before = puppet_->done();
    puppet_->go();
    ASSERT_TRUE(wait_until([&] { return !asked(0, 1).has_value(); })) << "an event is not read yet";
    ASSERT_TRUE(run_until([&] { return puppet_->done() > before; }));
    EXPECT_EQ(asked(0, kArenaPages), false);
    EXPECT_EQ(asked(4, 2), false);
    EXPECT_EQ(asked(6, kArenaPages - 6), true);
}

TEST_F(TargetTest, FirstTouchesAndEvictedPagesAreFaults) {
    start({check_pages(0, 8), [](Arena& arena) { return int{arena.data()[20 * kPageSize]}; }});
    move_out(2, 3);
    step();
    EXPECT_EQ(puppet_->result(), 8);
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kFault, page(2)}, Seen{Seen::kFault, page(3)},
                                           Seen{Seen::kFault, page(4)}));
    events_->seen.clear();
    step();
    EXPECT_EQ(puppet_->result(), 0);
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kFault, page(20)}));
    EXPECT_GT(events_->batches, 0);
}

TEST_F(TargetTest, SystemCallsOnEvictedPagesWaitForThem) {
    // Kernel fact 2.9: a userfaultfd for user-mode faults only would give EFAULT.
    start({[](Arena& arena) {
        int ends[2];
        if (pipe(ends) != 0 || write(ends[1], arena.data() + 2 * kPageSize, kPageSize) != ssize_t{kPageSize})
            return -1;
        std::array<unsigned char, kPageSize> got;
        return read(ends[0], got.data(), got.size()) == ssize_t{kPageSize} && is_arena_page(got.data(), 2)
                   ? 1
                   : 0;
    }});
    move_out(2, 1);
    step();
    EXPECT_EQ(puppet_->result(), 1);
}

TEST_F(TargetTest, ChangesOfTheAddressSpaceAreTold) {
    static char* moved_to;
    start({[](Arena& a) { return madvise(a.data() + kPageSize, 2 * kPageSize, MADV_DONTNEED); },
           [](Arena& a) { return munmap(a.data() + 4 * kPageSize, 3 * kPageSize); },
           [](Arena& a) {
               moved_to = static_cast<char*>(
                   mmap(nullptr, 4 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
               void* to = mremap(a.data() + 8 * kPageSize, 2 * kPageSize, 2 * kPageSize,
                                 MREMAP_MAYMOVE | MREMAP_FIXED, moved_to);
               return to == moved_to && is_arena_page(reinterpret_cast<unsigned char*>(moved_to), 8) ? 0 : -1;
           }});
    step();
    EXPECT_EQ(puppet_->result(), 0);
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kRemove, page(1), page(3)}));
    events_->seen.clear();
    step();
    EXPECT_EQ(puppet_->result(), 0);
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kUnmap, page(4), page(7)}));
    events_->seen.clear();
    step();
    EXPECT_EQ(puppet_->result(), 0);
    // The end of the old mapping is told after the move: it must not be taken for the end of the pages.
    ASSERT_EQ(events_->seen.size(), 2u) << ::testing::PrintToString(events_->seen);
    EXPECT_EQ(events_->seen[0].kind, Seen::kRemap);
    EXPECT_EQ(events_->seen[0].a, page(8));
    EXPECT_EQ(events_->seen[0].c, 2 * kPageSize);
    EXPECT_EQ(events_->seen[1], (Seen{Seen::kUnmap, page(8), page(10)}));
}

// Kernel fact 2.3: reading an event is its acknowledgement. While the agent is between its probe and its move
// none may be read, or the program would go on and drop pages under the move.
TEST_F(TargetTest, NoEventIsReadWhileAMoveIsOutstanding) {
    start({[](Arena& a) { return madvise(a.data() + kPageSize, kPageSize, MADV_DONTNEED); }});
    puppet_->go();
    ASSERT_TRUE(wait_until([&] { return is_in_system_call(puppet_->process(), SYS_madvise); }));
    ASSERT_TRUE(ask(AGENT_MOVE, page(0), 4));
    target_->drain();
    EXPECT_TRUE(events_->seen.empty());
    ASSERT_TRUE(run_until([&] { return puppet_->done() == 1; }));
    EXPECT_THAT(events_->seen,
                ElementsAre(Seen{Seen::kReply, AGENT_MOVE}, Seen{Seen::kRemove, page(1), page(2)}));
    EXPECT_EQ(events_->reply.result[0].moved, 0u);
    EXPECT_EQ(events_->reply.result[0].error, -EAGAIN);
}

// What a MOVE took lies in staging, which a fork does not copy: until it is somewhere else, no fork may be
// acknowledged.
TEST_F(TargetTest, NoEventIsReadUntilAMoveIsSettled) {
    start({[](Arena& a) { return madvise(a.data() + 8 * kPageSize, kPageSize, MADV_DONTNEED); }});
    events_->settles = false;
    ASSERT_TRUE(ask(AGENT_MOVE, page(0), 4));
    ASSERT_TRUE(run_until([&] { return target_->is_moved(); }));
    EXPECT_FALSE(target_->agent_idle());
    puppet_->go();
    ASSERT_TRUE(wait_until([&] { return is_in_system_call(puppet_->process(), SYS_madvise); }));
    target_->drain();
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kReply, AGENT_MOVE}));
    target_->move_settled();
    ASSERT_TRUE(run_until([&] { return puppet_->done() == 1; }));
    EXPECT_THAT(events_->seen,
                ElementsAre(Seen{Seen::kReply, AGENT_MOVE}, Seen{Seen::kRemove, page(8), page(9)}));
}

// Kernel fact 2.6: the child's memory comes with a userfaultfd of its own and no number; a page put in
// through it tells.
TEST_F(TargetTest, AForkedChildIsServedByItsOwnUserfaultfd) {
    start({[](Arena& arena) {
        const pid_t child = fork();
        if (child == 0) _exit(check_pages(0, 8)(arena));
        int status = 0;
        waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }});
    move_out(2, 3);
    step();
    EXPECT_EQ(puppet_->result(), 8);
    EXPECT_EQ(std::ranges::count(events_->seen, Seen{Seen::kFork}), 1);
    EXPECT_EQ(std::ranges::count(events_->seen, Seen{Seen::kFault, page(3)}), 1)
        << "the child's, not the parent's";
}

// Seen in the simulator: a child that had begun to change its mappings was taken to have all that its parent
// had, so that what had moved before the fork, and was announced after it, was not given to it.
TEST_F(TargetTest, WhatAChildHadAtItsForkIsKnownThoughItGoesOn) {
    static std::atomic<bool>* asked;
    Shared<std::atomic<bool>> flag;
    asked = flag.get();
    start({[](Arena& arena) {
        const pid_t child = fork();
        if (child == 0) {
            const int result = munmap(arena.data() + 4 * kPageSize, 3 * kPageSize);
            while (!*asked) usleep(200);
            _exit(result);
        }
        return waitpid(child, nullptr, 0) == child ? 0 : -1;
    }});
    int forks = 0;
    events_->forked = [&](Target& child) {
        forks++;
        pollfd announced{child.uffd().fd(), POLLIN, 0};
        ASSERT_EQ(poll(&announced, 1, 60'000), 1);
        // Until it has been told that this was read.
        ASSERT_TRUE(wait_until([&] { return child.had_at_fork(page(5), kPageSize).has_value(); }));
        EXPECT_EQ(child.had_at_fork(page(5), kPageSize), true) << "it has just been unmapped";
        EXPECT_EQ(child.had_at_fork(page(7), kPageSize), true);
        EXPECT_EQ(child.had_at_fork(page(6), 2 * kPageSize), false) << "not as one range";
        EXPECT_EQ(child.had_at_fork(kAddressEnd / 2, kPageSize), false);
        EXPECT_FALSE(events_->has(Seen::kUnmap)) << "the parent's events come first";
        child.deliver_heard();
        EXPECT_TRUE(events_->has(Seen::kUnmap));
        *asked = true;
    };
    step();
    EXPECT_EQ(forks, 1);
    EXPECT_EQ(puppet_->result(), 0);
    EXPECT_EQ(std::ranges::count(events_->seen, Seen{Seen::kUnmap, page(4), page(7)}), 1) << "only once";
}

TEST_F(TargetTest, AForkedChildIsRecognisedByItsCookie) {
    static std::atomic<pid_t>* number;
    Shared<std::atomic<pid_t>> grandchild;
    number = grandchild.get();
    start({[](Arena&) {
        const pid_t child = fork();
        if (child == 0) {
            for (;;) pause();
        }
        *number = child;
        return 0;
    }});
    step();
    const Child reaper(grandchild.get()->load());
    ASSERT_TRUE(run_until([&] { return events_->child != nullptr; }));
    std::array<unsigned char, kPageSize> cookie;
    cookie.fill(0x5a);
    EXPECT_EQ(events_->child->uffd().copy(target_->agent().cookie, cookie.data(), kPageSize).error, 0);
    const auto found = read_pages(*grandchild.get(), target_->agent().cookie, 1);
    ASSERT_EQ(found.size(), cookie.size());
    EXPECT_EQ(found[17], 0x5a);
    EXPECT_TRUE(read_pages(*grandchild.get(), target_->agent().staging, 1).empty())
        << "staging is not inherited";
    EXPECT_TRUE(events_->child->identify(*grandchild.get()));
    kill(*grandchild.get(), SIGKILL);
    EXPECT_TRUE(run_until([&] { return events_->has(Seen::kGone); }));
}

// Seen: such a child had no mark, was taken for a new program, and its memory could never be moved out.
TEST_F(TargetTest, AChildForkedAsSoonAsTheAgentIsThereCanBeMarked) {
    Shared<std::atomic<pid_t>> grandchild;
    start({fork_a_sleeper(*grandchild.get())}, [&] {
        puppet_->go();
        ASSERT_TRUE(wait_until([&] { return waits_for_userfaultfd(puppet_->process()); }));
    });
    ASSERT_TRUE(run_until([&] { return puppet_->done() == 1; }));
    const Child reaper(grandchild.get()->load());
    ASSERT_NE(events_->child, nullptr);
    const std::vector<unsigned char> mark(kPageSize, 0x5a);
    EXPECT_EQ(events_->child->uffd().copy(target_->agent().cookie, mark.data(), kPageSize).error, 0);
}

// What a fork shares would be copied by a write: no longer what was written since.
TEST_F(TargetTest, TellsWhichPagesAreSharedWithAForkedChild) {
    Shared<std::atomic<pid_t>> grandchild;
    start({fork_a_sleeper(*grandchild.get()), [](Arena& arena) {
               arena.data()[3 * kPageSize] = 1;
               return 0;
           }});
    std::array<AddressRange, 4> shared;
    auto scan = target_->scan_shared(page(0), page(8), shared);
    ASSERT_TRUE(scan) << scan.error().message;
    EXPECT_EQ(scan->count, 0u);
    step();
    const Child reaper(grandchild.get()->load());
    step();
    scan = target_->scan_shared(page(0), page(8), shared);
    ASSERT_TRUE(scan) << scan.error().message;
    ASSERT_EQ(scan->count, 2u);
    EXPECT_EQ(shared[0].start, page(0));
    EXPECT_EQ(shared[0].end, page(3));
    EXPECT_EQ(shared[1].start, page(4));
    EXPECT_EQ(shared[1].end, page(8));
    EXPECT_EQ(scan->walk_end, page(8));
}

// An agent may end alone (a filter kills one thread): its pages are served, and another takes its place.
TEST_F(TargetTest, AnAgentThatEndedAloneIsReplaced) {
    start({check_pages(0, 8)});
    move_out(2, 1);
    ASSERT_TRUE(ask(AGENT_EXIT, page(0), 1));
    ASSERT_TRUE(run_until([&] { return target_->lost_agent(); }));
    EXPECT_FALSE(events_->has(Seen::kGone));
    {
        auto task = RemoteTask::seize(puppet_->process(), 30'000);
        ASSERT_TRUE(task) << task.error().message;
        auto agent = inject(*task, {.staging_pages = 32, .adopt_uffd = target_->uffd().fd()});
        ASSERT_TRUE(agent) << agent.error().message;
        target_->give_agent(std::move(*agent));
    }
    EXPECT_FALSE(target_->lost_agent());
    EXPECT_TRUE(target_->agent_idle());
    move_out(4, 2);
    step();
    EXPECT_EQ(puppet_->result(), 8);
}

// Seen: the pages of such memory were let go of with the process that had the agent, and read as zeros.
TEST_F(TargetTest, MemoryThatAnotherProcessSharesOutlivesTheOneWithTheAgent) {
    Shared<std::atomic<pid_t>> borrower;
    Shared<std::atomic<int>> told, right;
    start({[=, born = borrower.get(), go = told.get(), seen = right.get()](Arena& arena) {
        if (vfork() == 0) {
            *born = getpid();
            while (*go == 0) usleep(200);
            *seen = is_arena_page(arena.data() + 2 * kPageSize, 2) ? 1 : 2;
            for (;;) pause();
        }
        return 0;
    }});
    move_out(2, 1);
    puppet_->go();
    ASSERT_TRUE(wait_until([&] { return borrower.get()->load() > 0; }));
    kill(puppet_->process(), SIGKILL);
    ASSERT_TRUE(run_until([&] { return target_->lost_agent(); }));
    *told.get() = 1;
    ASSERT_TRUE(run_until([&] { return right.get()->load() != 0; }));
    EXPECT_EQ(right.get()->load(), 1);
    EXPECT_FALSE(events_->has(Seen::kGone));
    kill(*borrower.get(), SIGKILL);
    EXPECT_TRUE(run_until([&] { return events_->has(Seen::kGone); }));
}

// Kernel fact 2.5: after a fork MOVE answers EBUSY until the page is the process's own again.
TEST_F(TargetTest, PagesSharedByAForkMoveOnceTheyAreUnshared) {
    start({[](Arena&) {
        const pid_t child = fork();
        if (child == 0) _exit(0);
        return waitpid(child, nullptr, 0) == child ? 0 : -1;
    }});
    step();
    ASSERT_TRUE(ask(AGENT_MOVE, page(0), 2));
    ASSERT_TRUE(run_until([&] { return target_->agent_idle(); }));
    EXPECT_EQ(events_->reply.result[0].moved, 0u);
    EXPECT_EQ(events_->reply.result[0].error, -EBUSY);
    ASSERT_TRUE(ask(AGENT_UNSHARE, page(0), 2));
    ASSERT_TRUE(run_until([&] { return target_->agent_idle(); }));
    move_out(0, 2);
    EXPECT_TRUE(is_arena_page(events_->contents[page(1)].data(), 1));
}

TEST_F(TargetTest, ZappedStagingIsEmptyAndTheProgramsPagesAreNot) {
    start({check_pages(0, 8)});
    move_out(2, 3);
    ASSERT_TRUE(ask(AGENT_ZAP, 0, 3));
    ASSERT_TRUE(run_until([&] { return target_->agent_idle(); }));
    EXPECT_EQ(events_->reply.status, 0);
    std::array<AddressRange, 4> ranges;
    auto scan = target_->scan_present(target_->agent().staging, target_->agent().staging + 32 * kPageSize, 32,
                                      ranges);
    ASSERT_TRUE(scan) << scan.error().message;
    EXPECT_EQ(scan->count, 0u);
    step();
    EXPECT_EQ(puppet_->result(), 8);
}

TEST_F(TargetTest, TellsAnExec) {
    start({[](Arena&) { return execl("/bin/sleep", "sleep", "1000", nullptr); }});
    puppet_->go();
    ASSERT_TRUE(run_until([&] { return events_->has(Seen::kGone); }));
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kGone, true}));
}

// Threads end one by one: when the agent's goes first, a process that is dying may still look alive, so only
// "once" is certain.
TEST_F(TargetTest, TellsAnEndOnce) {
    start({});
    kill(puppet_->process(), SIGKILL);
    ASSERT_TRUE(
        run_until([&] { return read_state(puppet_->process()) == 'Z' && events_->has(Seen::kGone); }));
    for (int i = 0; i < 5; i++) loop_->run_once(milliseconds(1));
    ASSERT_EQ(events_->seen.size(), 1u);
    EXPECT_EQ(events_->seen[0].kind, Seen::kGone);
}

/// As an ordinary user, the error of watching a child that has ended and is not reaped: its memory is gone,
/// and its files in /proc are root's, as they are a little before.
int error_of_watching_what_has_ended() {
    if (setresuid(65534, 65534, 65534) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0) return -1;
    const pid_t ended = fork();
    if (ended == 0) _exit(0);
    siginfo_t info;
    if (waitid(P_PID, static_cast<id_t>(ended), &info, WEXITED | WNOWAIT) != 0) return -1;
    auto loop = io::Loop::create({});
    if (!loop) return -1;
    Arena arena;
    Recorder events(arena);
    const auto target = Target::create_child(Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), **loop, events);
    const auto watched = target->identify(ended);
    return watched ? 0 : watched.error().code;
}

TEST(TargetOfAnOrdinaryUser, WhatIsAboutToEndIsNotSomebodyElses) {
    const pid_t child = fork();
    if (child == 0) _exit(error_of_watching_what_has_ended());
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), ESRCH);
}

// What was moved there is lost, and the next zap would empty what is the program's.
TEST_F(TargetTest, TellsThatSomethingElseLiesWhereStagingWas) {
    if (!kernel_answers_for_one_mapping()) GTEST_SKIP() << "the kernel has no PROCMAP_QUERY";
    Shared<std::atomic<std::uint64_t>> staging;
    start({[at = staging.get()](Arena&) {
        void* const there = reinterpret_cast<void*>(at->load());
        return mmap(there, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == there ? 1
                                                                                                          : 0;
    }});
    EXPECT_FALSE(target_->has_lost_staging());
    staging.get()->store(target_->agent().staging + 4 * kPageSize);
    step();
    ASSERT_EQ(puppet_->result(), 1);
    EXPECT_TRUE(target_->has_lost_staging());
}

}  // namespace
}  // namespace farswap::target
