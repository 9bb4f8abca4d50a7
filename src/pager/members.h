// The processes of a job, from the pager's side: who is found, who gets an agent when, and what they use
// together.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pager/budget.h"
#include "pager/pager.h"
#include "pager/shared_memory.h"
#include "pager/watch_policy.h"
#include "target/advice_gate.h"
#include "target/injector.h"
#include "target/process_tree.h"

namespace farswap {

/// One thread: the loop's.
class Members {
  public:
    Members(io::Loop& loop, Pager& pager, Budget& budget, JobStats& stats);
    ~Members();

    Status start();
    /// Starts the program with its agent in place; runs the loop until it executes. Errors as Job::start().
    Result<pid_t> launch(const std::vector<std::string>& argv, const target::CallersState& caller);

    /// Puts agents into processes that run already; runs the loop until they are there. On failure none is
    /// managed, and the error is that of the first that was refused.
    Status attach(const std::vector<pid_t>& processes);
    /// Has members and all below them leave the job: they get back what is outside, and are let go of. All:
    /// an empty list.
    void detach(const std::vector<pid_t>& roots);
    /// Those who have not left yet do not.
    void stay();
    /// Whether some are leaving.
    bool is_departing() const;
    /// Pages outside of a member and all below it; nothing if it is none, or has left. All: 0.
    std::optional<std::uint64_t> far_pages(pid_t root) const;
    /// The member's memory, found if it was not known yet; null: it is no member, or has none of ours.
    Process* process_of(pid_t process);
    /// What could not be undone in those who left: one line a reason.
    const std::map<std::string, unsigned>& left_behind() const { return left_behind_; }

    /// Looks at all processes: finds new ones, measures memory, has agents put in, registers memory near the
    /// cap.
    void poll();
    /// How long the next poll() has to wait at the least, by what the last one cost.
    std::chrono::nanoseconds period_min() const { return period_min_; }
    /// When a poll() has to come, whatever it costs: what a fork shares is to be held.
    io::Clock::time_point due() const { return due_; }
    /// A fork was announced. Whether it is worth a poll() at once; else the next one will do.
    bool look_soon();
    /// Whether a process is being injected now: its stops and its end belong to the injector.
    bool is_injecting(pid_t process) const {
        return process == launching_ || injecting_.contains(process) || ejecting_.contains(process);
    }
    bool is_injecting_any() const { return !injecting_.empty(); }
    /// The launched program's end may be waited for from now on.
    void launched() { launching_ = 0; }
    bool empty() const;
    /// The program has ended: whether others are left is looked at as soon as poll() is called again.
    void program_ended() { policy_.program_ended(); }
    /// Whether all that are known have ended, so that the next look at the tree may find the job over.
    bool all_have_ended() const {
        return std::ranges::none_of(tree_.members(), [](const auto& member) { return member->alive; }) &&
               !tree_.members().empty();
    }
    /// All but those of one process group, which have had the signal already; 0: all.
    void signal_all(int signal, pid_t but_group = 0);
    void process_gone(Process& process, bool alive);
    bool is_alive(pid_t process) const;
    /// Another process has become the pager, and members are no children of it.
    void go_on_as_heir();

    /// What could not be managed, for the summary: one line a reason.
    const std::map<std::string, unsigned>& unmanaged() const { return unmanaged_; }
    /// Of the processes that nothing can leave, the one with most memory: ", 95 MiB of it that of process 7
    /// (WHY)". Empty if there is none.
    std::string largest_that_stays() const;

  private:
    bool is_unsettled() const;
    void count_use(bool everything);
    void consider(target::Member& member);
    bool may_try(const target::Member& member) const;
    bool is_worth_an_agent(const target::Member& member) const;
    void give_agent(target::Member& member);
    void inject(target::Member& member, Fd adopt_uffd);
    void injected(target::InjectDone done);
    void ejected(const target::EjectDone& done);
    bool is_below(const target::Member& member, pid_t root) const;
    void step_departures();
    void let_go(target::Member& member, Process& process);
    void let_go_of_the_unknown();
    void eject_again();
    void look_for_orphans();
    void link(target::Member* member, Process* process);
    void engage();
    void hold_copies();
    void let_calls_go();
    bool deal_with(const target::AdviceGate::Call& call);
    bool note_fork_advice(const target::AdviceGate::Call& call);
    static target::AddressRange pages_of(const target::AdviceGate::Call& call);
    bool is_far_from_the_cap(const target::AddressRange& range);
    target::Member* bearer_of(pid_t process);
    bool must_wait(const target::AdviceGate::Call& call, target::Member& member);
    bool may_be_alone(const target::AdviceGate::Call& call);
    bool has_no_agent(const target::AdviceGate::Call& call);
    bool is_confining_itself(pid_t process) const;
    static bool is_overdue(const target::AdviceGate::Call& call);

    io::Loop& loop_;
    Pager& pager_;
    Budget& budget_;
    JobStats& stats_;
    target::ProcessTree tree_;
    SharedMemory shared_;
    std::vector<pid_t> forkers_;  ///< scratch of count_use()
    target::Injector injector_;
    target::AdviceGate gate_;
    std::vector<target::AdviceGate::Call> held_calls_;  ///< until their process has been registered
    /// A thread that was let go on to put all of its process behind a filter, and may not have done it yet.
    struct Confining {
        pid_t process = 0, thread = 0;
        std::uint64_t filters = 0;  ///< that it had before
        io::Clock::time_point until{};
    };
    std::vector<Confining> confining_;
    io::Timer calls_timer_;
    std::uint64_t promised_ = 0;  ///< bytes that calls let go may populate and the budget has not seen
    io::Clock::time_point promised_until_{};
    std::map<pid_t, bool> injecting_;  ///< true: a recognised child
    struct Ejection {
        target::EjectJob job;
        int refusals = 0;
        bool is_due = false;  ///< to be tried again
    };
    std::map<pid_t, Ejection> ejecting_;
    std::map<std::string, unsigned> left_behind_;
    std::optional<std::pair<pid_t, Error>> refusal_;  ///< the first since attach() began
    std::map<pid_t, io::Clock::time_point> refused_until_;
    std::map<std::string, unsigned> unmanaged_;
    std::map<pid_t, std::string>
        without_agent_;       ///< those that were refused one and have got none since; why
    bool attaching_ = false;  ///< a refusal ends it all, and is told by whoever called
    bool told_of_lacking_right_ = false;
    target::MemoryGauge own_memory_;
    Fd loadavg_;
    WatchPolicy policy_;
    std::uint64_t pager_ram_ = 0;
    io::Clock::time_point next_orphans_{}, next_refresh_{};
    /// Of the last look's cost, what the next one will not have: registering, and Pss, which has a duty cycle
    /// of its own.
    std::chrono::nanoseconds not_recurring_{};
    std::chrono::nanoseconds period_min_{};
    io::Clock::time_point due_ = io::Clock::time_point::max();
    Result<target::Agent>* launch_result_ = nullptr;
    pid_t launching_ = 0;
};

}  // namespace farswap
