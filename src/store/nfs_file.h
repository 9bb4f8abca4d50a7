// A Store on one file of an NFS server: requests, flushes, reserved space and the lease's heartbeat, as
// calls on its connections. Knows the open file; nothing of how it was found or claimed (nfs_open.cpp).
//
// READs have connections of their own, so that a fault never waits behind a megabyte that is being written
// out. WRITEs are UNSTABLE; a flush is one COMMIT whose verifier must be that of every write it covers (RFC
// 1813, 3.3.21).
//
// A write that ended with -ETIMEDOUT may still be executed by the server. Writes that overlap it wait until
// the server has answered it. When its connection is lost first, nobody can tell any more: its range stays in
// doubt for kLateWriteMax, and so does that of every write that was under way on a connection that was lost.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "farswap/store.h"
#include "io/loop.h"
#include "store/lease.h"
#include "store/nfs_connections.h"
#include "store/nfs_control.h"
#include "store/nfs_doubts.h"
#include "store/nfs_window.h"
#include "store/nfs_wire.h"
#include "store/request_list.h"

namespace farswap::nfs {

/// A file that has been claimed for us.
struct ClaimedFile {
    std::string name;  ///< of the store in messages
    Server server;
    Address address{};  ///< of the NFS service
    FileHandle directory, file;
    std::string file_name;
    bool remove_at_close = false;
    Lease lease{};
    std::uint64_t capacity = 0, reserved = 0;   ///< bytes of data; they begin behind the lease
    std::uint32_t read_max = 0, write_max = 0;  ///< bytes a call
};

/// The verifiers that the acknowledged but uncommitted writes of some span of time came with.
class Unstable {
  public:
    void add(const Verifier& verifier) noexcept;
    void add(const Unstable& other) noexcept;
    /// Some may be lost: no verifier keeps them any more.
    void lose() noexcept { any_ = mixed_ = true; }
    bool empty() const noexcept { return !any_; }
    /// Whether a COMMIT that answered with `verifier` made all of them durable.
    bool kept_by(const Verifier& verifier) const noexcept {
        return !any_ || (!mixed_ && verifier_ == verifier);
    }

  private:
    bool any_ = false;
    bool mixed_ = false;  ///< the server restarted between two of them, or has failed to store them
    Verifier verifier_{};
};

/// How long things take; shorter in tests.
struct NfsTiming {
    std::chrono::milliseconds beat = kLeaseBeat;
    /// Nothing is written when the lease was last seen to be ours longer ago (the server was away, or this
    /// process was stopped), before it has been looked at again. Another takes it after kLeaseExpiry at the
    /// earliest.
    std::chrono::nanoseconds trust_max = kLeaseExpiry / 2;
    ConnectionLimits limits{};
};

class NfsFile final : public Store {
  public:
    NfsFile(io::Loop& loop, ClaimedFile file, const NfsTiming& timing = {});
    ~NfsFile() override;

    const std::string& name() const noexcept override { return file_.name; }
    std::uint64_t capacity() const noexcept override { return file_.capacity; }
    std::uint64_t reserved() const noexcept override { return file_.reserved; }
    std::uint32_t alignment() const noexcept override { return 1; }
    std::uint32_t transfer_max() const noexcept override;
    void submit(Request& request) noexcept override;
    void flush(FlushRequest& flush) noexcept override;
    void reserve(ReserveRequest& reserve) noexcept override;
    void cancel(Request& request) noexcept override;
    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override;
    void close() noexcept override;
    Counters counters() const noexcept override;

  private:
    template <typename T>
    using List = RequestList<T>;

    struct Lane;
    /// A request in flight. A longer one than a call may be goes call after call, so it has one at a time.
    struct Transfer {
        Lane* lane = nullptr;
        Request* request = nullptr;  ///< null: free
        Call* call = nullptr;
        Unstable unstable;  ///< of the calls so far
        io::Clock::time_point sent;
        Transfer* next_idle = nullptr;
    };
    struct Lane final : Connection::Watcher {
        Lane(NfsFile& owner, const char* what, std::uint32_t max, std::uint32_t write_max);
        virtual ~Lane() = default;  // for clang-tidy, which sees the declaration above and not `final`
        void slot_freed() noexcept override { file.kick(); }
        void write_in_doubt(std::uint64_t offset, std::uint32_t length) noexcept override;
        bool may_send() noexcept override;
        void told_to_wait() noexcept override { window.refused(io::Clock::now()); }
        Transfer* acquire() noexcept;
        void release(Transfer& transfer) noexcept;

        NfsFile& file;
        Connections connections;
        const std::uint32_t transfer_max;
        List<Request> waiting;
        std::vector<Transfer> transfers;
        Transfer* idle = nullptr;
        std::uint32_t under_way = 0;  ///< transfers in use
        Window window;
    };
    /// Space that is being reserved: zeros are written, then committed.
    struct Reserving {
        bool active = false;
        bool written = false;             ///< waits for the next COMMIT
        bool committed = false;           ///< the COMMIT under way is for it, too
        std::uint64_t end = 0, next = 0;  ///< bytes of data
        std::uint32_t in_flight = 0;
        std::uint32_t attempts = 0;
        int error = 0;
        Unstable unstable;
    };
    /// Space comes bit by bit, in smaller ones while the server restarts faster than it takes them.
    static constexpr std::uint64_t kReserveStep = 64u << 20, kReserveStepMin = 1u << 20;
    /// The look at a lease that is not trusted any more.
    struct Checking {
        bool wanted = false;
        bool active = false;
        io::Clock::time_point asked;
        alignas(8) std::array<std::byte, kLeaseSize> block;
    };
    struct Beating {
        bool active = false;
        bool reported = false;
        io::Clock::time_point asked;
        alignas(8) std::array<std::byte, kLeaseSize> block;
    };

    Lane& lane_of(const Request& request) noexcept { return (request.op & WRITE) != 0 ? writes_ : reads_; }
    int check(const Request& request) const noexcept;
    void dispatch(Lane& lane) noexcept;
    void start(Lane& lane, Request& request, Call& call) noexcept;
    void send_rest(Transfer& transfer) noexcept;
    void on_transfer(Transfer& transfer) noexcept;
    void end(Transfer& transfer, int result) noexcept;
    void finish_later(Request& request, int result) noexcept;
    void finish_later(FlushRequest& flush, int result) noexcept;
    void kick() noexcept;
    void on_kick() noexcept;
    void note_deadline(std::uint64_t deadline_ns) noexcept;
    void on_deadline() noexcept;
    void give_up(std::uint64_t due_ns, int result) noexcept;
    void arm_next_deadline() noexcept;

    Call& internal_call(Lane& lane, Procedure procedure, std::uint64_t offset, std::byte* data,
                        std::uint32_t length, void (*complete)(Call& call)) noexcept;
    void start_flush() noexcept;
    void start_commit() noexcept;
    void on_commit(const Reply& reply) noexcept;
    int judge_commit(const Reply& reply, List<FlushRequest>& flushes) noexcept;
    void settle_flushes(List<FlushRequest>& flushes, int result) noexcept;
    void advance_reserve() noexcept;
    void send_zeros() noexcept;
    void on_zeros(Call& call) noexcept;
    void on_reserve_commit(const Reply& reply) noexcept;
    void on_beat() noexcept;
    void check_lease() noexcept;
    void on_lease_checked(const Reply& reply) noexcept;
    bool is_ours(ConstLeaseBlock block) const noexcept;
    void on_lease_read(const Reply& reply) noexcept;
    void on_lease_written(const Reply& reply) noexcept;
    void lose_lease(const char* reason) noexcept;
    Status give_up_file(Deadline deadline);
    Status free_lease(Control& control);

    io::Loop& loop_;
    ClaimedFile file_;
    const NfsTiming timing_;
    io::Clock::time_point ours_at_;  ///< the lease was ours at that time, or later
    Lane reads_, writes_;
    Counters counters_;
    Doubts doubts_;  ///< bytes of the file, the lease included
    int lost_ = 0;   ///< the lease is not ours any more: what every request ends with
    bool closed_ = false;

    List<Request> finished_;      ///< results wait in `done`
    List<FlushRequest> flushed_;  ///< results wait in `cookie`
    io::Timer kick_timer_;        ///< runs what must not run inside a call of the caller's
    io::Timer deadline_timer_;    ///< the earliest deadline
    std::uint64_t deadline_ns_ = ~std::uint64_t{0};

    Unstable unstable_;    ///< completed writes that no COMMIT under way covers
    Unstable committing_;  ///< those that the COMMIT under way covers
    bool commit_active_ = false;
    List<FlushRequest> flushes_active_;  ///< that the COMMIT under way answers
    List<FlushRequest> flushes_waiting_;

    List<ReserveRequest> reserves_;
    Reserving reserving_;
    std::uint64_t reserve_step_ = kReserveStep;  ///< bytes between two commits
    io::Timer beat_timer_;
    Beating beating_;
    Checking checking_;
};

}  // namespace farswap::nfs
