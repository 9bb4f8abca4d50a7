// Errors as values: an errno and a sentence for the operator. Knows of no layer.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

#include "base/no_allocation.h"

namespace farswap {

/// A failure. `code` is a positive errno; `message` is one line without a full stop that says what failed
/// and, where the operator can do something, what to do.
struct Error {
    int code = EIO;
    std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// fail(ENOENT, "no such export {}", path) converts to every Result<T>.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(int code, fmt::format_string<Args...> format, Args&&... args) {
    const MayAllocate sentence("something has failed; what is to be expected is no failure");
    return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

/// As fail(), with ": " and the text of errno `code` behind the message.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format,
                                                Args&&... args) {
    const MayAllocate sentence("something has failed; what is to be expected is no failure");
    // strerrordesc_np is thread-safe and never null for a known errno (glibc 2.32).
    const char* text = strerrordesc_np(code);
    return std::unexpected(Error{
        code, fmt::format(format, std::forward<Args>(args)...) + ": " + (text ? text : "unknown error")});
}

}  // namespace farswap
