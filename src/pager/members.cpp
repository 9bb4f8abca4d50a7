#include "pager/members.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/cpu_time.h"
#include "base/log.h"
#include "base/no_allocation.h"

namespace farswap {
namespace {

// A process that lives shorter is not worth the millisecond that an agent costs, unless memory is short.
constexpr std::chrono::milliseconds kAgeForAgent{50};
constexpr std::chrono::milliseconds kAgeForAgentMin{3};
constexpr std::uint64_t kSharedByAll = 1 << 20;  // the C library's and the like
constexpr std::chrono::milliseconds kClose{20};
constexpr int kPollDutyCycle = 10;  // all that a look costs, for jobs of hundreds of processes
constexpr std::chrono::milliseconds kRefreshPeriod{100};
constexpr std::chrono::milliseconds kRefusedFor{1000};
constexpr std::uint64_t kUnexpectedGrowth = 256u << 10;

}  // namespace

Members::Members(io::Loop& loop, Pager& pager, Budget& budget, JobStats& stats)
    : loop_(loop),
      pager_(pager),
      budget_(budget),
      stats_(stats),
      shared_(tree_),
      injector_(loop,
                [this](target::Injector::Done done) {
                    if (auto* ejection = std::get_if<target::EjectDone>(&done)) return ejected(*ejection);
                    injected(std::get<target::InjectDone>(std::move(done)));
                }),
      gate_(loop, [this](const target::AdviceGate::Call& call) {
          held_calls_.push_back(call);
          let_calls_go();
      }) {
    calls_timer_.owner = this;
    calls_timer_.fire = [](io::Timer& timer) {
        const MayAllocate call("calls of the program's wait at the gate, and no page");
        static_cast<Members*>(timer.owner)->let_calls_go();
    };
}

Members::~Members() {
    loop_.cancel(calls_timer_);
}

Status Members::start() {
    if (!own_memory_.open(getpid())) return fail_errno(errno, "cannot read /proc/self/status");
    loadavg_.reset(open("/proc/loadavg", O_RDONLY | O_CLOEXEC));
    tree_.leave_out_present();
    return injector_.start();
}

void Members::go_on_as_heir() {
    tree_.stay_with_members();
    if (!own_memory_.open(getpid())) log::warning("cannot read /proc/self/status");
}

bool Members::is_alive(pid_t process) const {
    const target::Member* member = tree_.find(process);
    return member != nullptr && member->alive;
}

Result<pid_t> Members::launch(const std::vector<std::string>& argv, const target::CallersState& caller) {
    auto spawned = target::spawn_stopped(argv, caller);
    if (!spawned) return std::unexpected(spawned.error());
    Result<target::Agent> result = fail(EINPROGRESS, "");
    launch_result_ = &result;
    launching_ = spawned->process;
    injecting_[launching_] = false;
    if (spawned->gate) {
        gate_.listen(std::move(spawned->gate));
        pager_.forks_may_wipe(false);
    }
    injector_.submit(target::InjectJob{.process = launching_,
                                       .go = std::move(spawned->go),
                                       .adopt_uffd = Fd(),
                                       .staging_pages = kBatchPages,
                                       .behind_gate = gate_.is_there()});
    while (!result && result.error().code == EINPROGRESS) loop_.run_once(std::chrono::nanoseconds::max());
    launch_result_ = nullptr;
    if (!result) {
        log::debug("launch failed: {}", result.error().message);
        kill(launching_, SIGKILL);
        waitpid(launching_, nullptr, __WALL);
        if (result.error().code != ECHILD) return std::unexpected(result.error());
        const int code = target::exec_error(spawned->failed);
        if (code == ENOENT)
            return fail(ENOENT, "{}: no such program (not in PATH, or its interpreter is missing)", argv[0]);
        return fail_errno(code == 0 ? ECHILD : code, "{}: cannot be executed", argv[0]);
    }
    tree_.scan();
    auto process = pager_.adopt(std::move(*result));
    if (!process) {
        // It may have run and ended already, or be about to: then there is nothing to manage, and its status
        // is to be fetched.
        if (process.error().code == ESRCH || target::living_task(launching_) == 0) return launching_;
        kill(launching_, SIGKILL);
        waitpid(launching_, nullptr, __WALL);
        return std::unexpected(process.error());
    }
    link(tree_.find(launching_), *process);
    return launching_;
}

void Members::link(target::Member* member, Process* process) {
    if (member == nullptr) return;
    member->owner = process;
    process->rss = member->use.rss_anon;
}

void Members::injected(target::InjectDone done) {
    // Not before its process may be registered, which is after this call.
    if (!held_calls_.empty()) loop_.arm(calls_timer_, io::Clock::now());
    const auto entry = injecting_.find(done.process);
    const bool is_child = entry != injecting_.end() && entry->second;
    injecting_.erase(done.process);
    if (launch_result_ != nullptr && done.process == launching_) {
        *launch_result_ = std::move(done.agent);
        return;
    }
    target::Member* member = tree_.find(done.process);
    for (const auto& process : pager_.processes()) {
        if (!process->gone && process->target->process() == done.process) process->injecting = false;
    }
    if (!done.agent) {
        log::debug("process {} has no agent: {}", done.process, done.agent.error().message);
        if (!refusal_) refusal_.emplace(done.process, done.agent.error());
        if (done.agent.error().code == ESTALE) return;  // a new program: found by the next look
        refused_until_[done.process] = io::Clock::now() + kRefusedFor;
        // Whoever is ending cannot be traced: no loss.
        if (!member || target::is_ending(done.process)) return;
        unmanaged_[done.agent.error().message]++;
        without_agent_[done.process] = done.agent.error().message;
        stats_.processes_unmanaged = without_agent_.size();
        if (done.agent.error().code == EACCES && !attaching_ && !std::exchange(told_of_lacking_right_, true))
            log::warning("process {} stays in RAM, as may others: {}", done.process,
                         done.agent.error().message);
        return;
    }
    without_agent_.erase(done.process);
    stats_.processes_unmanaged = without_agent_.size();
    if (is_child) {
        for (const auto& process : pager_.processes()) {
            if (process->gone || process->target->process() != done.process) continue;
            pager_.give_agent(*process, std::move(*done.agent));
            if (budget_.used() >= budget_.engage_at()) (void)pager_.engage(*process);
            return;
        }
        return;
    }
    log::debug("process {} has an agent", done.process);
    auto process = pager_.adopt(std::move(*done.agent));
    if (!process) {
        log::debug("process {}: {}", done.process, process.error().message);
        return;
    }
    // It may have been forked, or have forked, before anybody could have told us.
    (*process)->forked = true;
    link(member, *process);
    if (budget_.used() >= budget_.engage_at()) (void)pager_.engage(**process);
}

std::string Members::largest_that_stays() const {
    std::uint64_t most = 0;
    std::string text;
    for (const auto& member : tree_.members()) {
        if (!member->alive || member->borrows_memory || member->use.rss_anon <= most) continue;
        const auto* process = static_cast<const Process*>(member->owner);
        const auto refused = without_agent_.find(member->process);
        const bool is_closed = process != nullptr && process->out_of_reach;
        if (refused == without_agent_.end() && !is_closed) continue;
        most = member->use.rss_anon;
        text = fmt::format(", {} MiB of it that of process {} ({})", most >> 20, member->process,
                           is_closed ? "which may not be read any more" : refused->second);
    }
    return text;
}

void Members::process_gone(Process& process, bool alive) {
    for (const auto& member : tree_.members()) {
        if (member->owner != &process) continue;
        member->owner = nullptr;
        if (alive) member->seen = io::Clock::now();  // it executed another program: a new one to us
    }
}

void Members::poll() {
    const auto began = cpu_time();
    not_recurring_ = {};
    const auto look =
        policy_.look(io::Clock::now(), target::read_newest_task(loadavg_.get()), is_unsettled());
    if (look.at_tree) {
        tree_.scan();
        policy_.walked(io::Clock::now(), cpu_time() - began, budget_.time_to_fill() < kClose);
        stats_.processes_seen = tree_.processes_seen();
        pager_.look_for_gone_children();
    }
    if (tree_.measure(look.at_everything)) policy_.someone_ended();
    for (const auto& member : tree_.members()) {
        if (member->alive && member->use.has_memory && member->owner == nullptr && !member->borrows_memory)
            consider(*member);
    }
    look_for_orphans();
    pager_.expire_doubts();
    count_use(look.at_everything);
    hold_copies();
    engage();
    step_departures();
    let_calls_go();
    policy_.found(tree_.rss(), stats_.faults);
    period_min_ = std::max<std::chrono::nanoseconds>(kPollDutyCycle * (cpu_time() - began - not_recurring_),
                                                     policy_.rest());
}

/// Whether somebody is served of whom only the tree tells what becomes of it.
bool Members::is_unsettled() const {
    return std::ranges::any_of(pager_.processes(), [](const auto& process) {
        return !process->gone && !process->target->has_agent();
    });
}

bool Members::look_soon() {
    if (budget_.used() < budget_.cap() / 4 && !pager_.awaits_a_child()) return false;
    policy_.fork_announced();
    return true;
}

void Members::count_use(bool everything) {
    const std::uint64_t rss = tree_.rss();
    forkers_.clear();
    for (const auto& child : pager_.processes()) {
        if (!child->gone && child->target->process() == 0) forkers_.push_back(child->forked_by);
    }
    shared_.update(rss > budget_.cap() / 4, pager_.writes_allowed(), forkers_);
    pager_.note_shared(shared_.bytes());
    not_recurring_ += shared_.cost();
    const std::uint64_t sum = rss - std::min(rss, shared_.bytes());
    if (auto use = own_memory_.read(everything)) pager_ram_ = use->rss_anon + use->rss_shmem;
    budget_.measured(sum + pager_ram_);

    std::uint64_t far = 0;
    for (const auto& process : pager_.processes()) far += process->far_pages;
    stats_.pager_ram = pager_ram_;
    stats_.ram_now = sum + pager_ram_;
    stats_.ram_peak = std::max(stats_.ram_peak, stats_.ram_now);
    stats_.far_pages = far;
    stats_.far_peak = std::max(stats_.far_peak, far);
    stats_.need_peak = std::max(stats_.need_peak, sum + far * kPageSize);
}

/// Whether no injection of it is under way, nor one refused it a moment ago, nor does it want to be alone.
bool Members::may_try(const target::Member& member) const {
    const auto refused = refused_until_.find(member.process);
    const bool wants_none = std::ranges::any_of(held_calls_, [&](const auto& call) {
        return call.wants_no_agent() && call.process == member.process;
    });
    return !wants_none && !is_confining_itself(member.process) && !injecting_.contains(member.process) &&
           (refused == refused_until_.end() || io::Clock::now() >= refused->second);
}

void Members::consider(target::Member& member) {
    if (injecting_.contains(member.process)) return;
    const Pager::Recognised recognised = pager_.recognise(member.process);
    if (recognised.child != nullptr) link(&member, recognised.child);
    // A forked child's memory is registered already: as a new process it could never be moved out.
    if (recognised.certain && member.owner == nullptr && is_worth_an_agent(member)) give_agent(member);
}

/// Who has begun to fill memory in one system call cannot be stopped before its end, so an agent must be
/// there before that could have filled the rest of the cap.
bool Members::is_worth_an_agent(const target::Member& member) const {
    const auto age = std::clamp<io::Clock::duration>(budget_.time_to_fill(), kAgeForAgentMin, kAgeForAgent);
    return io::Clock::now() - member.seen >= age;
}

/// Has an agent put in, unless that is under way or was refused a moment ago.
void Members::give_agent(target::Member& member) {
    if (member.leaves || !may_try(member)) return;
    auto* process = static_cast<Process*>(member.owner);
    if (process == nullptr) {
        inject(member, Fd());
        return;
    }
    // One that was lost in the middle of a MOVE cannot be replaced: what it had moved is nowhere to be found.
    if (process->target->is_moving() || std::exchange(process->injecting, true)) return;
    inject(member, Fd(fcntl(process->target->uffd().fd(), F_DUPFD_CLOEXEC, 0)));
}

void Members::inject(target::Member& member, Fd adopt_uffd) {
    log::debug("process {} is to get an agent{}", member.process, adopt_uffd ? ", a forked child" : "");
    injecting_[member.process] = static_cast<bool>(adopt_uffd);
    injector_.submit(target::InjectJob{.process = member.process,
                                       .go = Fd(),
                                       .adopt_uffd = std::move(adopt_uffd),
                                       .staging_pages = kBatchPages,
                                       .behind_gate = gate_.is_there()});
}

void Members::engage() {
    const bool near_the_cap = budget_.used() >= budget_.engage_at();
    const auto now = io::Clock::now();
    const bool periodic = now >= next_refresh_;
    for (const auto& member : tree_.members()) {
        auto* process = static_cast<Process*>(member->owner);
        if (process == nullptr || process->gone || !member->alive || member->leaves) continue;
        const std::uint64_t rss = member->use.rss_anon;
        const bool grew = rss > process->rss + kUnexpectedGrowth;
        process->rss = rss;
        if (!process->target->has_agent() && is_worth_an_agent(*member)) give_agent(*member);
        if (!near_the_cap) continue;
        // Without an agent, too: what is registered waits for room under the cap. But not what the injector
        // is mapping now.
        const auto held_back = injector_.hold_back(member->process);
        if (!held_back) continue;
        if (periodic) process->target->forgive_refusals();
        const bool first = process->target->registered().empty();
        if (!grew && !periodic && !first && !process->target->refresh_due()) continue;
        const auto began = cpu_time();
        (void)pager_.engage(*process);
        if (grew || first) not_recurring_ += cpu_time() - began;
    }
    if (periodic) next_refresh_ = now + kRefreshPeriod;
}

/// Memory that forks share may become as much again for each that shares it. Where the cap could not hold
/// that, each copy has to wait for room.
void Members::hold_copies() {
    const std::uint64_t at_worst = budget_.used() + shared_.bytes();
    const bool hold = at_worst > budget_.cap() && shared_.bytes() > 0;
    const bool release = shared_.bytes() < kSharedByAll || at_worst <= budget_.cap() / 4 * 3;
    due_ = io::Clock::time_point::max();
    if (!hold && !release) return;
    const auto began = cpu_time();
    const auto now = io::Clock::now();
    for (const auto& member : tree_.members()) {
        auto* process = static_cast<Process*>(member->owner);
        if (process == nullptr || !process->forked || !member->alive) continue;
        if (!hold)
            pager_.release_copies(*process);
        else if (!pager_.hold_copies(*process))
            break;  // more at the next look: faults wait meanwhile
        const auto from = Pager::may_hold_from(*process);
        if (hold && from > now) due_ = std::min(due_, from);
    }
    not_recurring_ += cpu_time() - began;
}

void Members::signal_all(int signal, pid_t but_group) {
    tree_.scan();
    for (const auto& member : tree_.members()) {
        if (!member->alive || member->leaves) continue;
        if (but_group == 0 || getpgid(member->process) != but_group) kill(member->process, signal);
    }
}

}  // namespace farswap
