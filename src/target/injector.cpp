#include "target/injector.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace farswap::target {
namespace {
constexpr int kStopLimitMs = 500;
constexpr std::chrono::milliseconds kStragglerPeriod{10};
}  // namespace

Injector::Injector(io::Loop& loop, std::function<void(InjectDone)> done)
    : loop_(loop), done_(std::move(done)) {}

Status Injector::start() {
    event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_) return fail_errno(errno, "cannot make an eventfd");
    watch_ = {
        .fd = event_.get(),
        .ready = [](io::Watch& watch, std::uint32_t) { static_cast<Injector*>(watch.owner)->collect(); },
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
    changed_.notify_one();
    thread_.join();
    loop_.remove(watch_);
}

void Injector::submit(InjectJob job) {
    {
        std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
}

void Injector::run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
        if (jobs_.empty()) {
            if (RemoteTask::detach_stragglers() == 0) {
                changed_.wait(lock);
            } else {
                changed_.wait_for(lock, kStragglerPeriod);
            }
            continue;
        }
        InjectJob job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        InjectDone done{job.process, work(job)};
        lock.lock();
        results_.push_back(std::move(done));
        const std::uint64_t one = 1;
        [[maybe_unused]] auto written = write(event_.get(), &one, sizeof one);
    }
}

Result<Agent> Injector::work(InjectJob& job) {
    auto task = job.go ? RemoteTask::seize_at_exec(job.process, job.go.get())
                       : RemoteTask::seize(job.process, kStopLimitMs);
    if (!task) return std::unexpected(task.error());
    return inject(*task, {.staging_pages = job.staging_pages, .adopt_uffd = job.adopt_uffd.get()});
}

void Injector::collect() {
    std::uint64_t count = 0;
    [[maybe_unused]] auto got = read(event_.get(), &count, sizeof count);
    for (;;) {
        std::unique_lock lock(mutex_);
        if (results_.empty()) return;
        InjectDone done = std::move(results_.front());
        results_.pop_front();
        lock.unlock();
        done_(std::move(done));
    }
}

}  // namespace farswap::target
