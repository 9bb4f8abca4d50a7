// The same work as raw_nfs by farswap's own NFS store, as the swap area uses it: pinned pages of a pool, the
// event loop.
//
//   farswap_nfs URL read|write SIZE DEPTH SECONDS        URL names a directory of an export, with its ports
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "io/loop.h"
#include "page/pool.h"
#include "store/open.h"

namespace farswap {
namespace {

constexpr std::uint64_t kFileSize = std::uint64_t{64} << 20;

[[noreturn]] void die(const std::string& what) {
    fmt::print(stderr, "farswap_nfs: {}\n", what);
    std::exit(1);
}

struct Client {
    std::unique_ptr<io::Loop> loop;
    std::unique_ptr<Pool> pool;
    std::unique_ptr<Store> store;
    std::uint32_t op = KERNEL_READ;
    std::uint32_t size = 0;
    std::uint64_t sent = 0, done = 0;
    std::uint32_t under_way = 0;
    bool stopping = false;
    std::deque<Request> requests;
    std::vector<page*> pins;
};

void submit(Client& client, Request& request) {
    request.offset = client.sent++ * client.size % kFileSize;
    ++client.under_way;
    client.store->submit(request);
}

void completed(Request& request, int result) {
    Client& client = *static_cast<Client*>(request.owner);
    if (result != static_cast<int>(client.size)) die(fmt::format("a transfer ended with {}", result));
    ++client.done;
    --client.under_way;
    if (!client.stopping) submit(client, request);
}

void pin(Client& client, std::uint32_t depth) {
    const std::uint32_t each = client.size / kPageSize;
    client.pins.resize(std::size_t{depth} * each);
    for (std::uint32_t i = 0; i < depth; ++i) {
        const FrameRun run = client.pool->allocate_run(each);
        if (run.count != each) die("the pool is too small");
        std::vector<kvec> segments;
        for (std::uint32_t p = 0; p < each; ++p)
            segments.push_back({client.pool->address(run.first + p), kPageSize});
        page** const pages = client.pins.data() + std::size_t{i} * each;
        if (get_kernel_pages(segments.data(), static_cast<int>(each), (client.op & WRITE) == 0, pages) !=
            static_cast<int>(each))
            die("cannot pin");
        Request& request = client.requests.emplace_back();
        request.op = client.op;
        request.data = client.pool->address(run.first);
        request.length = client.size;
        request.pages = pages;
        request.page_count = each;
        request.complete = completed;
        request.owner = &client;
    }
}

void reserve(Client& client) {
    ReserveRequest request;
    int answer = 1;
    request.bytes = kFileSize;
    request.owner = &answer;
    request.complete = [](ReserveRequest& ended, int result) { *static_cast<int*>(ended.owner) = result; };
    client.store->reserve(request);
    while (answer == 1) client.loop->run_once(std::chrono::seconds(1));
    if (answer != 0) die("cannot reserve space");
}

double cpu_us() {
    rusage usage;
    ::getrusage(RUSAGE_SELF, &usage);
    const auto us = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
    };
    return us(usage.ru_utime) + us(usage.ru_stime);
}

void measure(Client& client, double seconds) {
    const auto run_for = [&](double span) {
        const auto began = io::Clock::now();
        double elapsed = 0;
        while (elapsed < span) {
            for (int i = 0; i < 16; ++i) client.loop->run_once(std::chrono::seconds(1));
            elapsed = std::chrono::duration<double>(io::Clock::now() - began).count();
        }
        return elapsed;
    };
    for (Request& request : client.requests) submit(client, request);
    run_for(seconds / 5);
    const std::uint64_t counted_from = client.done;
    const double cpu_began = cpu_us();
    const double elapsed = run_for(seconds);
    const double cpu = cpu_us() - cpu_began;
    const auto operations = static_cast<double>(client.done - counted_from);
    const auto copied = client.store->counters().bytes_copied;
    fmt::print("{:.0f} {:.6f} {:.4f} {}\n", operations, elapsed, cpu / operations, copied);
    client.stopping = true;
    while (client.under_way > 0) client.loop->run_once(std::chrono::seconds(1));
}

int run(int argc, char** argv) {
    if (argc != 6) die("usage: farswap_nfs URL read|write SIZE DEPTH SECONDS");
    Client client;
    client.op = std::string(argv[2]) == "write" ? KERNEL_WRITE : KERNEL_READ;
    client.size = static_cast<std::uint32_t>(std::strtoul(argv[3], nullptr, 10));
    const auto depth = static_cast<std::uint32_t>(std::strtoul(argv[4], nullptr, 10));
    client.loop = std::move(io::Loop::create().value());
    const std::size_t frames = std::size_t{depth} * client.size / kPageSize * 2 + 64;
    client.pool = std::move(Pool::create({.frames = frames}).value());
    auto store = open_store(argv[1], {}, *client.loop);
    if (!store) die(store.error().message);
    client.store = std::move(*store);
    reserve(client);
    pin(client, depth);
    measure(client, std::strtod(argv[5], nullptr));
    for (page* pinned : client.pins) put_page(pinned);
    client.store->close();
    return 0;
}

}  // namespace
}  // namespace farswap

int main(int argc, char** argv) {
    return farswap::run(argc, argv);
}
