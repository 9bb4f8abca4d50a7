// The jobs that farswap top shows: finds them, asks each for its figures, makes rates of them. Knows control
// sockets, no screen.
#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/control_socket.h"

namespace farswap::cli {

struct TopStore {
    std::string name, state;
    double silent_s = 0;
    std::uint64_t capacity = 0, reserved = 0;  ///< bytes
    std::uint64_t read = 0, written = 0;       ///< bytes since the job began
    double read_rate = 0, written_rate = 0;    ///< bytes a second
};

/// What happened in the last seconds, one figure each look, the latest last.
using History = std::deque<double>;
inline constexpr std::size_t kHistoryMax = 300;
/// 0 while there is none.
inline double last(const History& history) {
    return history.empty() ? 0 : history.back();
}

/// How many faults took so long at most: microseconds and counts, ascending.
using LatencyCounts = std::map<double, std::uint64_t>;
struct Percentiles {
    double p50_us = 0, p99_us = 0;  ///< 0: there were none
};
/// Of what `now` has more than `before`.
Percentiles percentiles_between(const LatencyCounts& before, const LatencyCounts& now);

/// A job's part of what farswapd divides. Bytes.
struct TopShare {
    std::uint64_t cap = 0, wanted = 0, budget = 0;
    bool is_connected = true;
    double part() const { return budget > 0 ? static_cast<double>(cap) / static_cast<double>(budget) : 0; }
};

struct TopJob {
    pid_t pager = 0;
    pid_t process = 0;  ///< the program, or another of its processes; the pager's number if there is none
    uid_t user = 0;
    std::string user_name, program, command;
    double elapsed_s = 0;
    std::uint64_t used = 0, cap = 0, pager_ram = 0, far = 0, need = 0;  ///< bytes
    std::uint64_t pool_dirty = 0, pool_clean = 0;                       ///< bytes
    std::uint64_t faults = 0, faults_cached = 0, faults_stored = 0;     ///< since the job began
    std::uint64_t pages_in = 0, pages_written = 0, processes = 0, waited_ms = 0;
    LatencyCounts refaults;            ///< since the job began
    Percentiles latency, latency_now;  ///< of all of them, and of those between the last two looks
    double compression = 0;            ///< bytes of pages to bytes on the stores; 0: nothing was written yet
    double slots_used = 0;             ///< of all that there are, 0 to 1
    bool is_full = false;
    std::optional<TopShare> share;  ///< nothing: it runs beside a budget, or there is none
    std::vector<TopStore> stores;
    History fault_rate, in_rate, out_rate;  ///< faults and bytes a second
    bool has_rates = false;                 ///< there were two looks
    bool answers = true;                    ///< else all figures are those of its last answer
    std::optional<std::uint64_t> leaving;   ///< bytes outside, while its processes leave it
    nlohmann::json figures;                 ///< its last answer
};

/// The figures of a pager's answer; nothing if it has another form. Texts are as they came.
std::optional<TopJob> job_of(const nlohmann::json& stats);
/// Takes what a job says now over, and makes rates of it and of what it said before.
void advance(TopJob& job, TopJob now);

/// One thread. Waits for no pager longer than it is told to.
class TopJobs {
  public:
    /// Looks for jobs and asks them all. Those that have answered the last time are waited for, `patience` at
    /// most.
    void look(std::chrono::milliseconds patience);
    const std::vector<TopJob>& jobs() const { return jobs_; }

    /// Has all of a job's processes leave it; what is said about that later is its message(). Forgotten with
    /// this object: those who have not left by then stay.
    Status detach(pid_t pager);
    /// Whether some are leaving because of detach().
    bool is_detaching() const;
    /// What there is to be told since the last call; empty: nothing.
    std::string take_message() { return std::exchange(message_, {}); }

  private:
    struct Link {
        pid_t pager = 0;
        Fd socket;
        bool is_asked = false;
        bool is_gone = false;
        Fd detaching;  ///< what tells how the leaving goes on
    };
    void find();
    void ask(Link& link);
    void take_answers();
    void take_progress(Link& link, TopJob& job);
    bool is_waited_for(std::size_t index) const { return links_[index].is_asked && jobs_[index].answers; }
    void bury();

    std::vector<Link> links_;
    std::vector<TopJob> jobs_;  ///< in the order of links_
    std::string message_;
};

}  // namespace farswap::cli
