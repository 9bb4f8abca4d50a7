// How many seeds a model test runs: all of them, and a sixth where each takes six to ten times as long.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>

namespace farswap::test {

/// Seeds 1 to `all`, for INSTANTIATE_TEST_SUITE_P; in the builds with sanitizers 1 to a sixth of `all`, and
/// two at least. What the sanitizers look for does not depend on the seed as what the models look for does.
inline auto seeds(unsigned all) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    all = std::max(2u, all / 6);
#endif
    return ::testing::Range(1u, all + 1);
}

}  // namespace farswap::test
