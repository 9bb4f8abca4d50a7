// See careless_proxy.h. RFC 5531 (RPC), RFC 1813 sections 3.3.7 (WRITE) and 3.3.21 (COMMIT).
#include "careless_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <map>
#include <stdexcept>

#include "store/lease.h"
#include "store/nfs_wire.h"

namespace farswap::test {

using nfs::load_u32;

namespace {

constexpr std::uint32_t kNfsProgram = 100003;
constexpr std::uint32_t kWriteProcedure = 7, kCommitProcedure = 21;
constexpr std::uint32_t kUnstable = 0;
constexpr std::size_t kStatusAt = 24;  // of a reply with an empty verifier of its RPC

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

bool send_all(int fd, const std::vector<std::byte>& record) {
    std::array<std::byte, 4> mark;
    const auto big = htonl(static_cast<std::uint32_t>(record.size()) | nfs::kLastFragment);
    std::memcpy(mark.data(), &big, 4);
    if (::send(fd, mark.data(), 4, MSG_NOSIGNAL | MSG_MORE) != 4) return false;
    for (std::size_t sent = 0; sent < record.size();) {
        const ssize_t part = ::send(fd, record.data() + sent, record.size() - sent, MSG_NOSIGNAL);
        if (part <= 0) return false;
        sent += static_cast<std::size_t>(part);
    }
    return true;
}

Fd connect_to(std::uint16_t port) {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = loopback(port);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fd.reset();
    return fd;
}

void reset_on_close(int fd) {
    const linger now{.l_onoff = 1, .l_linger = 0};
    (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/// Complete records out of a stream.
class Records {
  public:
    void add(const std::byte* data, std::size_t size) { bytes_.insert(bytes_.end(), data, data + size); }
    std::optional<std::vector<std::byte>> next() {
        if (bytes_.size() - at_ < 4) return compact();
        const std::size_t size = load_u32(bytes_.data() + at_) & ~nfs::kLastFragment;
        if (bytes_.size() - at_ - 4 < size) return compact();
        const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(at_ + 4);
        at_ += 4 + size;
        return std::vector<std::byte>(begin, begin + static_cast<std::ptrdiff_t>(size));
    }

  private:
    std::nullopt_t compact() {
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(at_));
        at_ = 0;
        return std::nullopt;
    }
    std::vector<std::byte> bytes_;
    std::size_t at_ = 0;
};

}  // namespace

struct CarelessProxy::Call {
    std::uint32_t procedure = 0;
    std::uint64_t offset = 0, length = 0;
    std::uint64_t covers = 0;  ///< COMMIT: what had been acknowledged when it came
    std::list<Unsafe>::iterator unsafe;
};

struct CarelessProxy::Pair {
    Fd client, server;
    Records calls, replies;
    std::map<std::uint32_t, Call> open;  ///< by xid
};

CarelessProxy::CarelessProxy(std::uint16_t to_port, std::function<std::filesystem::path()> file)
    : to_port_(to_port),
      file_(std::move(file)),
      listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      wake_(::eventfd(0, EFD_CLOEXEC)),
      verifier_(random_()) {
    auto address = loopback(0);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), any, size) != 0 || ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), any, &size) != 0)
        throw std::runtime_error("cannot listen");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
}

CarelessProxy::~CarelessProxy() {
    ask([this] { stop_ = true; });
    thread_.join();
}

/// Has the proxy's thread do something, and waits for it.
void CarelessProxy::ask(std::function<void()> what) {
    std::mutex done_mutex;
    std::condition_variable done_changed;
    bool done = false;
    {
        const std::lock_guard lock(mutex_);
        asked_ = [&] {
            what();
            const std::lock_guard done_lock(done_mutex);
            done = true;
            done_changed.notify_one();
        };
    }
    (void)::eventfd_write(wake_.get(), 1);
    std::unique_lock lock(done_mutex);
    done_changed.wait(lock, [&] { return done; });
}

void CarelessProxy::restart() {
    ask([this] {
        drain();
        lose();
        cut();
        verifier_ = random_();
    });
}

std::size_t CarelessProxy::delay_writes(std::chrono::milliseconds late, std::chrono::milliseconds patience) {
    ask([this] { catching_ = true; });
    std::size_t caught = 0;
    for (const auto end = Clock::now() + patience; caught == 0 && Clock::now() < end;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        ask([&] { caught = caught_.size(); });
    }
    ask([&] {
        catching_ = false;
        caught = caught_.size();
        cut();
        for (Bytes& record : caught_) late_.push_back({Clock::now() + late, std::move(record)});
        caught_.clear();
    });
    return caught;
}

CarelessProxy::Counts CarelessProxy::counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
}

// ---- the proxy's thread

void CarelessProxy::run() {
    while (!stop_) {
        poll_all();
        std::function<void()> asked;
        {
            const std::lock_guard lock(mutex_);
            asked = std::exchange(asked_, nullptr);
        }
        if (asked) asked();
        deliver_late();
    }
}

int CarelessProxy::poll_all() {
    std::vector<pollfd> polls{{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    for (const auto& pair : pairs_) {
        polls.push_back({pair->client.get(), POLLIN, 0});
        polls.push_back({pair->server.get(), POLLIN, 0});
    }
    const int ready = ::poll(polls.data(), polls.size(), late_.empty() ? -1 : 20);
    eventfd_t ignored;
    if (polls[1].revents != 0) (void)::eventfd_read(wake_.get(), &ignored);
    std::size_t at = 2;
    for (auto pair = pairs_.begin(); pair != pairs_.end();) {
        bool good = true;
        if (polls[at++].revents != 0) good = read_from(**pair, false);
        if (polls[at++].revents != 0) good = good && read_from(**pair, true);
        pair = good ? std::next(pair) : pairs_.erase(pair);
    }
    if (polls[0].revents != 0) accept();
    return ready;
}

void CarelessProxy::accept() {
    auto pair = std::make_unique<Pair>();
    pair->client.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    pair->server = connect_to(to_port_);
    reset_on_close(pair->client.get());
    if (pair->server) pairs_.push_back(std::move(pair));
}

/// False: the connection is over.
bool CarelessProxy::read_from(Pair& pair, bool server) {
    std::array<std::byte, 256 * 1024> buffer;
    const ssize_t got = ::recv((server ? pair.server : pair.client).get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    Records& records = server ? pair.replies : pair.calls;
    records.add(buffer.data(), static_cast<std::size_t>(got));
    while (auto record = records.next()) {
        if (!(server ? take_reply(pair, std::move(*record)) : take_call(pair, std::move(*record))))
            return false;
    }
    return true;
}

bool CarelessProxy::take_call(Pair& pair, Bytes record) {
    Call call;
    std::size_t at = 24;
    const auto u32 = [&] {
        const auto value = at + 4 <= record.size() ? load_u32(record.data() + at) : 0;
        at += 4;
        return value;
    };
    const auto skip_opaque = [&] {
        const auto size = u32();
        at += size + nfs::padding(size);
    };
    if (record.size() >= 24 && load_u32(record.data() + 12) == kNfsProgram)
        call.procedure = load_u32(record.data() + 20);
    if (call.procedure == kWriteProcedure) {
        for (int i = 0; i < 2; ++i) {  // credential, verifier
            u32();
            skip_opaque();
        }
        skip_opaque();  // the file's handle
        call.offset = std::uint64_t{u32()} << 32;
        call.offset |= u32();
        call.length = u32();
        if (catching_) {
            caught_.push_back(std::move(record));
            return true;
        }
        note_write(call);
        call.unsafe = std::prev(unsafe_.end());
    }
    call.covers = now_;
    pair.open[load_u32(record.data())] = call;
    return send_all(pair.server.get(), record);
}

void CarelessProxy::note_write(const Call& call) {
    Unsafe unsafe{.offset = call.offset, .length = call.length, .acknowledged = 0, .before = {}};
    if (call.offset < kLeaseSize) {
        unsafe.before.resize(call.length);
        std::error_code none;
        const Fd fd(::open(file_().c_str(), O_RDONLY | O_CLOEXEC));
        const ssize_t got =
            fd ? ::pread(fd.get(), unsafe.before.data(), call.length, static_cast<off_t>(call.offset)) : 0;
        unsafe.before.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    }
    unsafe_.push_back(std::move(unsafe));
}

bool CarelessProxy::take_reply(Pair& pair, Bytes record) {
    const auto open = record.size() >= 4 ? pair.open.find(load_u32(record.data())) : pair.open.end();
    if (open == pair.open.end()) return send_all(pair.client.get(), record);
    const Call call = open->second;
    pair.open.erase(open);
    const bool good = record.size() > kStatusAt + 8 && load_u32(record.data() + 8) == 0 &&
                      load_u32(record.data() + 20) == 0 && load_u32(record.data() + kStatusAt) == 0;
    if (call.procedure == kWriteProcedure)
        settle_write(call, good && load_u32(record.data() + record.size() - 12) != kUnstable);
    if (call.procedure == kCommitProcedure && good) forget_committed(call.covers);
    if (good && (call.procedure == kWriteProcedure || call.procedure == kCommitProcedure))
        std::memcpy(record.data() + record.size() - 8, &verifier_, 8);
    return send_all(pair.client.get(), record);
}

void CarelessProxy::settle_write(const Call& call, bool durable) {
    if (durable)
        unsafe_.erase(call.unsafe);
    else
        call.unsafe->acknowledged = ++now_;
}

void CarelessProxy::forget_committed(std::uint64_t until) {
    unsafe_.remove_if(
        [&](const Unsafe& write) { return write.acknowledged != 0 && write.acknowledged <= until; });
}

/// Lets the server finish what it has, so that nothing is executed after the loss. Nobody sees the answers.
void CarelessProxy::drain() {
    for (const auto& pair : pairs_) {
        while (!pair->open.empty()) {
            std::array<std::byte, 64 * 1024> buffer;
            const ssize_t got = ::recv(pair->server.get(), buffer.data(), buffer.size(), 0);
            if (got <= 0) break;
            pair->replies.add(buffer.data(), static_cast<std::size_t>(got));
            while (auto record = pair->replies.next()) pair->open.erase(load_u32(record->data()));
        }
        pair->open.clear();
    }
}

void CarelessProxy::lose() {
    const Fd fd(::open(file_().c_str(), O_WRONLY | O_CLOEXEC));
    std::uint64_t lost = 0;
    // Backwards, so that what was there before the first of several writes comes back.
    for (auto write = unsafe_.rbegin(); fd && write != unsafe_.rend(); ++write) {
        Bytes bytes = write->before;
        if (write->offset >= kLeaseSize) bytes.assign(write->length, static_cast<std::byte>(random_() | 1));
        (void)!::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(write->offset));
        if (write->acknowledged != 0) ++lost;
    }
    unsafe_.clear();
    const std::lock_guard lock(mutex_);
    ++counts_.restarts;
    counts_.lost_writes += lost;
}

void CarelessProxy::cut() {
    for (const auto& pair : pairs_) {
        for (const auto& [xid, call] : pair->open)
            if (call.procedure == kWriteProcedure && call.unsafe->acknowledged == 0)
                call.unsafe->acknowledged = ++now_;
    }
    pairs_.clear();
}

/// What a connection held that is no more, a long time afterwards.
void CarelessProxy::deliver_late() {
    if (!late_.empty() && late_.front().due <= Clock::now()) {
        const Fd server = connect_to(to_port_);
        std::uint64_t delivered = 0;
        while (!late_.empty() && late_.front().due <= Clock::now()) {
            std::array<std::byte, 512> reply;
            if (server && send_all(server.get(), late_.front().record) &&
                ::recv(server.get(), reply.data(), reply.size(), 0) > 0)
                ++delivered;
            late_.erase(late_.begin());
        }
        const std::lock_guard lock(mutex_);
        counts_.late_writes += delivered;
    }
    const std::lock_guard lock(mutex_);
    counts_.late_writes_left = late_.size();
}

}  // namespace farswap::test
