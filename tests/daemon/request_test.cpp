// Requests as they may come from strangers.
#include "daemon/request.h"

#include <gmock/gmock.h>

#include <cstring>
#include <vector>

namespace farswap::daemon {
namespace {

using target::HelperRequest;
using target::HelperRequestKind;

Result<HelperRequest> parse(const HelperRequest& request, int descriptors) {
    return parse_request(std::as_bytes(std::span(&request, 1)), descriptors);
}

int code_of(const HelperRequest& request, int descriptors) {
    const auto parsed = parse(request, descriptors);
    return parsed ? 0 : parsed.error().code;
}

TEST(Request, WhatThePagerSendsIsUnderstood) {
    EXPECT_EQ(code_of({.kind = HelperRequestKind::kDevice}, 0), 0);
    const auto enable = parse({.kind = HelperRequestKind::kEnable, .features = target::kUffdFeatures}, 1);
    ASSERT_TRUE(enable);
    EXPECT_EQ(enable->features, target::kUffdFeatures);
}

TEST(Request, DescriptorsMustFitTheKind) {
    EXPECT_EQ(code_of({.kind = HelperRequestKind::kDevice}, 1), EINVAL);
    for (const int count : {0, 2, 3})
        EXPECT_EQ(code_of({.kind = HelperRequestKind::kEnable, .features = target::kUffdFeatures}, count),
                  EINVAL);
}

TEST(Request, NoFeatureButThePagersIsHandedOut) {
    EXPECT_EQ(code_of({.kind = HelperRequestKind::kDevice, .features = 1}, 0), EINVAL);
    for (int bit = 0; bit < 64; ++bit) {
        const std::uint64_t feature = std::uint64_t{1} << bit;
        const HelperRequest request{.kind = HelperRequestKind::kEnable,
                                    .features = feature | UFFD_FEATURE_EVENT_FORK};
        EXPECT_EQ(code_of(request, 1), (feature & target::kUffdFeatures) != 0 ? 0 : EPERM) << bit;
    }
    EXPECT_EQ(code_of({.kind = HelperRequestKind::kEnable, .features = UFFD_FEATURE_EVENT_UNMAP}, 1), EINVAL);
    EXPECT_EQ(code_of({.kind = HelperRequestKind::kEnable}, 1), EINVAL);
}

TEST(Request, UnknownOnesAreNamed) {
    const auto unknown = parse({.kind = HelperRequestKind{7}}, 0);
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, ENOSYS);
    EXPECT_EQ(unknown.error().message, "there is no request 7");
    EXPECT_EQ(code_of({.version = 2, .kind = HelperRequestKind::kDevice}, 0), EPROTO);
}

TEST(Request, OtherLengthsAreNone) {
    const HelperRequest request{.kind = HelperRequestKind::kDevice};
    std::vector<std::byte> bytes(64);
    std::memcpy(bytes.data(), &request, sizeof request);
    for (std::size_t size = 0; size <= bytes.size(); ++size)
        EXPECT_EQ(parse_request(std::span(bytes).first(size), 0).has_value(), size == sizeof request) << size;
}

}  // namespace
}  // namespace farswap::daemon
