// Signals that reach farswap while it prepares or cleans up, so that nothing is left behind. Knows nothing of
// pages.
#pragma once

#include <signal.h>

#include <array>

namespace farswap::cli {

/// While one lives, SIGINT, SIGTERM, SIGHUP and SIGQUIT are only noted, and SIGPIPE and SIGXFSZ
/// (RLIMIT_FSIZE, which counts for the pool's memory file too) do nothing: the call that caused them says
/// what is wrong. Signals that were ignored stay ignored (nohup). Handlers, not a mask and not SIG_IGN: exec
/// gives the program the default actions back by itself. One at a time, made and destroyed by the main
/// thread.
class SetupSignals {
  public:
    SetupSignals();
    ~SetupSignals();
    SetupSignals(const SetupSignals&) = delete;
    SetupSignals& operator=(const SetupSignals&) = delete;

    /// The first signal that has arrived, or 0.
    int taken() const noexcept;

  private:
    static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ};
    std::array<struct sigaction, kSignals.size()> before_{};
};

}  // namespace farswap::cli
