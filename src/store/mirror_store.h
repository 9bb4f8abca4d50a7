// A store that keeps each page on two stores and lives on when one of them is lost. Knows the two as any
// other store; nothing of what is stored there.
//
// Writes, flushes and reservations go to both halves, a read to one, and to the other when that fails. A half
// whose failures do not pass while the other does its work is taken out; what is written from then on is
// marked as missing there. It is looked at now and then; when it works again, it takes part in writes at once
// and in reads of what it has, and what it misses is copied to it (mirror_resync.h).
//
// Writes that a half had acknowledged but not flushed when it was lost are in doubt there. The next flush
// says -ESTALE, so that they are written again (Store::flush): no list of them is kept here.
//
// What a half may still write late (Store::in_doubt) is the user's affair where the user has written. Where
// the mirror has, which is anywhere, it is the mirror's: such pages are missing on that half until the doubt
// is over, and meanwhile they are neither read there, nor written, nor copied.
//
// One half can be taken out only while the other has everything. Else errors are passed up, as those of any
// store.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/zero_table.h"
#include "farswap/store.h"
#include "io/loop.h"
#include "store/mirror_half.h"
#include "store/mirror_resync.h"
#include "store/request_list.h"

namespace farswap {

struct MirrorOptions {
    std::uint32_t operations_max = 160;  ///< reads and writes in flight; more wait
    /// How long one half may fail to do what the other does. Nothing that is written completes meanwhile.
    std::chrono::milliseconds outage_max{10000};
    std::uint32_t write_attempts_max = 5;  ///< ... or so many times, if it says so at once
    /// After it a read is given to the other half; doubled for each further attempt.
    std::chrono::milliseconds read_patience{2000};
    std::chrono::milliseconds shy{5000};  ///< after a failed read, others go elsewhere for so long
    std::chrono::milliseconds retry_delay{50};
    /// Until the first look at a half that was lost; doubled up to probe_delay_max.
    std::chrono::milliseconds probe_delay{1000};
    std::chrono::milliseconds probe_delay_max{15000};
    ResyncOptions resync{};
};

class MirrorStore final : public Store {
  public:
    /// Both halves are fresh: nothing on either is worth reading.
    static Result<std::unique_ptr<MirrorStore>> create(std::unique_ptr<Store> first,
                                                       std::unique_ptr<Store> second, io::Loop& loop,
                                                       const MirrorOptions& options = {});
    ~MirrorStore() override;

    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return capacity_; }
    std::uint64_t reserved() const noexcept override { return reserved_; }
    std::uint32_t alignment() const noexcept override { return kPageSize; }
    std::uint32_t transfer_max() const noexcept override;
    std::uint32_t copies() const noexcept override { return 2; }
    void submit(Request& request) noexcept override;
    void flush(FlushRequest& flush) noexcept override;
    void reserve(ReserveRequest& reserve) noexcept override;
    void cancel(Request& request) noexcept override;
    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override;
    void close() noexcept override;
    Counters counters() const noexcept override;

    /// Both halves have everything.
    bool complete() const noexcept { return halves_[0].complete() && halves_[1].complete(); }

  private:
    friend class MirrorResync;

    struct Operation;
    /// One half's part of an operation.
    struct Leg {
        Operation* operation = nullptr;
        MirrorHalf* half = nullptr;
        Request request;
        io::Timer retry;
        io::Clock::time_point sent{};
        std::uint32_t failures = 0;
        bool flying = false;   ///< the half has it
        bool skipped = false;  ///< the half is out: the pages are marked as missing there
        bool done = true;      ///< `result` stands
        int result = 0;
    };
    /// A read or a write in flight. A read uses one leg at a time.
    struct Operation {
        MirrorStore* mirror = nullptr;
        Request* request = nullptr;  ///< null: free
        io::Clock::time_point began{}, deadline{};
        bool cancelled = false;
        std::uint32_t attempts = 0;    ///< of a read
        std::uint8_t failed_with = 0;  ///< of a read: bit n, half n answered with an error
        std::array<Leg, 2> legs;
        Operation* next_idle = nullptr;
        bool writes() const noexcept { return request != nullptr && (request->op & WRITE) != 0; }
    };
    template <typename T>
    using List = RequestList<T>;

    MirrorStore(std::array<std::unique_ptr<Store>, 2> stores, std::array<PageMarks, 2> missing,
                ZeroTable<std::byte> copy_memory, io::Loop& loop, const MirrorOptions& options);

    MirrorHalf& other(const MirrorHalf& half) noexcept { return halves_[&half == halves_.data() ? 1 : 0]; }
    std::uint32_t index_of(const MirrorHalf& half) const noexcept {
        return static_cast<std::uint32_t>(&half - halves_.data());
    }

    // Transfers: mirror_transfer.cpp.
    void dispatch() noexcept;
    bool start(Request& request) noexcept;
    void start_write(Operation& operation) noexcept;
    void start_read(Operation& operation) noexcept;
    void send(Leg& leg, std::chrono::nanoseconds limit) noexcept;
    void leg_ended(Leg& leg, int result) noexcept;
    void write_leg_failed(Leg& leg) noexcept;
    void read_leg_ended(Leg& leg) noexcept;
    void settle_write(Operation& operation) noexcept;
    void retry_leg(Leg& leg) noexcept;
    void release(Operation& operation) noexcept;
    void finish(Operation& operation, int result) noexcept;
    void finish_later(Request& request, int result) noexcept;
    MirrorHalf* reader_for(const Operation& operation) noexcept;
    static bool closed_to_writes(const MirrorHalf& half, const Request& request) noexcept;
    bool written_by_others(std::uint64_t offset, std::uint64_t length) const noexcept;

    // Losing and finding a half: mirror_health.cpp.
    bool can_lose(const MirrorHalf& half) noexcept { return half.up() && other(half).complete(); }
    void lose(MirrorHalf& half, int error) noexcept;
    void note_success(MirrorHalf& half) noexcept;
    void on_probe_timer(MirrorHalf& half) noexcept;
    void probe_step_ended(MirrorHalf& half, int result) noexcept;
    void leave_out(MirrorHalf& half) noexcept;
    bool at_rest(const MirrorHalf& half) const noexcept;
    void continue_return(MirrorHalf& half) noexcept;
    void take_back(MirrorHalf& half) noexcept;
    static void mark_doubts(MirrorHalf& half, PageMarks::Run pages, std::uint64_t grain) noexcept;
    void say_complete(const MirrorHalf& half) noexcept;

    // Flushes and reservations.
    void start_flush() noexcept;
    void submit_flush(MirrorHalf& half, std::chrono::milliseconds timeout) noexcept;
    void flush_ended(MirrorHalf& half, int result) noexcept;
    void settle_flush() noexcept;
    int judge_flush(MirrorHalf& half) noexcept;
    void start_reserve() noexcept;
    void submit_reserve(MirrorHalf& half, std::uint64_t bytes) noexcept;
    void reserve_ended(MirrorHalf& half, int result) noexcept;
    void settle_reserve() noexcept;
    int judge_reserve(MirrorHalf& half) noexcept;
    void kick() noexcept;
    void on_kick() noexcept;

    io::Loop& loop_;
    const MirrorOptions options_;
    const std::string name_;
    const std::uint64_t capacity_;
    std::uint64_t reserved_;
    std::array<MirrorHalf, 2> halves_;
    MirrorResync resync_;
    std::vector<Operation> operations_;  ///< never resized
    Operation* idle_ = nullptr;
    std::uint32_t operations_used_ = 0;
    List<Request> waiting_;
    List<Request> finished_;  ///< results wait in `done`
    List<FlushRequest> flushes_active_, flushes_waiting_;
    List<ReserveRequest> reserves_;
    io::Timer kick_timer_;  ///< runs what must not run inside a call of the caller's or of a half
    io::Clock::time_point flush_began_{};
    bool flush_active_ = false;
    bool reserve_active_ = false;
    bool resend_ = false;  ///< acknowledged writes are in doubt: the next flush says -ESTALE
    bool closed_ = false;
    std::uint32_t next_reader_ = 0;
    std::uint64_t lost_writes_ = 0;
};

}  // namespace farswap
