#include "cli/memory_room.h"

#include <charconv>

#include "cli/sizes.h"

namespace farswap::cli {
namespace {

std::optional<std::uint64_t> read_number(const FileReader& read, const std::string& path) {
    const auto text = read(path);
    std::uint64_t value = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc())
        return std::nullopt;  // "max", or there is no such file
    return value;
}

/// The number on the line that begins with `key` in a memory.stat; 0 when there is none.
std::uint64_t stat_number(const FileReader& read, const std::string& directory, const std::string& key) {
    const auto text = read(directory + "/memory.stat").value_or("");
    const auto at = text.starts_with(key + " ") ? 0 : text.find("\n" + key + " ");
    if (at == std::string::npos) return 0;
    const char* digits = text.data() + at + (at == 0 ? 0 : 1) + key.size() + 1;
    std::uint64_t value = 0;
    std::from_chars(digits, text.data() + text.size(), value);
    return value;
}

/// The room in one cgroup by its own limit; nothing when it has none.
std::optional<std::uint64_t> room_in(const FileReader& read, const CgroupDirectory& at,
                                     const std::string& level) {
    const auto limit = read_number(read, level + (at.v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    const auto used = read_number(read, level + (at.v2 ? "/memory.current" : "/memory.usage_in_bytes"));
    if (!limit || !used) return std::nullopt;
    const std::uint64_t cache = stat_number(read, level, at.v2 ? "inactive_file" : "total_inactive_file");
    const std::uint64_t kept = *used - std::min(*used, cache);
    return *limit - std::min(*limit, kept);
}

}  // namespace

Result<MemoryRoom> memory_room(pid_t process, const FileReader& read) {
    const auto available = meminfo_bytes(read("/proc/meminfo").value_or(""), "MemAvailable");
    if (!available) return fail(EIO, "cannot read MemAvailable in /proc/meminfo; mount /proc");
    MemoryRoom room{*available, "the machine"};
    const auto memberships = parse_cgroup(read(fmt::format("/proc/{}/cgroup", process)).value_or(""));
    const auto mounts = parse_cgroup_mounts(read("/proc/self/mountinfo").value_or(""));
    for (const auto& directory : memory_cgroups(memberships, mounts)) {
        for (std::string level = directory.leaf;; level.resize(level.rfind('/'))) {
            const auto left = room_in(read, directory, level);
            if (left && *left < room.bytes) room = {*left, level};
            if (level.size() <= directory.top.size()) break;
        }
    }
    return room;
}

Status check_room(std::uint64_t wanted, const MemoryRoom& room) {
    if (wanted <= room.bytes) return {};
    return fail(ENOMEM, "{} are outside and would have to come back, but {} has room for {}",
                format_size(wanted), room.source, format_size(room.bytes));
}

}  // namespace farswap::cli
