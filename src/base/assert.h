// Invariants that stay on in release. Knows of no layer.
#pragma once

namespace farswap {

/// Prints the broken invariant to standard error and aborts. Async-signal-safe.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace farswap

/// States an invariant. Always evaluated: a pager that goes on with a broken invariant serves wrong bytes.
#define FARSWAP_ASSERT(expression)                \
    (__builtin_expect(!!(expression), 1) ? void() \
                                         : ::farswap::assertion_failed(#expression, __FILE__, __LINE__))
