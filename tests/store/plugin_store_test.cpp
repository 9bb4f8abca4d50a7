// A store from outside, by the example that people copy: examples/own_store.cpp.
#include <gmock/gmock.h>

#include "store_fixture.h"

namespace farswap {
namespace {

using ::testing::HasSubstr;

class PluginStoreTest : public ::testing::Test {
  protected:
    PluginStoreTest() : loop_(io::Loop::create().value()), folder_(make_folder()) {}
    ~PluginStoreTest() override { std::filesystem::remove_all(folder_); }

    static std::filesystem::path make_folder() {
        std::string name = "/var/tmp/farswap-plugin-test-XXXXXX";
        return ::mkdtemp(name.data());
    }
    std::string pages() const { return folder_ / "pages"; }
    std::string url(std::string_view size = "4M", std::string_view more = "") const {
        return "plugin:" FARSWAP_OWN_STORE "?size=" + std::string(size) + "&path=" + pages() +
               std::string(more);
    }
    std::unique_ptr<Store> open() {
        auto store = open_store(url(), {}, *loop_);
        EXPECT_TRUE(store) << store.error().message;
        return store ? std::move(*store) : nullptr;
    }
    std::string refusal(const std::string& text) {
        const auto store = open_store(text, {}, *loop_);
        return store ? "it was opened" : store.error().message;
    }
    template <typename T>
    void wait(const T& operation) {
        while (operation.completions == 0) loop_->run_once(std::chrono::seconds(10));
        EXPECT_EQ(operation.completions, 1);
    }

    std::unique_ptr<io::Loop> loop_;
    std::filesystem::path folder_;
};

TEST_F(PluginStoreTest, KeepsWhatIsWritten) {
    const auto store = open();
    ASSERT_TRUE(store);
    EXPECT_EQ(store->capacity(), 4u << 20);
    EXPECT_THAT(store->name(), HasSubstr("own store"));
    Memory out(1 << 20), in(1 << 20);
    out.fill(3);
    Transfer write(WRITE, 1 << 20, out);
    store->submit(write);
    EXPECT_EQ(write.completions, 0) << "never from inside submit()";
    wait(write);
    EXPECT_EQ(write.result, 1 << 20);
    Flush flush;
    store->flush(flush);
    wait(flush);
    EXPECT_EQ(flush.result, 0);
    Transfer read(READ, 1 << 20, in);
    store->submit(read);
    wait(read);
    EXPECT_EQ(read.result, 1 << 20);
    EXPECT_TRUE(in.same_as(out));
    EXPECT_EQ(store->counters().bytes_written, 1u << 20);
    EXPECT_EQ(store->counters().flushes, 1u);
    Reserve fits(4 << 20), does_not(5 << 20);
    store->reserve(fits);
    store->reserve(does_not);
    EXPECT_EQ(fits.completions, 0) << "never from inside reserve()";
    wait(fits);
    wait(does_not);
    EXPECT_EQ(fits.result, 0);
    EXPECT_EQ(does_not.result, -ENOSPC);
    store->close();
    EXPECT_FALSE(std::filesystem::exists(pages()));
}

// Results come from its thread while the loop's submits more: none is lost, none comes twice.
TEST_F(PluginStoreTest, CompletesEachOfManyOnce) {
    const auto store = open();
    ASSERT_TRUE(store);
    constexpr std::size_t kPages = 1024;
    Memory out(kPages * kPageSize), in(kPages * kPageSize);
    out.fill(1);
    for (const std::uint32_t op : {WRITE, READ}) {
        std::vector<std::unique_ptr<Transfer>> transfers;
        const Memory& memory = op == WRITE ? out : in;
        for (std::size_t page = 0; page < kPages; ++page) {
            const std::size_t at = page * kPageSize;
            transfers.push_back(std::make_unique<Transfer>(op, at, memory.data() + at, kPageSize));
            store->submit(*transfers.back());
            if (page % 64 == 0) loop_->run_once(std::chrono::nanoseconds(0));
        }
        for (const auto& transfer : transfers) {
            wait(*transfer);
            EXPECT_EQ(transfer->result, static_cast<int>(kPageSize));
        }
    }
    EXPECT_TRUE(in.same_as(out));
    store->close();
}

TEST_F(PluginStoreTest, RefusesBadRequestsBeforeTheStoreSeesThem) {
    const auto store = open();
    ASSERT_TRUE(store);
    Memory memory(kPageSize);
    Transfer unpinned(KERNEL_WRITE, 0, memory), outside(WRITE, 4 << 20, memory),
        wraps(READ, ~0ull - 10, memory);
    for (Transfer* transfer : {&unpinned, &outside, &wraps}) {
        store->submit(*transfer);
        EXPECT_EQ(transfer->completions, 0);
        wait(*transfer);
        EXPECT_EQ(transfer->result, -EINVAL);
    }
    EXPECT_EQ(store->counters().reads + store->counters().writes, 0u);
    store->close();
}

TEST_F(PluginStoreTest, SaysWhatIsWrong) {
    EXPECT_THAT(refusal("plugin:/nowhere/x.so?size=1G"), HasSubstr("cannot load it"));
    EXPECT_THAT(refusal("plugin:/lib/x86_64-linux-gnu/libm.so.6?size=1G"), HasSubstr("it is no store"));
    EXPECT_THAT(refusal("plugin:x.so?size=1G"), HasSubstr("begins with /"));
    EXPECT_THAT(refusal("plugin://host/x.so?size=1G"), HasSubstr("names no host"));
    EXPECT_THAT(refusal("plugin:" FARSWAP_OWN_STORE), HasSubstr("?size="));
    EXPECT_THAT(refusal("plugin:" FARSWAP_OWN_STORE "?size=4M"), HasSubstr("name a file"));
    EXPECT_THAT(refusal(url("4M", "&colour=red")), HasSubstr("does not know colour="));
    EXPECT_FALSE(std::filesystem::exists(pages()));
    EXPECT_TRUE(check_store_url(url("4M", "&prio=7")));
    EXPECT_FALSE(check_store_url("plugin:/x.so"));
    const auto first = open();
    ASSERT_TRUE(first);
    EXPECT_THAT(refusal(url()), HasSubstr("File exists"));
    first->close();
}

}  // namespace
}  // namespace farswap
