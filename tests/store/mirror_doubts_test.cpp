// Writes that a half executes late, after its connection was lost: what the mirror writes on its own account
// (copies, its look at a half that was lost, reserved space) must never come over newer bytes of the job's.
#include "mirror_fixture.h"

namespace farswap::test {
namespace {

class MirrorDoubtsTest : public MirrorTest {
  protected:
    /// Lets happen what can happen without the test.
    void settle() {
        for (int i = 0; i < 200; ++i) {
            run_loop();
            a_->complete_all();
            b_->complete_all();
        }
    }
    /// Writes what makes the page safe, although a flush may ask for it again.
    void store(std::uint64_t page, std::uint64_t value) {
        for (int i = 0; i < 3; ++i) {
            ASSERT_TRUE(wrote(page, value));
            if (flush() == 0) return;
        }
        FAIL() << "no flush succeeds";
    }
    /// The late writes of half a come; then it is all that is left.
    void expect_on_a_alone(std::uint64_t page, std::uint64_t value) {
        EXPECT_TRUE(reads(page, value));
        ASSERT_GT(a_->late(), 0u) << "nothing comes late";
        a_->execute_all_late();
        ASSERT_TRUE(until_complete());
        b_->set_down(EROFS);
        ASSERT_TRUE(wrote(page + 1, 1)) << "b is lost";
        EXPECT_TRUE(reads(page, value)) << "older bytes came over newer ones";
        EXPECT_EQ(source_, 0);
        b_->set_down(0);
    }
};

TEST_F(MirrorDoubtsTest, ACopyOfWhatWasFreeDoesNotComeOverWhatIsWrittenThere) {
    lose_a(1, 100);
    // Freed by the job now, which is told nothing of a doubt: there is none.
    ASSERT_FALSE(mirror_->in_doubt(kPageSize, kPageSize));
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 1; }));
    b_->complete_all();
    ASSERT_EQ(a_->pending(Kind::kWrite), 1u) << "the copy";
    a_->break_connection();
    settle();
    EXPECT_FALSE(mirror_->in_doubt(kPageSize, kPageSize)) << "a range that is free must not come into doubt";
    EXPECT_FALSE(mirror_->complete()) << "b is needed for this page until a's copy cannot come late";
    store(1, 200);
    expect_on_a_alone(1, 200);
}

TEST_F(MirrorDoubtsTest, ACopyThatIsUnderWayWhenItsPageIsFreed) {
    lose_a(1, 100);
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 1; }));
    b_->complete_all();
    ASSERT_EQ(a_->pending(Kind::kWrite), 1u) << "the copy";
    ASSERT_FALSE(mirror_->in_doubt(kPageSize, kPageSize)) << "so that the job writes what is new";
    Transfer newer(WRITE, 1, 1);
    newer.pages.fill(0, 200);
    mirror_->submit(newer.request);
    a_->break_connection();
    settle();
    ASSERT_TRUE(newer.good());
    store(1, 200);
    expect_on_a_alone(1, 200);
}

TEST_F(MirrorDoubtsTest, ACopyThatTimedOutIsExecutedAfterTheHalfCameBack) {
    for (MemoryStore* half : halves_) half->timeouts_come_late = true;
    lose_a(1, 100);
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 1; }));
    b_->complete_all();
    a_->fail_next(Kind::kWrite, ETIMEDOUT, 1);
    settle();
    store(1, 200);
    store(100, 300);  // not so near that it passes for doubtful, too
    EXPECT_TRUE(both_hold(100, 300)) << "a is back";
    expect_on_a_alone(1, 200);
}

TEST_F(MirrorDoubtsTest, TheLookAtALostHalfDoesNotComeOverItsFirstPage) {
    store(0, 50);
    lose_a(7, 100);
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return a_->pending(Kind::kWrite) == 1; }));
    a_->break_connection();
    settle();
    EXPECT_FALSE(mirror_->in_doubt(0, kPageSize));
    store(0, 200);
    expect_on_a_alone(0, 200);
}

TEST_F(MirrorDoubtsTest, SpaceThatALostHalfReservesDoesNotComeOverWhatIsWrittenThere) {
    open({.reserved = 1 << 20});
    constexpr std::uint64_t kNew = (1 << 20) / kPageSize;
    lose_a(7, 100);
    ASSERT_EQ(reserve(2 << 20), 0);
    EXPECT_FALSE(mirror_->in_doubt(1 << 20, 1 << 20));
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return a_->pending(Kind::kReserve) == 1; }));
    a_->break_connection();
    settle();
    EXPECT_FALSE(mirror_->in_doubt(1 << 20, 1 << 20)) << "a range that is free must not come into doubt";
    store(kNew + 3, 200);
    store(9, 300);
    EXPECT_TRUE(both_hold(9, 300)) << "a is back";
    expect_on_a_alone(kNew + 3, 200);
}

TEST_F(MirrorDoubtsTest, SpaceThatAHalfReservedWhenItWasLostDoesNotComeOverWhatIsWrittenThere) {
    open({.reserved = 1 << 20});
    constexpr std::uint64_t kNew = (1 << 20) / kPageSize;
    MemoryStore& slow = *a_;
    ReserveRequest request{.bytes = 2 << 20, .complete = [](ReserveRequest&, int) {}};
    mirror_->reserve(request);
    run_loop();
    ASSERT_TRUE(b_->complete_one(Kind::kReserve));
    slow.fail_next(Kind::kWrite, EROFS, 1);
    Transfer fails(WRITE, 3, 1);
    mirror_->submit(fails.request);
    b_->complete_all();
    ASSERT_TRUE(slow.complete_one(Kind::kWrite)) << "a is lost, its reservation is not answered";
    run_loop();
    ASSERT_EQ(mirror_->reserved(), 2u << 20);
    EXPECT_FALSE(mirror_->in_doubt(1 << 20, 1 << 20));
    slow.break_connection();
    settle();
    store(kNew + 3, 200);
    expect_on_a_alone(kNew + 3, 200);
}

TEST_F(MirrorDoubtsTest, AWriteOfTheJobsThatIsInDoubtIsInDoubtUntilItHasCome) {
    Transfer writing(WRITE, 1, 1);
    writing.pages.fill(0, 100);
    mirror_->submit(writing.request);
    a_->break_connection();
    settle();
    ASSERT_TRUE(writing.good());
    EXPECT_TRUE(mirror_->in_doubt(kPageSize, kPageSize));
    EXPECT_FALSE(mirror_->in_doubt(2 * kPageSize, kPageSize));
    EXPECT_TRUE(mirror_->complete());
    ASSERT_TRUE(wrote(1, 100)) << "the same again";
    EXPECT_TRUE(both_hold(1, 100));
    a_->execute_all_late();
    EXPECT_FALSE(mirror_->in_doubt(kPageSize, kPageSize));
}

TEST_F(MirrorDoubtsTest, WhatIsInDoubtOnAHalfThatLacksItTakesNewBytes) {
    for (MemoryStore* half : halves_) half->timeouts_come_late = true;
    a_->set_down(ETIMEDOUT);
    ASSERT_TRUE(wrote(1, 100));
    const std::size_t late = a_->late();
    ASSERT_GT(late, 0u);
    EXPECT_FALSE(mirror_->in_doubt(kPageSize, kPageSize)) << "it is copied there after the doubt";
    ASSERT_TRUE(wrote(1, 200));
    a_->set_down(0);
    settle();
    ASSERT_TRUE(wrote(1, 300, 2)) << "to b alone where a is in doubt";
    EXPECT_EQ(a_->late(), late);
    settle();
    store(1, 300);
    expect_on_a_alone(1, 300);
}

}  // namespace
}  // namespace farswap::test
