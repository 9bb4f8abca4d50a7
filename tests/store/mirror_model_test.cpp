// Random schedules of a mirror against a model that knows what every page must hold: writes, reads, flushes,
// completions in any order, halves that go and come back, servers that restart, errors that pass. The model
// does what a swap area does: it writes again what a flush has not made safe, and reads only what is safe.
#include "base/log.h"
#include "mirror_fixture.h"
#include "seeds.h"

namespace farswap::test {
namespace {

class MirrorModelTest : public MirrorTest, public ::testing::WithParamInterface<unsigned> {
  protected:
    static constexpr int kSteps = 40'000;
    static constexpr std::uint64_t kPages = 96;

    struct Page {
        std::uint64_t value = 0;
        std::uint64_t written_at = 0;  ///< the step at which its last write completed
        bool safe = true;              ///< never written: nothing to lose
        bool dirty = false;            ///< has to be written (again)
        bool doubtful = false;         ///< written while something was lost: this write counts for nothing
        int busy = 0;                  ///< reads and writes under way
        bool used = false;
    };
    struct Operation {
        Operation(std::uint32_t op, std::uint64_t page, std::uint64_t count)
            : first(page), transfer(op, page, count) {}
        std::uint64_t first;
        Transfer transfer;
        std::vector<std::uint64_t> values{};
    };

    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

    bool free_run(std::uint64_t first, std::uint64_t count) {
        return first + count <= kPages &&
               std::all_of(pages_.begin() + static_cast<std::ptrdiff_t>(first),
                           pages_.begin() + static_cast<std::ptrdiff_t>(first + count),
                           [](const Page& page) { return page.busy == 0; });
    }

    void write(std::uint64_t first, std::uint64_t count, bool anew) {
        auto operation = std::make_unique<Operation>(WRITE, first, count);
        for (std::uint64_t i = 0; i < count; ++i) {
            Page& page = pages_[first + i];
            if (anew || !page.used) page.value = ++next_value_;
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
        done_.push_back(&operation);
    }

    void write_something() {
        const std::uint64_t first = below(kPages);
        const std::uint64_t count = 1 + below(6);
        if (free_run(first, count)) write(first, count, true);
    }

    void write_what_is_dirty() {
        const std::uint64_t from = below(kPages);
        for (std::uint64_t i = 0; i < kPages; ++i) {
            const std::uint64_t at = (from + i) % kPages;
            if (!pages_[at].dirty || pages_[at].busy > 0) continue;
            return write(at, 1, false);
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
                if (down_ < 0) halves_[below(2)]->fail_next(Kind::kWrite, EIO, 1);
                break;
            case 5:
                if (down_ < 0) halves_[below(2)]->fail_next(Kind::kFlush, below(2) != 0 ? EIO : ETIMEDOUT, 1);
                break;
            case 6:
                if (down_ < 0 && mirror_->complete()) halves_[below(2)]->fail_next(Kind::kRead, EIO, 1);
                break;
            default:
                break;
        }
    }

    void step() {
        ++step_;
        switch (below(16)) {
            case 0:
            case 1:
                write_something();
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
        ASSERT_TRUE(drive([this] {
            ++step_;
            write_what_is_dirty();
            start_flush();
            return mirror_->complete() && all_safe() && operations_.size() == done_.size();
        })) << "it does not become complete";
        ASSERT_TRUE(drive([this] { return !flushing_; }));
        operations_.clear();
        done_.clear();
        for (std::uint64_t page = 0; page < kPages; ++page) {
            if (pages_[page].used) {
                ASSERT_TRUE(both_hold(page, pages_[page].value)) << "page " << page << " at step " << step_;
            }
        }
    }

    std::mt19937 random_;
    std::vector<Page> pages_{kPages};
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<Operation*> done_;
    Flush flush_;
    bool flushing_ = false;
    int down_ = -1;
    std::uint64_t step_ = 1, flush_step_ = 0;
    std::uint64_t next_value_ = 0;
    std::uint64_t reads_ = 0, errors_ = 0, losses_ = 0;
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
    open({.capacity = kPages * kPageSize, .reserved = kPages * kPageSize}, options);
    for (int i = 0; i < kSteps && !HasFailure(); ++i) {
        step();
        if (i % 4'000 == 3'999) check_everything();
    }
    if (!HasFailure()) check_everything();
    EXPECT_GT(reads_, 100u) << "the schedule has not read what was safe";
    EXPECT_GT(losses_, 10u) << "the schedule has not lost anything";
    log::set_level(log::Level::kWarning);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MirrorModelTest, seeds(24));

}  // namespace
}  // namespace farswap::test
