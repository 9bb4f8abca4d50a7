// See nbd_control.h.
#include "store/nbd_control.h"

#include <libnbd.h>

#include <algorithm>
#include <thread>

namespace farswap::nbd {
namespace {

constexpr int kTries = 5;
constexpr std::chrono::milliseconds kBetweenTries{50};

/// One step of the handle's state machine. False when the deadline has passed or the connection broke: errno
/// and text are libnbd's, or ETIMEDOUT.
enum class Step { kDone, kLate, kBroken };
Step step(nbd_handle* handle, Deadline deadline) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Step::kLate;
    const auto wait = static_cast<int>(std::min<std::int64_t>(left.count(), 1000));
    if (nbd_poll(handle, wait) >= 0 || nbd_get_errno() == EINTR) return Step::kDone;
    return Step::kBroken;
}

std::unexpected<Error> explain(const Endpoint& endpoint, int code, std::string_view text) {
    if (code == ECONNREFUSED || code == ENOENT)
        return fail(
            code,
            "{}: no NBD server answers there, or it has no such export ({}): start it, or correct the URL",
            endpoint.name, text);
    if (code == EACCES || code == EPERM)
        return fail(
            code,
            "{}: not allowed ({}): may this user open the socket, and does the server let us in without TLS?",
            endpoint.name, text);
    return fail(code != 0 ? code : EPROTO, "{}: {}", endpoint.name, text);
}

Result<Control> connect_to(const Endpoint& endpoint, Deadline deadline) {
    auto handle = start_connecting(endpoint);
    if (!handle) return explain(endpoint, handle.error().code, handle.error().message);
    while (nbd_aio_is_ready(handle->get()) != 1) {
        switch (step(handle->get(), deadline)) {
            case Step::kDone:
                continue;
            case Step::kLate:
                return fail(ETIMEDOUT,
                            "{}: no answer from the NBD server: check the address, and that it runs",
                            endpoint.name);
            case Step::kBroken:
                return explain(endpoint, nbd_get_errno(), nbd_get_error());
        }
    }
    return Control(endpoint, std::move(*handle));
}

}  // namespace

Control::Control(Endpoint endpoint, Handle handle)
    : endpoint_(std::move(endpoint)), handle_(std::move(handle)) {}

Result<Control> Control::connect(const std::vector<Endpoint>& endpoints, Deadline deadline) {
    Result<Control> control = fail(EHOSTUNREACH, "no address");
    for (const Endpoint& endpoint : endpoints) {
        control = connect_to(endpoint, deadline);
        if (control) break;
    }
    return control;
}

/// Five times at most: a server whose disk fails now and then answers EIO, and goes on.
template <typename Start>
Status Control::run(const char* what, Start start) {
    for (int left = kTries - 1;; left--) {
        Status ran = run_once(what, start);
        if (ran || ran.error().code != EIO || !handle_ || left == 0) return ran;
        std::this_thread::sleep_for(kBetweenTries);
    }
}

/// Starts a command and waits for its answer. Whatever goes wrong but the answer itself closes the handle:
/// libnbd may not touch the memory any more.
template <typename Start>
Status Control::run_once(const char* what, Start start) {
    struct Answer {
        bool arrived = false;
        int error = 0;
    } answer;
    nbd_completion_callback callback{};
    callback.user_data = &answer;
    callback.callback = [](void* data, int* error) {
        *static_cast<Answer*>(data) = {true, *error};
        return 1;
    };
    if (!handle_) return fail(ENOTCONN, "{}: cannot {}: the connection is lost", endpoint_.name, what);
    if (start(handle_.get(), callback) < 0) {
        const auto error = explain(endpoint_, nbd_get_errno(), nbd_get_error());
        handle_.reset();
        return error;
    }
    while (!answer.arrived) {
        const Step done = step(handle_.get(), deadline_);
        if (done == Step::kDone || answer.arrived) continue;
        const auto error = done == Step::kLate
                               ? fail(ETIMEDOUT, "{}: cannot {}: no answer", endpoint_.name, what)
                               : explain(endpoint_, nbd_get_errno(), nbd_get_error());
        handle_.reset();
        return error;
    }
    if (answer.error != 0) return fail_errno(answer.error, "{}: cannot {}", endpoint_.name, what);
    return {};
}

Status Control::read(std::uint64_t offset, std::span<std::byte> bytes) {
    return run("read", [&](nbd_handle* handle, const nbd_completion_callback& callback) {
        return nbd_aio_pread(handle, bytes.data(), bytes.size(), offset, callback, 0);
    });
}

Status Control::write(std::uint64_t offset, std::span<const std::byte> bytes) {
    return run("write", [&](nbd_handle* handle, const nbd_completion_callback& callback) {
        return nbd_aio_pwrite(handle, bytes.data(), bytes.size(), offset, callback, 0);
    });
}

Status Control::flush() {
    return run("flush", [](nbd_handle* handle, const nbd_completion_callback& callback) {
        return nbd_aio_flush(handle, callback, 0);
    });
}

void Control::disconnect() noexcept {
    if (!handle_ || nbd_aio_disconnect(handle_.get(), 0) < 0) return handle_.reset();
    while (nbd_aio_is_closed(handle_.get()) != 1 && step(handle_.get(), deadline_) == Step::kDone) {
    }
    handle_.reset();
}

}  // namespace farswap::nbd
