#include "cli/core_memory.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <vector>

#include "farswap/request.h"
#include "target/pagemap.h"

namespace farswap::cli {
namespace {

constexpr std::uint64_t kChunkBytes = OutsideMemory::kPagesMax * kPageSize;

bool is_in(const std::vector<target::AddressRange>& ranges, std::uint64_t page) {
    const auto behind = std::ranges::upper_bound(ranges, page, {}, &target::AddressRange::start);
    return behind != ranges.begin() && page < (behind - 1)->end;
}

}  // namespace

Result<CoreMemory> CoreMemory::open(pid_t process, OutsideMemory& far) {
    Fd memory(::open(fmt::format("/proc/{}/mem", process).c_str(), O_RDONLY | O_CLOEXEC));
    Fd pagemap(::open(fmt::format("/proc/{}/pagemap", process).c_str(), O_RDONLY | O_CLOEXEC));
    if (!memory || !pagemap) return fail_errno(errno, "cannot open the memory of process {}", process);
    return CoreMemory(process, std::move(memory), std::move(pagemap), far);
}

Result<bool> CoreMemory::has_any(const target::AddressRange& range) {
    for (std::uint64_t at = range.start; at < range.end;) {
        auto outside = far_.outside(at, range.end);
        if (!outside) return std::unexpected(outside.error());
        if (!outside->ranges.empty()) return true;
        at = outside->until;
    }
    return target::first_mapped(pagemap_.get(), range.start, range.end) < range.end;
}

/// First what is outside, then what is inside: held, a page can only come in between the two looks.
Status CoreMemory::read_anonymous(const target::AddressRange& range, const Sink& sink) {
    std::uint64_t at = range.start;
    while (at < range.end) {
        auto outside = far_.outside(at, range.end);
        if (!outside) return std::unexpected(outside.error());
        while (at < outside->until) {
            const auto next_outside =
                std::ranges::find_if(outside->ranges, [at](const auto& one) { return one.end > at; });
            std::uint64_t next = target::first_mapped(pagemap_.get(), at, outside->until);
            if (next_outside != outside->ranges.end())
                next = std::min(next, std::max(next_outside->start, at));
            if (next > at) {
                if (auto put = sink.zeros(next - at); !put) return put;
                at = next;
                continue;
            }
            const target::AddressRange chunk{at, std::min(at + kChunkBytes, outside->until)};
            if (auto put = read_chunk(chunk, *outside, sink); !put) return put;
            at = chunk.end;
        }
    }
    return {};
}

Status CoreMemory::read_chunk(const target::AddressRange& chunk, const OutsideMemory::Outside& outside,
                              const Sink& sink) {
    std::array<std::byte, kChunkBytes> content{};
    const std::span<std::byte> wanted(content.data(), chunk.end - chunk.start);
    const std::size_t pages = wanted.size() / kPageSize;
    std::uint32_t done = 0;
    bool any_outside = false;
    for (std::size_t i = 0; i < pages; i++) any_outside |= is_in(outside.ranges, chunk.start + i * kPageSize);
    if (any_outside) {
        auto read = far_.read(chunk.start, wanted);
        if (!read) return std::unexpected(read.error());
        done = *read;
    }
    for (std::size_t i = 0; i < pages; i++) {
        const std::uint64_t page = chunk.start + i * kPageSize;
        if ((done >> i & 1) != 0 || target::count_absent(pagemap_.get(), page, 1) == 1) continue;
        // Nobody can read what is guarded (MADV_GUARD_INSTALL).
        (void)read_inside(page, wanted.subspan(i * kPageSize, kPageSize));
    }
    return sink.content(wanted);
}

Status CoreMemory::read_mapped(const target::AddressRange& range, const Sink& sink) {
    std::array<std::byte, kChunkBytes> content;
    for (std::uint64_t at = range.start; at < range.end; at += kChunkBytes) {
        const std::span<std::byte> wanted(content.data(), std::min(range.end - at, kChunkBytes));
        std::ranges::fill(wanted, std::byte{});
        for (std::size_t i = 0; i < wanted.size(); i += kPageSize)
            (void)read_inside(at + i,
                              wanted.subspan(i, kPageSize));  // beyond the end of its file there is nothing
        if (auto put = sink.content(wanted); !put) return put;
    }
    return {};
}

/// By /proc/PID/mem, which does not ask for permissions but does not wait for a page that is outside either;
/// such a one is brought in by process_vm_readv(2).
bool CoreMemory::read_inside(std::uint64_t address, std::span<std::byte> into) {
    const auto bytes = static_cast<ssize_t>(into.size());
    if (pread(memory_.get(), into.data(), into.size(), static_cast<off_t>(address)) == bytes) return true;
    iovec local{into.data(), into.size()}, remote{reinterpret_cast<void*>(address), into.size()};
    return process_vm_readv(process_, &local, 1, &remote, 1, 0) == bytes;
}

}  // namespace farswap::cli
