// See store_set.h.
#include "cli/store_set.h"

#include <algorithm>

#include "base/assert.h"
#include "store/mirror_store.h"
#include "store/open.h"
#include "swap/swap_area.h"

namespace farswap::cli {
namespace {

constexpr std::string_view kNone = "none";

}  // namespace

bool keeps_in_memory(const std::vector<std::string>& urls) {
    return urls.size() == 1 && urls.front() == kNone;
}

Result<std::vector<int>> plan_stores(const std::vector<std::string>& urls, std::uint32_t copies) {
    FARSWAP_ASSERT(urls.size() % copies == 0);
    if (keeps_in_memory(urls) && copies == 1) return std::vector<int>{SwapAreaOptions::kNoPriority};
    if (std::ranges::find(urls, kNone) != urls.end())
        return fail(EINVAL, "--swap none: pages stay in memory then; give no other --swap and no --mirror");
    std::vector<int> priorities;
    for (std::size_t i = 0; i < urls.size(); ++i) {
        if (auto checked = check_store_url(urls[i]); !checked) return std::unexpected(checked.error());
        const auto given = store_priority(urls[i]);
        if (!given) return std::unexpected(given.error());
        const int priority = given->value_or(SwapAreaOptions::kNoPriority);
        if (i % copies == 0) {
            priorities.push_back(priority);
        } else if (priority != priorities.back()) {
            return fail(EINVAL, "'{}' and '{}' mirror each other: give both the same prio=", urls[i - 1],
                        urls[i]);
        } else if (urls[i] == urls[i - 1]) {
            return fail(EINVAL, "'{}' cannot mirror itself: give --mirror two different stores", urls[i]);
        }
    }
    return priorities;
}

Result<std::vector<std::unique_ptr<Store>>> mirror_in_pairs(std::vector<std::unique_ptr<Store>> stores,
                                                            io::Loop& loop) {
    FARSWAP_ASSERT(stores.size() % 2 == 0);
    std::vector<std::unique_ptr<Store>> mirrors;
    for (std::size_t i = 0; i < stores.size(); i += 2) {
        auto mirror = MirrorStore::create(std::move(stores[i]), std::move(stores[i + 1]), loop);
        if (!mirror) return std::unexpected(std::move(mirror.error()));
        mirrors.push_back(std::move(*mirror));
    }
    return mirrors;
}

}  // namespace farswap::cli
