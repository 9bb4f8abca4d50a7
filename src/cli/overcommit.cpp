// Reads and switches vm.overcommit_memory; see overcommit.h.
#include "cli/overcommit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "base/log.h"
#include "cli/sizes.h"

namespace farswap::cli {

namespace {

/// The digits that a setting's file holds; empty when it holds anything else.
std::string digits_of(const std::string& path) {
    auto text = read_text_file(path).value_or("");
    while (text.ends_with('\n')) text.pop_back();
    return text.find_first_not_of("0123456789") == std::string::npos ? text : std::string();
}

bool write_text(int fd, std::string_view text) {
    return ::pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

Status write_setting(const std::string& path, std::string_view value) {
    const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || !write_text(file.get(), value))
        return fail(errno,
                    "--overcommit: cannot set vm.overcommit_memory ({}); run farswap as root, or have an "
                    "administrator "
                    "type: sysctl vm.overcommit_memory=1",
                    ::strerrordesc_np(errno));
    return {};
}

std::string note_of(const OvercommitPaths& paths) {
    return paths.directory + "/overcommit";
}

/// Nothing (ENOENT) when the last holder has just removed the directory.
Result<Fd> open_note(const OvercommitPaths& paths) {
    if (::mkdir(paths.directory.c_str(), 0755) < 0 && errno != EEXIST)
        return fail_errno(errno, "--overcommit needs root: cannot make {}", paths.directory);
    // Root's alone: a lock of anybody else would keep the last holder from going back.
    Fd note(::open(note_of(paths).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!note) return fail_errno(errno, "--overcommit needs root: cannot open {}", note_of(paths));
    return note;
}

/// Whether the open file still has its name. Only who has the exclusive lock takes it away.
bool is_in_place(int fd, const std::string& path) {
    struct stat ours {};
    struct stat there {};
    return ::fstat(fd, &ours) == 0 && ::stat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

/// With the exclusive lock.
void remove_note(const OvercommitPaths& paths) {
    ::unlink(note_of(paths).c_str());
    ::rmdir(paths.directory.c_str());  // unless somebody else has something there
}

int lock_file(int fd, int operation) {
    int result;
    do result = ::flock(fd, operation);
    while (result < 0 && errno == EINTR);
    return result;
}

/// With the exclusive lock: notes the value to go back to, unless a killed holder has left one, and sets 1.
Status take_over(int lock, const OvercommitPaths& paths) {
    const auto path = note_of(paths);
    if (digits_of(path).empty()) {
        const auto value = digits_of(paths.setting);
        if (value.empty()) return fail(EIO, "--overcommit: cannot read {}", paths.setting);
        if (!write_text(lock, value)) return fail_errno(errno, "--overcommit: cannot write {}", path);
    }
    return write_setting(paths.setting, "1");
}

}  // namespace

Result<OvercommitState> read_overcommit(const FileReader& read) {
    const auto mode = read("/proc/sys/vm/overcommit_memory");
    const auto meminfo = read("/proc/meminfo");
    if (!mode || !meminfo) return fail(EIO, "cannot read /proc/sys/vm/overcommit_memory and /proc/meminfo");
    OvercommitState state;
    std::from_chars(mode->data(), mode->data() + mode->size(), state.mode);
    const auto value = [&](const char* key) { return meminfo_bytes(*meminfo, key).value_or(0); };
    state.largest_mapping = value("MemTotal") + value("SwapTotal");
    state.commit_limit = value("CommitLimit");
    state.committed = value("Committed_AS");
    return state;
}

std::string overcommit_advice(const OvercommitState& state) {
    if (state.mode == 2)
        return fmt::format(
            "vm.overcommit_memory is 2: the kernel refuses memory beyond its commit limit of {} ({} used), "
            "whatever "
            "farswap does; type: sysctl vm.overcommit_memory=1",
            format_size(state.commit_limit), format_size(state.committed));
    if (state.mode == 0)
        return fmt::format(
            "vm.overcommit_memory is 0: the kernel refuses a single mapping larger than {}; if the program "
            "needs one, "
            "type: sysctl vm.overcommit_memory=1 (root may instead use farswap run --overcommit)",
            format_size(state.largest_mapping));
    return {};
}

Result<std::unique_ptr<OvercommitSwitch>> OvercommitSwitch::set(const OvercommitPaths& paths) {
    const auto path = note_of(paths);
    // Turning one kind of lock into the other is not atomic (flock(2)): between the two the last holder may
    // have gone back, so what counts is what is found under the shared lock, which nobody changes.
    while (true) {
        auto note = open_note(paths);
        if (!note && note.error().code == ENOENT) continue;
        if (!note) return std::unexpected(note.error());
        Fd lock = std::move(*note);
        if (lock_file(lock.get(), LOCK_EX | LOCK_NB) == 0) {
            if (!is_in_place(lock.get(), path)) continue;
            if (auto taken = take_over(lock.get(), paths); !taken) {
                remove_note(paths);
                return std::unexpected(taken.error());
            }
        }
        if (lock_file(lock.get(), LOCK_SH) < 0)
            return fail_errno(errno, "--overcommit: cannot lock {}", path);
        if (!is_in_place(lock.get(), path) || digits_of(path).empty()) continue;
        if (auto set = write_setting(paths.setting, "1"); !set) return std::unexpected(set.error());
        return std::unique_ptr<OvercommitSwitch>(new OvercommitSwitch(paths, std::move(lock)));
    }
}

OvercommitSwitch::~OvercommitSwitch() {
    if (lock_file(lock_.get(), LOCK_EX | LOCK_NB) < 0) return;  // others hold it; the last one goes back
    const auto value = digits_of(note_of(paths_));
    if (!value.empty() && digits_of(paths_.setting) == "1") {
        if (auto restored = write_setting(paths_.setting, value); !restored)
            log::warning("vm.overcommit_memory stays at 1; type: sysctl vm.overcommit_memory={}", value);
    }
    remove_note(paths_);
}

std::string overcommit_to_restore(const OvercommitPaths& paths) {
    return digits_of(note_of(paths));
}

}  // namespace farswap::cli
