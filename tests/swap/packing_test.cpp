// Records that share blocks: sizes, places, reads of one and of many, losses, and room.
#include <random>

#include "area_fixture.h"
#include "base/log.h"

namespace farswap::test {
namespace {

/// Compresses to about `percent` of a page.
std::vector<std::byte> page_like(std::uint64_t value, unsigned percent) {
    std::vector<std::byte> page(kPageSize);
    std::mt19937_64 random(value);
    for (std::size_t i = 0; i < kPageSize * percent / 100; ++i) page[i] = static_cast<std::byte>(random());
    std::memcpy(page.data() + kPageSize - 8, &value, 8);
    return page;
}

class PackingTest : public AreaTest {
  protected:
    PackingTest() { open_packing(512); }

    void open_packing(std::uint32_t frames, std::uint64_t bytes = std::uint64_t{64} << 20) {
        SwapAreaOptions options = quick();
        options.compression = Compression::kLz4;
        open({.frames = frames, .stores = {{.capacity = bytes, .reserved = bytes}}, .area = options});
    }
    struct Added {
        SlotId slot;
        std::vector<std::byte> page;
    };
    std::vector<Added> add_like(const std::vector<unsigned>& percents, std::uint64_t value) {
        std::vector<Added> added;
        while (added.size() < percents.size()) {
            FrameRun frames = area_->take_frames(static_cast<std::uint32_t>(percents.size() - added.size()));
            if (frames.count == 0) break;
            std::vector<std::vector<std::byte>> pages;
            for (std::uint32_t i = 0; i < frames.count; ++i) {
                pages.push_back(page_like(value + added.size() + i, percents[added.size() + i]));
                std::memcpy(pool_->address(frames.first + i), pages.back().data(), kPageSize);
            }
            const Result<SlotRun> run = area_->add(frames);
            EXPECT_TRUE(run && run->count == frames.count);
            for (std::uint32_t i = 0; i < run->count; ++i) added.push_back({run->first + i, pages[i]});
        }
        return added;
    }
    void write_all() {
        area_->kick_writes();
        settle();
    }
    void expect_right(const std::vector<Added>& added, SlotRun window = {}) {
        for (const Added& one : added) {
            const Fetch fetch = fetch_now(one.slot, window);
            EXPECT_EQ(fetch.result, 0) << one.slot;
            EXPECT_EQ(fetch.page, one.page) << one.slot;
        }
    }
};

TEST_F(PackingTest, AWriteIsAsLongAsItsRecords) {
    add_like(std::vector<unsigned>(64, 20), 0);
    write_all();
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({16})) << "2 units each";
}

TEST_F(PackingTest, EachRecordIsFoundWhereverItLies) {
    std::vector<unsigned> percents;
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) percents.push_back(random() % 120 % 101);
    const std::vector<Added> added = add_like(percents, 100);
    ASSERT_EQ(added.size(), 200u);
    write_all();
    drop_clean();
    expect_right(added);
    drop_clean();
    expect_right(added, {added[0].slot, 200});
    for (const Added& one : added) area_->put(one.slot);
    EXPECT_EQ(area_->slots_used(), 0u);
}

TEST_F(PackingTest, AWindowIsReadAsItWasWritten) {
    const std::vector<Added> added = add_like(std::vector<unsigned>(64, 45), 0);
    write_all();
    drop_clean();
    store_->lengths.clear();
    fetch_now(added[10].slot, {added[0].slot, 64});
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({32})) << "4 units each";
    expect_right(added);
    EXPECT_EQ(store_->lengths.size(), 1u);
}

TEST_F(PackingTest, APageIsReadByItsBlocksOnly) {
    const std::vector<Added> added = add_like({45, 80, 45, 100}, 0);  // 4, 7, 4 and 8 units
    write_all();
    drop_clean();
    store_->lengths.clear();
    for (const Added& one : added) {
        fetch_now(one.slot);
        drop_clean();
    }
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({1, 2, 1, 2}));
}

TEST_F(PackingTest, WhatIsLostIsWrittenToTheSamePlacesTheSame) {
    std::mt19937 random(5);
    std::vector<unsigned> percents;
    for (int i = 0; i < 150; ++i) percents.push_back(random() % 110 % 101);
    std::vector<Added> added = add_like(percents, 7);
    area_->kick_writes();
    while (store_->complete_one(Kind::kWrite)) {
    }
    const std::uint64_t blocks =
        std::ranges::max(store_->written, {}, &std::pair<std::uint64_t, std::uint64_t>::first).first /
        kPageSize;
    std::vector<std::vector<std::byte>> before;
    for (std::uint64_t block = 0; block < blocks; ++block)
        before.push_back(store_->bytes_at(block * kPageSize));
    store_->restart(random);
    settle();
    for (std::uint64_t block = 0; block < blocks; ++block)
        ASSERT_EQ(store_->bytes_at(block * kPageSize), before[block]) << block;
    drop_clean();
    expect_right(added);
}

TEST_F(PackingTest, WhatIsLeftOfALostWriteIsWrittenWithoutWhatWasFreed) {
    std::mt19937 random(6);
    for (int round = 0; round < 20; ++round) {
        std::vector<unsigned> percents;
        for (int i = 0; i < 140; ++i) percents.push_back(random() % 110 % 101);
        std::vector<Added> added = add_like(percents, 1000u * round);
        area_->kick_writes();
        while (store_->complete_one(Kind::kWrite)) {
        }
        store_->restart(random);
        std::erase_if(added, [&](const Added& one) {
            const bool goes = random() % 3 == 0;
            if (goes) area_->put(one.slot);
            return goes;
        });
        settle();
        drop_clean();
        expect_right(added);
        for (const Added& one : added) area_->put(one.slot);
        ASSERT_EQ(area_->slots_used(), 0u);
    }
}

TEST_F(PackingTest, AStoreHoldsMoreThanItsBlocks) {
    open_packing(256, 256 * kPageSize);
    std::vector<Added> added;
    for (std::uint64_t value = 0; added.size() < 700; value += 32) {
        std::vector<Added> more = add_like(std::vector<unsigned>(32, 20), value);
        if (more.empty()) break;
        added.insert(added.end(), more.begin(), more.end());
        write_all();
    }
    EXPECT_GE(added.size(), 700u);
    EXPECT_EQ(area_->slots_capacity(), 256u);
    expect_right(added);
}

TEST_F(PackingTest, AFullStoreHasHeldAPageForEachBlockAtLeast) {
    open_packing(256, 256 * kPageSize);
    std::mt19937 random(9);
    std::vector<Added> added;
    std::uint64_t value = 0;
    for (int round = 0; round < 300; ++round) {
        std::vector<unsigned> percents(1 + random() % 32);
        for (unsigned& percent : percents) percent = random() % 130 % 101;
        std::vector<Added> more = add_like(percents, value += 100);
        added.insert(added.end(), more.begin(), more.end());
        write_all();
        if (more.size() < percents.size()) {
            EXPECT_GE(added.size(), 128u) << "a record takes two blocks at most";
            std::ranges::shuffle(added, random);
            while (added.size() > 100) {
                area_->put(added.back().slot);
                added.pop_back();
            }
        }
    }
    expect_right(added);
    for (const Added& one : added) area_->put(one.slot);
    EXPECT_EQ(area_->slots_used(), 0u);
}

TEST_F(PackingTest, APageOfTwoBlocksWaitsForItsBuffer) {
    const std::vector<Added> added = add_like(std::vector<unsigned>(300, 60), 0);  // 5 units
    write_all();
    drop_clean();
    std::vector<std::unique_ptr<Fetch>> fetches;
    for (std::size_t i = 0; i < added.size(); i += 3) {
        fetches.push_back(std::make_unique<Fetch>(added[i].slot));
        area_->fetch(*fetches.back());
    }
    settle();
    for (std::size_t i = 0; i < fetches.size(); ++i) {
        EXPECT_EQ(fetches[i]->answers, 1);
        EXPECT_EQ(fetches[i]->page, added[i * 3].page);
    }
}

}  // namespace
}  // namespace farswap::test
