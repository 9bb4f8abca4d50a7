// What a thread of the pager is to the kernel, read from one that is about to die, in a form in which another
// thread can become it. Knows nothing of why it dies.
#pragma once

#include <sys/types.h>
#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace farswap::keeper {

/// One thread. Used by the keeper, which traces it: nothing here allocates or uses the C library.
struct KeptThread {
    /// Of XSAVE in its standard form with all that Linux lets a program use, AMX too (Intel SDM vol.
    /// 1, 13.4).
    static constexpr std::size_t kExtendedMax = 16384;

    pid_t thread = 0;         ///< who is it now; 0: nobody yet
    bool is_unborn = false;   ///< somebody is to become what follows tells; false without a thread: free
    bool is_ending = false;   ///< the thread was killed, and stands at its end
    bool has_begun = true;    ///< the thread may be what follows tells, or what became of that
    bool is_leaving = false;  ///< the thread ends in good order, and nobody is to become it
    /// Its registers and signal mask as a signal handler leaves them to rt_sigreturn(2), but for the place of
    /// `extended`, and the next two.
    ucontext_t context{};
    std::uint64_t fs_base = 0, gs_base = 0;
    int nice = 0;
    std::uint64_t rseq = 0;  ///< address of its rseq area (rseq(2)), 0: none yet
    std::uint32_t rseq_bytes = 0, rseq_signature = 0;
    long system_call = -1;                                       ///< the one that it was in; -1: none
    std::uint64_t argument = 0;                                  ///< that one's second
    alignas(64) std::array<std::byte, kExtendedMax> extended{};  ///< x87, SSE, AVX, ...

    enum class Outcome { kTaken, kNotBegun, kLost };
    /// From the thread, in a ptrace-stop. A system call that was interrupted will be begun again, or has
    /// returned EINTR, as after any signal (signal(7), "Interruption of system calls"). kNotBegun: it was at
    /// an instruction in [code, code_end), had become nobody yet, and nothing was changed. kLost: it is gone.
    Outcome take(std::uintptr_t code, std::uintptr_t code_end) noexcept;
};

}  // namespace farswap::keeper
