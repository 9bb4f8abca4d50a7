// One connection to an NBD server with a fixed table of calls in flight, kept up by reconnecting: libnbd's
// aio_* calls on the event loop. Knows calls, not what they are for; decides neither deadlines nor what a
// lost write means.
//
// libnbd allocates some hundred bytes for each command, from memory that the pager has locked.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "io/loop.h"
#include "store/backoff.h"
#include "store/nbd_endpoint.h"
#include "store/patience.h"

namespace farswap::nbd {

inline constexpr std::uint32_t kWindow = 64;        ///< calls of requests in flight on one connection
inline constexpr std::uint32_t kInternalCalls = 4;  ///< kept free for the store's own: flush, lease
inline constexpr std::uint32_t kCallsMax = kWindow + kInternalCalls;

class Connection;

/// One command. Taken from a connection, filled, submitted.
struct Call {
    enum class Kind { kRead, kWrite, kFlush };
    Kind kind = Kind::kRead;
    bool urgent = false;       ///< goes before release_sends()
    std::uint64_t offset = 0;  ///< bytes from the start of the export
    std::byte* data = nullptr;
    std::uint32_t length = 0;  ///< bytes
    /// From the loop. `error` is 0 or a negative errno that the server gave.
    void (*complete)(Call& call, int error) = nullptr;
    void* owner = nullptr;

    // The connection's.
    enum class State { kFree, kTaken, kQueued, kSent, kAnswered };
    State state = State::kFree;
    int error = 0;
    std::uint32_t sent_tick = 0;  ///< the connection's, when libnbd took it
    Connection* connection = nullptr;
    Call* next = nullptr;
};

class Connection {
  public:
    /// Who is told of a connection's ups and downs, from the loop.
    class Watcher {
      public:
        /// The connection is up again. Only urgent calls are sent before release_sends().
        virtual void connected(Connection& connection) noexcept = 0;
        /// This write was sent, and its answer will not come. It is sent again later, if it was not
        /// abandoned.
        virtual void fate_unknown(const Call& write) noexcept = 0;
        /// The connection is lost, fate_unknown() has been called for each write.
        virtual void lost(Connection& connection) noexcept = 0;
        /// Whether writes may go out now. False: the connection is made anew before any does.
        virtual bool may_write() noexcept = 0;

      protected:
        ~Watcher() = default;
    };
    struct Counters {
        std::uint64_t resent = 0;
        std::uint64_t reconnects = 0;  ///< connections made after the first
    };

    /// Goes on with `handle`, which is connected and idle. `expected` is what the export must offer after
    /// each reconnect. `what` is for messages. Once a call has had no answer for `silence_max` the connection
    /// is given up (see Patience).
    Connection(io::Loop& loop, std::vector<Endpoint> endpoints, Handle handle, const Geometry& expected,
               std::string what, Watcher& watcher, std::chrono::milliseconds silence_max);
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
    /// once. libnbd cannot forget one command alone, so a call that was sent takes the connection with it,
    /// and the other calls go out again over the next one.
    void abandon(Call& call) noexcept;
    bool sent(const Call& call) const noexcept { return call.state == Call::State::kSent; }

    void release_sends() noexcept;
    /// The connection is of no use as it is: makes it anew, after a while.
    void drop(const char* reason) noexcept;

    /// It is up and waits for release_sends().
    bool held() const noexcept { return state_ == State::kUp && sends_held_; }
    const std::string& what() const noexcept { return what_; }
    const Counters& counters() const noexcept { return counters_; }
    /// Gives the idle connection away for the store's last words, or null when it is down. Nothing may be
    /// called after it.
    Handle give_up() noexcept;

  private:
    enum class State { kDown, kConnecting, kUp };

    static int answered(void* call, int* error) noexcept;
    void connect() noexcept;
    void check_connecting() noexcept;
    void close() noexcept;
    void retry_connect() noexcept;
    void requeue_sent() noexcept;
    void on_ready(std::uint32_t events) noexcept;
    void on_timer() noexcept;
    void on_tick() noexcept;
    void settle() noexcept;
    void send_queued() noexcept;
    bool send(Call& call) noexcept;
    void enqueue(Call& call) noexcept;
    void complete_answered() noexcept;
    bool writes_sent() const noexcept;
    void watch() noexcept;

    io::Loop& loop_;
    const std::vector<Endpoint> endpoints_;
    std::size_t endpoint_ = 0;  ///< of the attempt that is next
    const Geometry expected_;
    const std::string what_;
    Watcher& watcher_;

    State state_ = State::kUp;
    Handle handle_;
    io::Watch watch_;
    io::Timer timer_;         ///< kConnecting: gives the attempt up; kDown: starts the next
    io::Timer settle_timer_;  ///< runs what must not run inside a call of the caller's
    io::Timer tick_timer_;    ///< while calls are under way
    std::uint32_t tick_ = 0;
    Patience patience_;
    Backoff backoff_;
    bool sends_held_ = false;
    bool reported_ = false;  ///< the loss has been reported, and so the return will be
    bool ended_ = false;     ///< the server has said that it answers no more
    bool dropping_ = false;  ///< what libnbd says while its handle is closed is no answer

    std::array<Call, kCallsMax> calls_;
    std::uint32_t free_ = kCallsMax;
    Call* send_head_ = nullptr;
    Call* send_tail_ = nullptr;
    Call* answered_head_ = nullptr;
    Call* answered_tail_ = nullptr;
    Counters counters_;
};

}  // namespace farswap::nbd
