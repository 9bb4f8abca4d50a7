// What of a managed process is registered with its userfaultfd, and how.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>

#include "target/proc.h"
#include "target_fixture.h"

namespace farswap::target {
namespace {

using ::testing::ElementsAre;

class RegistrationTest : public TargetTest {
  protected:
    static constexpr std::uint64_t kFar = std::uint64_t{1} << 45;  // where no sanitizer has anything
    static constexpr std::uint64_t kPiece = 16 * kPageSize;

    static bool map(std::uint64_t at, std::uint64_t bytes) {
        return mmap(reinterpret_cast<void*>(at), bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == reinterpret_cast<void*>(at);
    }
    /// Looks at all mappings; when they have been seen, and the first one registered, which begins at kFar,
    /// the program takes its second step.
    void refresh_with_a_step_between() {
        step();
        ASSERT_EQ(puppet_->result(), 0);
        events_->fresh = [&](const AddressRange& range) {
            if (range.start != kFar) return;
            puppet_->go();
            EXPECT_TRUE(wait_until([&] { return puppet_->done() == 2; }));
            EXPECT_EQ(puppet_->result(), 0);
        };
        ASSERT_TRUE(target_->refresh_mappings());
        ASSERT_EQ(puppet_->done(), 2);
        events_->fresh = [](const AddressRange&) {};
    }
};

TEST_F(RegistrationTest, RegistersPrivateMemoryAndNothingElse) {
    start({});
    EXPECT_NE(target_->registered().find(page(0)), nullptr);
    EXPECT_NE(target_->evictable().find(page(kArenaPages - 1)), nullptr);
    EXPECT_EQ(target_->registered().find(page(kArenaPages)), nullptr) << "the guard behind";
    EXPECT_EQ(target_->registered().find(target_->agent().staging), nullptr);
    EXPECT_EQ(target_->evictable().find(target_->agent().base + kPageSize), nullptr);
    auto visited = for_each_mapping(puppet_->process(), [&](const Mapping& mapping) {
        const bool plain = std::string_view(mapping.permissions, 4) == "rw-p" && mapping.inode == 0 &&
                           mapping.name != "[stack]" && !mapping.name.starts_with("[v");
        EXPECT_TRUE(plain || target_->registered().find(mapping.start) == nullptr) << mapping.name;
    });
    EXPECT_TRUE(visited);
}

/// Some kernels are made to give memory of its own even to who reads first (those of some virtual machines).
bool kernel_maps_its_zero_page() {
    const Arena arena;
    const Fd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (*static_cast<const volatile unsigned char*>(arena.data()) != 0) return false;
    std::array<AddressRange, 1> found;
    const auto scan = scan_pages(pagemap.get(), PageKind::kZeroPage, arena.page(0), arena.page(1), 1, found);
    return scan && scan->count == 1;
}

// Memory that was read before it was registered: a write to it would get a page without an event.
TEST_F(RegistrationTest, TheFirstWriteToAZeroPageIsAnEvent) {
    if (!kernel_maps_its_zero_page()) GTEST_SKIP() << "the kernel maps no zero page";
    start({[](Arena& arena) {
               int sum = 0;
               for (std::uint64_t i = 16; i < 24; i++) sum += arena.data()[i * kPageSize];
               return sum;
           },
           [](Arena& arena) {
               arena.data()[15 * kPageSize] = 1;  // was written before: no zero page
               arena.data()[17 * kPageSize] = 1;
               return int{arena.data()[18 * kPageSize]};
           }},
          [&] {
              puppet_->go();
              ASSERT_TRUE(wait_until([&] { return puppet_->done() == 1; }));
          });
    events_->seen.clear();
    step();
    EXPECT_THAT(events_->seen, ElementsAre(Seen{Seen::kWriteFault, page(17)}));
}

// As a forked child has its parent's pages, it has their protection.
TEST_F(RegistrationTest, TheFirstWriteOfAForkedChildToAZeroPageIsAnEvent) {
    if (!kernel_maps_its_zero_page()) GTEST_SKIP() << "the kernel maps no zero page";
    Shared<std::atomic<int>> turn;
    start({[](Arena& arena) { return int{arena.data()[16 * kPageSize]}; },
           [turn = turn.get()](Arena& arena) {
               const pid_t child = fork();
               if (child == 0) {
                   arena.data()[16 * kPageSize] = 1;
                   _exit(0);
               }
               *turn = child;
               return 0;
           }},
          [&] {
              puppet_->go();
              ASSERT_TRUE(wait_until([&] { return puppet_->done() == 1; }));
          });
    step();
    const Child reaper(turn.get()->load());
    ASSERT_TRUE(run_until([&] { return events_->has(Seen::kWriteFault); }));
}

// Kernel fact 2.13: MOVE wants equal mappings on both sides, and mlock(2) raises no event.
TEST_F(RegistrationTest, LockedMemoryIsRefusedAndLeftAlone) {
    // The system call itself: AddressSanitizer makes mlock(3) do nothing.
    start({[](Arena& a) { return static_cast<int>(syscall(SYS_mlock, a.data(), kArenaBytes / 2)); }});
    step();
    ASSERT_EQ(puppet_->result(), 0);
    ASSERT_TRUE(ask(AGENT_MOVE, page(0), 1));
    ASSERT_TRUE(run_until([&] { return target_->agent_idle(); }));
    EXPECT_EQ(events_->reply.result[0].error, -EINVAL);
    ASSERT_TRUE(target_->refresh_mappings());
    target_->range_unmovable(page(0));
    ASSERT_TRUE(target_->refresh_mappings());
    EXPECT_EQ(target_->evictable().find(page(0)), nullptr);
    EXPECT_NE(target_->registered().find(page(0)), nullptr) << "its evicted pages are still ours to serve";
    target_->forgive_refusals();
    ASSERT_TRUE(target_->refresh_mappings());
    const AddressRange* locked = target_->evictable().find(page(0));
    ASSERT_NE(locked, nullptr);
    EXPECT_EQ(locked->end, page(kArenaPages / 2)) << "a MOVE must not cross into the next mapping";
    EXPECT_NE(target_->evictable().find(locked->end), nullptr);
}

// A registered heap does not grow in the kernel's eyes: each look at it would leave one more mapping.
TEST_F(RegistrationTest, AHeapThatGrowsIsRegisteredInLargePieces) {
    constexpr std::uint64_t kHeap = kFar;
    const auto grow = [](std::uint64_t piece) {
        return [piece](Arena&) {
            void* at = reinterpret_cast<void*>(kHeap + piece * kPiece);
            void* got = mmap(at, kPiece, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (got != at) return 1;
            memset(got, 1, kPiece);
            return 0;
        };
    };
    start({grow(0), grow(1), grow(2)});
    for (int piece = 0; piece < 3; piece++) {
        step();
        ASSERT_EQ(puppet_->result(), 0);
        ASSERT_TRUE(target_->refresh_mappings(2 * kPiece));
        EXPECT_EQ(target_->registered().find(kHeap) != nullptr, piece == 2);
        EXPECT_EQ(target_->evictable().find(kHeap) != nullptr, piece == 2);
    }
    EXPECT_EQ(target_->evictable().find(kHeap)->end, kHeap + 3 * kPiece) << "one mapping";
}

// Red when only what was seen is registered: mremap() of a mapping that the kernel has cut in two is EFAULT.
TEST_F(RegistrationTest, WhatHasGrownSinceItWasSeenIsRegisteredAsOne) {
    if (!kernel_answers_for_one_mapping()) GTEST_SKIP() << "the kernel has no PROCMAP_QUERY";
    constexpr std::uint64_t kGrows = kFar + (1ULL << 30), kReplaced = kFar + (2ULL << 30);
    constexpr std::uint64_t kAway = kFar + (4ULL << 30);
    const auto move = [](std::uint64_t from, std::uint64_t before, std::uint64_t to, std::uint64_t after) {
        const int flags = from == to ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED;
        void* const there = reinterpret_cast<void*>(to);
        return mremap(reinterpret_cast<void*>(from), before, after, flags, there) == there;
    };
    start({[&](Arena&) { return map(kFar, kPiece) && map(kGrows, kPiece) && map(kReplaced, kPiece) ? 0 : 1; },
           [&](Arena&) {
               return move(kGrows, kPiece, kGrows, 2 * kPiece) && map(kReplaced - kPiece, 3 * kPiece) ? 0 : 1;
           },
           [&](Arena&) {
               return move(kGrows, 2 * kPiece, kAway, 2 * kPiece) &&
                              move(kReplaced - kPiece, 3 * kPiece, kAway + 4 * kPiece, 3 * kPiece)
                          ? 0
                          : errno;
           }});
    refresh_with_a_step_between();
    EXPECT_EQ(target_->registered().find(kGrows)->end, kGrows + 2 * kPiece);
    EXPECT_EQ(target_->registered().find(kReplaced - kPiece)->end, kReplaced + 2 * kPiece);
    step();
    EXPECT_EQ(puppet_->result(), 0) << strerror(puppet_->result());
}

// Red when all that UFFDIO_REGISTER has accepted is noted. What was seen leaves without an event, since it
// was not registered, and with a part of the range something stays for the registration to succeed with.
TEST_F(RegistrationTest, WhatHasLeftSinceItWasSeenIsNotNoted) {
    constexpr std::uint64_t kHalf = kFar + (1ULL << 30), kMiddle = kFar + (2ULL << 30);
    const auto unmap = [](std::uint64_t at, std::uint64_t bytes) {
        return munmap(reinterpret_cast<void*>(at), bytes) == 0;
    };
    start({[&](Arena&) {
               return map(kFar, kPiece) && map(kHalf, 2 * kPiece) && map(kMiddle, 3 * kPiece) ? 0 : 1;
           },
           [&](Arena&) { return unmap(kHalf, kPiece) && unmap(kMiddle + kPiece, kPiece) ? 0 : 1; }});
    refresh_with_a_step_between();
    EXPECT_EQ(target_->registered().find(kHalf), nullptr);
    EXPECT_EQ(target_->registered().find(kMiddle + kPiece), nullptr);
    EXPECT_TRUE(target_->refresh_due());
    ASSERT_TRUE(target_->refresh_mappings());
    for (const std::uint64_t piece : {kHalf + kPiece, kMiddle, kMiddle + 2 * kPiece})
        EXPECT_NE(target_->registered().find(piece), nullptr);
    EXPECT_EQ(target_->registered().find(kHalf), nullptr);
    EXPECT_EQ(target_->registered().find(kMiddle + kPiece), nullptr);
}

}  // namespace
}  // namespace farswap::target
