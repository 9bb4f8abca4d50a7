// Drives the words of a parent's and its child's pages through random schedules, against a model that knows
// what every page must read as: the program's view never differs, whatever the order of evictions, reads,
// removals and forks.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "pager/page_state.h"

namespace farswap {
namespace {

using Content = std::uint32_t;  // a page's bytes; 0: all zeros

/// A page of a process: the kernel's side, the pager's word, and what the program last wrote.
struct Page {
    PageWord word;
    std::optional<Content> kernel;  ///< what is mapped; nothing: absent
    Content expected = 0;
    bool zap_pending = false;  ///< a REMOVE was announced and the kernel has not dropped the page yet
    struct Fetch {
        std::uint32_t generation;
        Content read;
    };
    std::optional<Fetch> fetch;  ///< a read of the store that will come back some time
};

class PageModel {
  public:
    explicit PageModel(std::uint32_t seed) : random_(seed), pages_(kPages) {}

    void run(int steps) {
        for (int i = 0; i < steps && !::testing::Test::HasFailure(); i++) {
            Page& page = pages_[pick(kPages)];
            switch (pick(8)) {
                case 0:
                    touch(page, true);
                    break;
                case 1:
                    touch(page, false);
                    break;
                case 2:
                    evict(page);
                    break;
                case 3:
                    start_fetch(page);
                    break;
                case 4:
                    end_fetch(page);
                    break;
                case 5:
                    remove(page);
                    break;
                case 6:
                    finish_removal(page);
                    break;
                default:
                    fork(page, pages_[pick(kPages)]);
                    break;
            }
        }
        for (Page& page : pages_) {
            finish_removal(page);
            touch(page, false);
        }
    }

  private:
    static constexpr std::uint32_t kPages = 6;
    std::uint8_t pick_now() { return static_cast<std::uint8_t>(pick(256)); }
    Warmth warmth() {
        return {static_cast<std::uint8_t>(pick(Warmth::kMost + 1)),
                static_cast<std::uint8_t>(pick(Warmth::kMost + 1))};
    }
    std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

    /// The program reads or writes: the fault path, with every read from the store done at once.
    void touch(Page& page, bool write) {
        if (page.zap_pending) finish_removal(page);
        if (!page.kernel) {
            switch (page.word.fault_action()) {
                case FaultAction::kFillZeros:
                    page.kernel = 0;
                    break;
                case FaultAction::kFromSlot:
                    page.kernel = slots_.at(page.word.value());
                    break;
            }
            if (page.word.is_far() && pick(2) == 0)
                page.word = page.word.brought_back_with_slot(warmth());
            else
                page.word = page.word.brought_back(warmth());
        }
        ASSERT_EQ(*page.kernel, page.expected);
        if (write) page.kernel = page.expected = ++writes_;
    }
    void evict(Page& page) {
        if (page.word.is_inside() && page.word.hot()) page.word = page.word.passed_by(1 + pick(4));
        if (page.word.state() == PageState::kBack && pick(8) == 0) page.word = page.word.without_slot();
        if (!page.word.evictable() || !page.kernel) return;
        ASSERT_FALSE(page.zap_pending) << "it would come back from the dead";
        const Content content = *page.kernel;
        page.kernel.reset();
        if (page.word.state() == PageState::kBack && slots_.at(page.word.value()) == content) {
            page.word = page.word.evicted(page.word.value(), pick_now());
            return;
        }
        slots_[++numbers_] = content;
        page.word = page.word.evicted(numbers_, pick_now());
    }
    void start_fetch(Page& page) {
        if (page.word.state() != PageState::kFar || page.word.fetching()) return;
        page.word = page.word.fetch_started();
        page.fetch = {page.word.generation(), slots_.at(page.word.value())};
    }
    /// The answer comes, perhaps long after the page went another way: the generation tells.
    void end_fetch(Page& page) {
        if (!page.fetch) return;
        const Page::Fetch fetch = *std::exchange(page.fetch, std::nullopt);
        if (fetch.generation != page.word.generation()) return;
        page.word = page.word.fetch_ended().brought_back({1, 1});
        page.kernel = fetch.read;
        ASSERT_EQ(fetch.read, page.expected);
    }
    void remove(Page& page) {
        page.word = page.word.removal_announced(page.kernel.has_value(), 1);
        page.zap_pending = page.kernel.has_value();
        page.expected = 0;
    }
    void finish_removal(Page& page) {
        if (!std::exchange(page.zap_pending, false)) return;
        page.kernel.reset();
        page.expected = 0;
        if (pick(2) == 0) page.word = page.word.doubt_expired();
    }
    /// `child` becomes the view that a forked child has of `parent`.
    void fork(Page& parent, Page& child) {
        if (&parent == &child || parent.zap_pending) return;
        child = parent;
        child.fetch.reset();
        child.word = parent.word.inherited();
    }

    std::mt19937 random_;
    std::vector<Page> pages_;
    std::map<std::uint32_t, Content> slots_;
    std::uint32_t numbers_ = 0;
    Content writes_ = 0;
};

TEST(PageModel, NoScheduleShowsTheProgramOtherBytes) {
    for (std::uint32_t seed = 1; seed <= 500 && !HasFailure(); seed++) {
        SCOPED_TRACE(seed);
        PageModel(seed).run(400);
    }
}

}  // namespace
}  // namespace farswap
