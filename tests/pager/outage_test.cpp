// When a silent store is reported, and when the job has waited long enough.
#include "pager/outage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace farswap {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// Has a name and is asked nothing.
struct NamedStore final : Store {
    std::string text = "nfs://nas/export";
    const std::string& name() const noexcept override { return text; }
    std::uint64_t capacity() const noexcept override { return 0; }
    std::uint64_t reserved() const noexcept override { return 0; }
    std::uint32_t alignment() const noexcept override { return 1; }
    std::uint32_t transfer_max() const noexcept override { return 1; }
    void submit(Request&) noexcept override {}
    void flush(FlushRequest&) noexcept override {}
    void reserve(ReserveRequest&) noexcept override {}
    void cancel(Request&) noexcept override {}
    void close() noexcept override {}
    Counters counters() const noexcept override { return {}; }
};

class OutageTest : public testing::Test {
  protected:
    StoreWait wait(int since) const { return {&store, io::Clock::time_point(std::chrono::seconds(since))}; }
    /// What is said during so many seconds in which the store owes the answer to the question of `since`.
    std::string silence(OutageWatch& watch, int seconds, int since) {
        testing::internal::CaptureStderr();
        for (int i = 0; i < 5 * seconds && status; ++i) status = watch.update(200ms, {wait(since)});
        return testing::internal::GetCapturedStderr();
    }
    static std::string answer(OutageWatch& watch) {
        testing::internal::CaptureStderr();
        EXPECT_TRUE(watch.update(200ms, {}));
        return testing::internal::GetCapturedStderr();
    }
    NamedStore store;
    Status status;
};

TEST_F(OutageTest, AShortSilenceIsNotWorthAWord) {
    OutageWatch watch(std::nullopt);
    EXPECT_EQ(silence(watch, 4, 1), "");
    EXPECT_EQ(answer(watch), "");
    EXPECT_EQ(silence(watch, 4, 9), "");
}

TEST_F(OutageTest, IsReportedOnceAMinuteAndAtItsEnd) {
    OutageWatch watch(std::nullopt);
    EXPECT_THAT(silence(watch, 20, 1), HasSubstr("nfs://nas/export: no answer for 5 s"));
    EXPECT_EQ(silence(watch, 40, 1), "");
    EXPECT_THAT(silence(watch, 60, 1), HasSubstr("no answer for 65 s"));
    EXPECT_THAT(silence(watch, 60, 1), HasSubstr("no answer for 2 min 5 s"));
    EXPECT_THAT(answer(watch), HasSubstr("answers again, after 2 min 59 s"));
    EXPECT_EQ(answer(watch), "");
    EXPECT_TRUE(status);
}

TEST_F(OutageTest, AnAnswerMeanwhileBeginsAnew) {
    OutageWatch watch(10s);
    for (int since = 1; since < 30; ++since) silence(watch, 9, since);
    EXPECT_TRUE(status);
}

TEST_F(OutageTest, EndsAJobThatHasWaitedLongEnough) {
    OutageWatch watch(10s);
    EXPECT_THAT(silence(watch, 9, 1), HasSubstr("until 10 s"));
    EXPECT_TRUE(status);
    silence(watch, 2, 1);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ETIMEDOUT);
    EXPECT_THAT(status.error().message, HasSubstr("nfs://nas/export: no answer for 10 s"));
}

TEST_F(OutageTest, ItsOwnAbsenceIsNotTheStores) {
    OutageWatch watch(10s);
    EXPECT_TRUE(watch.update(200ms, {wait(1)}));
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(watch.update(3600s, {wait(1)})) << "a pager that was stopped";
}

}  // namespace
}  // namespace farswap
