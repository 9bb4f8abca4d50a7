// Replaces itself by exec several times, with memory filled in each image and evicted pages left behind by
// the last; from the main thread and from another thread. The process id and an inherited descriptor stay.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 4096;
constexpr int kLinks = 6;

// --extra N:PID, the link of the chain that this image is and the process id that it must have.
struct Link {
    int number = 0;
    int pid = 0;
};

Link parse_link(const std::string& extra) {
    if (extra.empty()) return {0, ::getpid()};
    const std::size_t colon = extra.find(':');
    check(colon != std::string::npos, "--extra {} is not N:PID", extra);
    return {std::atoi(extra.c_str()), std::atoi(extra.c_str() + colon + 1)};
}

void exec_next(const Options& options, const Link& link) {
    const std::string extra = fmt::format("{}:{}", link.number + 1, link.pid);
    const std::string filler = std::to_string(options.filler);
    ::execl("/proc/self/exe", "exec_chain", "--filler", filler.c_str(), "--extra", extra.c_str(), nullptr);
    fail("exec of link {}: {}", link.number + 1, std::strerror(errno));
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const Link link = parse_link(options.extra);
    check(::getpid() == link.pid, "process id {} instead of {}", ::getpid(), link.pid);

    const Pages pages(1, kPages);
    pages.expect_zero(0, kPages / 16, "fresh memory after exec");
    const auto version = static_cast<std::uint32_t>(link.number) + 1;
    pages.stamp(version);
    Filler filler(options.filler);
    filler.push();
    probe(pages.data(), pages.bytes());
    pages.expect(version, "memory of one link");
    filler.push();  // exec with most of it away
    if (link.number == kLinks) return succeed();
    if (link.number % 2 == 0) exec_next(options, link);
    std::jthread([&] { exec_next(options, link); }).join();
    fail("exec from a thread returned");
}
