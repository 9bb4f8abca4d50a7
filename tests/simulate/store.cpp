#include "store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/no_allocation.h"
#include "world.h"

namespace farswap::simulate {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::int64_t kMicrosecond = 1'000, kMillisecond = 1'000'000, kSecond = 1'000'000'000;

bool overlap(std::uint64_t a, std::uint64_t a_bytes, std::uint64_t b, std::uint64_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

SimulatedStore::SimulatedStore(std::string name, StoreSize size, io::Loop* ring)
    : name_(std::move(name)), size_(size), ring_(ring) {
    world->stores.push_back(this);
}

SimulatedStore::~SimulatedStore() {
    if (!operations_.empty()) fail_run(name_ + " is destroyed with I/O in flight");
    std::erase(world->stores, this);
}

void SimulatedStore::submit(Request& request) noexcept {
    if (const int error = validate(request))
        fail_run(fmt::format("{}: a request is not valid ({})", name_, error));
    if (request.offset + request.length > size_.reserved)
        fail_run(name_ + ": a request beyond what is reserved");
    if (closed_) fail_run(name_ + ": a request after it was closed");
    if (ring_ != nullptr) return ring_->submit(request, file_);
    const MayAllocate simulated("the server's own");
    const bool writes = (request.op & WRITE) != 0;
    check_apart(request.offset, request.length, writes);
    start({.kind = writes ? Kind::kWrite : Kind::kRead,
           .request = &request,
           .offset = request.offset,
           .data = request.data,
           .length = request.length},
          request.timeout);
}

bool SimulatedStore::begin(std::uint32_t index, const io::FileOperation& operation) {
    if (operation.file != &file_) return false;
    const bool writes = operation.kind == io::FileOperation::Kind::kWrite;
    check_apart(operation.offset, operation.length, writes);
    start({.kind = writes ? Kind::kWrite : Kind::kRead,
           .index = index,
           .offset = operation.offset,
           .data = operation.data,
           .length = operation.length},
          std::chrono::milliseconds(0));
    return true;
}

void SimulatedStore::check_apart(std::uint64_t offset, std::uint32_t length, bool writes) const {
    for (const Operation& other : operations_) {
        if (!other.is_transfer() || (!writes && other.kind != Kind::kWrite)) continue;
        if (overlap(offset, length, other.offset, other.length))
            fail_run(fmt::format("{}: overlapping requests at {} and {}", name_, offset, other.offset));
    }
}

void SimulatedStore::flush(FlushRequest& flush) noexcept {
    const MayAllocate simulated("the server's own");
    start({.kind = Kind::kFlush, .flush = &flush, .covers = sequence_}, flush.timeout);
}

void SimulatedStore::reserve(ReserveRequest& reserve) noexcept {
    const MayAllocate simulated("the server's own");
    start({.kind = Kind::kReserve, .reserve = &reserve}, std::chrono::seconds(30));
}

void SimulatedStore::start(Operation operation, std::chrono::milliseconds timeout) {
    decide(operation, timeout);
    operations_.push_back(operation);
}

/// When and how it ends, unless something happens before.
void SimulatedStore::decide(Operation& operation, std::chrono::milliseconds timeout) {
    Random& random = world->random;
    const Options& options = world->options;
    const std::int64_t limit =
        timeout.count() > 0 ? timeout.count() * kMillisecond : std::numeric_limits<std::int64_t>::max() / 4;
    std::int64_t takes = (5 + static_cast<std::int64_t>(random.below(200))) * kMicrosecond;
    if (options.has(Feature::kSlow) && random.once_in(4))
        takes = static_cast<std::int64_t>(random.below(40)) * kMillisecond;
    if (failed_) operation.result = -EROFS;
    if (operation.result == 0 && options.has(Feature::kErrors) && random.once_in(60)) {
        constexpr int kErrors[] = {EIO, ETIMEDOUT, ENOMEM, EAGAIN};
        operation.result = -kErrors[random.below(std::size(kErrors))];
    }
    if (world->now < down_until_) {
        operation.result = random.once_in(2) ? -ENOTCONN : -ETIMEDOUT;
        if (operation.result == -ETIMEDOUT) takes = limit;
    }
    if (operation.kind == Kind::kWrite && operation.result == 0 && options.has(Feature::kLate) &&
        random.once_in(30)) {
        operation.result = -ETIMEDOUT;
        takes = limit;
    }
    if (takes >= limit) {
        takes = limit;
        if (operation.result == 0) operation.result = -ETIMEDOUT;
    }
    operation.due = world->now + takes;
}

void SimulatedStore::cancel(Request& request) noexcept {
    if (ring_ != nullptr) return ring_->cancel(request);
    for (Operation& operation : operations_) {
        if (operation.request != &request) continue;
        operation.result = -ECANCELED;
        operation.due = world->now;
    }
}

bool SimulatedStore::cancel(std::uint32_t index) {
    for (Operation& operation : operations_) {
        if (ring_ == nullptr || !operation.is_transfer() || operation.index != index) continue;
        operation.result = -ECANCELED;
        operation.due = world->now;
        return true;
    }
    return false;
}

void SimulatedStore::submitter_died() {
    Random& random = world->death.random;
    for (Operation& operation : operations_) {
        if (ring_ == nullptr || !operation.is_transfer() || operation.result < 0 || random.once_in(2))
            continue;
        const std::uint64_t sectors = operation.length / kSector;
        operation.due = world->now;
        if (sectors > 1 && random.once_in(3)) {  // it ends with what it has done
            operation.length = static_cast<std::uint32_t>((1 + random.below(sectors - 1)) * kSector);
            continue;
        }
        if (operation.kind == Kind::kWrite)
            write(operation.offset, operation.data, random.below(sectors + 1) * kSector);
        operation.result = -ECANCELED;
        operation.is_orphan = true;
    }
}

bool SimulatedStore::in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept {
    return std::ranges::any_of(late_, [&](const Late& late) {
        return world->now <= late.at && overlap(offset, length, late.offset, late.bytes.size());
    });
}

void SimulatedStore::close() noexcept {
    if (!operations_.empty()) fail_run(name_ + " is closed with I/O in flight");
    closed_ = true;
}

std::int64_t SimulatedStore::next_due() const {
    std::int64_t due = std::numeric_limits<std::int64_t>::max();
    for (const Operation& operation : operations_) due = std::min(due, operation.due);
    return due;
}

int SimulatedStore::run_due(io::Engine::Listener& listener) {
    {
        const MayAllocate simulated("the server's own");
        run_late();
    }
    int ended = 0;
    for (std::size_t left = operations_.size(); left > 0; --left) {
        const auto next = std::ranges::min_element(operations_, {},
                                                   [](const Operation& operation) { return operation.due; });
        if (next == operations_.end() || next->due > world->now) break;
        const Operation operation = *next;
        operations_.erase(next);
        end(operation, listener);
        ++ended;
    }
    return ended;
}

void SimulatedStore::end(Operation operation, io::Engine::Listener& listener) {
    switch (operation.kind) {
        case Kind::kRead:
        case Kind::kWrite: {
            const int result = transfer(operation);
            if (Request* request = operation.request; request != nullptr)
                request->complete(*request, result);
            else
                listener.ended(operation.index, result);
            break;
        }
        case Kind::kFlush:
            operation.flush->complete(*operation.flush, flush_result(operation));
            break;
        case Kind::kReserve: {
            int result = operation.result;
            if (result == 0 && operation.reserve->bytes > size_.full_at) result = -ENOSPC;
            if (result == 0) size_.reserved = std::max(size_.reserved, operation.reserve->bytes);
            operation.reserve->complete(*operation.reserve, result);
            break;
        }
    }
}

int SimulatedStore::transfer(const Operation& operation) {
    const MayAllocate simulated("the server's own");
    if (operation.is_orphan) return operation.result;
    // The memory belongs to the request until it ends: the bytes of a write are those that lie there now.
    if (operation.kind == Kind::kWrite && operation.result < 0) {
        if (operation.result == -ETIMEDOUT || operation.result == -ECANCELED)
            leave_in_doubt(operation, 3 * kSecond);
        // What failed may have been done in part.
        if (world->random.once_in(2))
            write(operation.offset, operation.data, world->random.below(operation.length));
    }
    if (operation.result < 0) return operation.result;
    if (operation.kind == Kind::kRead) {
        ++counters_.reads;
        read(operation.offset, operation.data, operation.length);
    } else {
        ++counters_.writes;
        if (!operation.lost) write(operation.offset, operation.data, operation.length);
        // Sent again over a second connection: what the first one brought is still on its way.
        if (world->options.has(Feature::kTwice) && world->random.once_in(10))
            leave_in_doubt(operation, 20 * kMillisecond);
    }
    return static_cast<int>(operation.length);
}

void SimulatedStore::read(std::uint64_t offset, std::byte* into, std::size_t bytes) const {
    for (std::size_t done = 0; done < bytes; done += kSector) {
        const std::uint64_t sector = (offset + done) / kSector;
        const auto fresh = volatile_.find(sector);
        const auto kept = durable_.find(sector);
        if (fresh != volatile_.end())
            std::memcpy(into + done, fresh->second.bytes.data(), kSector);
        else if (kept != durable_.end())
            std::memcpy(into + done, kept->second.data(), kSector);
        else
            std::memset(into + done, 0, kSector);
    }
}

bool SimulatedStore::is_being_flushed(std::uint64_t sequence) const {
    return std::ranges::any_of(operations_, [&](const Operation& operation) {
        return operation.kind == Kind::kFlush && sequence <= operation.covers;
    });
}

void SimulatedStore::write(std::uint64_t offset, const std::byte* from, std::size_t bytes) {
    ++sequence_;
    for (std::size_t done = 0; done + kSector <= bytes; done += kSector) {
        Written& sector = volatile_[(offset + done) / kSector];
        if (sector.sequence != 0 && is_being_flushed(sector.sequence)) sector.covered = sector.bytes;
        std::memcpy(sector.bytes.data(), from + done, kSector);
        sector.sequence = sequence_;
    }
}

int SimulatedStore::flush_result(const Operation& operation) {
    const MayAllocate simulated("the server's own");
    ++counters_.flushes;
    if (operation.result < 0) {
        // As fsync(2): after an error nothing that was not safe need be there any more.
        if (operation.result == -EIO && world->random.once_in(2)) volatile_.clear();
        return operation.result;
    }
    if (std::exchange(restarted_, false)) return -ESTALE;
    for (auto sector = volatile_.begin(); sector != volatile_.end();) {
        if (sector->second.sequence > operation.covers) {
            if (sector->second.covered) durable_[sector->first] = *std::exchange(sector->second.covered, {});
            ++sector;
            continue;
        }
        const auto kept = durable_.find(sector->first);
        if (kept != durable_.end() && world->options.has(Feature::kCorrupt))
            old_[sector->first] = kept->second;
        durable_[sector->first] = sector->second.bytes;
        sector = volatile_.erase(sector);
    }
    return 0;
}

/// A write whose answer nobody waited for: a server may still have it.
void SimulatedStore::leave_in_doubt(const Operation& operation, std::int64_t delay_max) {
    if (!world->options.has(Feature::kLate)) return;
    late_.push_back({.offset = operation.offset,
                     .bytes = {operation.data, operation.data + operation.length},
                     .at = world->now + static_cast<std::int64_t>(
                                            world->random.below(static_cast<std::uint64_t>(delay_max))),
                     .executed = world->random.once_in(3)});
}

void SimulatedStore::run_late() {
    for (Late& late : late_) {
        if (late.executed || late.at > world->now) continue;
        late.executed = true;
        write(late.offset, late.bytes.data(), late.bytes.size());
    }
    std::erase_if(late_, [](const Late& late) { return late.at < world->now; });
}

void SimulatedStore::disturb() {
    Random& random = world->random;
    const Options& options = world->options;
    run_late();
    if (options.has(Feature::kLosses) && random.once_in(40)) restart();
    if (options.has(Feature::kOutages) && world->now >= down_until_ && random.once_in(100))
        down_until_ = world->now +
                      static_cast<std::int64_t>(random.below(random.once_in(8) ? 5 * kSecond : kSecond / 4));
    if (options.has(Feature::kCorrupt) && random.once_in(40)) corrupt();
    if (options.has(Feature::kFailure) && random.once_in(200)) {
        trace(name_ + " fails for good");
        failed_ = true;
    }
}

/// The server lost its memory. What it had not been asked to keep may be gone, sector by sector; what is
/// under way may have been taken before.
void SimulatedStore::restart() {
    trace(name_ + " restarts");
    restarted_ = true;
    for (auto sector = volatile_.begin(); sector != volatile_.end();) {
        if (world->random.once_in(3)) durable_[sector->first] = sector->second.bytes;
        sector = volatile_.erase(sector);
    }
    for (Operation& operation : operations_)
        if (operation.kind == Kind::kWrite && world->random.once_in(2)) operation.lost = true;
}

/// Changes something that is safe: a bit, for another page's, for what was there before, for zeros.
void SimulatedStore::corrupt() {
    if (durable_.empty()) return;
    Random& random = world->random;
    auto victim = durable_.begin();
    std::advance(victim, static_cast<std::ptrdiff_t>(random.below(durable_.size())));
    corrupted_ = true;
    trace(fmt::format("{} changes its byte {}", name_, victim->first * kSector));
    const std::uint64_t first = victim->first / 8 * 8;
    switch (random.below(4)) {
        case 0:
            victim->second[random.below(kSector)] ^= std::byte{16};
            break;
        case 1: {
            auto other = durable_.begin();
            std::advance(other, static_cast<std::ptrdiff_t>(random.below(durable_.size())));
            const std::uint64_t second = other->first / 8 * 8;
            for (std::uint64_t i = 0; i < 8; ++i) std::swap(durable_[first + i], durable_[second + i]);
            break;
        }
        case 2:
            for (std::uint64_t i = 0; i < 8; ++i)
                if (old_.contains(first + i)) durable_[first + i] = old_[first + i];
            break;
        default:
            for (std::uint64_t i = 0; i < 8; ++i) durable_[first + i] = {};
            break;
    }
}

}  // namespace farswap::simulate
