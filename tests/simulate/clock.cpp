// The clock of the whole program is the simulation's: this definition takes the place of libstdc++'s when the
// program is linked, so that the product needs no seam for it.
#include <chrono>

#include "base/no_allocation.h"
#include "world.h"

namespace std::chrono {
inline namespace _V2 {

steady_clock::time_point steady_clock::now() noexcept {
    if (farswap::simulate::world == nullptr) return {};
    const farswap::MayAllocate simulated("the others go on");
    farswap::simulate::world->death.may_come();
    return time_point(duration(farswap::simulate::world->now));
}

}  // namespace _V2
}  // namespace std::chrono
