// The job of a simulated run: gives processes to the real pager, measures, and looks after all that must
// hold. What src/pager/members.cpp and job.cpp decide by /proc and clocks is done here by the simulation's
// own lights.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "pager/budget.h"
#include "pager/pager.h"
#include "pager/pool_warmup.h"
#include "swap/swap_area.h"
#include "world.h"

namespace farswap::simulate {

class SimulatedJob {
  public:
    SimulatedJob();
    ~SimulatedJob();
    SimulatedJob(const SimulatedJob&) = delete;
    SimulatedJob& operator=(const SimulatedJob&) = delete;

    /// From the first step to the last check.
    void run();
    /// How it ended: what stopped the program, if anything did.
    const std::optional<Error>& stopped_by() const { return stopped_by_; }
    const SwapArea& area() const { return *area_; }
    const JobStats& stats() const { return stats_; }

  private:
    void make_area();
    void stop_for(const Error& why);
    void poll();
    void measure();
    void look_at(simulate::Process& process);
    void step_departures();
    void let_calls_go();
    bool deal_with(GateCall& call);
    void put_agent_in(simulate::Process& process);
    void hand_agents_over();
    void hold_copies();
    void admit_the_stuck();
    void disturb();
    void check_counts();
    void check_seals();
    void check_ram();
    void give_up_if_crowded();
    std::uint64_t pages_that_could_leave() const;
    void check_the_end();
    farswap::Process* owner_of(const simulate::Process& process) const;

    struct Ready {
        pid_t process;
        std::uint64_t program;
        target::Agent agent;
        farswap::Process* child;  ///< null: a process of its own
    };

    /// Let go of, but for its agent's mappings.
    struct Ejection {
        pid_t process;
        std::uint64_t program;
        std::vector<target::AddressRange> ranges;
    };
    bool eject(const Ejection& ejection);

    JobStats stats_;
    std::unique_ptr<io::Loop> loop_;
    std::unique_ptr<Pool> pool_;
    std::vector<SimulatedStore*> simulated_;
    std::unique_ptr<SwapArea> area_;
    Budget budget_;
    std::optional<PoolWarmup> warmup_;
    std::unique_ptr<Pager> pager_;
    io::Timer poll_timer_;
    std::map<pid_t, farswap::Process*> owners_;
    std::vector<Ready> ready_;
    std::uint64_t leave_at_ = ~std::uint64_t{0};  ///< step from which all are let go
    std::set<pid_t> left_;
    std::vector<Ejection> ejecting_;
    std::optional<Error> stopped_by_;
    std::uint64_t polls_ = 0;
    std::uint64_t disturbed_at_ = 0, checked_at_ = 0;  ///< steps
    std::uint64_t shared_bytes_ = 0;
    std::uint32_t born_ = 0, epoch_ = 0;  ///< at the last look
    std::uint64_t ram_level_ = 0;         ///< bytes; as check_ram() has left it
    std::chrono::nanoseconds crowded_for_{};
    io::Clock::time_point looked_at_{};
};

}  // namespace farswap::simulate
