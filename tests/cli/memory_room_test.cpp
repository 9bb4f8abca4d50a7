// How much RAM a process could still take, from texts as kernels write them.
#include "cli/memory_room.h"
#include "base/units.h"

#include <gmock/gmock.h>

#include <map>

namespace farswap::cli {
namespace {

using ::testing::HasSubstr;

constexpr pid_t kProcess = 77;

MemoryRoom room_with(std::map<std::string, std::string> files) {
    files.try_emplace("/proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n");
    const auto room = memory_room(kProcess, [&](const std::string& path) -> std::optional<std::string> {
        const auto file = files.find(path);
        if (file == files.end()) return std::nullopt;
        return file->second;
    });
    return room.value_or(MemoryRoom{0, "none"});
}

const std::map<std::string, std::string> kInAGroup = {
    {"/proc/77/cgroup", "0::/batch/job\n"},
    {"/proc/self/mountinfo", "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"}};

TEST(MemoryRoom, IsWhatTheMachineHasAvailable) {
    EXPECT_EQ(room_with({}).bytes, 2048 * kMiB);
    EXPECT_EQ(room_with({}).source, "the machine");
    EXPECT_EQ(room_with({{"/proc/meminfo", "MemTotal: 5 kB\n"}}).source, "none");
}

TEST(MemoryRoom, IsTheLeastOfAllGroupsAboveTheProcess) {
    auto files = kInAGroup;
    files["/sys/fs/cgroup/batch/job/memory.max"] = "max\n";
    files["/sys/fs/cgroup/batch/job/memory.current"] = "1048576\n";
    files["/sys/fs/cgroup/batch/memory.max"] = "1073741824\n";
    files["/sys/fs/cgroup/batch/memory.current"] = "805306368\n";
    EXPECT_EQ(room_with(files).bytes, 256 * kMiB);
    EXPECT_EQ(room_with(files).source, "/sys/fs/cgroup/batch");
}

TEST(MemoryRoom, PageCacheThatCouldGoIsRoom) {
    auto files = kInAGroup;
    files["/sys/fs/cgroup/batch/job/memory.max"] = "1073741824\n";
    files["/sys/fs/cgroup/batch/job/memory.current"] = "1073741824\n";
    files["/sys/fs/cgroup/batch/job/memory.stat"] = "anon 1\ninactive_file 104857600\nactive_file 5\n";
    EXPECT_EQ(room_with(files).bytes, 100 * kMiB);
    files["/sys/fs/cgroup/batch/job/memory.current"] = "2073741824\n";
    EXPECT_EQ(room_with(files).bytes, 0u) << "a limit that was lowered";
}

TEST(MemoryRoom, ReadsVersionOne) {
    const auto room = room_with(
        {{"/proc/77/cgroup", "4:memory:/job\n"},
         {"/proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"},
         {"/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "536870912\n"},
         {"/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "104857600\n"},
         {"/sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 1048576\n"}});
    EXPECT_EQ(room.bytes, 413 * kMiB);
}

TEST(MemoryRoom, ARefusalSaysBothNumbers) {
    EXPECT_TRUE(check_room(100 * kMiB, {100 * kMiB, "the machine"}));
    const auto refused = check_room(300 * kMiB, {100 * kMiB, "the machine"});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("300 MiB"));
    EXPECT_THAT(refused.error().message, HasSubstr("the machine has room for 100 MiB"));
}

}  // namespace
}  // namespace farswap::cli
