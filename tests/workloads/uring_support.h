// An io_uring and single requests on it, for the two io_uring scenarios.
#pragma once

#include <liburing.h>

#include <cerrno>

#include "support.h"

namespace workload {

class Ring {
  public:
    Ring() {
        const int error = ::io_uring_queue_init(32, &ring_, 0);
        if (error == -ENOSYS || error == -EPERM)
            skip("io_uring is not available here: {}", std::strerror(-error));
        check(error == 0, "io_uring_queue_init: {}", std::strerror(-error));
    }
    ~Ring() { ::io_uring_queue_exit(&ring_); }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    io_uring* get() { return &ring_; }

    /// The next entry to fill; there is always room, as the scenarios keep few requests in flight.
    io_uring_sqe* entry() {
        io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
        check(sqe != nullptr, "the submission queue is full");
        return sqe;
    }

    void submit() {
        const int submitted = ::io_uring_submit(&ring_);
        check(submitted >= 0, "io_uring_submit: {}", std::strerror(-submitted));
    }

    /// Waits for one completion and fails unless it moved `bytes`.
    void expect_completion(std::size_t bytes, const char* what) {
        io_uring_cqe* cqe = nullptr;
        int error = 0;
        do {
            error = ::io_uring_wait_cqe(&ring_, &cqe);
        } while (error == -EINTR);
        check(error == 0, "{}: io_uring_wait_cqe: {}", what, std::strerror(-error));
        const int result = cqe->res;
        ::io_uring_cqe_seen(&ring_, cqe);
        check(result == static_cast<int>(bytes), "{}: moved {} of {} bytes ({})", what, result, bytes,
              result < 0 ? std::strerror(-result) : "short");
    }

  private:
    io_uring ring_{};
};

}  // namespace workload
