// The engine on epoll(7), for machines that refuse io_uring: readiness by epoll, file operations by threads.
// Knows nothing of requests.
#pragma once

#include <sys/epoll.h>

#include <vector>

#include "base/fd.h"
#include "io/engine.h"
#include "io/file_workers.h"

namespace farswap::io {

class EpollEngine final : public Engine {
  public:
    static Result<std::unique_ptr<Engine>> make(const LoopOptions& options);

    EngineKind kind() const noexcept override { return EngineKind::kEpoll; }
    bool begin(std::uint32_t index, const FileOperation& operation) noexcept override;
    bool cancel(std::uint32_t index) noexcept override;
    void add(Watch& watch) noexcept override;
    void modify(Watch& watch, std::uint32_t events) noexcept override;
    void remove(Watch& watch) noexcept override;
    void wait(std::chrono::nanoseconds timeout) noexcept override;
    bool has_news() noexcept override;
    int collect(Listener& listener) noexcept override;
    void drain(Listener& listener, std::chrono::nanoseconds timeout) noexcept override;
    Status register_memory(std::span<std::byte>, std::size_t) override { return {}; }
    bool memory_registered() const noexcept override { return false; }
    Status register_file(File&) override { return {}; }
    void unregister_file(File&) noexcept override {}

  private:
    struct Entry {
        Watch* watch = nullptr;        ///< null: free
        std::uint32_t generation = 0;  ///< counts the watches that have had this place
        std::uint32_t constant = 0;    ///< what epoll cannot watch is ready for this at all times; 0: it can
    };

    explicit EpollEngine(const LoopOptions& options);
    void set(Watch& watch, int operation) noexcept;
    void set_constant(Entry& entry, std::uint32_t events) noexcept;
    bool call(Entry& entry, std::uint32_t events) noexcept;
    int call_constant() noexcept;

    Fd epoll_;
    std::vector<Entry> table_;
    std::vector<std::uint32_t> free_;
    std::vector<epoll_event> events_;  ///< found by the last wait(); `found_` of them
    std::uint32_t found_ = 0;
    std::uint32_t constant_ = 0;  ///< entries that epoll cannot watch
    bool waits_in_ns_ = true;     ///< epoll_pwait2(2) is permitted
    FileWorkers workers_;
};

}  // namespace farswap::io
