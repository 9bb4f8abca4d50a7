// A kernel in a few hundred lines: address spaces, forks, page faults and userfaultfd with the orders of
// locks, queues and wake-ups that docs/kernel-facts.md tells of. Knows nothing of pagers; calls.cpp leads the
// pager's system calls here.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/types.h>

#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "coroutine.h"
#include "memory.h"
#include "target/agent_protocol.h"

namespace farswap::simulate {

struct Process;
class Context;

/// What a pager and an agent say to each other.
struct Channel {
    std::deque<agent_request> requests;
    std::deque<agent_reply> replies;
    bool agent_ended = false;
    bool closed = false;  ///< the pager's end
};

/// ns since the beginning, as steady_clock tells them.
std::int64_t virtual_time();

struct Thread {
    pid_t id = 0;
    Process* process = nullptr;
    Task<> main;
    std::coroutine_handle<> at;  ///< where it goes on
    bool blocked = false;
    std::int64_t blocked_since = 0;  ///< ns
    const char* waits_for = "";      ///< for messages
    std::uint64_t waits_at = 0;      ///< an address, for messages
    bool is_agent = false;
    std::uint64_t control_page = 0;  ///< its clear_child_tid word and robust list lie there
    bool has_robust_list = false;    ///< it has told the kernel
    std::uint64_t since = 0;         ///< step at which it began
    std::uint64_t held_since = 0;    ///< step at which it took the mutex
    std::uint64_t held_mutex = 0;    ///< page of a robust mutex that it holds; 0: none
    std::int64_t run_time = 0;       ///< ns

    /// Lets others run; goes on when the scheduler likes.
    auto pause() {
        struct Pause {
            Thread& thread;
            bool await_ready() const { return false; }
            void await_suspend(std::coroutine_handle<> at) const { thread.at = at; }
            void await_resume() const {}
        };
        return Pause{*this};
    }
    /// Goes on only when unblock() was called.
    auto block(const char* reason, std::uint64_t address) {
        blocked = true;
        blocked_since = virtual_time();
        waits_for = reason;
        waits_at = address;
        return pause();
    }
    void unblock() { blocked = false; }
};

struct Process {
    pid_t id = 0;
    pid_t parent = 0;
    std::shared_ptr<Memory> memory;
    std::vector<std::unique_ptr<Thread>> threads;
    std::shared_ptr<Channel> channel;  ///< the agent's; null: there is none
    Context* agents_uffd = nullptr;
    bool alive = true;    ///< false: a zombie
    bool doomed = false;  ///< ends after this step
    std::int64_t born = 0;
    std::uint64_t minor_faults = 0;
    std::uint64_t programs = 0;  ///< executed so far
    bool agent_is_new = false;   ///< the pager has not been told of its agent yet
};

/// A thread that waits for a page, for as long as this lives.
struct FaultWait {
    FaultWait(Context& context, Thread& thread, std::uint64_t address, bool wp);
    ~FaultWait();
    FaultWait(const FaultWait&) = delete;
    FaultWait& operator=(const FaultWait&) = delete;

    Context& context;
    Thread& thread;
    const std::uint64_t address;
    const bool wp;
    bool woken = false;
};

/// A change of an address space that is to be read. From its making on fills answer EAGAIN, until its thread
/// has gone on (userfaultfd_event_wait_completion() of fs/userfaultfd.c).
struct Event {
    Event(Context& context, std::uint8_t type, std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    ~Event();
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    void finish();

    Context& context;
    const std::uint8_t type;
    const std::uint64_t from, to, bytes;  ///< REMAP; the others: [from, to)
    Context* child = nullptr;             ///< FORK
    Thread* waiter = nullptr;
    bool read = false;
    bool finished = false;
};

/// A userfaultfd.
class Context {
  public:
    Memory* memory = nullptr;         ///< null: gone
    int changing = 0;                 ///< mmap_changing
    std::vector<FaultWait*> pending;  ///< to be read
    std::vector<FaultWait*> waiting;  ///< read
    std::deque<Event*> events;
    int descriptors = 0;
    bool released = false;  ///< the last one is closed

    bool is_readable() const { return !pending.empty() || !events.empty(); }
    void wake(std::uint64_t start, std::uint64_t bytes);
    /// One that holds all of the range, if it is registered here.
    Vma* registered(std::uint64_t start, std::uint64_t bytes) const;

    // The ioctls: 0 or an errno. `done`: bytes.
    int copy(std::uint64_t to, const std::byte* from, std::uint64_t bytes, std::int64_t& done);
    int move(std::uint64_t to, std::uint64_t from, std::uint64_t bytes, std::int64_t& done);
    int zero_page(std::uint64_t start, std::uint64_t bytes);
    int continue_at(std::uint64_t start, std::uint64_t bytes);
    int protect(std::uint64_t start, std::uint64_t bytes, bool wp);
    int register_range(std::uint64_t start, std::uint64_t bytes);
    /// The last descriptor was closed: registrations go, whoever waits goes on.
    void shut();
};

/// What threads call. Each may be interrupted wherever it waits: then it is undone as far as the kernel
/// undoes it.
class Kernel {
  public:
    /// Makes the page at the address readable or writable and returns true: the caller uses it before it
    /// pauses. False: there is no mapping.
    static Task<bool> access(Thread& thread, std::uint64_t address, bool write);
    static Task<> unmap(Thread& thread, std::uint64_t start, std::uint64_t end);
    /// mremap(2) with MREMAP_FIXED of a part of one mapping.
    static Task<> remap(Thread& thread, std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    /// madvise(2): MADV_DONTNEED, or MADV_FREE if `lazily`.
    static Task<> discard(Thread& thread, std::uint64_t start, std::uint64_t end, bool lazily);
    /// A copy of the address space, once whoever is to know of it knows.
    static Task<std::shared_ptr<Memory>> fork(Thread& thread);
    /// GUP with FOLL_UNSHARE of one byte.
    static Task<> unshare(Thread& thread, std::uint64_t address);
    /// What the kernel writes when a thread ends, when nobody can wait any more: dies if it cannot.
    /// `since`: the step from which on the pager could know.
    static void write_at_exit(Thread& thread, std::uint64_t address, const char* what, std::uint64_t since);

    /// The page of an entry that exists and is not the zero page, writable by its owner; no userfaultfd
    /// asked.
    static Page& make_exclusive(Process& process, Memory& memory, std::uint64_t address);
    /// Nobody uses the address space any more.
    static void end_memory(Memory& memory);
};

/// The agent of a process, as src/target/agent.c has it.
Task<> run_agent(Thread& thread, std::shared_ptr<Channel> channel, Context& uffd);

}  // namespace farswap::simulate
