// A job: one program and all that it starts, under one RAM cap. The pager's face to the command line.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/loop.h"
#include "page/pool.h"
#include "pager/latencies.h"
#include "pager/miss_curve.h"
#include "pager/peek.h"
#include "pager/recorder.h"
#include "swap/swap_area.h"

namespace farswap {

/// Of the loop's thread from the start of the job on, unless the caller has less: the program's threads wait
/// for the pager, never the other way round.
inline constexpr int kPagerNice = -10;

/// What a job has done so far. Sizes in bytes, counts of pages in pages of kPageSize.
struct JobStats {
    double elapsed_s = 0;
    std::uint64_t ram_cap = 0;
    std::uint64_t ram_now =
        0;  ///< processes (Pss_Anon + Pss_Shmem, estimated between samples) + the pager's own
    std::uint64_t ram_peak = 0;
    std::uint64_t pager_ram = 0;  ///< the pager's RssAnon + RssShmem, inside ram_now
    std::uint64_t far_pages = 0;  ///< pages outside the program now
    std::uint64_t far_peak = 0;
    std::uint64_t need_peak =
        0;  ///< most of processes' RAM + far pages at one time: what the job would have used
    std::uint64_t faults = 0;          ///< events served
    std::uint64_t faults_first = 0;    ///< first touches filled with zeros
    std::uint64_t second_chances = 0;  ///< brought back before their way to the store had begun
    std::uint64_t faults_cached = 0;   ///< brought back from the swap cache
    std::uint64_t faults_stored = 0;   ///< read from a store
    std::uint64_t prefetched = 0;      ///< pages brought in along with a fault
    std::uint64_t pages_evicted = 0;
    std::uint64_t pages_too_large = 0;  ///< that came back at once, as they got no smaller (--swap none)
    std::uint64_t pages_clean =
        0;  ///< of these, pages that were on the store as they were, and not written again
    std::uint64_t processes_seen = 0, processes_managed = 0, processes_unmanaged = 0;
    std::uint64_t pagers_killed = 0;  ///< each had its place taken by another
    std::uint64_t throttled_ms = 0;   ///< time in which faults waited for room under the cap
    FaultLatencies latencies;
    SwapArea::Counters swap;
};

struct JobOptions {
    std::vector<std::string> argv;  ///< the program (looked up in PATH as execvp(3) does) and its arguments
    std::vector<pid_t> attach;      ///< or processes that run already; then `argv` is empty
    std::uint64_t ram_cap = 0;      ///< bytes, the pager's own memory included
    std::uint64_t ram_limit = ~std::uint64_t{0};  ///< bytes that the machine or its memory cgroup has
    /// How long the job waits for a store that does not answer, before it is stopped; none: for ever.
    std::optional<std::chrono::seconds> outage_max;
    bool wait_when_full = false;  ///< with all slots in use the job waits; else it is stopped
    std::uint32_t chaos = 0;  ///< pages a second that leave at random, cap or not (pager/chaos.h); 0: none
    Recording* recording =
        nullptr;  ///< the caller's, who keeps it: how the job goes is put there; null: nowhere
    MissCurve* misses = nullptr;  ///< likewise, what leaves and comes back; null: nowhere
    /// Called about every 200 ms from the loop, for the live line.
    std::function<void(const JobStats&)> on_tick;
    /// For a job that was attached to: a signal that would end us has come.
    std::function<void(int signal)> on_signal;
    /// The pager was killed, and we are the process that goes on in its place (keeper/keeper.h).
    std::function<void()> on_replaced;
};

/// How a job ended.
struct JobEnd {
    int wait_status = 0;  ///< of the program itself, as waitpid(2) gives it; valid without a failure
    Status failure;       ///< set when farswap had to stop the program: why, in one line
    JobStats stats;
    std::vector<std::string> left_behind{};  ///< what could not be undone in processes that left
};

/// Runs in the loop of its creator's thread. The pool, loop and swap area outlive it.
class Job {
  public:
    /// Starts the program stopped at exec, puts the agent in, lets it run. ENOENT/EACCES/ENOEXEC: the program
    /// cannot be executed (127/126 for a shell). EPERM: a privilege is missing, named.
    /// Or puts agents into those that run already; ESRCH, EACCES, ENOEXEC, EBUSY: one cannot be managed, and
    /// none is.
    static Result<std::unique_ptr<Job>> start(const JobOptions& options, io::Loop& loop, Pool& pool,
                                              SwapArea& area);
    ~Job();

    /// Has a member of the job and all below it (0: all) leave it: what is outside comes back into RAM, cap
    /// or not, and nothing of us is left in them.
    void detach(pid_t root);
    /// Those who have not left yet stay members.
    void stay();
    /// Whether some are leaving.
    bool is_departing() const;
    /// Whether the process is of the job now; it may have been found just for that.
    bool is_member(pid_t process);
    /// The processes whose memory is managed now, the program first if it is among them.
    std::vector<pid_t> processes() const;
    /// Pages outside of a member and all below it (0: all); nothing if it is not of the job.
    std::optional<std::uint64_t> far_pages(pid_t root) const;

    /// Nothing more goes out of a member's memory, until release_hold(), which is to follow. Where its agent
    /// is, so that it can be left alone. ESRCH: no member, or nothing of it was ever paged.
    struct Held {
        pid_t agent;                 ///< 0: none
        target::AddressRange range;  ///< the agent's own memory
    };
    Result<Held> hold(pid_t process);
    void release_hold(pid_t process);
    /// What of [start, end) of a member's memory may be outside. ESRCH: it is none.
    Result<OutsideRanges> outside(pid_t process, std::uint64_t start, std::uint64_t end) const;
    /// Reads pages of a member from where they lie; see Peek for its outcome. ESRCH: it is none.
    Status peek(pid_t process, std::unique_ptr<Peek> peek);

    /// Serves until the last process of the job has ended or left. Forwards SIGTERM, SIGHUP, SIGINT and
    /// SIGQUIT that reach farswap alone to the program, and when that has ended to all that it left; stops
    /// and continues with it (Ctrl-Z, fg).
    JobEnd run();

    /// Ends the job: its processes are killed, and run() says that it failed, and why.
    void stop(Error why);

    /// Another cap, in bytes, from now on. Where a lower one cannot hold, as too much of the job cannot be
    /// moved out, the one before comes back after a while, with a warning.
    void set_ram_cap(std::uint64_t cap);

    /// As of now.
    JobStats stats() const;

  private:
    struct State;
    explicit Job(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace farswap
