// See file_heartbeat.h.
#include "store/file_heartbeat.h"

#include <algorithm>

#include "base/log.h"

namespace farswap {

namespace {
constexpr std::chrono::seconds kStopLimit{5};
constexpr std::chrono::seconds kTransferLimit{30};
}  // namespace

FileHeartbeat::FileHeartbeat(io::Loop& loop, int fd, std::string path, const Lease& lease,
                             const LeaseTiming& timing, Watcher& watcher)
    : loop_(loop),
      file_{.fd = fd},
      path_(std::move(path)),
      lease_(lease),
      timing_(timing),
      watcher_(watcher),
      page_(std::make_unique<LeasePage>()),
      ours_at_(io::Clock::now()) {
    timer_.owner = this;
    timer_.fire = [](io::Timer& timer) { static_cast<FileHeartbeat*>(timer.owner)->beat(); };
    request_.owner = this;
    request_.data = page_->bytes.data();
    request_.length = kLeaseSize;
    request_.timeout = kTransferLimit;
    request_.complete = [](Request& request, int result) {
        static_cast<FileHeartbeat*>(request.owner)->done(result);
    };
}

FileHeartbeat::~FileHeartbeat() {
    stop();
    // The kernel has not answered: the page is left to it rather than to somebody else.
    if (step_ != Step::kIdle) [[maybe_unused]]
        auto* abandoned = page_.release();
}

void FileHeartbeat::start() noexcept {
    running_ = true;
    wait_for_next();
}

void FileHeartbeat::stop() noexcept {
    running_ = false;
    loop_.cancel(timer_);
    const auto limit = io::Clock::now() + kStopLimit;
    while (step_ != Step::kIdle && io::Clock::now() < limit) loop_.run_once(std::chrono::milliseconds(100));
}

void FileHeartbeat::wait_for_next() noexcept {
    step_ = Step::kIdle;
    if (!running_ || lost_) return;
    if (wanted_) return beat();
    loop_.arm(timer_, io::Clock::now() + timing_.beat);
}

void FileHeartbeat::submit(Step step, std::uint32_t op) noexcept {
    step_ = step;
    request_.op = op;
    loop_.submit(request_, file_);
}

void FileHeartbeat::look() noexcept {
    wanted_ = true;
    if (step_ != Step::kIdle) return;  // a read under way may have been answered long ago
    loop_.cancel(timer_);
    beat();
}

void FileHeartbeat::beat() noexcept {
    asked_ = io::Clock::now();
    looking_ = std::exchange(wanted_, false);
    submit(Step::kReading, READ);
}

void FileHeartbeat::done(int result) noexcept {
    const bool looked = step_ == Step::kReading && std::exchange(looking_, false);
    if (result < 0) {
        if (!std::exchange(reported_, true))
            log::warning("the owner's record of {} cannot be renewed: {}", path_, strerrordesc_np(-result));
        wait_for_next();
    } else if (step_ == Step::kReading && running_) {
        check_and_write();
        if (lost_) result = -EIO;
    } else {
        reported_ = false;
        wait_for_next();
    }
    if (looked) watcher_.looked(std::min(result, 0));
}

void FileHeartbeat::check_and_write() noexcept {
    Lease found;
    if (decode_lease(page_->bytes, found) != LeaseContent::kLease || found.nonce != lease_.nonce) {
        lost_ = true;
        log::warning("{} has been taken by another owner or overwritten: it is not used any more", path_);
        return wait_for_next();
    }
    ours_at_ = asked_;
    renew_lease(lease_);
    encode_lease(lease_, page_->bytes);
    submit(Step::kWriting, WRITE);
}

}  // namespace farswap
