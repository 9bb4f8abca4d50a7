// Loaded into a debugger by `farswap debug` (LD_PRELOAD): what it reads by /proc/PID/mem of a process that is
// paged it gets also where a page is outside. The kernel does not wait for such pages there
// (access_remote_vm() in mm/memory.c faults without FAULT_FLAG_ALLOW_RETRY) and says EIO. Nothing is brought
// in.
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>

#include "cli/outside_memory.h"
#include "farswap/request.h"

namespace farswap::cli {
namespace {

using Pread = ssize_t (*)(int, void*, size_t, off_t);

Pread next_pread() {
    static const auto next = reinterpret_cast<Pread>(dlsym(RTLD_NEXT, "pread64"));
    return next;
}

/// Whose memory the descriptor is: of /proc/PID/mem or /proc/PID/task/TID/mem. 0: it is something else.
pid_t process_of(int fd) {
    std::array<char, 64> target{};
    const ssize_t length =
        readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target.data(), target.size());
    constexpr std::string_view before = "/proc/", after = "/mem";
    const std::string_view path(target.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
    if (!path.starts_with(before) || !path.ends_with(after)) return 0;
    pid_t process = 0;
    std::from_chars(path.data() + before.size(), path.data() + path.size(), process);
    return process;
}

/// Reads what is outside from `offset` on; less than `bytes`, or 0, where it ends.
std::size_t read_outside(pid_t process, std::byte* into, std::size_t bytes, std::uint64_t offset) {
    static std::mutex mutex;
    static std::map<pid_t, OutsideMemory> connections;
    const std::lock_guard lock(mutex);
    auto found = connections.find(process);
    if (found == connections.end()) {
        auto opened = OutsideMemory::open(process);
        if (!opened) return 0;
        found = connections.emplace(process, std::move(*opened)).first;
    }
    std::array<std::byte, OutsideMemory::kPagesMax * kPageSize> content;
    const std::uint64_t start = offset / kPageSize * kPageSize;
    const std::uint64_t wanted = (offset + bytes - start + kPageSize - 1) / kPageSize;
    const std::uint64_t pages = std::min<std::uint64_t>(wanted, OutsideMemory::kPagesMax);
    const auto outside = found->second.read(start, std::span(content).first(pages * kPageSize));
    if (!outside) {
        connections.erase(found);
        return 0;
    }
    std::uint64_t there = 0;
    while (there < pages && (*outside >> there & 1) != 0) there++;
    const std::uint64_t end = std::min(start + there * kPageSize, offset + bytes);
    if (end <= offset) return 0;
    std::memcpy(into, content.data() + (offset - start), end - offset);
    return end - offset;
}

}  // namespace
}  // namespace farswap::cli

namespace {

ssize_t pread_far(int fd, void* into, size_t bytes, off_t offset) {
    using namespace farswap::cli;
    const ssize_t got = next_pread()(fd, into, bytes, offset);
    if (got >= 0 || errno != EIO || bytes == 0) return got;
    if (const pid_t process = process_of(fd); process > 0) {
        const auto address = static_cast<std::uint64_t>(offset);
        const std::size_t more = read_outside(process, static_cast<std::byte*>(into), bytes, address);
        if (more > 0) return static_cast<ssize_t>(more);
    }
    errno = EIO;
    return got;
}

}  // namespace

// By their names for the linker: the headers may have redirected one to the other (_FILE_OFFSET_BITS).
extern "C" {
[[gnu::visibility("default")]] ssize_t farswap_pread(int, void*, size_t, off_t) __asm__("pread");
[[gnu::visibility("default")]] ssize_t farswap_pread64(int, void*, size_t, off_t) __asm__("pread64");

ssize_t farswap_pread(int fd, void* into, size_t bytes, off_t offset) {
    return pread_far(fd, into, bytes, offset);
}
ssize_t farswap_pread64(int fd, void* into, size_t bytes, off_t offset) {
    return pread_far(fd, into, bytes, offset);
}
}
