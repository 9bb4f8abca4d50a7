// Keeps the lease of an open file alive from the loop. Knows the record; nothing of the store's data.
#pragma once

#include <memory>
#include <string>

#include "io/loop.h"
#include "store/file_lease.h"

namespace farswap {

/// Reads the record every beat, sees that it is still ours, and renews it. Allocates nothing after creation.
class FileHeartbeat {
  public:
    /// `path` is for messages.
    FileHeartbeat(io::Loop& loop, int fd, std::string path, const Lease& lease, const LeaseTiming& timing);
    ~FileHeartbeat();
    FileHeartbeat(const FileHeartbeat&) = delete;
    FileHeartbeat& operator=(const FileHeartbeat&) = delete;

    void start() noexcept;
    /// Waits (running the loop, a few seconds at most) for a renewal in flight. Nothing is written
    /// afterwards.
    void stop() noexcept;

    /// Another owner has taken the file: nothing may be read or written any more.
    bool lost() const noexcept { return lost_; }
    const Lease& lease() const noexcept { return lease_; }

  private:
    enum class Step { kIdle, kReading, kWriting };

    void beat() noexcept;
    void done(int result) noexcept;
    void check_and_write() noexcept;
    void submit(Step step, std::uint32_t op) noexcept;
    void wait_for_next() noexcept;

    io::Loop& loop_;
    io::File file_;
    std::string path_;
    Lease lease_;
    LeaseTiming timing_;
    io::Timer timer_;
    Request request_;
    std::unique_ptr<LeasePage> page_;
    Step step_ = Step::kIdle;
    bool running_ = false;
    bool lost_ = false;
    bool reported_ = false;  ///< a failed renewal has been reported
};

}  // namespace farswap
