// The contract of the pinning calls, a test for each clause.
#include "farswap/kernel_pages.h"

#include <gmock/gmock.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "page_fixture.h"

namespace farswap {
namespace {

using KernelPages = PageTest;
using KernelPagesDeathTest = PageTest;

page* const kUntouched = reinterpret_cast<page*>(8);

TEST_F(KernelPages, PinsEverySegmentInOrder) {
    // Not in the order of their addresses.
    const std::array<FrameIndex, 3> frames = [&] {
        const FrameIndex a = take(), b = take(), c = take();
        return std::array{c, a, b};
    }();
    const std::array segments{segment(frames[0]), segment(frames[1]), segment(frames[2])};
    std::array<page*, 4> pages;
    pages.fill(kUntouched);
    ASSERT_EQ(get_kernel_pages(segments.data(), 3, 0, pages.data()), 3);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(page_address(pages[i]), segments[i].iov_base);
    EXPECT_EQ(pages[3], kUntouched);
    for (int i = 0; i < 3; ++i) put_page(pages[i]);
}

TEST_F(KernelPages, EachPinHoldsOneMoreReference) {
    const FrameIndex frame = take();
    const std::array segments{segment(frame), segment(frame)};
    std::array<page*, 2> pages{};
    ASSERT_EQ(get_kernel_pages(segments.data(), 2, 0, pages.data()), 2);
    EXPECT_EQ(pool->pins(frame), 2u);
    put_page(pages[0]);
    EXPECT_EQ(pool->pins(frame), 1u);
    put_page(pages[1]);
    EXPECT_EQ(pool->pins(frame), 0u);
}

TEST_F(KernelPages, OneCallMayTakeSegmentsOfSeveralPools) {
    const auto other = make_pool(2);
    const FrameIndex here = take();
    const FrameIndex there = other->allocate_run(1).first;
    const std::array segments{segment(here), kvec{other->address(there), kPageSize}, segment(here)};
    std::array<page*, 3> pages{};
    ASSERT_EQ(get_kernel_pages(segments.data(), 3, 0, pages.data()), 3);
    EXPECT_EQ(pool->pins(here), 2u);
    EXPECT_EQ(other->pins(there), 1u);
    for (page* page : pages) put_page(page);
}

TEST_F(KernelPages, FirstSegmentOfWrongLengthEndsTheCall) {
    const FrameIndex frame = take();
    const std::array segments{segment(frame), segment(frame), segment(frame, 512), segment(frame)};
    std::array<page*, 4> pages;
    pages.fill(kUntouched);
    ASSERT_EQ(get_kernel_pages(segments.data(), 4, 0, pages.data()), 2);
    EXPECT_EQ(pool->pins(frame), 2u) << "what was pinned before it stays pinned";
    EXPECT_EQ(pages[2], kUntouched);
    EXPECT_EQ(pages[3], kUntouched);
    put_page(pages[0]);
    put_page(pages[1]);
}

TEST_F(KernelPages, FirstSegmentOutsideThePoolEndsTheCall) {
    const FrameIndex frame = take();
    const std::array segments{segment(frame), kvec{&pool, kPageSize}, segment(frame)};
    std::array<page*, 3> pages;
    pages.fill(kUntouched);
    ASSERT_EQ(get_kernel_pages(segments.data(), 3, 0, pages.data()), 1);
    EXPECT_EQ(pool->pins(frame), 1u);
    EXPECT_EQ(pages[1], kUntouched);
    put_page(pages[0]);
}

TEST_F(KernelPages, NoSegmentsReturnZeroAndTouchNothing) {
    EXPECT_EQ(get_kernel_pages(nullptr, 0, 0, nullptr), 0);
    EXPECT_EQ(get_kernel_pages(nullptr, -1, 1, nullptr), 0);
    EXPECT_EQ(get_kernel_pages(nullptr, INT32_MIN, 1, nullptr), 0);
}

TEST_F(KernelPages, SegmentThatIsNotOnePageLongIsEinval) {
    const FrameIndex frame = take();
    page* pinned = kUntouched;
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{1}, kPageSize - 1, kPageSize + 1, 2 * kPageSize, SIZE_MAX}) {
        const kvec bad = segment(frame, length);
        EXPECT_EQ(get_kernel_pages(&bad, 1, 0, &pinned), -EINVAL) << length;
    }
    const kvec bad_twice{nullptr, 1};
    EXPECT_EQ(get_kernel_pages(&bad_twice, 1, 0, &pinned), -EINVAL) << "the length is looked at first";
    EXPECT_EQ(pinned, kUntouched);
    EXPECT_EQ(pool->pins(frame), 0u);
}

// In a process of its own: other tests may have used up the one warning.
TEST_F(KernelPagesDeathTest, WrongLengthIsWarnedOfOnceWithIndexAndLength) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto call_wrongly = [&] {
        const FrameIndex frame = take();
        const std::array segments{segment(frame), segment(frame), segment(frame, 1234)};
        const kvec other = segment(frame, 99);
        std::array<page*, 3> pages{};
        const bool as_promised = get_kernel_pages(segments.data(), 3, 0, pages.data()) == 2 &&
                                 get_kernel_pages(segments.data(), 3, 0, pages.data()) == 2 &&
                                 get_kernel_pages(&other, 1, 0, pages.data()) == -EINVAL;
        std::_Exit(as_promised ? 0 : 1);
    };
    EXPECT_EXIT(
        call_wrongly(), testing::ExitedWithCode(0),
        testing::Eq("farswap: get_kernel_pages: segment 2 is 1234 bytes long, not one page (4096)\n"));
}

TEST_F(KernelPages, AddressThatIsNotAPageOfThePoolIsEfault) {
    const FrameIndex frame = take();
    const auto memory = pool->memory();
    page* pinned = kUntouched;
    EXPECT_EQ(get_kernel_page(0, 0, &pinned), -EFAULT);
    EXPECT_EQ(get_kernel_page(address_of(&pinned), 0, &pinned), -EFAULT);
    EXPECT_EQ(get_kernel_page(address_of(memory.data() - kPageSize), 0, &pinned), -EFAULT);
    EXPECT_EQ(get_kernel_page(address_of(memory.data() + memory.size()), 0, &pinned), -EFAULT);
    EXPECT_EQ(get_kernel_page(~0ul - kPageSize + 1, 0, &pinned), -EFAULT);
    EXPECT_EQ(get_kernel_page(address_of(pool->address(frame) + 1), 0, &pinned), -EFAULT) << "inside a page";
    EXPECT_EQ(get_kernel_page(address_of(pool->address(frame) + kPageSize / 2), 0, &pinned), -EFAULT);
    EXPECT_EQ(pinned, kUntouched);
    EXPECT_EQ(pool->pins(frame), 0u);
}

TEST_F(KernelPages, FrameWithCountZeroIsNeverRevived) {
    page* pinned = kUntouched;
    for (FrameIndex frame = 0; frame < kFrames; ++frame) {
        EXPECT_EQ(get_kernel_page(address_of(pool->address(frame)), 0, &pinned), -EFAULT)
            << "never allocated";
    }
    const FrameIndex frame = take();
    pool->release(frame);
    EXPECT_EQ(get_kernel_page(address_of(pool->address(frame)), 1, &pinned), -EFAULT) << "released";
    EXPECT_EQ(pinned, kUntouched);
    EXPECT_EQ(pool->free_frames(), kFrames);
}

TEST_F(KernelPages, FrameThatWasFreedByItsLastPutIsNotRevived) {
    const FrameIndex frame = take();
    page* const write_pin = pin(frame, true);
    pool->release(frame);
    put_page(write_pin);
    page* pinned = kUntouched;
    EXPECT_EQ(get_kernel_page(address_of(pool->address(frame)), 0, &pinned), -EFAULT) << "dirty, but free";
}

TEST_F(KernelPages, HolderOfAPinMayPinAgainAfterTheOwnersRelease) {
    const FrameIndex frame = take();
    page* const first = pin(frame, false);
    pool->release(frame);
    page* const second = pin(frame, true);
    put_page(first);
    EXPECT_EQ(pool->free_frames(), kFrames - 1);
    put_page(second);
    EXPECT_EQ(pool->free_frames(), kFrames);
}

TEST_F(KernelPages, SingleCallIsTheVectorCallWithOneSegment) {
    const FrameIndex frame = take();
    const kvec one = segment(frame);
    page *by_vector = nullptr, *by_address = nullptr;
    for (const int write : {0, 1}) {
        EXPECT_EQ(get_kernel_pages(&one, 1, write, &by_vector), 1);
        EXPECT_EQ(get_kernel_page(address_of(one.iov_base), write, &by_address), 1);
        EXPECT_EQ(by_vector, by_address);
        put_page(by_vector);
        put_page(by_address);
    }
}

TEST_F(KernelPages, PinForWritingMarksThePageDirtyAtItsRelease) {
    const FrameIndex frame = take();
    page* const pinned = pin(frame, true);
    EXPECT_FALSE(page_dirty(pinned)) << "not before";
    put_page(pinned);
    EXPECT_TRUE(page_dirty(pinned));
    pool->release(frame);
}

TEST_F(KernelPages, PinForReadingLeavesThePageClean) {
    const FrameIndex frame = take();
    page* const pinned = pin(frame, false);
    put_page(pinned);
    EXPECT_FALSE(page_dirty(pinned));
    pool->release(frame);
}

TEST_F(KernelPages, AnyNonZeroWriteIsForWriting) {
    const FrameIndex frame = take();
    for (const int write : {1, 2, 256, -1, INT32_MIN}) {
        page* pinned = nullptr;
        ASSERT_EQ(get_kernel_page(address_of(pool->address(frame)), write, &pinned), 1);
        bool for_writing = false;
        EXPECT_TRUE(page_is_pinned(pinned, &for_writing));
        EXPECT_TRUE(for_writing) << write;
        put_page(pinned);
    }
}

TEST_F(KernelPages, ReadAndWritePinsAreCountedApart) {
    const FrameIndex frame = take();
    page* const read_pin = pin(frame, false);
    page* const write_pin = pin(frame, true);
    EXPECT_NE(read_pin, write_pin);
    EXPECT_EQ(page_address(read_pin), page_address(write_pin));
    EXPECT_EQ(pool->pins(frame), 2u);

    bool for_writing = true;
    EXPECT_TRUE(page_is_pinned(read_pin, &for_writing));
    EXPECT_FALSE(for_writing);
    EXPECT_TRUE(page_is_pinned(write_pin, &for_writing));
    EXPECT_TRUE(for_writing);

    put_page(write_pin);
    EXPECT_FALSE(page_is_pinned(write_pin, nullptr));
    EXPECT_TRUE(page_is_pinned(read_pin, nullptr));
    put_page(read_pin);
    EXPECT_FALSE(page_is_pinned(read_pin, nullptr));
}

TEST_F(KernelPages, HandlesAreStable) {
    const FrameIndex frame = take();
    page* const before = pin(frame, true);
    put_page(before);
    page* const after = pin(frame, true);
    EXPECT_EQ(before, after);
    put_page(after);
}

TEST_F(KernelPages, PinnedFrameIsNotReusedUntilItsLastPut) {
    const FrameRun all = pool->allocate_run(kFrames);
    ASSERT_EQ(all.count, kFrames);
    page* const read_pin = pin(3, false);
    page* const write_pin = pin(3, true);
    pool->release(3);
    EXPECT_EQ(pool->allocate_run(1).count, 0u);
    put_page(read_pin);
    EXPECT_EQ(pool->allocate_run(1).count, 0u);
    put_page(write_pin);
    const FrameRun again = pool->allocate_run(1);
    ASSERT_EQ(again.count, 1u);
    EXPECT_EQ(again.first, 3u);
    EXPECT_FALSE(page_dirty(write_pin)) << "a frame starts clean";
}

TEST_F(KernelPages, PinKeepsAddressAndContent) {
    const FrameIndex frame = take();
    *pool->address(frame) = std::byte{42};
    page* const pinned = pin(frame, false);
    pool->release(frame);
    const FrameRun others = pool->allocate_run(kFrames);
    for (FrameIndex other = others.first; other < others.first + others.count; ++other)
        *pool->address(other) = std::byte{7};
    EXPECT_EQ(page_address(pinned), pool->address(frame));
    EXPECT_EQ(*static_cast<std::byte*>(page_address(pinned)), std::byte{42});
    put_page(pinned);
}

TEST_F(KernelPagesDeathTest, OnePutTooManyAborts) {
    const FrameIndex frame = take();
    page* const pinned = pin(frame, false);
    put_page(pinned);
    EXPECT_DEATH(put_page(pinned), "invariant broken");
    pool->release(frame);
    EXPECT_DEATH(put_page(pinned), "invariant broken");
}

TEST_F(KernelPagesDeathTest, PutOfTheOtherDirectionAborts) {
    const FrameIndex frame = take();
    page* const write_pin = pin(frame, true);
    put_page(write_pin);
    page* const read_pin = pin(frame, false);
    EXPECT_DEATH(put_page(write_pin), "invariant broken");
    put_page(read_pin);
}

TEST_F(KernelPagesDeathTest, SecondReleaseAborts) {
    const FrameIndex frame = take();
    pool->release(frame);
    EXPECT_DEATH(pool->release(frame), "invariant broken");
    EXPECT_DEATH(pool->release(kFrames), "invariant broken");
}

TEST_F(KernelPages, PinLeftAtShutdownIsReportedAndKeepsTheMemory) {
    const FrameIndex a = take(), b = take();
    page* const read_pin = pin(a, false);
    page* const write_pin = pin(b, true);
    page* const write_pin_again = pin(b, true);
    pool->release(b);
    auto* const bytes = static_cast<std::byte*>(page_address(write_pin));

    testing::internal::CaptureStderr();
    EXPECT_EQ(pool->close(), 3u);
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "farswap: page pool ends with frame 0 still pinned (1 for reading, 0 for writing); its memory "
              "is kept\n"
              "farswap: page pool ends with frame 1 still pinned (0 for reading, 2 for writing); its memory "
              "is kept\n");
    EXPECT_EQ(pool->close(), 0u);
    pool.reset();

    *bytes = std::byte{1};  // I/O that is still running stores here
    EXPECT_TRUE(page_is_pinned(write_pin, nullptr));
    page* pinned = kUntouched;
    EXPECT_EQ(get_kernel_page(address_of(bytes), 1, &pinned), -EFAULT) << "the pool is gone: nothing new";
    put_page(write_pin);
    put_page(write_pin_again);
    put_page(read_pin);
    EXPECT_FALSE(page_is_pinned(write_pin, nullptr));
}

TEST_F(KernelPages, PoolWithoutPinsEndsSilently) {
    const FrameIndex frame = take();
    page* const pinned = pin(frame, true);
    put_page(pinned);
    testing::internal::CaptureStderr();
    pool.reset();
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    EXPECT_FALSE(page_is_pinned(pinned, nullptr));
}

TEST_F(KernelPages, WhatIsNoHandleIsNotPinned) {
    EXPECT_FALSE(page_is_pinned(nullptr, nullptr));
    EXPECT_FALSE(page_is_pinned(reinterpret_cast<page*>(this), nullptr));
}

}  // namespace
}  // namespace farswap
