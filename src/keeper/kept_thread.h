// What a thread of the pager is to the kernel, taken from one that is about to die and given to another:
// registers, signal mask, priority. Knows nothing of why it dies.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace farswap::keeper {

/// One thread. Used by the keeper, which traces it: nothing here allocates or uses the C library.
struct KeptThread {
    /// Of XSAVE with all that Linux lets a program use, AMX too (Intel SDM vol. 1, chapter 13).
    static constexpr std::size_t kExtendedMax = 16384;

    pid_t thread = 0;
    bool is_taken = false;
    user_regs_struct registers{};
    long system_call = -1;       ///< the one that it was in; -1: none
    std::uint64_t argument = 0;  ///< that one's second
    std::uint64_t signal_mask = 0;
    int nice = 0;
    std::uint64_t rseq = 0;  ///< address of its rseq area (rseq(2)), 0: none yet
    std::uint32_t rseq_bytes = 0, rseq_signature = 0;
    std::size_t extended_bytes = 0;
    alignas(64) std::array<std::byte, kExtendedMax> extended{};  ///< x87, SSE, AVX, ...

    /// From a thread in a ptrace-stop. False: the kernel gave less than all of it (ESRCH: killed once more).
    bool take() noexcept;

    /// Makes `heir`, which is in a ptrace-stop, go on where this one was: a system call that was interrupted
    /// is begun again, or has returned EINTR, as after any signal (signal(7), "Interruption of system calls").
    /// False: the kernel refused.
    bool give_to(pid_t heir) const noexcept;
};

}  // namespace farswap::keeper
