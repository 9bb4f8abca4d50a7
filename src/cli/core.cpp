#include "cli/core.h"

#include <elf.h>
#include <unistd.h>

#include <vector>

#include "base/log.h"
#include "cli/core_file.h"
#include "cli/core_mappings.h"
#include "cli/core_memory.h"
#include "cli/core_notes.h"
#include "cli/elf_core.h"
#include "cli/outside_memory.h"
#include "cli/progress.h"
#include "cli/setup_signals.h"
#include "cli/sizes.h"
#include "target/stopped_threads.h"

namespace farswap::cli {
namespace {

constexpr int kStopLimitMs = 10'000;

struct Segment {
    CoreSegment form;
    bool is_anonymous = false;
};

std::uint32_t segment_flags(const target::Mapping& mapping) {
    return (mapping.permissions[0] == 'r' ? PF_R : 0u) | (mapping.permissions[1] == 'w' ? PF_W : 0u) |
           (mapping.permissions[2] == 'x' ? PF_X : 0u);
}

/// What of the process goes into the file; not the agent's memory.
Result<std::vector<Segment>> choose_segments(pid_t process, OutsideMemory& far, CoreMemory& memory) {
    std::vector<Segment> segments;
    const std::uint32_t filter = read_core_filter(process);
    const target::AddressRange& agent = far.agent_memory();
    auto visited = target::for_each_mapping_detail(process, [&](const target::MappingDetail& detail) {
        const target::Mapping& mapping = detail.mapping;
        if (mapping.start < agent.end && mapping.end > agent.start) return;
        segments.push_back({{mapping.start, mapping.end, segment_flags(mapping), is_dumped(detail, filter)},
                            is_private_anonymous(mapping)});
    });
    if (!visited) return std::unexpected(visited.error());
    for (Segment& segment : segments) {
        // Address space that a program has only reserved can be larger than any disk.
        if (!segment.form.has_content || !segment.is_anonymous) continue;
        auto any = memory.has_any({segment.form.start, segment.form.end});
        if (!any) return std::unexpected(any.error());
        segment.form.has_content = *any;
    }
    return segments;
}

/// One core file in the making.
class Dump {
  public:
    Dump(CoreFile& file, const SetupSignals& signals) : file_(file), signals_(signals) {}

    Status write(pid_t process, OutsideMemory& far, std::span<const target::StoppedThread> threads) {
        auto memory = CoreMemory::open(process, far);
        if (!memory) return std::unexpected(memory.error());
        auto segments = choose_segments(process, far, *memory);
        if (!segments) return std::unexpected(segments.error());
        auto notes = core_notes(process, threads);
        if (!notes) return std::unexpected(notes.error());
        std::vector<CoreSegment> forms;
        for (const Segment& segment : *segments) forms.push_back(segment.form);
        auto head = core_head(*notes, forms);
        if (!head) return std::unexpected(head.error());
        for (const CoreSegment& form : forms) progress_.all += form.has_content ? form.end - form.start : 0;
        if (auto put = file_.write(std::as_bytes(std::span(*head))); !put) return put;
        for (const Segment& segment : *segments) {
            if (!segment.form.has_content) continue;
            const target::AddressRange range{segment.form.start, segment.form.end};
            auto put = segment.is_anonymous ? memory->read_anonymous(range, sink_)
                                            : memory->read_mapped(range, sink_);
            if (!put) return put;
        }
        return {};
    }

  private:
    /// Counts what was written; EINTR when a signal has come.
    Status count(std::uint64_t bytes) {
        progress_.add(bytes);
        if (signals_.taken() != 0) return fail(EINTR, "interrupted");
        return {};
    }

    CoreFile& file_;
    const SetupSignals& signals_;
    Progress progress_{"written"};
    CoreMemory::Sink sink_{.content = [this](std::span<const std::byte> content) -> Status {
                               if (auto put = file_.write(content); !put) return put;
                               return count(content.size());
                           },
                           .zeros = [this](std::uint64_t bytes) -> Status {
                               if (auto put = file_.write_zeros(bytes); !put) return put;
                               return count(bytes);
                           }};
};

Status dump(pid_t process, const std::string& path, const SetupSignals& signals) {
    auto far = OutsideMemory::open(process, [&signals] { return signals.taken() != 0; });
    if (!far && far.error().code == ENOENT)
        return fail(ENOENT, "{}; for others there is gcore", far.error().message);
    if (!far) return std::unexpected(far.error());
    if (auto held = far->hold(); !held) return held;
    auto file = CoreFile::create(path, [&signals] { return signals.taken() != 0; });
    if (!file) return std::unexpected(file.error());
    const auto stopped = target::StoppedThreads::stop(process, far->agent(), kStopLimitMs);
    if (!stopped) return std::unexpected(stopped.error());
    for (const auto& thread : stopped->threads()) {
        if (!thread.is_stopped)
            log::warning("thread {} sleeps in the kernel and does not stop: its registers are missing",
                         thread.thread);
    }
    if (auto put = Dump(*file, signals).write(process, *far, stopped->threads()); !put) return put;
    // What a process has that is killed meanwhile reads as nothing at all, like a guard.
    if (target::living_task(process) == 0) return fail(ESRCH, "process {} has ended meanwhile", process);
    return file->keep();
}

}  // namespace

Ending core_command(const CoreOptions& options) {
    const SetupSignals signals;
    const std::string path =
        options.output.empty() ? fmt::format("core.{}", options.process) : options.output;
    if (path == "-" && isatty(STDOUT_FILENO) == 1) {
        log::write_line(
            "a core file on a terminal helps nobody: redirect standard output, or name a file with -o");
        return {kExitUsage, 0};
    }
    if (target::read_state(options.process) == '\0') {
        log::write_line(fmt::format("there is no process {}", options.process));
        return {kExitFailure, 0};
    }
    const Status done = dump(options.process, path, signals);
    if (const int signal = signals.taken(); !done && signal != 0) return {128 + signal, signal};
    if (!done) {
        log::write_line(done.error().message);
        return {kExitFailure, 0};
    }
    return {0, 0};
}

}  // namespace farswap::cli
