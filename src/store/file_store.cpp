// See file_store.h.
#include "store/file_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <optional>

#include "base/assert.h"
#include "base/log.h"
#include "store/file_heartbeat.h"
#include "store/file_target.h"

namespace farswap {

namespace {

constexpr std::uint64_t kReserveChunk = std::uint64_t{64} << 20;
constexpr std::uint32_t kZerosAtOnce = 1u << 20;  // bytes of one write where fallocate(2) is not available
constexpr std::uint32_t kTransferMax =
    16u << 20;  // the loop sends any length in one piece; this is as far as it pays

/// Zeros to write from. Never written to, so that it takes no memory: every page is the kernel's zero page.
class Zeros {
  public:
    std::byte* get() noexcept {
        if (data_ == nullptr) {
            void* made = ::mmap(nullptr, kZerosAtOnce, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (made != MAP_FAILED) data_ = static_cast<std::byte*>(made);
        }
        return data_;
    }
    ~Zeros() {
        if (data_ != nullptr) ::munmap(data_, kZerosAtOnce);
    }

  private:
    std::byte* data_ = nullptr;
};

/// A first-in first-out list through T::next.
template <typename T>
class Queue {
  public:
    void push(T& item) noexcept {
        item.next = nullptr;
        (tail_ ? tail_->next : head_) = &item;
        tail_ = &item;
    }
    T* front() const noexcept { return head_; }
    T* pop() noexcept {
        T* first = head_;
        if (first == nullptr) return nullptr;
        head_ = first->next;
        if (head_ == nullptr) tail_ = nullptr;
        return first;
    }
    Queue take() noexcept { return std::exchange(*this, Queue{}); }
    /// False when it is not here.
    bool remove(T& item) noexcept {
        bool found = false;
        for (Queue all = take(); T* at = all.pop();) {
            if (at == &item)
                found = true;
            else
                push(*at);
        }
        return found;
    }

  private:
    T* head_ = nullptr;
    T* tail_ = nullptr;
};

class FileStore final : public Store, private FileHeartbeat::Watcher {
  public:
    FileStore(FileTarget target, io::Loop& loop, const LeaseTiming& timing);
    ~FileStore() override { close(); }

    /// Reserves the first chunk, running the loop.
    Status activate();

    const std::string& name() const noexcept override { return target_.url; }
    std::uint64_t capacity() const noexcept override { return target_.capacity; }
    std::uint64_t reserved() const noexcept override { return reserved_; }
    std::uint32_t alignment() const noexcept override { return kPageSize; }
    std::uint32_t transfer_max() const noexcept override { return kTransferMax; }
    void submit(Request& request) noexcept override;
    void flush(FlushRequest& flush) noexcept override;
    void reserve(ReserveRequest& reserve) noexcept override;
    void cancel(Request& request) noexcept override;
    void close() noexcept override;
    Counters counters() const noexcept override { return counters_; }

  private:
    int refusal(const Request& request) const noexcept;
    void start(Request& request) noexcept;
    bool must_look() noexcept;
    void looked(int result) noexcept override;
    void start_sync() noexcept;
    void sync_done(int result) noexcept;
    void continue_reserve() noexcept;
    void reserve_step() noexcept;
    void reserve_done(int result) noexcept;
    void finish_reserve(int result) noexcept;
    void give_up_file() noexcept;

    FileTarget target_;
    io::Loop& loop_;
    io::File file_;
    std::optional<FileHeartbeat> heartbeat_;
    Counters counters_;
    Queue<Request> held_;           ///< writes that wait for a look at the lease
    bool looking_ = false;          ///< that look is under way
    bool reserve_is_held_ = false;  ///< the next step of a reservation waits for it, too

    Request sync_;
    Queue<FlushRequest> flushes_;  ///< wait for the next fdatasync
    Queue<FlushRequest> syncing_;  ///< covered by the one that runs
    bool sync_runs_ = false;

    Request allocate_;
    Queue<ReserveRequest> reserves_;
    bool reserve_runs_ = false;
    bool write_zeros_ = false;     ///< the file system has no fallocate(2)
    bool chunk_is_small_ = false;  ///< a whole chunk did not fit: just what is asked for is tried
    std::uint64_t reserved_ = 0;
    std::uint64_t chunk_end_ = 0;
    Zeros zeros_;
    bool closed_ = false;
};

FileStore::FileStore(FileTarget target, io::Loop& loop, const LeaseTiming& timing)
    : target_(std::move(target)), loop_(loop), file_{.fd = target_.fd.get(), .base = kLeaseSize} {
    FileHeartbeat::Watcher& watcher = *this;
    if (target_.named) heartbeat_.emplace(loop_, file_.fd, target_.path, target_.lease, timing, watcher);
    if (Status fast = loop_.register_file(file_); !fast)
        log::debug("{}: {}", target_.path, fast.error().message);
    sync_.owner = allocate_.owner = this;
    sync_.complete = [](Request& request, int result) {
        static_cast<FileStore*>(request.owner)->sync_done(result);
    };
    allocate_.complete = [](Request& request, int result) {
        static_cast<FileStore*>(request.owner)->reserve_done(result);
    };
    if (target_.device) reserved_ = target_.capacity;
}

Status FileStore::activate() {
    struct First : ReserveRequest {
        int result = 1;
    } first;
    first.bytes = std::min(target_.capacity, kReserveChunk);
    first.complete = [](ReserveRequest& request, int result) {
        static_cast<First&>(request).result = result;
    };
    reserve(first);
    while (first.result > 0) loop_.run_once(std::chrono::seconds(1));
    if (first.result == -ENOSPC || first.result == -EDQUOT)
        return fail(ENOSPC, "no space is left for {} ({} needed to begin): free some, or name another place",
                    target_.path, format_size(first.bytes));
    if (first.result < 0) return fail_errno(-first.result, "cannot reserve space in {}", target_.path);
    if (heartbeat_) heartbeat_->start();
    return {};
}

// --- Transfers
// ------------------------------------------------------------------------------------------------

int FileStore::refusal(const Request& request) const noexcept {
    if (heartbeat_ && heartbeat_->lost()) return -EIO;
    const std::uint64_t bits =
        request.offset | request.length | reinterpret_cast<std::uintptr_t>(request.data);
    if (bits % kPageSize != 0) return -EINVAL;
    // Space that is not reserved may turn out not to be there.
    return request.offset > reserved_ || request.length > reserved_ - request.offset ? -EINVAL : 0;
}

void FileStore::submit(Request& request) noexcept {
    FARSWAP_ASSERT(!closed_);
    if (const int error = refusal(request); error != 0) return loop_.complete_later(request, error);
    if ((request.op & WRITE) != 0 && must_look()) return held_.push(request);
    start(request);
}

void FileStore::start(Request& request) noexcept {
    if ((request.op & WRITE) != 0) {
        ++counters_.writes;
        counters_.bytes_written += request.length;
    } else {
        ++counters_.reads;
        counters_.bytes_read += request.length;
    }
    loop_.submit(request, file_);
}

void FileStore::cancel(Request& request) noexcept {
    if (held_.remove(request)) return loop_.complete_later(request, -ECANCELED);
    loop_.cancel(request);
}

// --- The lease: what is written after a long silence may land in another's file
// --------------------------------

/// Whether writes have to wait: for looked(). Reads do no harm, and what they bring does not pass for our
/// pages.
bool FileStore::must_look() noexcept {
    if (looking_ || !heartbeat_ || heartbeat_->trusted()) return looking_;
    looking_ = true;
    heartbeat_->look();
    return true;
}

void FileStore::looked(int result) noexcept {
    looking_ = false;
    for (Queue<Request> waiting = held_.take(); Request* request = waiting.pop();) {
        if (result < 0)
            loop_.complete_later(*request, result);
        else
            start(*request);
    }
    if (!std::exchange(reserve_is_held_, false)) return;
    if (result < 0)
        loop_.complete_later(allocate_, result);
    else
        reserve_step();
}

// --- Flush: one fdatasync at a time; those that come meanwhile share the next one
// ----------------------------------

void FileStore::flush(FlushRequest& flush) noexcept {
    FARSWAP_ASSERT(!closed_);
    flushes_.push(flush);
    if (!sync_runs_) start_sync();
}

void FileStore::start_sync() noexcept {
    sync_runs_ = true;
    syncing_ = flushes_.take();
    sync_.timeout = syncing_.front()->timeout;
    ++counters_.flushes;
    if (heartbeat_ && heartbeat_->lost()) return loop_.complete_later(sync_, -EIO);
    loop_.submit_sync(sync_, file_);
}

void FileStore::sync_done(int result) noexcept {
    Queue<FlushRequest> covered = syncing_.take();
    if (flushes_.front() != nullptr)
        start_sync();
    else
        sync_runs_ = false;
    while (FlushRequest* flush = covered.pop()) flush->complete(*flush, result);
}

// --- Reservation: chunk after chunk
// -------------------------------------------------------------------------------

void FileStore::reserve(ReserveRequest& reserve) noexcept {
    FARSWAP_ASSERT(!closed_);
    reserves_.push(reserve);
    if (reserve_runs_) return;
    reserve_runs_ = true;
    continue_reserve();
}

/// Takes the next step for the first request. Completions come from the loop, never from inside.
void FileStore::continue_reserve() noexcept {
    const std::uint64_t wanted = reserves_.front()->bytes;
    if (wanted > target_.capacity) return loop_.complete_later(allocate_, -ENOSPC);
    if (wanted <= reserved_) return loop_.complete_later(allocate_, 0);
    if (heartbeat_ && heartbeat_->lost()) return loop_.complete_later(allocate_, -EIO);
    reserve_is_held_ = must_look();
    if (!reserve_is_held_) reserve_step();
}

void FileStore::reserve_step() noexcept {
    const std::uint64_t wanted = reserves_.front()->bytes;
    const std::uint64_t step = write_zeros_ ? kZerosAtOnce : kReserveChunk;
    const std::uint64_t least = std::min((wanted + kPageSize - 1) / kPageSize * kPageSize, reserved_ + step);
    chunk_end_ = chunk_is_small_ ? least : std::min(reserved_ + step, target_.capacity);
    allocate_.offset = reserved_;
    allocate_.length = static_cast<std::uint32_t>(chunk_end_ - reserved_);
    if (!write_zeros_) return loop_.submit_allocate(allocate_, file_);
    allocate_.op = WRITE;
    allocate_.data = zeros_.get();
    loop_.submit(allocate_, file_);
}

void FileStore::reserve_done(int result) noexcept {
    const std::uint64_t wanted = reserves_.front()->bytes;
    if ((result == -EOPNOTSUPP || result == -ENOSYS) && !write_zeros_) {
        write_zeros_ = true;
        if (zeros_.get() == nullptr) return finish_reserve(-ENOMEM);
        return continue_reserve();
    }
    const bool full = result == -ENOSPC || result == -EDQUOT;
    if (full && !chunk_is_small_ && wanted <= target_.capacity) {
        chunk_is_small_ = true;
        return continue_reserve();
    }
    if (result < 0) return finish_reserve(result);
    if (wanted > reserved_) reserved_ = chunk_end_;
    if (wanted > reserved_) return continue_reserve();
    finish_reserve(0);
}

void FileStore::finish_reserve(int result) noexcept {
    chunk_is_small_ = false;
    ReserveRequest* done = reserves_.pop();
    if (reserves_.front() != nullptr)
        continue_reserve();
    else
        reserve_runs_ = false;
    done->complete(*done, result);
}

// --- The end
// ----------------------------------------------------------------------------------------------------

void FileStore::close() noexcept {
    if (std::exchange(closed_, true)) return;
    FARSWAP_ASSERT(!sync_runs_ && !reserve_runs_);
    loop_.unregister_file(file_);
    if (!heartbeat_) return;
    heartbeat_->stop();
    if (!heartbeat_->lost()) give_up_file();
    release_file(target_.fd.get());
}

void FileStore::give_up_file() noexcept {
    Lease free = heartbeat_->lease();
    Lease found;
    const auto content = read_lease(target_.fd.get(), found);
    // Another machine may have taken what it shares with us since the last beat.
    if (content && (*content != LeaseContent::kLease || found.nonce != free.nonce)) return;
    if (target_.made) return remove_made_file(target_);
    free.state = Lease::State::kFree;
    renew_lease(free);
    if (Status written = write_lease(target_.fd.get(), free); !written)
        log::warning("{}: {}", target_.path, written.error().message);
}

Result<std::unique_ptr<Store>> make_store(Result<FileTarget> target, io::Loop& loop,
                                          const LeaseTiming& timing) {
    if (!target) return std::unexpected(target.error());
    auto store = std::make_unique<FileStore>(std::move(*target), loop, timing);
    if (Status active = store->activate(); !active) return std::unexpected(active.error());
    return store;
}

}  // namespace

Result<std::unique_ptr<Store>> open_file_store(const Url& url, const StoreOptions& options, io::Loop& loop,
                                               const LeaseTiming& timing) {
    return make_store(open_file_target(url, options, timing), loop, timing);
}

Status check_file_url(const Url& url) {
    if (Status known = url.allow_only({"size"}); !known) return known;
    const auto size = url.size(0);
    return size ? Status{} : std::unexpected(size.error());
}

Result<std::unique_ptr<Store>> open_anonymous_store(const std::string& directory, const StoreOptions& options,
                                                    io::Loop& loop) {
    return make_store(open_anonymous_target(directory, options), loop, {});
}

}  // namespace farswap
