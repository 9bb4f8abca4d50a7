// How large the cache tier becomes under programs of several kinds, played against a list of what came last.
#include "swap/tier_share.h"

#include <gtest/gtest.h>

#include <list>
#include <random>
#include <unordered_map>

namespace farswap::test {
namespace {

constexpr std::uint64_t kPages = 4096;  // of the program
constexpr std::uint32_t kRecordBytes = 1536;

/// Memory for half of the program's pages, as whole ones in use or as records in the tier; both go in order
/// of use. What leaves the tier is read from a store again.
class Play {
  public:
    void use(std::uint64_t page) {
        if (const auto at = where_.find(page); at != where_.end()) {
            if (at->second.in_tier) {
                share.found(came_ - at->second.came, came_ - where_.at(tier_.front()).came);
                tier_.erase(at->second.place);
                ++found;
            } else {
                used_.erase(at->second.place);
            }
        } else {
            share.missed();
            ++missed;
        }
        used_.push_back(page);
        where_[page] = {std::prev(used_.end()), false, 0};
        while (bytes() > kPages / 2 * kPageSize && used_.size() > 1) leave();
    }

    TierShare share{kPages / 2 * kPageSize / 4 * 3};
    std::uint64_t found = 0, missed = 0;

  private:
    struct Where {
        std::list<std::uint64_t>::iterator place;
        bool in_tier;
        std::uint32_t came;
    };

    std::uint64_t bytes() const { return used_.size() * kPageSize + tier_.size() * kRecordBytes; }
    void leave() {
        const std::uint64_t page = used_.front();
        used_.pop_front();
        if (!share.admits()) {
            where_.erase(page);
            return;
        }
        while (!tier_.empty() && (tier_.size() + 1) * kRecordBytes > share.limit()) {
            where_.erase(tier_.front());
            tier_.pop_front();
        }
        tier_.push_back(page);
        where_[page] = {std::prev(tier_.end()), true, ++came_};
        share.added(kRecordBytes);
    }

    std::list<std::uint64_t> used_, tier_;  ///< the oldest first
    std::unordered_map<std::uint64_t, Where> where_;
    std::uint32_t came_ = 0;
};

TEST(TierShare, GrowsWhereEveryPageIsAsLikelyToBeWanted) {
    Play play;
    std::mt19937_64 random(1);
    for (int i = 0; i < 200'000; ++i) play.use(random() % kPages);
    EXPECT_GT(play.share.limit(), play.share.most() * 3 / 4);
    EXPECT_FALSE(play.share.is_sampling());
}

TEST(TierShare, LeavesThePagesToTheProgramWhereAFaultCostsAsMuchAsARead) {
    Play play;
    play.share.fault_costs(std::chrono::microseconds(400));
    std::mt19937_64 random(1);
    for (int i = 0; i < 200'000; ++i) {
        play.share.read_took(std::chrono::microseconds(100));
        play.use(random() % kPages);
    }
    EXPECT_LT(play.share.limit(), play.share.most() / 4);
}

TEST(TierShare, TakesLittleWhereNothingComesBack) {
    Play play;
    for (std::uint64_t page = 0; page < 200'000; ++page) play.use(page);
    EXPECT_TRUE(play.share.is_sampling());
    EXPECT_LE(play.share.limit(), play.share.most() / 16);
}

TEST(TierShare, MakesRoomForARoundThatFitsOnlyCompressed) {
    // In order of use nothing of it would ever be found, were all let in.
    Play play;
    for (int round = 0; round < 100; ++round)
        for (std::uint64_t page = 0; page < kPages * 4 / 5; ++page) play.use(page);
    const std::uint64_t before = play.found;
    for (std::uint64_t page = 0; page < kPages * 4 / 5; ++page) play.use(page);
    EXPECT_GT(play.found - before, kPages / 5);
}

TEST(TierShare, LeavesTheProgramWhatItUsesMost) {
    // Half of the uses go to what just fits, the rest to a page of the others now and then.
    Play play;
    std::mt19937_64 random(1);
    for (int i = 0; i < 400'000; ++i)
        play.use(i % 16 != 0 ? random() % (kPages / 3) : random() % (kPages * 64));
    EXPECT_LT(play.share.limit(), play.share.most() / 2);
}

TEST(TierShare, IsAShareOfACapThatChanges) {
    TierShare share(1 << 20);
    share.set_most(1 << 16);
    EXPECT_LE(share.limit(), std::uint64_t{1} << 16);
    share.set_most(1 << 24);
    EXPECT_GE(share.limit(), (std::uint64_t{1} << 24) / 32);
}

}  // namespace
}  // namespace farswap::test
