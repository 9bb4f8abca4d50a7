// Daemons: each forks off a child that ends at once, and whose own child lives on in a session of its own,
// checks for a while what it inherited, rewrites it, and says so through a pipe. Meanwhile the parent goes on
// with other content.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 2048;
constexpr int kDaemons = 4;
constexpr int kLooks = 12;
constexpr int kReportLimitMs = 60'000;

[[noreturn]] void live_on(const Pages& pages, std::uint32_t version, int report) {
    ::setsid();
    for (int look = 0; look < kLooks; look++) {
        pages.expect(version, "daemon: what it inherited");
        ::usleep(20'000);
    }
    pages.stamp(version + 1000);
    ::usleep(20'000);
    pages.expect(version + 1000, "daemon: what it wrote");
    sys(::write(report, "y", 1), "write");
    ::_exit(0);
}

int start_daemon(const Pages& pages, std::uint32_t version) {
    std::array<int, 2> ends{};
    sys(::pipe(ends.data()), "pipe");
    const auto middle = static_cast<pid_t>(sys(::fork(), "fork"));
    if (middle == 0) {
        if (sys(::fork(), "fork in a child") != 0) ::_exit(0);
        ::close(ends[0]);
        live_on(pages, version, ends[1]);
    }
    ::close(ends[1]);
    expect_exit(middle, 0, "the process between parent and daemon");
    return ends[0];
}

void expect_report(int reader) {
    pollfd ready{reader, POLLIN, 0};
    check(::poll(&ready, 1, kReportLimitMs) == 1, "a daemon did not report in time");
    char byte = 0;
    check(sys(::read(reader, &byte, 1), "read") == 1, "a daemon ended without a report");
    ::close(reader);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    Filler filler(options.filler);
    const Pages pages(1, kPages);
    std::uint32_t version = 1;
    for (int round = 0; round < options.rounds; round++) {
        std::vector<int> reports;
        for (int i = 0; i < kDaemons; i++) {
            pages.stamp(++version);
            filler.push();
            if (i == 0) probe(pages.data(), pages.bytes());
            reports.push_back(start_daemon(pages, version));
        }
        pages.expect(version, "parent: what it wrote last");
        for (const int report : reports) expect_report(report);
    }
    return succeed();
}
