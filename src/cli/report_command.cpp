// farswap report; see report_command.h.
#include "cli/report_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "base/log.h"
#include "cli/exit_status.h"
#include "cli/report_page.h"
#include "cli/stats_file.h"

namespace farswap::cli {

namespace {

constexpr std::size_t kBytesMax = 64u << 20;

/// "x.json" gives "x.html".
std::string page_beside(const std::string& stats_file) {
    constexpr std::string_view kEnding = ".json";
    return (stats_file.ends_with(kEnding) ? stats_file.substr(0, stats_file.size() - kEnding.size())
                                          : stats_file) +
           ".html";
}

/// All of the file, or of a pipe.
Result<std::string> read_stats(const std::string& path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file) return fail_errno(errno, "{}: cannot be read", path);
    std::string text;
    std::array<char, 1 << 16> buffer;
    while (text.size() <= kBytesMax) {
        const auto count = ::read(file.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(errno, "{}: cannot be read", path);
        if (count == 0) return text;
        text.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return fail(EFBIG, "{}: larger than any statistics file", path);
}

Status make_page(const ReportOptions& options) {
    const auto text = read_stats(options.stats_file);
    if (!text) return std::unexpected(text.error());
    const auto stats = check_stats(*text, options.stats_file);
    if (!stats) return std::unexpected(stats.error());
    const bool to_output = options.output == "-";
    const auto path = options.output.empty() ? page_beside(options.stats_file) : options.output;
    auto file = StatsFile::open(to_output ? "/dev/stdout" : path, "-o");
    if (!file) return std::unexpected(file.error());
    if (auto written = file->write(report_page(*stats)); !written) return written;
    if (!to_output) log::write_line(fmt::format("report {}", path));
    return {};
}

}  // namespace

int report_command(const ReportOptions& options) {
    const auto made = make_page(options);
    if (made) return 0;
    log::write_line(made.error().message);
    return kExitFailure;
}

}  // namespace farswap::cli
