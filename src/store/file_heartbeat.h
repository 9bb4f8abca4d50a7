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
    class Watcher {
      public:
        /// What look() has found: 0, -EIO when the file is another's, or why the record cannot be read. From
        /// the loop.
        virtual void looked(int result) noexcept = 0;

      protected:
        ~Watcher() = default;
    };

    /// `path` is for messages.
    FileHeartbeat(io::Loop& loop, int fd, std::string path, const Lease& lease, const LeaseTiming& timing,
                  Watcher& watcher);
    ~FileHeartbeat();
    FileHeartbeat(const FileHeartbeat&) = delete;
    FileHeartbeat& operator=(const FileHeartbeat&) = delete;

    void start() noexcept;
    /// Waits (running the loop, a few seconds at most) for a renewal in flight. Nothing is written
    /// afterwards.
    void stop() noexcept;

    /// Another owner has taken the file: nothing may be read or written any more.
    bool lost() const noexcept { return lost_; }
    /// The record was seen to be ours not long ago.
    bool trusted() const noexcept { return io::Clock::now() - ours_at_ <= timing_.trust; }
    /// Looks at the record now; the watcher is told once.
    void look() noexcept;
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
    Watcher& watcher_;
    io::Timer timer_;
    Request request_;
    std::unique_ptr<LeasePage> page_;
    Step step_ = Step::kIdle;
    bool running_ = false;
    bool lost_ = false;
    bool reported_ = false;          ///< a failed renewal has been reported
    bool wanted_ = false;            ///< a look that has not begun
    bool looking_ = false;           ///< the read under way is one
    io::Clock::time_point asked_;    ///< the read under way was submitted
    io::Clock::time_point ours_at_;  ///< the record was ours at that time, or later
};

}  // namespace farswap
