// The seam between a loop and the kernel: what each engine has to do. uring_engine.h and epoll_engine.h do
// it. Knows nothing of requests, deadlines and timers, which are the same above both.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "io/engine_kind.h"
#include "io/loop.h"

namespace farswap::io {

/// One system call's worth of a file request: all of a transfer, or what a short one has left.
struct FileOperation {
    enum class Kind : std::uint8_t { kRead, kWrite, kSync, kAllocate };

    Kind kind = Kind::kRead;
    const File* file = nullptr;
    std::byte* data = nullptr;  ///< transfers only
    std::uint64_t offset = 0;   ///< bytes from the start of the file
    std::uint32_t length = 0;   ///< bytes
};

/// Used by the loop's thread only. Nothing is allocated after it was made.
class Engine {
  public:
    /// Who hears how file operations ended.
    class Listener {
      public:
        /// `result` as the system call's: bytes, 0, or a negative errno; -ECANCELED for one that was not
        /// begun. From here on nobody touches the operation's memory, and its index is free.
        virtual void ended(std::uint32_t index, int result) noexcept = 0;

      protected:
        ~Listener() = default;
    };

    Engine() = default;
    virtual ~Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    virtual EngineKind kind() const noexcept = 0;

    /// Takes the operation under an index below LoopOptions::requests_max that is not in use. False when it
    /// takes none now: to be asked again in the next round.
    virtual bool begin(std::uint32_t index, const FileOperation& operation) noexcept = 0;
    /// Has an operation that was taken end early if that can be done; the listener hears of it in either
    /// case. False as with begin().
    virtual bool cancel(std::uint32_t index) noexcept = 0;

    /// As Loop's.
    virtual void add(Watch& watch) noexcept = 0;
    virtual void modify(Watch& watch, std::uint32_t events) noexcept = 0;
    virtual void remove(Watch& watch) noexcept = 0;

    /// Sees to it that all that was asked for is under way, and waits until something happens or `timeout`
    /// passes (zero: does not wait; max(): for ever).
    virtual void wait(std::chrono::nanoseconds timeout) noexcept = 0;
    /// Sees to it that all that was asked for is under way. Whether something has happened; does not wait,
    /// and calls nobody. Made to be asked again and again by somebody who polls.
    virtual bool has_news() noexcept = 0;
    /// Calls the watches that are ready and tells the listener of operations that have ended: those that
    /// wait() has found, none that come meanwhile. Returns the number of watches called.
    virtual int collect(Listener& listener) noexcept = 0;
    /// For the end of the loop, when watches are not to be called any more: waits for operations, and tells.
    virtual void drain(Listener& listener, std::chrono::nanoseconds timeout) noexcept = 0;

    /// As Loop's; an engine that has no use for it does nothing and succeeds.
    virtual Status register_memory(std::span<std::byte> memory, std::size_t ready) = 0;
    virtual bool memory_registered() const noexcept = 0;
    virtual Status register_file(File& file) = 0;
    virtual void unregister_file(File& file) noexcept = 0;
};

/// The engine that the options, the environment and the machine decide for, in this order.
Result<std::unique_ptr<Engine>> make_engine(const LoopOptions& options);

}  // namespace farswap::io
