#include "base/core.h"

namespace farswap {

bool Core::leave() noexcept {
    cpu_set_t now;
    const int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(0, sizeof now, &now) != 0) return false;
    const cpu_set_t allowed = is_ours_ && CPU_EQUAL(&now, &ours_) ? allowed_ : now;
    cpu_set_t others = allowed;
    CPU_CLR(static_cast<unsigned>(here), &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return false;
    allowed_ = allowed;
    left_ = here;
    is_ours_ = sched_getaffinity(0, sizeof ours_, &ours_) == 0;
    return true;
}

bool Core::go_back() noexcept {
    cpu_set_t now, there;
    if (!is_ours_ || left_ < 0 || sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &ours_))
        return false;
    CPU_ZERO(&there);
    CPU_SET(static_cast<unsigned>(left_), &there);
    if (sched_setaffinity(0, sizeof there, &there) != 0) return false;
    ours_ = there;
    left_ = -1;
    return true;
}

void Core::be_anywhere() noexcept {
    cpu_set_t now;
    if (!is_ours_ || sched_getaffinity(0, sizeof now, &now) != 0) return;
    is_ours_ = false;
    if (CPU_EQUAL(&now, &ours_)) sched_setaffinity(0, sizeof allowed_, &allowed_);
}

}  // namespace farswap
