// See uring_engine.h. Source of the operations: io_uring_enter(2).
#include "io/uring_engine.h"

#include <algorithm>

#include "base/assert.h"

namespace farswap::io {

namespace {

constexpr unsigned kSubmissions = 512;
constexpr unsigned kCompletions = 4096;  // more are kept by the kernel (IORING_FEAT_NODROP)
constexpr std::uint32_t kFilesMax = 64;
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;  // what becomes ready at a time
constexpr std::size_t kBuffersMax = 1 << 14;                // IORING_MAX_REG_BUFFERS
constexpr std::size_t kBufferMax = std::size_t{1} << 30;    // of one buffer: io_uring_register_buffers(3)

}  // namespace

UringEngine::UringEngine(const LoopOptions& options) : watches_(options.watches_max + 1, ring_) {
    files_.reserve(kFilesMax);
}

Result<std::unique_ptr<Engine>> UringEngine::make(const LoopOptions& options) {
    std::unique_ptr<UringEngine> engine(new UringEngine(options));
    if (Status made = engine->ring_.init(kSubmissions, kCompletions, options.outlives_its_thread); !made)
        return std::unexpected(made.error());
    return engine;
}

// --- File operations
// ------------------------------------------------------------------------------------------

bool UringEngine::begin(std::uint32_t index, const FileOperation& operation) noexcept {
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) return false;
    const File& file = *operation.file;
    const int fd = file.fixed >= 0 ? file.fixed : file.fd;
    switch (operation.kind) {
        case FileOperation::Kind::kRead:
        case FileOperation::Kind::kWrite:
            prepare_transfer(sqe, operation, fd);
            break;
        case FileOperation::Kind::kSync:
            io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
            break;
        case FileOperation::Kind::kAllocate:
            io_uring_prep_fallocate(sqe, fd, 0, static_cast<off_t>(operation.offset), operation.length);
            break;
    }
    if (file.fixed >= 0) sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = tag(Kind::kRequest, index);
    return true;
}

void UringEngine::prepare_transfer(io_uring_sqe* sqe, const FileOperation& operation, int fd) noexcept {
    std::byte* data = operation.data;
    const std::uint32_t length = operation.length;
    const int buffer = buffer_of(data, length);
    const bool writes = operation.kind == FileOperation::Kind::kWrite;
    if (buffer >= 0 && writes)
        io_uring_prep_write_fixed(sqe, fd, data, length, operation.offset, buffer);
    else if (buffer >= 0)
        io_uring_prep_read_fixed(sqe, fd, data, length, operation.offset, buffer);
    else if (writes)
        io_uring_prep_write(sqe, fd, data, length, operation.offset);
    else
        io_uring_prep_read(sqe, fd, data, length, operation.offset);
}

bool UringEngine::cancel(std::uint32_t index) noexcept {
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) return false;
    io_uring_prep_cancel64(sqe, tag(Kind::kRequest, index), 0);
    sqe->user_data = tag(Kind::kIgnored, 0);
    return true;
}

// --- Rounds
// ---------------------------------------------------------------------------------------------------

void UringEngine::wait(std::chrono::nanoseconds timeout) noexcept {
    watches_.flush();
    ring_.submit_and_wait(timeout);
}

bool UringEngine::has_news() noexcept {
    watches_.flush();
    ring_.submit_and_wait(std::chrono::nanoseconds::zero());
    return ring_.ready() > 0;
}

int UringEngine::collect(Listener& listener) noexcept {
    int called = 0;
    // Only what is here now: callbacks may cause more, and the round has to end.
    for (unsigned left = ring_.ready(); left > 0; --left) {
        const Completion completion = ring_.reap();
        if (completion.kind == Kind::kWatch)
            called += watches_.completed(completion.index, completion.result);
        else if (completion.kind == Kind::kRequest)
            listener.ended(completion.index, completion.result);
    }
    return called;
}

void UringEngine::drain(Listener& listener, std::chrono::nanoseconds timeout) noexcept {
    ring_.submit_and_wait(timeout);
    for (unsigned left = ring_.ready(); left > 0; --left) {
        const Completion completion = ring_.reap();
        if (completion.kind == Kind::kRequest) listener.ended(completion.index, completion.result);
    }
}

// --- Registration
// ---------------------------------------------------------------------------------------------

Status UringEngine::register_memory(std::span<std::byte> memory, std::size_t ready) {
    FARSWAP_ASSERT(!memory.empty() && ready <= memory.size());
    if (memory_.empty()) {
        buffer_bytes_ = kBufferBytes;
        while (buffer_bytes_ < kBufferMax && memory.size() / buffer_bytes_ >= kBuffersMax) buffer_bytes_ *= 2;
        const auto buffers = static_cast<unsigned>((memory.size() + buffer_bytes_ - 1) / buffer_bytes_);
        if (const int made = io_uring_register_buffers_sparse(&ring_.raw(), buffers); made < 0)
            return refuse(made, memory.size());
        memory_ = memory;
    }
    FARSWAP_ASSERT(memory.data() == memory_.data() && memory.size() == memory_.size());
    while (registered_ < ready && !refused_) {
        const iovec buffer{memory_.data() + registered_,
                           std::min(buffer_bytes_, memory_.size() - registered_)};
        if (buffer.iov_len > ready - registered_) break;
        const auto index = static_cast<unsigned>(registered_ / buffer_bytes_);
        const int set = io_uring_register_buffers_update_tag(&ring_.raw(), index, &buffer, nullptr, 1);
        if (set < 0) return refuse(set, buffer.iov_len);
        registered_ += buffer.iov_len;
    }
    return {};
}

std::unexpected<Error> UringEngine::refuse(int error, std::size_t bytes) {
    refused_ = true;
    if (error == -ENOMEM)
        return fail_errno(ENOMEM,
                          "cannot register {} MiB with io_uring: raise the locked-memory limit (ulimit -l)",
                          bytes >> 20);
    return fail_errno(-error, "cannot register memory with io_uring");
}

int UringEngine::buffer_of(const std::byte* data, std::uint32_t length) const noexcept {
    if (data < memory_.data() || data + length > memory_.data() + registered_) return -1;
    const auto first = static_cast<std::size_t>(data - memory_.data());
    const std::size_t buffer = first / buffer_bytes_;
    return (first + length - 1) / buffer_bytes_ == buffer ? static_cast<int>(buffer) : -1;
}

Status UringEngine::register_file(File& file) {
    FARSWAP_ASSERT(file.fd >= 0 && file.fixed < 0);
    if (files_.empty()) {
        if (const int made = io_uring_register_files_sparse(&ring_.raw(), kFilesMax); made < 0)
            return fail_errno(-made, "cannot register files with io_uring");
        files_.assign(kFilesMax, -1);
    }
    const auto free = std::find(files_.begin(), files_.end(), -1);
    if (free == files_.end()) return fail(ENFILE, "{} files are registered with io_uring already", kFilesMax);
    const auto index = static_cast<std::int32_t>(free - files_.begin());
    if (const int set =
            io_uring_register_files_update(&ring_.raw(), static_cast<unsigned>(index), &file.fd, 1);
        set < 0)
        return fail_errno(-set, "cannot register a file with io_uring");
    *free = file.fd;
    file.fixed = index;
    return {};
}

void UringEngine::unregister_file(File& file) noexcept {
    if (file.fixed < 0) return;
    const int none = -1;
    io_uring_register_files_update(&ring_.raw(), static_cast<unsigned>(file.fixed), &none, 1);
    files_[static_cast<std::size_t>(file.fixed)] = -1;
    file.fixed = -1;
}

}  // namespace farswap::io
