// A job's share of the machine's budget, which farswapd divides (docs/farswapd.md): asks for it, holds it by
// an open connection, tells how the job does and is told its cap. Knows neither the job nor its pager.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "cli/options.h"
#include "cli/share_protocol.h"
#include "io/loop.h"

namespace farswap::cli {

/// Where farswapd is asked for shares.
std::string share_socket();
/// What it says next. Blocks as the socket does. EAGAIN; EPIPE: it has hung up; EPROTO: another version's.
Result<ShareReply> receive_share_reply(int socket);

/// What an administrator has written for jobs that do not say otherwise, and where they may keep pages.
struct MachineDefaults {
    std::vector<std::string> swap;    ///< URLs
    std::vector<std::string> stores;  ///< what a job's URLs have to begin with; none: anything
    std::string compress, on_full;    ///< words of the options; empty: none
};
/// Of the text of a grant. Keys that are not known are left out.
MachineDefaults parse_defaults(std::string_view text);

/// Puts the defaults in where the command line is silent. EACCES: a store is not among those allowed, and
/// which are.
Status take_defaults(RunOptions& options, const MachineDefaults& defaults);

/// Amounts in bytes.
struct ShareFigures {
    std::uint64_t cap = 0;  ///< in force
    std::uint64_t least = 0, most = 0;
    std::uint64_t ram = 0, far = 0;
    std::uint64_t refaults = 0;  ///< pages that were outside and were wanted back, since the job began
};

/// One thread. The share ends with this object.
class MachineShare {
  public:
    using Clock = std::chrono::steady_clock;

    struct Wish {
        std::uint64_t least = 0, most = 0;  ///< bytes
        bool takes_default = false;         ///< nobody asked for `most`
    };
    /// Waits for a share, half a minute and some more at the most, or until `is_interrupted`. Null: there is
    /// no budget on this machine, or it cannot be asked, which is warned of. An error is farswapd's refusal,
    /// in one line.
    static Result<std::unique_ptr<MachineShare>> ask(const Wish& wish,
                                                     const std::function<bool()>& is_interrupted);

    std::uint64_t cap() const { return cap_; }        ///< as last told
    std::uint64_t budget() const { return budget_; }  ///< of all jobs together, as last told
    bool is_connected() const { return static_cast<bool>(socket_); }
    const MachineDefaults& defaults() const { return defaults_; }

    /// The cap that the job is to have from now on, when there is a new one. Does not block. A farswapd that
    /// has gone is looked for again every few seconds; the cap stays meanwhile.
    std::optional<std::uint64_t> take_cap(Clock::time_point now);
    /// Has `told` called in the loop as soon as there is something for take_cap(), until unwatch(), which
    /// comes before the loop's end.
    void watch(io::Loop& loop, std::function<void()> told);
    void unwatch();
    /// To be called every fraction of a second: tells now and then, and at once when the cap was followed or
    /// the job has come down to it. Does not block.
    void tell(const ShareFigures& figures, Clock::time_point now);

  private:
    MachineShare(Fd socket, const ShareReply& granted, MachineDefaults defaults)
        : socket_(std::move(socket)),
          serial_(granted.serial),
          cap_(granted.cap),
          budget_(granted.budget),
          defaults_(std::move(defaults)) {}
    void listen();
    void lose(Clock::time_point now);
    void come_back(Clock::time_point now);

    Fd socket_;  ///< empty: farswapd has gone
    std::uint64_t serial_ = 0;
    std::uint64_t cap_ = 0, budget_ = 0;
    MachineDefaults defaults_;
    ShareFigures told_;  ///< last
    std::uint64_t told_serial_ = 0;
    Clock::time_point told_at_{}, try_again_at_{};
    io::Loop* loop_ = nullptr;  ///< of watch()
    std::function<void()> on_told_;
    io::Watch watch_;
};

}  // namespace farswap::cli
