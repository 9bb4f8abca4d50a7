// Writes the statistics; see stats_file.h.
#include "cli/stats_file.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace farswap::cli {

Result<StatsFile> StatsFile::open(const std::string& path, std::string_view option) {
    StatsFile file;
    if (path.empty()) return file;
    file.path_ = path;
    file.option_ = option;
    file.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666));
    if (!file.fd_) return fail_errno(errno, "{} {}: cannot be written", option, path);
    return file;
}

Status StatsFile::write(std::string_view text) {
    if (!fd_) return {};
    struct stat info {};
    if (::fstat(fd_.get(), &info) == 0 && S_ISREG(info.st_mode) && ::ftruncate(fd_.get(), 0) < 0)
        return fail_errno(errno, "{} {}: cannot be written", option_, path_);
    while (!text.empty()) {
        const auto count = ::write(fd_.get(), text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(errno, "{} {}: cannot be written", option_, path_);
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

}  // namespace farswap::cli
