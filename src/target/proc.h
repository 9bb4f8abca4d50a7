// What /proc says of a process: mappings, memory, children, signals, state. Reads only; knows nothing of
// paging.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::target {

/// One line of /proc/PID/maps (proc_pid_maps(5)). `name` is valid only during the callback.
struct Mapping {
    std::uint64_t start = 0, end = 0;  ///< addresses, page-aligned
    char permissions[4] = {};          ///< "rw-p"
    std::uint64_t offset = 0;          ///< in the file, bytes
    std::uint64_t inode = 0;
    bool has_device = false;
    std::string_view name;
};

/// Parses "start-end perms offset major:minor inode   name". False, and nothing that may be used, for a line
/// that does not begin so.
bool parse_mapping(std::string_view line, Mapping& mapping);
/// Calls `visit` for each mapping in ascending order. ESRCH when the process is gone.
Status for_each_mapping(pid_t process, const std::function<void(const Mapping&)>& visit);
/// The first mapping of that name. ENOENT when there is none.
Result<Mapping> find_mapping(pid_t process, std::string_view name);

/// The mapping that `address` lies in, by the descriptor of /proc/PID/maps: one system call however many
/// there are. `name` takes the name; it is cut where it does not fit. ENOENT when nothing lies there, ENOTTY
/// before Linux 6.11 (PROCMAP_QUERY), ESRCH when the process is gone.
Result<Mapping> mapping_at(int maps_fd, std::uint64_t address, std::span<char> name);

/// A mapping with what /proc/PID/smaps adds. Valid only during the callback.
struct MappingDetail {
    Mapping mapping;
    std::uint64_t anonymous = 0;  ///< bytes of it that are present and no file's
    std::string_view flags;       ///< VmFlags, two letters each: " rd wr mr mw me ac"
    bool has_flag(std::string_view two_letters) const { return flags.find(two_letters) != flags.npos; }
};
/// As for_each_mapping(). Walks the page tables.
Status for_each_mapping_detail(pid_t process, const std::function<void(const MappingDetail&)>& visit);

/// Where what is paged ends: a program gets nothing above 47 bits of addresses unless it asks for it by a
/// hint (five-level page tables; Documentation/arch/x86/x86_64/5level-paging.rst). What lies above stays in
/// RAM.
inline constexpr std::uint64_t kAddressEnd = std::uint64_t{1} << 47;

/// A range of addresses, page-aligned.
struct AddressRange {
    std::uint64_t start = 0, end = 0;
};
/// What a fork makes of a process's mappings, by their VmFlags in smaps.
struct ForkRanges {
    std::vector<AddressRange>
        inherited;                    ///< a child has their pages: all but those with dc (MADV_DONTFORK), wf
    std::vector<AddressRange> wiped;  ///< wf (MADV_WIPEONFORK): a child has the mapping, and zeros in it
};
/// Walks the page tables. ESRCH when the process ends meanwhile, or is no longer the program that has a
/// mapping starting at `witness`: it may have executed another one.
Result<ForkRanges> fork_ranges(pid_t process, std::uint64_t witness);

/// A process's memory, bytes, from /proc/PID/status.
struct MemoryUse {
    std::uint64_t rss_anon = 0;
    std::uint64_t rss_shmem = 0;
    std::uint64_t hugetlb = 0;
    std::uint64_t swap = 0;
    std::uint32_t threads = 0;
    bool has_memory = false;  ///< false: a zombie, or a kernel thread
};
/// Reads by the descriptor of /proc/PID/status (kept open by the caller). ESRCH when the process is gone.
Result<MemoryUse> read_memory_use(int status_fd);
/// What /proc/PID/statm says, bytes. `shared` is what of `resident` is files' or shared memory.
struct MemorySize {
    std::uint64_t mapped = 0, resident = 0, shared = 0;
};
/// Reads by the descriptor of /proc/PID/statm. All 0: a zombie, or a kernel thread. ESRCH when it is gone.
Result<MemorySize> read_memory_size(int statm_fd);
/// The number of the newest task in our PID namespace (/proc/loadavg), by the descriptor of that file. Where
/// it is what it was, none has been made since, by clone(2) and without a number wished for (CRIU does that).
/// 0: cannot be told.
std::uint64_t read_newest_task(int loadavg_fd);
/// Pss_Anon + Pss_Shmem in bytes from /proc/PID/smaps_rollup: walks the page tables, milliseconds a GiB.
Result<std::uint64_t> read_pss(pid_t process);

/// All processes that can be seen.
std::vector<pid_t> all_processes();
/// The children of all threads of a process (/proc/PID/task/TID/children); some may be missed while others
/// die.
void append_children(pid_t process, std::vector<pid_t>& children);
void append_threads(pid_t process, std::vector<pid_t>& threads);

/// The parent's number; 0 when the process is gone.
pid_t read_parent(pid_t process);
/// The process of a thread; 0 when it has ended.
pid_t read_process(pid_t thread);
/// Field 3 of /proc/PID/stat ('R', 'S', 'D', 'T', 't', 'Z', ...), 0 when the process is gone.
char read_state(pid_t process);
/// Whether it has ended, is ending, or has been killed.
bool is_ending(pid_t process);
/// A thread of the process that has not ended: the main one, or another when that one has (pthread_exit(3) in
/// main; it stays as a zombie, and /proc/PID shows no memory). 0: the process is gone.
pid_t living_task(pid_t process);
/// With what its first thread has ended (exit(2)), 0 if that cannot be read.
std::uint32_t read_exit_status(pid_t process);
/// Whether `task` is all that is left of the process: its first thread has ended, and so have all others.
bool is_alone(pid_t task, pid_t process);
/// A thread of the kernel's own (PF_KTHREAD of include/linux/sched.h): it has no program.
bool is_kernel_thread(pid_t process);
/// The name of a task (prctl(2) PR_SET_NAME); empty when it is gone.
std::string read_name(pid_t task);
/// Who traces the task (ptrace(2)); 0: nobody.
pid_t read_tracer(pid_t task);
/// The real user's number; nothing when the process is gone.
std::optional<uid_t> read_user(pid_t process);
/// Whether a thread is one that the kernel has made in the process for its own work (io_uring's): it never
/// runs the program (field 9 of /proc/TID/stat: PF_IO_WORKER, PF_USER_WORKER of include/linux/sched.h).
bool is_kernel_worker(pid_t thread);
/// How long a thread has been on a processor (field 1 of /proc/TID/schedstat); 0 when it is gone, and on
/// kernels that do not count it.
std::chrono::nanoseconds read_run_time(pid_t thread);
/// User time of a process and of its children that it has waited for (fields 14 and 16 of /proc/PID/stat),
/// seconds; 0 when it is gone.
double read_user_time(pid_t process);
/// Field 10 of /proc/PID/stat: page faults that needed no I/O; 0 when the process is gone.
std::uint64_t read_minor_faults(pid_t process);
/// How a task is confined (seccomp(2)), by /proc/TASK/status.
struct SeccompState {
    int mode = 0;               ///< SECCOMP_MODE_*
    std::uint64_t filters = 0;  ///< how many are in place
};
SeccompState read_seccomp(pid_t task);
/// Whether a signal is pending for the task that its mask lets through.
bool signal_is_deliverable(pid_t task, std::uint64_t blocked);
/// Whether two processes share one address space (kcmp(2) KCMP_VM), as a vfork child and its parent do.
bool share_address_space(pid_t a, pid_t b);

}  // namespace farswap::target
