// Tries what a job needs; see probe.h.
#include "cli/probe.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/fd.h"
#include "cli/budget.h"
#include "target/helper.h"
#include "target/uapi.h"

namespace farswap::cli {

namespace {

int number_in(const std::string& path) {
    const auto text = read_text_file(path).value_or("0");
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

bool has_capability(unsigned capability) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    if (::syscall(SYS_capget, &header, data.data()) < 0) return false;
    return (data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

/// A userfaultfd made the way in which the program's agent can make one: by a device, which may be handed
/// down, or by the system call, where a capability of ours does not help it unless we are root.
Result<Fd> make_as_the_agent(int device) {
    int uffd = -1;
    if (device >= 0)
        uffd = ::ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    else if (::geteuid() != 0 && number_in("/proc/sys/vm/unprivileged_userfaultfd") == 0)
        errno = EPERM;
    else
        uffd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    if (uffd < 0) return fail_errno(errno, "no userfaultfd");
    return Fd(uffd);
}

/// Why farswapd does not help.
void probe_helper(MachineFacts& facts) {
    const auto asked = target::helper_device();
    if (asked) return;
    facts.helper_error = asked.error().code;
    facts.helper_refusal = asked.error().message;
}

void probe_userfaultfd(MachineFacts& facts) {
    const auto made = target::make_uffd(make_as_the_agent);
    if (!made) {
        facts.uffd_error = made.error().code;
        if (facts.uffd_error == EACCES) probe_helper(facts);
        return;
    }
    facts.uffd_by = made->by;
    const auto enabled = target::enable_uffd(made->fd.get());
    if (enabled) {
        facts.fork_by = *enabled;
        return;
    }
    if (enabled.error().code == EACCES) probe_helper(facts);
    // It is as it was before. Asked for nothing, the kernel tells what there is.
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    if (::ioctl(made->fd.get(), UFFDIO_API, &api) < 0)
        facts.uffd_error = errno;
    else
        facts.uffd_missing = uffd_features_needed() & ~std::uint64_t{api.features};
}

/// Whether the file of this program carries a capability (xattr(7), capabilities(7)).
bool has_file_capability() {
    return ::getxattr("/proc/self/exe", "security.capability", nullptr, 0) > 0;
}

/// The first system call with which a pager reaches a program and that is refused on a child that we trace.
void probe_reach(pid_t child, int childs, MachineFacts& facts) {
    char byte = 0;
    iovec local{&byte, sizeof byte};
    iovec remote{&facts, sizeof byte};  // the child has a copy at the same place
    const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    if (::process_vm_readv(child, &local, 1, &remote, 1, 0) < 0)
        facts.refused_call = "process_vm_readv";
    else if (!pidfd)
        facts.refused_call = "pidfd_open";
    else if (!Fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), childs, 0))))
        facts.refused_call = "pidfd_getfd";
    if (!facts.refused_call.empty()) facts.ptrace_error = errno;
}

/// A process as those that are paged: one that may be traced. It waits to be killed.
class Child {
  public:
    Child() {
        const pid_t parent = ::getpid();
        std::array<int, 2> ends{-1, -1};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;
        const Fd ready(ends[0]);
        Fd says(ends[1]);
        process_ = ::fork();
        if (process_ == 0) {
            ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
            ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            if (::getppid() != parent) ::_exit(0);
            says.reset();
            while (true) ::pause();
        }
        const int error = errno;
        says.reset();
        char byte;
        while (process_ > 0 && ::read(ready.get(), &byte, 1) < 0 && errno == EINTR) {
        }
        errno = error;
    }
    ~Child() {
        if (process_ <= 0) return;
        ::kill(process_, SIGKILL);
        while (::waitpid(process_, nullptr, __WALL) < 0 && errno == EINTR) {
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    /// -1 and errno: there is none.
    pid_t process() const { return process_; }

  private:
    pid_t process_ = -1;
};

/// PTRACE_SEIZE, and what else it takes; `childs`: a descriptor that the child has, too.
void probe_ptrace(const Child& child, int childs, MachineFacts& facts) {
    if (child.process() <= 0 || ::ptrace(PTRACE_SEIZE, child.process(), nullptr, nullptr) < 0)
        facts.ptrace_error = errno;
    else
        probe_reach(child.process(), childs, facts);
}

/// What is asked for has the same address in the child.
int probe_pagemap_scan(const Child& child) {
    const Fd pagemap(::open(fmt::format("/proc/{}/pagemap", child.process()).c_str(), O_RDONLY | O_CLOEXEC));
    if (!pagemap) return errno;
    const auto start = reinterpret_cast<std::uintptr_t>(&pagemap) & ~std::uintptr_t{4095};
    page_region region{};
    pm_scan_arg scan{};
    scan.size = sizeof scan;
    scan.start = start;
    scan.end = start + 4096;
    scan.vec = reinterpret_cast<std::uintptr_t>(&region);
    scan.vec_len = 1;
    scan.category_mask = PAGE_IS_PRESENT;
    scan.return_mask = PAGE_IS_PRESENT;
    return ::ioctl(pagemap.get(), PAGEMAP_SCAN, &scan) < 0 ? errno : 0;
}

std::uint64_t memlock_limit() {
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    return limit.rlim_cur;
}

/// "always [madvise] never" -> "madvise".
std::string word_in_brackets(const std::string& text) {
    const auto open = text.find('[');
    const auto close = text.find(']', open);
    return close == std::string::npos ? std::string() : text.substr(open + 1, close - open - 1);
}

}  // namespace

bool can_lock_all_memory() noexcept {
    return has_capability(CAP_IPC_LOCK) || memlock_limit() == RLIM_INFINITY;
}

MachineFacts probe_machine() {
    MachineFacts facts;
    utsname names{};
    ::uname(&names);
    facts.kernel_release = names.release;
    facts.user = ::geteuid();
    facts.has_file_capability = has_file_capability();
    probe_userfaultfd(facts);
    facts.yama_scope = number_in("/proc/sys/kernel/yama/ptrace_scope");
    const Fd childs(::open("/", O_PATH | O_CLOEXEC));
    const Child child;
    probe_ptrace(child, childs.get(), facts);
    facts.can_ptrace_all = has_capability(CAP_SYS_PTRACE);
    facts.can_filter = has_capability(CAP_SYS_ADMIN) || ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
    facts.io_uring_error = io::try_io_uring();
    if (const auto asked = io::engine_asked_for())
        facts.io_engine = *asked;
    else
        facts.io_engine_refusal = asked.error().message;
    facts.io_uring_disabled = number_in("/proc/sys/kernel/io_uring_disabled");
    facts.pagemap_scan_error = child.process() > 0 ? probe_pagemap_scan(child) : ECHILD;
    facts.can_lock_all = can_lock_all_memory();
    facts.memlock_limit = memlock_limit();
    facts.huge_pages =
        word_in_brackets(read_text_file("/sys/kernel/mm/transparent_hugepage/enabled").value_or(""));
    // The first line is its heading.
    facts.kernel_swaps = std::ranges::count(read_text_file("/proc/swaps").value_or(""), '\n') > 1;
    facts.overcommit = read_overcommit(read_text_file).value_or(OvercommitState{.mode = 1});
    facts.overcommit_to_restore = overcommit_to_restore();
    facts.memory = tightest_memory_limit(read_text_file).value_or(MemoryLimit{});
    facts.pool = default_pool(facts.memory.bytes / 10 * 9);
    return facts;
}

}  // namespace farswap::cli
