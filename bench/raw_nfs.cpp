// An NFSv3 client with nothing of farswap in it and nothing that could be left out: requests that were
// encoded before the clock runs (but for their numbers), replies into fixed buffers, one blocking socket.
// What the other clients of script/bench nfs are compared with. Needs a server on this machine and a file of
// its export; RFC 1813, RFC 5531.
//
//   raw_nfs NFS_PORT MOUNT_PORT EXPORT FILE OPERATION SIZE DEPTH SECONDS
//
// OPERATION: null, read, write (unstable), or write+commit (a COMMIT each 16 MiB, which is not counted).
// Prints one line: operations, seconds, microseconds of CPU time an operation; with a depth of 1 another: how
// long one took, in microseconds, in the median and at the 99th percentile.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<char>;

constexpr std::uint32_t kLast = 0x80000000u;
constexpr std::uint32_t kMount = 100005, kNfs = 100003;
constexpr std::uint64_t kFileSize = std::uint64_t{64} << 20;
constexpr std::uint64_t kCommitBytes = std::uint64_t{16} << 20;

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "raw_nfs: %s\n", what.c_str());
    std::exit(1);
}

void put(Bytes& to, std::uint32_t value) {
    const std::uint32_t big = htonl(value);
    to.insert(to.end(), reinterpret_cast<const char*>(&big), reinterpret_cast<const char*>(&big) + 4);
}

void put_opaque(Bytes& to, const Bytes& bytes) {
    put(to, static_cast<std::uint32_t>(bytes.size()));
    to.insert(to.end(), bytes.begin(), bytes.end());
    to.resize((to.size() + 3) / 4 * 4);
}

std::uint32_t get(const char* from) {
    std::uint32_t big;
    std::memcpy(&big, from, 4);
    return ntohl(big);
}

/// Up to the arguments; the record mark is set by finish().
Bytes call(std::uint32_t xid, std::uint32_t program, std::uint32_t procedure) {
    Bytes bytes;
    for (const std::uint32_t word : {0u, xid, 0u, 2u, program, 3u, procedure}) put(bytes, word);
    // AUTH_SYS of root with an empty machine name and no groups, and no verifier.
    for (const std::uint32_t word : {1u, 20u, 0u, 0u, 0u, 0u, 0u, 0u, 0u}) put(bytes, word);
    return bytes;
}

Bytes finish(Bytes bytes, std::size_t data = 0) {
    const std::uint32_t mark = htonl(static_cast<std::uint32_t>(bytes.size() - 4 + data) | kLast);
    std::memcpy(bytes.data(), &mark, 4);
    return bytes;
}

int connect_to(int port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("cannot make a socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("cannot connect");
    return fd;
}

void send_all(int fd, const void* data, std::size_t size, int flags = 0) {
    for (const char* at = static_cast<const char*>(data); size > 0;) {
        const ssize_t sent = ::send(fd, at, size, MSG_NOSIGNAL | flags);
        if (sent <= 0) die("the connection is gone");
        at += sent;
        size -= static_cast<std::size_t>(sent);
    }
}

void receive_all(int fd, void* into, std::size_t size) {
    if (size > 0 && ::recv(fd, into, size, MSG_WAITALL) != static_cast<ssize_t>(size))
        die("the connection is gone");
}

Bytes ask(int fd, const Bytes& request) {
    send_all(fd, request.data(), request.size());
    char mark[4];
    receive_all(fd, mark, 4);
    Bytes reply(get(mark) & ~kLast);
    receive_all(fd, reply.data(), reply.size());
    if (reply.size() < 28 || get(reply.data() + 20) != 0 || get(reply.data() + 24) != 0)
        die("the server refuses");
    return reply;
}

Bytes opaque_at(const Bytes& reply, std::size_t at) {
    const std::uint32_t size = get(reply.data() + at);
    return {reply.begin() + static_cast<std::ptrdiff_t>(at + 4),
            reply.begin() + static_cast<std::ptrdiff_t>(at + 4 + size)};
}

Bytes handle_of(int nfs, int mount_port, const std::string& path, const std::string& file) {
    Bytes mount = call(1, kMount, 1);
    put_opaque(mount, Bytes(path.begin(), path.end()));
    const int fd = connect_to(mount_port);
    const Bytes root = opaque_at(ask(fd, finish(mount)), 28);
    ::close(fd);
    Bytes lookup = call(2, kNfs, 3);
    put_opaque(lookup, root);
    put_opaque(lookup, Bytes(file.begin(), file.end()));
    return opaque_at(ask(nfs, finish(lookup)), 28);
}

struct Workload {
    std::string operation;
    std::size_t size = 0;
    std::uint32_t depth = 1;
    std::vector<Bytes> requests;  ///< heads, through the whole file and again
    std::vector<Bytes> memory;    ///< a buffer for each that may be under way
    bool reads() const { return operation == "read"; }
    bool writes() const { return operation == "write" || commits(); }
    /// What was written is made safe each kCommitBytes.
    bool commits() const { return operation == "write+commit"; }
    std::vector<bool> is_commit;  ///< of each request
};

void encode(Workload& work, const Bytes& handle) {
    const std::size_t count =
        work.size > 0 ? std::max<std::size_t>(kFileSize / work.size, work.depth) : work.depth;
    for (std::size_t i = 0; i < count; ++i) {
        Bytes request = call(0, kNfs, work.reads() ? 6 : work.writes() ? 7 : 0);
        if (work.size > 0) {
            put_opaque(request, handle);
            const std::uint64_t offset = i * work.size % kFileSize;
            put(request, static_cast<std::uint32_t>(offset >> 32));
            put(request, static_cast<std::uint32_t>(offset));
            put(request, static_cast<std::uint32_t>(work.size));
        }
        if (work.writes()) {
            put(request, 0);  // UNSTABLE
            put(request, static_cast<std::uint32_t>(work.size));
        }
        work.requests.push_back(finish(std::move(request), work.writes() ? work.size : 0));
        work.is_commit.push_back(false);
        if (!work.commits() || (i + 1) * work.size % kCommitBytes != 0) continue;
        Bytes commit = call(0, kNfs, 21);  // of all of the file: RFC 1813, section 3.3.21
        put_opaque(commit, handle);
        for (int word = 0; word < 3; ++word) put(commit, 0);
        work.requests.push_back(finish(std::move(commit), 0));
        work.is_commit.push_back(true);
    }
    for (std::uint32_t i = 0; i < work.depth; ++i) work.memory.emplace_back(work.size, 'x');
}

void send_one(int fd, Workload& work, std::size_t number) {
    Bytes& head = work.requests[number % work.requests.size()];
    // A number that was used before is answered from the server's cache of replies, and nothing is written.
    const std::uint32_t xid = htonl(static_cast<std::uint32_t>(number + 100));
    std::memcpy(head.data() + 4, &xid, 4);
    if (!work.writes() || work.is_commit[number % work.requests.size()])
        return send_all(fd, head.data(), head.size());
    const Bytes& data = work.memory[number % work.memory.size()];
    iovec parts[2] = {{const_cast<char*>(head.data()), head.size()},
                      {const_cast<char*>(data.data()), data.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0) die("the connection is gone");
    const auto done = static_cast<std::size_t>(sent);
    if (done >= head.size() + data.size()) return;
    if (done < head.size()) send_all(fd, head.data() + done, head.size() - done);
    const std::size_t from = done > head.size() ? done - head.size() : 0;
    send_all(fd, data.data() + from, data.size() - from);
}

/// Receives one reply: of a READ with attributes a head of 132 bytes behind the mark, then the data. `next`
/// has what of the following head came along already.
void receive_one(int fd, Workload& work, std::size_t number) {
    static char head[600];
    if (!work.reads()) {
        receive_all(fd, head, 4);
        const std::uint32_t size = get(head) & ~kLast;
        if (size > sizeof head - 4) die("a reply of another length");
        receive_all(fd, head + 4, size);
        if (work.writes() && (size < 28 || get(head + 28) != 0)) die("the server refuses to write");
        return;
    }
    constexpr std::size_t kHead = 4 + 24 + 4 + 4 + 84 + 12;
    char* const data = work.memory[number % work.memory.size()].data();
    iovec parts[2] = {{head, kHead}, {data, work.size}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t got = ::recvmsg(fd, &message, MSG_WAITALL);
    if (got != static_cast<ssize_t>(kHead + work.size)) die("a reply of another length");
    if ((get(head) & ~kLast) != kHead - 4 + work.size) die("a reply of another length");
}

double cpu_us() {
    rusage usage;
    ::getrusage(RUSAGE_SELF, &usage);
    const auto us = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
    };
    return us(usage.ru_utime) + us(usage.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 9)
        die("usage: raw_nfs NFS_PORT MOUNT_PORT EXPORT FILE null|read|write|write+commit SIZE DEPTH SECONDS");
    Workload work;
    work.operation = argv[5];
    work.size = work.operation == "null" ? 0 : std::strtoul(argv[6], nullptr, 10);
    work.depth = static_cast<std::uint32_t>(std::strtoul(argv[7], nullptr, 10));
    if (work.depth == 0) die("a depth of 0");
    const double seconds = std::strtod(argv[8], nullptr);
    const int fd = connect_to(std::atoi(argv[1]));
    encode(work, handle_of(fd, std::atoi(argv[2]), argv[3], argv[4]));

    using Clock = std::chrono::steady_clock;
    Clock::time_point asked;
    const auto us_since = [](Clock::time_point from) {
        return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
    };
    std::uint64_t sent = 0, done = 0, counted_from = 0;
    for (; sent < work.depth; ++sent) send_one(fd, work, sent);
    auto began = Clock::now();
    double cpu_began = cpu_us();
    bool warm = false;
    double elapsed = 0;
    std::vector<double> waits;  // us, of each request: with a depth of 1 alone
    std::uint64_t commits = 0;
    while (true) {
        receive_one(fd, work, done);
        if (work.depth == 1 && warm) waits.push_back(us_since(asked));
        commits += warm && work.is_commit[done % work.requests.size()];
        ++done;
        if (done % 16 == 0) {
            elapsed = std::chrono::duration<double>(Clock::now() - began).count();
            if (!warm && elapsed > seconds / 5) {
                warm = true;
                counted_from = done;
                began = Clock::now();
                cpu_began = cpu_us();
            } else if (warm && elapsed > seconds) {
                break;
            }
        }
        asked = Clock::now();
        send_one(fd, work, sent++);
    }
    const double cpu = cpu_us() - cpu_began;
    const auto operations = static_cast<double>(done - counted_from - commits);
    std::printf("%.0f %.6f %.4f\n", operations, elapsed, cpu / operations);
    if (waits.empty()) return 0;
    std::sort(waits.begin(), waits.end());
    std::printf("%.2f %.2f\n", waits[waits.size() / 2], waits[waits.size() * 99 / 100]);
    return 0;
}
