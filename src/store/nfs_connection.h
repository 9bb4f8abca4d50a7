// One TCP connection to an NFS server with a fixed table of calls in flight, kept up by reconnecting. Knows
// calls, not what they are for; decides neither deadlines nor what a lost write means.
//
// libnfs 4.0.0 would not do: it keeps a half-received reply over a reconnect and then decodes the new
// connection's bytes out of step, copies every byte twice, allocates for every call and cannot give up a
// call. The calls here are sent from and received into the caller's memory, and nothing is allocated after
// construction.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.h"
#include "io/loop.h"
#include "store/backoff.h"
#include "store/nfs_receiver.h"
#include "store/nfs_socket.h"
#include "store/nfs_wire.h"
#include "store/patience.h"

namespace farswap::nfs {

inline constexpr std::uint32_t kWindow = 64;  ///< calls of requests in flight on one connection
inline constexpr std::uint32_t kInternalCalls =
    8;  ///< kept free for the store's own: commit, heartbeat, reserve
inline constexpr std::uint32_t kCallsMax = kWindow + kInternalCalls;

/// How long a connection bears with its server; shorter in tests.
struct ConnectionLimits {
    /// A connection on which a call has had no answer for so long is given up (see Patience).
    std::chrono::milliseconds silence_max = kSilenceMax;
    /// A call that is refused as one that the server does not know the file of, or does not serve to us, or
    /// without a reason, is asked again for so long: servers say so for some seconds when they come back, or
    /// export anew, or when another takes their place.
    std::chrono::milliseconds refusal_max{30'000};
};

class Connection final : private ReplyReader::Calls {
  public:
    /// Who is told of a connection's ups and downs, from the loop.
    class Watcher {
      public:
        /// An abandoned call's entry has become free.
        virtual void slot_freed() noexcept = 0;
        /// The connection is gone, and the server may have a copy of this WRITE, or of its first part, that
        /// it has not executed yet. (The call itself is sent again, unless it was abandoned.)
        virtual void write_in_doubt(std::uint64_t offset, std::uint32_t length) noexcept = 0;
        /// The server asks to send a call again later.
        virtual void told_to_wait() noexcept = 0;
        /// Something is about to be sent. False: nothing is, before release_sends().
        virtual bool may_send() noexcept = 0;

      protected:
        ~Watcher() = default;
    };
    struct Counters {
        std::uint64_t resent = 0;      ///< calls sent again, after a loss or because the server asked for it
        std::uint64_t reconnects = 0;  ///< connections made after the first
        std::uint64_t copied = 0;      ///< bytes of data that did not go straight between memory and socket
        Counters& operator+=(const Counters& other) noexcept {
            resent += other.resent;
            reconnects += other.reconnects;
            copied += other.copied;
            return *this;
        }
    };

    /// Starts to connect; calls may be submitted at once. The protocol is of this connection alone. `server`
    /// names it in messages; no WRITE is longer than `write_max` bytes. A reserved local port is used where
    /// we may (`secure` exports). `index` is its number among those of its owner (Call::connection).
    Connection(io::Loop& loop, const Address& address, Protocol& protocol, std::string server,
               std::uint32_t write_max, Watcher& watcher, std::uint32_t index = 0,
               const ConnectionLimits& limits = {});
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// Takes an entry of the table, or null when all are in use. It goes back by release() or abandon().
    Call* take(bool internal) noexcept;
    /// Sends the call. `complete` runs from the loop, never from inside. May be repeated from `complete`. A
    /// call survives the loss of its connection: it is sent again, for as long as nobody abandons it.
    void submit(Call& call) noexcept;
    void release(Call& call) noexcept;
    /// Gives up a submitted call: `complete` will not be called, and its memory is the caller's again at
    /// once. The server may still execute it.
    void abandon(Call& call) noexcept;

    /// Ends what Watcher::may_send() began; what waits is sent without asking again.
    void release_sends() noexcept;

    /// Whether an abandoned WRITE that the server may still execute overlaps the range.
    bool abandoned_write_overlaps(std::uint64_t offset, std::uint64_t length) const noexcept;

    bool is_up() const noexcept { return state_ == State::kUp; }
    /// Calls that take(false) would still give.
    std::uint32_t free_entries() const noexcept { return free_ - std::min(free_, kInternalCalls); }

    Counters counters() const noexcept;

  private:
    enum class State { kDown, kConnecting, kUp };

    Call* find(std::uint32_t xid) noexcept override;
    void replied(Call& call) noexcept override;

    void connect() noexcept;
    void connected() noexcept;
    void answered() noexcept;
    void close() noexcept;
    void lost(const char* reason) noexcept;
    void retry_connect() noexcept;
    void requeue_sent() noexcept;
    void tell_of_doubt(const Call& call) noexcept;
    void on_ready(std::uint32_t events) noexcept;
    void on_timer() noexcept;
    void on_tick() noexcept;
    void receive() noexcept;
    bool receive_some(const char*& failure) noexcept;
    void send() noexcept;
    void send_queued() noexcept;
    void account_sent(std::size_t bytes) noexcept;
    void watch(std::uint32_t events) noexcept;
    void number(Call& call) noexcept;
    void enqueue(Call& call) noexcept;
    void unlink(Call& call) noexcept;
    void free_entry(Call& call, bool tell) noexcept;
    void resume_delayed() noexcept;
    void resume_soon() noexcept;
    bool ask_again(Call& call) noexcept;
    void note_served() noexcept;
    void submit_step() noexcept;
    bool keep_for_probe(Call& call) noexcept;

    io::Loop& loop_;
    const Address address_;
    Protocol& protocol_;
    const std::string server_;
    const std::uint32_t write_max_;
    Watcher& watcher_;

    State state_ = State::kDown;
    Fd fd_;
    io::Watch watch_;
    io::Timer timer_;         ///< kConnecting: gives the attempt up; kDown: starts the next
    io::Timer resume_timer_;  ///< sends delayed calls again
    io::Timer tick_timer_;    ///< while calls are without an answer
    std::uint32_t tick_ = 0;
    Patience patience_;
    Backoff backoff_;
    const std::chrono::milliseconds refusal_max_;
    Backoff refusals_;  ///< between the attempts of calls that are refused
    bool refusal_reported_ = false;
    bool was_up_ = false;
    bool sends_held_ = false;
    bool reported_ = false;   ///< the loss has been reported, and so the return will be
    bool receiving_ = false;  ///< inside receive(): sends wait for its end

    std::array<Call, kCallsMax> calls_;
    Call step_;                  ///< the protocol's own, outside of the table
    Call* free_list_ = nullptr;  ///< linked by Call::next
    std::uint32_t free_ = kCallsMax;
    std::uint32_t abandoned_writes_ = 0;
    std::uint32_t next_number_;
    Call* send_head_ = nullptr;
    Call* send_tail_ = nullptr;
    const std::unique_ptr<std::byte[]> spare_;  ///< data of an abandoned, partly sent WRITE
    Counters counters_;
    Receiver receiver_;
};

}  // namespace farswap::nfs
