// /proc/self/cgroup, mountinfo, meminfo and the files of cgroups, in whatever state a container shows them:
// the limit that is found is one of those that are there. The input is four texts with a form feed between
// them: the three files, and what every file of a cgroup holds.
#include <string>

#include "cli/memory_limit.h"
#include "fuzz.h"

using namespace farswap::cli;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr char kMark = '\f';
    std::string_view rest = farswap::fuzz::text_of(data, size);
    const std::string cgroup(farswap::fuzz::take_until(rest, kMark));
    const std::string mounts(farswap::fuzz::take_until(rest, kMark));
    const std::string meminfo(farswap::fuzz::take_until(rest, kMark));
    const std::string limit(rest);

    for (const CgroupDirectory& directory : memory_cgroups(parse_cgroup(cgroup), parse_cgroup_mounts(mounts)))
        PROMISE(directory.top.starts_with('/') && directory.leaf.starts_with(directory.top));
    int reads = 0;
    const FileReader read = [&](const std::string& path) -> std::optional<std::string> {
        ++reads;
        if (path == "/proc/self/cgroup") return cgroup;
        if (path == "/proc/self/mountinfo") return mounts;
        if (path == "/proc/meminfo") return meminfo;
        PROMISE(path.starts_with('/'));
        return limit;
    };
    const auto total = meminfo_bytes(meminfo, "MemTotal");
    const auto found = tightest_memory_limit(read);
    PROMISE(found.has_value() == total.has_value());
    if (found) PROMISE(found->bytes <= *total && !found->source.empty());
    // Three files, and at most two for each level of each hierarchy: a level is at least one byte.
    PROMISE(static_cast<std::size_t>(reads) <=
            3 + 2 * (cgroup.size() + 1) * (mounts.size() + cgroup.size() + 1));
    return 0;
}
