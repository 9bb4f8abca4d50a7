// The pager: serves the faults of managed processes, applies the events of their address spaces, and moves
// cold pages out while the budget asks for it. Knows no ptrace, no sockets, no RPC: targets are given to it
// by the job.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/no_allocation.h"
#include "base/result.h"
#include "base/ring_queue.h"
#include "base/worth_trying.h"
#include "pager/budget.h"
#include "pager/fault_times.h"
#include "pager/job.h"
#include "pager/miss_curve.h"
#include "pager/peek.h"
#include "pager/process.h"
#include "pager/regions.h"
#include "pager/spin_policy.h"
#include "pager/working_set.h"
#include "swap/swap_area.h"
#include "target/target.h"

namespace farswap {

/// One thread: the loop's.
class Pager : public target::TargetEvents {
  public:
    Pager(io::Loop& loop, Pool& pool, SwapArea& area, Budget& budget, JobStats& stats);
    ~Pager() override;

    /// Takes a process with an agent under management.
    Result<Process*> adopt(target::Agent agent);
    /// A forked child got its agent.
    void give_agent(Process& child, target::Agent agent);
    /// Has its agent end with `status` (it counts if nobody else is left) as soon as it may; another one may
    /// be given to it afterwards. Again if it has not ended.
    void send_agent_away(Process& process, std::uint32_t status = 0);
    /// Registers new mappings of the process; nothing is evicted from it before. ESRCH: it is gone.
    Status engage(Process& process);
    /// Whoever of the process writes to memory that a fork shares waits for room first, from when this is
    /// true. To be called again until then: it takes some ms at a time.
    bool hold_copies(Process& process);
    /// When hold_copies() begins to do something: forked children that execute another program are spared it.
    static io::Clock::time_point may_hold_from(const Process& process);
    /// Copies are free again.
    void release_copies(Process& process);
    /// Pages of which a copy on write was allowed, since the job began.
    std::uint64_t writes_allowed() const noexcept { return writes_allowed_; }
    /// Bytes that forks share, as last measured: what copies on write may add to what is used.
    void note_shared(std::uint64_t bytes) noexcept { shared_bytes_ = bytes; }
    /// With no slot left the job waits for memory to be freed, instead of being stopped.
    void wait_when_full(bool waits) noexcept { waits_when_full_ = waits; }
    /// Whether forked children may find memory wiped that their parents have (MADV_WIPEONFORK), of which
    /// note_fork_advice() is not told; costs a walk of the page tables at each fork of who has pages outside.
    /// True at first.
    void forks_may_wipe(bool may) noexcept { forks_may_wipe_ = may; }
    /// A thread is about to have forks wipe a range (MADV_WIPEONFORK) or copy it again (MADV_KEEPONFORK), and
    /// waits until this is true: what is mapped must be registered for its moves to be told, and a fork that
    /// is under way must be over. Null: of a process that is not managed, or not yet.
    bool note_fork_advice(Process* process, const target::AddressRange& range, bool wipes);
    /// The call that was noted is not made after all: what is wiped of its range is looked up again.
    static void doubt_fork_advice(Process& process, const target::AddressRange& range);
    /// Where refaults are noted, by address, and by what came before them; null: nowhere.
    void note_refaults_in(Regions* regions, MissCurve* misses) noexcept {
        regions_ = regions;
        misses_ = misses;
    }
    void install_guard(Process& process, GuardRequest request);
    /// From now on all that is outside comes back, cap or not, and nothing leaves; so it is with its forks.
    /// Nothing happens if it leaves already.
    void leave(Process& process);
    /// It does not leave after all.
    void stay(Process& process);
    /// Whether all has come back, and nothing is under way.
    bool may_release(const Process& process) const;
    /// Nothing more goes out of the process, from when nothing is on its way, until release_hold(). Holds add
    /// up.
    void hold(Process& process) { process.holds++; }
    void release_hold(Process& process);
    /// What of [start, end) may be outside. Complete, for as long as the process is held.
    OutsideRanges outside(const Process& process, std::uint64_t start, std::uint64_t end) const;
    /// Reads pages from where they lie.
    void peek(const Process& process, std::unique_ptr<Peek> peek);
    struct Leavings {
        pid_t agent;  ///< 0: there is none
        std::vector<target::AddressRange> ranges;
    };
    /// Lets go of a process that may be released: its agent ends, and what is left to be unmapped is
    /// returned. It is deleted by the next bury().
    Leavings release(Process& process);
    /// Moves pages out until the budget is content, as far as agents and frames allow now; retries faults
    /// that waited. To be called whenever something may have changed.
    void pump();
    /// Moves a run of pages out of some process, at some place, whatever the budget says: a test tool. How
    /// many pages were asked for.
    std::uint32_t evict_at_random(std::mt19937_64& random);

    struct Recognised {
        Process* child;  ///< null: none of them
        bool certain;    ///< false: it may be one of them all the same; ask again
    };
    /// Looks whether `process` is one of the forked children that are known by their userfaultfd only; then
    /// it is identified.
    Recognised recognise(pid_t process);

    /// What threads of the program wait for now, for whoever decides whether to sleep. Asked once a round.
    Awaited awaited() noexcept;
    /// Whether the agent of any process owes an answer.
    bool agents_work() const noexcept;
    const std::vector<std::unique_ptr<Process>>& processes() const noexcept { return processes_; }
    std::size_t faults_waiting() const noexcept { return waiting_.size(); }
    /// Since when nothing can be moved out of any process, and nothing is on its way out: max() while
    /// something can.
    io::Clock::time_point stuck_since() const noexcept { return stuck_since_; }
    /// Whether, at the last look, faults waited for room, or far more was in use than the cap allows, and
    /// nothing could be moved out. Not while a store or a stopped process holds it up.
    bool is_crowded() const noexcept { return crowded_; }
    /// Deletes what on_gone() marked; not from inside a callback.
    void bury();
    /// Finds forked children that ended or executed another program before they had an agent, and looks again
    /// what was wiped at forks. Now and then.
    void look_for_gone_children();
    /// Whether a child's pages wait until it is identified.
    bool awaits_a_child() const noexcept;

    /// Ends doubts about pages that have gone, and old ones, for their words to be given up. Now and then; it
    /// looks at some of them.
    void expire_doubts();

    /// Lets one waiting fault have its page although the cap is reached: nothing could be moved out for long.
    /// False: there is none that may have it.
    bool admit_one_waiting_fault();
    /// Whether, at the last look, all slots were in use.
    bool is_full() const noexcept { return full_; }

    /// Called once, for what the job must be stopped for.
    std::function<void(Error)> fatal;
    /// A child was forked that is known by its userfaultfd only: recognise() is to be asked for it soon.
    std::function<void()> child_forked;
    /// A process is gone; called before it is deleted.
    std::function<void(Process&, bool alive)> process_gone;

    // TargetEvents
    void on_fault(target::Target& target, std::uint64_t address) override;
    void on_write_fault(target::Target& target, std::uint64_t address) override;
    void on_fork(target::Target& target, Fd child) override;
    void on_remap(target::Target& target, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) override;
    void on_remove(target::Target& target, std::uint64_t start, std::uint64_t end, bool before_fork) override;
    void on_unmap(target::Target& target, std::uint64_t start, std::uint64_t end) override;
    void on_agent_reply(target::Target& target, const agent_reply& reply) override;
    void on_batch_end(target::Target& target) override;
    void on_gone(target::Target& target, bool process_alive) override;
    void on_deaf(target::Target& target, int error) override;
    void on_fresh(target::Target& target, const target::AddressRange& range, bool certain) override;

  private:
    struct WaitingFault {
        Process* process;
        std::uint64_t address;
        bool to_write;  ///< the page is there, and protected
        FaultTimes::Start start;
    };
    /// What a fault brings in besides its own page, if it is near: so many neighbours on one side.
    struct Ahead {
        std::uint32_t pages = 0;
        bool backwards = false;
        bool maps = true;      ///< else they are only read, where they are on a store
        bool in_walk = false;  ///< of a walk through memory
    };
    /// A slot's read on behalf of a waiting thread.
    struct Fetch {
        SlotFetch slot_fetch;
        Pager* pager = nullptr;
        Process* process = nullptr;  ///< null: its process is gone
        std::uint64_t address = 0;
        std::uint32_t generation = 0;
        Ahead ahead;
        FaultTimes::Start start;
        bool active = false;
    };
    enum class Served { kDone, kNoRoom, kAgain };
    static constexpr std::size_t kWaitingRoom = 1024;  // more wait where more threads do

    static Process& process_of(target::Target& target) { return *static_cast<Process*>(target.owner); }
    std::unique_ptr<Process> make_process(std::unique_ptr<target::Target> target);

    // fault.cpp
    Served serve(Process& process, std::uint64_t address);
    bool may_fill(const Process& process, std::uint64_t address);
    std::uint64_t fresh_run(Process& process, std::uint64_t address);
    Served fill_zeros(Process& process, std::uint64_t address);
    Served allow_write(Process& process, std::uint64_t address);
    Served serve_again(WaitingFault& fault);
    Served bring_from_slot(Process& process, std::uint64_t address, PageWord word);
    Served fill_from_slot(Process& process, std::uint64_t address, PageWord word, const std::byte* content,
                          Ahead ahead);
    void map_surroundings(Process& process, std::uint64_t address);
    void map_neighbours(Process& process, std::uint64_t address, Ahead ahead);
    std::uint32_t map_run(Process& process, std::uint64_t address, Ahead ahead);
    void read_ahead(Process& process, std::uint64_t address, Ahead ahead);
    static Ahead ahead_of(Process& process, std::uint64_t address, const Stream& stream, bool is_new);
    void read_strides(Process& process, const Stream& stream);
    void start_fetch(Process& process, std::uint64_t address, PageWord word, Ahead ahead);
    void fetch_ready(Fetch& fetch, const std::byte* content, int error);
    void retry_waiting();
    void arm_retry();
    void arrived(Process& process, std::uint64_t pages);

    static std::uint64_t name_of(const Process& process, std::uint64_t address) noexcept;
    void note_back(const Process& process, std::uint64_t address, MissCurve::Back how) noexcept {
        if (misses_ != nullptr) misses_->came_back(name_of(process, address), how);
    }

    // kept_slots.cpp
    void settle_back(Process& process, std::uint64_t address, PageWord word, Warmth warmth);
    std::uint32_t changed_pages(Process& process, FrameRun frames, const MovedPage* pages);
    void give_up_slots_in_time();
    std::uint32_t give_up_slots(std::uint32_t wanted, std::uint32_t looks_max);

    // full_swap.cpp
    void swap_is_full();
    void trade_places();

    // table_upkeep.cpp
    void keep_up_tables();

    // copies.cpp
    bool protect_shared(Process& process, std::uint64_t start, std::uint64_t end);
    static void shares_by_fork(Process& process);
    void hold_child(Process& parent, Process& child);
    static void copies_may_grow(Process& process);
    bool protect_but_kept(Process& process, std::uint64_t start, std::uint64_t end);

    // guard.cpp
    void start_guard(Process& process);
    void guard_installed(Process& process, int error);
    void forget_under(Process& process, target::AddressRange guard);
    GuardRequest take_guard(Process& process);
    void give_up_guards(Process& process);
    static bool awaits_guard(Process& process, std::uint64_t address);
    static std::uint64_t next_guard(const Process& process, std::uint64_t address, std::uint64_t end);

    // leave.cpp
    void bring_back(Process& process);

    // peek.cpp
    void peek_page(const Process& process, Peek& peek, std::size_t index);
    void peeked(SlotFetch& fetch, const std::byte* content, int error);
    static void peek_ended(Peek& peek);
    void cancel_peeks();
    static bool peek_staging(const Process& process, std::uint64_t address, std::byte* into);

    // events.cpp
    void give_up_fetch(Process& process, std::uint64_t address, PageWord word);
    void forget_what_is_not_owed(Process& process);
    void doubt_end(Process& process, std::uint64_t start, std::uint64_t end);
    void settle_ends(Process& process);
    void end_what_was_in_doubt(Process& process, std::uint64_t start, std::uint64_t end);
    void end_mapping(Process& process, std::uint64_t start, std::uint64_t end);
    void end_displaced(Process& process, std::uint64_t start, std::uint64_t end);
    static target::IntervalSet arrived_since(const Process& process, std::uint64_t from, std::uint64_t bytes);
    void note_arrival(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes,
                      const target::IntervalSet& newer);

    // overtaken.cpp
    void unmap_later(Process& process, std::uint64_t start, std::uint64_t end);
    std::uint64_t note_move(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    void remember(Process& process, std::uint64_t at, PageWord word, std::uint64_t move);
    void remember_unmapped(Process& process, std::uint64_t start, std::uint64_t end, std::uint64_t move);
    void remember_displaced(Process& process, std::uint64_t at, PageWord word);
    static std::vector<Process::Move> moves_after(const Process& parent, const Process& child);
    void leave_behind(Process& parent, Process& child, std::uint64_t at, PageWord word);
    void take_along(Process& parent, std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    void inherit_word(Process& child, std::uint64_t at, PageWord word);
    void forget_left_behind(Process& process);
    void forget_unmapped(Process& process, std::uint64_t start, std::uint64_t end);
    void forget_what_is_mapped_again(Process& parent);
    void remember_removal(Process& process, std::uint64_t at, PageWord word);
    void forget(std::vector<std::pair<std::uint64_t, PageWord>>& words);
    void forget_what_was_overtaken(Process& process);
    void forget_moves(Process& process);
    void inherit_overtaken(Process& parent, Process& child, const std::vector<Process::Move>& after);
    void inherit_remembered(Process& child, std::uint64_t at, PageWord word);

    /// Has the job stopped, unless something else has already.
    template <typename... Args>
    void stop_for(int code, fmt::format_string<Args...> why, Args&&... args) {
        const MayAllocate message("the job is about to end");
        if (!std::exchange(failed_, true)) fatal(Error{code, fmt::format(why, std::forward<Args>(args)...)});
    }

    // reach.cpp
    bool is_within_reach(Process& process);
    /// Whether the cap does not hold its pages up: nothing that leaves could make room for them.
    static bool comes_in_anyway(const Process& process) noexcept {
        return process.leaving || process.out_of_reach;
    }

    // wiped.cpp
    static void look_for_wiped(Process& process);
    static void move_wiped(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    void unmap_wiped(Process& process, std::uint64_t start, std::uint64_t end);
    static void inherit_wiped(const Process& parent, Process& child);
    void wipe(Process& child, const target::AddressRange& range);
    std::optional<target::ForkRanges> ask_what_is_wiped(Process& parent);
    void inherit_doubts_about_wiping(const Process& parent, Process& child,
                                     const std::optional<target::ForkRanges>& told);
    static void doubt_that_it_is_whole(Process& child, const target::AddressRange& range);
    bool learn_what_was_wiped(Process& process);
    void end_waiting_for_wiped(Process& process);
    void look_again_for_wiped(Process& process);
    bool waits_for_wiped(Process& process, std::uint64_t address);

    void stop_if_agents(target::Target& target, std::uint64_t start, std::uint64_t end);
    void stop_as_too_high(const target::Target& target);
    void stop_as_mapped_over(const target::Target& target);
    Status register_mappings(Process& process, std::uint64_t unregistered_max);
    void displace(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
    void step_aside(Process& process, const target::AddressRange& range);
    void let_go(Process& process, std::uint64_t address, PageWord word);
    void inherit_pages(Process& parent, Process& child, const std::optional<target::ForkRanges>& told);
    void mark(Process& child);
    void drop_all(Process& process);

    // reclaim.cpp
    bool is_stopped(const Process& process) const;
    std::uint64_t largest_rss() const;
    bool step_all(std::uint64_t rss_min);
    bool step(Process& process);
    bool move_out(Process& process, std::uint32_t pages_max = kBatchPages);
    std::uint32_t borrow_frames(Process& process, std::uint32_t frames_max);
    void return_frames(Process& process);
    void return_frames_of_the_stopped();
    bool is_held_up() const;
    std::uint32_t choose_victims(Process& process, agent_request& request, std::uint32_t wanted);
    void moved(Process& process, const agent_reply& reply);
    void note_moved(Process& process, const agent_range& range, const agent_result& result);
    void note_busy(Process& process, std::uint64_t start, std::uint64_t end);
    void settle(Process& process);
    void note_packed();
    bool copy_moved(Process& process);
    std::uint32_t copy_into(Process& process, FrameRun frames, const MovedPage* pages);
    bool put_back(Process& process, FrameIndex frame, std::uint64_t address);
    std::uint32_t add_pages(Process& process, FrameRun frames, const MovedPage* pages);
    void zap(Process& process);
    bool unshare(Process& process);
    bool can_read_list(Process& process, std::uint64_t page, bool of_mutex, bool& all_told);
    bool keep_thread_pages(Process& process);

    io::Loop& loop_;
    Pool& pool_;
    SwapArea& area_;
    Budget& budget_;
    JobStats& stats_;
    FaultCost cost_;
    WorkingSet working_set_;
    FaultTimes times_{stats_.latencies, cost_};
    Regions* regions_ = nullptr;
    MissCurve* misses_ = nullptr;
    std::unique_ptr<TableMemory> tables_;  ///< of all processes; there since the first one
    std::vector<std::unique_ptr<Process>> processes_;
    RingQueue<WaitingFault> waiting_{kWaitingRoom};
    std::uint64_t faults_before_ = 0;  ///< at the last awaited()
    bool answered_ = false;            ///< somebody waited at the last awaited()
    std::vector<std::unique_ptr<Fetch>> fetches_;
    std::vector<Fetch*> free_fetches_;
    std::vector<std::unique_ptr<Peek>> peeks_;
    io::Timer retry_timer_;
    io::Clock::time_point stuck_since_ = io::Clock::time_point::max();
    /// What it was before the last request was made; taken up again when that has moved nothing.
    io::Clock::time_point stuck_before_ = io::Clock::time_point::max();
    std::uint64_t writes_allowed_ = 0;
    std::uint64_t shared_bytes_ = 0;  ///< as last measured, and by the forks since
    std::uint64_t moves_ = 0;         ///< noted, of all processes
    bool forks_may_wipe_ = true;
    bool forks_wipe_ = false;        ///< note_fork_advice() was told so
    bool held_by_threads_ = false;   ///< at the last look: one had not told yet where its robust list is
    std::uint64_t packed_seen_ = 0;  ///< bytes of compressed pages in memory that the budget knows of
    bool short_of_frames_ = false;   ///< at the last look: the store must take or reserve some first
    bool crowded_ = false;
    bool children_asked_ = false;  ///< what had_at_fork() has heard ahead is to be delivered
    std::uint64_t cookies_ = 0;
    WorthTrying comparing_;       ///< pages that leave with their slots
    std::size_t slots_hand_ = 0;  ///< the process that give_up_slots() looks at next
    bool full_ = false;           ///< no page can leave: all slots are in use
    io::Clock::time_point full_said_next_{};
    io::Clock::time_point stores_asked_next_{};  ///< whether they have room again
    bool waits_when_full_ = false;
    bool failed_ = false;
};

}  // namespace farswap
