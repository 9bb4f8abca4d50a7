// A mirror step by step: where bytes go, each half lost at every step, its return, and what is passed up.
#include "mirror_fixture.h"

#include <gmock/gmock.h>

namespace farswap::test {
namespace {

using ::testing::HasSubstr;

TEST_F(MirrorTest, WritesGoToBothAndReadsTakeTurns) {
    ASSERT_TRUE(wrote(3, 7, 4));
    EXPECT_EQ(flush(), 0);
    EXPECT_TRUE(both_hold(3, 7));
    EXPECT_TRUE(both_hold(6, 10));
    std::array<int, 2> read_from{};
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(reads(4, 8));
        ++read_from.at(source_);
    }
    EXPECT_EQ(read_from[0], 5);
    EXPECT_EQ(mirror_->name(), "mirror(a, b)");
    EXPECT_EQ(mirror_->copies(), 2u);
    EXPECT_EQ(mirror_->counters().writes, 2u * 4);
    EXPECT_EQ(mirror_->counters().flushes, 2u);
}

TEST_F(MirrorTest, AWriteIsDoneWhenBothHaveIt) {
    for (const std::size_t first : {0u, 1u}) {
        Transfer transfer(WRITE, 0, 1);
        mirror_->submit(transfer.request);
        ASSERT_TRUE(halves_.at(first)->complete_one(Kind::kWrite));
        run_loop();
        EXPECT_FALSE(transfer.result);
        ASSERT_TRUE(halves_.at(1 - first)->complete_one(Kind::kWrite));
        EXPECT_TRUE(transfer.good());
    }
}

TEST_F(MirrorTest, ABadRequestIsRefusedLater) {
    Transfer beyond(WRITE, (64 << 20) / kPageSize, 1);
    mirror_->submit(beyond.request);
    EXPECT_FALSE(beyond.result) << "completed inside submit()";
    run_loop();
    EXPECT_EQ(beyond.result, -EINVAL);
    EXPECT_TRUE(mirror_->complete());
}

TEST_F(MirrorTest, MoreThanTheTableHoldsWaits) {
    MirrorOptions options = quick();
    options.operations_max = 2;
    open({}, options);
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (std::uint64_t i = 0; i < 5; ++i) {
        transfers.push_back(std::make_unique<Transfer>(WRITE, i, 1));
        mirror_->submit(transfers.back()->request);
    }
    EXPECT_EQ(a_->pending(), 2u);
    ASSERT_TRUE(drive([&] { return std::ranges::all_of(transfers, [](auto& t) { return t->good(); }); }));
}

TEST_F(MirrorTest, AHalfThatIsLostBeforeAWriteComesBackComplete) {
    ASSERT_TRUE(wrote(0, 1, 8));
    ASSERT_EQ(flush(), 0);
    testing::internal::CaptureStderr();
    lose_a(2, 100);
    EXPECT_TRUE(reads(2, 100));
    EXPECT_EQ(source_, 1);
    EXPECT_EQ(flush(), -ESTALE) << "what a had taken is in doubt";
    ASSERT_TRUE(wrote(2, 100));
    EXPECT_EQ(flush(), 0);
    a_->set_down(0);
    ASSERT_TRUE(until_complete());
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_THAT(said, HasSubstr("mirror: lost a (Read-only file system), running on b alone"));
    EXPECT_THAT(said, HasSubstr("mirror: a is complete again"));
    EXPECT_TRUE(both_hold(2, 100));
    EXPECT_TRUE(both_hold(3, 4));

    b_->set_down(EROFS);
    EXPECT_TRUE(reads(2, 100)) << "a serves alone now";
    ASSERT_TRUE(wrote(5, 200));
    EXPECT_TRUE(reads(5, 200));
    b_->set_down(0);
    EXPECT_TRUE(until_complete());
}

TEST_F(MirrorTest, EitherHalfMayBeLostBetweenTheTwoCompletions) {
    for (const std::size_t lost : {0u, 1u}) {
        for (const bool fails_first : {false, true}) {
            open({});
            Transfer transfer(WRITE, 1, 1);
            transfer.pages.fill(0, 11);
            mirror_->submit(transfer.request);
            halves_[lost]->set_down(ENOSPC);
            ASSERT_TRUE(halves_[fails_first ? lost : 1 - lost]->complete_one(Kind::kWrite));
            EXPECT_FALSE(transfer.result);
            ASSERT_TRUE(halves_[fails_first ? 1 - lost : lost]->complete_one(Kind::kWrite));
            EXPECT_TRUE(transfer.good());
            EXPECT_FALSE(mirror_->complete());
            EXPECT_TRUE(reads(1, 11));
            halves_[lost]->set_down(0);
            ASSERT_TRUE(until_complete());
            EXPECT_TRUE(both_hold(1, 11));
        }
    }
}

TEST_F(MirrorTest, AWriteThatFailsOnBothFails) {
    a_->set_down(ENOSPC);
    b_->set_down(ENOSPC);
    EXPECT_EQ(write(0, 1), -ENOSPC);
    EXPECT_TRUE(mirror_->complete()) << "neither is better than the other";
}

TEST_F(MirrorTest, AnErrorThatPassesIsTriedAgain) {
    MirrorOptions options = quick();
    options.write_attempts_max = 5;
    open({}, options);
    a_->fail_next(Kind::kWrite, EIO, 4);
    ASSERT_TRUE(wrote(0, 1));
    EXPECT_TRUE(mirror_->complete());
    EXPECT_TRUE(both_hold(0, 1));
    a_->fail_next(Kind::kWrite, EIO, 5);
    ASSERT_TRUE(wrote(0, 2));
    EXPECT_FALSE(mirror_->complete()) << "five times is enough";
    ASSERT_TRUE(until_complete());
    EXPECT_TRUE(both_hold(0, 2));
}

TEST_F(MirrorTest, EitherHalfMayBeLostInAFlush) {
    for (const std::size_t lost : {0u, 1u}) {
        open({});
        ASSERT_TRUE(wrote(0, 1));
        Flush flushing;
        mirror_->flush(flushing.request);
        run_loop();
        halves_[lost]->set_down(EROFS);
        ASSERT_TRUE(halves_[1 - lost]->complete_one(Kind::kFlush));
        EXPECT_FALSE(flushing.result);
        ASSERT_TRUE(halves_[lost]->complete_one(Kind::kFlush));
        run_loop();
        EXPECT_EQ(flushing.result, -ESTALE) << "page 0 is not safe on the lost one, and nobody has it marked";
        ASSERT_TRUE(wrote(0, 1));
        EXPECT_EQ(flush(), 0);
        halves_[lost]->set_down(0);
        ASSERT_TRUE(until_complete());
        EXPECT_TRUE(both_hold(0, 1));
    }
}

TEST_F(MirrorTest, EitherHalfMayBeLostInARead) {
    ASSERT_TRUE(wrote(0, 1));
    ASSERT_EQ(flush(), 0);
    for (const std::size_t lost : {0u, 1u}) {
        halves_[lost]->set_down(EIO);
        for (int i = 0; i < 6; ++i) EXPECT_TRUE(reads(0, 1));
        EXPECT_EQ(source_, 1 - lost);
        halves_[lost]->set_down(0);
    }
}

TEST_F(MirrorTest, AReadThatIsNotAnsweredGoesToTheOther) {
    ASSERT_TRUE(wrote(0, 1));
    ASSERT_EQ(flush(), 0);
    for (MemoryStore* half : halves_) half->fail_next(Kind::kRead, ETIMEDOUT, 1);
    EXPECT_TRUE(reads(0, 1)) << "the first is asked again when both were slow";
    EXPECT_TRUE(mirror_->complete());
}

TEST_F(MirrorTest, AReadThatFailsOnBothFails) {
    a_->break_page(0);
    b_->break_page(0);
    Transfer transfer(READ, 0, 1);
    mirror_->submit(transfer.request);
    ASSERT_TRUE(drive([&] { return transfer.result.has_value(); }));
    EXPECT_EQ(transfer.result, -EIO);
}

TEST_F(MirrorTest, WhatIsWrongOnOneHalfIsReadFromTheOther) {
    ASSERT_TRUE(wrote(0, 1));
    ASSERT_EQ(flush(), 0);
    a_->corrupt(5);
    EXPECT_FALSE(reads(0, 1, 0b10));
    EXPECT_EQ(source_, 0);
    EXPECT_TRUE(reads(0, 1, 0b01));
    EXPECT_EQ(source_, 1);
}

TEST_F(MirrorTest, LostWritesOfOneHalfAreReportedOnce) {
    std::mt19937 random(1);
    ASSERT_TRUE(wrote(0, 1));
    a_->restart(random);
    EXPECT_EQ(flush(), -ESTALE);
    EXPECT_EQ(mirror_->counters().lost_writes, 1u);
    EXPECT_TRUE(mirror_->complete());
    ASSERT_TRUE(wrote(0, 1));
    EXPECT_EQ(flush(), 0);
    EXPECT_TRUE(both_hold(0, 1));
}

TEST_F(MirrorTest, ADeviceErrorAtAFlushHasTheWritesSentAgain) {
    ASSERT_TRUE(wrote(0, 1));
    b_->fail_next(Kind::kFlush, EIO, 1);
    EXPECT_EQ(flush(), -ESTALE);
    EXPECT_TRUE(mirror_->complete());
    EXPECT_EQ(flush(), 0);
    b_->fail_next(Kind::kFlush, EIO, 3);
    EXPECT_EQ(flush(), -ESTALE);
    EXPECT_EQ(flush(), -ESTALE);
    EXPECT_TRUE(mirror_->complete());
    EXPECT_EQ(flush(), -ESTALE);
    EXPECT_FALSE(mirror_->complete()) << "three times in a row";
    EXPECT_TRUE(until_complete());
}

TEST_F(MirrorTest, AHalfThatComesBackIsNotReadWhereItMissesPages) {
    ASSERT_TRUE(wrote(0, 1, 4));
    lose_a(1, 100);
    a_->set_down(0);
    // Until its first page has been looked at, then up to the first copy.
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 1; }));
    for (int i = 0; i < 4; ++i) {
        Transfer old(READ, 1, 1);
        const std::size_t before = b_->pending();
        mirror_->submit(old.request);
        ASSERT_EQ(b_->pending(), before + 1) << "the stale page was asked for";
        b_->complete(before);
        EXPECT_TRUE(old.good() && old.pages.holds(0, 100));
    }
    Transfer other(READ, 3, 1);
    const std::size_t before = a_->pending();
    mirror_->submit(other.request);
    EXPECT_EQ(a_->pending(), before + 1) << "what it has may be read, and it has less to do";
    ASSERT_TRUE(until_complete());
    ASSERT_TRUE(drive([&] { return other.result.has_value(); }));
    EXPECT_TRUE(both_hold(1, 100));
}

TEST_F(MirrorTest, AWriteWaitsForACopyOfItsPages) {
    lose_a(1, 100);
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 1; }));
    Transfer newer(WRITE, 1, 1), elsewhere(WRITE, 2, 1);
    newer.pages.fill(0, 200);
    mirror_->submit(newer.request);
    mirror_->submit(elsewhere.request);
    EXPECT_EQ(b_->pending(Kind::kWrite), 1u) << "only the one that goes elsewhere";
    ASSERT_TRUE(until_complete());
    ASSERT_TRUE(drive([&] { return newer.good() && elsewhere.good(); }));
    EXPECT_TRUE(both_hold(1, 200));
}

TEST_F(MirrorTest, ACopyWaitsForAWriteToItsPages) {
    lose_a(1, 100);
    Transfer newer(WRITE, 1, 1);
    newer.pages.fill(0, 200);
    mirror_->submit(newer.request);  // while a is out: to b alone
    a_->set_down(0);
    for (int i = 0; i < 50; ++i) {
        run_loop();
        a_->complete_all();
        EXPECT_EQ(b_->pending(Kind::kRead), 0u) << "older bytes would be copied";
    }
    EXPECT_EQ(b_->pending(Kind::kWrite), 1u);
    ASSERT_TRUE(until_complete());
    EXPECT_TRUE(newer.good());
    EXPECT_TRUE(both_hold(1, 200));
}

TEST_F(MirrorTest, CopiesThatTheHalfLosesAreMadeAgain) {
    std::mt19937 random(1);
    lose_a(1, 100);
    a_->set_down(0);
    // Copied, and the flush is under way.
    ASSERT_TRUE(drive([&] { return a_->counters().writes >= 2 && a_->pending(Kind::kFlush) == 1; }));
    a_->restart(random);
    ASSERT_TRUE(until_complete());
    EXPECT_TRUE(both_hold(1, 100));
    EXPECT_EQ(flush(), -ESTALE) << "the job's writes may have been lost with them";
}

TEST_F(MirrorTest, AHalfMayBeLostAgainWhileItIsCopiedTo) {
    MirrorOptions options = quick();
    options.resync.copy_pages = 1;
    options.resync.failures_max = 1;
    open({}, options);
    a_->set_down(EROFS);
    ASSERT_TRUE(wrote(0, 10, 32));
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 4; }));
    b_->complete_all();
    ASSERT_EQ(a_->pending(Kind::kWrite), 4u);
    a_->set_down(EIO);
    for (int i = 0; i < 20; ++i) {
        run_loop();
        a_->complete_all();
        b_->complete_all();
    }
    EXPECT_TRUE(reads(31, 41));
    a_->set_down(0);
    ASSERT_TRUE(until_complete());
    for (std::uint64_t page = 0; page < 32; ++page) EXPECT_TRUE(both_hold(page, 10 + page));
}

TEST_F(MirrorTest, TheLastCompleteHalfIsNeverTakenOut) {
    lose_a(1, 100);
    b_->fail_next(Kind::kWrite, EROFS, 1);
    EXPECT_EQ(write(2, 1), -EROFS) << "as of any store";
    ASSERT_TRUE(wrote(2, 2));
    b_->fail_next(Kind::kFlush, EIO, 1);
    EXPECT_EQ(flush(), -EIO);
    a_->set_down(0);
    EXPECT_TRUE(until_complete());
}

TEST_F(MirrorTest, ReservedSpaceIsWhatBothHave) {
    open({.reserved = 1 << 20});
    EXPECT_EQ(reserve((1 << 20) + 512), 0) << "not whole pages";
    EXPECT_EQ(mirror_->reserved(), (1u << 20) + kPageSize);
    EXPECT_EQ(reserve(2 << 20), 0);
    EXPECT_EQ(mirror_->reserved(), 2u << 20);
    b_->fail_next(Kind::kReserve, ENOSPC, 1);
    EXPECT_EQ(reserve(3 << 20), -ENOSPC);
    EXPECT_EQ(mirror_->reserved(), 2u << 20);
    EXPECT_TRUE(mirror_->complete()) << "full is not lost";

    lose_a(0, 5);
    EXPECT_EQ(reserve(4 << 20), 0);
    ASSERT_TRUE(wrote((4 << 20) / kPageSize - 1, 6));
    a_->set_down(0);
    ASSERT_TRUE(until_complete());
    EXPECT_EQ(a_->reserved(), 4u << 20);
    EXPECT_TRUE(both_hold((4 << 20) / kPageSize - 1, 6));

    a_->set_down(EIO);
    EXPECT_EQ(reserve(5 << 20), 0) << "b can go on alone";
    EXPECT_FALSE(mirror_->complete());
    a_->set_down(0);
    EXPECT_TRUE(until_complete());
}

TEST_F(MirrorTest, AHalfThatIsLostIsNotWaitedForInAFlush) {
    MirrorOptions options = quick();
    options.probe_delay = options.probe_delay_max = std::chrono::milliseconds(1);  // it cannot be probed yet
    open({}, options);
    Flush flushing;
    mirror_->flush(flushing.request);
    run_loop();
    b_->complete_all();
    EXPECT_FALSE(flushing.result);
    Transfer fails(WRITE, 3, 1);
    mirror_->submit(fails.request);
    b_->complete_all();
    a_->fail_next(Kind::kWrite, EROFS, 1);
    ASSERT_TRUE(a_->complete_one(Kind::kWrite));
    run_loop();
    EXPECT_TRUE(fails.good());
    EXPECT_EQ(flushing.result, -ESTALE);
    EXPECT_EQ(a_->pending(Kind::kFlush), 1u) << "still not answered";
    EXPECT_TRUE(until_complete());
}

TEST_F(MirrorTest, ACancelledRequestEnds) {
    Transfer writing(WRITE, 1, 1), reading(READ, 2, 1);
    mirror_->submit(writing.request);
    mirror_->submit(reading.request);
    mirror_->cancel(writing.request);
    mirror_->cancel(reading.request);
    ASSERT_TRUE(drive([&] { return writing.result && reading.result; }));
    EXPECT_EQ(writing.result, -ECANCELED);
    EXPECT_EQ(reading.result, -ECANCELED);
    EXPECT_TRUE(mirror_->complete());
}

TEST_F(MirrorTest, ItCanBeClosedWhileACopyIsUnderWay) {
    a_->set_down(EROFS);
    ASSERT_TRUE(wrote(0, 10, 200));
    a_->set_down(0);
    ASSERT_TRUE(drive([&] { return b_->pending(Kind::kRead) == 4; }));
    close();
}

TEST_F(MirrorTest, NothingIsAllocatedAfterItWasMade) {
    Transfer writing(WRITE, 1, 4), reading(READ, 1, 4);
    Flush flushing;
    const AllocationCounter counter;
    mirror_->submit(writing.request);
    mirror_->flush(flushing.request);
    for (int i = 0; i < 4; ++i) {
        run_loop();
        a_->complete_all();
        b_->complete_all();
    }
    mirror_->submit(reading.request);
    a_->complete_all();
    b_->complete_all();
    EXPECT_EQ(counter.allocations(), 0u);
    EXPECT_TRUE(writing.good() && reading.good() && flushing.result == 0);
}

}  // namespace
}  // namespace farswap::test
