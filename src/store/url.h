// The URLs that name stores. Knows the syntax, not what the parts mean.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/size_text.h"

namespace farswap {

/// SCHEME://HOST[:PORT]/PATH?NAME=VALUE&... or file:PATH?NAME=VALUE (plugin:PATH). A port is for nbd: only;
/// nbd+unix: has no host. Percent-encoding (RFC 3986, 2.1) is undone in the parts, so that a path may hold a
/// '?' as %3F.
struct Url {
    std::string text;    ///< as given, for messages
    std::string scheme;  ///< lower case
    std::string host;    ///< empty for file:, plugin: and nbd+unix:; without the brackets of an IPv6 address
    std::uint16_t port = 0;  ///< 0: not given
    std::string path;        ///< for nfs: and nbd: with its leading '/'; nbd: knows an export without a name
    std::vector<std::pair<std::string, std::string>> parameters;

    std::optional<std::string_view> parameter(std::string_view name) const;
    /// A parameter that is a whole number, `fallback` when it is not given. EINVAL when it is no number or
    /// outside [least, most].
    Result<std::uint64_t> number(std::string_view name, std::uint64_t fallback, std::uint64_t least,
                                 std::uint64_t most) const;
    /// The bytes of ?size=, `fallback` when it is not given. EINVAL for what is no size and for less than
    /// kSizeMin.
    Result<std::uint64_t> size(std::uint64_t fallback) const;
    /// ?prio=, as swapon(2) has it: 0 to 32767, nothing when it is not given. EINVAL for anything else.
    Result<std::optional<int>> priority() const;
    /// EINVAL for a parameter that is given twice, or that is not among `names` nor `prio`, which every kind
    /// of store has: it is the user's business, not the store's.
    Status allow_only(std::initializer_list<std::string_view> names) const;

    static constexpr int kPriorityMax = 32767;
    static constexpr std::uint64_t kSizeMin = std::uint64_t{1} << 20;
};

/// EINVAL with one line that shows how a URL looks.
Result<Url> parse_url(std::string_view text);

}  // namespace farswap
