// A thread for what blocks: ptrace. It starts programs, puts agents in and takes them out while the pager's
// loop goes on serving faults, which the stopped program may itself be waiting for.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <variant>
#include <vector>

#include "base/fd.h"
#include "base/semaphore.h"
#include "io/loop.h"
#include "target/eject.h"
#include "target/inject.h"
#include "target/remote.h"
#include "target/spawn.h"

namespace farswap::target {

struct InjectJob {
    pid_t process = 0;
    Fd go;          ///< set: the process waits for it before its exec (Spawned::go)
    Fd adopt_uffd;  ///< set: InjectOptions::adopt_uffd
    std::uint32_t staging_pages = 0;
    bool behind_gate = false;  ///< InjectOptions::behind_gate
};

/// Takes out what an agent has left (target/eject.h).
struct EjectJob {
    pid_t process = 0;
    pid_t agent = 0;
    std::vector<AddressRange> ranges;
};

struct InjectDone {
    pid_t process = 0;
    Result<Agent> agent;
};
struct EjectDone {
    pid_t process = 0;
    Status status;
};

/// Jobs go in and results come out on the loop's thread; the work is done on the injector's own. All whose
/// turn is to come are on their way to a stop already, so that they take no memory meanwhile, and who has
/// stopped first is served first: a thread that the kernel holds up holds up no other process.
class Injector {
  public:
    using Done = std::variant<InjectDone, EjectDone>;
    /// `done` is called from the loop, once a job.
    Injector(io::Loop& loop, std::function<void(Done)> done);
    /// Finishes the job under way, drops the others.
    ~Injector();

    Status start();
    using Job = std::variant<InjectJob, EjectJob>;
    void submit(Job job);
    /// While the result lives, the agent's memory is not mapped into `process`; it owns no lock when that is
    /// going on now, or was done and has not been told of yet.
    std::unique_lock<std::mutex> hold_back(pid_t process);

  private:
    /// A job whose process is on its way to a stop; the injector's thread only.
    struct Stopping {
        Job job;
        std::optional<Result<RemoteTask>> task;  ///< none: it is stopped at its exec
        io::Clock::time_point since;
        std::optional<Error> failure;
    };
    void run();
    void collect();
    void stop_all();
    bool take_ready(Stopping& ready);
    static bool is_ready(Stopping& stopping);
    std::chrono::microseconds stop_period() const;
    Done work(Stopping& stopping);
    Result<Agent> put_in(Stopping& stopping, const InjectJob& job);
    static Status take_out(Stopping& stopping, const EjectJob& job);

    io::Loop& loop_;
    std::function<void(Done)> done_;
    io::Watch watch_;
    Fd event_;
    std::mutex begin_;       ///< guards `begun_`
    std::set<pid_t> begun_;  ///< processes whose agent is being put in, up to the call of `done`
    std::mutex mutex_;
    Semaphore changed_;  ///< posted for each job, and for the end
    std::deque<Job> jobs_;
    std::list<Stopping> stopping_;
    std::deque<Done> results_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace farswap::target
