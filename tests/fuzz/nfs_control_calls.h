// What the fuzz targets of NFS's control planes share: a server's bytes, which lie in a socket before the
// first call goes out, so that no other thread is needed, and a client that makes every call of a Control.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "fuzz.h"
#include "store/nfs_control.h"

namespace farswap::nfs {

using Bytes = std::span<const std::byte>;

inline constexpr std::chrono::milliseconds kLimit{50};  // less than a call waits that the server puts off
inline constexpr std::size_t kPlan = 8;
inline constexpr const char* kName = "farswap-1";

inline std::uint32_t take_byte(Bytes& rest) {
    if (rest.empty()) return 0;
    const auto byte = std::to_integer<std::uint32_t>(rest.front());
    rest = rest.subspan(1);
    return byte;
}

/// The server's bytes. Each piece of the input has a kind and a length in front: an even kind is the reply to
/// the next call, given a record mark and that call's number; an odd one is sent as it is.
inline std::vector<std::byte> stream_of(Bytes input) {
    std::vector<std::byte> stream;
    const auto u32 = [&](std::uint32_t word) {
        for (int shift = 24; shift >= 0; shift -= 8) stream.push_back(static_cast<std::byte>(word >> shift));
    };
    std::uint32_t xid = 0;
    while (!input.empty()) {
        const std::uint32_t kind = take_byte(input), low = take_byte(input);
        const Bytes piece = input.first(std::min<std::size_t>(low | take_byte(input) << 8, input.size()));
        if (kind % 2 == 0) {
            u32(static_cast<std::uint32_t>(piece.size() + 4) | kLastFragment);
            u32(++xid);
        }
        stream.insert(stream.end(), piece.begin(), piece.end());
        input = input.subspan(piece.size());
    }
    return stream;
}

class Client {
  public:
    /// `mounts`: mount() is among the calls.
    Client(Control& control, bool mounts) : control_(control), mounts_(mounts) {
        file_.size = 8;
        file_.bytes[0] = std::byte{7};
    }

    void call(std::uint32_t what) {
        const bool was_broken = control_.broken();
        const int error = make(what % 10, what / 10);
        PROMISE(error >= 0);
        PROMISE(!was_broken || error != 0);
        PROMISE(error != EPROTO || control_.broken());
    }

  private:
    /// -> the error's code, or 0.
    int make(std::uint32_t what, std::uint32_t how) {
        switch (what) {
            case 0:
                return take(mounts_ ? control_.mount(how % 2 == 0 ? "/" : "/srv//farswap/")
                                    : control_.attributes(file_));
            case 1:
                return take(control_.lookup(file_, kName));
            case 2:
                return take(control_.attributes(file_));
            case 3:
                return created();
            case 4:
                return code_of(control_.remove(file_, kName));
            case 5:
                return listed();
            case 6:
                return code_of(control_.limits(file_));
            case 7:
                return read(how);
            case 8:
                return written(1 + how);
            default:
                return code_of(control_.commit(file_, verifier_));
        }
    }
    template <typename T>
    static int code_of(const T& result) {
        if (result) return 0;
        PROMISE(result.error().code > 0 && !result.error().message.empty());
        return result.error().code;
    }
    void keep(const FileHandle& handle) {
        PROMISE(handle.size > 0 && handle.size <= kHandleMax);
        file_ = handle;
    }
    int take(const Result<Control::Found>& found) {
        if (found) keep(found->handle);
        return code_of(found);
    }
    int created() {
        const auto made = control_.create(file_, kName);
        if (made) keep(*made);
        return code_of(made);
    }
    int listed() {
        const auto names = control_.list(file_, "farswap-");
        PROMISE(!names || std::ranges::all_of(
                              *names, [](const std::string& name) { return name.starts_with("farswap-"); }));
        return code_of(names);
    }
    int read(std::uint32_t size) {
        std::vector<std::byte> memory(size);  // of its own, so that the sanitizer sees its end
        const auto got = control_.read(file_, 4096, memory);
        PROMISE(!got || *got <= size);
        return code_of(got);
    }
    int written(std::uint32_t size) {
        const std::vector<std::byte> data(size, std::byte{1});
        return code_of(control_.write(file_, 4096, data, 16, verifier_));
    }

    Control& control_;
    const bool mounts_;
    FileHandle file_;
    Verifier verifier_{};
};

/// The server's bytes in a socket, and the calls to make.
class Input {
  public:
    explicit Input(Bytes input) : plan_(input.first(std::min(input.size(), kPlan))) {
        int ends[2];
        PROMISE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
        ours_.reset(ends[0]);
        server_.reset(ends[1]);
        const std::vector<std::byte> stream = stream_of(input.subspan(plan_.size()));
        // What does not fit is cut off, as by a server that dies.
        (void)::send(server_.get(), stream.data(), stream.size(), MSG_NOSIGNAL);
        PROMISE(::shutdown(server_.get(), SHUT_WR) == 0);
    }
    RpcConnection connect() { return {std::move(ours_), std::chrono::steady_clock::now() + kLimit, 0}; }
    Bytes plan() const { return plan_; }
    void run(Control& control, bool mounts) const {
        Client client(control, mounts);
        for (const std::byte step : plan_) client.call(std::to_integer<std::uint32_t>(step));
    }

  private:
    Bytes plan_;
    Fd ours_, server_;
};

}  // namespace farswap::nfs
