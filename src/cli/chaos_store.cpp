#include "cli/chaos_store.h"

#include <limits>
#include <random>

#include "store/fault_store.h"

namespace farswap::cli {

std::unique_ptr<Store> make_chaotic(std::unique_ptr<Store> store, io::Loop& loop) {
    using On = Fault::On;
    using Effect = Fault::Effect;
    auto chaotic = std::make_unique<FaultStore>(std::move(store), loop, std::random_device{}());
    chaotic->hold_writes_until_flush();
    const auto always = std::numeric_limits<std::uint64_t>::max();
    for (const On on : {On::kRead, On::kWrite}) {
        chaotic->inject({.on = on, .effect = Effect::kDelay, .times = always, .probability = 0.1});
        chaotic->inject({.on = on, .effect = Effect::kError, .times = always, .probability = 0.01});
        chaotic->inject(
            {.on = on, .effect = Effect::kShort, .times = always, .probability = 0.01, .error = -ETIMEDOUT});
    }
    chaotic->inject({.on = On::kFlush, .effect = Effect::kDelay, .times = always, .probability = 0.2});
    chaotic->inject(
        {.on = On::kFlush, .effect = Effect::kError, .times = always, .probability = 0.02, .error = -ESTALE});
    return chaotic;
}

}  // namespace farswap::cli
