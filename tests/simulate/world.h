// All that is simulated of one run: time, chance, processes, descriptors, stores; and the scheduler that
// picks who goes on. There is one world at a time, since system calls have no argument to carry it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "death.h"
#include "files.h"
#include "kernel.h"
#include "options.h"
#include "random.h"

namespace farswap::simulate {

class SimulatedStore;

/// A call that waits at the gate of madvise(2) until the job lets it go.
struct GateCall {
    pid_t process = 0;
    std::shared_ptr<Memory> memory;
    AddressRange range{};
    bool wipes = false;  ///< MADV_WIPEONFORK; else MADV_KEEPONFORK
    bool is_let_go = false;
};

class World {
  public:
    explicit World(const Options& options);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    /// Lets one thread go on, chosen by chance. False: none can.
    bool step();
    /// Now and then, lets a few go on in the middle of what the pager does: at each of its system calls.
    void interrupt();
    /// Ends the process in the middle of whatever its threads do.
    void kill(Process& process);
    void kill_all();

    Process& make_process(pid_t parent, std::shared_ptr<Memory> memory);
    Thread& make_thread(Process& process);
    Process* find(pid_t process);
    /// By the number of any of its threads.
    Process* find_by_thread(pid_t thread);
    Context& make_context(Memory& memory);
    /// A number that no write has had: the content that it leaves.
    std::uint64_t new_version() { return ++versions_; }
    pid_t new_number() { return ++numbers_; }

    bool any_alive() const;
    std::uint64_t pages_in_use() const;  ///< rounded up
    /// Whoever has waited for longer than anybody may.
    void check_that_all_are_served() const;

    const Options options;
    Random random;
    Death death;
    std::int64_t now = 1'000'000'000;  ///< ns
    std::uint64_t steps = 0;
    std::vector<std::unique_ptr<Process>> processes;
    std::vector<std::unique_ptr<Context>> contexts;
    std::vector<SimulatedStore*> stores;
    std::vector<std::shared_ptr<GateCall>> gate;
    Files files;
    bool winding_down = false;  ///< the program does nothing new: it looks at all that it has, and ends
    bool stopped = false;       ///< the pager has stopped the program
    std::uint64_t operations = 0, reads_checked = 0;

  private:
    std::uint64_t versions_ = 0;
    pid_t numbers_ = 1000;
};

extern World* world;

/// Ends the run: it has failed. Tells seed, step, what was wrong and what happened last.
[[noreturn]] void fail_run(const std::string& what);
/// One line of what happens; kept for the end, or printed at once if the options say so.
void trace(const std::string& line);
bool is_tracing();
/// Prints the last lines of the trace. Async-signal-safe enough for a run that ends.
void print_trace();

}  // namespace farswap::simulate
