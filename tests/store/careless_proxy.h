// Stands before a real NFSv3 server and loses what a server may lose: uncommitted WRITEs when it "restarts",
// and the time at which a WRITE is executed when its connection is gone. Knows the calls' bytes as far as it
// needs, and the file that the server keeps.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace farswap::test {

/// A thread of its own; the calls may come from any other.
class CarelessProxy {
  public:
    /// Before the NFS service at the loopback port. `file`: the file on the server's disk that WRITEs go to,
    /// once it is there.
    CarelessProxy(std::uint16_t to_port, std::function<std::filesystem::path()> file);
    ~CarelessProxy();
    CarelessProxy(const CarelessProxy&) = delete;
    CarelessProxy& operator=(const CarelessProxy&) = delete;

    std::uint16_t port() const { return port_; }

    /// As a server that loses its memory: the connections break, what was not committed is overwritten with
    /// garbage (of the lease's block: what was there before), and the verifier is another one. Waits until
    /// that is done.
    void restart();
    /// Breaks the connections while WRITEs are on their way, which then are executed `late` after that. Waits
    /// until it has caught one, at most `patience`; tells how many.
    std::size_t delay_writes(std::chrono::milliseconds late, std::chrono::milliseconds patience);

    struct Counts {
        std::uint64_t restarts = 0;
        std::uint64_t lost_writes = 0;       ///< acknowledged, not committed, and overwritten
        std::uint64_t late_writes = 0;       ///< executed late
        std::uint64_t late_writes_left = 0;  ///< still to be executed
    };
    Counts counts() const;

  private:
    using Clock = std::chrono::steady_clock;
    using Bytes = std::vector<std::byte>;
    struct Call;
    struct Pair;
    struct Unsafe {
        std::uint64_t offset = 0, length = 0;
        std::uint64_t acknowledged = 0;  ///< when, as a number; 0: not yet
        Bytes before;                    ///< of the lease's block
    };
    struct Late {
        Clock::time_point due;
        Bytes record;
    };

    void run();
    int poll_all();
    void accept();
    bool read_from(Pair& pair, bool server);
    bool take_call(Pair& pair, Bytes record);
    bool take_reply(Pair& pair, Bytes record);
    void forget_committed(std::uint64_t until);
    void note_write(const Call& call);
    void settle_write(const Call& call, bool durable);
    void drain();
    void lose();
    void cut();
    void deliver_late();
    void ask(std::function<void()> what);

    const std::uint16_t to_port_;
    const std::function<std::filesystem::path()> file_;
    std::uint16_t port_ = 0;
    Fd listener_, wake_;
    std::list<std::unique_ptr<Pair>> pairs_;
    std::list<Unsafe> unsafe_;
    std::vector<Late> late_;
    bool catching_ = false;  ///< WRITEs are kept instead of forwarded
    std::vector<Bytes> caught_;
    std::uint64_t now_ = 1;  ///< numbers acknowledgements
    std::uint64_t verifier_ = 0;
    std::mt19937_64 random_{1};

    mutable std::mutex mutex_;
    std::function<void()> asked_;  ///< guarded, as are the counts
    Counts counts_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace farswap::test
