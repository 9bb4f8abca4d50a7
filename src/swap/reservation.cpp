// Chunks of reserved space: when to ask, how much, what a refusal means.
#include "swap/reservation.h"

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"
#include "swap/retry.h"

namespace farswap {
namespace {

constexpr std::uint64_t kChunkMax = std::uint64_t{1} << 30;
constexpr std::uint64_t kChunkMin = std::uint64_t{1} << 20;
/// A small area is kept half free: the fuller it is, the shorter are the runs of slots that single pages
/// leave behind when they are freed, and the smaller the writes.
constexpr std::uint64_t kSpareMax = std::uint64_t{4} << 30;

}  // namespace

Reservation::Reservation(Slots& slots, StorePart& part, io::Loop& loop, const SwapAreaOptions& options,
                         SwapEvents& events)
    : slots_(slots),
      part_(part),
      loop_(loop),
      options_(options),
      events_(events),
      chunk_(options.reserve_chunk) {
    request_.complete = reserve_ended;
    request_.owner = this;
    retry_.fire = retry_timer;
    retry_.owner = this;
    extend();
}

void Reservation::consider() noexcept {
    if (busy_ || !can_grow()) return;
    const std::uint64_t free = std::uint64_t{part_.blocks_left()} * kBlockBytes;
    const std::uint64_t reserved = part_.store->reserved();
    const std::uint64_t spare = std::clamp(kSpareMax, reserved / 4, reserved / 2);
    if (free < chunk_ / 2 || free < spare) submit();
}

void Reservation::try_again() noexcept {
    if (!is_short_ || busy_ || stopped_) return;
    full_ = is_short_ = false;
    submit();
}

void Reservation::submit() noexcept {
    const std::uint64_t capacity = block_offset(part_.blocks.capacity());
    request_.bytes = std::min(part_.store->reserved() + chunk_, capacity);
    busy_ = submitted_ = true;
    part_.store->reserve(request_);
}

void Reservation::reserve_ended(ReserveRequest& request, int result) {
    Reservation& self = *static_cast<Reservation*>(request.owner);
    self.busy_ = self.submitted_ = false;
    self.extend();
    if (!self.stopped_) self.settle(result);
    self.events_.progress();
}

void Reservation::settle(int result) noexcept {
    if (result == 0) {
        failures_ = 0;
        const std::uint64_t largest = std::max(options_.reserve_chunk, kChunkMax);
        chunk_ = std::clamp(part_.store->reserved() / 2, options_.reserve_chunk, largest);
        consider();
    } else if ((result == -ENOSPC || result == -EDQUOT || result == -EFBIG) && chunk_ > kChunkMin) {
        chunk_ = std::max(chunk_ / 2, kChunkMin);
        submit();
    } else if (result == -ENOSPC || result == -EDQUOT || result == -EFBIG) {
        full_ = is_short_ = true;
        log::debug("{} is full: {} MiB is all that it gives", part_.store->name(),
                   part_.store->reserved() >> 20);
    } else if (is_transient(-result) && (++failures_ < options_.attempts_max || is_outage(-result))) {
        busy_ = true;
        loop_.arm(retry_, io::Clock::now() + retry_delay(options_.retry_delay, failures_));
    } else {
        full_ = true;
        events_.store_failed(part_, fail_errno(-result, "{}: cannot reserve space beyond {} MiB",
                                               part_.store->name(), part_.store->reserved() >> 20)
                                        .error());
    }
}

/// Takes what the store has reserved into use.
void Reservation::extend() noexcept {
    const std::uint64_t blocks = blocks_in(part_.store->reserved());
    const auto limit = static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks, part_.blocks.capacity()));
    if (limit > part_.blocks.limit()) part_.blocks.extend(limit);
}

void Reservation::retry_timer(io::Timer& timer) {
    static_cast<Reservation*>(timer.owner)->submit();
}

void Reservation::stop() noexcept {
    stopped_ = true;
    loop_.cancel(retry_);
    busy_ = submitted_;
}

}  // namespace farswap
