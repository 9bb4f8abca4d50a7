// Notes signals; see setup_signals.h.
#include "cli/setup_signals.h"

#include <atomic>

namespace farswap::cli {

namespace {

std::atomic<int> first_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void note(int signal) {
    int none = 0;
    if (signal != SIGPIPE && signal != SIGXFSZ) first_signal.compare_exchange_strong(none, signal);
}

}  // namespace

SetupSignals::SetupSignals() {
    first_signal = 0;
    struct sigaction action = {};
    action.sa_handler = note;
    action.sa_flags =
        SA_RESTART;  // the layers below do not see these signals as EINTR where that can be helped
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
        ::sigaction(kSignals[i], nullptr, &before_[i]);
        if (before_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
    }
}

SetupSignals::~SetupSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
}

int SetupSignals::taken() const noexcept {
    return first_signal.load();
}

}  // namespace farswap::cli
