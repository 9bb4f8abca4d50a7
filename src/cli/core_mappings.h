// Which of a process's mappings a core file holds (core(5), "Controlling which mappings are written to the
// core dump").
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "target/proc.h"

namespace farswap::cli {

/// The bits of /proc/PID/coredump_filter; the kernel's default when they cannot be read.
std::uint32_t read_core_filter(pid_t process);

/// Whether the content of a mapping belongs into the core file. Of a file's mapping whose first page alone is
/// wanted (bit 4, ELF headers) it does not: debuggers have the file.
bool is_dumped(const target::MappingDetail& detail, std::uint32_t filter);

/// Private memory without a file: what a process pages, and what can be nowhere.
bool is_private_anonymous(const target::Mapping& mapping);

}  // namespace farswap::cli
