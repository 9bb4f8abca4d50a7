#include "cli/core_file.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "farswap/request.h"

namespace farswap::cli {
namespace {

constexpr int kLookForSignalsMs = 100;
constexpr std::array<std::byte, std::size_t{64} << 10> kZeros{};

bool is_zero(const std::byte* content, std::size_t bytes) {
    return std::memcmp(content, kZeros.data(), bytes) == 0;
}

}  // namespace

Result<CoreFile> CoreFile::create(const std::string& path, std::function<bool()> is_interrupted) {
    if (path == "-")
        return CoreFile({}, Fd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)), std::move(is_interrupted), false);
    Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR));
    if (!fd && errno == EEXIST)
        return fail(EEXIST, "{} exists: remove it, or name another file with -o", path);
    if (!fd) return fail_errno(errno, "cannot create {}", path);
    return CoreFile(path, std::move(fd), std::move(is_interrupted), true);
}

CoreFile::CoreFile(CoreFile&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      fd_(std::move(other.fd_)),
      is_interrupted_(std::move(other.is_interrupted_)),
      is_sparse_(other.is_sparse_),
      written_(other.written_) {}

CoreFile::~CoreFile() {
    if (!path_.empty()) unlink(path_.c_str());
}

Status CoreFile::write_all(const std::byte* content, std::size_t bytes) {
    while (bytes > 0) {
        if (!is_sparse_) {
            if (auto ready = wait_for_reader(); !ready) return ready;
        }
        // A pipe that may be written to takes that much without blocking (pipe(7)).
        const ssize_t put = ::write(fd_.get(), content, std::min<std::size_t>(bytes, PIPE_BUF));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_errno(errno, "cannot write the core file");
        content += put;
        bytes -= static_cast<std::size_t>(put);
    }
    return {};
}

Status CoreFile::wait_for_reader() {
    for (;;) {
        pollfd ready{fd_.get(), POLLOUT, 0};
        if (poll(&ready, 1, kLookForSignalsMs) > 0) return {};
        if (is_interrupted_()) return fail(EINTR, "interrupted");
    }
}

Status CoreFile::write(std::span<const std::byte> content) {
    while (!content.empty()) {
        const std::size_t piece = std::min<std::size_t>(content.size(), kPageSize);
        const bool is_hole = is_sparse_ && is_zero(content.data(), piece);
        if (is_hole) {
            if (auto skipped = write_zeros(piece); !skipped) return skipped;
        } else {
            if (auto put = write_all(content.data(), piece); !put) return put;
            written_ += piece;
        }
        content = content.subspan(piece);
    }
    return {};
}

Status CoreFile::write_zeros(std::uint64_t bytes) {
    if (is_sparse_) {
        if (lseek(fd_.get(), static_cast<off_t>(bytes), SEEK_CUR) < 0)
            return fail_errno(errno, "cannot write the core file");
        written_ += bytes;
        return {};
    }
    for (std::uint64_t left = bytes; left > 0;) {
        const auto piece = std::min<std::uint64_t>(left, kZeros.size());
        if (auto put = write_all(kZeros.data(), piece); !put) return put;
        left -= piece;
    }
    written_ += bytes;
    return {};
}

Status CoreFile::keep() {
    // Zeros at its end are a hole that nothing has been written behind.
    if (is_sparse_ && ftruncate(fd_.get(), static_cast<off_t>(written_)) != 0)
        return fail_errno(errno, "cannot write {}", path_);
    if (is_sparse_ && close(fd_.release()) != 0) return fail_errno(errno, "cannot write {}", path_);
    path_.clear();
    return {};
}

}  // namespace farswap::cli
