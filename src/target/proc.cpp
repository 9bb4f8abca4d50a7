#include "target/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "base/append.h"
#include "farswap/request.h"
#include "target/uapi.h"

namespace farswap::target {
namespace {

Result<std::string> read_to_end(int fd) {
    std::string text;
    char piece[65536];
    for (;;) {
        const ssize_t got = read(fd, piece, sizeof piece);
        if (got < 0) return fail_errno(errno, "cannot read a file of /proc");
        if (got == 0) return text;
        text.append(piece, static_cast<std::size_t>(got));
    }
}

struct ProcPath {
    char text[64];
    ProcPath(pid_t process, const char* file) {
        std::snprintf(text, sizeof text, "/proc/%d/%s", process, file);
    }
};

/// One of the short files of /proc, without taking memory: some are read on the way of a page. What does not
/// fit (the groups in a status are as many as one likes) is cut off.
class ShortFile {
  public:
    ShortFile(pid_t process, const char* file) {
        const Fd fd(open(ProcPath(process, file).text, O_RDONLY | O_CLOEXEC));
        if (!fd) return;
        is_open_ = true;
        while (length_ < sizeof text_ - 1) {
            const ssize_t got = read(fd.get(), text_ + length_, sizeof text_ - 1 - length_);
            if (got <= 0) break;
            length_ += static_cast<std::size_t>(got);
        }
        text_[length_] = '\0';
    }
    explicit operator bool() const { return is_open_; }
    /// A NUL follows.
    std::string_view operator*() const { return {text_, length_}; }

  private:
    bool is_open_ = false;
    std::size_t length_ = 0;
    char text_[32768];
};

/// Reads a /proc file to its end in large pieces: one piece is one consistent look at most files.
Result<std::string> read_proc_file(pid_t process, const char* file) {
    Fd fd(open(ProcPath(process, file).text, O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(errno == ENOENT ? ESRCH : errno, "cannot read /proc/{}/{}", process, file);
    return read_to_end(fd.get());
}

template <typename T>
const char* parse(const char* at, const char* end, T& value, int base) {
    return std::from_chars(at, end, value, base).ptr;
}

template <typename Visit>
void for_each_line(std::string_view text, Visit visit) {
    while (!text.empty()) {
        const std::size_t length = std::min(text.find('\n'), text.size());
        visit(text.substr(0, length));
        text.remove_prefix(std::min(length + 1, text.size()));
    }
}

/// Where a line begins with the label. Not anywhere: the first line of a status holds a name that the program
/// has chosen, and that may be "RssAnon:9999999".
std::size_t find_label(std::string_view text, std::string_view label) {
    std::size_t found = text.find(label);
    while (found != std::string_view::npos && found > 0 && text[found - 1] != '\n')
        found = text.find(label, found + 1);
    return found;
}

/// The number behind "Label:" in a text of "Label:   123 kB" lines; 0 when the label is not there.
std::uint64_t labelled_number(std::string_view text, std::string_view label, int base = 10) {
    const std::size_t found = find_label(text, label);
    if (found == std::string_view::npos) return 0;
    const char* at = text.data() + found + label.size();
    const char* end = text.data() + text.size();
    while (at < end && (*at == ' ' || *at == '\t')) at++;
    std::uint64_t value = 0;
    parse(at, end, value, base);
    return value;
}

/// From the `number`th field (3 and up) of /proc/PID/stat on; never empty.
std::string_view stat_field(std::string_view text, int number) {
    std::size_t at = text.rfind(')');  // the name before it may hold anything
    for (int field = 2; field < number && at != text.npos; field++) at = text.find(' ', at + 1);
    if (at == text.npos || at + 1 >= text.size()) return std::string_view("\0", 1);
    return text.substr(at + 1);
}

/// Without opendir(3), which takes memory: threads are looked for before each MOVE.
void append_numeric_entries(const char* folder, std::vector<pid_t>& numbers) {
    const Fd directory(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return;
    alignas(dirent64) char entries[8192];
    for (;;) {
        const ssize_t got = getdents64(directory.get(), entries, sizeof entries);
        if (got <= 0) return;
        for (ssize_t at = 0; at < got;) {
            const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
            at += entry->d_reclen;
            if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
            append(numbers, std::atoi(entry->d_name));
        }
    }
}

}  // namespace

bool parse_mapping(std::string_view line, Mapping& mapping) {
    const char* at = line.data();
    const char* const end = at + line.size();
    // Steps over the character between two fields, but never over the end.
    const auto skip = [&](std::ptrdiff_t characters) { at += std::min(characters, end - at); };
    at = parse(at, end, mapping.start, 16);
    if (at == end || *at != '-') return false;
    at = parse(at + 1, end, mapping.end, 16);
    constexpr std::ptrdiff_t kPermissions = sizeof mapping.permissions;
    if (end - at < kPermissions + 2) return false;
    std::memcpy(mapping.permissions, at + 1, kPermissions);
    skip(kPermissions + 2);
    unsigned major = 0, minor = 0;
    at = parse(at, end, mapping.offset, 16);
    skip(1);
    at = parse(at, end, major, 16);
    skip(1);
    at = parse(at, end, minor, 16);
    skip(1);
    mapping.inode = 0;
    at = parse(at, end, mapping.inode, 10);
    mapping.has_device = major != 0 || minor != 0;
    while (at < end && *at == ' ') at++;
    mapping.name = std::string_view(at, static_cast<std::size_t>(end - at));
    return true;
}

Status for_each_mapping(pid_t process, const std::function<void(const Mapping&)>& visit) {
    auto text = read_proc_file(process, "maps");
    if (!text) return std::unexpected(text.error());
    if (text->empty()) return fail(ESRCH, "process {} has no memory any more", process);
    for_each_line(*text, [&](std::string_view line) {
        Mapping mapping;
        if (parse_mapping(line, mapping)) visit(mapping);
    });
    return {};
}

Result<Mapping> mapping_at(int maps_fd, std::uint64_t address, std::span<char> name) {
    procmap_query query{};
    query.size = sizeof query;
    query.query_addr = address;
    query.vma_name_addr = reinterpret_cast<std::uintptr_t>(name.data());
    query.vma_name_size = static_cast<std::uint32_t>(name.size());
    int result = ioctl(maps_fd, PROCMAP_QUERY, &query);
    if (result != 0 && errno == ENAMETOOLONG) {
        std::ranges::fill(name, '?');
        query.vma_name_addr = 0;
        query.vma_name_size = 0;
        result = ioctl(maps_fd, PROCMAP_QUERY, &query);
        query.vma_name_size = static_cast<std::uint32_t>(name.size());
    }
    if (result != 0) return fail_errno(errno, "cannot ask for the mapping at {:#x}", address);
    const auto letter = [&](std::uint64_t flag, char is) { return (query.vma_flags & flag) != 0 ? is : '-'; };
    Mapping mapping;
    mapping.start = query.vma_start;
    mapping.end = query.vma_end;
    mapping.permissions[0] = letter(PROCMAP_QUERY_VMA_READABLE, 'r');
    mapping.permissions[1] = letter(PROCMAP_QUERY_VMA_WRITABLE, 'w');
    mapping.permissions[2] = letter(PROCMAP_QUERY_VMA_EXECUTABLE, 'x');
    mapping.permissions[3] = (query.vma_flags & PROCMAP_QUERY_VMA_SHARED) != 0 ? 's' : 'p';
    mapping.offset = query.vma_offset;
    mapping.inode = query.inode;
    mapping.has_device = query.dev_major != 0 || query.dev_minor != 0;
    if (query.vma_name_size > 0) mapping.name = std::string_view(name.data(), query.vma_name_size - 1);
    return mapping;
}

Result<Mapping> find_mapping(pid_t process, std::string_view name) {
    Mapping found;
    auto visited = for_each_mapping(process, [&](const Mapping& mapping) {
        if (found.end == 0 && mapping.name == name) found = mapping;
    });
    if (!visited) return std::unexpected(visited.error());
    if (found.end == 0) return fail(ENOENT, "process {} has no mapping {}", process, name);
    found.name = {};
    return found;
}

namespace {
/// What is in a text of /proc/PID/smaps: for each mapping its line of maps, then "Label: value" lines, the
/// last of them VmFlags.
template <typename Visit>
void visit_details(std::string_view text, Visit visit) {
    MappingDetail detail;
    for_each_line(text, [&](std::string_view line) {
        constexpr std::string_view flags = "VmFlags:", anonymous = "Anonymous:";
        if (line.starts_with(flags)) {
            detail.flags = line.substr(flags.size());
            visit(detail);
        } else if (line.starts_with(anonymous)) {
            detail.anonymous = labelled_number(line, anonymous) * 1024;
        } else if (!line.empty() && (line[0] < 'A' || line[0] > 'Z')) {
            detail = {};
            parse_mapping(line, detail.mapping);
        }
    });
}
}  // namespace

Status for_each_mapping_detail(pid_t process, const std::function<void(const MappingDetail&)>& visit) {
    auto text = read_proc_file(process, "smaps");
    if (!text) return std::unexpected(text.error());
    if (text->empty()) return fail(ESRCH, "process {} has no memory any more", process);
    visit_details(*text, visit);
    return {};
}

Result<ForkRanges> fork_ranges(pid_t process, std::uint64_t witness) {
    Fd fd(open(ProcPath(process, "smaps").text, O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno(ESRCH, "cannot read the mappings of process {}", process);
    auto text = read_to_end(fd.get());
    if (!text) return std::unexpected(text.error());
    ForkRanges ranges;
    bool witnessed = false;
    visit_details(*text, [&](const MappingDetail& detail) {
        const AddressRange range{detail.mapping.start, detail.mapping.end};
        witnessed |= range.start == witness;
        if (detail.has_flag(" wf"))
            ranges.wiped.push_back(range);
        else if (!detail.has_flag(" dc"))
            ranges.inherited.push_back(range);
    });
    // The file ends early, without an error, when the address space is given up between two reads.
    char byte;
    if (!witnessed || pread(fd.get(), &byte, 1, 0) != 1)
        return fail(ESRCH, "process {} has gone on", process);
    return ranges;
}

Result<MemoryUse> read_memory_use(int status_fd) {
    char text[4096];
    const ssize_t got = pread(status_fd, text, sizeof text, 0);
    if (got <= 0) return fail(ESRCH, "the process is gone");
    const std::string_view view(text, static_cast<std::size_t>(got));
    MemoryUse use;
    use.rss_anon = labelled_number(view, "RssAnon:") * 1024;
    use.rss_shmem = labelled_number(view, "RssShmem:") * 1024;
    use.hugetlb = labelled_number(view, "HugetlbPages:") * 1024;
    use.swap = labelled_number(view, "VmSwap:") * 1024;
    use.has_memory = find_label(view, "VmRSS:") != view.npos;
    use.threads = static_cast<std::uint32_t>(labelled_number(view, "Threads:"));
    return use;
}

Result<MemorySize> read_memory_size(int statm_fd) {
    char text[128];
    const ssize_t got = pread(statm_fd, text, sizeof text, 0);
    if (got <= 0) return fail(ESRCH, "the process is gone");
    const char* const end = text + got;
    std::uint64_t pages[3] = {};
    const char* at = text;
    for (std::uint64_t& number : pages) at = std::min(parse(at, end, number, 10) + 1, end);
    return MemorySize{pages[0] * kPageSize, pages[1] * kPageSize, std::min(pages[2], pages[1]) * kPageSize};
}

std::uint64_t read_newest_task(int loadavg_fd) {
    char text[128];
    const ssize_t got = pread(loadavg_fd, text, sizeof text, 0);
    if (got <= 0) return 0;
    const std::string_view line(text, static_cast<std::size_t>(got));
    const std::size_t space = line.rfind(' ');
    std::uint64_t number = 0;
    if (space != line.npos) parse(line.data() + space + 1, line.data() + line.size(), number, 10);
    return number;
}

Result<std::uint64_t> read_pss(pid_t process) {
    auto text = read_proc_file(process, "smaps_rollup");
    if (!text) return std::unexpected(text.error());
    return (labelled_number(*text, "Pss_Anon:") + labelled_number(*text, "Pss_Shmem:")) * 1024;
}

std::vector<pid_t> all_processes() {
    std::vector<pid_t> processes;
    append_numeric_entries("/proc", processes);
    return processes;
}

void append_threads(pid_t process, std::vector<pid_t>& threads) {
    append_numeric_entries(ProcPath(process, "task").text, threads);
}

void append_children(pid_t process, std::vector<pid_t>& children) {
    thread_local std::vector<pid_t> threads;
    threads.clear();
    append_threads(process, threads);
    for (pid_t thread : threads) {
        char path[64];
        std::snprintf(path, sizeof path, "/proc/%d/task/%d/children", process, thread);
        Fd fd(open(path, O_RDONLY | O_CLOEXEC));
        if (!fd) continue;
        char text[65536];
        const ssize_t got = read(fd.get(), text, sizeof text - 1);
        if (got <= 0) continue;
        const char* end = text + got;
        for (const char* at = text; at < end;) {
            pid_t child = 0;
            const char* after = parse(at, end, child, 10);
            if (child > 0) children.push_back(child);
            at = after + 1;
        }
    }
}

char read_state(pid_t process) {
    const ShortFile text(process, "stat");
    return text ? stat_field(*text, 3).front() : '\0';
}

pid_t read_parent(pid_t process) {
    const ShortFile text(process, "stat");
    return text ? std::atoi(stat_field(*text, 4).data()) : 0;
}

pid_t read_process(pid_t thread) {
    const ShortFile text(thread, "status");
    return text ? static_cast<pid_t>(labelled_number(*text, "Tgid:", 10)) : 0;
}

namespace {
bool lives(pid_t task) {
    const char state = read_state(task);
    return state != '\0' && state != 'Z' && state != 'X';
}
}  // namespace

std::uint32_t read_exit_status(pid_t process) {
    const ShortFile text(process, "stat");
    return text ? std::strtoul(stat_field(*text, 52).data(), nullptr, 10) >> 8 & 0xff : 0;
}

bool is_alone(pid_t task, pid_t process) {
    if (read_state(process) != 'Z') return false;
    thread_local std::vector<pid_t> threads;
    threads.clear();
    append_threads(process, threads);
    return std::ranges::none_of(threads, [task](pid_t thread) { return thread != task && lives(thread); });
}

pid_t living_task(pid_t process) {
    if (lives(process)) return process;
    std::vector<pid_t> threads;
    append_threads(process, threads);
    const auto found = std::ranges::find_if(threads, lives);
    return found == threads.end() ? 0 : *found;
}

namespace {
bool has_flag(pid_t task, unsigned long flags) {
    const ShortFile text(task, "stat");
    return text && (std::strtoul(stat_field(*text, 9).data(), nullptr, 10) & flags) != 0;
}
}  // namespace

bool is_kernel_worker(pid_t thread) {
    constexpr unsigned long kIoWorker = 0x10, kUserWorker = 0x4000;
    return has_flag(thread, kIoWorker | kUserWorker);
}

bool is_kernel_thread(pid_t process) {
    constexpr unsigned long kKernelThread = 0x00200000;
    return has_flag(process, kKernelThread);
}

std::string read_name(pid_t task) {
    const ShortFile text(task, "comm");
    if (!text) return {};
    std::string name(*text);
    while (name.ends_with('\n')) name.pop_back();
    return name;
}

pid_t read_tracer(pid_t task) {
    const ShortFile text(task, "status");
    return text ? static_cast<pid_t>(labelled_number(*text, "TracerPid:")) : 0;
}

std::optional<uid_t> read_user(pid_t process) {
    const ShortFile text(process, "status");
    if (!text) return std::nullopt;
    return static_cast<uid_t>(labelled_number(*text, "Uid:"));
}

std::chrono::nanoseconds read_run_time(pid_t thread) {
    const ShortFile text(thread, "schedstat");
    return std::chrono::nanoseconds(text ? std::atoll((*text).data()) : 0);
}

double read_user_time(pid_t process) {
    const ShortFile text(process, "stat");
    if (!text) return 0;
    const auto ticks = [&](int field) { return std::strtoull(stat_field(*text, field).data(), nullptr, 10); };
    return static_cast<double>(ticks(14) + ticks(16)) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::uint64_t read_minor_faults(pid_t process) {
    const ShortFile text(process, "stat");
    return text ? std::strtoull(stat_field(*text, 10).data(), nullptr, 10) : 0;
}

SeccompState read_seccomp(pid_t task) {
    const ShortFile text(task, "status");
    if (!text) return {};
    return {static_cast<int>(labelled_number(*text, "Seccomp:")), labelled_number(*text, "Seccomp_filters:")};
}

bool signal_is_deliverable(pid_t task, std::uint64_t blocked) {
    const ShortFile text(task, "status");
    if (!text) return false;
    const std::uint64_t pending =
        labelled_number(*text, "SigPnd:", 16) | labelled_number(*text, "ShdPnd:", 16);
    return (pending & ~blocked) != 0;
}

bool is_ending(pid_t process) {
    constexpr unsigned long kExiting = 0x4;  // PF_EXITING (linux/sched.h)
    const char state = read_state(process);
    return state == '\0' || state == 'Z' || state == 'X' || has_flag(process, kExiting) ||
           signal_is_deliverable(process, ~(std::uint64_t{1} << (SIGKILL - 1)));
}

bool share_address_space(pid_t a, pid_t b) {
    return syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0) == 0;
}

}  // namespace farswap::target
