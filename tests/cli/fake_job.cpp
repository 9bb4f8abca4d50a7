// A pager that only pretends: it runs the program and pages nothing, so that the command around it can be
// tested by itself. FAKE_EVICTED is how many pages it claims to have moved, FAKE_FAILURE why it claims to
// have stopped the program.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "base/fd.h"
#include "pager/job.h"
#include "pager/kill_census.h"

namespace farswap {

struct Job::State {
    JobOptions options;
    pid_t program = 0;
};

namespace {

/// Executes the program in the child; what execvp(3) has to say comes through the pipe, which a success
/// closes.
[[noreturn]] void execute(const JobOptions& options, int error_fd) {
    std::vector<char*> argv;
    for (const auto& word : options.argv) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    const int error = errno;
    [[maybe_unused]] const auto told = ::write(error_fd, &error, sizeof error);
    ::_exit(127);
}

}  // namespace

Job::Job(std::unique_ptr<State> state) : state_(std::move(state)) {}
Job::~Job() = default;

Result<std::unique_ptr<Job>> Job::start(const JobOptions& options, io::Loop&, Pool&, SwapArea&) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) return fail_errno(errno, "pipe");
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    const pid_t program = ::fork();
    if (program == 0) execute(options, writer.get());
    writer.reset();
    int error = 0;
    if (::read(reader.get(), &error, sizeof error) == sizeof error) {
        ::waitpid(program, nullptr, 0);
        return fail_errno(error, "{}", options.argv[0]);
    }
    return std::unique_ptr<Job>(new Job(std::make_unique<State>(options, program)));
}

JobStats Job::stats() const {
    JobStats stats;
    stats.ram_cap = state_->options.ram_cap;
    const char* evicted = ::getenv("FAKE_EVICTED");
    stats.pages_evicted = evicted == nullptr ? 0 : std::strtoull(evicted, nullptr, 10);
    return stats;
}

void Job::detach(pid_t) {}
void Job::stop(Error) {}
void Job::stay() {}
bool Job::is_departing() const {
    return false;
}
std::vector<pid_t> Job::processes() const {
    return {state_->program};
}
void Job::set_ram_cap(std::uint64_t cap) {
    state_->options.ram_cap = cap;
}
std::optional<std::uint64_t> Job::far_pages(pid_t) const {
    return std::nullopt;
}

bool Job::is_member(pid_t) {
    return false;
}
Result<Job::Held> Job::hold(pid_t) {
    return fail(ESRCH, "nothing is paged here");
}
void Job::release_hold(pid_t) {}
Result<OutsideRanges> Job::outside(pid_t, std::uint64_t, std::uint64_t) const {
    return fail(ESRCH, "nothing is paged here");
}
Status Job::peek(pid_t, std::unique_ptr<Peek>) {
    return fail(ESRCH, "nothing is paged here");
}

JobEnd Job::run() {
    if (state_->options.on_tick) state_->options.on_tick(stats());
    JobEnd end;
    while (::waitpid(state_->program, &end.wait_status, 0) < 0 && errno == EINTR) {
    }
    if (const char* failure = ::getenv("FAKE_FAILURE")) end.failure = fail(EIO, "{}", failure);
    end.stats = stats();
    return end;
}

namespace kills {

void watch(const SwapArea*) noexcept {}
void note(bool) noexcept {}
std::string so_far() {
    return {};
}

}  // namespace kills

}  // namespace farswap
