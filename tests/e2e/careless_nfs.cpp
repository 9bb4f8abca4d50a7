// A careless NFS server for the end-to-end suites: CarelessProxy before a real server, driven by lines on
// standard input, answered by lines on standard output. Knows the command line; what is lost is
// careless_proxy.h's.
//
//   careless_nfs NFS_PORT DIRECTORY        prints "port N"; the file is the one farswap made in DIRECTORY
//   restart                                "restarted RESTARTS LOST_WRITES"
//   delay MS                               "delayed WRITES", which are executed MS later
//   late                                   "late EXECUTED LEFT"
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>

#include "careless_proxy.h"

namespace {

/// The newest file that farswap has made for a job, or an empty path.
std::filesystem::path newest_file(const std::filesystem::path& directory) {
    std::filesystem::path newest;
    std::filesystem::file_time_type when{};
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(directory, gone)) {
        const auto written = entry.last_write_time(gone);
        if (gone || !entry.path().filename().string().starts_with("farswap-") ||
            (!newest.empty() && written < when))
            continue;
        newest = entry.path();
        when = written;
    }
    return newest;
}

void answer(farswap::test::CarelessProxy& proxy, const std::string& line) {
    std::istringstream words(line);
    std::string word;
    long milliseconds = 0;
    words >> word >> milliseconds;
    if (word == "restart") {
        proxy.restart();
        const auto counts = proxy.counts();
        std::printf("restarted %lu %lu\n", counts.restarts, counts.lost_writes);
    } else if (word == "delay") {
        const auto caught =
            proxy.delay_writes(std::chrono::milliseconds(milliseconds), std::chrono::seconds(5));
        std::printf("delayed %zu\n", caught);
    } else if (word == "late") {
        const auto counts = proxy.counts();
        std::printf("late %lu %lu\n", counts.late_writes, counts.late_writes_left);
    } else {
        std::printf("unknown %s\n", word.c_str());
    }
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const int port = argc == 3 ? std::atoi(argv[1]) : 0;
    if (port <= 0 || port > 65535) {
        std::fputs("usage: careless_nfs NFS_PORT DIRECTORY\n", stderr);
        return 2;
    }
    const std::filesystem::path directory = argv[2];
    farswap::test::CarelessProxy proxy(static_cast<std::uint16_t>(port),
                                       [&] { return newest_file(directory); });
    std::printf("port %u\n", proxy.port());
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) answer(proxy, line);
}
