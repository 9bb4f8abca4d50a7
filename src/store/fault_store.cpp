// See fault_store.h.
#include "store/fault_store.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/assert.h"
#include "base/no_allocation.h"

namespace farswap {

namespace {

// A device for tests and --chaos between the pager and its store.
constexpr const char* kWhy = "it keeps what a store is to lose, delay or do twice";

using Effect = Fault::Effect;

struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
/// Memory of our own that direct I/O accepts.
using AlignedCopy = std::unique_ptr<std::byte, Free>;

AlignedCopy copy_of(const std::byte* from, std::size_t length) {
    const MayAllocate own(kWhy);
    const std::size_t whole_pages = (length + kPageSize - 1) / kPageSize * kPageSize;
    AlignedCopy copy(static_cast<std::byte*>(std::aligned_alloc(kPageSize, whole_pages)));
    FARSWAP_ASSERT(copy != nullptr);
    std::memcpy(copy.get(), from, length);
    return copy;
}

}  // namespace

/// One operation of the caller's: exactly one of `request`, `flush`, `reserve` is set. The inner store sees
/// `shadow`, `inner_flush` or `inner_reserve`.
struct FaultStore::Operation {
    FaultStore* store = nullptr;
    Request* request = nullptr;
    FlushRequest* flush = nullptr;
    ReserveRequest* reserve = nullptr;
    bool faulty = false;
    Fault fault;  ///< when it is faulty

    Request shadow;
    FlushRequest inner_flush;
    ReserveRequest inner_reserve;
    AlignedCopy copy;                         ///< what is sent instead of the caller's memory
    std::vector<std::uint64_t> writing_back;  ///< flush: offsets of the pages that are still to be written
    bool started = false;
    bool settled = false;  ///< `result` is known
    int result = 0;
    std::uint64_t due = 0;  ///< delivered once so many operations have completed

    bool struck(Effect effect) const { return faulty && fault.effect == effect; }
    bool writes() const { return (request->op & WRITE) != 0; }
    void complete() const {
        if (request != nullptr) request->complete(*request, result);
        if (flush != nullptr) flush->complete(*flush, result);
        if (reserve != nullptr) reserve->complete(*reserve, result);
    }
};

FaultStore::FaultStore(std::unique_ptr<Store> inner, io::Loop& loop, std::uint64_t seed)
    : inner_(std::move(inner)), loop_(loop), random_(seed) {
    deliver_timer_.owner = this;
    deliver_timer_.fire = [](io::Timer& timer) { static_cast<FaultStore*>(timer.owner)->deliver(); };
}

FaultStore::~FaultStore() {
    loop_.cancel(deliver_timer_);
}

std::optional<Fault> FaultStore::strike(Fault::On on) {
    for (Active& active : faults_) {
        const Fault& fault = active.fault;
        if (fault.on != on || active.done >= fault.times || active.seen++ < fault.skip) continue;
        if (fault.probability < 1.0 && std::uniform_real_distribution<>()(random_) >= fault.probability)
            continue;
        ++active.done;
        ++struck_;
        return fault;
    }
    return std::nullopt;
}

FaultStore::Operation& FaultStore::add(std::optional<Fault> fault) {
    const MayAllocate own(kWhy);
    operations_.push_back(std::make_unique<Operation>());
    operations_.back()->store = this;
    operations_.back()->faulty = fault.has_value();
    if (fault) operations_.back()->fault = *fault;
    return *operations_.back();
}

void FaultStore::submit(Request& request) noexcept {
    Operation& operation = add(strike((request.op & WRITE) != 0 ? Fault::On::kWrite : Fault::On::kRead));
    operation.request = &request;
    start(operation);
}

void FaultStore::flush(FlushRequest& flush) noexcept {
    Operation& operation = add(strike(Fault::On::kFlush));
    operation.flush = &flush;
    start(operation);
}

void FaultStore::reserve(ReserveRequest& reserve) noexcept {
    Operation& operation = add(strike(Fault::On::kReserve));
    operation.reserve = &reserve;
    start(operation);
}

void FaultStore::start(Operation& operation) {
    if (paused_) return;
    operation.started = true;
    if (operation.request != nullptr) return start_transfer(operation);
    if (operation.flush != nullptr) return start_flush(operation);
    if (operation.struck(Effect::kError)) return settle(operation, operation.fault.error);
    operation.inner_reserve.bytes = operation.reserve->bytes;
    operation.inner_reserve.owner = &operation;
    operation.inner_reserve.complete = [](ReserveRequest& at, int result) {
        auto& mine = *static_cast<Operation*>(at.owner);
        mine.store->settle(mine, result);
    };
    inner_->reserve(operation.inner_reserve);
}

void FaultStore::resume() {
    paused_ = false;
    for (const auto& operation : operations_)
        if (!operation->started && !operation->settled) start(*operation);
}

void FaultStore::cancel(Request& request) noexcept {
    for (const auto& operation : operations_) {
        if (operation->request != &request || operation->settled) continue;
        if (operation->started) return inner_->cancel(operation->shadow);
        return settle(*operation, -ECANCELED);
    }
}

// --- Transfers
// ------------------------------------------------------------------------------------------------

void FaultStore::start_transfer(Operation& operation) {
    const Request& request = *operation.request;
    const bool writes = operation.writes();
    const int error = validate(request);
    if (error != 0) return settle(operation, error);
    if (operation.struck(Effect::kError)) return settle(operation, operation.fault.error);
    if (operation.struck(Effect::kLost) && writes) return settle(operation, static_cast<int>(request.length));

    Request& shadow = operation.shadow;
    shadow = request;
    shadow.owner = &operation;
    shadow.complete = [](Request& at, int result) {
        auto& mine = *static_cast<Operation*>(at.owner);
        mine.store->transferred(mine, result);
    };
    if (operation.struck(Effect::kShort) || operation.struck(Effect::kTorn)) {
        shadow.length = request.length / 2 / alignment() * alignment();
        shadow.page_count = shadow.length / kPageSize;
        if (shadow.length == 0) return transferred(operation, 0);
    }
    if (operation.struck(Effect::kCorrupt) && writes) {
        operation.copy = copy_of(request.data, request.length);
        operation.copy.get()[random_() % request.length] ^= std::byte{0x10};
        shadow.data = operation.copy.get();
        shadow.op = WRITE;  // the copy is not the pinned memory
    }
    if (!writes || !volatile_) return inner_->submit(shadow);
    keep_unflushed(shadow);
    transferred(operation, static_cast<int>(shadow.length));
}

/// The inner store has moved all of it, or the half that the fault lets through.
void FaultStore::transferred(Operation& operation, int result) {
    if (result < 0) return settle(operation, result);
    const Request& request = *operation.request;
    const bool reads = !operation.writes();
    if (reads) patch_from_unflushed(operation.shadow);
    if (operation.struck(Effect::kShort)) return settle(operation, operation.fault.error);
    if (operation.struck(Effect::kTorn) && reads)
        std::memset(request.data + result, 0, request.length - static_cast<std::size_t>(result));
    if (operation.struck(Effect::kCorrupt) && reads)
        request.data[random_() % request.length] ^= std::byte{0x10};
    settle(operation, static_cast<int>(request.length));
}

void FaultStore::keep_unflushed(const Request& request) {
    const MayAllocate own(kWhy);
    FARSWAP_ASSERT((request.offset | request.length) % kPageSize == 0);
    for (std::uint64_t at = 0; at < request.length; at += kPageSize)
        unflushed_[request.offset + at].assign(request.data + at, request.data + at + kPageSize);
}

void FaultStore::patch_from_unflushed(const Request& request) const {
    for (auto page = unflushed_.lower_bound(request.offset);
         page != unflushed_.end() && page->first < request.offset + request.length; ++page)
        std::memcpy(request.data + (page->first - request.offset), page->second.data(), kPageSize);
}

// --- Flush
// ----------------------------------------------------------------------------------------------------

void FaultStore::lose_unflushed() {
    unflushed_.clear();
    lost_ = true;
}

void FaultStore::start_flush(Operation& operation) {
    if (operation.struck(Effect::kError)) {
        if (operation.fault.error != -ESTALE) return settle(operation, operation.fault.error);
        lose_unflushed();
    }
    if (std::exchange(lost_, false)) {
        ++lost_writes_;
        return settle(operation, -ESTALE);
    }
    {
        const MayAllocate own(kWhy);
        for (const auto& [offset, page] : unflushed_) operation.writing_back.push_back(offset);
    }
    write_back_next(operation);
}

/// Writes the kept pages to the inner store one by one, then flushes it.
void FaultStore::write_back_next(Operation& operation) {
    while (!operation.writing_back.empty() && !unflushed_.contains(operation.writing_back.back()))
        operation.writing_back.pop_back();
    if (operation.writing_back.empty()) {
        FlushRequest& inner = operation.inner_flush;
        inner.timeout = operation.flush->timeout;
        inner.owner = &operation;
        inner.complete = [](FlushRequest& at, int result) {
            auto& mine = *static_cast<Operation*>(at.owner);
            // Lost while this flush was under way: it must not vouch for it.
            if (result == 0 && std::exchange(mine.store->lost_, false)) {
                ++mine.store->lost_writes_;
                result = -ESTALE;
            }
            mine.store->settle(mine, result);
        };
        return inner_->flush(inner);
    }
    const std::uint64_t offset = operation.writing_back.back();
    operation.copy = copy_of(unflushed_[offset].data(), kPageSize);
    operation.shadow =
        Request{.op = WRITE, .offset = offset, .data = operation.copy.get(), .length = kPageSize};
    operation.shadow.owner = &operation;
    operation.shadow.complete = [](Request& at, int result) {
        auto& mine = *static_cast<Operation*>(at.owner);
        if (result < 0) return mine.store->settle(mine, result);
        // Written anew meanwhile: the newer content waits for the next flush.
        const auto kept = mine.store->unflushed_.find(at.offset);
        if (kept != mine.store->unflushed_.end() && std::memcmp(kept->second.data(), at.data, kPageSize) == 0)
            mine.store->unflushed_.erase(kept);
        mine.writing_back.pop_back();
        mine.store->write_back_next(mine);
    };
    inner_->submit(operation.shadow);
}

// --- Delivery
// -------------------------------------------------------------------------------------------------

void FaultStore::settle(Operation& operation, int result) {
    operation.settled = true;
    operation.result = result;
    operation.due = completions_ + (operation.struck(Effect::kDelay) ? operation.fault.delay : 0);
    schedule();
}

/// Arms the timer: now when something is due, after a quiet while when something is only held back.
void FaultStore::schedule() {
    auto quiet = std::chrono::milliseconds::max();
    for (const auto& operation : operations_) {
        if (!operation->settled) continue;
        if (operation->due <= completions_) return loop_.arm(deliver_timer_, io::Clock::now());
        quiet = std::min(quiet, operation->fault.quiet);
    }
    if (quiet != std::chrono::milliseconds::max()) loop_.arm(deliver_timer_, io::Clock::now() + quiet);
}

/// Completes what is due; the oldest of what is held back, when nothing is.
void FaultStore::deliver() {
    std::vector<std::unique_ptr<Operation>> ready;
    const auto take = [&](auto at) {
        const MayAllocate own(kWhy);
        ready.push_back(std::move(*at));
        return operations_.erase(at);
    };
    for (auto at = operations_.begin(); at != operations_.end();)
        at = (*at)->settled && (*at)->due <= completions_ ? take(at) : std::next(at);
    if (ready.empty()) {
        const auto held = std::ranges::find_if(operations_, [](const auto& at) { return at->settled; });
        if (held != operations_.end()) take(held);
    }
    completions_ += ready.size();
    schedule();
    for (const auto& operation : ready) operation->complete();
}

Store::Counters FaultStore::counters() const noexcept {
    Counters counters = inner_->counters();
    counters.lost_writes += lost_writes_;
    return counters;
}

}  // namespace farswap
