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
    Status register_memory(std::span<std::byte> memory, std::size_t ready) override;
    bool memory_registered() const noexcept override { return registered_ > 0 && !refused_; }
    Status register_file(File& file) override;
    void unregister_file(File& file) noexcept override;

  private:
    explicit UringEngine(const LoopOptions& options);
    void prepare_transfer(io_uring_sqe* sqe, const FileOperation& operation, int fd) noexcept;
    std::unexpected<Error> refuse(int error, std::size_t bytes);
    /// The registered buffer that holds all of the memory, or -1.
    int buffer_of(const std::byte* data, std::uint32_t length) const noexcept;

    Ring ring_;
    UringWatches watches_;
    std::span<std::byte> memory_;  ///< of which buffers are registered, or are to be
    std::size_t buffer_bytes_ = 0;
    std::size_t registered_ = 0;  ///< bytes of it, from its beginning
    bool refused_ = false;
    std::vector<int> files_;  ///< registered descriptors by fixed index; -1 is free
};

}  // namespace farswap::io
