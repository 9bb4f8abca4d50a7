// Finds the tightest memory limit; see memory_limit.h.
#include "cli/memory_limit.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/fd.h"

namespace farswap::cli {

namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (true) {
        const auto end = text.find(separator);
        if (end != 0 && !text.empty()) parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

std::vector<std::string> split_strings(std::string_view text, char separator) {
    const auto parts = split(text, separator);
    return {parts.begin(), parts.end()};
}

/// mountinfo writes space, tab, newline and backslash as \ooo (proc(5)).
std::string unescape(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        int code = 0;
        if (text[i] == '\\' && i + 3 < text.size() &&
            std::from_chars(&text[i + 1], &text[i + 4], code, 8).ptr == &text[i + 4]) {
            out.push_back(static_cast<char>(code));
            i += 3;
        } else {
            out.push_back(text[i]);
        }
    }
    return out;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

/// The directory below the mount that shows cgroup `path`; the mount point itself when `path` lies outside
/// what is mounted (a namespace's "/../..", or a container that mounts only its own level).
std::string directory_of(const CgroupMount& mount, std::string_view path) {
    if (path.starts_with("/..")) return mount.point;
    std::string_view below = path;
    if (mount.root != "/") {
        if (!path.starts_with(mount.root)) return mount.point;
        below = path.substr(mount.root.size());
        if (!below.empty() && below[0] != '/') return mount.point;
    }
    return below == "/" ? mount.point : mount.point + std::string(below);
}

std::optional<std::uint64_t> number_of(std::string_view text) {
    std::uint64_t value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc()) return std::nullopt;  // "max"
    return value;
}

std::optional<std::uint64_t> value_after(std::string_view text, std::string_view key) {
    for (const auto line : split(text, '\n')) {
        if (!line.starts_with(key)) continue;
        const auto rest = line.substr(key.size());
        const auto digits = rest.find_first_not_of(" \t");
        if (digits == 0 || digits == std::string_view::npos) continue;  // a longer key, or no value
        return number_of(rest.substr(digits));
    }
    return std::nullopt;
}

class Tightest {
  public:
    Tightest(MemoryLimit first, const FileReader& read) : limit_(std::move(first)), read_(read) {}

    void consider_file(const std::string& path, std::string_view key = {}) {
        const auto text = read_(path);
        if (!text) return;
        const auto value = key.empty() ? number_of(*text) : value_after(*text, key);
        if (value && *value < limit_.bytes) limit_ = {*value, path};
    }

    void consider_level(const std::string& directory, bool v2) {
        if (v2) {
            consider_file(directory + "/memory.max");
            consider_file(directory + "/memory.high");
        } else {
            consider_file(directory + "/memory.limit_in_bytes");
            consider_file(directory + "/memory.stat", "hierarchical_memory_limit");
        }
    }

    MemoryLimit take() { return std::move(limit_); }

  private:
    MemoryLimit limit_;
    const FileReader& read_;
};

}  // namespace

std::vector<CgroupMembership> parse_cgroup(std::string_view text) {
    std::vector<CgroupMembership> memberships;
    for (const auto line : split(text, '\n')) {
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (first == std::string_view::npos || second == std::string_view::npos) continue;
        if (!line.substr(second + 1).starts_with('/')) continue;  // cgroups(7): relative to the mount point
        memberships.push_back({split_strings(line.substr(first + 1, second - first - 1), ','),
                               std::string(line.substr(second + 1))});
    }
    return memberships;
}

std::vector<CgroupMount> parse_cgroup_mounts(std::string_view mountinfo) {
    std::vector<CgroupMount> mounts;
    for (const auto line : split(mountinfo, '\n')) {
        // "36 35 98:0 ROOT POINT options [optional fields] - TYPE SOURCE SUPER-OPTIONS"
        const auto dash = line.find(" - ");
        if (dash == std::string_view::npos) continue;
        const auto before = split(line.substr(0, dash), ' ');
        const auto after = split(line.substr(dash + 3), ' ');
        if (before.size() < 6 || after.size() < 3) continue;
        if (after[0] != "cgroup" && after[0] != "cgroup2") continue;
        if (!before[4].starts_with('/')) continue;
        mounts.push_back({.v2 = after[0] == "cgroup2",
                          .controllers = split_strings(after[2], ','),
                          .root = unescape(before[3]),
                          .point = unescape(before[4])});
    }
    return mounts;
}

std::vector<CgroupDirectory> memory_cgroups(const std::vector<CgroupMembership>& memberships,
                                            const std::vector<CgroupMount>& mounts) {
    std::vector<CgroupDirectory> directories;
    for (const auto& membership : memberships) {
        const bool v2 = membership.controllers.empty();
        if (!v2 && !has(membership.controllers, "memory")) continue;
        const auto mount = std::find_if(mounts.begin(), mounts.end(), [v2](const CgroupMount& m) {
            return m.v2 == v2 && (v2 || has(m.controllers, "memory"));
        });
        if (mount == mounts.end()) continue;
        directories.push_back({v2, mount->point, directory_of(*mount, membership.path)});
    }
    return directories;
}

std::optional<std::uint64_t> meminfo_bytes(std::string_view meminfo, std::string_view key) {
    const auto kib = value_after(meminfo, std::string(key) + ":");
    if (!kib) return std::nullopt;
    return *kib * 1024;
}

std::optional<std::string> read_text_file(const std::string& path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return std::nullopt;
    std::string text;
    char buffer[4096];
    while (true) {
        const auto count = ::read(file.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return std::nullopt;
        if (count == 0) return text;
        text.append(buffer, static_cast<std::size_t>(count));
    }
}

Result<MemoryLimit> tightest_memory_limit(const FileReader& read) {
    const auto total = meminfo_bytes(read("/proc/meminfo").value_or(""), "MemTotal");
    if (!total)
        return fail(EIO, "cannot read MemTotal in /proc/meminfo; mount /proc, or give --ram a size (2G)");
    Tightest tightest({*total, "the machine's RAM"}, read);
    const auto directories = memory_cgroups(parse_cgroup(read("/proc/self/cgroup").value_or("")),
                                            parse_cgroup_mounts(read("/proc/self/mountinfo").value_or("")));
    for (const auto& [v2, top, leaf] : directories) {
        std::string level = leaf;
        while (true) {
            tightest.consider_level(level, v2);
            if (level.size() <= top.size()) break;
            level.resize(level.rfind('/'));
        }
    }
    return tightest.take();
}

}  // namespace farswap::cli
