// A store that fails on purpose: wraps another one and injects what disks and servers do. For tests of the
// layers above; it allocates as it likes.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "farswap/store.h"
#include "io/loop.h"

namespace farswap {

/// One kind of misbehaviour. Of the operations that it matches, it leaves `skip` alone, then strikes `times`
/// of them, each with `probability`.
struct Fault {
    enum class On { kRead, kWrite, kFlush, kReserve };
    enum class Effect {
        kError,    ///< completes with `error`; nothing is moved. A flush with -ESTALE loses the unflushed
                   ///< writes
        kShort,    ///< the first half is moved, then `error` (read, write)
        kTorn,     ///< only the first half is moved, and success is reported (read: the rest is zeros)
        kCorrupt,  ///< one bit is wrong, and success is reported (read, write)
        kLost,     ///< nothing is stored, and success is reported (write)
        kDelay,    ///< completes after `delay` later completions, or when nothing else has for `quiet`
    };
    On on = On::kRead;
    Effect effect = Effect::kError;
    std::uint64_t skip = 0;
    std::uint64_t times = 1;
    double probability = 1.0;
    int error = -EIO;
    std::uint32_t delay = 8;
    std::chrono::milliseconds quiet{5};
};

/// As every Store, on the loop's thread. The same seed and the same calls give the same faults.
class FaultStore final : public Store {
  public:
    FaultStore(std::unique_ptr<Store> inner, io::Loop& loop, std::uint64_t seed = 1);
    ~FaultStore() override;

    void inject(const Fault& fault) { faults_.push_back(Active{fault, 0, 0}); }
    void clear_faults() { faults_.clear(); }
    /// How many operations have been struck so far.
    std::uint64_t struck() const noexcept { return struck_; }

    /// From now on a write is only acknowledged, as by an NFS server (UNSTABLE): it is kept in memory,
    /// visible to reads, and reaches the inner store at the next flush.
    void hold_writes_until_flush() { volatile_ = true; }
    /// The server restarts: what was written since the last flush is gone, and the next flush says -ESTALE.
    void lose_unflushed();
    std::size_t unflushed_pages() const noexcept { return unflushed_.size(); }

    /// Operations are held back until resume(): they are "on the wire".
    void pause() { paused_ = true; }
    void resume();

    const std::string& name() const noexcept override { return inner_->name(); }
    std::uint64_t capacity() const noexcept override { return inner_->capacity(); }
    std::uint64_t reserved() const noexcept override { return inner_->reserved(); }
    /// What is kept until a flush is kept by pages, also where a fault lets half of a write through.
    std::uint32_t alignment() const noexcept override {
        return volatile_ ? std::uint32_t{kPageSize} : inner_->alignment();
    }
    std::uint32_t transfer_max() const noexcept override { return inner_->transfer_max(); }
    void submit(Request& request) noexcept override;
    void flush(FlushRequest& flush) noexcept override;
    void reserve(ReserveRequest& reserve) noexcept override;
    void cancel(Request& request) noexcept override;
    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override {
        return inner_->in_doubt(offset, length);
    }
    void close() noexcept override { inner_->close(); }
    Counters counters() const noexcept override;

  private:
    struct Active {
        Fault fault;
        std::uint64_t seen, done;
    };
    struct Operation;
    using Page = std::vector<std::byte>;

    std::optional<Fault> strike(Fault::On on);
    Operation& add(std::optional<Fault> fault);
    void start(Operation& operation);
    void start_transfer(Operation& operation);
    void start_flush(Operation& operation);
    void write_back_next(Operation& operation);
    void transferred(Operation& operation, int result);
    void keep_unflushed(const Request& request);
    void patch_from_unflushed(const Request& request) const;
    void settle(Operation& operation, int result);
    void schedule();
    void deliver();

    std::unique_ptr<Store> inner_;
    io::Loop& loop_;
    std::mt19937_64 random_;
    std::vector<Active> faults_;
    std::list<std::unique_ptr<Operation>> operations_;
    std::map<std::uint64_t, Page> unflushed_;  ///< by offset
    io::Timer deliver_timer_;
    std::uint64_t struck_ = 0;
    std::uint64_t completions_ = 0;
    std::uint64_t lost_writes_ = 0;
    bool volatile_ = false;
    bool lost_ = false;
    bool paused_ = false;
};

}  // namespace farswap
