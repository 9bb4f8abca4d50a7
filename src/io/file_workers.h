// Threads that do system calls on files, which may block, for a loop, which must not. Knows nothing of
// requests and epoll.
#pragma once

#include <pthread.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/engine.h"

namespace farswap::io {

/// All functions are for one thread, the loop's. Nothing is allocated after start().
class FileWorkers {
  public:
    /// Indices are below `operations_max`.
    explicit FileWorkers(std::uint32_t operations_max);
    /// Ends the threads. One that the kernel does not let go of is left to it, with what it needs.
    ~FileWorkers();
    FileWorkers(const FileWorkers&) = delete;
    FileWorkers& operator=(const FileWorkers&) = delete;

    /// Makes the threads, with all signals blocked. Once.
    Status start(int nice);
    /// Readable while there is something to tell.
    int fd() const noexcept;

    /// As Engine's. The operation's file stays open until it has ended.
    void begin(std::uint32_t index, const FileOperation& operation) noexcept;
    /// Ends an operation that no thread has begun, or that waits for a socket or pipe; leaves others as they
    /// are.
    void cancel(std::uint32_t index) noexcept;

    /// Tells of the operations that have ended until now.
    void tell(Engine::Listener& listener) noexcept;
    /// Waits until there is something to tell.
    void wait(std::chrono::milliseconds timeout) noexcept;

  private:
    struct Shared;
    struct Start;
    static void* work(void* given);

    std::shared_ptr<Shared> shared_;  ///< the threads', too
    std::vector<pthread_t> threads_;
};

}  // namespace farswap::io
