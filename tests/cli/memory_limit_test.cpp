// The tightest memory limit, from texts as kernels write them.
#include "cli/memory_limit.h"
#include "base/units.h"

#include <gtest/gtest.h>

#include <map>

namespace farswap::cli {
namespace {

/// A machine's files.
struct Files {
    std::map<std::string, std::string> text;

    MemoryLimit limit() const {
        const auto found =
            tightest_memory_limit([this](const std::string& path) -> std::optional<std::string> {
                const auto file = text.find(path);
                if (file == text.end()) return std::nullopt;
                return file->second;
            });
        return found.value_or(MemoryLimit{0, "none"});
    }
};

constexpr const char* kMeminfo = "MemTotal:       16384000 kB\nMemFree:         1000 kB\nMemTotalX: 1 kB\n";
constexpr std::uint64_t kMemTotal = 16384000ull * 1024;

constexpr const char* kV2Mount =
    "24 30 0:22 / /proc rw,nosuid - proc proc rw\n"
    "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

TEST(MemoryLimit, IsTheMachinesWithoutCgroups) {
    const Files files{{{"/proc/meminfo", kMeminfo}}};
    EXPECT_EQ(files.limit().bytes, kMemTotal);
    EXPECT_EQ(files.limit().source, "the machine's RAM");
    EXPECT_EQ(Files{}.limit().source, "none") << "without /proc there is no answer";
}

TEST(MemoryLimit, WalksUpTheUnifiedHierarchy) {
    Files files{{{"/proc/meminfo", kMeminfo},
                 {"/proc/self/cgroup", "0::/user.slice/user-1000.slice/job.scope\n"},
                 {"/proc/self/mountinfo", kV2Mount},
                 {"/sys/fs/cgroup/user.slice/user-1000.slice/job.scope/memory.max", "max\n"},
                 {"/sys/fs/cgroup/user.slice/user-1000.slice/memory.max", "1073741824\n"},
                 {"/sys/fs/cgroup/user.slice/memory.max", "2147483648\n"}}};
    EXPECT_EQ(files.limit().bytes, 1024 * kMiB);
    EXPECT_EQ(files.limit().source, "/sys/fs/cgroup/user.slice/user-1000.slice/memory.max");
    files.text["/sys/fs/cgroup/user.slice/memory.high"] = "536870912\n";
    EXPECT_EQ(files.limit().bytes, 512 * kMiB) << "above memory.high the kernel throttles";
}

TEST(MemoryLimit, ReadsVersionOne) {
    const Files files{{{"/proc/meminfo", kMeminfo},
                       {"/proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/batch/job7\n0::/\n"},
                       {"/proc/self/mountinfo",
                        "33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpuset\n"
                        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,cpu,memory\n"},
                       {"/sys/fs/cgroup/memory/batch/job7/memory.limit_in_bytes", "9223372036854771712\n"},
                       {"/sys/fs/cgroup/memory/batch/memory.limit_in_bytes", "268435456\n"}}};
    EXPECT_EQ(files.limit().bytes, 256 * kMiB);
}

TEST(MemoryLimit, KnowsLevelsThatAContainerDoesNotSee) {
    const Files files{
        {{"/proc/meminfo", kMeminfo},
         {"/proc/self/cgroup", "4:memory:/docker/abc\n"},
         {"/proc/self/mountinfo",
          "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"},
         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
         {"/sys/fs/cgroup/memory/memory.stat", "cache 1\nhierarchical_memory_limit 134217728\n"}}};
    EXPECT_EQ(files.limit().bytes, 128 * kMiB);
}

TEST(MemoryLimit, UsesTheMountPointForAPathOutsideTheNamespace) {
    const Files files{{{"/proc/meminfo", kMeminfo},
                       {"/proc/self/cgroup", "0::/../../other\n"},
                       {"/proc/self/mountinfo", kV2Mount},
                       {"/sys/fs/cgroup/memory.max", "67108864\n"}}};
    EXPECT_EQ(files.limit().bytes, 64 * kMiB);
}

TEST(MemoryLimit, TakesTheTighterOfBothVersions) {
    const Files files{
        {{"/proc/meminfo", kMeminfo},
         {"/proc/self/cgroup", "4:memory:/a\n0::/b\n"},
         {"/proc/self/mountinfo",
          std::string(kV2Mount) + "35 31 0:32 / /mnt/cg\\040one rw - cgroup cgroup rw,memory\n"},
         {"/mnt/cg one/a/memory.limit_in_bytes", "200000000\n"},
         {"/sys/fs/cgroup/b/memory.max", "300000000\n"}}};
    EXPECT_EQ(files.limit().bytes, 200000000u);
}

TEST(CgroupParsing, SkipsWhatItDoesNotKnow) {
    EXPECT_TRUE(parse_cgroup("nonsense\n\n1\n").empty());
    EXPECT_TRUE(parse_cgroup_mounts("36 35 98:0 / /mnt rw\nx - cgroup\n - \n").empty());
    const auto lines = parse_cgroup("0::/a:b\n");
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(lines[0].path, "/a:b");
    EXPECT_TRUE(lines[0].controllers.empty());
}

TEST(CgroupParsing, DoesNotTakeASiblingForTheMountsRoot) {
    const auto found =
        memory_cgroups({{{"memory"}, "/docker/abcdef/x"}}, {{false, {"memory"}, "/docker/abc", "/cg"}});
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].leaf, "/cg");
}

// Texts that no kernel writes; they come through a container's /proc.
TEST(MemoryLimit, PathsThatAreNotAbsoluteAreNoDirectories) {
    const Files files{{{"/proc/meminfo", kMeminfo},
                       {"/proc/self/cgroup", "0::job\n1:memory:\n"},
                       {"/proc/self/mountinfo", "31 23 0:27 / cgroup rw - cgroup2 cgroup2 rw\n"}}};
    EXPECT_EQ(files.limit().bytes, kMemTotal);
    EXPECT_TRUE(parse_cgroup("0::job\n1:memory:\n").empty());
    EXPECT_TRUE(parse_cgroup_mounts("31 23 0:27 / cgroup rw - cgroup2 cgroup2 rw\n").empty());
}

}  // namespace
}  // namespace farswap::cli
