// What several stores are to each other, by their URLs.
#include "cli/store_set.h"

#include <gmock/gmock.h>

namespace farswap::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const std::vector<std::string>& urls, std::uint32_t copies) {
    const auto plan = plan_stores(urls, copies);
    return plan ? "accepted" : plan.error().message;
}

TEST(StoreSet, HasThePrioritiesOfItsUrls) {
    EXPECT_THAT(plan_stores({"file:/a?prio=5", "nfs://nas/b", "file:/c?size=1G&prio=0"}, 1).value(),
                ElementsAre(5, -1, 0));
    EXPECT_THAT(plan_stores({}, 1).value(), ElementsAre());
    EXPECT_THAT(error_of({"file:/a?prio=-1"}, 1), HasSubstr("prio=-1 has to be a number from 0 to 32767"));
    EXPECT_THAT(error_of({"file:/a?prio=32768"}, 1), HasSubstr("from 0 to 32767"));
    EXPECT_EQ(error_of({"file:/a?prio=32767"}, 1), "accepted");
    EXPECT_THAT(error_of({"file:/a?prio="}, 1), HasSubstr("prio= has to be a number"));
    EXPECT_THAT(error_of({"file:/a?prio=1&prio=1"}, 1), HasSubstr("given twice"));
    EXPECT_THAT(error_of({"file:/a", "ftp://b/c"}, 1), HasSubstr("no store of kind"));
}

TEST(StoreSet, MirrorsCountAsOne) {
    EXPECT_THAT(plan_stores({"file:/a?prio=5", "nfs://nas/b?prio=5", "file:/c", "file:/d"}, 2).value(),
                ElementsAre(5, -1));
    EXPECT_THAT(error_of({"file:/a?prio=5", "file:/b"}, 2), HasSubstr("give both the same prio="));
    EXPECT_THAT(error_of({"file:/a", "file:/a"}, 2), HasSubstr("cannot mirror itself"));
    EXPECT_EQ(error_of({"file:/a", "file:/b", "file:/a", "file:/b"}, 2), "accepted") << "a file for each";
}

}  // namespace
}  // namespace farswap::cli
