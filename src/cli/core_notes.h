// What a core file says of a process besides its memory: threads with their registers, the program's name,
// its files.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>

#include "target/stopped_threads.h"

namespace farswap::cli {

/// The notes that the kernel's own core files have and debuggers read: NT_PRSTATUS, NT_PRFPREG and
/// NT_X86_XSTATE of each thread that has registers, NT_PRPSINFO, NT_AUXV and NT_FILE. The first thread is the
/// one that a debugger shows first. ESRCH: the process has ended.
Result<std::string> core_notes(pid_t process, std::span<const target::StoppedThread> threads);

}  // namespace farswap::cli
