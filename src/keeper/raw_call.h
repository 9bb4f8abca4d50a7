// System calls that touch nothing of the C library's: no errno, no thread-local storage. The keeper has
// neither.
#pragma once

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>

namespace farswap::keeper {

/// The kernel's answer as it is: a negative error number on failure (syscall(2) would put it into errno).
[[gnu::always_inline]] inline long raw_call(long number, long a = 0, long b = 0, long c = 0, long d = 0,
                                            long e = 0, long f = 0) noexcept {
    register long fourth asm("r10") = d;
    register long fifth asm("r8") = e;
    register long sixth asm("r9") = f;
    long result;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                 : "rcx", "r11", "memory");
    return result;
}

inline long raw_ptrace(long request, pid_t thread, long address, const void* data) noexcept {
    return raw_call(SYS_ptrace, request, thread, address, reinterpret_cast<long>(data));
}
inline long raw_ptrace(long request, pid_t thread, long data = 0) noexcept {
    return raw_call(SYS_ptrace, request, thread, 0, data);
}

}  // namespace farswap::keeper
