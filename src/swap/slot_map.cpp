// Creates the slot map's table. Knows nothing of stores.
#include "swap/slot_map.h"

namespace farswap {

Result<SlotMap> SlotMap::create(std::uint64_t slots) {
    FARSWAP_ASSERT(slots < kNoSlot);
    Result<ZeroTable<SlotEntry>> entries = ZeroTable<SlotEntry>::create(slots);
    if (!entries) return std::unexpected(std::move(entries.error()));
    return SlotMap(std::move(*entries));
}

}  // namespace farswap
