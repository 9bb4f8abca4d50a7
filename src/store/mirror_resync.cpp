// See mirror_resync.h.
#include "store/mirror_resync.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "store/mirror_store.h"

namespace farswap {

MirrorResync::MirrorResync(MirrorStore& mirror, io::Loop& loop, const ResyncOptions& options,
                           ZeroTable<std::byte> memory)
    : mirror_(mirror),
      loop_(loop),
      options_(options),
      memory_(std::move(memory)),
      copiers_(std::make_unique<Copier[]>(options.copies_max)),
      batch_(std::make_unique<PageMarks::Run[]>(options.batch_max)) {
    // Taken now: when it is needed, memory may be short.
    std::memset(&memory_[0], 0, memory_needed(options));
    for (std::uint32_t i = 0; i < options.copies_max; ++i) {
        Copier& copier = copiers_[i];
        copier.resync = this;
        copier.buffer = &memory_[std::size_t{i} * options.copy_pages * kPageSize];
        copier.request.owner = copier.rest.owner = &copier;
        copier.request.complete = [](Request& request, int result) {
            Copier& its = *static_cast<Copier*>(request.owner);
            its.resync->transfer_ended(its, result);
        };
        copier.rest.fire = [](io::Timer& timer) { static_cast<Copier*>(timer.owner)->resync->advance(); };
    }
    flush_.owner = this;
    flush_.complete = [](FlushRequest& flush, int result) {
        static_cast<MirrorResync*>(flush.owner)->flush_ended(result);
    };
    round_timer_.owner = this;
    round_timer_.fire = [](io::Timer& timer) { static_cast<MirrorResync*>(timer.owner)->advance(); };
}

MirrorHalf& MirrorResync::source() noexcept {
    return mirror_.other(*target_);
}

void MirrorResync::start(MirrorHalf& target) noexcept {
    FARSWAP_ASSERT(quiet() && target.up() && mirror_.other(target).complete());
    target_ = &target;
    cursor_ = 0;
    batch_size_ = 0;
    failures_ = 0;
    advance();
}

void MirrorResync::stop() noexcept {
    target_ = nullptr;
    loop_.cancel(round_timer_);
    for (std::uint32_t i = 0; i < options_.copies_max; ++i) {
        loop_.cancel(copiers_[i].rest);
        if (copiers_[i].busy_on != nullptr) copiers_[i].busy_on->store->cancel(copiers_[i].request);
    }
}

bool MirrorResync::overlaps(std::uint64_t offset, std::uint64_t length) const noexcept {
    if (busy_ == 0) return false;
    return std::any_of(&copiers_[0], &copiers_[options_.copies_max], [&](const Copier& copier) {
        const std::uint64_t first = copier.pages.first * kPageSize;
        return copier.busy_on != nullptr && first < offset + length &&
               offset < first + copier.pages.count * kPageSize;
    });
}

void MirrorResync::forget_batch(const MirrorHalf& half) noexcept {
    if (target_ != &half) return;
    batch_lost_ = flush_busy_;
    batch_size_ = 0;
    cursor_ = 0;
    ++losses_;
}

void MirrorResync::forget(PageMarks::Run pages) noexcept {
    for (std::uint32_t i = 0; i < batch_size_;) {
        const PageMarks::Run& copied = batch_[i];
        const bool overlap =
            copied.first < pages.first + pages.count && pages.first < copied.first + copied.count;
        if (overlap)
            batch_[i] = batch_[--batch_size_];
        else
            ++i;
    }
}

/// Whether an old write may still arrive there.
bool MirrorResync::in_doubt(PageMarks::Run pages) const noexcept {
    return target_->store->in_doubt(pages.first * kPageSize, pages.count * kPageSize);
}

/// Starts copies, or the flush of those that are done, or ends the round.
void MirrorResync::advance() noexcept {
    if (target_ == nullptr || flush_busy_ || round_timer_.armed()) return;
    bool more = true;
    for (std::uint32_t i = 0; i < options_.copies_max && more; ++i) {
        Copier& copier = copiers_[i];
        if (copier.busy_on == nullptr && !copier.rest.armed()) more = begin_copy(copier);
    }
    if (busy_ > 0) return;
    const bool at_end = target_->missing.next(cursor_, 1).count == 0;
    if (batch_size_ == options_.batch_max || (at_end && batch_size_ > 0)) return flush_batch();
    if (at_end) end_round();
}

/// False: there is nothing that could be copied now.
bool MirrorResync::begin_copy(Copier& copier) noexcept {
    if (batch_size_ + busy_ >= options_.batch_max) return false;
    PageMarks::Run run = target_->missing.next(cursor_, options_.copy_pages);
    // What is in doubt is left for a later round: the old write might come over the copy.
    while (run.count > 0 && in_doubt(run)) {
        cursor_ = run.first + run.count;
        run = target_->missing.next(cursor_, options_.copy_pages);
    }
    if (run.count == 0) return false;
    const std::uint64_t offset = run.first * kPageSize;
    const std::uint64_t length = run.count * kPageSize;
    if (mirror_.written_by_others(offset, length) || overlaps(offset, length)) return false;
    copier.pages = run;
    copier.began = io::Clock::now();
    copier.losses = losses_;
    cursor_ = run.first + run.count;
    transfer(copier, source(), READ);
    return true;
}

void MirrorResync::transfer(Copier& copier, MirrorHalf& half, std::uint32_t direction) noexcept {
    Request& request = copier.request;
    request.op = direction;
    request.offset = copier.pages.first * kPageSize;
    request.data = copier.buffer;
    request.length = static_cast<std::uint32_t>(copier.pages.count * kPageSize);
    request.timeout = options_.timeout;
    copier.busy_on = &half;
    ++busy_;
    ++half.in_flight;
    half.store->submit(request);
}

void MirrorResync::transfer_ended(Copier& copier, int result) noexcept {
    MirrorHalf& half = *std::exchange(copier.busy_on, nullptr);
    --busy_;
    --half.in_flight;
    if (result >= 0) mirror_.note_success(half);
    if (target_ == nullptr) return mirror_.kick();
    if ((copier.request.op & WRITE) != 0) return write_ended(copier, result);
    // What cannot be read now stays missing, for the next round.
    if (result >= 0) return transfer(copier, *target_, WRITE);
    rest(copier);
}

void MirrorResync::write_ended(Copier& copier, int result) noexcept {
    if (result < 0) {
        const bool given_up = ++failures_ >= options_.failures_max || result == -ETIMEDOUT;
        if (given_up && mirror_.can_lose(*target_)) return mirror_.lose(*target_, result);
    } else {
        failures_ = 0;
        pages_copied_ += copier.pages.count;
        const bool counts = copier.losses == losses_ && !in_doubt(copier.pages);
        if (counts) batch_[batch_size_++] = copier.pages;
    }
    rest(copier);
}

/// Leaves the stores to the job for a while.
void MirrorResync::rest(Copier& copier) noexcept {
    if (mirror_.operations_used_ > 0) {
        const auto now = io::Clock::now();
        const auto length = std::min<io::Clock::duration>(now - copier.began, options_.rest_max);
        loop_.arm(copier.rest, now + length);
    }
    mirror_.kick();  // a write may wait for the pages
}

void MirrorResync::flush_batch() noexcept {
    flush_busy_ = true;
    batch_lost_ = false;
    flush_.timeout = options_.timeout;
    target_->store->flush(flush_);
}

void MirrorResync::flush_ended(int result) noexcept {
    flush_busy_ = false;
    if (target_ == nullptr) return mirror_.kick();
    if (result == 0 && !batch_lost_) {
        mirror_.note_success(*target_);
        failures_ = 0;
        // A write of the job's may have brought pages into doubt that it has freed since: what is missing in
        // doubt stays missing (MirrorStore::in_doubt).
        for (std::uint32_t i = 0; i < batch_size_; ++i)
            if (!in_doubt(batch_[i])) target_->missing.clear(batch_[i]);
        batch_size_ = 0;
        return mirror_.kick();
    }
    // Only the first to ask may be told of a loss: the job has to hear of it, too.
    if (result != 0) mirror_.resend_ = true;
    const bool given_up =
        result == -ETIMEDOUT || (result != 0 && result != -ESTALE && ++failures_ >= options_.failures_max);
    if (given_up && mirror_.can_lose(*target_)) return mirror_.lose(*target_, result);
    forget_batch(*target_);
    mirror_.kick();
}

/// Nothing is left, or what is left could not be copied in this round.
void MirrorResync::end_round() noexcept {
    if (target_->missing.empty()) {
        const MirrorHalf& done = *std::exchange(target_, nullptr);
        return mirror_.say_complete(done);
    }
    if (std::any_of(&copiers_[0], &copiers_[options_.copies_max],
                    [](const Copier& copier) { return copier.rest.armed(); }))
        return;
    cursor_ = 0;
    loop_.arm(round_timer_, io::Clock::now() + options_.retry_delay);
}

}  // namespace farswap
