// The window of calls against servers of which the test knows all.
#include "store/nfs_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

namespace farswap::nfs {
namespace {

using namespace std::chrono_literals;

/// A server behind a path of `latency` that executes one call after the other, `each` long; as many calls as
/// the window lets through. Simulated time.
struct Server {
    std::chrono::microseconds latency, each;
    io::Clock::time_point now{1s};
    io::Clock::time_point idle_from{};
    std::deque<std::pair<io::Clock::time_point, io::Clock::time_point>> under_way{};  ///< sent, answered

    std::chrono::nanoseconds run(Window& window, int answers) {
        std::chrono::nanoseconds took{};
        for (int i = 0; i < answers; ++i) {
            while (under_way.size() < window.limit()) {
                idle_from = std::max(idle_from, now + latency / 2) + each;
                under_way.emplace_back(now, idle_from + latency / 2);
            }
            const auto [sent, answered] = under_way.front();
            now = std::max(now, answered);
            took = now - sent;
            window.answered(took, under_way.size() >= window.limit(), now);
            under_way.pop_front();
        }
        return took;
    }
};

TEST(Window, OpensWhereTheServerKeepsUp) {
    Window window(256);
    Server fast{.latency = 2ms, .each = 4us};
    fast.run(window, 200'000);
    EXPECT_EQ(window.limit(), 256u);
}

TEST(Window, StaysSmallWhereCallsOnlyWaitForEachOther) {
    Window window(1024);
    Server slow{.latency = 200us, .each = 1ms};
    EXPECT_LT(slow.run(window, 20'000), 40ms) << "64 calls would wait for 64 ms";
    EXPECT_LT(window.limit(), 40u);
    EXPECT_GT(window.limit(), 8u) << "it need not be small either";
}

TEST(Window, FollowsAServerThatBecomesFasterAndSlower) {
    Window window(256);
    Server server{.latency = 200us, .each = 2ms};
    server.run(window, 20'000);
    const std::uint32_t slow = window.limit();
    server.each = 10us;
    server.run(window, 50'000);
    EXPECT_EQ(window.limit(), 256u);
    server.each = 2ms;
    server.run(window, 20'000);
    EXPECT_LT(window.limit(), 2 * slow);
}

TEST(Window, ALongPathAloneIsNoCrowd) {
    Window window(64);
    Server far_away{.latency = 150ms, .each = 10us};
    far_away.run(window, 10'000);
    EXPECT_EQ(window.limit(), 64u);
}

TEST(Window, IsHalvedOnceByRefusalsThatCameTogether) {
    Window window(64);
    const io::Clock::time_point now(1s);
    for (int i = 0; i < 20; ++i) window.refused(now);
    EXPECT_EQ(window.limit(), 16u);
    for (int i = 1; i < 20; ++i) window.refused(now + i * 1s);
    EXPECT_EQ(window.limit(), Window::kLeast);
    EXPECT_EQ(Window(2).limit(), 2u);
}

TEST(Window, DoesNotGrowUnused) {
    Window window(64);
    for (int i = 0; i < 10'000; ++i) window.answered(1ms, false, io::Clock::time_point(1s));
    EXPECT_EQ(window.limit(), Window::kFirst);
}

}  // namespace
}  // namespace farswap::nfs
