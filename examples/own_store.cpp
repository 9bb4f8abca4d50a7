// A store of one's own for farswap: pages go to a file by a thread with plain system calls.
//
//     c++ -std=c++20 -shared -fPIC own_store.cpp -o libown_store.so $(pkg-config --cflags farswap)
//     farswap run --ram 256M --swap 'plugin:/path/libown_store.so?size=4G&path=/scratch/pages' -- PROGRAM
//
// It is as simple as a store can be and keeps the contract of farswap/store.h: submit() only queues, nothing
// is allocated after it is open, results come by StoreHost::complete(). What it has not: a lease (a second
// job would be refused by O_EXCL only), and deadlines, for a thread that the kernel holds cannot be called
// back.
#include <errno.h>
#include <farswap/store_plugin.h>
#include <fcntl.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

namespace {

// A first-in first-out list through `next`, which is ours while a request is.
template <typename T>
class Queue {
  public:
    void push(T& item) {
        item.next = nullptr;
        *end_ = &item;
        end_ = &item.next;
    }
    T* pop() {
        T* const item = first_;
        if (item != nullptr) first_ = item->next;
        if (first_ == nullptr) end_ = &first_;
        return item;
    }
    bool empty() const { return first_ == nullptr; }

  private:
    T* first_ = nullptr;
    T** end_ = &first_;
};

// 0, or what the first call that failed said.
int transfer_all(const farswap::Request& request, int fd) {
    for (std::uint32_t done = 0; done < request.length;) {
        const auto at = static_cast<off_t>(request.offset + done);
        std::byte* const data = request.data + done;
        const std::size_t left = request.length - done;
        const ssize_t moved =
            (request.op & farswap::WRITE) != 0 ? ::pwrite(fd, data, left, at) : ::pread(fd, data, left, at);
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return -errno;
        if (moved == 0) return -EIO;  // the end of the file: somebody has made it shorter
        done += static_cast<std::uint32_t>(moved);
    }
    return 0;
}

class OwnStore final : public farswap::Store {
  public:
    OwnStore(std::string path, int fd, std::uint64_t size, farswap::StoreHost& host)
        : name_("own store " + path),
          path_(std::move(path)),
          fd_(fd),
          size_(size),
          host_(host),
          thread_([this] { serve(); }) {}
    ~OwnStore() override {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        work_.notify_one();
        thread_.join();
        ::close(fd_);
    }

    const std::string& name() const noexcept override { return name_; }
    std::uint64_t capacity() const noexcept override { return size_; }
    std::uint64_t reserved() const noexcept override { return size_; }  // posix_fallocate() has seen to it
    std::uint32_t alignment() const noexcept override { return 1; }
    std::uint32_t transfer_max() const noexcept override { return 1 << 20; }

    void submit(farswap::Request& request) noexcept override { add(requests_, request); }
    // The thread serves flushes when there is no request left before them.
    void flush(farswap::FlushRequest& flush) noexcept override { add(flushes_, flush); }
    void reserve(farswap::ReserveRequest& reserve) noexcept override {
        host_.complete(reserve, reserve.bytes <= size_ ? 0 : -ENOSPC);
    }
    // It may always end with its result instead, and will not be long.
    void cancel(farswap::Request&) noexcept override {}
    // Nothing is in flight; the file goes, and so does what was in it.
    void close() noexcept override { ::unlink(path_.c_str()); }

    Counters counters() const noexcept override {
        const std::lock_guard lock(mutex_);
        return counters_;
    }

  private:
    template <typename T>
    void add(Queue<T>& queue, T& item) noexcept {
        {
            const std::lock_guard lock(mutex_);
            queue.push(item);
        }
        work_.notify_one();
    }

    void serve() {
        std::unique_lock lock(mutex_);
        while (true) {
            work_.wait(lock, [this] { return ending_ || !requests_.empty() || !flushes_.empty(); });
            if (farswap::Request* const request = requests_.pop()) {
                lock.unlock();
                const int error = transfer_all(*request, fd_);
                lock.lock();
                count(*request);
                host_.complete(*request, error < 0 ? error : static_cast<int>(request->length));
            } else if (farswap::FlushRequest* const flush = flushes_.pop()) {
                lock.unlock();
                const int error = ::fdatasync(fd_) == 0 ? 0 : -errno;
                lock.lock();
                ++counters_.flushes;
                host_.complete(*flush, error);
            } else {
                return;
            }
        }
    }
    void count(const farswap::Request& request) {
        const bool write = (request.op & farswap::WRITE) != 0;
        ++(write ? counters_.writes : counters_.reads);
        (write ? counters_.bytes_written : counters_.bytes_read) += request.length;
    }

    const std::string name_, path_;
    const int fd_;
    const std::uint64_t size_;
    farswap::StoreHost& host_;

    mutable std::mutex mutex_;
    std::condition_variable work_;
    Queue<farswap::Request> requests_;
    Queue<farswap::FlushRequest> flushes_;
    Counters counters_;
    bool ending_ = false;
    std::thread thread_;  // the last: it uses all the others
};

}  // namespace

extern "C" {

const std::uint32_t farswap_store_plugin_version = farswap::kStorePluginVersion;

farswap::Store* farswap_open_store(const farswap::StorePluginOptions& options, farswap::StoreHost& host,
                                   char* message, std::size_t message_size) {
    const char* const path = options.parameter(options, "path");
    if (path == nullptr) {
        std::snprintf(message, message_size, "name a file that does not exist yet, as ?path=/scratch/pages");
        errno = EINVAL;
        return nullptr;
    }
    const int fd = ::open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    const int error = fd < 0 ? errno : ::posix_fallocate(fd, 0, static_cast<off_t>(options.size));
    if (error != 0) {
        std::snprintf(message, message_size, "cannot make %s: %s", path, std::strerror(error));
        if (fd >= 0) {
            ::close(fd);
            ::unlink(path);
        }
        errno = error;
        return nullptr;
    }
    try {
        return new OwnStore(path, fd, options.size, host);
    } catch (const std::exception& failure) {  // no memory, no thread
        std::snprintf(message, message_size, "%s", failure.what());
        ::close(fd);
        ::unlink(path);
        errno = ENOMEM;
        return nullptr;
    }
}

}  // extern "C"
