// The processes of a job, from the pager's side: who is found, who gets an agent when, and what they use
// together.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "pager/budget.h"
#include "pager/pager.h"
#include "target/injector.h"
#include "target/process_tree.h"

namespace farswap {

/// One thread: the loop's.
class Members {
  public:
    Members(io::Loop& loop, Pager& pager, Budget& budget, JobStats& stats);

    Status start();
    /// Starts the program with its agent in place; runs the loop until it executes. Errors as Job::start().
    Result<pid_t> launch(const std::vector<std::string>& argv, const target::CallersState& caller);

    /// Looks at all processes: finds new ones, measures memory, has agents put in, registers memory near the
    /// cap.
    void poll();
    /// How long the next poll() has to wait at the least, by what the last one cost.
    std::chrono::nanoseconds period_min() const { return period_min_; }
    /// A fork was announced. Whether it is worth a poll() at once; else the next one will do.
    bool look_soon();
    /// Whether a process is being injected now: its stops and its end belong to the injector.
    bool is_injecting(pid_t process) const { return process == launching_ || injecting_.contains(process); }
    bool is_injecting_any() const { return !injecting_.empty(); }
    /// The launched program's end may be waited for from now on.
    void launched() { launching_ = 0; }
    bool empty() const { return tree_.members().empty() && injecting_.empty(); }
    void kill_all(int signal);
    void process_gone(Process& process, bool alive);

    /// What could not be managed, for the summary: one line a reason.
    const std::map<std::string, unsigned>& unmanaged() const { return unmanaged_; }

  private:
    void measure();
    void consider(target::Member& member);
    bool may_try(const target::Member& member) const;
    bool is_worth_an_agent(const target::Member& member) const;
    void inject(target::Member& member, Fd adopt_uffd);
    void injected(target::InjectDone done);
    void link(target::Member* member, Process* process);
    void engage();

    io::Loop& loop_;
    Pager& pager_;
    Budget& budget_;
    JobStats& stats_;
    target::ProcessTree tree_;
    target::Injector injector_;
    std::map<pid_t, bool> injecting_;  ///< true: a recognised child
    std::map<pid_t, io::Clock::time_point> refused_until_;
    std::map<std::string, unsigned> unmanaged_;
    Fd self_status_;
    std::uint64_t pager_ram_ = 0;
    std::uint64_t shared_ =
        0;  ///< bytes that the sum of RSS counts more than once, by the last Pss measurement
    std::uint64_t shared_generation_ = 0;
    std::uint64_t faults_at_pss_ = 0;
    io::Clock::time_point next_pss_{}, next_scan_{}, next_hurried_scan_{}, next_refresh_{};
    std::chrono::nanoseconds period_min_{};
    Result<target::Agent>* launch_result_ = nullptr;
    pid_t launching_ = 0;
};

}  // namespace farswap
