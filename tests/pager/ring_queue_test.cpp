// RingQueue against std::deque, which does the same and takes memory all the time; and that it takes none.
#include "base/ring_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "allocation_counter.h"

namespace farswap {
namespace {

TEST(RingQueueTest, DoesWhatADequeDoes) {
    std::mt19937_64 random(1);
    RingQueue<std::uint64_t> ring(4);
    std::deque<std::uint64_t> deque;
    for (int step = 0; step < 20000; step++) {
        switch (random() % 8) {
            case 0:
                if (deque.empty()) break;
                ring.pop_front();
                deque.pop_front();
                break;
            case 1:
                if (!deque.empty()) {
                    const std::size_t number = random() % deque.size();
                    ring.erase(number);
                    deque.erase(deque.begin() + static_cast<std::ptrdiff_t>(number));
                }
                break;
            case 2: {
                if (random() % 8 != 0) break;
                const std::uint64_t divisor = 2 + random() % 3;
                const auto falls = [=](std::uint64_t value) { return value % divisor == 0; };
                ring.erase_if(falls);
                std::erase_if(deque, falls);
                break;
            }
            default:
                if (deque.size() >= 100) break;
                deque.push_back(random());
                ring.push_back(deque.back());
        }
        ASSERT_EQ(ring.size(), deque.size());
        for (std::size_t i = 0; i < deque.size(); i++) ASSERT_EQ(ring[i], deque[i]);
    }
    EXPECT_EQ(ring.find_if([&](std::uint64_t value) { return value == deque[deque.size() / 2]; }),
              deque.size() / 2);
    EXPECT_EQ(ring.find_if([](std::uint64_t) { return false; }), ring.size());
}

TEST(RingQueueTest, TakesNoMemoryWhileNoMoreWaitThanHaveWaited) {
    RingQueue<int> ring(4);
    for (int i = 0; i < 9; i++) ring.push_back(i);
    while (!ring.empty()) ring.pop_front();
    const test::AllocationCounter counter;
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 9; i++) ring.push_back(i);
        for (int i = 0; i < 9; i++) {
            EXPECT_EQ(ring.front(), i);
            ring.pop_front();
        }
    }
    EXPECT_EQ(counter.allocations(), 0u);
}

}  // namespace
}  // namespace farswap
