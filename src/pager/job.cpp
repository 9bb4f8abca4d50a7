#include "pager/job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/core.h"
#include "base/log.h"
#include "base/no_allocation.h"
#include "keeper/keeper.h"
#include "pager/budget.h"
#include "pager/chaos.h"
#include "pager/core_policy.h"
#include "pager/members.h"
#include "pager/outage.h"
#include "pager/pager.h"
#include "pager/pool_warmup.h"

namespace farswap {
namespace {

constexpr std::chrono::milliseconds kTickPeriod{200};
constexpr std::chrono::microseconds kBirth{300};  // from a FORK event to the child's place in /proc
constexpr std::chrono::milliseconds kStuckBeforeAdmitting{50};
constexpr std::chrono::milliseconds kStuckBeforeAdmittingMore{500};
// Longer than a page stays doubtful after an madvise(2).
constexpr std::chrono::seconds kCrowdedBeforeGivingUp{15};

/// Those that tell of a fault of our own, or of a stop, are not the program's.
bool is_forwarded(int signal) {
    switch (signal) {
        case SIGKILL:
        case SIGSTOP:
        case SIGSEGV:
        case SIGBUS:
        case SIGFPE:
        case SIGILL:
        case SIGTRAP:
        case SIGABRT:
        case SIGSYS:
        case SIGCHLD:
        case SIGPIPE:
        case SIGCONT:
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
            return false;
        default:
            return true;
    }
}

/// For a pager without a program of its own.
bool is_ending(int signal) {
    return signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
}

MissCurve::Conditions conditions_of(const JobStats& stats) {
    const std::uint64_t inside = stats.ram_now - std::min(stats.ram_now, stats.pager_ram);
    return {.cap = stats.ram_cap, .inside = inside, .needed = inside + stats.far_pages * kPageSize};
}

}  // namespace

struct Job::State {
    State(const JobOptions& job_options, io::Loop& job_loop, Pool& pool, SwapArea& swap_area)
        : options(job_options),
          loop(job_loop),
          area(swap_area),
          budget(options.ram_cap, options.ram_limit),
          warmup(loop, pool, budget),
          pager(loop, pool, area, budget, stats),
          members(loop, pager, budget, stats),
          outages(options.outage_max) {}

    bool is_attached() const { return !options.attach.empty(); }
    Status start();
    Status take_signals();
    void signal_came();
    void poll_and_rearm();
    void look_at_children();
    void give_up_on_a_lost_status();
    bool stops_us_too(int signal) const;
    void program_changed(const siginfo_t& info);
    void admit_the_stuck();
    void set_ram_cap(std::uint64_t cap);
    void give_up_if_crowded(std::chrono::nanoseconds since_last_look);
    void stop_for(Error why);
    void tick();
    void wait();
    bool has_program() const;
    void end_what_is_left(int signal, bool from_terminal);
    void go_on_as_heir();

    JobOptions options;
    io::Loop& loop;
    SwapArea& area;
    JobStats stats;
    Budget budget;
    PoolWarmup warmup;
    Pager pager;
    std::optional<Chaos> chaos;
    std::optional<Recorder> recorder;
    Members members;
    OutageWatch outages;
    SpinPolicy spinning;
    CorePolicy core_policy;
    Core core;  ///< of the loop's thread
    io::Clock::time_point last_tick = io::Clock::now();

    pid_t program = 0;
    bool program_ended = false;
    int wait_status = 0;
    std::uint32_t births = keeper::births();
    bool misses_keeper = false;
    Status failure;
    target::CallersState caller;
    Fd signals;
    io::Watch signal_watch;
    io::Timer poll_timer, tick_timer;
    io::Clock::time_point began = io::Clock::now();
    io::Clock::time_point last_look = began;
    std::chrono::nanoseconds crowded_for{};
    std::uint64_t cap_that_held = 0;  ///< until a lower one has been kept; 0: there is none
    io::Clock::time_point throttled_since = io::Clock::time_point::max();
};

Status Job::State::take_signals() {
    sigset_t ours;
    sigemptyset(&ours);
    for (int signal : {SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE}) sigaddset(&ours, signal);
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        if (is_forwarded(signal)) sigaddset(&ours, signal);
    }
    sigprocmask(SIG_BLOCK, &ours, &caller.signal_mask);
    // Where it is ignored, the kernel throws the exit statuses of children away.
    struct sigaction child {};
    sigaction(SIGCHLD, nullptr, &child);
    caller.ignores_sigchld = child.sa_handler == SIG_IGN;
    if (caller.ignores_sigchld) ::signal(SIGCHLD, SIG_DFL);
    signals.reset(signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals) return fail_errno(errno, "cannot make a signalfd");
    signal_watch = {
        .fd = signals.get(),
        .ready = [](io::Watch& watch, std::uint32_t) { static_cast<State*>(watch.owner)->signal_came(); },
        .owner = this};
    loop.add(signal_watch);
    return {};
}

Status Job::State::start() {
    if (!is_attached()) prctl(PR_SET_CHILD_SUBREAPER, 1);
    caller.nice = getpriority(PRIO_PROCESS, 0);
    setpriority(PRIO_PROCESS, 0, std::min(caller.nice, kPagerNice));
    // Each process of the job takes some descriptors, and one that cannot be followed is the end of the job.
    if (getrlimit(RLIMIT_NOFILE, &caller.descriptors) == 0) {
        const rlimit most{caller.descriptors.rlim_max, caller.descriptors.rlim_max};
        setrlimit(RLIMIT_NOFILE, &most);
    }
    pager.fatal = [this](Error why) { stop_for(std::move(why)); };
    pager.child_forked = [this] {
        const auto soon = io::Clock::now() + kBirth;
        if (members.look_soon() && poll_timer.armed() && poll_timer.when > soon) loop.arm(poll_timer, soon);
    };
    pager.process_gone = [this](Process& process, bool alive) { members.process_gone(process, alive); };
    if (auto ready = take_signals(); !ready) return ready;
    if (auto ready = members.start(); !ready) return ready;
    if (is_attached()) {
        program_ended = true;  // there is none whose end would be ours
        if (auto attached = members.attach(options.attach); !attached) return attached;
    } else {
        auto launched = members.launch(options.argv, caller);
        if (!launched) return std::unexpected(launched.error());
        program = *launched;
        members.launched();
        look_at_children();  // its SIGCHLD may have come before anybody knew its number
    }
    for (io::Timer* timer : {&poll_timer, &tick_timer}) timer->owner = this;
    poll_timer.fire = [](io::Timer& timer) { static_cast<State*>(timer.owner)->poll_and_rearm(); };
    tick_timer.fire = [](io::Timer& timer) { static_cast<State*>(timer.owner)->tick(); };
    loop.arm(poll_timer, io::Clock::now());
    loop.arm(tick_timer, io::Clock::now() + kTickPeriod);
    pager.wait_when_full(options.wait_when_full);
    if (options.recording != nullptr) recorder.emplace(*options.recording);
    pager.note_refaults_in(options.recording != nullptr ? &options.recording->regions : nullptr,
                           options.misses);
    if (options.chaos > 0) {
        budget.be_chaotic();
        chaos.emplace(loop, pager, options.chaos).start();
    }
    return {};
}

void Job::State::signal_came() {
    signalfd_siginfo info;
    while (read(signals.get(), &info, sizeof info) == sizeof info) {
        const auto signal = static_cast<int>(info.ssi_signo);
        if (signal == SIGCHLD) look_at_children();
        if (is_attached()) {
            if (is_ending(signal) && options.on_signal) options.on_signal(signal);
            continue;
        }
        // What the terminal sends reaches the program too, as a member of the same process group; stopping is
        // decided by what the program does.
        const bool from_terminal = info.ssi_code > 0 && (signal == SIGINT || signal == SIGQUIT ||
                                                         signal == SIGHUP || signal == SIGWINCH);
        if (!is_forwarded(signal)) continue;
        if (has_program()) {
            if (!from_terminal) kill(program, signal);
        } else if (is_ending(signal)) {
            end_what_is_left(signal, from_terminal);
        }
    }
}

/// Whoever outlives the program cannot be told by its caller but through us.
void Job::State::end_what_is_left(int signal, bool from_terminal) {
    const MayAllocate end("the job is to end");
    members.signal_all(signal, from_terminal ? getpgrp() : 0);
}

void Job::State::look_at_children() {
    const MayAllocate look("who has ended is read from /proc, however many there are");
    static thread_local std::vector<pid_t> children;
    children.clear();
    target::append_children(getpid(), children);
    bool any_ended = false;
    for (pid_t child : children) {
        // While it is traced, its stops are the injector's, and a wait here would take them.
        if (members.is_injecting(child)) continue;
        siginfo_t info{};
        const int changes = WEXITED | WNOHANG | (child == program ? WSTOPPED | WCONTINUED : 0);
        while (waitid(P_PID, static_cast<id_t>(child), &info, changes) == 0 && info.si_pid == child) {
            if (child == program) program_changed(info);
            const bool ended =
                info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
            any_ended |= ended;
            if (ended) break;
            info = {};
        }
    }
    // Far from the cap nobody looks for a quarter of a second, in which a caller may be waiting.
    if (any_ended && program_ended) {
        members.program_ended();
        loop.arm(poll_timer, io::Clock::now());
    }
    give_up_on_a_lost_status();
}

/// Seen once: the program was gone, its status with it, and the job waited for ever.
void Job::State::give_up_on_a_lost_status() {
    if (program <= 0 || program_ended || members.is_injecting(program)) return;
    siginfo_t info{};
    const int result = waitid(P_PID, static_cast<id_t>(program), &info, WEXITED | WNOHANG | WNOWAIT);
    if (result == 0 || errno != ECHILD) return;
    // It was our predecessor's child, which is dealt with after this round.
    if (keeper::births() != births) return;
    program_ended = true;
    stop_for(Error{ECHILD, fmt::format("process {} has ended, and its exit status went elsewhere", program)});
}

/// A terminal's stop (Ctrl-Z) is one of the whole job, which the shell continues. SIGSTOP was meant for the
/// program alone (cpulimit(1), kill(1)) or has reached us, too; who sent it continues whom it stopped, and a
/// pager that had stopped itself would leave the program waiting for its pages.
bool Job::State::stops_us_too(int signal) const {
    return signal != SIGSTOP && getpgid(program) == getpgrp();
}

void Job::State::program_changed(const siginfo_t& info) {
    switch (info.si_code) {
        case CLD_EXITED:
            program_ended = true;
            wait_status = (info.si_status & 0xff) << 8;
            break;
        case CLD_KILLED:
        case CLD_DUMPED:
            program_ended = true;
            wait_status = info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
            break;
        case CLD_STOPPED:
            if (!stops_us_too(info.si_status)) break;
            // As a shell expects: the command that it started stops with its program and is continued with
            // it.
            raise(SIGSTOP);
            kill(program, SIGCONT);
            break;
        default:
            break;
    }
}

void Job::State::poll_and_rearm() {
    {
        const MayAllocate look(
            "what processes have is read from /proc, however much that is; nobody waits for it");
        members.poll();
    }
    warmup.look();
    admit_the_stuck();
    const auto now = io::Clock::now();
    give_up_if_crowded(now - last_look);
    last_look = now;
    if (pager.faults_waiting() > 0 && throttled_since == io::Clock::time_point::max()) throttled_since = now;
    if (pager.faults_waiting() == 0 && throttled_since != io::Clock::time_point::max()) {
        stats.throttled_ms +=
            static_cast<std::uint64_t>((now - throttled_since) / std::chrono::milliseconds(1));
        throttled_since = io::Clock::time_point::max();
    }
    auto next = std::min(now + std::max(budget.poll_period(), members.period_min()), members.due());
    if (program_ended && members.all_have_ended()) {
        members.program_ended();
        next = now;
    }
    loop.arm(poll_timer, next);
}

/// Nothing can go, so the cap cannot hold: a little over it is the stated slack, more is for those who stay
/// stuck.
void Job::State::admit_the_stuck() {
    const auto since = pager.stuck_since();
    const auto now = io::Clock::now();
    if (since == io::Clock::time_point::max() || now - since < kStuckBeforeAdmitting) return;
    // With swap full, a loan would go to whoever takes memory fastest.
    if (budget.used() < budget.soft_limit() && !pager.is_full()) {
        budget.lend();
        if (budget.has_room(kPageSize)) return;
    }
    if (now - since < kStuckBeforeAdmittingMore && !members.is_injecting_any()) return;
    // Whoever is to get an agent may wait for a page in the middle of a system call, and cannot be stopped.
    if (budget.used() >= budget.hard_limit() && !members.is_injecting_any()) return;
    // Above the soft limit these are let go on a few at a time: looks are a millisecond apart.
    const int most = budget.used() >= budget.soft_limit() && members.is_injecting_any() ? 2 : 64;
    for (int i = 0; i < most && pager.admit_one_waiting_fault(); i++) {
    }
}

void Job::State::set_ram_cap(std::uint64_t cap) {
    cap_that_held = cap < budget.cap() ? std::max(cap_that_held, budget.cap()) : 0;
    crowded_for = {};
    budget.set_cap(cap);
    stats.ram_cap = cap;
    area.limit_cache_tier(cache_tier_max(cap));
    loop.arm(poll_timer, io::Clock::now());
}

/// A program that gets a page now and then lives no more than one that gets none.
void Job::State::give_up_if_crowded(std::chrono::nanoseconds since_last_look) {
    // The time in which farswap itself was stopped does not count.
    since_last_look = std::min<std::chrono::nanoseconds>(since_last_look, std::chrono::milliseconds(250));
    crowded_for += pager.is_crowded() ? since_last_look : -4 * since_last_look;
    crowded_for = std::max(crowded_for, std::chrono::nanoseconds{});
    if (budget.used() <= budget.cap()) cap_that_held = 0;
    if (crowded_for < kCrowdedBeforeGivingUp) return;
    if (cap_that_held > budget.cap()) {
        log::warning(
            "{} MiB of the job's memory cannot be moved out, and the cap of {} MiB that was set does "
            "not hold: it is {} MiB again",
            budget.used() >> 20, budget.cap() >> 20, cap_that_held >> 20);
        set_ram_cap(cap_that_held);
        return;
    }
    stop_for(Error{
        ENOMEM,
        fmt::format("{} MiB of the job's memory cannot be moved out (code, stacks, locked or shared "
                    "memory, huge pages{}{}), more than --ram {}M leaves room for: the program was stopped; "
                    "give it --ram {}M or more",
                    budget.used() >> 20, area.keeps_in_memory() ? ", what does not compress" : "",
                    members.largest_that_stays(), budget.cap() >> 20, (budget.used() >> 20) * 5 / 4)});
}

void Job::State::stop_for(Error why) {
    const MayAllocate end("the job ends");
    if (!failure) return;
    failure = std::unexpected(std::move(why));
    members.signal_all(SIGKILL);
}

void Job::State::tick() {
    const MayAllocate figures("figures for the operator and the recording, five times a second");
    stats.elapsed_s = std::chrono::duration<double>(io::Clock::now() - began).count();
    stats.swap = area.counters();
    if (options.on_tick) options.on_tick(stats);
    if (recorder) recorder->look(stats, pager.processes());
    if (options.misses != nullptr) options.misses->note(conditions_of(stats));
    const auto passed = io::Clock::now() - std::exchange(last_tick, io::Clock::now());
    if (auto patient = outages.update(passed, area.waits()); !patient) stop_for(patient.error());
    if (!misses_keeper && !keeper::is_well()) {
        misses_keeper = true;
        log::warning("the keeper was killed: a pager that is killed now ends its job");
    }
    look_at_children();                         // those whose SIGCHLD came while they were being injected
    if (!failure) members.signal_all(SIGKILL);  // whoever was being born when the others were killed
    loop.arm(tick_timer, io::Clock::now() + kTickPeriod);
}

/// As an heir we are not its parent, and hear of its end as of the others'.
bool Job::State::has_program() const {
    if (program <= 0) return false;
    return stats.pagers_killed == 0 ? !program_ended : members.is_alive(program);
}

/// The process whose memory this was is gone, and with it what the kernel kept for it: its children are
/// another's.
void Job::State::go_on_as_heir() {
    const MayAllocate start("another process begins, with what a pager needs from the kernel");
    stats.pagers_killed += keeper::births() - std::exchange(births, keeper::births());
    program_ended = true;  // and whoever waited for its status has seen us die
    members.go_on_as_heir();
    if (options.on_replaced) options.on_replaced();
}

/// One round of the loop. A thread that waits for a page is not to wait for us to be woken, too.
void Job::State::wait() {
    const Awaited awaited = pager.awaited();
    // Who has our core while we poll may be an agent that does what we have asked for.
    const bool is_asked = pager.agents_work();
    const auto window = spinning.window(awaited, io::Clock::now());
    loop.run_once(std::chrono::nanoseconds::max(), window);
    const auto& [taken, yielded] = loop.last_wait();
    const auto longest_yield = is_asked ? std::chrono::nanoseconds::zero() : yielded;
    const auto now = io::Clock::now();
    spinning.waited(awaited, taken, longest_yield, now);
    const bool has_polled = window > std::chrono::nanoseconds::zero() && !is_asked;
    switch (core_policy.round(stats.faults, has_polled, now)) {
        case CorePolicy::Advice::kStay:
            break;
        case CorePolicy::Advice::kLeave:
            core.leave();
            break;
        case CorePolicy::Advice::kGoBack:
            core.go_back();
            break;
    }
    if (spinning.is_crowded_out(now)) core.be_anywhere();
    if (keeper::births() != births) go_on_as_heir();
}

Job::Job(std::unique_ptr<State> state) : state_(std::move(state)) {}

Job::~Job() {
    if (state_->signal_watch.added) state_->loop.remove(state_->signal_watch);
    state_->loop.cancel(state_->poll_timer);
    state_->loop.cancel(state_->tick_timer);
    const target::CallersState& caller = state_->caller;
    state_->core.be_anywhere();
    sigprocmask(SIG_SETMASK, &caller.signal_mask, nullptr);
    if (caller.ignores_sigchld) ::signal(SIGCHLD, SIG_IGN);
    if (caller.descriptors.rlim_max != 0) setrlimit(RLIMIT_NOFILE, &caller.descriptors);
    setpriority(PRIO_PROCESS, 0, caller.nice);
}

Result<std::unique_ptr<Job>> Job::start(const JobOptions& options, io::Loop& loop, Pool& pool,
                                        SwapArea& area) {
    std::unique_ptr<Job> job(new Job(std::make_unique<State>(options, loop, pool, area)));
    job->state_->stats.ram_cap = options.ram_cap;
    area.store_failed = [state = job->state_.get()](const Error& why) { state->stop_for(why); };
    if (auto started = job->state_->start(); !started) return std::unexpected(started.error());
    return job;
}

JobEnd Job::run() {
    State& state = *state_;
    while (!state.program_ended || !state.members.empty()) {
        const NoAllocation none("the pager's loop");
        state.wait();
        state.pager.pump();
        state.pager.bury();
    }
    state.stats.elapsed_s = std::chrono::duration<double>(io::Clock::now() - state.began).count();
    state.stats.swap = state.area.counters();
    if (state.recorder) state.recorder->finish(state.stats);
    for (const auto& [reason, count] : state.members.unmanaged())
        log::info("{} processes not managed: {}", count, reason);
    std::vector<std::string> left_behind;
    for (const auto& [reason, count] : state.members.left_behind())
        left_behind.push_back(count == 1 ? reason : fmt::format("{} ({} processes)", reason, count));
    return JobEnd{state.wait_status, state.failure, state.stats, std::move(left_behind)};
}

void Job::detach(pid_t root) {
    state_->members.detach(root == 0 ? std::vector<pid_t>{} : std::vector<pid_t>{root});
    state_->loop.arm(state_->poll_timer, io::Clock::now());
}

void Job::stay() {
    state_->members.stay();
}

bool Job::is_departing() const {
    return state_->members.is_departing();
}

bool Job::is_member(pid_t process) {
    return state_->members.process_of(process) != nullptr || far_pages(process).has_value();
}

std::vector<pid_t> Job::processes() const {
    std::vector<pid_t> found;
    for (const auto& process : state_->pager.processes())
        if (!process->gone && (*process)->process() != 0) found.push_back((*process)->process());
    std::ranges::partition(found, [this](pid_t process) { return process == state_->program; });
    return found;
}

std::optional<std::uint64_t> Job::far_pages(pid_t root) const {
    return state_->members.far_pages(root);
}

Result<Job::Held> Job::hold(pid_t process) {
    Process* member = state_->members.process_of(process);
    if (member == nullptr) return fail(ESRCH, "process {} is not paged by this job", process);
    state_->pager.hold(*member);
    if (!(*member)->has_agent()) return Held{0, {}};
    const target::Agent& agent = (*member)->agent();
    return Held{agent.thread, {agent.base, agent.base + agent.length}};
}

void Job::release_hold(pid_t process) {
    if (Process* member = state_->members.process_of(process)) state_->pager.release_hold(*member);
}

Result<OutsideRanges> Job::outside(pid_t process, std::uint64_t start, std::uint64_t end) const {
    const Process* member = state_->members.process_of(process);
    if (member == nullptr) return fail(ESRCH, "process {} has ended", process);
    return state_->pager.outside(*member, start, end);
}

Status Job::peek(pid_t process, std::unique_ptr<Peek> peek) {
    const Process* member = state_->members.process_of(process);
    if (member == nullptr) return fail(ESRCH, "process {} has ended", process);
    state_->pager.peek(*member, std::move(peek));
    return {};
}

void Job::stop(Error why) {
    state_->stop_for(std::move(why));
}

void Job::set_ram_cap(std::uint64_t cap) {
    state_->set_ram_cap(cap);
}

JobStats Job::stats() const {
    JobStats stats = state_->stats;
    stats.elapsed_s = std::chrono::duration<double>(io::Clock::now() - state_->began).count();
    stats.swap = state_->area.counters();
    return stats;
}

}  // namespace farswap
