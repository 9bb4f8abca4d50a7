// See file_memory.h.
#include "store/file_memory.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>

namespace farswap {

namespace {

/// f_type of statfs(2), or 0.
std::uint32_t file_system_type(const std::string& path) {
    struct statfs info {};
    return ::statfs(path.c_str(), &info) == 0 ? static_cast<std::uint32_t>(info.f_type) : 0;
}

bool is_memory(std::uint32_t type) {
    return type == TMPFS_MAGIC || type == RAMFS_MAGIC || type == HUGETLBFS_MAGIC;
}

/// Where the overlay with that device number keeps its changes (proc_pid_mountinfo(5)); empty when it is not
/// told.
std::string overlay_upper(dev_t device) {
    const std::string number = fmt::format(" {}:{} ", major(device), minor(device));
    constexpr std::string_view kOption = "upperdir=";
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        const std::size_t option = line.find(kOption);
        if (line.find(number) == std::string::npos || option == std::string::npos) continue;
        const std::size_t begin = option + kOption.size();
        return line.substr(begin, line.find_first_of(", ", begin) - begin);
    }
    return {};
}

bool lies_in_memory(const std::string& path) {
    const std::uint32_t type = file_system_type(path);
    struct stat info {};
    if (type != OVERLAYFS_SUPER_MAGIC || ::stat(path.c_str(), &info) != 0) return is_memory(type);
    // The upper directory may lie out of our sight (in a container): then it is believed to be on a disk.
    const std::string upper = overlay_upper(info.st_dev);
    return !upper.empty() && is_memory(file_system_type(upper));
}

}  // namespace

Status refuse_memory(const std::string& path) {
    if (!lies_in_memory(path)) return {};
    return fail(EINVAL,
                "{} is on a file system in memory (tmpfs), which saves none: name a place on a disk, or an "
                "nfs: store",
                path);
}

Status refuse_memory_device(dev_t device, const std::string& path) {
    const std::string entry = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
    std::error_code error;
    const std::string name = std::filesystem::read_symlink(entry, error).filename();
    std::string backing;
    std::getline(std::ifstream(entry + "/loop/backing_file"), backing);
    if (name.starts_with("ram") || name.starts_with("zram") || (!backing.empty() && lies_in_memory(backing)))
        return fail(EINVAL,
                    "{} is a device in memory, which saves none: name one on a disk, or an nfs: store", path);
    return {};
}

}  // namespace farswap
