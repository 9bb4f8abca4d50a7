// Samples and walks; see recorder.h.
#include "pager/recorder.h"

#include <algorithm>
#include <utility>

#include "pager/job.h"
#include "pager/process.h"

namespace farswap {
namespace {

// Between two looks at the names: an eighth of the job's time so far, within these.
constexpr std::chrono::milliseconds kNamesPeriodMin{200}, kNamesPeriodMax{2000};
constexpr std::size_t kNamedProcessesMax = 4;  // whose maps are read for names
constexpr std::size_t kNamesLookedAtMax = 4096;
constexpr std::chrono::microseconds kWalkTime{300};
constexpr std::uint64_t kWalkBytes = 16u << 20;  // of addresses, between two looks at the clock
// A mapping that is so many times larger than all that the job ever used is mostly empty.
constexpr std::uint64_t kSparse = 4;

/// What a mapping is called by: its file, "[heap]", "[anon:name]", or what it is for.
std::string_view name_of(const target::Mapping& mapping) {
    return mapping.name.empty() ? std::string_view("anonymous") : mapping.name;
}

}  // namespace

void Recorder::look(const JobStats& stats, const std::vector<std::unique_ptr<Process>>& processes) {
    Regions& regions = recording_.regions;
    sample(stats);
    regions.make_room();
    regions.begin_mapped();
    for (const auto& process : processes) {
        if (process->gone) continue;
        for (const auto& range : process->target->registered().ranges()) {
            const bool is_sparse = range.end - range.start > kSparse * stats.need_peak;
            regions.note_mapped(range.start, range.end, is_sparse);
        }
    }
    walk(processes);
    if (const auto now = io::Clock::now(); !regions.empty() && now >= next_names_) {
        const std::chrono::milliseconds eighth(static_cast<std::int64_t>(stats.elapsed_s * 1000 / 8));
        next_names_ = now + std::clamp(eighth, kNamesPeriodMin, kNamesPeriodMax);
        look_at_names(processes);
    }
    regions.end_stretch(static_cast<std::uint64_t>(stats.elapsed_s * 1000));
}

/// Nothing is in RAM or far any more: what was, at the last look, is what there is to be shown.
void Recorder::finish(const JobStats& stats) {
    JobStats end = stats;
    if (last_.cap_bytes > 0) {
        end.ram_now = last_.ram_bytes;
        end.far_pages = last_.far_pages;
        end.swap.frames_dirty = last_.dirty_frames;
        end.swap.frames_clean = last_.clean_frames;
    }
    sample(end);
    recording_.history.finish();
    recording_.regions.end_stretch(static_cast<std::uint64_t>(stats.elapsed_s * 1000));
    recording_.regions.finish();
}

void Recorder::sample(const JobStats& stats) {
    HistorySample now{.at_ms = static_cast<std::uint64_t>(stats.elapsed_s * 1000),
                      .ram_bytes = stats.ram_now,
                      .cap_bytes = stats.ram_cap,
                      .pager_bytes = stats.pager_ram,
                      .far_pages = stats.far_pages,
                      .dirty_frames = stats.swap.frames_dirty,
                      .clean_frames = stats.swap.frames_clean,
                      .faults = stats.faults,
                      .first_touches = stats.faults_first,
                      .second_chances = stats.second_chances,
                      .cached = stats.faults_cached,
                      .stored = stats.faults_stored,
                      .prefetched = stats.prefetched,
                      .evicted = stats.pages_evicted,
                      .written = stats.swap.pages_written,
                      .read = stats.swap.pages_in};
    for (std::size_t kind = 0; kind < kFaultKinds; kind++)
        now.waited_ns[kind] = stats.latencies.kinds[kind].sum();
    recording_.history.add(now, stats.latencies);
    last_ = now;
}

/// Goes on through the page tables where the last look stopped. Processes that come and go in the middle of a
/// pass make it a little wrong, until the next.
void Recorder::walk(const std::vector<std::unique_ptr<Process>>& processes) {
    Regions& regions = recording_.regions;
    const auto stop_at = io::Clock::now() + kWalkTime;
    if (!std::exchange(in_pass_, true)) regions.begin_pass();
    for (; process_ < processes.size(); process_++, address_ = 0) {
        const Process& process = *processes[process_];
        if (process.gone) continue;
        for (const auto& range : process.target->registered().ranges()) {
            while (address_ < range.end) {
                const std::uint64_t start = std::max(address_, range.start);
                address_ = std::min(range.end, start + kWalkBytes);
                process.pages->for_each(start, address_, [&](std::uint64_t at, PageWord word) {
                    if (word.is_far()) regions.note_far(at);
                });
                if (io::Clock::now() >= stop_at) return;
            }
        }
    }
    regions.end_pass();
    in_pass_ = false;
    process_ = 0;
    address_ = 0;
}

void Recorder::look_at_names(const std::vector<std::unique_ptr<Process>>& processes) {
    recording_.regions.begin_names();
    std::size_t looked = 0, mappings = 0;
    for (const auto& process : processes) {
        if (process->gone || (*process)->process() == 0 || ++looked > kNamedProcessesMax) continue;
        // One that is gone by now has no names.
        (void)target::for_each_mapping((*process)->task(), [&](const target::Mapping& mapping) {
            if (mapping.permissions[1] == 'w' && mapping.permissions[3] == 'p' &&
                ++mappings <= kNamesLookedAtMax)
                recording_.regions.note_name(mapping.start, mapping.end, name_of(mapping));
        });
    }
}

}  // namespace farswap
