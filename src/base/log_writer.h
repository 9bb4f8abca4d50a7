// Writes to a descriptor in a thread of its own, so that nobody waits for it. Knows nothing of what the lines
// say.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace farswap {

/// A write(2) takes locks that others hold while they wait for something: those of a pipe, of a terminal, of
/// a file and its offset (fdget_pos in fs/file.c, pipe_write in fs/pipe.c, tty_write_lock in
/// drivers/tty/tty_io.c). Whoever serves page faults must not wait for one: a program in a write(2) of a page
/// that is away holds it until the page is there.
///
/// Lines are kept in 64 KiB and written in their order, one write(2) each. What finds no room is left out,
/// and where it is missing that is said. Any thread, of this process and not of a child of fork(2).
class LogWriter {
  public:
    using Prepare = void (*)();

    /// To `fd`, which stays open longer; `prepare` is called before each line, in the thread.
    /// std::system_error: no thread to be had.
    explicit LogWriter(int fd, Prepare prepare);
    LogWriter(const LogWriter&) = delete;
    LogWriter& operator=(const LogWriter&) = delete;

    /// Takes a line, its end included; allocates nothing.
    void put(std::string_view line) noexcept;

    /// Waits until what has been put is written, so long at most. Whether it is.
    bool drain(std::chrono::milliseconds limit) noexcept;

    /// Writes what there is and ends the thread. When that takes longer than `limit` the thread is left to
    /// itself, with its object, until the process ends.
    static void end(LogWriter* writer, std::chrono::milliseconds limit) noexcept;

  private:
    ~LogWriter() = default;
    void work() noexcept;
    bool append(std::string_view line) noexcept;
    bool tell_loss() noexcept;
    void take(std::string& line) noexcept;

    const int fd_;
    const Prepare prepare_;
    std::mutex mutex_;  ///< of all below; never held while something is written
    std::condition_variable came_, written_;
    std::array<char, 64 << 10> bytes_;  ///< a ring: [first_, first_ + count_)
    std::size_t first_ = 0, count_ = 0;
    std::size_t lost_ = 0;  ///< lines, since one was written last
    bool is_writing_ = false, is_ending_ = false;
    std::thread thread_;
};

}  // namespace farswap
