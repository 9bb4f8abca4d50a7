#include "target/injector.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/no_allocation.h"
#include "keeper/keeper.h"

namespace farswap::target {
namespace {
// A stop is an event of ptrace, with nothing to sleep on: looked for often at first, then as often as a
// hundredth of the time that it has taken.
constexpr std::chrono::microseconds kStopPeriodMin{50}, kStopPeriodMax{10'000};

pid_t process_of(const Injector::Job& job) {
    return std::visit([](const auto& one) { return one.process; }, job);
}

/// Whom to stop. The main thread may have ended before the others; but an agent is given to none of those:
/// the files of the process are the main thread's to us.
pid_t task_of(const Injector::Job& job) {
    const pid_t process = process_of(job);
    if (std::holds_alternative<InjectJob>(job)) return process;
    const pid_t living = living_task(process);
    return living == 0 ? process : living;
}

bool starts_a_program(const Injector::Job& job) {
    const auto* inject = std::get_if<InjectJob>(&job);
    return inject != nullptr && inject->go;
}

}  // namespace

Injector::Injector(io::Loop& loop, std::function<void(Done)> done) : loop_(loop), done_(std::move(done)) {}

Status Injector::start() {
    event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_) return fail_errno(errno, "cannot make an eventfd");
    watch_ = {.fd = event_.get(),
              .ready =
                  [](io::Watch& watch, std::uint32_t) {
                      const MayAllocate agent("an agent has come or gone");
                      static_cast<Injector*>(watch.owner)->collect();
                  },
              .owner = this};
    loop_.add(watch_);
    // Signals are the loop's business.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return {};
}

Injector::~Injector() {
    if (!thread_.joinable()) return;
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.post();
    thread_.join();
    loop_.remove(watch_);
}

void Injector::submit(Job job) {
    {
        std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    changed_.post();
}

void Injector::run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
        stop_all();
        Stopping ready;
        if (!take_ready(ready)) {
            lock.unlock();
            if (stopping_.empty())
                changed_.wait();
            else
                changed_.wait_for(stop_period());
            lock.lock();
            continue;
        }
        lock.unlock();
        Done done = work(ready);
        ready.task.reset();  // it runs again before its agent is asked for anything
        lock.lock();
        results_.push_back(std::move(done));
        const std::uint64_t one = 1;
        [[maybe_unused]] auto written = write(event_.get(), &one, sizeof one);
    }
    stopping_.clear();
}

/// Has the processes of all jobs that have come stopped. Called with the lock held: none of it waits.
void Injector::stop_all() {
    for (; !jobs_.empty(); jobs_.pop_front()) {
        Job& job = jobs_.front();
        std::optional<Result<RemoteTask>> task;
        if (!starts_a_program(job)) task.emplace(RemoteTask::seize_begin(task_of(job)));
        stopping_.push_back({std::move(job), std::move(task), io::Clock::now(), {}});
    }
}

bool Injector::take_ready(Stopping& ready) {
    const auto found = std::ranges::find_if(stopping_, is_ready);
    if (found == stopping_.end()) return false;
    ready.job = std::move(found->job);
    if (found->task) ready.task.emplace(std::move(*found->task));
    ready.failure = std::move(found->failure);
    stopping_.erase(found);
    return true;
}

/// Whether its process has stopped, or never will.
bool Injector::is_ready(Stopping& stopping) {
    if (!stopping.task || !*stopping.task) return true;
    auto stopped = (*stopping.task)->has_stopped();
    if (!stopped) stopping.failure = stopped.error();
    return stopping.failure || *stopped;
}

std::chrono::microseconds Injector::stop_period() const {
    const auto last = stopping_.back().since;
    const auto taken = std::chrono::duration_cast<std::chrono::microseconds>(io::Clock::now() - last);
    return std::clamp(taken / 100, kStopPeriodMin, kStopPeriodMax);
}

Injector::Done Injector::work(Stopping& stopping) {
    // Registers of the process are ours, and it would be killed with us (PTRACE_O_EXITKILL).
    const keeper::Indivisible indivisible(process_of(stopping.job));
    if (const auto* inject = std::get_if<InjectJob>(&stopping.job))
        return InjectDone{inject->process, put_in(stopping, *inject)};
    const auto& eject = std::get<EjectJob>(stopping.job);
    return EjectDone{eject.process, take_out(stopping, eject)};
}

Status Injector::take_out(Stopping& stopping, const EjectJob& job) {
    if (stopping.failure) return std::unexpected(*stopping.failure);
    if (!*stopping.task) return std::unexpected(stopping.task->error());
    return eject(**stopping.task, job.agent, job.ranges);
}

Result<Agent> Injector::put_in(Stopping& stopping, const InjectJob& job) {
    if (stopping.failure) return std::unexpected(*stopping.failure);
    if (!stopping.task) stopping.task.emplace(RemoteTask::seize_at_exec(job.process, job.go.get()));
    Result<RemoteTask>& task = *stopping.task;
    if (!task) return std::unexpected(task.error());
    {
        const std::lock_guard lock(begin_);
        begun_.insert(job.process);
    }
    return inject(*task, {.staging_pages = job.staging_pages,
                          .adopt_uffd = job.adopt_uffd.get(),
                          .behind_gate = job.behind_gate});
}

std::unique_lock<std::mutex> Injector::hold_back(pid_t process) {
    std::unique_lock lock(begin_);
    if (begun_.contains(process)) lock.unlock();
    return lock;
}

void Injector::collect() {
    std::uint64_t count = 0;
    [[maybe_unused]] auto got = read(event_.get(), &count, sizeof count);
    for (;;) {
        std::unique_lock lock(mutex_);
        if (results_.empty()) return;
        Done done = std::move(results_.front());
        results_.pop_front();
        lock.unlock();
        const pid_t process = std::visit([](const auto& one) { return one.process; }, done);
        done_(std::move(done));
        const std::lock_guard begun(begin_);
        begun_.erase(process);
    }
}

}  // namespace farswap::target
