// What the tests of stores share: a loop, a scratch directory on a disk, operations that record their result.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "io/loop.h"
#include "store/lease.h"
#include "store/open.h"
#include "store/url.h"

namespace farswap {

class Memory {
  public:
    explicit Memory(std::size_t bytes)
        : bytes_(bytes),
          data_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
    ~Memory() { ::munmap(data_, bytes_); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    std::byte* data() const { return static_cast<std::byte*>(data_); }
    std::size_t size() const { return bytes_; }
    /// Content that tells the place of every page.
    void fill(unsigned seed) {
        for (std::size_t at = 0; at < bytes_; at += kPageSize)
            std::memset(data() + at, static_cast<int>((seed + at / kPageSize) % 251), kPageSize);
    }
    bool same_as(const Memory& other) const { return std::memcmp(data(), other.data(), bytes_) == 0; }

  private:
    std::size_t bytes_;
    void* data_;
};

struct Transfer : Request {
    int result = 1;
    int completions = 0;

    Transfer(std::uint32_t op_, std::uint64_t offset_, const Memory& memory)
        : Transfer(op_, offset_, memory.data(), memory.size()) {}
    Transfer(std::uint32_t op_, std::uint64_t offset_, std::byte* data_, std::size_t length_) {
        op = op_;
        offset = offset_;
        data = data_;
        length = static_cast<std::uint32_t>(length_);
        complete = [](Request& request, int value) {
            auto& self = static_cast<Transfer&>(request);
            self.result = value;
            ++self.completions;
        };
    }
};

struct Flush : FlushRequest {
    int result = 1;
    int completions = 0;
    Flush() {
        complete = [](FlushRequest& request, int value) {
            auto& self = static_cast<Flush&>(request);
            self.result = value;
            ++self.completions;
        };
    }
};

struct Reserve : ReserveRequest {
    int result = 1;
    int completions = 0;
    explicit Reserve(std::uint64_t wanted) {
        bytes = wanted;
        complete = [](ReserveRequest& request, int value) {
            auto& self = static_cast<Reserve&>(request);
            self.result = value;
            ++self.completions;
        };
    }
};

class StoreTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto loop = io::Loop::create();
        ASSERT_TRUE(loop) << loop.error().message;
        loop_ = std::move(*loop);
        char path[] = "/var/tmp/farswap-store-test-XXXXXX";
        ASSERT_NE(::mkdtemp(path), nullptr);
        directory_ = path;
    }
    void TearDown() override {
        std::error_code error;
        std::filesystem::remove_all(directory_, error);
    }

    template <typename Done>
    void run_until(Done done) {
        const auto limit = io::Clock::now() + std::chrono::seconds(20);
        while (!done()) {
            ASSERT_LT(io::Clock::now(), limit) << "nothing happened";
            loop_->run_once(std::chrono::seconds(1));
        }
    }

    int run(Store& store, Transfer& transfer) {
        store.submit(transfer);
        EXPECT_EQ(transfer.completions, 0) << "completed inside submit";
        run_until([&] { return transfer.completions > 0; });
        return transfer.result;
    }
    int flush(Store& store) {
        Flush operation;
        store.flush(operation);
        EXPECT_EQ(operation.completions, 0) << "completed inside flush";
        run_until([&] { return operation.completions > 0; });
        return operation.result;
    }
    int reserve(Store& store, std::uint64_t bytes) {
        Reserve operation(bytes);
        store.reserve(operation);
        EXPECT_EQ(operation.completions, 0) << "completed inside reserve";
        run_until([&] { return operation.completions > 0; });
        return operation.result;
    }

    Result<std::unique_ptr<Store>> open(const std::string& url, const StoreOptions& options = {}) {
        return open_store(url, options, *loop_);
    }
    std::string directory_url(const std::string& size = "128M") const {
        return "file:" + directory_ + "?size=" + size;
    }
    std::size_t files_left() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
    }

    std::unique_ptr<io::Loop> loop_;
    std::string directory_;
};

}  // namespace farswap
