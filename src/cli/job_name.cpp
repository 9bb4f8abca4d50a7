// Names a job's files; see job_name.h.
#include "cli/job_name.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <chrono>

namespace farswap::cli {

namespace {

constexpr std::size_t kHostMax = 64;  // HOST_NAME_MAX of Linux

bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

}  // namespace

std::string job_name(std::string_view host, int pid, unsigned random) {
    std::string plain(host.substr(0, kHostMax));
    for (char& c : plain) {
        if (!is_plain(c)) c = '-';
    }
    return fmt::format("farswap-{}-{}-{:08x}", plain.empty() ? "host" : plain, pid, random);
}

std::string make_job_name() {
    char host[kHostMax + 1] = {};
    ::gethostname(host, kHostMax);
    unsigned random = 0;
    if (::getrandom(&random, sizeof random, GRND_NONBLOCK) != static_cast<ssize_t>(sizeof random))
        random = static_cast<unsigned>(std::chrono::steady_clock::now().time_since_epoch().count());
    return job_name(host, ::getpid(), random);
}

}  // namespace farswap::cli
