#include "cli/core_notes.h"

#include <elf.h>
#include <sys/procfs.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "cli/elf_core.h"
#include "cli/memory_limit.h"
#include "farswap/request.h"
#include "target/proc.h"

namespace farswap::cli {
namespace {

constexpr std::string_view kCore = "CORE", kLinux = "LINUX";

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

void append_thread(std::string& notes, const target::StoppedThread& thread) {
    elf_prstatus status{};
    status.pr_pid = thread.thread;
    status.pr_fpvalid = thread.floating.empty() ? 0 : 1;
    std::memcpy(&status.pr_reg, thread.general.data(), std::min(thread.general.size(), sizeof status.pr_reg));
    append_note(notes, kCore, NT_PRSTATUS, bytes_of(status));
    if (!thread.floating.empty()) append_note(notes, kCore, NT_PRFPREG, thread.floating);
    if (!thread.extended.empty()) append_note(notes, kLinux, NT_X86_XSTATE, thread.extended);
}

void append_program(std::string& notes, pid_t process) {
    elf_prpsinfo info{};
    info.pr_pid = process;
    info.pr_ppid = target::read_parent(process);
    info.pr_sname = target::read_state(process);
    info.pr_uid = target::read_user(process).value_or(0);
    target::read_name(process).copy(info.pr_fname, sizeof info.pr_fname - 1);
    std::string words = read_text_file(fmt::format("/proc/{}/cmdline", process)).value_or("");
    std::ranges::replace(words, '\0', ' ');
    words.copy(info.pr_psargs, sizeof info.pr_psargs - 1);
    append_note(notes, kCore, NT_PRPSINFO, bytes_of(info));
    const std::string vector = read_text_file(fmt::format("/proc/{}/auxv", process)).value_or("");
    append_note(notes, kCore, NT_AUXV, std::as_bytes(std::span(vector)));
}

/// The form of NT_FILE, from fs/binfmt_elf.c: two numbers, three for each mapping, then the names.
Status append_files(std::string& notes, pid_t process) {
    std::vector<std::uint64_t> numbers{0, kPageSize};
    std::string names;
    auto visited = target::for_each_mapping(process, [&](const target::Mapping& mapping) {
        if (mapping.inode == 0 || !mapping.name.starts_with('/')) return;
        numbers.insert(numbers.end(), {mapping.start, mapping.end, mapping.offset / kPageSize});
        names.append(mapping.name).push_back('\0');
        numbers[0]++;
    });
    if (!visited) return visited;
    const auto table = std::as_bytes(std::span(numbers));
    std::vector<std::byte> content(table.begin(), table.end());
    const auto text = std::as_bytes(std::span(names));
    content.insert(content.end(), text.begin(), text.end());
    append_note(notes, kCore, NT_FILE, content);
    return {};
}

}  // namespace

Result<std::string> core_notes(pid_t process, std::span<const target::StoppedThread> threads) {
    std::string notes;
    bool is_first = true;
    for (const target::StoppedThread& thread : threads) {
        if (!thread.is_stopped) continue;
        append_thread(notes, thread);
        if (std::exchange(is_first, false)) append_program(notes, process);
    }
    if (is_first) append_program(notes, process);
    if (auto files = append_files(notes, process); !files) return std::unexpected(files.error());
    return notes;
}

}  // namespace farswap::cli
