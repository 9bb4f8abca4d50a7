#include "cli/core_mappings.h"

#include <cstdlib>

#include "cli/memory_limit.h"

namespace farswap::cli {
namespace {

enum FilterBit : std::uint32_t {
    kAnonymousPrivate = 1u << 0,
    kAnonymousShared = 1u << 1,
    kFilePrivate = 1u << 2,
    kFileShared = 1u << 3,
    kHugePrivate = 1u << 5,
    kHugeShared = 1u << 6,
};
constexpr std::uint32_t kDefaultFilter = 0x33;

bool is_shared(const target::Mapping& mapping) {
    return mapping.permissions[3] == 's';
}

/// Shared memory has an inode, too, of a file system that nobody sees.
bool is_shared_memory(const target::Mapping& mapping) {
    return mapping.name.starts_with("/dev/zero") || mapping.name.starts_with("/memfd:") ||
           mapping.name.starts_with("/SYSV") || mapping.name.starts_with("[anon_shmem:");
}

}  // namespace

std::uint32_t read_core_filter(pid_t process) {
    const auto text = read_text_file(fmt::format("/proc/{}/coredump_filter", process));
    return text ? static_cast<std::uint32_t>(std::strtoul(text->c_str(), nullptr, 16)) : kDefaultFilter;
}

bool is_private_anonymous(const target::Mapping& mapping) {
    return mapping.inode == 0 && !mapping.has_device && !is_shared(mapping) && mapping.name != "[vdso]";
}

bool is_dumped(const target::MappingDetail& detail, std::uint32_t filter) {
    const target::Mapping& mapping = detail.mapping;
    if (detail.has_flag(" dd") || detail.has_flag(" io") || mapping.name == "[vsyscall]") return false;
    const bool shared = is_shared(mapping);
    if (detail.has_flag(" ht")) return (filter & (shared ? kHugeShared : kHugePrivate)) != 0;
    if (mapping.name == "[vdso]") return true;
    if (shared) return (filter & (is_shared_memory(mapping) ? kAnonymousShared : kFileShared)) != 0;
    if (mapping.inode == 0 || detail.anonymous > 0) return (filter & kAnonymousPrivate) != 0;
    return (filter & kFilePrivate) != 0;
}

}  // namespace farswap::cli
