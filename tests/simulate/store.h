// A store whose every answer is a matter of chance: out of order, late, failed, torn, lost; that goes away
// and returns, executes writes after it was given up on, and changes what it holds. Checks its callers.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "farswap/store.h"
#include "io/engine.h"

namespace farswap::simulate {

struct StoreSize {
    std::uint64_t capacity = 0, reserved = 0;   ///< bytes
    std::uint64_t full_at = ~std::uint64_t{0};  ///< reserve() beyond it: -ENOSPC
};

class SimulatedStore final : public Store {
  public:
    /// With a ring its transfers are the loop's requests, as those of a file are; without, as a server's, its
    /// own.
    SimulatedStore(std::string name, StoreSize size, io::Loop* ring);
    ~SimulatedStore() override;

    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return size_.capacity; }
    std::uint64_t reserved() const noexcept override { return size_.reserved; }
    std::uint32_t alignment() const noexcept override { return 512; }
    std::uint32_t transfer_max() const noexcept override { return 1 << 20; }
    void submit(Request& request) noexcept override;
    void flush(FlushRequest& flush) noexcept override;
    void reserve(ReserveRequest& reserve) noexcept override;
    void cancel(Request& request) noexcept override;
    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override;
    void close() noexcept override;
    Counters counters() const noexcept override { return counters_; }

    // The simulation's side.

    /// When the next operation ends, ns; the largest number when none is under way.
    std::int64_t next_due() const;
    /// Ends those whose time has come; calls back. How many.
    int run_due(io::Engine::Listener& listener);
    /// Of the loop's engine. False: it is not this store's.
    bool begin(std::uint32_t index, const io::FileOperation& operation);
    bool cancel(std::uint32_t index);
    /// The thread is dead that had asked for them: the kernel ends some of the ring's, at whatever they had
    /// come to, and finishes the others.
    void submitter_died();
    /// Lets something happen to the store itself.
    void disturb();
    bool is_lying() const { return corrupted_; }
    bool has_failed() const { return failed_; }

  private:
    using Sector = std::array<std::byte, 512>;
    enum class Kind { kRead, kWrite, kFlush, kReserve };
    struct Operation {
        Kind kind;
        Request* request = nullptr;  ///< a transfer's; null: of the ring, by its index
        FlushRequest* flush = nullptr;
        ReserveRequest* reserve = nullptr;
        std::uint32_t index = 0;
        std::uint64_t offset = 0;  ///< transfers: bytes
        std::byte* data = nullptr;
        std::uint32_t length = 0;
        std::int64_t due = 0;
        int result = 0;            ///< negative: it will fail so
        std::uint64_t covers = 0;  ///< flush: of what completed up to this sequence number
        bool lost = false;         ///< write: executed before a restart
        bool is_orphan = false;    ///< ended with the thread that had asked for it
        bool is_transfer() const { return kind == Kind::kRead || kind == Kind::kWrite; }
    };
    struct Late {
        std::uint64_t offset = 0;
        std::vector<std::byte> bytes;
        std::int64_t at = 0;  ///< when it is executed, or known not to be
        bool executed = false;
    };
    struct Written {
        Sector bytes{};
        std::uint64_t sequence = 0;
        /// What it took the place of while a flush was to make that durable.
        std::optional<Sector> covered{};
    };

    void start(Operation operation, std::chrono::milliseconds timeout);
    void decide(Operation& operation, std::chrono::milliseconds timeout);
    bool is_being_flushed(std::uint64_t sequence) const;
    void check_apart(std::uint64_t offset, std::uint32_t length, bool writes) const;
    void end(Operation operation, io::Engine::Listener& listener);
    int transfer(const Operation& operation);
    void read(std::uint64_t offset, std::byte* into, std::size_t bytes) const;
    void write(std::uint64_t offset, const std::byte* from, std::size_t bytes);
    int flush_result(const Operation& operation);
    void leave_in_doubt(const Operation& operation, std::int64_t delay_max);
    void run_late();
    void restart();
    void corrupt();

    std::string name_;
    StoreSize size_;
    io::Loop* ring_;
    io::File file_;
    std::deque<Operation> operations_;
    std::map<std::uint64_t, Sector> durable_;    ///< by sector
    std::map<std::uint64_t, Written> volatile_;  ///< written, not flushed
    std::map<std::uint64_t, Sector> old_;        ///< what was durable before, for stores that go back in time
    std::vector<Late> late_;
    std::uint64_t sequence_ = 0;
    std::int64_t down_until_ = 0;
    bool restarted_ = false;
    bool failed_ = false;
    bool corrupted_ = false;
    bool closed_ = false;
    Counters counters_;
};

}  // namespace farswap::simulate
