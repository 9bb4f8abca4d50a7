// Random schedules of a mirror against a model that knows what every page must hold: writes, reads, flushes,
// completions in any order, halves that go and come back, servers that restart, errors that pass, writes that
// are executed a second time long after. The model does what a swap area does: it writes again what a flush
// has not made safe, reads only what is safe, and asks for doubts when it frees a page and when it gets new
// space, never when it writes.
#include "base/log.h"
#include "mirror_fixture.h"
#include "seeds.h"

namespace farswap::test {
namespace {

class MirrorModelTest : public MirrorTest, public ::testing::WithParamInterface<unsigned> {
  protected:
    static constexpr int kSteps = 40'000;
    static constexpr std::uint64_t kPages = 96;
    static constexpr std::uint64_t kPagesAtFirst = 48;

    struct Page {
        std::uint64_t value = 0;
        std::uint64_t written_at = 0;  ///< the step at which its last write completed
        bool safe = true;              ///< never written: nothing to lose
        bool dirty = false;            ///< has to be written (again)
        bool doubtful = false;         ///< written while something was lost: this write counts for nothing
        int busy = 0;                  ///< reads and writes under way
        bool used = false;
        bool parked = false;  ///< not used, and not to be: a late write may come
    };
    struct Operation {
        Operation(std::uint32_t op, std::uint64_t page, std::uint64_t count)
            : first(page), transfer(op, page, count) {}
        std::uint64_t first;
        Transfer transfer;
        std::vector<std::uint64_t> values{};
    };

    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

    bool in_doubt(std::uint64_t page) const { return mirror_->in_doubt(page * kPageSize, kPageSize); }

    void free_something() {
        const std::uint64_t first = below(limit_);
        for (std::uint64_t at = first; at < std::min(limit_, first + 1 + below(6)); ++at)
            if (pages_[at].used && pages_[at].busy == 0) pages_[at] = {.parked = in_doubt(at)};
    }
    void unpark() {
        for (std::uint64_t at = 0; at < limit_; ++at) pages_[at].parked = pages_[at].parked && in_doubt(at);
    }

    void grow() {
        if (growing_ || limit_ == kPages) return;
        growing_ = true;
        reserve_.bytes = std::min(limit_ + 1 + below(3), kPages) * kPageSize;
        reserve_.owner = this;
        reserve_.complete = [](ReserveRequest& ended, int) {
            auto& self = *static_cast<MirrorModelTest*>(ended.owner);
            self.growing_ = false;
            for (; self.limit_ < self.mirror_->reserved() / kPageSize; ++self.limit_)
                self.pages_[self.limit_].parked = self.in_doubt(self.limit_);
        };
        mirror_->reserve(reserve_);
    }

    void write(std::uint64_t first, std::uint64_t count) {
        auto operation = std::make_unique<Operation>(WRITE, first, count);
        for (std::uint64_t i = 0; i < count; ++i) {
            Page& page = pages_[first + i];
            if (!page.used) page.value = ++next_value_;
            page.used = true;
            page.safe = page.dirty = page.doubtful = false;
            page.busy = 1;
            operation->transfer.pages.fill(i, page.value);
        }
        start(std::move(operation));
    }

    void start(std::unique_ptr<Operation> operation) {
        Operation& its = *operation;
        its.transfer.then = [this, &its] { ended(its); };
        operations_.push_back(std::move(operation));
        mirror_->submit(its.transfer.request);
    }

    void ended(Operation& operation) {
        done_.push_back(&operation);
        const bool writes = (operation.transfer.request.op & WRITE) != 0;
        const std::uint64_t count = operation.transfer.request.length / kPageSize;
        if (!operation.transfer.good()) ++errors_;
        for (std::uint64_t i = 0; i < count; ++i) {
            Page& page = pages_[operation.first + i];
            --page.busy;
            if (writes) {
                page.written_at = step_;
                page.dirty = !operation.transfer.good() || page.doubtful;
            } else if (operation.transfer.good()) {
                ++reads_;
                ASSERT_TRUE(operation.transfer.pages.holds(i, page.value))
                    << "wrong bytes in page " << operation.first + i << " at step " << step_ << " from half "
                    << int{operation.transfer.request.source};
            }
        }
    }

    /// Where it hurts most, if that is free: where an older write may still come.
    std::uint64_t place_to_write() {
        const MemoryStore& half = *halves_[below(2)];
        if (half.late() == 0 || below(2) == 0) return below(limit_);
        return std::min(half.late_page(below(half.late())), limit_ - 1);
    }

    void write_something() {
        const std::uint64_t first = place_to_write();
        const std::uint64_t most = std::min(1 + below(6), limit_ - first);
        std::uint64_t count = 0;
        while (count < most && !pages_[first + count].used && !pages_[first + count].parked) ++count;
        if (count > 0) write(first, count);
    }

    void write_what_is_dirty() {
        const std::uint64_t from = below(kPages);
        for (std::uint64_t i = 0; i < kPages; ++i) {
            const std::uint64_t at = (from + i) % kPages;
            if (!pages_[at].dirty || pages_[at].busy > 0) continue;
            return write(at, 1);
        }
    }

    void read_something() {
        const std::uint64_t first = below(kPages);
        std::uint64_t count = 0;
        while (count < 4 && first + count < kPages && pages_[first + count].used &&
               pages_[first + count].safe)
            ++count;
        if (count == 0) return;
        for (std::uint64_t i = 0; i < count; ++i) ++pages_[first + i].busy;
        start(std::make_unique<Operation>(READ, first, count));
    }

    void start_flush() {
        if (flushing_) return;
        flushing_ = true;
        flush_step_ = ++step_;
        flush_.request.owner = this;
        flush_.request.complete = [](FlushRequest& ended, int result) {
            static_cast<MirrorModelTest*>(ended.owner)->flushed(result);
        };
        mirror_->flush(flush_.request);
    }

    void flushed(int result) {
        flushing_ = false;
        for (Page& page : pages_) {
            if (!page.used || page.safe) continue;
            const bool written = page.busy == 0 && !page.dirty;
            if (result == 0 && written && page.written_at < flush_step_) page.safe = true;
            if (result == -ESTALE || result == -EIO) {
                page.dirty = page.dirty || written;
                page.doubtful = page.busy > 0;
            }
        }
        if (result != 0) ++losses_;
    }

    void disturb() {
        switch (below(12)) {
            case 0: {
                if (down_ >= 0 || !mirror_->complete()) return;
                down_ = static_cast<int>(below(2));
                constexpr int kErrors[] = {EIO, ETIMEDOUT, EROFS, ECONNREFUSED};
                halves_[static_cast<std::size_t>(down_)]->set_down(kErrors[below(4)]);
                break;
            }
            case 1:
            case 2:
                if (down_ < 0) return;
                halves_[static_cast<std::size_t>(std::exchange(down_, -1))]->set_down(0);
                break;
            case 3:
                halves_[below(2)]->restart(random_);
                break;
            case 4:
                if (down_ < 0) halves_[below(2)]->fail_next(Kind::kWrite, below(4) != 0 ? EIO : ETIMEDOUT, 1);
                break;
            case 5:
                if (down_ < 0) halves_[below(2)]->fail_next(Kind::kFlush, below(2) != 0 ? EIO : ETIMEDOUT, 1);
                break;
            case 6:
                if (down_ < 0 && mirror_->complete()) halves_[below(2)]->fail_next(Kind::kRead, EIO, 1);
                break;
            case 7:
            case 8:
            case 9:
                halves_[below(2)]->break_connection();
                break;
            default:
                break;
        }
    }

    void end_a_doubt() {
        MemoryStore& half = *halves_[below(2)];
        if (half.late() == 0) return;
        const std::size_t which = below(half.late());
        if (below(3) == 0) return half.forget_late(which);
        half.execute_late(which);
        ++late_;
    }

    void step() {
        ++step_;
        if (below(16) == 0) end_a_doubt();
        if (below(16) == 0) unpark();
        if (below(1024) == 0) grow();
        // What the mirror writes while a half is away or behind is little; some of it shall come late.
        if (below(64) == 0 && !mirror_->complete()) halves_[below(2)]->break_connection();
        switch (below(16)) {
            case 0:
                write_something();
                break;
            case 1:
                free_something();
                break;
            case 2:
            case 3:
                write_what_is_dirty();
                break;
            case 4:
            case 5:
                read_something();
                break;
            case 6:
                if (below(4) == 0) start_flush();
                break;
            case 7:
                if (below(4) == 0) disturb();
                break;
            case 8:
            case 9:
                run_loop();
                break;
            default:
                complete_something();
                break;
        }
        for (const Operation* ended : done_)
            std::erase_if(operations_, [ended](const auto& operation) { return operation.get() == ended; });
        done_.clear();
    }

    void complete_something() {
        MemoryStore& half = *halves_[below(2)];
        if (half.pending() > 0) half.complete(below(half.pending()));
    }

    bool all_safe() const {
        return std::ranges::all_of(pages_, [](const Page& page) { return page.safe || !page.used; });
    }

    /// Everything works again: all pages become safe on both halves, and are compared there.
    void check_everything() {
        for (MemoryStore* half : halves_) {
            half->set_down(0);
            half->fail_next(Kind::kRead, 0, 0);  // below, one half alone has to answer
        }
        down_ = -1;
        // No flush beyond the last that is needed: it may be the one that was told to fail, and lose a half.
        ASSERT_TRUE(drive([this] {
            ++step_;
            for (MemoryStore* half : halves_) half->execute_all_late();
            write_what_is_dirty();
            if (!all_safe()) start_flush();
            return mirror_->complete() && all_safe() && !flushing_ && !growing_ &&
                   operations_.size() == done_.size();
        })) << "it does not become complete";
        operations_.clear();
        done_.clear();
        for (std::uint64_t page = 0; page < kPages; ++page) {
            if (pages_[page].used) {
                ASSERT_TRUE(both_hold(page, pages_[page].value))
                    << "page " << page << " at step " << step_
                    << (mirror_->complete() ? "" : ": a half is lost, perhaps no bytes differ");
            }
        }
    }

    /// After a failure: else the mirror could not be closed, and the other seeds would not run.
    void end_what_is_under_way() {
        for (MemoryStore* half : halves_) half->set_down(0);
        EXPECT_TRUE(drive([this] { return operations_.size() == done_.size() && !flushing_ && !growing_; }));
    }

    std::mt19937 random_;
    std::vector<Page> pages_{kPages};
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<Operation*> done_;
    Flush flush_;
    ReserveRequest reserve_;
    bool flushing_ = false, growing_ = false;
    std::uint64_t limit_ = kPagesAtFirst;
    int down_ = -1;
    std::uint64_t step_ = 1, flush_step_ = 0;
    std::uint64_t next_value_ = 0;
    std::uint64_t reads_ = 0, errors_ = 0, losses_ = 0, late_ = 0;
};

TEST_P(MirrorModelTest, EveryPageKeepsItsContent) {
    random_.seed(GetParam());
    SCOPED_TRACE(fmt::format("seed {}", GetParam()));
    log::set_level(log::Level::kQuiet);  // a line for each loss helps nobody
    MirrorOptions options = quick();
    options.write_attempts_max = 1 + GetParam() % 3;
    options.operations_max = 8 + GetParam() % 16;
    options.resync.copy_pages = 1 + GetParam() % 5;
    options.resync.batch_max = 4 + GetParam() % 8;
    open({.capacity = kPages * kPageSize, .reserved = kPagesAtFirst * kPageSize}, options);
    for (MemoryStore* half : halves_) half->timeouts_come_late = true;
    for (int i = 0; i < kSteps && !HasFailure(); ++i) {
        step();
        if (i % 4'000 == 3'999) check_everything();
    }
    if (!HasFailure()) check_everything();
    if (HasFailure()) end_what_is_under_way();
    EXPECT_GT(reads_, 100u) << "the schedule has not read what was safe";
    EXPECT_GT(losses_, 10u) << "the schedule has not lost anything";
    EXPECT_GT(late_, 10u) << "nothing was executed late";
    log::set_level(log::Level::kWarning);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MirrorModelTest, seeds(24));

}  // namespace
}  // namespace farswap::test
