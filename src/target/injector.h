// A thread for what blocks: ptrace. It starts and injects programs while the pager's loop goes on serving
// faults, which the stopped program may itself be waiting for.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/fd.h"
#include "io/loop.h"
#include "target/inject.h"
#include "target/spawn.h"

namespace farswap::target {

struct InjectJob {
    pid_t process = 0;
    Fd go;          ///< set: the process waits for it before its exec (Spawned::go)
    Fd adopt_uffd;  ///< set: InjectOptions::adopt_uffd
    std::uint32_t staging_pages = 0;
};

struct InjectDone {
    pid_t process = 0;
    Result<Agent> agent;
};

/// Jobs go in and results come out on the loop's thread; the work is done on the injector's own.
class Injector {
  public:
    /// `done` is called from the loop, once a job.
    Injector(io::Loop& loop, std::function<void(InjectDone)> done);
    /// Finishes the job under way, drops the others.
    ~Injector();

    Status start();
    void submit(InjectJob job);

  private:
    void run();
    void collect();
    static Result<Agent> work(InjectJob& job);

    io::Loop& loop_;
    std::function<void(InjectDone)> done_;
    io::Watch watch_;
    Fd event_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<InjectJob> jobs_;
    std::deque<InjectDone> results_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace farswap::target
