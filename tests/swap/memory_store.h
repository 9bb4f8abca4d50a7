// A store in memory for tests: holds every operation until the test lets it complete, in any order; keeps
// unflushed writes apart so that a restart can lose them; fails, corrupts, runs full and executes writes a
// second time, late, on demand. Checks its callers.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <unordered_map>
#include <vector>

#include "allocation_counter.h"
#include "farswap/store.h"

namespace farswap::test {

struct MemoryStoreOptions {
    std::string name = "memory:";
    std::uint64_t capacity = std::uint64_t{64} << 20;
    std::uint64_t reserved = std::uint64_t{64} << 20;
    std::uint64_t full_at = ~std::uint64_t{0};  ///< reserve() beyond it: -ENOSPC
};

class MemoryStore final : public Store {
  public:
    enum class Kind { kRead, kWrite, kFlush, kReserve };

    explicit MemoryStore(const MemoryStoreOptions& options = {}) : options_(options) {}
    ~MemoryStore() override { EXPECT_TRUE(pending_.empty()) << "destroyed with I/O in flight"; }

    const std::string& name() const noexcept override { return options_.name; }
    std::uint64_t capacity() const noexcept override { return options_.capacity; }
    std::uint64_t reserved() const noexcept override { return options_.reserved; }
    std::uint32_t alignment() const noexcept override { return kPageSize; }
    std::uint32_t transfer_max() const noexcept override { return 1 << 20; }
    Counters counters() const noexcept override { return counters_; }

    void submit(Request& request) noexcept override {
        const UncountedAllocations uncounted;
        EXPECT_EQ(validate(request), 0);
        EXPECT_LE(request.offset + request.length, options_.reserved);
        EXPECT_FALSE(closed);
        for (const Operation& other : pending_) {
            const bool one_writes = other.request && ((other.request->op | request.op) & WRITE) != 0;
            const bool overlaps = one_writes &&
                                  request.offset < other.request->offset + other.request->length &&
                                  other.request->offset < request.offset + request.length;
            EXPECT_FALSE(overlaps) << "overlapping requests in flight";
        }
        if (request.op & WRITE) check_doubts(request);
        const Kind kind = (request.op & WRITE) ? Kind::kWrite : Kind::kRead;
        lengths.push_back(request.length / kPageSize);
        if (request.op & WRITE) written.push_back({request.offset, request.length});
        pending_.push_back({.kind = kind, .request = &request});
    }
    void flush(FlushRequest& flush) noexcept override {
        const UncountedAllocations uncounted;
        pending_.push_back({.kind = Kind::kFlush, .flush = &flush, .covers = sequence_});
    }
    void reserve(ReserveRequest& reserve) noexcept override {
        const UncountedAllocations uncounted;
        pending_.push_back({.kind = Kind::kReserve, .reserve = &reserve});
    }
    void cancel(Request& request) noexcept override {
        for (Operation& operation : pending_)
            if (operation.request == &request) operation.forced = -ECANCELED;
    }
    void close() noexcept override {
        EXPECT_TRUE(pending_.empty()) << "closed with I/O in flight";
        closed = true;
    }

    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override {
        const auto overlaps = [&](std::uint64_t first, std::uint64_t size) {
            return first < offset + length && offset < first + size;
        };
        return std::ranges::any_of(doubts, [&](const auto& at) { return overlaps(at.first, at.second); }) ||
               std::ranges::any_of(late_, [&](const auto& at) { return overlaps(at.offset, kPageSize); });
    }

    // The test's side.

    std::size_t pending() const { return pending_.size(); }
    std::size_t pending(Kind kind) const {
        return static_cast<std::size_t>(std::ranges::count(pending_, kind, &Operation::kind));
    }
    /// Lets the operation at `index` (0 is the oldest) complete.
    void complete(std::size_t index) {
        const Operation operation = pending_.at(index);
        pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(index));
        switch (operation.kind) {
            case Kind::kRead:
            case Kind::kWrite:
                complete_transfer(operation);
                break;
            case Kind::kFlush:
                operation.flush->complete(*operation.flush, flush_result(operation));
                break;
            case Kind::kReserve:
                operation.reserve->complete(*operation.reserve, reserve_result(operation));
                break;
        }
    }
    /// Completes the oldest operation of the kind; false when there is none.
    bool complete_one(Kind kind) {
        for (std::size_t i = 0; i < pending_.size(); ++i)
            if (pending_[i].kind == kind) return complete(i), true;
        return false;
    }
    void complete_all() {
        while (!pending_.empty()) complete(0);
    }

    /// The next `times` operations of the kind end with -`error`, and do nothing.
    void set_full_at(std::uint64_t bytes) { options_.full_at = bytes; }
    void fail_next(Kind kind, int error, int times = 1) {
        failures_[static_cast<std::size_t>(kind)] = {error, times};
    }

    /// From now on every operation ends with -`error`; with 0 the store works again.
    void set_down(int error) { down_ = error; }

    /// Reads that touch the page at the offset end with -EIO from now on.
    void break_page(std::uint64_t offset) { broken_ = offset / kPageSize; }

    /// The server restarts: unflushed writes are gone, and some of those in flight, although their
    /// acknowledgements still arrive. The next flush reports it.
    void restart(std::mt19937& random) {
        volatile_.clear();
        restarted_ = true;
        for (Operation& operation : pending_)
            if (operation.kind == Kind::kWrite && random() % 2) operation.executed_before_restart = true;
    }

    /// The connection breaks: what is in flight is sent again over the next one, and the server may execute
    /// the first copies of the writes, and of the zeros that reserve space, at any time after the second.
    void break_connection() {
        for (const Operation& operation : pending_) {
            if (operation.kind == Kind::kWrite) keep_late(*operation.request);
            if (operation.kind != Kind::kReserve) continue;
            for (std::uint64_t at = options_.reserved; at < operation.reserve->bytes; at += kPageSize)
                late_.push_back({at, {}});
        }
    }
    /// Pages that may be written late.
    std::size_t late() const { return late_.size(); }
    std::uint64_t late_page(std::size_t index) const { return late_.at(index).offset / kPageSize; }
    /// The server executes one of them, and it is over with it.
    void execute_late(std::size_t index) {
        const std::uint64_t page = late_.at(index).offset / kPageSize;
        Page& kept = volatile_.contains(page) ? volatile_[page].page : durable_[page];
        // The same once more takes nothing from what a flush under way has to make durable.
        if (kept != late_.at(index).page) volatile_[page] = {late_.at(index).page, ++sequence_};
        forget_late(index);
    }
    /// The server will never execute it.
    void forget_late(std::size_t index) { late_.erase(late_.begin() + static_cast<std::ptrdiff_t>(index)); }
    void execute_all_late() {
        while (!late_.empty()) execute_late(0);
    }

    /// Flips a bit of what is stored at the offset.
    void corrupt(std::uint64_t offset) {
        const std::uint64_t index = offset / kPageSize;
        (volatile_.contains(index) ? volatile_[index].page : durable_[index])[offset % kPageSize] ^=
            std::byte{4};
    }

    /// What is stored, as reads would find it: by the offset of each page that was ever written.
    using Image = std::unordered_map<std::uint64_t, std::vector<std::byte>>;
    Image image() {
        Image image;
        for (const auto& [index, page] : durable_) image[index * kPageSize] = bytes_at(index * kPageSize);
        for (const auto& [index, page] : volatile_) image[index * kPageSize] = bytes_at(index * kPageSize);
        return image;
    }
    /// Puts other bytes where a page is stored, behind everybody's back.
    void replace(std::uint64_t offset, const std::vector<std::byte>& bytes) {
        const std::uint64_t index = offset / kPageSize;
        Page& page = volatile_.contains(index) ? volatile_[index].page : durable_[index];
        std::ranges::copy(bytes, page.begin());
    }

    /// The page at the offset, as a read would find it.
    std::vector<std::byte> bytes_at(std::uint64_t offset) {
        const std::uint64_t index = offset / kPageSize;
        const Page& page = volatile_.contains(index) ? volatile_[index].page : durable_[index];
        return {page.begin(), page.end()};
    }
    /// Whether any page that is stored begins with these 16 bytes.
    bool holds_bytes(const std::vector<std::byte>& bytes) const {
        const auto begins = [&](const Page& page) {
            return std::equal(bytes.begin(), bytes.begin() + 16, page.begin());
        };
        return std::ranges::any_of(durable_, [&](const auto& entry) { return begins(entry.second); }) ||
               std::ranges::any_of(volatile_, [&](const auto& entry) { return begins(entry.second.page); });
    }

    std::vector<std::uint32_t> lengths;  ///< pages of each request that was submitted
    std::vector<std::pair<std::uint64_t, std::uint64_t>>
        written;                                     ///< offset and length of each write, in bytes
    std::vector<std::uint64_t>* read_log = nullptr;  ///< takes the offset of each page that a read gives out
    bool closed = false;
    bool timeouts_come_late = false;  ///< a write that timed out may be executed later
    /// Offset and length of what in_doubt() owns up to.
    std::vector<std::pair<std::uint64_t, std::uint64_t>> doubts;

  private:
    using Page = std::array<std::byte, kPageSize>;
    struct Volatile {
        Page page;
        std::uint64_t sequence;
    };
    struct Late {
        std::uint64_t offset;
        Page page;
    };
    struct Operation {
        Kind kind;
        Request* request = nullptr;
        FlushRequest* flush = nullptr;
        ReserveRequest* reserve = nullptr;
        std::uint64_t covers = 0;  ///< a flush makes durable what completed up to this sequence number
        int forced = 0;
        bool executed_before_restart = false;
    };
    struct Failure {
        int error = 0;
        int times = 0;
    };

    int injected(Kind kind) {
        if (down_ != 0) return -down_;
        Failure& failure = failures_[static_cast<std::size_t>(kind)];
        if (failure.times == 0) return 0;
        --failure.times;
        return -failure.error;
    }

    void keep_late(const Request& request) {
        const UncountedAllocations uncounted;
        for (std::uint32_t done = 0; done < request.length; done += kPageSize) {
            late_.push_back({request.offset + done, {}});
            std::memcpy(late_.back().page.data(), request.data + done, kPageSize);
        }
    }

    /// Where a write of unknown fate may come late, no other bytes than those may be written (in_doubt).
    void check_doubts(const Request& request) {
        for (const Late& late : late_) {
            if (late.offset - request.offset >= request.length) continue;
            const std::byte* bytes = request.data + (late.offset - request.offset);
            EXPECT_EQ(std::memcmp(late.page.data(), bytes, kPageSize), 0)
                << options_.name << ": other bytes in doubt at page " << late.offset / kPageSize;
        }
    }

    void complete_transfer(const Operation& operation) {
        Request& request = *operation.request;
        int result = operation.forced ? operation.forced : injected(operation.kind);
        const std::uint64_t first = request.offset / kPageSize;
        if (operation.kind == Kind::kRead && broken_ - first < request.length / kPageSize) result = -EIO;
        if (result == 0) {
            const UncountedAllocations uncounted;
            for (std::uint32_t done = 0; done < request.length; done += kPageSize)
                transfer_page(operation, (request.offset + done) / kPageSize, request.data + done);
            result = static_cast<int>(request.length);
        }
        if (timeouts_come_late && operation.kind == Kind::kWrite && result == -ETIMEDOUT) keep_late(request);
        request.complete(request, result);
    }

    void transfer_page(const Operation& operation, std::uint64_t index, std::byte* memory) {
        if (operation.kind == Kind::kRead) {
            ++counters_.reads;
            if (read_log) read_log->push_back(index * kPageSize);
            const Page& page = volatile_.contains(index) ? volatile_[index].page : durable_[index];
            std::memcpy(memory, page.data(), kPageSize);
        } else {
            ++counters_.writes;
            if (operation.executed_before_restart) return;
            Volatile& entry = volatile_[index];
            std::memcpy(entry.page.data(), memory, kPageSize);
            entry.sequence = ++sequence_;
        }
    }

    int flush_result(const Operation& operation) {
        ++counters_.flushes;
        if (const int error = injected(Kind::kFlush)) return error;
        if (std::exchange(restarted_, false)) return -ESTALE;
        const UncountedAllocations uncounted;
        for (auto i = volatile_.begin(); i != volatile_.end();) {
            if (i->second.sequence > operation.covers) {
                ++i;
                continue;
            }
            durable_[i->first] = i->second.page;
            i = volatile_.erase(i);
        }
        return 0;
    }

    int reserve_result(const Operation& operation) {
        if (const int error = injected(Kind::kReserve)) return error;
        if (operation.reserve->bytes > options_.full_at) return -ENOSPC;
        options_.reserved = std::max(options_.reserved, operation.reserve->bytes);
        return 0;
    }

    MemoryStoreOptions options_;
    std::vector<Operation> pending_;
    std::unordered_map<std::uint64_t, Page> durable_;
    std::unordered_map<std::uint64_t, Volatile> volatile_;
    std::vector<Late> late_;
    std::array<Failure, 4> failures_;
    std::uint64_t sequence_ = 0;
    std::uint64_t broken_ = ~std::uint64_t{0};  ///< page index
    bool restarted_ = false;
    int down_ = 0;
    Counters counters_;
};

}  // namespace farswap::test
