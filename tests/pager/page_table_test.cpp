// The page table over sparse addresses, at the edges of its blocks, and while it is being walked; and that it
// has no more blocks than its words need.
#include "pager/page_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "allocation_counter.h"

namespace farswap {
namespace {

constexpr std::uint64_t kLeaf = std::uint64_t{2} << 20;    // bytes of addresses a leaf
constexpr std::uint64_t kMiddle = std::uint64_t{1} << 30;  // and a middle table
constexpr std::uint64_t kUpper = std::uint64_t{1} << 39;   // and an upper one
constexpr std::uint64_t kTestBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kEnd = PageTable::kAddressEnd;

PageWord far_page(std::uint64_t index) {
    return PageWord{}.evicted(static_cast<std::uint32_t>(index));
}

class PageTableTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto made = TableMemory::create(kTestBytes);
        ASSERT_TRUE(made) << made.error().message;
        memory_ = std::move(*made);
        table_ = std::make_unique<PageTable>(*memory_);
    }
    std::vector<std::uint64_t> visited(std::uint64_t start, std::uint64_t end) const {
        std::vector<std::uint64_t> addresses;
        table_->for_each(start, end, [&](std::uint64_t at, PageWord) { addresses.push_back(at); });
        return addresses;
    }
    /// What is needed for words at these addresses.
    static std::uint64_t blocks_for(const std::map<std::uint64_t, PageWord>& words) {
        std::set<std::uint64_t> leaves, middles, uppers;
        for (const auto& [at, word] : words) {
            leaves.insert(at / kLeaf);
            middles.insert(at / kMiddle);
            uppers.insert(at / kUpper);
        }
        return leaves.size() + middles.size() + uppers.size();
    }
    std::map<std::uint64_t, PageWord> walked(std::uint64_t start, std::uint64_t end) const {
        std::map<std::uint64_t, PageWord> found;
        table_->for_each(start, end, [&](std::uint64_t at, PageWord word) { found.emplace(at, word); });
        return found;
    }

    std::unique_ptr<TableMemory> memory_;
    std::unique_ptr<PageTable> table_;
};

const std::vector<std::uint64_t> kEdges = {0,
                                           kPageSize,
                                           kLeaf - kPageSize,
                                           kLeaf,
                                           kMiddle - kPageSize,
                                           kMiddle,
                                           5 * kMiddle + kLeaf,
                                           kUpper - kPageSize,
                                           kUpper,
                                           kEnd - kPageSize - kMiddle,
                                           kEnd - kPageSize};

TEST_F(PageTableTest, WordsAtTheEdgesOfBlocksAreApart) {
    for (std::size_t i = 0; i < kEdges.size(); i++) table_->set(kEdges[i], far_page(i));
    for (std::size_t i = 0; i < kEdges.size(); i++)
        EXPECT_EQ(table_->get(kEdges[i]), far_page(i)) << kEdges[i];
    EXPECT_EQ(visited(0, kEnd), kEdges);
    EXPECT_EQ(table_->get(2 * kPageSize), PageWord{}) << "in a leaf that exists";
    EXPECT_EQ(table_->get(kLeaf * 7), PageWord{}) << "without a leaf";
    EXPECT_EQ(table_->get(kMiddle * 9), PageWord{}) << "without a middle table";
}

TEST_F(PageTableTest, AWalkKeepsWithinItsRange) {
    for (std::uint64_t at : kEdges) table_->set(at, far_page(1));
    using Addresses = std::vector<std::uint64_t>;
    EXPECT_EQ(visited(kPageSize, kLeaf), (Addresses{kPageSize, kLeaf - kPageSize}));
    EXPECT_EQ(visited(kLeaf, kMiddle), (Addresses{kLeaf, kMiddle - kPageSize}));
    EXPECT_EQ(visited(kMiddle, kMiddle + kPageSize), (Addresses{kMiddle}));
    EXPECT_EQ(visited(kMiddle + kPageSize, 5 * kMiddle + kLeaf), Addresses{});
    EXPECT_EQ(visited(kLeaf, kLeaf), Addresses{});
}

TEST_F(PageTableTest, OfADefaultWordNothingIsKept) {
    table_->set(kLeaf, far_page(1).unmapped());
    EXPECT_EQ(table_->get(kLeaf), PageWord{});
    EXPECT_EQ(memory_->blocks_in_use(), 0u);
    table_->set(kLeaf, far_page(1));
    table_->set(kLeaf, far_page(1).unmapped());
    table_->set(kLeaf, far_page(1).unmapped());
    EXPECT_EQ(table_->get(kLeaf), PageWord{});
    EXPECT_EQ(memory_->blocks_in_use(), 0u);
    EXPECT_TRUE(visited(0, kEnd).empty());
}

TEST_F(PageTableTest, AWalkSeesWhatItsVisitorSetsAhead) {
    table_->set(kLeaf - kPageSize, far_page(0));
    std::vector<std::uint64_t> order;
    table_->for_each(0, kMiddle * 3, [&](std::uint64_t at, PageWord word) {
        order.push_back(at);
        table_->set(at, word.unmapped());
        // Ahead, into a leaf and then a middle table that do not exist yet.
        if (order.size() == 1) table_->set(kLeaf, far_page(1));
        if (order.size() == 2) table_->set(kMiddle * 2, far_page(2));
    });
    EXPECT_EQ(order, (std::vector<std::uint64_t>{kLeaf - kPageSize, kLeaf, kMiddle * 2}));
    EXPECT_TRUE(visited(0, kEnd).empty());
}

TEST_F(PageTableTest, AWalkDoesNotFollowABlockToItsNextOwner) {
    for (std::uint64_t page = 0; page < 8; page++) table_->set(page * kPageSize, far_page(page));
    // As a mapping that moves: the leaf that is walked goes with its last word, and what is set next takes
    // its memory.
    std::vector<std::uint64_t> order;
    table_->for_each(0, kLeaf, [&](std::uint64_t at, PageWord) {
        order.push_back(at);
        for (std::uint64_t page = 0; page < 8; page++) table_->set(page * kPageSize, {});
        for (std::uint64_t page = 0; page < 512; page++)
            table_->set(9 * kUpper + page * kPageSize, far_page(page));
    });
    EXPECT_EQ(order, std::vector<std::uint64_t>{0});
    EXPECT_EQ(walked(0, kEnd).size(), 512u);
    EXPECT_EQ(memory_->blocks_in_use(), 3u);
}

TEST_F(PageTableTest, AgreesWithAMapAndHasNoMoreThanItNeeds) {
    std::mt19937_64 random(4);
    std::map<std::uint64_t, PageWord> oracle;
    const auto address = [&] {
        const std::uint64_t cluster = (random() % 16) * (kEnd / 16) + (random() % 3) * kMiddle / 2;
        return cluster + (random() % 3) * kLeaf + random() % 6 * 100 * kPageSize;
    };
    const auto set = [&](std::uint64_t at, PageWord word) {
        table_->set(at, word);
        if (word.is_default())
            oracle.erase(at);
        else
            oracle[at] = word;
    };
    for (int i = 0; i < 40'000; i++) {
        const std::uint64_t at = address();
        // For a while it becomes more, and for a while less.
        const bool is_to_go = random() % 8 < (i / 5'000 % 2 == 0 ? 2u : 6u);
        set(at, is_to_go ? far_page(1).unmapped() : far_page(random() % 1000));
        if (random() % 64 == 0) {
            const std::uint64_t from = address(), to = from + random() % 4 * kMiddle;
            table_->for_each(from, to, [&](std::uint64_t page, PageWord word) {
                if (random() % 2 == 0) set(page, word.unmapped());
            });
        }
        if (random() % 16 == 0) memory_->keep_up();
        const std::uint64_t other = address();
        const auto found = oracle.find(other);
        ASSERT_EQ(table_->get(other), found == oracle.end() ? PageWord{} : found->second);
        if (i % 50 == 0) {
            ASSERT_EQ(table_->blocks(), blocks_for(oracle)) << i;
        }
    }
    EXPECT_EQ(walked(0, kEnd), oracle);
    EXPECT_EQ(memory_->blocks_in_use(), blocks_for(oracle));
    table_->for_each(0, kEnd, [&](std::uint64_t at, PageWord word) { table_->set(at, word.unmapped()); });
    EXPECT_EQ(memory_->blocks_in_use(), 0u);
}

TEST_F(PageTableTest, TablesOfManyProcessesShareBlocks) {
    PageTable other(*memory_);
    for (std::uint64_t i = 0; i < 100; i++) table_->set(i * kLeaf, far_page(i));
    const std::uint64_t used = memory_->blocks_in_use();
    table_ = std::make_unique<PageTable>(*memory_);
    EXPECT_EQ(memory_->blocks_in_use(), 0u) << "a process has ended with all that it had";
    EXPECT_EQ(memory_->blocks_kept(), used);
    for (std::uint64_t i = 0; i < 100; i++) other.set(kUpper + i * kLeaf, far_page(i));
    EXPECT_EQ(memory_->blocks_kept(), 0u) << "what it had is used first";
    EXPECT_EQ(memory_->blocks_in_use(), used);
}

/// Of the mapping in which `place` lies.
std::uint64_t resident_bytes(const void* place) {
    std::ifstream file("/proc/self/smaps");
    std::uint64_t sum = 0;
    bool is_there = false;
    for (std::string line; std::getline(file, line);) {
        unsigned long long start = 0, end = 0, kib = 0;
        if (std::sscanf(line.c_str(), "%llx-%llx ", &start, &end) == 2)
            is_there = reinterpret_cast<std::uintptr_t>(place) >= start &&
                       reinterpret_cast<std::uintptr_t>(place) < end;
        else if (is_there && std::sscanf(line.c_str(), "Rss: %llu kB", &kib) == 1)
            sum += kib << 10;
    }
    return sum;
}

TEST_F(PageTableTest, MemoryGoesBackToTheSystemAndIsZerosWhenItComesAgain) {
    void* const place = memory_->take();
    memory_->give(place);
    for (int round = 0; round < 3; round++) {
        for (std::uint64_t i = 0; i < 5'000; i++) table_->set(i * kLeaf + i % 512 * kPageSize, far_page(i));
        EXPECT_GE(resident_bytes(place), 5'000 * kPageSize);
        // In an order in which few neighbours go together.
        for (std::uint64_t i = 0; i < 5'000; i++) {
            const std::uint64_t leaf = i * 1'237 % 5'000;
            EXPECT_EQ(table_->get(leaf * kLeaf + leaf % 512 * kPageSize), far_page(leaf));
            table_->set(leaf * kLeaf + leaf % 512 * kPageSize, {});
        }
        ASSERT_EQ(memory_->blocks_in_use(), 0u);
        for (int i = 0; i < 10; i++) memory_->keep_up();
        EXPECT_LE(memory_->blocks_kept(), TableMemory::kKeptMax);
        EXPECT_LE(resident_bytes(place), TableMemory::kKeptMax * kPageSize);
    }
}

TEST_F(PageTableTest, NothingIsAllocated) {
    const test::AllocationCounter allocations;
    for (std::uint64_t i = 0; i < 1'000; i++) table_->set(i * kMiddle, far_page(i));
    for (std::uint64_t i = 0; i < 1'000; i++) table_->set(i * kMiddle, {});
    memory_->keep_up();
    EXPECT_EQ(allocations.allocations(), 0u);
}

TEST(TableMemoryTest, TellsBeforeThereIsNoMore) {
    const auto memory = TableMemory::create(std::uint64_t{64} << 20).value();
    const std::uint64_t blocks = (std::uint64_t{64} << 20) / kPageSize;
    memory->keep_up();
    EXPECT_FALSE(memory->is_short());
    EXPECT_TRUE(memory->make_room(blocks));
    EXPECT_FALSE(memory->make_room(blocks + 1));
    std::vector<void*> taken;
    while (!memory->is_short()) {
        ASSERT_LT(taken.size(), blocks);
        taken.push_back(memory->take());
        memory->keep_up();
    }
    EXPECT_GE(blocks - taken.size(), 1'000u) << "for what is read before anybody looks";
    memory->give(taken.back());
    memory->keep_up();
    EXPECT_FALSE(memory->is_short());
}

TEST(TableMemoryTest, ThereIsMoreThanTheMachineHas) {
    const auto memory = TableMemory::create().value();
    const auto ram = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * kPageSize;
    EXPECT_TRUE(memory->make_room(ram / kPageSize));
}

using PageTableDeathTest = PageTableTest;

TEST_F(PageTableDeathTest, KernelAddressesAreRefused) {
    EXPECT_DEATH(table_->set(kEnd, far_page(1)), "page_table");
    EXPECT_DEATH((void)table_->get(kEnd), "page_table");
}

TEST_F(PageTableTest, FindsTheFirstWordThatHolds) {
    for (const std::uint64_t at : kEdges) table_->set(at, far_page(at / kPageSize % 1000));
    const auto any = [](std::uint64_t, PageWord) { return true; };
    EXPECT_EQ(table_->find(0, kEnd, any), 0u);
    EXPECT_EQ(table_->find(2 * kPageSize, kEnd, any), kLeaf - kPageSize);
    EXPECT_EQ(table_->find(kMiddle + kPageSize, kEnd, any), 5 * kMiddle + kLeaf);
    EXPECT_EQ(table_->find(kLeaf + kPageSize, kMiddle - kPageSize, any), kMiddle - kPageSize)
        << "none: the end";
    EXPECT_EQ(table_->find(0, kEnd, [](std::uint64_t at, PageWord) { return at > kMiddle; }),
              5 * kMiddle + kLeaf);
}

}  // namespace
}  // namespace farswap
