// The engine on io_uring: file operations, polls and the wait in one ring. Knows nothing of requests.
#pragma once

#include <vector>

#include "io/engine.h"
#include "io/ring.h"
#include "io/uring_watches.h"

namespace farswap::io {

class UringEngine final : public Engine {
  public:
    /// The error's code is that of io_uring_setup(2) or io_uring_enter(2).
    static Result<std::unique_ptr<Engine>> make(const LoopOptions& options);

    EngineKind kind() const noexcept override { return EngineKind::kIoUring; }
    bool begin(std::uint32_t index, const FileOperation& operation) noexcept override;
    bool cancel(std::uint32_t index) noexcept override;
    void add(Watch& watch) noexcept override { watches_.add(watch); }
    void modify(Watch& watch, std::uint32_t events) noexcept override { watches_.modify(watch, events); }
    void remove(Watch& watch) noexcept override { watches_.remove(watch); }
    void wait(std::chrono::nanoseconds timeout) noexcept override;
    bool has_news() noexcept override;
    int collect(Listener& listener) noexcept override;
    void drain(Listener& listener, std::chrono::nanoseconds timeout) noexcept override;
    Status register_memory(std::span<std::byte> memory) override;
    bool memory_registered() const noexcept override { return !memory_.empty(); }
    Status register_file(File& file) override;
    void unregister_file(File& file) noexcept override;

  private:
    explicit UringEngine(const LoopOptions& options);
    void prepare_transfer(io_uring_sqe* sqe, const FileOperation& operation, int fd) noexcept;
    /// The registered buffer that holds all of the memory, or -1.
    int buffer_of(const std::byte* data, std::uint32_t length) const noexcept;

    Ring ring_;
    UringWatches watches_;
    std::span<std::byte> memory_;
    std::vector<int> files_;  ///< registered descriptors by fixed index; -1 is free
};

}  // namespace farswap::io
