// A large process is stopped while its memory is being paged, and a small one of the same job goes on needing
// memory. It must get it: whoever is to continue the stopped one may be waiting for it.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kSmallPages = 1024;
constexpr int kStops = 4;  // in each round
constexpr double kLimitS = 30;

// Runs while the other process is stopped; on a thread, so that a hang is told and not suffered.
void work_while_it_is_stopped(std::uint32_t version) {
    std::atomic<bool> done{false};
    std::jthread watchdog([&] {
        const double end = now_s() + kLimitS;
        while (!done && now_s() < end) ::usleep(10'000);
        check(done, "no memory for {} s while another process is stopped", kLimitS);
    });
    const Pages pages(2, kSmallPages);
    pages.stamp(version);
    pages.expect(version, "the process that goes on");
    done = true;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    std::array<int, 2> progress{};
    sys(::pipe(progress.data()), "pipe");
    const pid_t large = static_cast<pid_t>(sys(::fork(), "fork"));
    if (large == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (Filler filler(options.filler);;) {
            filler.push();
            if (::write(progress[1], "p", 1) != 1) ::_exit(1);
        }
    }
    ::close(progress[1]);
    std::uint32_t version = 0;
    for (int i = 0; i < options.rounds * kStops; i++) {
        char push = 0;
        check(::read(progress[0], &push, 1) == 1, "the large process ended");
        ::usleep(1000 * (i % 8));  // somewhere in its next push
        sys(::kill(large, SIGSTOP), "kill");
        int status = 0;
        check(::waitpid(large, &status, WUNTRACED) == large && WIFSTOPPED(status), "it did not stop");
        work_while_it_is_stopped(++version);
        sys(::kill(large, SIGCONT), "kill");
    }
    sys(::kill(large, SIGKILL), "kill");
    check(::waitpid(large, nullptr, 0) == large, "the large process is not there any more");
    return succeed();
}
