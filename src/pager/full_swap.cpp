// All slots are in use: who goes on, who waits, and what is said.
#include <algorithm>
#include <cerrno>
#include <string>

#include "base/log.h"
#include "base/no_allocation.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kSlotsAtOnce = 64;
constexpr std::chrono::minutes kSayAgain{1};
constexpr std::chrono::seconds kAskStoresAgain{2};
constexpr std::size_t kStoresNamedMax = 4;

/// How much there is, and where: so that it can be told which of several is to be made larger.
std::string capacity_of(const SwapArea& area) {
    std::string text = fmt::format("{} MiB", area.slots_capacity() * kPageSize >> 20);
    if (area.keeps_in_memory()) return text;
    const auto& stores = area.stores();
    for (std::size_t i = 0; i < std::min(stores.size(), kStoresNamedMax); i++)
        text += fmt::format("{}{}", i == 0 ? " on " : ", ", stores[i]->name());
    if (stores.size() > kStoresNamedMax) text += fmt::format(" and {} more", stores.size() - kStoresNamedMax);
    return text;
}

}  // namespace

/// No slot is left for what should leave: kept ones are given up, however many have to be looked at; with
/// none of them left either, the job waits or is stopped.
void Pager::swap_is_full() {
    if (give_up_slots(kSlotsAtOnce, ~0u) > 0) return arm_retry();
    full_ = true;
    if (waits_when_full_) {
        const auto now = io::Clock::now();
        if (now >= stores_asked_next_) {
            stores_asked_next_ = now + kAskStoresAgain;
            area_.try_to_grow();
        }
        if (now < full_said_next_) return;
        full_said_next_ = now + kSayAgain;
        const MayAllocate message("once a minute, while nothing can leave");
        log::warning(
            "swap is full ({}): the program waits until some of its memory is freed, or the store "
            "has room again",
            capacity_of(area_));
    } else {
        const MayAllocate message("the job is about to end");
        stop_for(ENOSPC, "swap is full ({}): the program was stopped; give it {}", capacity_of(area_),
                 area_.keeps_in_memory() ? "more --ram, or a store (--swap URL)"
                                         : "a larger store (?size=) or a second --swap");
    }
}

/// With swap full, a far page that comes back, although the cap is reached, frees the slot by which another
/// page can leave.
void Pager::trade_places() {
    const std::size_t fault = waiting_.find_if([this](const WaitingFault& waiting) {
        const PageWord word = waiting.process->pages->get(waiting.address);
        return !waiting.process->gone && word.is_far() && !word.fetching() && area_.count(word.value()) == 1;
    });
    if (fault == waiting_.size()) return;
    WaitingFault chosen = waiting_[fault];
    waiting_.erase(fault);
    full_ = false;  // until the next page that should leave finds no slot
    budget_.allow_overdraft(true);
    const Served served = serve_again(chosen);
    budget_.allow_overdraft(false);
    if (served != Served::kDone) waiting_.push_back(chosen);
}

/// Lets one waiting fault have its page although the cap is reached and nothing can leave: of the process
/// that has had the fewest in this way. Who frees memory often needs a few pages of it first, and would wait
/// for ever behind those who need many. False: nobody waits who may have one.
bool Pager::admit_one_waiting_fault() {
    if (waiting_.empty()) return false;
    std::size_t fault = 0;
    for (std::size_t i = 1; i < waiting_.size(); i++)
        if (waiting_[i].process->admitted < waiting_[fault].process->admitted) fault = i;
    WaitingFault chosen = waiting_[fault];
    // Half of what is left stays for those who have not asked yet.
    if (full_ && budget_.used() + chosen.process->admitted * kPageSize >= budget_.hard_limit()) return false;
    waiting_.erase(fault);
    if (chosen.process->gone) return true;
    budget_.allow_overdraft(true);
    const Served served = serve_again(chosen);
    budget_.allow_overdraft(false);
    if (served == Served::kDone)
        chosen.process->admitted++;
    else
        waiting_.push_back(chosen);
    return true;
}

}  // namespace farswap
