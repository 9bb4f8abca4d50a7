// Creates the slot map's table. Knows nothing of stores.
#include "swap/slot_map.h"

namespace farswap {

Result<SlotMap> SlotMap::create(std::uint64_t slots) {
    FARSWAP_ASSERT(slots < kNoSlot);
    Result<ZeroTable<SlotEntry>> entries = ZeroTable<SlotEntry>::create(slots);
    if (!entries)
        return fail(entries.error().code, "{}: give the stores less room (?size=), or allow more (ulimit -v)",
                    entries.error().message);
    return SlotMap(std::move(*entries));
}

}  // namespace farswap
