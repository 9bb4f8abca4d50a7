// See file_workers.h.
#include "io/file_workers.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <algorithm>
#include <mutex>

#include "base/assert.h"
#include "base/fd.h"
#include "base/semaphore.h"

namespace farswap::io {

namespace {

constexpr std::uint32_t kThreadsMax = 8;
constexpr std::size_t kStackBytes = 256 << 10;  // little of it is touched; the sanitizers need more of it
constexpr std::uint32_t kNone = 0xffffffffu;

int result_of(ssize_t returned) noexcept {
    return returned < 0 ? -errno : static_cast<int>(returned);
}

/// What has no offsets, a socket or a pipe, may be silent for ever: it is waited for together with the
/// cancellation.
int transfer_stream(const FileOperation& operation, int fd, int cancelled) noexcept {
    const bool writes = operation.kind == FileOperation::Kind::kWrite;
    const iovec memory{operation.data, operation.length};
    while (true) {
        pollfd either[] = {{fd, static_cast<short>(writes ? POLLOUT : POLLIN), 0}, {cancelled, POLLIN, 0}};
        if (::poll(either, 2, -1) < 0) return -errno;
        if (either[1].revents != 0) return -ECANCELED;
        const ssize_t moved =
            writes ? ::pwritev2(fd, &memory, 1, -1, RWF_NOWAIT) : ::preadv2(fd, &memory, 1, -1, RWF_NOWAIT);
        if (moved >= 0 || errno != EAGAIN) return result_of(moved);
    }
}

int perform(const FileOperation& operation, int fd, int cancelled) noexcept {
    const auto offset = static_cast<off_t>(operation.offset);
    int result = 0;
    switch (operation.kind) {
        case FileOperation::Kind::kRead:
            result = result_of(::pread(fd, operation.data, operation.length, offset));
            break;
        case FileOperation::Kind::kWrite:
            result = result_of(::pwrite(fd, operation.data, operation.length, offset));
            break;
        case FileOperation::Kind::kSync:
            return result_of(::fdatasync(fd));
        case FileOperation::Kind::kAllocate:
            return result_of(::fallocate(fd, 0, offset, operation.length));
    }
    return result == -ESPIPE ? transfer_stream(operation, fd, cancelled) : result;
}

}  // namespace

/// What the threads and the loop have in common. All of it is guarded by the mutex, but for an operation's
/// own data, which are its thread's while it runs.
struct FileWorkers::Shared {
    enum class State : std::uint8_t { kFree, kQueued, kRunning, kEnded };

    struct Worker {
        Fd cancelled;  ///< an eventfd: readable once the operation that runs is to end
        bool busy = false;
    };

    struct Job {
        FileOperation operation;
        int fd = -1;
        int result = 0;
        State state = State::kFree;
        bool cancelled = false;
        Worker* worker = nullptr;                      ///< kRunning
        std::uint32_t next = kNone, previous = kNone;  ///< in the list that it is in
    };

    /// A list of jobs, first in, first out.
    struct List {
        std::uint32_t head = kNone, tail = kNone;
    };

    /// Reads, for which programs wait, and all else, of which an fdatasync may take seconds: neither kind can
    /// take all threads.
    struct Lane {
        List queued;
        std::uint32_t running = 0;
        std::uint32_t running_max = 1;
    };

    explicit Shared(std::uint32_t operations_max) : jobs(operations_max) {}

    Status prepare();
    Lane& lane_of(const Job& job) noexcept {
        return job.operation.kind == FileOperation::Kind::kRead ? reads : others;
    }
    void push(List& list, std::uint32_t index) noexcept;
    void unlink(List& list, std::uint32_t index) noexcept;
    std::uint32_t take() noexcept;
    void end(std::uint32_t index, int result) noexcept;
    void run(Worker& self) noexcept;

    std::mutex mutex;
    Semaphore news;  ///< posted for each job that is queued; some are found to be taken already
    std::vector<Job> jobs;
    std::vector<Worker> workers;
    Lane reads, others;
    List ended;
    Fd ended_event;  ///< readable while `ended` is not empty
    bool stopping = false;
};

void FileWorkers::Shared::push(List& list, std::uint32_t index) noexcept {
    jobs[index].next = kNone;
    jobs[index].previous = list.tail;
    (list.tail == kNone ? list.head : jobs[list.tail].next) = index;
    list.tail = index;
}

void FileWorkers::Shared::unlink(List& list, std::uint32_t index) noexcept {
    const Job& job = jobs[index];
    (job.previous == kNone ? list.head : jobs[job.previous].next) = job.next;
    (job.next == kNone ? list.tail : jobs[job.next].previous) = job.previous;
}

/// The job to do next, now this thread's; kNone: there is none that may begin.
std::uint32_t FileWorkers::Shared::take() noexcept {
    if (stopping) return kNone;
    for (Lane* lane : {&reads, &others}) {
        const std::uint32_t index = lane->queued.head;
        if (index == kNone || lane->running == lane->running_max) continue;
        unlink(lane->queued, index);
        ++lane->running;
        jobs[index].state = State::kRunning;
        return index;
    }
    return kNone;
}

void FileWorkers::Shared::end(std::uint32_t index, int result) noexcept {
    jobs[index].state = State::kEnded;
    jobs[index].result = result;
    if (ended.head == kNone) ::eventfd_write(ended_event.get(), 1);
    push(ended, index);
}

void FileWorkers::Shared::run(Worker& self) noexcept {
    std::unique_lock lock(mutex);
    while (true) {
        const std::uint32_t index = take();
        if (index == kNone) {
            if (stopping) return;
            lock.unlock();
            news.wait();
            lock.lock();
            continue;
        }
        Job& job = jobs[index];
        job.worker = &self;
        self.busy = true;
        lock.unlock();
        const int result = perform(job.operation, job.fd, self.cancelled.get());
        lock.lock();
        self.busy = false;
        eventfd_t count = 0;
        if (job.cancelled) ::eventfd_read(self.cancelled.get(), &count);
        --lane_of(job).running;
        end(index, result);
    }
}

FileWorkers::FileWorkers(std::uint32_t operations_max) : shared_(std::make_shared<Shared>(operations_max)) {}

Status FileWorkers::Shared::prepare() {
    const auto count = std::min<std::uint32_t>(kThreadsMax, static_cast<std::uint32_t>(jobs.size()));
    reads.running_max = count > 1 ? count - 1 : 1;
    others.running_max = count > 2 ? count - 2 : 1;
    ended_event = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!ended_event) return fail_errno(errno, "cannot create an eventfd");
    workers.resize(count);
    for (Worker& worker : workers) {
        worker.cancelled = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!worker.cancelled) return fail_errno(errno, "cannot create an eventfd");
    }
    return {};
}

/// What a thread is given.
struct FileWorkers::Start {
    std::shared_ptr<Shared> shared;
    Shared::Worker& worker;
    int nice;
};

void* FileWorkers::work(void* given) {
    const std::unique_ptr<Start> start(static_cast<Start*>(given));
    ::pthread_setname_np(::pthread_self(), "farswap-io");
    // Both as the loop's thread has them in a pager, from which neither comes by itself. What is written here
    // frees memory: the kernel is not to wait for memory in it.
    if (start->nice != 0) ::setpriority(PRIO_PROCESS, 0, start->nice);
    ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    start->shared->run(start->worker);
    return nullptr;
}

Status FileWorkers::start(int nice) {
    if (Status prepared = shared_->prepare(); !prepared) return prepared;
    const std::size_t count = shared_->workers.size();
    threads_.reserve(count);
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kStackBytes);
    // Signals are the loop's business.
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (error == 0 && threads_.size() < count) {
        std::unique_ptr<Start> start(new Start{shared_, shared_->workers[threads_.size()], nice});
        pthread_t thread;
        error = ::pthread_create(&thread, &attributes, work, start.get());
        if (error != 0) break;
        [[maybe_unused]] auto* its_own_now = start.release();
        threads_.push_back(thread);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
    if (error != 0)
        return fail_errno(
            error, "cannot start {} threads for file I/O: raise the limit on processes (ulimit -u)", count);
    return {};
}

FileWorkers::~FileWorkers() {
    Shared& shared = *shared_;
    {
        const std::lock_guard lock(shared.mutex);
        shared.stopping = true;
    }
    for (std::size_t i = 0; i < threads_.size(); ++i) shared.news.post();
    for (std::size_t i = 0; i < threads_.size(); ++i) {
        const bool busy = [&] {
            const std::lock_guard lock(shared.mutex);
            return shared.workers[i].busy;
        }();
        if (busy)
            ::pthread_detach(threads_[i]);
        else
            ::pthread_join(threads_[i], nullptr);
    }
}

int FileWorkers::fd() const noexcept {
    return shared_->ended_event.get();
}

void FileWorkers::begin(std::uint32_t index, const FileOperation& operation) noexcept {
    Shared& shared = *shared_;
    {
        const std::lock_guard lock(shared.mutex);
        Shared::Job& job = shared.jobs[index];
        FARSWAP_ASSERT(job.state == Shared::State::kFree);
        job.operation = operation;
        job.fd = operation.file->fd;
        job.cancelled = false;
        job.state = Shared::State::kQueued;
        shared.push(shared.lane_of(job).queued, index);
    }
    shared.news.post();
}

void FileWorkers::cancel(std::uint32_t index) noexcept {
    Shared& shared = *shared_;
    const std::lock_guard lock(shared.mutex);
    Shared::Job& job = shared.jobs[index];
    if (job.state == Shared::State::kQueued) {
        shared.unlink(shared.lane_of(job).queued, index);
        shared.end(index, -ECANCELED);
    } else if (job.state == Shared::State::kRunning && !job.cancelled) {
        job.cancelled = true;
        ::eventfd_write(job.worker->cancelled.get(), 1);
    }
}

void FileWorkers::tell(Engine::Listener& listener) noexcept {
    Shared& shared = *shared_;
    std::uint32_t index = kNone;
    {
        const std::lock_guard lock(shared.mutex);
        index = std::exchange(shared.ended, {}).head;
        eventfd_t count = 0;
        ::eventfd_read(shared.ended_event.get(), &count);
    }
    while (index != kNone) {
        // Nobody else has it now.
        Shared::Job& job = shared.jobs[index];
        const std::uint32_t next = job.next;
        job.state = Shared::State::kFree;
        listener.ended(index, job.result);
        index = next;
    }
}

void FileWorkers::wait(std::chrono::milliseconds timeout) noexcept {
    pollfd event{fd(), POLLIN, 0};
    ::poll(&event, 1, static_cast<int>(timeout.count()));
}

}  // namespace farswap::io
