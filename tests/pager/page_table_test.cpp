// The page table over sparse addresses, at the edges of its blocks, and while it is being walked.
#include "pager/page_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace farswap {
namespace {

constexpr std::uint64_t kLeaf = std::uint64_t{2} << 20;    // bytes of addresses a leaf
constexpr std::uint64_t kMiddle = std::uint64_t{2} << 30;  // and a middle table
constexpr std::uint64_t kEnd = PageTable::kAddressEnd;

PageWord far_page(std::uint64_t index) {
    return PageWord{}.evicted(static_cast<std::uint32_t>(index));
}

class PageTableTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto made = PageTable::create();
        ASSERT_TRUE(made) << made.error().message;
        table_ = std::move(*made);
    }
    std::vector<std::uint64_t> visited(std::uint64_t start, std::uint64_t end) const {
        std::vector<std::uint64_t> addresses;
        table_->for_each(start, end, [&](std::uint64_t at, PageWord) { addresses.push_back(at); });
        return addresses;
    }
    std::unique_ptr<PageTable> table_;
};

const std::vector<std::uint64_t> kEdges = {
    0,       kPageSize,           kLeaf - kPageSize,          kLeaf,           kMiddle - kPageSize,
    kMiddle, 5 * kMiddle + kLeaf, kEnd - kPageSize - kMiddle, kEnd - kPageSize};

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

TEST_F(PageTableTest, AWalkPassesByDefaultWords) {
    table_->set(kLeaf, far_page(1).unmapped());
    EXPECT_NE(table_->get(kLeaf), PageWord{}) << "the generation is kept";
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

TEST_F(PageTableTest, AgreesWithAMap) {
    std::mt19937_64 random(4);
    std::map<std::uint64_t, PageWord> oracle;
    const auto address = [&] {
        const std::uint64_t cluster = (random() % 16) * (kEnd / 16) + (random() % 3) * kLeaf;
        return cluster + random() % 600 * kPageSize;
    };
    for (int i = 0; i < 20'000; i++) {
        const std::uint64_t at = address();
        const PageWord word = random() % 4 == 0 ? PageWord{} : far_page(random() % 1000);
        table_->set(at, word);
        oracle[at] = word;
        const std::uint64_t other = address();
        const auto found = oracle.find(other);
        ASSERT_EQ(table_->get(other), found == oracle.end() ? PageWord{} : found->second);
    }
    std::erase_if(oracle, [](const auto& entry) { return entry.second.is_default(); });
    std::map<std::uint64_t, PageWord> walked;
    table_->for_each(0, kEnd, [&](std::uint64_t at, PageWord word) { walked.emplace(at, word); });
    EXPECT_EQ(walked, oracle);
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
