// One managed process: its userfaultfd, its agent, its mappings, its threads. Turns what the kernel says into
// calls of TargetEvents. Knows nothing of slots, stores or budgets.
#pragma once

#include <linux/userfaultfd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "io/loop.h"
#include "target/agent_protocol.h"
#include "target/inject.h"
#include "target/intervals.h"
#include "target/pagemap.h"
#include "target/threads.h"
#include "target/uffd.h"

namespace farswap::target {

class Target;

/// What happens to a managed process. Called from the loop. Within one batch read from the userfaultfd, the
/// events of the address space come first and faults last: reading an event lets its thread go on, so that
/// nothing may be filled before the event has been applied (kernel facts 2.3).
class TargetEvents {
  public:
    virtual ~TargetEvents() = default;
    /// A thread waits for the page at `address` (page-aligned).
    virtual void on_fault(Target& target, std::uint64_t address) = 0;
    /// A thread waits to write to the page at `address`: it is, or was, protected.
    virtual void on_write_fault(Target& target, std::uint64_t address) = 0;
    /// The process forked; `child` is the userfaultfd of the new address space.
    virtual void on_fork(Target& target, Fd child) = 0;
    /// The pages of [from, from + bytes) now lie at `to`.
    virtual void on_remap(Target& target, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) = 0;
    /// The pages are about to be dropped by madvise(2): they may still be there now. `before_fork`: a FORK
    /// was read along with it, and is yet to be told of.
    virtual void on_remove(Target& target, std::uint64_t start, std::uint64_t end, bool before_fork) = 0;
    /// The pages are gone with their mapping.
    virtual void on_unmap(Target& target, std::uint64_t start, std::uint64_t end) = 0;
    /// The agent has done what it was asked.
    virtual void on_agent_reply(Target& target, const agent_reply& reply) = 0;
    /// All of a batch has been delivered.
    virtual void on_batch_end(Target& target) = 0;
    /// The address space is gone: the process ended, or, if `process_alive`, executed another program. The
    /// latter is a hint: a process that is being killed may still look alive.
    virtual void on_gone(Target& target, bool process_alive) = 0;
    /// An event cannot be taken: EMFILE, ENFILE (a fork needs a descriptor). The process waits for ever.
    virtual void on_deaf(Target& target, int error) = 0;
    /// A mapping that seems to be new has been registered, before any later event was read. Not `certain`:
    /// what had lain there, or what has moved there, may still be announced.
    virtual void on_fresh(Target& target, const AddressRange& range, bool certain) = 0;
};

/// One thread: the loop's.
class Target {
  public:
    /// A process with an agent.
    static Result<std::unique_ptr<Target>> create(Agent agent, io::Loop& loop, TargetEvents& events);
    /// The address space of a forked child, known by its userfaultfd only until identify() and give_agent().
    static std::unique_ptr<Target> create_child(Fd uffd, io::Loop& loop, TargetEvents& events);
    ~Target();
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;

    pid_t process() const noexcept { return process_; }  ///< 0: a child whose number is not known yet
    /// A thread that has the process's memory: the main one may end before the others, the agent does not.
    pid_t task() const noexcept { return has_agent() ? agent_.thread : process_; }
    const Uffd& uffd() const noexcept { return uffd_; }
    bool has_agent() const noexcept { return static_cast<bool>(socket_); }
    /// The agent has ended and the address space has not: a process that shares it (vfork, CLONE_VM) lives
    /// on. Its pages are still served; none can be moved out any more.
    bool lost_agent() const noexcept { return lost_agent_; }
    const Agent& agent() const noexcept { return agent_; }

    /// The child turned out to be `process`. Opens what is needed of it.
    Status identify(pid_t process);
    /// The child's agent is in place.
    void give_agent(Agent agent);

    /// Sends a request; the answer comes by on_agent_reply. Only when agent_idle(). From a MOVE until
    /// move_settled() the userfaultfd is not read: no event is acknowledged between the agent's probe and its
    /// move, nor while pages lie in staging.
    bool ask_agent(agent_request& request) noexcept;
    bool agent_idle() const noexcept { return has_agent() && !waiting_ && !moving_ && !sent_away_; }
    /// A MOVE is not settled: pages that look present may have left already.
    bool is_moving() const noexcept { return moving_; }
    /// The reply to a MOVE has come.
    bool is_moved() const noexcept { return moving_ && !waiting_; }
    /// How many are, of all.
    static std::uint32_t moves_under_way() noexcept { return moves_.load(std::memory_order_relaxed); }
    /// What the last MOVE took is accounted for.
    void move_settled() noexcept;
    /// Has the agent end. It is asked for nothing afterwards; without it the userfaultfd is ours alone.
    void end_agent() noexcept;
    /// The same, with that exit status, but another may take its place once the agent is lost_agent(). Only
    /// when agent_idle().
    void send_agent_away(std::uint32_t status) noexcept;
    /// Since when the agent owes an answer; a stopped process owes it until it is continued.
    io::Clock::time_point asked_at() const noexcept { return asked_at_; }

    /// Reads and delivers events now (after an EAGAIN), unless a MOVE is not settled.
    void drain() noexcept;
    /// Whether a forked child had the range when it was forked: it is registered now, or the child has
    /// announced since that it has gone. What it announces is read for that, to be delivered by
    /// deliver_heard(). None where it changes its mappings faster than it can be asked.
    std::optional<bool> had_at_fork(std::uint64_t start, std::uint64_t bytes);
    /// Delivers what had_at_fork() has read. Before anybody else is told what the child has.
    void deliver_heard();
    /// Whether something was moved or unmapped and has been read and not delivered, or may not be read now.
    bool has_undelivered() const noexcept { return changes_ahead_ > 0 || !heard_.empty() || moving_; }
    /// Whether all changes of its mappings that are over have been delivered, and none is under way.
    bool is_up_to_date() const noexcept { return !has_undelivered() && uffd_.is_quiet(); }

    /// Looks for new private anonymous mappings and registers them, their zero pages protected, but leaves
    /// them alone while they are no more than `unregistered_max` bytes together: a heap that grows would
    /// become a mapping for each look at it, since a registered one does not grow. `evictable()` is up to
    /// date afterwards: one range a mapping, as a MOVE across two is refused.
    Status refresh_mappings(std::uint64_t unregistered_max = 0);
    /// The last look could not register all that is new: events waited that cannot be read during a MOVE.
    /// Look again soon.
    bool refresh_due() const noexcept { return refresh_due_; }
    /// A range turns out to be registered with the kernel already.
    void note_registered(const AddressRange& range) { registered_.add(range.start, range.end); }
    /// Write-protects the pages of the range that are the kernel's zero page.
    void protect_zero_pages(const AddressRange& range) const;
    void range_unmapped(std::uint64_t start, std::uint64_t end);
    void range_moved(std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    /// MOVE refused the mapping at `address` (locked, protection key): leave it alone until the next
    /// forgive_refusals().
    void range_unmovable(std::uint64_t address);
    /// What MOVE or the registration has refused may be tried again: the program may have changed its mind.
    void forgive_refusals() {
        unmovable_.clear();
        refused_.clear();
    }
    /// Nothing leaves from there before the next look.
    void keep_in(std::uint64_t start, std::uint64_t end) { evictable_.remove(start, end); }
    /// Pages were filled in there: they are registered, as nothing was on its way then. How a mapping that
    /// has grown is known; nobody tells.
    void note_filled(std::uint64_t start, std::uint64_t end);
    /// A child's mappings are registered like its parent's, as far as it has them.
    void inherit_ranges(const Target& parent, const IntervalSet& mapped);
    const IntervalSet& registered() const noexcept { return registered_; }
    /// What lay in [to, to + bytes), registered and not noted, before a mapping moved there from `from`: when
    /// it was seen, that mapping was seen where it came from.
    IntervalSet unnoted_before(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) const;
    const IntervalSet& evictable() const noexcept { return evictable_; }

    /// Present pages, as target::scan_pages().
    Result<PagemapScan> scan_present(std::uint64_t start, std::uint64_t end, std::uint64_t pages_max,
                                     std::span<AddressRange> ranges) const {
        return scan_pages(pagemap_.get(), PageKind::kAnonymous, start, end, pages_max, ranges);
    }
    /// Present pages that other processes have, too, as target::scan_shared_pages().
    Result<PagemapScan> scan_shared(std::uint64_t start, std::uint64_t end,
                                    std::span<AddressRange> ranges) const {
        return scan_shared_pages(pagemap_.get(), start, end, ranges);
    }
    /// As target::count_absent(); 0 for a child that is not identified yet.
    std::uint64_t count_absent(std::uint64_t start, std::uint64_t pages_max) const {
        return target::count_absent(pagemap_.get(), start, pages_max);
    }
    ThreadWatch& threads() noexcept { return threads_; }
    /// Copies memory of the process (present pages: else it would wait for ourselves). Bytes read.
    std::size_t read_memory(std::uint64_t address, void* into, std::size_t bytes) const noexcept;
    /// Whether we may read it. Not what must not be dumped (PR_SET_DUMPABLE, a change of identity) without
    /// CAP_SYS_PTRACE.
    bool is_readable() const noexcept;
    /// The same for several ranges in one system call (at most 64); false when any could not be read in full.
    /// Also when it has stopped being readable meanwhile.
    struct Piece {
        std::uint64_t address;
        void* into;
        std::size_t bytes;
    };
    bool read_pieces(std::span<const Piece> pieces) const noexcept;
    /// Whether something else lies where staging was. False where the kernel cannot tell (before Linux 6.11),
    /// or the process ends.
    bool has_lost_staging() const;
    Result<MemoryUse> memory_use() const { return read_memory_use(status_.get()); }

    void* owner = nullptr;  ///< the pager's own

  private:
    static constexpr std::size_t kMessagesPerRead = 32;

    Target(io::Loop& loop, TargetEvents& events) : loop_(loop), events_(events) {}
    Status open_proc();
    void watch_agent();
    void watch_uffd();
    void agent_ready();
    void agent_lost();
    void look_whether_gone();
    bool be_quiet();
    bool register_fresh(const AddressRange& seen);
    bool bring_up_to_date(AddressRange& range) const;
    bool is_registered_throughout(const AddressRange& range) const;
    bool register_mapping(AddressRange& range);
    bool look_for_unnoted(const AddressRange& range, const IntervalSet& mapped);
    void leave_unnoted(const AddressRange& range, const IntervalSet& mapped);
    void leave_mapped_parts_unnoted(const AddressRange& range);
    void note_what_is_certain_now();
    void keep_unregistered_in();
    void forget_unnoted(std::uint64_t start, std::uint64_t end);
    Result<AddressRange> candidate_at(std::uint64_t address, const AddressRange* cut_from = nullptr) const;
    std::optional<AddressRange> cut_off(const AddressRange& range, std::uint64_t beyond) const;
    bool deliver(std::span<const uffd_msg> messages);
    void set_moving(bool moves) noexcept;
    bool hear();
    bool has_heard_of_the_end_of(std::uint64_t start, std::uint64_t bytes) const;

    static inline constinit std::atomic<std::uint32_t> moves_{0};

    io::Loop& loop_;
    TargetEvents& events_;
    pid_t process_ = 0;
    Fd pidfd_, socket_, pagemap_, status_, maps_;
    Fd memory_;  ///< opened while it may be read: it can be through this afterwards
    Uffd uffd_;
    Agent agent_;
    ThreadWatch threads_;
    IntervalSet registered_, evictable_, refused_, unmovable_;
    /// What is registered with the kernel and could not be noted: something may have been announced
    /// meanwhile, so that another mapping may have come there, or the events of this one may still be on
    /// their way; or it is too small to be paged, and has been inherited. With all that was mapped when it
    /// was first seen.
    struct Unnoted {
        IntervalSet ranges, mapped;
    };
    std::vector<Unnoted> unnoted_;
    std::ptrdiff_t changes_ahead_ = 0;  ///< read and not delivered yet: what was moved or unmapped
    std::vector<uffd_msg> heard_;       ///< read by had_at_fork(), not delivered yet
    bool owes_announcement_ = false;    ///< had_at_fork() has waited in vain
    io::Watch uffd_watch_, socket_watch_, pidfd_watch_;
    bool waiting_ = false;  ///< the agent owes a reply
    bool moving_ = false;   ///< ... to a MOVE, or that is not settled
    bool gone_ = false;
    bool refresh_due_ = false;
    /// A forked child: what it has registered because its parent had, of which the parent's REMAP was not
    /// read before the FORK, has not been looked for.
    bool inherits_unseen_ = false;
    bool lost_agent_ = false;
    bool sent_away_ = false;  ///< the agent has been told to end
    io::Timer end_timer_;     ///< looks whether the address space has followed the agent
    std::chrono::milliseconds end_period_{1};
    std::uint64_t sequence_ = 0;
    io::Clock::time_point asked_at_{};
};

}  // namespace farswap::target
