// A file for a scenario: created in --dir, unlinked at once, so that nothing is left behind however it ends.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "support.h"

namespace workload {

class TempFile {
  public:
    /// Opened with `flags` besides O_RDWR; skips the scenario when the file system refuses O_DIRECT.
    TempFile(const std::string& dir, int flags) {
        std::string path = dir + "/farswap-workload-XXXXXX";
        const int created = static_cast<int>(sys(::mkstemp(path.data()), path.c_str()));
        fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC | flags);
        const int error = errno;
        ::unlink(path.c_str());
        ::close(created);
        if (fd_ == -1 && error == EINVAL) skip("{} does not know O_DIRECT", dir);
        check(fd_ != -1, "open {}: {}", path, std::strerror(error));
    }
    ~TempFile() { ::close(fd_); }
    TempFile(const TempFile&) = delete;
    TempFile& operator=(const TempFile&) = delete;

    int fd() const { return fd_; }

  private:
    int fd_ = -1;
};

/// pread/pwrite of all bytes or failure.
inline void pread_all(int fd, void* to, std::size_t bytes, off_t at) {
    check(::pread(fd, to, bytes, at) == static_cast<ssize_t>(bytes), "pread of {} bytes at {}: {}", bytes, at,
          std::strerror(errno));
}

inline void pwrite_all(int fd, const void* from, std::size_t bytes, off_t at) {
    check(::pwrite(fd, from, bytes, at) == static_cast<ssize_t>(bytes), "pwrite of {} bytes at {}: {}", bytes,
          at, std::strerror(errno));
}

}  // namespace workload
