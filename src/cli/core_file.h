// Where a core file is written to: a file of its own, in which pages of zeros take no space, or a pipe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::cli {

/// Removed again on destruction unless keep() was called. One thread.
class CoreFile {
  public:
    /// "-" is standard output. A file must not exist yet: EEXIST. It is for its owner's eyes only. Where
    /// nobody takes what is written, `is_interrupted` is asked now and then: EINTR from what writes.
    static Result<CoreFile> create(const std::string& path, std::function<bool()> is_interrupted);
    CoreFile(CoreFile&& other) noexcept;
    CoreFile& operator=(CoreFile&&) = delete;
    ~CoreFile();

    Status write(std::span<const std::byte> content);
    Status write_zeros(std::uint64_t bytes);
    std::uint64_t bytes_written() const noexcept { return written_; }
    /// All has been written: it stays. Whatever the file system still had to say against it is said now.
    Status keep();

  private:
    CoreFile(std::string path, Fd fd, std::function<bool()> is_interrupted, bool is_sparse)
        : path_(std::move(path)),
          fd_(std::move(fd)),
          is_interrupted_(std::move(is_interrupted)),
          is_sparse_(is_sparse) {}
    Status write_all(const std::byte* content, std::size_t bytes);
    Status wait_for_reader();

    std::string path_;  ///< empty: nothing to be removed
    Fd fd_;
    std::function<bool()> is_interrupted_;
    bool is_sparse_;
    std::uint64_t written_ = 0;
};

}  // namespace farswap::cli
