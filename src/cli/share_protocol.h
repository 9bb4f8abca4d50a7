// What a job's pager and farswapd say to each other about the machine's budget: messages of a fixed size over
// a SOCK_SEQPACKET connection that is open as long as the job has a share, in the byte order of the machine
// that both run on. Knows neither.
#pragma once

#include <cstdint>
#include <type_traits>

namespace farswap::cli {

/// Behind the path of the helper's socket.
inline constexpr const char* kBudgetSuffix = ".budget";

inline constexpr std::uint32_t kShareVersion = 1;

enum class ShareRequestKind : std::uint32_t {
    kAsk = 1,     ///< the first of a job: it wants a share
    kReport = 2,  ///< how it does, every half second, and when it has a new cap
    kList = 3,    ///< who holds what: one kEntry each, then a kEnd; the only request of its connection
};

/// All amounts are bytes.
struct ShareRequest {
    std::uint32_t version = kShareVersion;
    ShareRequestKind kind{};
    std::uint64_t serial = 0;         ///< kReport: of the last reply that was followed
    std::uint64_t cap = 0;            ///< that holds now; kAsk: 0, or that of a job which runs and asks again
    std::uint64_t least = 0;          ///< it cannot do with less
    std::uint64_t most = 0;           ///< it wants no more
    std::uint64_t ram = 0;            ///< in use
    std::uint64_t far = 0;            ///< outside
    std::uint64_t refaults = 0;       ///< pages that were outside and were wanted back, since the job began
    std::uint64_t takes_default = 0;  ///< kAsk: 1: `most` is nobody's wish, the machine's default may be less
};

enum class ShareReplyKind : std::uint32_t {
    kNone = 1,     ///< there is no budget on this machine
    kRefused = 2,  ///< `error` and `text`
    kGranted = 3,  ///< `cap`; `text` has the machine's defaults
    kCap = 4,      ///< another `cap`
    kEntry = 5,    ///< of kList: `user`, `process`, and so on
    kEnd = 6,      ///< of kList: `cap` is what all hold, `budget` what there is
};

struct ShareReply {
    std::uint32_t version = kShareVersion;
    ShareReplyKind kind{};
    std::uint64_t serial = 0;
    std::uint64_t cap = 0;
    std::uint64_t budget = 0;  ///< of all jobs together
    std::uint64_t held = 0, ram = 0, far = 0;
    std::int32_t error = 0;  ///< an errno
    std::uint32_t user = 0;
    std::uint32_t process = 0;
    /// A line of words, or lines of a key, a space and a value: `swap URL` (where the job names none), `store
    /// PREFIX` (its stores have to begin with one of these), `compress WORD`, `on-full WORD`. Ends with a
    /// zero byte.
    char text[2500] = {};
};

static_assert(sizeof(ShareRequest) == 72 && sizeof(ShareReply) == 2568);
static_assert(std::is_trivially_copyable_v<ShareRequest> && std::is_trivially_copyable_v<ShareReply>);

}  // namespace farswap::cli
