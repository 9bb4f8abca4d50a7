// Who holds what of the machine's budget: takes what jobs ask and report, decides by the configuration and
// fair_share.h, and says what each is to be told. Knows no sockets and no clock: it is given the time.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "cli/share_protocol.h"
#include "daemon/access.h"
#include "daemon/config.h"
#include "daemon/fair_share.h"

namespace farswap::daemon {

/// One thread. Times never go backward.
class Ledger {
  public:
    using Clock = std::chrono::steady_clock;
    using Id = std::uint64_t;  ///< of a connection, the caller's choice

    explicit Ledger(Config config) : config_(std::move(config)) {}

    /// A job asks for its share. The reply that refuses it for good, or that there is no budget; none:
    /// take_replies() will have one by and by. With a mistake in the configuration it is refused, and one that
    /// runs already is told that there is no budget yet.
    std::optional<cli::ShareReply> ask(Id id, const Peer& peer, const cli::ShareRequest& request,
                                       Clock::time_point now);
    /// What one that has asked says of itself; others are ignored.
    void report(Id id, const cli::ShareRequest& request, Clock::time_point now);
    /// Its connection has ended.
    void release(Id id);
    /// Other rules from now on. Jobs that run go on, also those that they would refuse.
    void reconfigure(Config config);

    struct Outgoing {
        Id id = 0;
        cli::ShareReply reply;
        bool is_last = false;  ///< it was refused, and is forgotten
    };
    /// What is to be told now. To be called after each of the above, and from time to time.
    std::vector<Outgoing> take_replies(Clock::time_point now);
    /// Lines for the log since the last call.
    std::vector<std::string> take_lines() { return std::exchange(lines_, {}); }
    /// Who holds what: kEntry of each job that has a cap, and the kEnd.
    std::vector<cli::ShareReply> entries() const;

    const Config& config() const { return config_; }
    std::size_t size() const { return shares_.size(); }
    std::size_t jobs_of(uid_t user) const;
    std::uint64_t held() const;  ///< bytes, by all

  private:
    struct Share {
        Peer peer;
        Rule rule;
        ShareNow now;
        std::uint64_t wanted = 0;  ///< the most, as it asked
        std::uint64_t least = 0;   ///< it cannot do with less, as it says
        bool takes_default = false;
        std::uint64_t serial = 0;  ///< of the last reply
        std::uint64_t ram = 0, far = 0, refaults = 0;
        double refault_rate = 0;  ///< a second, smoothed
        Clock::time_point asked, reported, told_at, stuck_until{};
        std::uint64_t before =
            0;  ///< the highest cap that it had before it was told to come down, until it has
        std::uint64_t stuck_at = 0;    ///< bytes that it is not told to come down from until then
        std::uint64_t stuck_said = 0;  ///< what of this the log knows of
        std::uint64_t said = 0;        ///< the cap that the log knows of
    };
    std::optional<Error> refusal(const Share& share) const;
    std::string who_holds() const;
    void limit(Share& share) const;
    std::uint64_t floor_of(Share& share, std::uint64_t least) const;
    void take_demand(Share& share, const cli::ShareRequest& request, std::chrono::duration<double> since);
    void take_cap(Share& share, const cli::ShareRequest& request, Clock::time_point now);
    void look_for_stuck(Share& share, Clock::time_point now);
    cli::ShareReply granted(const Share& share) const;
    void say_cap(Share& share, bool is_first);

    Config config_;
    std::map<Id, Share> shares_;
    std::vector<std::string> lines_;
};

}  // namespace farswap::daemon
