// See file_heartbeat.h.
#include "store/file_heartbeat.h"

#include "base/log.h"

namespace farswap {

namespace {
constexpr std::chrono::seconds kStopLimit{5};
}

FileHeartbeat::FileHeartbeat(io::Loop& loop, int fd, std::string path, const Lease& lease,
                             const LeaseTiming& timing)
    : loop_(loop),
      file_{.fd = fd},
      path_(std::move(path)),
      lease_(lease),
      timing_(timing),
      page_(std::make_unique<LeasePage>()) {
    timer_.owner = this;
    timer_.fire = [](io::Timer& timer) { static_cast<FileHeartbeat*>(timer.owner)->beat(); };
    request_.owner = this;
    request_.data = page_->bytes.data();
    request_.length = kLeaseSize;
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
    if (running_ && !lost_) loop_.arm(timer_, io::Clock::now() + timing_.beat);
}

void FileHeartbeat::submit(Step step, std::uint32_t op) noexcept {
    step_ = step;
    request_.op = op;
    loop_.submit(request_, file_);
}

void FileHeartbeat::beat() noexcept {
    submit(Step::kReading, READ);
}

void FileHeartbeat::done(int result) noexcept {
    if (result < 0) {
        if (!std::exchange(reported_, true))
            log::warning("the owner's record of {} cannot be renewed: {}", path_, strerrordesc_np(-result));
        return wait_for_next();
    }
    if (step_ == Step::kReading && running_) return check_and_write();
    reported_ = false;
    wait_for_next();
}

void FileHeartbeat::check_and_write() noexcept {
    Lease found;
    if (decode_lease(page_->bytes, found) != LeaseContent::kLease || found.nonce != lease_.nonce) {
        lost_ = true;
        log::warning("{} has been taken by another owner or overwritten: it is not used any more", path_);
        return wait_for_next();
    }
    renew_lease(lease_);
    encode_lease(lease_, page_->bytes);
    submit(Step::kWriting, WRITE);
}

}  // namespace farswap
