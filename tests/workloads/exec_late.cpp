// Forks children that wait a little before they execute a new program, which fills memory: a child may have
// been found, and not have an agent yet, when its old memory goes. (Such programs were never paged.)
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 2048;
constexpr useconds_t kDelaysUs[] = {0, 500, 1000, 2000, 3000, 5000, 8000};

[[noreturn]] void execute(const Options& options, useconds_t delay_us) {
    ::usleep(delay_us);
    const std::string filler = std::to_string(options.filler);
    ::execl("/proc/self/exe", "exec_late", "--filler", filler.c_str(), "--extra", "executed", nullptr);
    ::_exit(100 + errno % 100);
}

int fill(const Options& options) {
    const Pages pages(1, kPages);
    pages.stamp(1);
    Filler filler(options.filler);
    filler.push();
    probe(pages.data(), pages.bytes());
    pages.expect(1, "memory of an executed child");
    return succeed();
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    if (!options.extra.empty()) return fill(options);
    for (const useconds_t delay_us : kDelaysUs) {
        const pid_t child = ::fork();
        check(child >= 0, "fork: {}", std::strerror(errno));
        if (child == 0) execute(options, delay_us);
        int status = 0;
        check(::waitpid(child, &status, 0) == child, "waitpid: {}", std::strerror(errno));
        check(status == 0, "the child that executed after {} us ended with status {:#x}", delay_us, status);
    }
    return succeed();
}
