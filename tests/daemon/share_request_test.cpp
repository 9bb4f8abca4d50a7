#include "daemon/share_request.h"

#include <gmock/gmock.h>

namespace farswap::daemon {
namespace {

using cli::ShareRequest;
using cli::ShareRequestKind;

Result<ShareRequest> parse(const ShareRequest& request) {
    return parse_share_request(std::as_bytes(std::span(&request, 1)));
}

TEST(ShareRequest, GoodOnesAreTaken) {
    EXPECT_TRUE(parse({.kind = ShareRequestKind::kAsk, .least = 1, .most = 1}));
    EXPECT_TRUE(
        parse({.kind = ShareRequestKind::kReport, .serial = 7, .least = 1, .most = 2, .refaults = ~0ull}));
    EXPECT_TRUE(parse({.kind = ShareRequestKind::kList}));
}

TEST(ShareRequest, OthersAreRefused) {
    EXPECT_EQ(parse_share_request({}).error().code, EINVAL);
    const std::byte bytes[sizeof(ShareRequest) + 1]{};
    EXPECT_EQ(parse_share_request(bytes).error().code, EINVAL);
    EXPECT_EQ(parse({.version = 2, .kind = ShareRequestKind::kAsk}).error().code, EPROTO);
    EXPECT_EQ(parse({.kind = ShareRequestKind{4}}).error().code, ENOSYS);
    EXPECT_EQ(parse({.kind = ShareRequestKind::kAsk, .least = 0, .most = 1}).error().code, EINVAL);
    EXPECT_EQ(parse({.kind = ShareRequestKind::kAsk, .least = 2, .most = 1}).error().code, EINVAL);
    EXPECT_EQ(parse({.kind = ShareRequestKind::kAsk, .least = 1, .most = ~0ull}).error().code, EINVAL);
    EXPECT_EQ(
        parse({.kind = ShareRequestKind::kReport, .least = 1, .most = 1, .ram = 1ull << 63}).error().code,
        EINVAL);
}

}  // namespace
}  // namespace farswap::daemon
