// See keeper.h. What runs in the keeper itself is in Watch: no allocation, no errno, no C library.
#include "keeper/keeper.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/fd.h"
#include "base/secret_memory.h"
#include "keeper/raw_call.h"
#include "keeper/shared.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FARSWAP_SANITIZED 1
#else
#define FARSWAP_SANITIZED 0
#endif

namespace farswap::keeper {

namespace {

Shared shared;

constexpr std::size_t kKeeperStackBytes = 64 << 10;
alignas(64) std::array<std::byte, kKeeperStackBytes> keepers_stack;
/// Where the C library would have the keeper's thread-local storage: below its middle, with what a stack
/// protector compares above it. Nothing is meant to be kept there.
alignas(64) std::array<std::byte, 16 << 10> keepers_storage;

void wake(std::atomic<Phase>& phase) noexcept {
    raw_call(SYS_futex, reinterpret_cast<long>(&phase), FUTEX_WAKE_PRIVATE, 1);
}
void wait_while(std::atomic<Phase>& phase, Phase value) noexcept {
    while (phase == value)
        raw_call(SYS_futex, reinterpret_cast<long>(&phase), FUTEX_WAIT_PRIVATE, static_cast<long>(value));
}

/// One line on standard error, put together without allocating.
class Line {
  public:
    Line& operator<<(std::string_view text) noexcept {
        for (const char c : text)
            if (length_ < text_.size()) text_[length_++] = c;
        return *this;
    }
    Line& operator<<(long number) noexcept {
        std::array<char, 24> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
        return *this << std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data()));
    }
    ~Line() {
        raw_call(SYS_write, STDERR_FILENO, reinterpret_cast<long>(text_.data()), static_cast<long>(length_));
    }

  private:
    std::array<char, 256> text_{};
    std::size_t length_ = 0;
};

/// Whether the pager's main thread has ended and is not buried. proc_pid_stat(5): the state follows the name,
/// which may contain anything.
bool is_zombie() noexcept {
    std::array<char, 128> text{};
    const long got = raw_call(SYS_pread64, shared.stat, reinterpret_cast<long>(text.data()),
                              static_cast<long>(text.size()), 0);
    for (long i = got - 3; i >= 0; i--)
        if (text[static_cast<std::size_t>(i)] == ')') return text[static_cast<std::size_t>(i) + 2] == 'Z';
    return false;
}

/// Of the pager; -1: it cannot be told.
long count_threads() noexcept {
    constexpr long kOwnLinks = 2;  // the folder of threads has one for each of these besides
    struct stat tasks {};
    if (shared.tasks < 0) return shared.threads[0].has_begun ? -1 : 1;
    if (raw_call(SYS_fstat, shared.tasks, reinterpret_cast<long>(&tasks)) != 0) return -1;
    return static_cast<long>(tasks.st_nlink) - kOwnLinks;
}

/// The keeper's own life.
class Watch {
  public:
    [[noreturn]] void run() noexcept;

  private:
    bool begin() noexcept;
    long seize_all(std::size_t& seized) noexcept;
    static void go_on(pid_t thread, int signal) noexcept;
    static void go_on_anew(KeptThread& kept, int signal) noexcept;
    static bool is_of_spare(pid_t process, int status) noexcept;
    void stopped(pid_t thread, int status) noexcept;
    void exits(pid_t thread) noexcept;
    void take(KeptThread& kept) noexcept;
    void ended(pid_t thread, int status) noexcept;
    pid_t wait(int& status) noexcept;
    bool stand_at_their_ends() noexcept;
    bool are_all_known() noexcept;
    void let_die(std::string_view why) noexcept;
    void succeed() noexcept;
    void copy_limits() noexcept;
    KeptThread* find(pid_t thread) noexcept;
    KeptThread* add(pid_t thread) noexcept;
    static void remove(KeptThread& kept) noexcept;
    [[noreturn]] static void leave() noexcept {
        for (;;) raw_call(SYS_exit_group, 0);
    }

    pid_t pager_ = 0;
    bool is_killed_ = false;
    bool main_had_begun_ = false;  ///< the main thread that was killed last was more than an heir
    bool is_lost_ = false;         ///< one of its threads is gone before its registers were read
    std::string_view why_lost_;
};

/// Signals are the pager's, and a kill of its process group is not the keeper's.
void Watch::run() noexcept {
    raw_call(SYS_setsid);
    raw_call(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>(shared.keepers_name.data()));
    wait_while(shared.phase, Phase::kWaitsForLeave);
    pager_ = shared.threads[0].thread;
    const bool traces = begin();
    shared.phase = traces ? Phase::kKeeps : Phase::kFailed;
    wake(shared.phase);
    if (!traces) leave();
    for (;;) {
        int status = 0;
        const pid_t thread = wait(status);
        if (thread > 0 && is_of_spare(thread, status)) continue;
        if (thread > 0 && WIFSTOPPED(status)) stopped(thread, status);
        if (thread > 0 && !WIFSTOPPED(status)) ended(thread, status);
        if (!is_killed_ || is_lost_ || !stand_at_their_ends()) continue;
        if (are_all_known()) succeed();
    }
}

/// The next of its threads that has stopped or ended; 0: none yet, and it is worth looking again.
pid_t Watch::wait(int& status) noexcept {
    // A thread that is just being made will report; one of the kernel's own (io_uring's) ends without a word,
    // and so may the main thread.
    const bool look_again = is_killed_ && !is_lost_;
    const auto thread = static_cast<pid_t>(
        raw_call(SYS_wait4, -1, reinterpret_cast<long>(&status), __WALL | (look_again ? WNOHANG : 0)));
    if (thread < 0 && thread != -EINTR) leave();
    if (thread != 0) return std::max(thread, 0);
    const timespec millisecond{0, 1'000'000};
    raw_call(SYS_nanosleep, reinterpret_cast<long>(&millisecond));
    return 0;
}

/// -> 0 or an error number, with the number of the pager's threads that are traced.
long Watch::seize_all(std::size_t& seized) noexcept {
    for (seized = 0; seized < shared.count; seized++) {
        const long error = raw_ptrace(PTRACE_SEIZE, shared.threads[seized].thread, kTraceOptions);
        if (error != 0) return -error;
    }
    return prepare_spares(shared);
}

/// Where nobody may trace a process that must not be dumped, ours is one that may for as long as this takes.
bool Watch::begin() noexcept {
    std::size_t seized = 0;
    long error = seize_all(seized);
    if (error == EPERM && seized == 0 && raw_call(SYS_prctl, PR_GET_DUMPABLE) != 1) {
        raw_call(SYS_prctl, PR_SET_DUMPABLE, 1);
        error = seize_all(seized);
        raw_call(SYS_prctl, PR_SET_DUMPABLE, 0);
    }
    shared.error = static_cast<int>(error);
    return error == 0;
}

/// A signal that does nothing where it is delivered, whatever it did when it was sent (signal(7)).
bool is_idle(int signal) noexcept {
    struct {  // the kernel's own form of struct sigaction
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)();
        std::uint64_t mask;
    } now{};
    raw_call(SYS_rt_sigaction, signal, 0, reinterpret_cast<long>(&now), sizeof now.mask);
    return now.handler == SIG_IGN || (now.handler == SIG_DFL && (signal == SIGCONT || signal == SIGCHLD ||
                                                                 signal == SIGURG || signal == SIGWINCH));
}

/// Lets a thread go on from the stop that was reported. If it was killed in that stop it is in its last one
/// by now, and must stay there until it has been read.
void Watch::go_on(pid_t thread, int signal) noexcept {
    siginfo_t news{};
    raw_call(SYS_waitid, P_PID, thread, reinterpret_cast<long>(&news),
             WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL);
    if (news.si_pid == 0) raw_ptrace(PTRACE_CONT, thread, static_cast<long>(signal));
}

/// From a stop in which it is as it will be: it goes the way of an heir, whose beginning can be told from a
/// kill that came between the look and the leave to go on, which would let it pass its last stop unread.
void Watch::go_on_anew(KeptThread& kept, int signal) noexcept {
    if (kept.has_begun) {
        if (kept.take(heirs_code()) == KeptThread::Outcome::kLost)
            return;  // killed: its last stop is to come
        kept.has_begun = false;
        if (!begin_anew(shared, kept)) return;
    }
    go_on(kept.thread, signal);
}

/// Nobody may stop a spare, which blocks all other signals; one that has ended is one less.
bool Watch::is_of_spare(pid_t process, int status) noexcept {
    for (Spare& spare : shared.spares) {
        if (spare.process != process) continue;
        spare.is_ending = spare.is_ending || status >> 16 == PTRACE_EVENT_EXIT;
        if (WIFSTOPPED(status))
            go_on(process, 0);
        else
            spare.process = 0;
        return true;
    }
    return false;
}

void Watch::stopped(pid_t thread, int status) noexcept {
    const int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_EXIT) return exits(thread);
    KeptThread* const kept = find(thread);
    // SIGSTOP and its like are a stop of the whole process, which is to last; SIGTRAP is the first one of a
    // new thread, or the end of such a stop (ptrace(2), "PTRACE_EVENT stops").
    const bool is_new = event == PTRACE_EVENT_STOP && kept == nullptr;
    if (is_new) add(thread);
    if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        raw_ptrace(PTRACE_LISTEN, thread);
        return;
    }
    const int passed_on = event != 0 || is_idle(signal) ? 0 : signal;
    const bool changes_nothing =
        event == PTRACE_EVENT_STOP || (event == 0 && (passed_on == 0 || signal == SIGSTOP));
    if (kept != nullptr && changes_nothing)
        go_on_anew(*kept, passed_on);
    else
        go_on(thread, passed_on);
}

/// Its registers can still be read, and it has let go of nothing yet.
void Watch::exits(pid_t thread) noexcept {
    unsigned long code = 0;
    raw_ptrace(PTRACE_GETEVENTMSG, thread, 0L, &code);
    KeptThread* kept = find(thread);
    if ((code & 0x7f) != SIGKILL) {
        if (kept != nullptr) kept->is_leaving = true;
        raw_ptrace(PTRACE_CONT, thread);
        return;
    }
    is_killed_ = true;
    if (kept == nullptr) kept = add(thread);
    if (kept != nullptr) kept->is_ending = true;
    if (is_lost_ || kept == nullptr)
        let_die("it had more threads than can be kept");
    else
        take(*kept);
}

void Watch::take(KeptThread& kept) noexcept {
    const auto outcome = kept.take(heirs_code());
    if (&kept == &shared.threads[0]) main_had_begun_ = outcome == KeptThread::Outcome::kTaken;
    if (outcome == KeptThread::Outcome::kLost) let_die("a thread was gone before it had been read");
}

void Watch::let_die(std::string_view why) noexcept {
    if (!is_lost_) why_lost_ = why;
    is_killed_ = is_lost_ = true;
    for (std::size_t i = 0; i < shared.count; i++)
        if (shared.threads[i].thread != 0) raw_ptrace(PTRACE_CONT, shared.threads[i].thread);
}

bool Watch::stand_at_their_ends() noexcept {
    for (std::size_t i = 0; i < shared.count; i++) {
        KeptThread& kept = shared.threads[i];
        if (kept.thread == 0 || kept.is_ending) continue;
        // A main thread is not reported as long as there are others, and they are held.
        if (kept.thread != pager_ || !is_zombie()) return false;
        if (kept.has_begun) let_die("its main thread had ended unseen");
        if (is_lost_) return false;
        kept.is_ending = true;
    }
    return true;
}

bool Watch::are_all_known() noexcept {
    long known = 0;
    for (std::size_t i = 0; i < shared.count; i++) known += shared.threads[i].thread != 0;
    const long there = count_threads();
    if (there < 0) let_die("its threads could not be counted");
    return there == known;
}

void Watch::copy_limits() noexcept {
    for (std::size_t i = 0; i < shared.limits.size(); i++)
        raw_call(SYS_prlimit64, pager_, static_cast<long>(i), 0, reinterpret_cast<long>(&shared.limits[i]));
}

/// All threads stand at their ends.
void Watch::succeed() noexcept {
    const pid_t traced = shared.traced;
    if (traced != 0) raw_call(SYS_kill, traced, SIGKILL);
    copy_limits();
    if (shared.look != nullptr) shared.look(std::exchange(main_had_begun_, false));
    for (std::size_t i = 0; i < shared.count; i++)
        if (shared.threads[i].thread != 0) raw_ptrace(PTRACE_CONT, shared.threads[i].thread);
    // What they had asked the kernel for asynchronously is over when they are.
    for (pid_t gone = 0; gone != pager_;) {
        int status = 0;
        gone = static_cast<pid_t>(raw_call(SYS_wait4, -1, reinterpret_cast<long>(&status), __WALL));
        if (gone < 0 && gone != -EINTR) leave();
        if (gone > 0) is_of_spare(gone, status);
    }
    if (traced != 0) {
        Line() << "farswap: the pager was killed while it prepared process " << long{traced}
               << "; nobody can go on from there, and what it paged is stopped\n";
        leave();
    }
    for (std::size_t i = 0; i < shared.count; i++) {
        KeptThread& kept = shared.threads[i];
        kept.is_unborn = kept.is_unborn || kept.thread != 0;
        kept.has_begun = !kept.is_unborn;
        kept.is_ending = false;
        kept.thread = 0;
    }
    is_killed_ = false;
    pager_ = make_heirs(shared);
    if (pager_ != 0) return;
    Line()
        << "farswap: the pager was killed, and no process could be made to go on; what it paged is stopped\n";
    leave();
}

void Watch::ended(pid_t thread, int status) noexcept {
    if (thread != pager_) {
        KeptThread* kept = find(thread);
        // Killed in a stop from which we let it go on just then, it has passed its last one, too; before it
        // has begun, nothing is lost by it. Nor is anything when it is killed once more where it was read.
        // The status is that of the whole process, and tells nothing of the thread.
        const bool is_killed = WIFSIGNALED(status) && (kept == nullptr || !kept->is_leaving);
        const bool is_to_be = is_killed && kept != nullptr && (!kept->has_begun || kept->is_ending);
        if (kept != nullptr) remove(*kept);
        if (is_to_be) kept->is_unborn = true;
        is_killed_ = is_killed_ || is_killed;
        if (is_killed && !is_to_be && !is_lost_) let_die("a thread had ended unseen");
        return;
    }
    if (WIFSIGNALED(status))
        Line() << "farswap: the pager was ended by signal " << long{WTERMSIG(status)}
               << (is_lost_ ? " (" : "") << why_lost_ << (is_lost_ ? ")" : "")
               << ", and nobody can go on from there; what it paged is stopped\n";
    leave();
}

KeptThread* Watch::find(pid_t thread) noexcept {
    for (std::size_t i = 0; i < shared.count; i++)
        if (shared.threads[i].thread == thread) return &shared.threads[i];
    return nullptr;
}

KeptThread* Watch::add(pid_t thread) noexcept {
    std::size_t place = 0;
    while (place < shared.count && (shared.threads[place].thread != 0 || shared.threads[place].is_unborn))
        place++;
    if (place == Shared::kThreadsMax) return nullptr;
    shared.count = std::max(shared.count, place + 1);
    KeptThread& kept = shared.threads[place];
    kept.is_unborn = kept.is_ending = kept.is_leaving = false;
    kept.has_begun = true;
    kept.thread = thread;
    return &kept;
}

void Watch::remove(KeptThread& kept) noexcept {
    kept.is_unborn = kept.is_ending = kept.is_leaving = false;
    kept.thread = 0;
}

int run_keeper(void*) {
    static Watch watch;
    watch.run();
}

/// What threads leave in their registers when they are killed may be parts of keys, or of pages.
Status map_extended() {
    if (!shared.threads[0].extended.empty()) return {};
    const std::size_t each = KeptThread::extended_max();
    auto* const memory = static_cast<std::byte*>(map_secret_memory(each * Shared::kThreadsMax));
    if (memory == nullptr)
        return fail_errno(errno,
                          "cannot lock {} KiB of memory for the registers of threads; raise the limit on "
                          "locked memory (ulimit -l)",
                          (each * Shared::kThreadsMax + 1023) / 1024);
    for (std::size_t i = 0; i < Shared::kThreadsMax; i++)
        shared.threads[i].extended = {memory + i * each, each};
    return {};
}

/// A process that is to end.
class Ending {
  public:
    Ending() = default;
    explicit Ending(pid_t process)
        : process_(process), pidfd_(static_cast<int>(syscall(SYS_pidfd_open, process, 0))) {}
    void kill() const { syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0); }
    /// Buries it if it is our child.
    void wait() const {
        pollfd ended{pidfd_.get(), POLLIN, 0};
        while (pidfd_ && poll(&ended, 1, -1) < 0 && errno == EINTR) {
        }
        if (pidfd_) waitpid(process_, nullptr, __WALL | WNOHANG);
    }

  private:
    pid_t process_ = 0;
    Fd pidfd_;
};

void close_descriptors() noexcept {
    for (auto* file : {&shared.tasks, &shared.stat})
        if (const int fd = file->exchange(-1); fd >= 0) close(fd);
}

/// Fills in what the keeper has to know of the C library and of our threads.
Status describe_ourselves() {
    int* number = nullptr;
    if (prctl(PR_GET_TID_ADDRESS, &number) != 0)
        return fail_errno(errno,
                          "this kernel does not say where a thread's number is (CONFIG_CHECKPOINT_RESTORE)");
    const auto* storage = static_cast<const std::byte*>(__builtin_thread_pointer());
    shared.number_offset = reinterpret_cast<const std::byte*>(number) - storage;
    prctl(PR_GET_NAME, shared.name.data());
    shared.count = 0;
    std::error_code error;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
        if (shared.count == Shared::kThreadsMax)
            return fail(EAGAIN, "more than {} threads", Shared::kThreadsMax);
        shared.threads[shared.count++].thread = std::atoi(task.path().filename().c_str());
    }
    shared.tasks = ::open(kTasksPath, kTasksFlags);
    shared.stat = ::open(kStatPath, kStatFlags);
    if (error || shared.count == 0 || shared.tasks < 0 || shared.stat < 0) {
        close_descriptors();
        return fail(ENOENT, "cannot read /proc/self/task: is /proc mounted?");
    }
    FARSWAP_ASSERT(shared.threads[0].thread == getpid());
    return {};
}

}  // namespace

Status start(Look look) {
    if (FARSWAP_SANITIZED) return fail(ENOSYS, "built with a sanitizer");
    FARSWAP_ASSERT(shared.keeper == 0);
    if (auto mapped = map_extended(); !mapped) return mapped;
    if (auto described = describe_ourselves(); !described) return described;
    shared.look = look;
    shared.phase = Phase::kWaitsForLeave;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    // Its end raises no signal: nobody is to take it for a child of the job.
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SETTLS;
    const pid_t keeper = clone(run_keeper, keepers_stack.data() + kKeeperStackBytes, flags, nullptr, nullptr,
                               keepers_storage.data() + keepers_storage.size() / 2, nullptr);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (keeper < 0) {
        close_descriptors();
        return fail_errno(error, "cannot start the keeper");
    }
    shared.keeper = keeper;
    // Yama lets only ancestors trace (Documentation/admin-guide/LSM/Yama.rst); where there is none, it fails.
    prctl(PR_SET_PTRACER, keeper, 0, 0, 0);
    shared.phase = Phase::kHasLeave;
    wake(shared.phase);
    wait_while(shared.phase, Phase::kHasLeave);
    if (shared.phase == Phase::kKeeps) return {};
    waitpid(keeper, nullptr, __WALL);
    shared.keeper = 0;
    close_descriptors();
    return fail_errno(shared.error, "the pager may not be traced");
}

void stop() noexcept {
    const pid_t process = shared.keeper.exchange(0);
    if (process == 0) return;
    const Ending keeper(process);
    std::array<Ending, Shared::kSparesMax> spares;
    for (std::size_t i = 0; i < spares.size(); i++)
        if (const pid_t spare = shared.spares[i].process; spare != 0) spares[i] = Ending(spare);
    keeper.kill();
    keeper.wait();
    for (const Ending& spare : spares) {  // they end with it
        spare.kill();
        spare.wait();
    }
    close_descriptors();
}

std::uint32_t births() noexcept {
    return shared.births.load(std::memory_order_relaxed);
}

Interruption last_kill() noexcept {
    const KeptThread& main = shared.threads[0];
    return {main.system_call, main.argument, main.registers.rip};
}

pid_t witness() noexcept {
    const pid_t keeper = shared.keeper;
    return keeper != 0 ? keeper : getpid();
}

bool is_well() noexcept {
    const pid_t keeper = shared.keeper;
    if (keeper == 0) return true;
    const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, keeper, 0)));
    pollfd ended{pidfd.get(), POLLIN, 0};
    if (pidfd && poll(&ended, 1, 0) == 0) return true;
    shared.keeper = 0;
    return false;
}

Indivisible::Indivisible(pid_t process) noexcept {
    shared.traced = process;
}

Indivisible::~Indivisible() {
    shared.traced = 0;
}

}  // namespace farswap::keeper
