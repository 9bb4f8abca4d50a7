// How much memory this process may use: the machine's, or the tightest enclosing memory cgroup's (v1 and v2).
// Parses text; reads files only through the reader that it is given.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace farswap::cli {

/// One line of /proc/self/cgroup (cgroups(7)): "4:memory:/user/a" or, for v2, "0::/user.slice/b".
struct CgroupMembership {
    std::vector<std::string> controllers;  ///< empty for the v2 hierarchy
    std::string path;                      ///< as seen from the cgroup namespace's root
};
std::vector<CgroupMembership> parse_cgroup(std::string_view text);

/// A mounted cgroup hierarchy of /proc/self/mountinfo (proc(5)).
struct CgroupMount {
    bool v2 = false;
    std::vector<std::string> controllers;  ///< v1: those of its super options
    std::string root;                      ///< the cgroup that is mounted at `point`
    std::string point;                     ///< absolute path
};
std::vector<CgroupMount> parse_cgroup_mounts(std::string_view mountinfo);

/// Where one of the process's memory cgroups is found in the file system.
struct CgroupDirectory {
    bool v2 = false;
    std::string top;   ///< the mount point: the outermost level that can be seen
    std::string leaf;  ///< the process's own level; equal to `top` or below it
};
std::vector<CgroupDirectory> memory_cgroups(const std::vector<CgroupMembership>& memberships,
                                            const std::vector<CgroupMount>& mounts);

/// The number behind `key` in /proc/meminfo, in bytes ("MemTotal:  24683520 kB").
std::optional<std::uint64_t> meminfo_bytes(std::string_view meminfo, std::string_view key);

/// Gives a file's whole text, or nothing when it cannot be read.
using FileReader = std::function<std::optional<std::string>(const std::string& path)>;
/// The reader for the real files.
std::optional<std::string> read_text_file(const std::string& path);

struct MemoryLimit {
    std::uint64_t bytes = 0;
    std::string source;  ///< "the machine's RAM", or the cgroup file that holds the limit
};
/// The tightest of MemTotal and every limit from the process's memory cgroups up to the mount points:
/// memory.max and memory.high (v2), memory.limit_in_bytes and the hierarchical_memory_limit of memory.stat
/// (v1, which also tells of levels that a container does not see). EIO when /proc/meminfo cannot be read.
Result<MemoryLimit> tightest_memory_limit(const FileReader& read);

}  // namespace farswap::cli
