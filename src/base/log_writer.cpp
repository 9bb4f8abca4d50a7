// See log_writer.h.
#include "base/log_writer.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

namespace farswap {

namespace {

/// The handlers of the process are not for this thread: one could touch memory that waits for a page.
class SignalsBlocked {
  public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

  private:
    sigset_t before_{};
};

}  // namespace

LogWriter::LogWriter(int fd, Prepare prepare) : fd_(fd), prepare_(prepare) {
    const SignalsBlocked blocked;
    thread_ = std::thread([this] { work(); });
    ::pthread_setname_np(thread_.native_handle(), "farswap-log");
}

bool LogWriter::append(std::string_view line) noexcept {
    if (line.size() > bytes_.size() - count_) return false;
    for (const char byte : line) bytes_[(first_ + count_++) % bytes_.size()] = byte;
    return true;
}

/// Whether nothing is missing, or it is said that something is.
bool LogWriter::tell_loss() noexcept {
    if (lost_ == 0) return true;
    std::array<char, 80> text;
    const auto end = fmt::format_to_n(text.data(), text.size(),
                                      "farswap: {} lines are missing here, which nobody took\n", lost_);
    if (!append({text.data(), std::min(end.size, text.size())})) return false;
    lost_ = 0;
    return true;
}

void LogWriter::put(std::string_view line) noexcept {
    const std::lock_guard lock(mutex_);
    if (!tell_loss() || !append(line)) ++lost_;
    came_.notify_one();
}

/// The first line of those that wait, in the memory that `line` has.
void LogWriter::take(std::string& line) noexcept {
    line.clear();
    while (count_ > 0) {
        const char byte = bytes_[first_];
        first_ = (first_ + 1) % bytes_.size();
        --count_;
        line.push_back(byte);
        if (byte == '\n') break;
    }
}

void LogWriter::work() noexcept {
    std::string line;
    line.reserve(bytes_.size());
    std::unique_lock lock(mutex_);
    while (true) {
        came_.wait(lock, [this] { return count_ > 0 || lost_ > 0 || is_ending_; });
        if (count_ == 0) tell_loss();
        if (count_ == 0) break;
        take(line);
        is_writing_ = true;
        lock.unlock();
        prepare_();
        // A closed or full standard error must not take the job down with it.
        [[maybe_unused]] const auto written = ::write(fd_, line.data(), line.size());
        lock.lock();
        is_writing_ = false;
        written_.notify_all();
    }
}

bool LogWriter::drain(std::chrono::milliseconds limit) noexcept {
    std::unique_lock lock(mutex_);
    return written_.wait_for(lock, limit, [this] { return count_ == 0 && lost_ == 0 && !is_writing_; });
}

void LogWriter::end(LogWriter* writer, std::chrono::milliseconds limit) noexcept {
    const bool is_done = writer->drain(limit);
    {
        const std::lock_guard lock(writer->mutex_);
        writer->is_ending_ = true;
        writer->came_.notify_one();
    }
    if (!is_done) return writer->thread_.detach();
    writer->thread_.join();
    delete writer;
}

}  // namespace farswap
