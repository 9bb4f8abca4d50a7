// The memory of a paged process that is outside of it, as another process gets to see it: by asking its
// pager.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "target/proc.h"

namespace farswap::cli {

/// A connection to the pager. One thread; calls block until the pager answers, which takes as long as a store
/// that it has to ask. EPIPE from any of them: the pager has gone away. EINTR: the caller is interrupted.
class OutsideMemory {
  public:
    static constexpr std::uint32_t kPagesMax = 16;  ///< in one read

    /// ENOENT: no pager that we may talk to has the process. `is_interrupted` is asked ten times a second
    /// while a call waits; empty: nothing interrupts it.
    static Result<OutsideMemory> open(pid_t process, std::function<bool()> is_interrupted = {});

    /// Nothing more goes out of the process for the rest of the connection's life. Once, before the two below
    /// are asked.
    Status hold();
    /// The agent's thread, 0 if there is none, and its memory: neither is the program's.
    pid_t agent() const noexcept { return agent_; }
    const target::AddressRange& agent_memory() const noexcept { return agent_memory_; }

    struct Outside {
        std::vector<target::AddressRange> ranges;  ///< ascending, apart from each other
        std::uint64_t until = 0;                   ///< how far they are complete
    };
    /// What of [start, end) may be outside. All else is in the process, or nowhere: if it is held, from now
    /// on.
    Result<Outside> outside(std::uint64_t start, std::uint64_t end);
    /// Reads pages, as many as `into` holds, kPagesMax at most. Bit n of the result: page n is outside, and
    /// its content was read. EIO: one is outside and cannot be had.
    Result<std::uint32_t> read(std::uint64_t start, std::span<std::byte> into);

  private:
    OutsideMemory(pid_t process, Fd socket, std::function<bool()> is_interrupted)
        : process_(process), socket_(std::move(socket)), is_interrupted_(std::move(is_interrupted)) {}
    Status await_answer() const;
    Result<nlohmann::json> ask(const nlohmann::json& request) const;

    pid_t process_;
    Fd socket_;
    std::function<bool()> is_interrupted_;
    pid_t agent_ = 0;
    target::AddressRange agent_memory_{};
};

}  // namespace farswap::cli
