// What only a process with a single thread may do: unshare(CLONE_NEWUSER), and setns(2) into a user
// namespace. It has a single one, as far as it knows, and is paged before and afterwards.
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "support.h"

namespace {

using namespace workload;

constexpr std::size_t kPages = 4096;

bool write_to(const char* path, const std::string& text) {
    const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
    const bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return good;
}

/// Makes a user namespace in which our user is root: in one without users nobody can make another.
bool make_namespace() {
    const std::string user = fmt::format("0 {} 1", ::geteuid()), group = fmt::format("0 {} 1", ::getegid());
    return ::unshare(CLONE_NEWUSER) == 0 && write_to("/proc/self/uid_map", user) &&
           write_to("/proc/self/setgroups", "deny") && write_to("/proc/self/gid_map", group);
}

/// A child in a user namespace of its own: its process file, open.
int namespace_of_a_child() {
    int ready[2], done[2];
    sys(::pipe(ready), "pipe");
    sys(::pipe(done), "pipe");
    const auto child = static_cast<pid_t>(sys(::fork(), "fork"));
    char byte = 0;
    if (child == 0) {
        const bool good = make_namespace();
        if (::write(ready[1], good ? "y" : "n", 1) != 1 || ::read(done[0], &byte, 1) != 1) ::_exit(1);
        ::_exit(good ? 0 : 1);
    }
    sys(::read(ready[0], &byte, 1), "read");
    const auto path = fmt::format("/proc/{}/ns/user", child);
    const int fd = static_cast<int>(sys(::open(path.c_str(), O_RDONLY | O_CLOEXEC), "open of the namespace"));
    sys(::write(done[1], "x", 1), "write");
    expect_exit(child, 0, "child that makes a user namespace");
    for (const int end : {ready[0], ready[1], done[0], done[1]}) ::close(end);
    return fd;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    const Pages pages(1, kPages);
    Filler filler(options.filler);
    for (int round = 0; round < options.rounds; round++) {
        const auto version = static_cast<std::uint32_t>(round + 1);
        pages.stamp(version);
        filler.push();
        if (round % 2 == 0) {
            const int fd = namespace_of_a_child();
            pages.expect(version, "after a child has made a user namespace");
            sys(::setns(fd, CLONE_NEWUSER), "setns into a user namespace");
            ::close(fd);
        } else if (!make_namespace()) {
            if (errno == ENOSPC || errno == EPERM) skip("no user namespaces here");
            sys(-1, "unshare(CLONE_NEWUSER)");
        }
        pages.expect(version, "in another user namespace");
        pages.stamp(version + 100);
        filler.push();
        pages.expect(version + 100, "after it was moved out there");
    }
    return succeed();
}
