#include "target/memory_gauge.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace farswap::target {

bool MemoryGauge::open(pid_t task) {
    use_ = {};
    statm_.reset(::open(fmt::format("/proc/{}/statm", task).c_str(), O_RDONLY | O_CLOEXEC));
    status_.reset(::open(fmt::format("/proc/{}/status", task).c_str(), O_RDONLY | O_CLOEXEC));
    return statm_ && status_;
}

Result<MemoryUse> MemoryGauge::read(bool everything) {
    const auto size = read_memory_size(statm_.get());
    if (!size) return std::unexpected(size.error());
    // Shared memory and files are counted as one there; a mapping of huge pages shows in what is mapped, and
    // what is touched of it does not.
    const bool as_before = size->mapped == size_.mapped && size->shared == size_.shared;
    if (!everything && use_.has_memory && use_.hugetlb == 0 && size->resident > 0 && as_before) {
        use_.rss_anon = size->resident - size->shared;
        return use_;
    }
    auto use = read_memory_use(status_.get());
    use_ = use.value_or(MemoryUse{});
    size_ = *size;
    return use;
}

}  // namespace farswap::target
