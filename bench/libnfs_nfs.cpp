// The same work as raw_nfs by libnfs, as its manual has it: asynchronous calls, poll(2), nfs_service(). What
// farswap would be if it had left the data path to that library.
//
//   libnfs_nfs NFS_PORT MOUNT_PORT EXPORT FILE read|write SIZE DEPTH SECONDS
#include <nfsc/libnfs.h>
#include <poll.h>
#include <sys/resource.h>

#include <fcntl.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t kFileSize = std::uint64_t{64} << 20;

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "libnfs_nfs: %s\n", what.c_str());
    std::exit(1);
}

struct Client {
    nfs_context* nfs = nullptr;
    nfsfh* file = nullptr;
    bool write = false;
    std::uint64_t size = 0, sent = 0, done = 0;
    bool stopping = false;
    std::vector<std::vector<char>> memory;
};

struct Slot {
    Client* client;
    std::size_t index;
};

void submit(Slot& slot);

void completed(int status, nfs_context* nfs, void* data, void* owner) {
    auto& slot = *static_cast<Slot*>(owner);
    Client& client = *slot.client;
    if (status != static_cast<int>(client.size)) die(nfs_get_error(nfs));
    // libnfs reads into memory of its own: a pager needs the data in a page of its choice.
    if (!client.write) std::memcpy(client.memory[slot.index].data(), data, client.size);
    ++client.done;
    if (!client.stopping) submit(slot);
}

void submit(Slot& slot) {
    Client& client = *slot.client;
    const std::uint64_t offset = client.sent++ * client.size % kFileSize;
    const int rc = client.write
                       ? nfs_pwrite_async(client.nfs, client.file, offset, client.size,
                                          client.memory[slot.index].data(), completed, &slot)
                       : nfs_pread_async(client.nfs, client.file, offset, client.size, completed, &slot);
    if (rc != 0) die(nfs_get_error(client.nfs));
}

void serve(Client& client) {
    pollfd waited{nfs_get_fd(client.nfs), static_cast<short>(nfs_which_events(client.nfs)), 0};
    if (::poll(&waited, 1, -1) < 0 || nfs_service(client.nfs, waited.revents) < 0)
        die(nfs_get_error(client.nfs));
}

double cpu_us() {
    rusage usage;
    ::getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 9) die("usage: libnfs_nfs NFS_PORT MOUNT_PORT EXPORT FILE read|write SIZE DEPTH SECONDS");
    Client client;
    client.write = std::string(argv[5]) == "write";
    client.size = std::strtoull(argv[6], nullptr, 10);
    const std::size_t depth = std::strtoul(argv[7], nullptr, 10);
    const double seconds = std::strtod(argv[8], nullptr);
    client.nfs = nfs_init_context();
    nfs_set_readahead(client.nfs, 0);
    nfs_set_pagecache(client.nfs, 0);
    const std::string url = std::string("nfs://127.0.0.1") + argv[3] + "/?nfsport=" + argv[1] +
                            "&mountport=" + argv[2] + "&readahead=0&uid=0&gid=0";
    nfs_url* const parsed = nfs_parse_url_dir(client.nfs, url.c_str());
    if (parsed == nullptr || nfs_mount(client.nfs, parsed->server, parsed->path) != 0)
        die(nfs_get_error(client.nfs));
    if (nfs_open(client.nfs, argv[4], O_RDWR, &client.file) != 0) die(nfs_get_error(client.nfs));
    std::vector<Slot> slots;
    for (std::size_t i = 0; i < depth; ++i) {
        client.memory.emplace_back(client.size, 'x');
        slots.push_back({&client, i});
    }
    for (Slot& slot : slots) submit(slot);
    for (const auto warm = Clock::now() + std::chrono::duration<double>(seconds / 5); Clock::now() < warm;)
        serve(client);
    const auto began = Clock::now();
    const double cpu_began = cpu_us();
    const std::uint64_t counted_from = client.done;
    double elapsed = 0;
    while (elapsed < seconds) {
        for (int i = 0; i < 16; ++i) serve(client);
        elapsed = std::chrono::duration<double>(Clock::now() - began).count();
    }
    const double cpu = cpu_us() - cpu_began;
    const auto operations = static_cast<double>(client.done - counted_from);
    std::printf("%.0f %.6f %.4f\n", operations, elapsed, cpu / operations);
    client.stopping = true;
    return 0;
}
