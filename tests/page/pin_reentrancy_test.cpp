// The calls hold no lock: a signal handler makes them while the very thread that it interrupted is in the
// middle of them. With a lock anywhere in them it would wait for itself.
#include <signal.h>
#include <time.h>

#include <atomic>

#include "page/frame_table.h"
#include "page_fixture.h"

namespace farswap {
namespace {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && FreeBitmap::Word::is_always_lock_free);

/// What the handler works on; it may touch nothing else.
struct Interrupted {
    Pool* pool = nullptr;
    unsigned long shared = 0;  ///< address of a frame that the interrupted code pins as well
    std::atomic<int> calls{0};
    std::atomic<int> errors{0};
} interrupted;

void pin_put_and_take_a_frame(int) {
    page* pin = nullptr;
    if (get_kernel_page(interrupted.shared, 1, &pin) == 1)
        put_page(pin);
    else
        ++interrupted.errors;
    const FrameRun run = interrupted.pool->allocate_run(1);
    if (run.count == 1) interrupted.pool->release(run.first);
    ++interrupted.calls;
}

/// Sends SIGALRM to the process every 50 us.
class Interrupter {
  public:
    Interrupter() {
        struct sigaction action {};
        action.sa_handler = pin_put_and_take_a_frame;
        ::sigaction(SIGALRM, &action, &before_);
        sigevent event{};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGALRM;
        const timespec period{0, 50'000};
        const itimerspec every{period, period};
        made_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0 &&
                ::timer_settime(timer_, 0, &every, nullptr) == 0;
    }
    ~Interrupter() {
        if (made_) ::timer_delete(timer_);
        ::sigaction(SIGALRM, &before_, nullptr);
    }
    Interrupter(const Interrupter&) = delete;
    Interrupter& operator=(const Interrupter&) = delete;
    bool made() const { return made_; }

  private:
    struct sigaction before_ {};
    timer_t timer_{};
    bool made_ = false;
};

TEST_F(PageTest, CallsMayInterruptThemselves) {
    constexpr int kInterruptions = 2000;
    const FrameIndex frame = take();
    interrupted.pool = pool.get();
    interrupted.shared = address_of(pool->address(frame));
    interrupted.calls = interrupted.errors = 0;
    int errors = 0;
    {
        const Interrupter interrupter;
        ASSERT_TRUE(interrupter.made());
        const kvec segments[] = {segment(frame), segment(frame)};
        while (interrupted.calls < kInterruptions) {
            page* pins[2];
            errors += get_kernel_pages(segments, 2, 0, pins) != 2;
            for (page* pin : pins) put_page(pin);
            const FrameRun run = pool->allocate_run(2);
            for (FrameIndex taken = run.first; taken < run.first + run.count; ++taken) pool->release(taken);
        }
    }
    EXPECT_EQ(errors, 0);
    EXPECT_EQ(interrupted.errors, 0);
    EXPECT_EQ(pool->pins(frame), 0u);
    EXPECT_EQ(pool->free_frames(), kFrames - 1);
    pool->release(frame);
}

}  // namespace
}  // namespace farswap
