#include "target/inject.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/descriptor_message.h"
#include "farswap/request.h"
#include "target/agent_protocol.h"
#include "target/eject.h"
#include "target/seccomp_filter.h"
#include "target/uapi.h"
#include "target/uffd.h"
#include "target/uffd_source.h"

extern "C" {
extern const char __start_farswap_agent[];
extern const char __stop_farswap_agent[];
void farswap_agent_main(const struct agent_start* start);
}

namespace farswap::target {
namespace {

// The agent's memory, from its base: code, a gap, data and stack, a gap, staging. The gaps (PROT_NONE) keep
// the kernel from merging the mappings with each other or with the program's.
constexpr std::uint64_t kCodeBytes = 4 * kPageSize;
constexpr std::uint64_t kGapBytes = kPageSize;
constexpr std::uint64_t kStackBytes = 8 * kPageSize;
constexpr std::uint64_t kCookieBytes = kCookiePages * kPageSize;
constexpr std::uint64_t kCode = kGapBytes;
constexpr std::uint64_t kStack = kCode + kCodeBytes + kGapBytes;
constexpr std::uint64_t kCookie = kStack + kStackBytes + kGapBytes;
constexpr std::uint64_t kStaging = kCookie + kCookieBytes + kGapBytes;

constexpr std::uint64_t kNoHole = 1ULL << 40;  // no program makes one of so many bytes
constexpr std::uint64_t kUserEnd = 1ULL << 47;
constexpr std::uint64_t kBelowAll = 16ULL << 30;

constexpr int kAgentAnswerLimitMs = 10'000;

Status write_memory(pid_t process, std::uint64_t address, const void* data, std::size_t size) {
    Fd memory(open(fmt::format("/proc/{}/mem", process).c_str(), O_RDWR | O_CLOEXEC));
    if (!memory) return fail_errno(errno, "cannot open the memory of process {}", process);
    if (pwrite(memory.get(), data, size, static_cast<off_t>(address)) != static_cast<ssize_t>(size)) {
        return fail_errno(errno, "cannot write to the memory of process {}", process);
    }
    return {};
}

/// Runs a remote system call whose failure is a failure of the injection.
Result<long> checked(RemoteTask& task, const char* what, long number, long a = 0, long b = 0, long c = 0,
                     long d = 0, long e = 0, long f = 0) {
    auto result = task.call(number, a, b, c, d, e, f);
    if (!result) return result;
    if (*result < 0 && *result > -4096) {
        return fail_errno(static_cast<int>(-*result), "cannot put the agent into process {}: {} failed",
                          task.task(), what);
    }
    return result;
}

/// Well below all that the kernel has put below the stack. It would choose a hole first, and that may be one
/// which the program has made for a moment and fills again by its address (MAP_FIXED), over the agent; so may
/// be what is right below the lowest mapping. 0: the kernel is to choose.
std::uint64_t place_for_agent(pid_t task, std::uint64_t length) {
    std::uint64_t behind = 0, place = 0;
    const auto visited = for_each_mapping(task, [&](const Mapping& mapping) {
        // Not below the stack, which grows, nor below the kernel's vsyscall.
        const bool may_lie_below = mapping.name != "[stack]" && mapping.start < kUserEnd;
        if (mapping.start - behind >= kNoHole && may_lie_below) place = mapping.start - kBelowAll - length;
        behind = mapping.end;
    });
    return visited ? place : 0;
}

/// Maps and fills the agent's memory. Each part but the cookie is kept out of forked children.
Result<std::uint64_t> map_memory(RemoteTask& task, std::uint64_t length) {
    const auto place = static_cast<long>(place_for_agent(task.task(), length));
    auto base = checked(task, "mmap", SYS_mmap, place, static_cast<long>(length), PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!base) return std::unexpected(base.error());
    const auto staging_bytes = static_cast<long>(length - kStaging - kGapBytes);
    const long at = *base;
    struct Call {
        const char* what;
        long number, address, bytes, argument;
    };
    const Call calls[] = {
        {"mprotect", SYS_mprotect, at + long(kCode), long(kCodeBytes), PROT_READ | PROT_EXEC},
        {"mprotect", SYS_mprotect, at + long(kStack), long(kStackBytes), PROT_READ | PROT_WRITE},
        {"mprotect", SYS_mprotect, at + long(kCookie), long(kCookieBytes), PROT_READ | PROT_WRITE},
        {"mprotect", SYS_mprotect, at + long(kStaging), staging_bytes, PROT_READ | PROT_WRITE},
        {"madvise", SYS_madvise, at, long(kCookie), MADV_DONTFORK},
        {"madvise", SYS_madvise, at + long(kStaging), staging_bytes + long(kGapBytes), MADV_DONTFORK},
        {"madvise", SYS_madvise, at + long(kStaging), staging_bytes, MADV_NOHUGEPAGE},
    };
    for (const Call& call : calls) {
        auto done = checked(task, call.what, call.number, call.address, call.bytes, call.argument);
        // A kernel without huge pages has no MADV_NOHUGEPAGE.
        if (!done && !(call.argument == MADV_NOHUGEPAGE && done.error().code == EINVAL)) {
            return std::unexpected(done.error());
        }
    }
    const auto blob = static_cast<std::size_t>(__stop_farswap_agent - __start_farswap_agent);
    FARSWAP_ASSERT(blob <= kCodeBytes);
    auto written =
        write_memory(task.task(), static_cast<std::uint64_t>(at) + kCode, __start_farswap_agent, blob);
    if (!written) return std::unexpected(written.error());
    return static_cast<std::uint64_t>(at);
}

/// Makes a socket pair in the program and takes one end over; `theirs` is the number of the agent's end.
Result<Fd> make_socket(RemoteTask& task, int pidfd, std::uint64_t scratch, int& theirs) {
    auto made = checked(task, "socketpair", SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
                        static_cast<long>(scratch));
    if (!made) return std::unexpected(made.error());
    int ends[2] = {-1, -1};
    iovec local{ends, sizeof ends};
    iovec remote{reinterpret_cast<void*>(scratch), sizeof ends};
    if (process_vm_readv(task.task(), &local, 1, &remote, 1, 0) != sizeof ends) {
        return fail_errno(errno, "cannot read the memory of process {}", task.task());
    }
    Fd ours(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, ends[0], 0)));
    const int code = errno;
    auto closed = checked(task, "close", SYS_close, ends[0]);
    theirs = ends[1];
    if (!closed) return std::unexpected(closed.error());
    if (!ours) return fail_errno(code, "cannot take a descriptor from process {}", task.task());
    fcntl(ours.get(), F_SETFD, FD_CLOEXEC);
    return ours;
}

/// Sends a request with a descriptor (or -1) and waits for its reply, and the descriptor that it carries.
Result<Fd> exchange_descriptor(int socket, agent_op op, int descriptor, std::uint32_t count = 0) {
    agent_request request{};
    request.op = op;
    request.count = count;
    if (const int error = send_message(socket, &request, sizeof request, descriptor))
        return fail_errno(error, "cannot talk to the agent");

    pollfd waiting{socket, POLLIN, 0};
    if (poll(&waiting, 1, kAgentAnswerLimitMs) <= 0) return fail(ETIMEDOUT, "the agent does not answer");
    agent_reply reply{};
    auto received = receive_message(socket, &reply, sizeof reply);
    if (received.error != 0 || received.bytes == 0) return fail(ESRCH, "the agent ended");
    if (reply.status < 0) return fail_errno(-reply.status, "no userfaultfd for the program");
    return std::move(received.descriptor);
}

Result<Fd> connect_uffd(int socket, int adopt) {
    if (adopt >= 0) {
        auto kept = exchange_descriptor(socket, AGENT_ADOPT_UFFD, adopt);
        if (!kept) return kept;
        return Fd(fcntl(adopt, F_DUPFD_CLOEXEC, 0));
    }
    auto uffd =
        make_uffd([socket](int device) { return exchange_descriptor(socket, AGENT_CREATE_UFFD, device); });
    if (!uffd) return std::unexpected(uffd.error());
    if (auto enabled = enable_uffd(uffd->fd.get()); !enabled) return std::unexpected(enabled.error());
    return std::move(uffd->fd);
}

Result<Fd> give_pipe(int socket) {
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
    const Fd theirs(ends[0]);
    Fd ours(ends[1]);
    auto given = exchange_descriptor(socket, AGENT_KEEP_PIPE, theirs.get());
    if (!given) return given;
    return ours;
}

/// While the task is stopped: a fork between mapping and registering would give a child that cannot be
/// marked.
Status register_memory(const Agent& agent) {
    for (auto [start, bytes] : {std::pair{agent.staging, std::uint64_t{agent.staging_pages} * kPageSize},
                                std::pair{agent.cookie, kCookieBytes}}) {
        uffdio_register request{};
        request.range = {start, bytes};
        request.mode = UFFDIO_REGISTER_MODE_MISSING;
        if (ioctl(agent.uffd.get(), UFFDIO_REGISTER, &request) != 0)
            return fail_errno(errno, "cannot register the agent's memory in process {}", agent.process);
    }
    return {};
}

/// Whether we may read the memory of processes whatever their identity (ptrace(2), access mode checking).
bool reaches_other_users() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    if (syscall(SYS_capget, &header, data.data()) != 0) return false;
    return (data[CAP_TO_INDEX(CAP_SYS_PTRACE)].effective & CAP_TO_MASK(CAP_SYS_PTRACE)) != 0;
}

/// Nothing is done for a program that has none to drop: it may not change its identity. That of a container's
/// root may; but where we are no more than that ourselves, nobody's thread would be out of our reach, and the
/// process is reached through it.
void drop_privileges(RemoteTask& task, int socket) {
    if (!reaches_other_users()) {
        (void)exchange_descriptor(socket, AGENT_DROP_CAPABILITIES, -1, 0);
        return;
    }
    const auto dumpable = task.call(SYS_prctl, PR_GET_DUMPABLE);
    (void)exchange_descriptor(socket, AGENT_DROP_PRIVILEGES, -1,
                              dumpable && *dumpable >= 0 ? static_cast<std::uint32_t>(*dumpable) : 0);
}

/// Takes out what a failed injection has put in.
void undo(RemoteTask& task, Agent& agent) {
    agent_request end{};
    end.op = AGENT_EXIT;
    if (agent.socket) send(agent.socket.get(), &end, sizeof end, MSG_NOSIGNAL);
    agent.uffd.reset();  // nobody would read of what is unmapped
    const AddressRange all{agent.base, agent.base + agent.length};
    (void)eject(task, agent.thread, {&all, 1});
}

}  // namespace

Result<Agent> inject(RemoteTask& task, const InjectOptions& options) {
    if (options.adopt_uffd >= 0 && Uffd(Fd(fcntl(options.adopt_uffd, F_DUPFD_CLOEXEC, 0))).is_gone())
        return fail(ESTALE, "process {} has executed another program meanwhile", task.task());
    if (auto allowed = check_seccomp(task.task(), options.behind_gate); !allowed)
        return std::unexpected(allowed.error());
    Agent agent;
    agent.process = task.task();
    agent.pidfd.reset(static_cast<int>(syscall(SYS_pidfd_open, task.task(), 0)));
    if (!agent.pidfd) return fail_errno(errno, "cannot open process {}", task.task());

    agent.staging_pages = options.staging_pages;
    agent.length = kStaging + std::uint64_t{options.staging_pages} * kPageSize + kGapBytes;
    auto base = map_memory(task, agent.length);
    if (!base) return std::unexpected(base.error());
    agent.base = *base;
    agent.staging = *base + kStaging;
    agent.cookie = *base + kCookie;

    auto connected = [&]() -> Status {
        agent_start start{};
        auto socket = make_socket(task, agent.pidfd.get(), agent.base + kStack, start.socket);
        if (!socket) return std::unexpected(socket.error());
        agent.socket = std::move(*socket);
        auto written = write_memory(task.task(), agent.base + kStack, &start, sizeof start);
        if (!written) return written;
        // A thread, so that it dies with the program's exit and exec; without CLONE_FILES and CLONE_FS, so
        // that it holds none of its descriptors and follows none of its directories (docs/decisions/0003).
        const std::uint64_t stack_top = agent.base + kStack + kStackBytes;
        auto thread = task.clone_stopped(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, stack_top);
        if (!thread) return std::unexpected(thread.error());
        agent.thread = *thread;
        const auto entry = agent.base + kCode +
                           static_cast<std::uint64_t>(reinterpret_cast<const char*>(&farswap_agent_main) -
                                                      __start_farswap_agent);
        auto started = task.start_detached(*thread, entry, stack_top, agent.base + kStack);
        if (!started) return started;
        auto uffd = connect_uffd(agent.socket.get(), options.adopt_uffd);
        auto closed = checked(task, "close", SYS_close, start.socket);
        if (!uffd) return std::unexpected(uffd.error());
        agent.uffd = std::move(*uffd);
        auto life = give_pipe(agent.socket.get());
        if (!life) return std::unexpected(life.error());
        agent.life = std::move(*life);
        if (auto registered = register_memory(agent); !registered) return registered;
        drop_privileges(task, agent.socket.get());
        if (!closed) return std::unexpected(closed.error());
        return {};
    }();
    if (!connected) {
        undo(task, agent);
        return std::unexpected(connected.error());
    }
    return agent;
}

}  // namespace farswap::target
