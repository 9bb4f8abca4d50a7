// Names a job's files on a store. Knows nothing of stores.
#pragma once

#include <string>
#include <string_view>

namespace farswap::cli {

/// "farswap-HOST-PID-RANDOM": no two are the same, and a person sees whose it is. HOST is reduced to letters,
/// digits, dots and hyphens.
std::string make_job_name();
std::string job_name(std::string_view host, int pid, unsigned random);

}  // namespace farswap::cli
