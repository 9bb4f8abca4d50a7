// The memory of a stopped process for its core file: each page from where it lies.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/fd.h"
#include "base/result.h"
#include "cli/outside_memory.h"
#include "target/proc.h"

namespace farswap::cli {

/// One thread. The process is stopped, and its pager holds it, for as long as this is used.
class CoreMemory {
  public:
    static Result<CoreMemory> open(pid_t process, OutsideMemory& far);

    /// Whether any page of the range has content anywhere.
    Result<bool> has_any(const target::AddressRange& range);

    /// What comes of a range, in the order of addresses: content, or a number of bytes that are zeros.
    struct Sink {
        std::function<Status(std::span<const std::byte>)> content;
        std::function<Status(std::uint64_t)> zeros;
    };
    /// Private memory without a file: what is neither in the process nor outside was never touched, and is
    /// not now.
    Status read_anonymous(const target::AddressRange& range, const Sink& sink);
    /// Memory that is a file's or shared: all of it is the kernel's to give.
    Status read_mapped(const target::AddressRange& range, const Sink& sink);

  private:
    CoreMemory(pid_t process, Fd memory, Fd pagemap, OutsideMemory& far)
        : process_(process), memory_(std::move(memory)), pagemap_(std::move(pagemap)), far_(far) {}
    Status read_chunk(const target::AddressRange& chunk, const OutsideMemory::Outside& outside,
                      const Sink& sink);
    bool read_inside(std::uint64_t address, std::span<std::byte> into);

    pid_t process_;
    Fd memory_, pagemap_;
    OutsideMemory& far_;
};

}  // namespace farswap::cli
