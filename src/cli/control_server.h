// What other commands ask of a running pager: to find out whether it manages a process, to let processes go,
// to read what is outside of one, to tell how the job does and would do, to change its cap. In its loop.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <list>
#include <memory>

#include "base/fd.h"
#include "cli/size_estimate.h"
#include "cli/sizes.h"
#include "io/loop.h"
#include "pager/job.h"

namespace farswap::cli {

/// What is asked of the command around the job.
struct ControlHooks {
    std::function<nlohmann::json()> stats;  ///< as docs/stats.md describes it, of now
    std::function<SizeFacts()> size_facts;  ///< of now
    const MissCurve* misses = nullptr;      ///< what goes with them
    /// A new cap. The object that the asker gets; EINVAL: it is too small, in one line that says what is not.
    std::function<Result<nlohmann::json>(const RamSize&)> set_ram;
};

/// One thread: the loop's. Clients that are not trusted are not listened to; one that hangs up while it waits
/// for processes to leave has changed its mind.
class ControlServer {
  public:
    ControlServer(io::Loop& loop, Job& job, ControlHooks hooks);
    ~ControlServer();
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;

    Status start();
    /// As another process than the one that started it, whose name its socket has.
    Status restart();
    /// As a client's: lets all go, if there is room for what is outside, or `force`.
    Status detach_all(bool force);

  private:
    struct Client {
        ControlServer* server = nullptr;
        Fd socket;
        io::Watch watch;
        bool waits = false;  ///< for processes to leave
        std::uint64_t bytes = 0;
        pid_t held = 0;  ///< the process that is held still for it
    };
    void accept_client();
    void client_ready(Client& client);
    void answer(Client& client, const nlohmann::json& request);
    void drop(Client& client);
    nlohmann::json hold(Client& client, pid_t process);
    nlohmann::json outside(const nlohmann::json& request) const;
    nlohmann::json set_ram(const nlohmann::json& request) const;
    void size(const Client& client) const;
    void read(Client& client, const nlohmann::json& request);
    Status begin(pid_t root, bool force, std::uint64_t& bytes);
    void tell_progress();
    bool somebody_waits() const;

    io::Loop& loop_;
    Job& job_;
    ControlHooks hooks_;
    Fd listener_;
    io::Watch watch_;
    io::Timer timer_;
    std::list<std::shared_ptr<Client>> clients_;
};

}  // namespace farswap::cli
