// Reads and writes of a mirror: which half does what, and what becomes of a failure; see mirror_store.h.
#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/transient.h"
#include "store/mirror_store.h"

namespace farswap {
namespace {

constexpr auto kNever = io::Clock::time_point::max();
constexpr std::chrono::nanoseconds kForEver = std::chrono::hours(1);
constexpr std::chrono::milliseconds kRetryDelayMax{1000};

PageMarks::Run pages_of(const Request& request) {
    return {request.offset / kPageSize, request.length / kPageSize};
}

bool overlap(const Request& request, std::uint64_t offset, std::uint64_t length) {
    return request.offset < offset + length && offset < request.offset + request.length;
}

}  // namespace

void MirrorStore::submit(Request& request) noexcept {
    FARSWAP_ASSERT(request.complete != nullptr);
    int error = validate(request);
    if ((request.offset | request.length) % kPageSize != 0) error = -EINVAL;
    const std::uint64_t limit = (request.op & WRITE) != 0 ? reserved_ : capacity_;
    if (error == 0 && (request.offset > limit || request.length > limit - request.offset)) error = -EINVAL;
    if (error != 0) return finish_later(request, error);
    waiting_.push(request);
    dispatch();
}

/// Starts what waits, as far as the table has room. A write waits for a copy of its pages that is under way:
/// it would bring older bytes after it.
void MirrorStore::dispatch() noexcept {
    List<Request> kept;
    while (Request* request = waiting_.pop()) {
        if (!start(*request)) kept.push(*request);
    }
    waiting_ = kept;
}

/// False: it has to wait.
bool MirrorStore::start(Request& request) noexcept {
    const bool writes = (request.op & WRITE) != 0;
    if (writes && resync_.overlaps(request.offset, request.length)) return false;
    Operation* const operation = idle_;
    if (operation == nullptr) return false;
    idle_ = operation->next_idle;
    ++operations_used_;
    operation->request = &request;
    operation->began = io::Clock::now();
    operation->deadline = request.timeout.count() > 0 ? operation->began + request.timeout : kNever;
    operation->cancelled = false;
    operation->attempts = 0;
    operation->failed_with = 0;
    if (writes)
        start_write(*operation);
    else
        start_read(*operation);
    return true;
}

/// Whether the half has to do without the write: it is out, or an older copy of pages that it lacks may still
/// come there, over what is written now.
bool MirrorStore::closed_to_writes(const MirrorHalf& half, const Request& request) noexcept {
    return !half.up() ||
           (half.missing.any(pages_of(request)) && half.store->in_doubt(request.offset, request.length));
}

void MirrorStore::start_write(Operation& operation) noexcept {
    const PageMarks::Run pages = pages_of(*operation.request);
    for (Leg& leg : operation.legs) {
        leg.done = leg.skipped = closed_to_writes(*leg.half, *operation.request);
        leg.failures = 0;
        leg.result = 0;
        if (!leg.skipped) continue;
        leg.half->missing.set(pages);
        resync_.forget(pages);
    }
    const bool alone = operation.legs[0].skipped || operation.legs[1].skipped;
    for (Leg& leg : operation.legs)
        if (!leg.skipped) send(leg, alone ? kForEver : options_.outage_max);
}

/// Gives the leg's part to its half. `limit`: for this attempt, within the request's own deadline. (What only
/// one half can do has that deadline alone.)
void MirrorStore::send(Leg& leg, std::chrono::nanoseconds limit) noexcept {
    Operation& operation = *leg.operation;
    const Request& whole = *operation.request;
    leg.sent = io::Clock::now();
    if (operation.deadline != kNever)
        limit = std::min(limit, std::max<std::chrono::nanoseconds>(operation.deadline - leg.sent,
                                                                   std::chrono::milliseconds(1)));
    Request& part = leg.request;
    part.op = whole.op;
    part.offset = whole.offset;
    part.data = whole.data;
    part.length = whole.length;
    part.pages = whole.pages;
    part.page_count = whole.page_count;
    part.timeout = std::chrono::ceil<std::chrono::milliseconds>(limit);
    part.complete = [](Request& ended, int result) {
        Leg& its = *static_cast<Leg*>(ended.owner);
        its.operation->mirror->leg_ended(its, result);
    };
    part.owner = &leg;
    leg.flying = true;
    leg.done = false;
    ++leg.half->in_flight;
    leg.half->store->submit(part);
}

void MirrorStore::leg_ended(Leg& leg, int result) noexcept {
    leg.flying = false;
    leg.result = result;
    --leg.half->in_flight;
    if (result >= 0) note_success(*leg.half);
    if (!leg.operation->writes()) return read_leg_ended(leg);
    if (result < 0 && !leg.skipped && !leg.operation->cancelled) return write_leg_failed(leg);
    leg.done = true;
    settle_write(*leg.operation);
}

// ---- writes

/// Tries again what may pass. What does not, while the other half does its work, costs the half its place.
void MirrorStore::write_leg_failed(Leg& leg) noexcept {
    const Operation& operation = *leg.operation;
    MirrorHalf& half = *leg.half;
    const auto now = io::Clock::now();
    ++leg.failures;
    const bool long_enough = leg.failures >= options_.write_attempts_max ||
                             now - operation.began >= options_.outage_max || !is_transient(-leg.result);
    const bool other_lives = other(half).alive_at >= operation.began;
    leg.done = true;
    if (long_enough && other_lives && can_lose(half)) {
        lose(half, leg.result);
    } else if (is_transient(-leg.result) && now < operation.deadline &&
               (other(half).up() || leg.result == -ETIMEDOUT)) {
        const auto delay =
            std::min(options_.retry_delay * (1u << std::min(leg.failures - 1, 5u)), kRetryDelayMax);
        leg.done = false;
        return loop_.arm(leg.retry, std::min<io::Clock::time_point>(now + delay, operation.deadline));
    }
    settle_write(*leg.operation);
}

void MirrorStore::retry_leg(Leg& leg) noexcept {
    if (!leg.skipped && !leg.operation->cancelled) return send(leg, options_.outage_max);
    leg.done = true;
    settle_write(*leg.operation);
}

/// Completes the write when both parts are settled. It has succeeded when every half that is in has it.
void MirrorStore::settle_write(Operation& operation) noexcept {
    auto& legs = operation.legs;
    if (!legs[0].done || !legs[1].done) return;
    const auto has_it = [](const Leg& leg) { return !leg.skipped && leg.result >= 0; };
    const bool somewhere = has_it(legs[0]) || has_it(legs[1]);
    int error = 0;
    for (Leg& leg : legs) {
        if (leg.skipped || leg.result >= 0) continue;
        if (somewhere && !operation.cancelled && can_lose(*leg.half)) lose(*leg.half, leg.result);
        if (!leg.skipped) error = leg.result;
    }
    FARSWAP_ASSERT(error != 0 || somewhere);
    finish(operation, error != 0 ? error : static_cast<int>(operation.request->length));
}

// ---- reads

/// The half to read from: one that has the bytes and has not failed at it; by preference one that has not
/// failed lately, then the one with less to do. Null: none.
MirrorHalf* MirrorStore::reader_for(const Operation& operation) noexcept {
    MirrorHalf* best = nullptr;
    const auto now = io::Clock::now();
    const auto shy = [&](const MirrorHalf& half) { return half.shy_until > now; };
    for (std::uint32_t i : {next_reader_, next_reader_ ^ 1}) {
        MirrorHalf& half = halves_[i];
        const auto bit = 1u << i;
        if (!half.up() || ((operation.failed_with | operation.request->avoid) & bit) != 0) continue;
        if (half.missing.any(pages_of(*operation.request))) continue;
        const bool better = best == nullptr || (shy(*best) && !shy(half)) ||
                            (shy(*best) == shy(half) && half.in_flight < best->in_flight);
        if (better) best = &half;
    }
    return best;
}

void MirrorStore::start_read(Operation& operation) noexcept {
    next_reader_ ^= 1;  // equal ones take turns
    MirrorHalf* half = reader_for(operation);
    if (half == nullptr) {
        // Nobody who has it is left. From the loop: this may be inside submit().
        Request& request = *operation.request;
        release(operation);
        return finish_later(request, -EIO);
    }
    for (Leg& leg : operation.legs) {
        leg.skipped = false;
        leg.done = true;
    }
    // The other is asked after a while, if it could answer.
    operation.failed_with |= static_cast<std::uint8_t>(1u << index_of(*half));
    const bool alone = reader_for(operation) == nullptr;
    operation.failed_with &= static_cast<std::uint8_t>(~(1u << index_of(*half)));
    const auto patience = options_.read_patience * (1u << std::min(operation.attempts, 5u));
    ++operation.attempts;
    Leg& leg = operation.legs[index_of(*half)];
    send(leg, alone ? kForEver : std::chrono::nanoseconds(patience));
}

void MirrorStore::read_leg_ended(Leg& leg) noexcept {
    Operation& operation = *leg.operation;
    MirrorHalf& half = *leg.half;
    leg.done = true;
    if (leg.result >= 0) {
        half.read_failures = 0;
        operation.request->source = static_cast<std::uint8_t>(index_of(half));
        return finish(operation, leg.result);
    }
    const auto now = io::Clock::now();
    const bool timed_out = leg.result == -ETIMEDOUT || leg.result == -ECANCELED;
    if (operation.cancelled || now >= operation.deadline) return finish(operation, leg.result);
    if (half.up() && half.shy_until <= now) {
        half.shy_until = now + options_.shy;
        const bool again = ++half.read_failures >= 3;
        if (again && can_lose(half) && other(half).alive_at >= leg.sent) lose(half, leg.result);
    }
    const auto bit = static_cast<std::uint8_t>(1u << index_of(half));
    operation.failed_with |= bit;
    if (reader_for(operation) == nullptr) {
        // A half that was only slow is asked again; errors are the caller's to try again or to bear.
        if (!timed_out) return finish(operation, leg.result);
        operation.failed_with = 0;
        if (reader_for(operation) == nullptr) return finish(operation, leg.result);
    }
    start_read(operation);
    if (timed_out && operation.request != nullptr) operation.failed_with &= static_cast<std::uint8_t>(~bit);
}

// ---- the end of an operation

void MirrorStore::release(Operation& operation) noexcept {
    operation.request = nullptr;
    operation.next_idle = idle_;
    idle_ = &operation;
    --operations_used_;
}

void MirrorStore::finish(Operation& operation, int result) noexcept {
    Request& request = *operation.request;
    release(operation);
    if (waiting_.head != nullptr || resync_.running()) kick();  // for the room, or for the pages
    request.complete(request, result);
}

void MirrorStore::finish_later(Request& request, int result) noexcept {
    request.done = static_cast<std::uint32_t>(result);
    finished_.push(request);
    kick();
}

void MirrorStore::cancel(Request& request) noexcept {
    for (Operation& operation : operations_) {
        if (operation.request != &request) continue;
        operation.cancelled = true;
        for (Leg& leg : operation.legs) {
            if (leg.flying)
                leg.half->store->cancel(leg.request);
            else if (!leg.done)
                loop_.arm(leg.retry, io::Clock::now());
            if (operation.request != &request) return;  // that was its end
        }
        return;
    }
    List<Request> kept;
    bool found = false;
    while (Request* waiting = waiting_.pop()) {
        if (waiting == &request)
            found = true;
        else
            kept.push(*waiting);
    }
    waiting_ = kept;
    if (found) finish_later(request, -ECANCELED);
}

/// The doubts that the user has to know of. Pages that a half lacks stay so while they are in doubt there
/// (MirrorResync::flush_ended), and take no write: what comes late there is never read.
bool MirrorStore::in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept {
    const std::uint64_t first = offset / kPageSize;
    const std::uint64_t end = (offset + length + kPageSize - 1) / kPageSize;
    return std::ranges::any_of(halves_, [&](const MirrorHalf& half) {
        return half.store->in_doubt(offset, length) && !half.missing.all({first, end - first});
    });
}

/// Whether a write of the job's to these bytes is under way: they cannot be copied now.
bool MirrorStore::written_by_others(std::uint64_t offset, std::uint64_t length) const noexcept {
    return std::ranges::any_of(operations_, [&](const Operation& operation) {
        return operation.writes() && overlap(*operation.request, offset, length);
    });
}

}  // namespace farswap
