// A Store on an NBD export: requests, flushes and the lease's heartbeat, as calls on one or two connections.
// Knows the open export; nothing of how it was found or claimed (nbd_open.cpp).
//
// READs have a connection of their own where the server allows several (NBD_FLAG_CAN_MULTI_CONN), so that a
// fault never waits behind a megabyte that is being written out.
//
// NBD has no verifier: whether a server restarted between a write and its flush cannot be seen. So every
// write that was acknowledged over a connection that was lost before the flush counts as lost.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "farswap/store.h"
#include "io/loop.h"
#include "store/lease.h"
#include "store/nbd_connection.h"
#include "store/nbd_late_writes.h"
#include "store/open.h"
#include "store/request_list.h"
#include "store/url.h"

namespace farswap {

/// As open_store(), for a URL of scheme nbd or nbd+unix. A connection on which a call has had no answer for
/// `silence_max` is given up.
Result<std::unique_ptr<Store>> open_nbd_store(const Url& url, const StoreOptions& options, io::Loop& loop,
                                              const LeaseTiming& timing = {},
                                              std::chrono::milliseconds silence_max = kSilenceMax);
/// As check_store_url(), for these and nbds, nbds+unix (refused).
Status check_nbd_url(const Url& url);
bool is_nbd_scheme(const Url& url);

namespace nbd {

/// An export that has been claimed for us.
struct ClaimedExport {
    std::string name;  ///< of the store in messages
    std::vector<Endpoint> endpoints;
    Geometry geometry;
    Lease lease{};
    std::uint64_t capacity = 0;  ///< bytes of data; they begin behind the lease
    Handle writes{}, reads{};    ///< connected; no `reads`: one connection for both
};

class NbdStore final : public Store, private Connection::Watcher {
  public:
    NbdStore(io::Loop& loop, ClaimedExport claimed, const LeaseTiming& timing,
             std::chrono::milliseconds silence_max);
    ~NbdStore() override;

    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return capacity_; }
    /// All of it: an export has its size. One that is thin may still turn out to be full; then the write says
    /// ENOSPC.
    std::uint64_t reserved() const noexcept override { return capacity_; }
    std::uint32_t alignment() const noexcept override { return geometry_.block_min; }
    std::uint32_t transfer_max() const noexcept override { return transfer_max_; }
    void submit(Request& request) noexcept override;
    void flush(FlushRequest& flush) noexcept override;
    void reserve(ReserveRequest& reserve) noexcept override;
    /// A write that the server has is waited for: given up, its outcome would be unknown.
    void cancel(Request& request) noexcept override;
    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override {
        return late_.may_hit(kLeaseSize + offset, length, io::Clock::now());
    }
    void close() noexcept override;
    Counters counters() const noexcept override;

  private:
    struct Lane;
    /// A request in flight. A longer one than a call may be goes call after call, so it has one at a time.
    struct Transfer {
        Lane* lane = nullptr;
        Request* request = nullptr;  ///< null: free
        Call* call = nullptr;
    };
    struct Lane {
        Connection* connection = nullptr;
        NbdStore* store = nullptr;
        RequestList<Request> waiting;
        std::array<Transfer, kWindow> transfers;
    };
    /// What is read of the lease, to renew it or to see whether it is ours still.
    struct LeaseLook {
        bool active = false;
        Connection* connection = nullptr;
        NbdStore* store = nullptr;
        io::Clock::time_point asked;
        std::unique_ptr<std::byte[]> block;
    };

    // Connection::Watcher
    void connected(Connection& connection) noexcept override;
    void fate_unknown(const Call& write) noexcept override;
    void lost(Connection& connection) noexcept override;
    bool may_write() noexcept override;

    Lane& lane_of(const Request& request) noexcept { return (request.op & WRITE) != 0 ? writes_ : reads_; }
    bool shared() const noexcept { return read_connection_ == nullptr; }
    int check(const Request& request) const noexcept;
    void dispatch(Lane& lane) noexcept;
    bool blocked(const Request& request, io::Clock::time_point now) noexcept;
    void start(Lane& lane, Request& request, Call& call) noexcept;
    void send_rest(Transfer& transfer) noexcept;
    void on_transfer(Transfer& transfer, int error) noexcept;
    void end(Transfer& transfer, int result) noexcept;
    void finish_later(Request& request, int result) noexcept;
    void finish_later(FlushRequest& flush, int result) noexcept;
    void kick() noexcept;
    void on_kick() noexcept;
    void note_deadline(std::uint64_t deadline_ns) noexcept;
    void on_deadline() noexcept;
    void give_up(std::uint64_t due_ns, int result) noexcept;
    void arm_next_deadline() noexcept;

    void start_flush() noexcept;
    void on_flushed(int error) noexcept;
    void answer_reserves() noexcept;
    Call& lease_call(Connection& connection, Call::Kind kind, LeaseLook& look,
                     void (*complete)(Call& call, int error)) noexcept;
    void check_lease(LeaseLook& look) noexcept;
    void on_lease_checked(LeaseLook& look, int error) noexcept;
    void on_beat() noexcept;
    void on_lease_read(int error) noexcept;
    void on_lease_written(int error) noexcept;
    bool is_ours(const LeaseLook& look) const noexcept;
    void lose_lease(const char* reason) noexcept;
    Status free_lease();

    io::Loop& loop_;
    const std::string name_;
    const std::vector<Endpoint> endpoints_;
    const Geometry geometry_;
    const std::uint64_t capacity_;
    const std::uint32_t transfer_max_;
    const LeaseTiming timing_;
    Lease lease_;
    io::Clock::time_point ours_at_;  ///< the lease was ours at that time, or later

    LateWrites late_;
    Connection write_connection_;
    std::unique_ptr<Connection> read_connection_;  ///< null: the other one serves both
    Lane reads_, writes_;
    Counters counters_;
    int lost_ = 0;  ///< the lease is not ours any more: what every request ends with
    bool closed_ = false;

    RequestList<Request> finished_;      ///< results wait in `done`
    RequestList<FlushRequest> flushed_;  ///< results wait in `cookie`
    RequestList<ReserveRequest> reserves_;
    io::Timer kick_timer_;      ///< runs what must not run inside a call of the caller's
    io::Timer deadline_timer_;  ///< the earliest deadline
    io::Timer late_timer_;      ///< a write waits for an older one to be over
    std::uint64_t deadline_ns_ = ~std::uint64_t{0};

    bool unflushed_ = false;    ///< writes have been acknowledged that no flush under way covers
    bool flushing_ = false;     ///< the flush under way covers such
    bool writes_lost_ = false;  ///< acknowledged, and perhaps not there; the next flush has to say so
    Call* flush_call_ = nullptr;
    RequestList<FlushRequest> flushes_active_;  ///< that the flush under way answers
    RequestList<FlushRequest> flushes_waiting_;

    io::Timer beat_timer_;
    LeaseLook beat_;
    bool beat_reported_ = false;
    LeaseLook write_check_, read_check_;
};

}  // namespace nbd
}  // namespace farswap
