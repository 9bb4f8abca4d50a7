// See keeper.h. What runs in the keeper itself is in Watch: no allocation, no errno, no C library.
#include "keeper/keeper.h"

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

#include "base/assert.h"
#include "base/fd.h"
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

constexpr std::size_t kStackBytes = 64 << 10;
alignas(64) std::array<std::byte, kStackBytes> keepers_stack;
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
    ~Line() { raw_call(SYS_write, STDERR_FILENO, reinterpret_cast<long>(text_.data()), static_cast<long>(length_)); }

  private:
    std::array<char, 256> text_{};
    std::size_t length_ = 0;
};

/// The keeper's own life.
class Watch {
  public:
    [[noreturn]] void run() noexcept;

  private:
    bool seize_all() noexcept;
    void stopped(pid_t thread, int status) noexcept;
    void exits(pid_t thread) noexcept;
    void ended(pid_t thread, int status) noexcept;
    pid_t wait(int& status) noexcept;
    bool stand_at_their_ends() const noexcept;
    bool are_all_known() const noexcept;
    void let_die() noexcept;
    void succeed() noexcept;
    void copy_limits() noexcept;
    KeptThread* find(pid_t thread) noexcept;
    KeptThread* add(pid_t thread) noexcept;
    void remove(pid_t thread) noexcept;
    [[noreturn]] static void leave() noexcept { for (;;) raw_call(SYS_exit_group, 0); }

    pid_t pager_ = 0;
    bool is_killed_ = false;
    bool is_lost_ = false;  ///< one of its threads is gone before its registers were read
    std::array<rlimit, RLIM_NLIMITS> limits_{};
};

/// Signals are the pager's, and a kill of its process group is not the keeper's.
void Watch::run() noexcept {
    raw_call(SYS_setsid);
    raw_call(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>("farswap-keeper"));
    wait_while(shared.phase, Phase::kWaitsForLeave);
    pager_ = shared.threads[0].thread;
    const bool traces = seize_all();
    shared.phase = traces ? Phase::kKeeps : Phase::kFailed;
    wake(shared.phase);
    if (!traces) leave();
    for (;;) {
        int status = 0;
        const pid_t thread = wait(status);
        if (thread > 0 && WIFSTOPPED(status)) stopped(thread, status);
        if (thread > 0 && !WIFSTOPPED(status)) ended(thread, status);
        if (!is_killed_ || is_lost_ || !stand_at_their_ends()) continue;
        if (are_all_known()) succeed();
    }
}

/// The next of its threads that has stopped or ended; 0: none yet, and it is worth looking again.
pid_t Watch::wait(int& status) noexcept {
    // A thread that is just being made will report; one of the kernel's own (io_uring's) ends without a word.
    const bool look_again = is_killed_ && !is_lost_ && stand_at_their_ends();
    const auto thread = static_cast<pid_t>(
        raw_call(SYS_wait4, -1, reinterpret_cast<long>(&status), __WALL | (look_again ? WNOHANG : 0)));
    if (thread < 0 && thread != -EINTR) leave();
    if (thread != 0) return std::max(thread, 0);
    const timespec millisecond{0, 1'000'000};
    raw_call(SYS_nanosleep, reinterpret_cast<long>(&millisecond));
    return 0;
}

bool Watch::seize_all() noexcept {
    for (std::size_t i = 0; i < shared.count; i++) {
        const long error = raw_ptrace(PTRACE_SEIZE, shared.threads[i].thread, kTraceOptions);
        if (error == 0) continue;
        shared.error = static_cast<int>(-error);
        return false;
    }
    return true;
}

void Watch::stopped(pid_t thread, int status) noexcept {
    const int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_EXIT) return exits(thread);
    if (event != PTRACE_EVENT_STOP) {
        raw_ptrace(PTRACE_CONT, thread, event == 0 ? signal : 0);
        return;
    }
    if (find(thread) == nullptr) add(thread);
    // SIGSTOP and its like are a stop of the whole process, which is to last; SIGTRAP is the first one of a new
    // thread, or the end of such a stop (ptrace(2), "PTRACE_EVENT stops").
    raw_ptrace(signal == SIGTRAP ? PTRACE_CONT : PTRACE_LISTEN, thread);
}

/// Its registers can still be read, and it has let go of nothing yet.
void Watch::exits(pid_t thread) noexcept {
    unsigned long code = 0;
    raw_ptrace(PTRACE_GETEVENTMSG, thread, 0L, &code);
    const bool is_killed = (code & 0x7f) == SIGKILL;
    if (!is_killed) {
        raw_ptrace(PTRACE_CONT, thread);
        return;
    }
    is_killed_ = true;
    KeptThread* kept = find(thread);
    if (kept == nullptr) kept = add(thread);
    if (is_lost_ || kept == nullptr || !kept->take()) let_die();
}

void Watch::let_die() noexcept {
    is_lost_ = true;
    for (std::size_t i = 0; i < shared.count; i++) raw_ptrace(PTRACE_CONT, shared.threads[i].thread);
}

bool Watch::stand_at_their_ends() const noexcept {
    for (std::size_t i = 0; i < shared.count; i++)
        if (!shared.threads[i].is_taken) return false;
    return true;
}

/// The folder has a link for each thread, besides its own two.
bool Watch::are_all_known() const noexcept {
    std::array<char, 40> path{"/proc/"};
    char* end = std::to_chars(path.data() + 6, path.data() + 20, pager_).ptr;
    std::memcpy(end, "/task", 6);
    struct stat tasks {};
    return raw_call(SYS_stat, reinterpret_cast<long>(path.data()), reinterpret_cast<long>(&tasks)) == 0 &&
           tasks.st_nlink == shared.count + 2;
}

void Watch::copy_limits() noexcept {
    for (std::size_t i = 0; i < limits_.size(); i++)
        raw_call(SYS_prlimit64, pager_, static_cast<long>(i), 0, reinterpret_cast<long>(&limits_[i]));
}

/// All threads stand at their ends.
void Watch::succeed() noexcept {
    const pid_t traced = shared.traced;
    if (traced != 0) raw_call(SYS_kill, traced, SIGKILL);
    for (std::size_t i = 0; i < shared.count; i++) {
        if (shared.threads[i].thread != pager_) continue;
        if (i != 0) std::swap(shared.threads[0], shared.threads[i]);
        break;
    }
    copy_limits();
    for (std::size_t i = 0; i < shared.count; i++) raw_ptrace(PTRACE_CONT, shared.threads[i].thread);
    // What they had asked the kernel for asynchronously is over when they are.
    for (pid_t gone = 0; gone != pager_;) {
        int status = 0;
        gone = static_cast<pid_t>(raw_call(SYS_wait4, -1, reinterpret_cast<long>(&status), __WALL));
        if (gone < 0 && gone != -EINTR) leave();
    }
    for (std::size_t i = 0; i < limits_.size(); i++)
        raw_call(SYS_prlimit64, 0, static_cast<long>(i), reinterpret_cast<long>(&limits_[i]));
    if (traced != 0) {
        Line() << "farswap: the pager was killed while it prepared process " << long{traced}
               << "; nobody can go on from there, and what it paged is stopped\n";
        leave();
    }
    if (!make_heirs(shared)) {
        Line() << "farswap: the pager was killed, and no process could be made to go on; what it paged is stopped\n";
        leave();
    }
    pager_ = shared.threads[0].thread;
    is_killed_ = false;
}

void Watch::ended(pid_t thread, int status) noexcept {
    if (thread != pager_) return remove(thread);
    if (WIFSIGNALED(status))
        Line() << "farswap: the pager was ended by signal " << long{WTERMSIG(status)}
               << ", and nobody can go on from there; what it paged is stopped\n";
    leave();
}

KeptThread* Watch::find(pid_t thread) noexcept {
    for (std::size_t i = 0; i < shared.count; i++)
        if (shared.threads[i].thread == thread) return &shared.threads[i];
    return nullptr;
}

KeptThread* Watch::add(pid_t thread) noexcept {
    if (shared.count == Shared::kThreadsMax) return nullptr;
    KeptThread& kept = shared.threads[shared.count++];
    kept.thread = thread;
    kept.is_taken = false;
    return &kept;
}

void Watch::remove(pid_t thread) noexcept {
    KeptThread* kept = find(thread);
    if (kept == nullptr) return;
    shared.count--;
    if (kept != &shared.threads[shared.count]) *kept = shared.threads[shared.count];
}

int run_keeper(void*) {
    static Watch watch;
    watch.run();
}

/// Fills in what the keeper has to know of the C library and of our threads.
Status describe_ourselves() {
    int* number = nullptr;
    if (prctl(PR_GET_TID_ADDRESS, &number) != 0)
        return fail_errno(errno, "this kernel does not say where a thread's number is (CONFIG_CHECKPOINT_RESTORE)");
    const auto* storage = static_cast<const std::byte*>(__builtin_thread_pointer());
    shared.number_offset = reinterpret_cast<const std::byte*>(number) - storage;
    prctl(PR_GET_NAME, shared.name.data());
    shared.count = 0;
    std::error_code error;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
        if (shared.count == Shared::kThreadsMax) return fail(EAGAIN, "more than {} threads", Shared::kThreadsMax);
        shared.threads[shared.count++].thread = std::atoi(task.path().filename().c_str());
    }
    if (error || shared.count == 0) return fail(ENOENT, "cannot read /proc/self/task: is /proc mounted?");
    FARSWAP_ASSERT(shared.threads[0].thread == getpid());
    return {};
}

}  // namespace

Status start() {
    if (FARSWAP_SANITIZED) return fail(ENOSYS, "built with a sanitizer");
    FARSWAP_ASSERT(shared.keeper == 0);
    if (auto described = describe_ourselves(); !described) return described;
    shared.phase = Phase::kWaitsForLeave;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    // Its end raises no signal: nobody is to take it for a child of the job.
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SETTLS;
    const pid_t keeper = clone(run_keeper, keepers_stack.data() + kStackBytes, flags, nullptr, nullptr,
                               keepers_storage.data() + keepers_storage.size() / 2, nullptr);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (keeper < 0) return fail_errno(error, "cannot start the keeper");
    shared.keeper = keeper;
    // Yama lets only ancestors trace (Documentation/admin-guide/LSM/Yama.rst); where there is none, it fails.
    prctl(PR_SET_PTRACER, keeper, 0, 0, 0);
    shared.phase = Phase::kHasLeave;
    wake(shared.phase);
    wait_while(shared.phase, Phase::kHasLeave);
    if (shared.phase == Phase::kKeeps) return {};
    waitpid(keeper, nullptr, __WALL);
    shared.keeper = 0;
    return fail_errno(shared.error, "the pager may not be traced");
}

void stop() noexcept {
    const pid_t keeper = shared.keeper.exchange(0);
    if (keeper == 0) return;
    const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, keeper, 0)));
    ::kill(keeper, SIGKILL);
    pollfd ended{pidfd.get(), POLLIN, 0};
    while (pidfd && poll(&ended, 1, -1) < 0 && errno == EINTR) {
    }
    waitpid(keeper, nullptr, __WALL | WNOHANG);
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
    return pidfd && poll(&ended, 1, 0) == 0;
}

Indivisible::Indivisible(pid_t process) noexcept {
    shared.traced = process;
}

Indivisible::~Indivisible() {
    shared.traced = 0;
}

}  // namespace farswap::keeper
