// What a thread of the pager is to the kernel, read from one that has stopped, maybe for the last time, in a
// form in which it, or another thread, can become that again. Knows nothing of why it has stopped.
#pragma once

#include <sys/types.h>
#include <sys/user.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace farswap::keeper {

/// Where heirs are that have not become anybody, by the addresses of their instructions. In the last part
/// their extended registers are those of the dead already, and what was kept of these is being wiped.
struct HeirsCode {
    std::uintptr_t begin, end;
    std::uintptr_t loaded, loaded_end;
};

/// One thread. Used by the keeper, which traces it: nothing here allocates or uses the C library.
struct KeptThread {
    pid_t thread = 0;         ///< who is it now; 0: nobody yet
    bool is_unborn = false;   ///< somebody is to become what follows tells; false without a thread: free
    bool is_ending = false;   ///< the thread was killed, and stands at its end
    bool has_begun = true;    ///< the thread may be what follows tells, or what became of that
    bool is_leaving = false;  ///< the thread ends in good order, and nobody is to become it
    user_regs_struct registers{};
    /// Signal mask, and what lets an heir's rt_sigreturn(2) load the extended registers.
    ucontext_t context{};
    int nice = 0;
    std::uint64_t rseq = 0;  ///< address of its rseq area (rseq(2)), 0: none yet
    std::uint32_t rseq_bytes = 0, rseq_signature = 0;
    long system_call = -1;       ///< the one that it was in; -1: none
    std::uint64_t argument = 0;  ///< that one's second
    /// x87, SSE, AVX, ... in the standard form of XSAVE (Intel SDM vol. 1, 13.4): extended_max() bytes of
    /// secret memory, which are zeros but from a kill, or a stop, to the next instruction that is its own. A
    /// thread that was sealing a page has round keys there.
    std::span<std::byte> extended{};

    enum class Outcome { kTaken, kNotBegun, kLost };
    /// From the thread, in a ptrace-stop. A system call that was interrupted will be begun again, or has
    /// returned EINTR, as after any signal (signal(7), "Interruption of system calls"). kNotBegun: it had
    /// become nobody yet, and what is kept holds. kLost: it is gone.
    Outcome take(const HeirsCode& heirs) noexcept;

    /// Bytes of the extended registers of one thread on this machine, a multiple of 64.
    static std::size_t extended_max() noexcept;

  private:
    bool take_extended() noexcept;
};

}  // namespace farswap::keeper
