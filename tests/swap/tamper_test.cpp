// What is changed on a store behind the area's back comes back as an error, never as a page: random
// tamperings by seed, each undone afterwards, so that nothing but the tampering can have been the reason. One
// counts only when the bytes differ from the right ones and the area has read them.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "area_fixture.h"
#include "base/log.h"
#include "seeds.h"
#include "swap/compress.h"
#include "swap/place.h"

namespace farswap::test {
namespace {

enum class How { kFlip, kSwap, kReplay, kZero, kForge, kTruncate, kRollback };
constexpr std::size_t kHows = 7;
constexpr const char* kNames[kHows] = {"flip", "swap", "replay", "zero", "forge", "truncate", "rollback"};

class TamperTest : public AreaTest {
  protected:
    static constexpr std::uint32_t kPages = 192;  // twice the pool
    static constexpr std::uint32_t kTruncatedMax = 24;

    /// A stored page of 4 KiB: the unit of what is tampered with.
    struct Block {
        std::size_t store;
        std::uint64_t offset;
        auto operator<=>(const Block&) const = default;
    };
    using Bytes = std::vector<std::byte>;

    ~TamperTest() override { log::set_level(log::Level::kWarning); }

    void begin(unsigned seed, bool sealed, Compression compression = Compression::kOff) {
        random_.seed(seed);
        if (compression != Compression::kOff) compressor_ = Compressor::create(compression).value();
        log::set_level(log::Level::kQuiet);  // a line for each tampering helps nobody
        SwapAreaOptions options = quick();
        options.seal = sealed;
        options.compression = compression;
        std::vector<MemoryStoreOptions> stores;
        const unsigned count = 1 + seed / 2 % 2;
        // So little that short records come to lie where others were.
        const unsigned parts = compression == Compression::kOff ? 1 : count;
        const std::uint64_t capacity = (kPages + 112) / parts * kPageSize;
        for (unsigned i = 0; i < count; ++i)
            stores.push_back(
                {.name = fmt::format("store-{}", i), .capacity = capacity, .reserved = capacity});
        open({.frames = 96, .stores = stores, .area = options});
        reads_.resize(stores_.size());
        for (std::size_t i = 0; i < stores_.size(); ++i) stores_[i]->read_log = &reads_[i];
        add_random_pages(kPages);
        for (int round = 0; round < 4; ++round) rewrite(kPages / 2);
    }

    std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

    /// The first `length` bytes at random, the others zeros.
    Bytes random_page(std::size_t length = kPageSize) {
        Bytes page(kPageSize);
        for (std::size_t i = 0; i < length; i += 8) {
            const std::uint64_t word = random_();
            std::memcpy(page.data() + i, &word, 8);
        }
        return page;
    }

    /// Of a job that compresses, four in five get smaller, by one unit of a record to seven. All others are
    /// pages that no compression makes smaller.
    Bytes page_to_add() {
        return random_page(compressor_ ? std::min(8 + below(5000), kPageSize) : kPageSize);
    }

    /// Bytes of its record (page_records.h).
    std::size_t record_bytes(const Bytes& page) {
        constexpr std::uint32_t kLengthBytes = 2, kMost = kPageSize - kUnitBytes - kLengthBytes;
        Bytes packed(kPageSize);
        const std::uint32_t length =
            compressor_ ? compressor_->compress(page.data(), packed.data(), kMost) : 0;
        return length == 0 ? kPageSize : (kLengthBytes + length + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
    }

    void add_random_pages(std::uint32_t count) {
        while (count > 0) {
            const FrameRun frames = area_->take_frames(std::min(count, 16u));
            if (frames.count == 0) {
                area_->kick_writes();
                settle();
                continue;
            }
            add_filled_frames(frames);
            count -= frames.count;
        }
        push_out();
    }

    void add_filled_frames(FrameRun frames) {
        std::vector<Bytes> pages;
        for (std::uint32_t i = 0; i < frames.count; ++i) {
            pages.push_back(page_to_add());
            std::ranges::copy(pages.back(), pool_->address(frames.first + i));
        }
        for (std::size_t added = 0; frames.count > 0;) {
            const SlotRun run = area_->add(frames).value();
            for (std::uint32_t i = 0; i < run.count; ++i)
                content_[run.first + i] = std::move(pages.at(added++));
            frames = {frames.first + run.count, frames.count - run.count};
        }
    }

    /// So many pages are given up and others take their places, of which the store's old content is kept.
    void rewrite(std::uint32_t count) {
        if (images_.size() == 4) images_.erase(images_.begin());
        images_.emplace_back();
        for (MemoryStore* store : stores_) images_.back().push_back(store->image());
        for (std::size_t i = 0; i < stores_.size(); ++i)
            for (const auto& [offset, bytes] : images_.back()[i]) {
                std::vector<Bytes>& versions = older_[{i, offset}];
                if (versions.empty() || versions.back() != bytes) versions.push_back(bytes);
            }
        for (auto& [block, versions] : older_)
            if (versions.size() > 4) versions.erase(versions.begin());
        for (std::uint32_t i = 0; i < count && !content_.empty(); ++i) {
            const auto victim =
                std::next(content_.begin(), static_cast<std::ptrdiff_t>(below(content_.size())));
            area_->put(victim->first);
            content_.erase(victim);
        }
        settle();
        add_random_pages(count);
        place();
    }

    /// Finds out where each slot's record lies, as messages have it.
    void place() {
        slots_at_.clear();
        records_.clear();
        for (const auto& [slot, bytes] : content_) {
            const std::string said = area_->describe(slot);
            std::size_t store = 0;
            unsigned long long offset = 0;
            ASSERT_EQ(std::sscanf(said.c_str(), "slot %*u (store-%zu at byte %llu)", &store, &offset), 2)
                << said;
            const std::size_t length = record_bytes(bytes);
            records_[slot] = {store, offset, length};
            for (auto block = offset / kPageSize * kPageSize; block < offset + length; block += kPageSize)
                slots_at_[{store, block}].push_back(slot);
        }
    }

    /// Whether the tampering, before which the blocks were `right`, has changed a byte of the slot's record.
    bool is_changed(SlotId slot, const std::map<Block, Bytes>& right) {
        const Record& record = records_.at(slot);
        for (const auto& [block, bytes] : right) {
            const auto begin = std::max(record.offset, block.offset);
            const auto end = std::min(record.offset + record.length, block.offset + kPageSize);
            if (block.store != record.store || begin >= end) continue;
            if (std::memcmp(stored(block).data() + (begin - block.offset),
                            bytes.data() + (begin - block.offset), end - begin) != 0)
                return true;
        }
        return false;
    }

    Block random_block() {
        return std::next(slots_at_.begin(), static_cast<std::ptrdiff_t>(below(slots_at_.size())))->first;
    }
    Bytes stored(Block block) { return stores_[block.store]->bytes_at(block.offset); }

    /// What the stores hold after the tampering, where that is not what they should hold.
    std::map<Block, Bytes> draw(How how) {
        const Block block = random_block();
        switch (how) {
            case How::kFlip: {
                Bytes bytes = stored(block);
                const std::size_t bit = below(kPageSize * 8);
                bytes[bit / 8] ^= std::byte{1} << (bit % 8);
                return {{block, bytes}};
            }
            case How::kSwap: {
                const Block other = random_block();
                return {{block, stored(other)}, {other, stored(block)}};
            }
            case How::kReplay: {
                std::vector<Bytes> versions = older_[block];
                std::erase(versions, stored(block));
                if (versions.empty()) return {};
                return {{block, versions[below(versions.size())]}};
            }
            case How::kZero:
                return {{block, Bytes(kPageSize)}};
            case How::kForge:
                return {{block, random_page()}};
            case How::kTruncate:
                return cut();
            case How::kRollback:
                return roll_back();
        }
        return {};
    }

    /// The end of a store is gone, which reads as zeros.
    std::map<Block, Bytes> cut() {
        const std::size_t store = below(stores_.size());
        std::vector<Block> blocks;
        for (const auto& [block, slots] : slots_at_)
            if (block.store == store) blocks.push_back(block);
        std::map<Block, Bytes> changes;
        for (std::size_t left = 1 + below(kTruncatedMax); left > 0 && !blocks.empty(); --left) {
            changes[blocks.back()] = Bytes(kPageSize);
            blocks.pop_back();
        }
        return changes;
    }

    /// All of a store is what it was before one of the last calls of rewrite().
    std::map<Block, Bytes> roll_back() {
        const std::size_t store = below(stores_.size());
        std::map<Block, Bytes> changes;
        for (const auto& [offset, bytes] : images_.at(below(images_.size())).at(store))
            changes[{store, offset}] = bytes;
        return changes;
    }

    /// True when it counted. Afterwards the stores are as before.
    bool tamper(How how) {
        drop_clean();
        std::map<Block, Bytes> changes = draw(how);
        std::erase_if(changes, [&](const auto& change) {
            return change.second == stored(change.first) || !is_outside(change.first);
        });
        if (changes.empty()) return false;
        std::map<Block, Bytes> right;
        for (const auto& [block, bytes] : changes) {
            right[block] = stored(block);
            stores_[block.store]->replace(block.offset, bytes);
        }
        const std::uint32_t refused_before = refused_;
        for (const auto& [block, bytes] : changes) expect_refused(block, right, how);
        expect_others_right(changes, right);
        for (const auto& [block, bytes] : right) stores_[block.store]->replace(block.offset, bytes);
        drop_clean();
        expect_right(slots_at_[changes.begin()->first].front());
        // Between records there may be units that are nobody's.
        if (refused_ == refused_before) return false;
        ++counted_[static_cast<std::size_t>(how)];
        return true;
    }

    /// Whether pages are read from there. The frame that is kept for reads may hold one all the time.
    bool is_outside(Block block) {
        const auto slots = slots_at_.find(block);
        return slots != slots_at_.end() &&
               std::ranges::none_of(slots->second, [&](SlotId slot) { return area_->lookup(slot); });
    }

    /// A fetch that may bring neighbours along.
    Fetch fetch_around(SlotId slot) {
        const auto before = static_cast<SlotId>(below(9));
        const SlotId first = slot - std::min(slot, before);
        return fetch_now(slot, {first, slot - first + 1 + static_cast<SlotId>(below(9))});
    }

    void expect_refused(Block block, const std::map<Block, Bytes>& right, How how) {
        for (const SlotId slot : slots_at_[block]) {
            if (!is_changed(slot, right)) continue;
            std::vector<std::uint64_t>& log = reads_[block.store];
            log.clear();
            const Fetch fetch = fetch_around(slot);
            ASSERT_EQ(fetch.result, -EILSEQ) << kNames[static_cast<std::size_t>(how)] << " of "
                                             << area_->describe(slot) << " went unnoticed";
            ASSERT_TRUE(fetch.page.empty()) << "bytes were given out";
            ASSERT_NE(std::ranges::find(log, block.offset), log.end()) << "it was not read back";
            ASSERT_EQ(area_->lookup(slot), nullptr) << "it is in the cache";
            ++refused_;
        }
    }

    void expect_right(SlotId slot) {
        const Fetch fetch = fetch_around(slot);
        ASSERT_EQ(fetch.result, 0) << area_->describe(slot);
        ASSERT_EQ(fetch.page, content_.at(slot)) << area_->describe(slot);
    }

    /// Pages that nobody has touched, one of them a neighbour if there is one.
    void expect_others_right(const std::map<Block, Bytes>& changes, const std::map<Block, Bytes>& right) {
        std::set<Block> tried = {random_block(), random_block()};
        const auto next = slots_at_.upper_bound(changes.begin()->first);
        if (next != slots_at_.end()) tried.insert(next->first);
        tried.insert(changes.begin()->first);  // of which not all records need be changed
        for (const Block& block : tried)
            for (const SlotId slot : slots_at_[block])
                if (!is_changed(slot, right)) expect_right(slot);
    }

    void give_up_all() {
        for (const auto& [slot, bytes] : content_) area_->put(slot);
        settle();
    }

    struct Record {
        std::size_t store;
        std::uint64_t offset;
        std::size_t length;
    };

    std::mt19937_64 random_;
    std::unique_ptr<Compressor> compressor_;         ///< as the area has; none: it has none
    std::map<SlotId, Bytes> content_;                ///< what each slot must hold
    std::map<SlotId, Record> records_;               ///< where it is
    std::map<Block, std::vector<SlotId>> slots_at_;  ///< whose records, or parts of them, are there
    std::map<Block, std::vector<Bytes>> older_;
    std::vector<std::vector<MemoryStore::Image>> images_;  ///< of each store, the oldest first
    std::vector<std::vector<std::uint64_t>> reads_;        ///< of each store, offsets
    std::array<std::uint32_t, kHows> counted_{};
    std::uint32_t refused_ = 0;
};

class TamperSeedTest : public TamperTest, public ::testing::WithParamInterface<unsigned> {};

/// 20 seeds of these, and 300 tamperings of real stores (tests/e2e/tampering.py), are 10,000.
constexpr std::uint32_t kTamperings = 485;

TEST_P(TamperSeedTest, NoneIsMissed) {
    const bool compresses = GetParam() % 2 == 1;
    begin(GetParam(), /*sealed=*/true, compresses ? Compression::kLz4 : Compression::kOff);
    std::set<std::size_t> lengths;
    for (const auto& [slot, record] : records_) lengths.insert(record.length);
    ASSERT_EQ(lengths.size(), compresses ? kUnitsPerBlock : 1) << "lengths of records";
    ASSERT_EQ(slots_at_.size() < content_.size(), compresses) << "records share blocks";
    for (std::uint32_t done = 0, drawn = 0; done < kTamperings && !HasFailure(); ++drawn) {
        if (drawn % 97 == 96) rewrite(kPages / 4);
        // Those that change many pages take long.
        const std::size_t kind = below(16);
        done += tamper(static_cast<How>(kind < 14 ? kind % 5 : kind - 9)) ? 1 : 0;
        ASSERT_LT(drawn, 4 * kTamperings) << "tamperings leave the bytes as they were";
    }
    for (std::size_t i = 0; i < kHows; ++i) EXPECT_GT(counted_[i], 2u) << kNames[i];
    EXPECT_GE(refused_, kTamperings);
    for (std::size_t i = 0; i < kHows; ++i) RecordProperty(kNames[i], static_cast<int>(counted_[i]));
    RecordProperty("refused_pages", static_cast<int>(refused_));
    give_up_all();
}

INSTANTIATE_TEST_SUITE_P(Seeds, TamperSeedTest, seeds(20));

/// What is kept of a page without seals is a checksum; it stays here, so that it knows old content, too.
TEST_F(TamperTest, ChecksumsNoticeTheSame) {
    begin(1, /*sealed=*/false);
    for (std::size_t i = 0; i < 32 * kHows; ++i) {
        if (i % 32 == 31) rewrite(kPages / 4);
        tamper(static_cast<How>(i % kHows));
    }
    for (std::size_t i = 0; i < kHows; ++i) EXPECT_GT(counted_[i], 2u) << kNames[i];
    give_up_all();
}

/// A record of another job's, of the same slot and the same page, is none of this one's.
TEST_F(TamperTest, AnotherJobsRecordIsRefused) {
    begin(4, /*sealed=*/true);
    const std::map<Block, std::vector<SlotId>> their_slots = slots_at_;
    const MemoryStore::Image theirs = store_->image();
    give_up_all();
    content_.clear();
    older_.clear();
    begin(4, /*sealed=*/true);  // the same random numbers, another key
    ASSERT_EQ(slots_at_, their_slots);
    drop_clean();
    std::uint32_t tried = 0;
    for (const auto& [block, slots] : slots_at_) {
        if (tried == 8) break;
        if (!is_outside(block)) continue;
        const Bytes right = stored(block);
        ASSERT_NE(right, theirs.at(block.offset));
        stores_[block.store]->replace(block.offset, theirs.at(block.offset));
        expect_refused(block, {{block, right}}, How::kReplay);
        stores_[block.store]->replace(block.offset, right);
        drop_clean();
        expect_right(slots.front());
        drop_clean();
        ++tried;
    }
    EXPECT_EQ(tried, 8u);
    give_up_all();
}

/// Compressed records lie several to a block: what is done to one is no harm to the others.
TEST_F(TamperTest, OfRecordsThatShareABlockTheOneIsRefused) {
    log::set_level(log::Level::kQuiet);
    SwapAreaOptions options = quick();
    options.compression = Compression::kLz4;
    open({.frames = 96, .area = options});
    std::map<SlotId, std::uint64_t> values;
    for (std::uint64_t value = 0; value < kPages; value += 32) {
        for (const SlotId slot : add_pages(32, value)) values[slot] = value + values.size() % 32;
        push_out();
    }
    ASSERT_EQ(values.size(), kPages);
    std::map<std::uint64_t, std::vector<SlotId>> in_block;
    std::map<SlotId, std::uint64_t> offsets;
    for (const auto& [slot, value] : values) {
        const std::string said = area_->describe(slot);
        const std::size_t at = said.find("at byte ");
        ASSERT_NE(at, std::string::npos) << said;
        offsets[slot] = std::stoull(said.substr(at + 8));
        in_block[offsets[slot] / kPageSize].push_back(slot);
    }
    ASSERT_LT(in_block.size(), kPages) << "no two records share a block";
    std::uint32_t neighbours = 0;
    for (const auto& [slot, offset] : offsets) {
        drop_clean();
        if (area_->lookup(slot) != nullptr) continue;
        const std::uint64_t block = offset / kPageSize * kPageSize;
        const Bytes right = store_->bytes_at(block);
        Bytes bytes = right;
        bytes[offset - block + below(kUnitBytes)] ^= std::byte{1} << below(8);
        store_->replace(block, bytes);
        ASSERT_EQ(fetch_now(slot).result, -EILSEQ) << area_->describe(slot);
        for (const SlotId other : in_block[offset / kPageSize]) {
            if (other == slot) continue;
            const Fetch fetch = fetch_now(other);
            ASSERT_EQ(fetch.result, 0) << area_->describe(other);
            ASSERT_TRUE(page_holds(fetch.page.data(), values[other])) << area_->describe(other);
            ++neighbours;
        }
        store_->replace(block, right);
        ASSERT_EQ(fetch_now(slot).result, 0) << area_->describe(slot);
    }
    EXPECT_GT(neighbours, 50u);
    for (const auto& [slot, value] : values) area_->put(slot);
}

}  // namespace
}  // namespace farswap::test
