// What the pager and farswapd say to each other: one request and one reply over a SOCK_SEQPACKET connection,
// in the byte order of the machine that both run on. Knows neither.
#pragma once

#include <cstdint>
#include <type_traits>

#include "target/uapi.h"

namespace farswap::target {

inline constexpr const char* kHelperSocket = "/run/farswapd.sock";

/// The features of userfaultfd that the pager relies on, and the only ones that farswapd enables.
inline constexpr std::uint64_t kUffdFeatures = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                               UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                               UFFD_FEATURE_MOVE | UFFD_FEATURE_PAGEFAULT_FLAG_WP;

inline constexpr std::uint32_t kHelperVersion = 1;

enum class HelperRequestKind : std::uint32_t {
    /// The reply carries a descriptor of /dev/userfaultfd, opened for it alone.
    kDevice = 1,
    /// UFFDIO_API with `features` on the userfaultfd that comes along.
    kEnable = 2,
};

struct HelperRequest {
    std::uint32_t version = kHelperVersion;
    HelperRequestKind kind{};
    std::uint64_t features = 0;  ///< UFFD_FEATURE_ bits; 0 for kDevice
};

struct HelperReply {
    std::uint32_t version = kHelperVersion;
    std::int32_t error = 0;      ///< 0, or an errno with its reason in `text`
    std::uint64_t features = 0;  ///< as UFFDIO_API answers: all that the kernel has
    std::uint64_t ioctls = 0;    ///< the same
    char text[232] = {};         ///< one line, ends with a zero byte
};

static_assert(sizeof(HelperRequest) == 16 && sizeof(HelperReply) == 256);
static_assert(std::is_trivially_copyable_v<HelperRequest> && std::is_trivially_copyable_v<HelperReply>);

}  // namespace farswap::target
