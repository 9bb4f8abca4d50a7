// Activated stores allocate nothing for a request: written, flushed and read back while allocations of this
// thread end the program. NBD stores are not here: libnbd takes memory for each command.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "allocation_counter.h"
#include "nfs_driver.h"
#include "nfs_server.h"
#include "store/open.h"

namespace farswap::test {
namespace {

constexpr std::uint32_t kPieces = 64;
constexpr std::uint32_t kPieceBytes = 64u << 10;

class StoreAllocationTest : public ::testing::Test, protected Driver {
  protected:
    /// Memory for direct I/O.
    struct Memory {
        Memory() : data(static_cast<std::byte*>(std::aligned_alloc(kPageSize, kPieces * kPieceBytes))) {}
        ~Memory() { std::free(data); }
        Memory(const Memory&) = delete;
        Memory& operator=(const Memory&) = delete;
        std::byte* data;
    };
    struct Piece : Request {
        int result = 1;
    };

    void start(Store& store, std::uint32_t op, const Memory& memory) {
        for (std::uint32_t i = 0; i < kPieces; ++i) {
            Piece& piece = pieces_[i];
            piece = {};
            piece.op = op;
            piece.offset = std::uint64_t{i} * kPieceBytes + (1u << 20);
            piece.data = memory.data + i * kPieceBytes;
            piece.length = kPieceBytes;
            piece.timeout = 30s;
            piece.complete = [](Request& request, int answer) {
                static_cast<Piece&>(request).result = answer;
            };
            store.submit(piece);
        }
    }
    bool all_ended() {
        return run_until([this] {
            return std::ranges::none_of(pieces_, [](const Piece& piece) { return piece.result == 1; });
        });
    }
    bool all_good() const {
        return std::ranges::all_of(
            pieces_, [](const Piece& piece) { return piece.result == static_cast<int>(kPieceBytes); });
    }

    void write_and_read(Store& store) {
        const Memory out, in;
        for (std::uint32_t i = 0; i < kPieces * kPieceBytes; ++i)
            out.data[i] = static_cast<std::byte>(i * 2654435761u >> 24);
        for (int round = 0; round < 3; ++round) {
            const AllocationTrap trap("a store that is at work");
            start(store, WRITE, out);
            ASSERT_TRUE(all_ended() && all_good());
            ASSERT_EQ(flush(store), 0);
            start(store, READ, in);
            ASSERT_TRUE(all_ended() && all_good());
        }
        EXPECT_EQ(std::memcmp(in.data, out.data, std::size_t{kPieces} * kPieceBytes), 0);
        start(store, READ, in);
        const AllocationTrap trap("requests that are given up");
        for (Piece& piece : pieces_) store.cancel(piece);
        ASSERT_TRUE(all_ended());
    }

    std::array<Piece, kPieces> pieces_;
};

TEST_F(StoreAllocationTest, File) {
    std::string directory = "/var/tmp/farswap-store-test-XXXXXX";
    ASSERT_NE(::mkdtemp(directory.data()), nullptr);
    {
        auto store = open_store("file:" + directory + "?size=64M", {.size_default = 0, .job = "job"}, *loop);
        ASSERT_TRUE(store) << store.error().message;
        write_and_read(**store);
        (*store)->close();
    }
    std::filesystem::remove_all(directory);
}

TEST_F(StoreAllocationTest, Nfs) {
    if (!nfs_server_available()) GTEST_SKIP() << "needs root and nfs-ganesha";
    for (const int version : {3, 4}) {
        NfsServer server;
        server.version = version;
        auto store = open(server.url("export", "&size=64M"));
        ASSERT_TRUE(store) << store.error().message;
        write_and_read(**store);
        (*store)->close();
    }
}

}  // namespace
}  // namespace farswap::test
