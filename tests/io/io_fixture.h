// What the tests of the loop share: a loop on either engine, a scratch file, requests that record their
// result.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "base/fd.h"
#include "io/loop.h"

namespace farswap::io {

/// Page-aligned memory.
class Buffer {
  public:
    explicit Buffer(std::size_t bytes)
        : bytes_(bytes),
          data_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
    ~Buffer() { ::munmap(data_, bytes_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    std::byte* data() const { return static_cast<std::byte*>(data_); }
    std::size_t size() const { return bytes_; }
    void fill(unsigned char value) { std::memset(data_, value, bytes_); }

  private:
    std::size_t bytes_;
    void* data_;
};

/// A request that remembers how it ended.
struct Recorded : Request {
    int result = 1;
    int completions = 0;

    Recorded() = default;
    Recorded(std::uint32_t op_, std::uint64_t offset_, std::byte* data_, std::size_t length_) {
        op = op_;
        offset = offset_;
        data = data_;
        length = static_cast<std::uint32_t>(length_);
        complete = [](Request& request, int value) {
            auto& self = static_cast<Recorded&>(request);
            self.result = value;
            ++self.completions;
        };
    }
};

/// The tests of what both engines have to do. FARSWAP_LOOP_TEST makes them of a suite.
class LoopTest : public ::testing::TestWithParam<EngineKind> {
  protected:
    explicit LoopTest(LoopOptions options = {}) {
        options.engine = GetParam();
        auto made = Loop::create(options);
        if (!made) {
            ADD_FAILURE() << made.error().message;
            return;
        }
        loop_ = std::move(*made);
        EXPECT_EQ(loop_->engine(), GetParam());
    }

    static Fd scratch_file() {
        char path[] = "/var/tmp/farswap-io-test-XXXXXX";
        Fd fd(::mkostemp(path, O_CLOEXEC));
        ::unlink(path);
        return fd;
    }

    /// Runs the loop until `done`; fails after ten seconds.
    template <typename Done>
    void run_until(Done done) {
        const auto limit = Clock::now() + std::chrono::seconds(10);
        while (!done()) {
            ASSERT_LT(Clock::now(), limit) << "nothing happened";
            loop_->run_once(std::chrono::seconds(1));
        }
    }
    void run_until_complete(const Recorded& request) {
        run_until([&] { return request.completions > 0; });
    }

    std::unique_ptr<Loop> loop_;
};

#define FARSWAP_LOOP_TEST(suite)                                                                 \
    INSTANTIATE_TEST_SUITE_P(, suite, testing::Values(EngineKind::kIoUring, EngineKind::kEpoll), \
                             [](const auto& tested) { return std::string(name_of(tested.param)); })

}  // namespace farswap::io
