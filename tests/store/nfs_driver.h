// Drives a store from a test: submits, runs the loop until the answers are there. Knows the Store contract.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "farswap/store.h"
#include "io/loop.h"
#include "store/nfs_store.h"

namespace farswap::test {

using namespace std::chrono_literals;

/// Content that tells its place and version.
inline std::vector<std::byte> pattern(std::uint64_t offset, std::size_t size, std::uint64_t version = 0) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        const std::uint64_t at = offset + i,
                            word = (at / 8 + 1) * 0x9e3779b97f4a7c15u + version * 0xc2b2ae3d27d4eb4fu;
        bytes[i] = static_cast<std::byte>(word >> (8 * (at % 8)));
    }
    return bytes;
}

/// A request of the test's own that remembers its answer.
struct Transfer : Request {
    std::vector<std::byte> memory;
    bool completed = false;
    int result = 0;

    Transfer(std::uint32_t direction, std::uint64_t at, std::vector<std::byte> bytes,
             std::chrono::milliseconds limit = {})
        : memory(std::move(bytes)) {
        op = direction;
        offset = at;
        data = memory.data();
        length = static_cast<std::uint32_t>(memory.size());
        timeout = limit;
        complete = [](Request& request, int answer) {
            auto& self = static_cast<Transfer&>(request);
            EXPECT_FALSE(self.completed) << "completed twice";
            self.completed = true;
            self.result = answer;
        };
    }
};

struct Driver {
    std::unique_ptr<io::Loop> loop = std::move(io::Loop::create().value());

    Result<std::unique_ptr<Store>> open(const std::string& url, const std::string& job = "farswap-test") {
        return open_nfs_store(parse_url(url).value(), {.size_default = 0, .job = job}, *loop);
    }

    /// False after 90 s, three times what a server that does not know the file any more is asked for: the
    /// test has failed.
    template <typename Condition>
    [[nodiscard]] bool run_until(Condition condition) {
        const auto end = io::Clock::now() + 90s;
        while (!condition() && io::Clock::now() < end) loop->run_once(100ms);
        return condition();
    }
    int finish(Transfer& transfer) {
        EXPECT_TRUE(run_until([&] { return transfer.completed; }));
        return transfer.result;
    }
    int write(Store& store, std::uint64_t offset, std::vector<std::byte> bytes) {
        Transfer transfer(WRITE, offset, std::move(bytes));
        store.submit(transfer);
        return finish(transfer);
    }
    std::vector<std::byte> read(Store& store, std::uint64_t offset, std::size_t size) {
        Transfer transfer(READ, offset, std::vector<std::byte>(size));
        store.submit(transfer);
        EXPECT_EQ(finish(transfer), static_cast<int>(size));
        return transfer.memory;
    }
    int flush(Store& store, std::chrono::milliseconds timeout = {}) {
        FlushRequest flush;
        int answer = 1;
        flush.timeout = timeout;
        flush.owner = &answer;
        flush.complete = [](FlushRequest& done, int result) { *static_cast<int*>(done.owner) = result; };
        store.flush(flush);
        EXPECT_EQ(answer, 1) << "answered from inside flush()";
        EXPECT_TRUE(run_until([&] { return answer != 1; }));
        return answer;
    }
    int reserve(Store& store, std::uint64_t bytes) {
        ReserveRequest reserve;
        int answer = 1;
        reserve.bytes = bytes;
        reserve.owner = &answer;
        reserve.complete = [](ReserveRequest& done, int result) { *static_cast<int*>(done.owner) = result; };
        store.reserve(reserve);
        EXPECT_EQ(answer, 1) << "answered from inside reserve()";
        EXPECT_TRUE(run_until([&] { return answer != 1; }));
        return answer;
    }
};

}  // namespace farswap::test
