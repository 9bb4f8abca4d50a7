// The NFS data path's bytes, without a server: calls as RFC 1813 and 5531 have them, and replies in every
// kind of pieces.
#include "store/nfs_wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "store/nfs_file.h"
#include "store/nfs_reply_reader.h"
#include "words.h"

namespace farswap::nfs {
namespace {

using test::accepted, test::Bytes, test::Words;

Bytes read_reply(std::uint32_t xid, const Bytes& data, bool attributes = true) {
    const auto size = static_cast<std::uint32_t>(data.size());
    Words words = accepted(xid).u32(0).u32(attributes ? 1 : 0).fill(attributes ? 84 : 0, 0xaa);
    return words.u32(size).u32(1).u32(size).raw(data).fill(padding(size), 0).bytes;
}

Bytes record(const Bytes& body, std::uint32_t last = kLastFragment) {
    return Words().u32(static_cast<std::uint32_t>(body.size()) | last).raw(body).bytes;
}

Bytes counting(std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
    return bytes;
}

TEST(CallEncoder, EncodesAWrite) {
    FileHandle file{.size = 5};
    std::memcpy(file.bytes.data(), "fffff", 5);
    const CallEncoder encoder({.machine = "host", .uid = 1, .gid = 2, .groups = {3}}, file);
    std::array<std::byte, kCallHeadMax> head;
    const auto size = encoder.encode(Procedure::kWrite, 99, 0x1'0000'0002, 10, head);
    Words want;
    want.u32(0);                                           // record mark, below
    want.u32(99).u32(0).u32(2).u32(100003).u32(3).u32(7);  // xid, CALL, RPC 2, NFS 3, WRITE
    want.u32(1).u32(28).u32(0).u32(4).raw({std::byte{'h'}, std::byte{'o'}, std::byte{'s'}, std::byte{'t'}});
    want.u32(1).u32(2).u32(1).u32(3).u32(0).u32(0);  // uid, gid, groups, verifier
    want.u32(5).fill(5, 'f').fill(3, 0);             // handle
    want.u32(1).u32(2).u32(10).u32(0).u32(10);       // offset, count, UNSTABLE, length
    const auto all =
        static_cast<std::uint32_t>(want.bytes.size()) - 4 + 12;  // 10 bytes of data and 2 of padding
    std::memcpy(want.bytes.data(), Words().u32(all | kLastFragment).bytes.data(), 4);
    EXPECT_EQ(Bytes(head.begin(), head.begin() + size), want.bytes);
}

TEST(CallEncoder, LongestCallFits) {
    const FileHandle file{.size = kHandleMax};
    const CallEncoder encoder(
        {.machine = std::string(300, 'm'), .uid = 1, .gid = 2, .groups = std::vector<std::uint32_t>(40)},
        file);
    std::array<std::byte, kCallHeadMax> head;
    EXPECT_LE(encoder.encode(Procedure::kWrite, 1, 0, 1, head), kCallHeadMax);
}

TEST(DecodeReply, AsksForMoreUntilTheHeadIsThere) {
    const Bytes bytes = read_reply(7, counting(8));
    const std::size_t head = bytes.size() - 8;
    Reply reply;
    std::uint32_t used = 0;
    for (std::size_t size = 4; size < head; ++size) {
        EXPECT_EQ(decode_reply(Procedure::kRead, {bytes.data(), size}, reply, used), Decoded::kIncomplete)
            << size;
    }
    ASSERT_EQ(decode_reply(Procedure::kRead, bytes, reply, used), Decoded::kDone);
    EXPECT_EQ(used, head);
    EXPECT_EQ(reply.count, 8u);
    EXPECT_EQ(reply.error, 0);
}

TEST(DecodeReply, TellsRefusalsApart) {
    const auto error_of = [](const Words& words) {
        Reply reply;
        std::uint32_t used = 0;
        EXPECT_EQ(decode_reply(Procedure::kWrite, words.bytes, reply, used), Decoded::kDone);
        return reply.error;
    };
    EXPECT_EQ(error_of(accepted(1).u32(28).u32(0).u32(0)), -ENOSPC);
    EXPECT_EQ(error_of(accepted(1).u32(69).u32(0).u32(0)), -EDQUOT);
    EXPECT_EQ(error_of(accepted(1).u32(70).u32(0).u32(0)), -ESTALE);
    EXPECT_EQ(error_of(accepted(1).u32(4711).u32(0).u32(0)), -EREMOTEIO);
    EXPECT_EQ(error_of(Words().u32(1).u32(1).u32(1).u32(1).u32(5)), -EACCES);  // denied: AUTH_TOOWEAK
    EXPECT_EQ(error_of(Words().u32(1).u32(1).u32(0).u32(0).u32(0).u32(1)), -EPROTONOSUPPORT);  // PROG_UNAVAIL
    Reply reply;
    std::uint32_t used = 0;
    EXPECT_EQ(
        decode_reply(Procedure::kWrite, accepted(1).u32(kStatusJukebox).u32(0).u32(0).bytes, reply, used),
        Decoded::kDone);
    EXPECT_TRUE(reply.try_later);
    EXPECT_EQ(
        decode_reply(Procedure::kWrite, Words().u32(1).u32(0).u32(0).u32(0).u32(0).u32(0).bytes, reply, used),
        Decoded::kMalformed);
}

TEST(DecodeReply, BelievesNoPromiseThatThereIsNot) {
    for (const std::uint32_t how : {0u, 1u, 2u, 3u, 0x01000000u}) {
        Reply reply;
        std::uint32_t used = 0;
        const Words words = accepted(1).u32(0).u32(0).u32(0).u32(4096).u32(how).fill(8, 0x5a);
        const Decoded decoded = decode_reply(Procedure::kWrite, words.bytes, reply, used);
        EXPECT_EQ(decoded, how <= 2 ? Decoded::kDone : Decoded::kMalformed) << how;
        EXPECT_EQ(reply.durable, how == 1 || how == 2) << how;
    }
}

TEST(DecodeReply, ReadsTheVerifierBehindWhicheverAttributesThereAre) {
    for (const bool before : {false, true}) {
        for (const bool after : {false, true}) {
            Words words = accepted(1).u32(0);
            words.u32(before).fill(before ? 24 : 0, 1).u32(after).fill(after ? 84 : 0, 2);
            words.u32(4096).u32(0).fill(8, 0x5a);
            Reply reply;
            std::uint32_t used = 0;
            ASSERT_EQ(decode_reply(Procedure::kWrite, words.bytes, reply, used), Decoded::kDone);
            EXPECT_EQ(reply.count, 4096u);
            EXPECT_FALSE(reply.durable);
            for (const std::byte byte : reply.verifier) EXPECT_EQ(byte, std::byte{0x5a});
        }
    }
}

/// Two calls wait, numbers 1 and 2.
class ReplyReaderTest : public testing::Test, protected ReplyReader::Calls {
  protected:
    ReplyReaderTest() {
        for (std::size_t i = 0; i < calls.size(); ++i) {
            memory[i].assign(10'000, std::byte{0xee});
            calls[i].data = memory[i].data();
            calls[i].length = 8192;
        }
    }
    Call* find(std::uint32_t xid) noexcept override {
        return xid == 1 || xid == 2 ? &calls[xid - 1] : nullptr;
    }
    void replied(Call& call) noexcept override { answered.push_back(&call); }

    /// Feeds the stream in pieces of `piece` bytes, where possible in place.
    bool feed(const Bytes& stream, std::size_t piece) {
        for (std::size_t at = 0; at < stream.size();) {
            const std::size_t size = std::min(piece, stream.size() - at);
            const auto direct = reader.direct().first(std::min(size, reader.direct().size()));
            std::copy_n(stream.data() + at, direct.size(), direct.data());
            if (!reader.received_direct(direct.size())) return false;
            if (!reader.feed({stream.data() + at + direct.size(), size - direct.size()})) return false;
            at += size;
        }
        return true;
    }
    std::array<Call, 2> calls;
    std::array<Bytes, 2> memory;
    std::vector<Call*> answered;
    Protocol3 protocol{{}, {}};
    ReplyReader reader{*this, protocol};
};

TEST_F(ReplyReaderTest, PiecesOfAnySizeGiveTheSame) {
    Bytes one = counting(8191), two = counting(100);
    std::ranges::reverse(two);
    // In two fragments; unknown numbers in between are dropped.
    const Bytes body = read_reply(1, one);
    Words stream;
    stream.raw(record({body.begin(), body.begin() + 777}, 0)).raw(record({body.begin() + 777, body.end()}));
    stream.raw(record(read_reply(3, counting(5000)))).raw(record(read_reply(2, two, false)));
    for (std::size_t piece = 1; piece < 9000; piece = piece < 200 ? piece + 1 : piece * 3 / 2) {
        answered.clear();
        for (Bytes& bytes : memory) std::ranges::fill(bytes, std::byte{0xee});
        ASSERT_TRUE(feed(stream.bytes, piece)) << piece;
        ASSERT_EQ(answered, (std::vector<Call*>{&calls[0], &calls[1]})) << piece;
        EXPECT_TRUE(std::equal(one.begin(), one.end(), memory[0].begin())) << piece;
        EXPECT_EQ(memory[0][one.size()], std::byte{0xee}) << piece;
        EXPECT_TRUE(std::equal(two.begin(), two.end(), memory[1].begin())) << piece;
        EXPECT_EQ(memory[1][two.size()], std::byte{0xee}) << piece;
    }
}

/// As a connection does that never reads data ahead: heads of one length, whatever the pieces.
TEST_F(ReplyReaderTest, CopiesNothingWhenReadNoFurtherThanItSays) {
    Words stream;
    for (int i = 0; i < 20; ++i) stream.raw(record(read_reply(1 + i % 2, counting(8192))));
    for (const std::size_t piece : {1u, 7u, 100u, 4096u, 100'000u}) {
        ReplyReader fresh(*this, protocol);
        answered.clear();
        for (std::size_t at = 0; at < stream.bytes.size();) {
            std::size_t left = std::min(piece, stream.bytes.size() - at);
            const auto direct = fresh.direct().first(std::min(left, fresh.direct().size()));
            const std::size_t ahead = std::min(fresh.ahead(), left - direct.size());
            ASSERT_GT(direct.size() + ahead, 0u);
            std::copy_n(stream.bytes.data() + at, direct.size(), direct.data());
            ASSERT_TRUE(fresh.received_direct(direct.size()));
            ASSERT_TRUE(fresh.feed({stream.bytes.data() + at + direct.size(), ahead}));
            at += direct.size() + ahead;
        }
        EXPECT_EQ(answered.size(), 20u) << piece;
        EXPECT_EQ(fresh.copied(), 0u) << piece;
        EXPECT_EQ(std::memcmp(memory[0].data(), counting(8192).data(), 8192), 0);
    }
}

TEST_F(ReplyReaderTest, HeadsOfChangingLengthAreReadRightly) {
    Words stream;
    for (int i = 0; i < 40; ++i) {
        stream.raw(record(read_reply(1 + i % 2, counting(i % 3 == 0 ? 8192 : 96), i % 5 < 2)));
        if (i % 4 == 0) stream.raw(record(accepted(1).u32(5).u32(0).bytes));  // NFS3ERR_IO
    }
    for (std::size_t at = 0; at < stream.bytes.size();) {
        const std::size_t left = stream.bytes.size() - at;
        const auto direct = reader.direct().first(std::min(left, reader.direct().size()));
        const std::size_t ahead = std::min(reader.ahead(), left - direct.size());
        ASSERT_GT(direct.size() + ahead, 0u);
        std::copy_n(stream.bytes.data() + at, direct.size(), direct.data());
        ASSERT_TRUE(reader.received_direct(direct.size()));
        ASSERT_TRUE(reader.feed({stream.bytes.data() + at + direct.size(), ahead}));
        at += direct.size() + ahead;
    }
    EXPECT_EQ(answered.size(), 50u);
    EXPECT_GT(reader.copied(), 0u) << "shorter heads than the one before";
}

TEST_F(ReplyReaderTest, AbandonedMemoryIsNotTouched) {
    const Bytes stream = record(read_reply(1, counting(8192)));
    ASSERT_TRUE(reader.feed({stream.data(), 2000}));
    std::ranges::fill(memory[0], std::byte{0xee});
    calls[0].abandoned = true;
    EXPECT_TRUE(reader.direct().empty());
    ASSERT_TRUE(reader.feed({stream.data() + 2000, stream.size() - 2000}));
    EXPECT_EQ(answered.size(), 1u);
    EXPECT_EQ(memory[0], Bytes(10'000, std::byte{0xee}));
}

TEST_F(ReplyReaderTest, ForgetsAHalfReceivedReply) {
    const Bytes stream = record(read_reply(1, counting(4096)));
    for (const std::size_t cut : {1u, 3u, 5u, 100u, 1000u, 4200u}) {
        ASSERT_TRUE(feed({stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(cut)}, 64));
        reader.reset();
        answered.clear();
        ASSERT_TRUE(feed(stream, 1500)) << cut;
        EXPECT_EQ(answered.size(), 1u);
        EXPECT_EQ(std::memcmp(memory[0].data(), counting(4096).data(), 4096), 0);
    }
}

TEST_F(ReplyReaderTest, NoticesAStreamOutOfStep) {
    EXPECT_FALSE(reader.feed(record(read_reply(1, counting(8193))))) << "more than was asked for";
    reader.reset();
    Bytes cut_short = read_reply(1, counting(4096));
    cut_short.resize(2000);
    EXPECT_FALSE(reader.feed(record(cut_short))) << "the record ends inside the data";
    reader.reset();
    EXPECT_FALSE(reader.feed(Words().u32(0x7fff'ffff).bytes)) << "a fragment of 2 GiB";
    reader.reset();
    EXPECT_FALSE(reader.feed(record(accepted(1).bytes))) << "the record ends inside the head";
    EXPECT_TRUE(answered.empty());
}

TEST(Unstable, IsKeptOnlyByItsOwnVerifier) {
    const Verifier one{std::byte{1}}, two{std::byte{2}};
    Unstable writes;
    EXPECT_TRUE(writes.kept_by(one)) << "nothing to keep";
    writes.add(one);
    writes.add(one);
    EXPECT_TRUE(writes.kept_by(one));
    EXPECT_FALSE(writes.kept_by(two));
    Unstable later;
    later.add(two);
    writes.add(later);
    EXPECT_FALSE(writes.kept_by(one));
    EXPECT_FALSE(writes.kept_by(two)) << "the server restarted between two of them";
    Unstable merged;
    merged.add(writes);
    EXPECT_FALSE(merged.kept_by(two));
}

}  // namespace
}  // namespace farswap::nfs
