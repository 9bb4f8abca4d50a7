// Where the bytes of an NFS connection's stream are put: with one READ under way its data go into its memory
// before they are known to be its, and whatever came instead is read rightly.
#include "store/nfs_receiver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "words.h"

namespace farswap::nfs {
namespace {

using test::accepted, test::Bytes, test::Words;

constexpr std::uint32_t kLength = 4096;
constexpr std::uint32_t kAttributes = 84;  // bytes of a fattr3, RFC 1813 section 2.3.5
constexpr std::byte kUntouched{0xee};

Bytes counting(std::size_t size, unsigned first) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(first + i * 7 + i / 256);
    return bytes;
}

Bytes in_one_record(const Bytes& body) {
    return Words().u32(static_cast<std::uint32_t>(body.size()) | kLastFragment).raw(body).bytes;
}

/// `count`: what the reply says, when it is not the size of its data.
Bytes sent_read_reply(std::uint32_t xid, const Bytes& data, bool attributes = false,
                      std::uint32_t count = ~0u) {
    if (count == ~0u) count = static_cast<std::uint32_t>(data.size());
    Words words = accepted(xid).u32(0).u32(attributes ? 1 : 0).fill(attributes ? kAttributes : 0, 0xaa);
    return in_one_record(words.u32(count).u32(0).u32(count).raw(data).bytes);
}

class ReceiverTest : public testing::Test, protected ReplyReader::Calls {
  protected:
    /// Call `xid` (1 to 4) has gone out.
    void send(std::uint32_t xid, Procedure procedure = Procedure::kRead, std::uint32_t length = kLength) {
        Call& call = calls[xid];
        call.procedure = procedure;
        call.length = length;
        call.xid = xid;
        call.state = Call::State::kSent;
        call.abandoned = false;
        memory[xid].assign(length + 64, kUntouched);
        call.data = memory[xid].data();
        receiver.sent(call);
    }
    Call* find(std::uint32_t xid) noexcept override {
        return xid < calls.size() && calls[xid].state == Call::State::kSent ? &calls[xid] : nullptr;
    }
    void replied(Call& call) noexcept override {
        receiver.answered(call);
        call.state = Call::State::kFree;
        answered.push_back(call.xid);
        if (on_reply) on_reply(call);
    }
    /// All of it arrives, `piece` bytes at a time. False: the stream is malformed.
    bool arrive(Bytes stream, std::size_t piece = 1u << 20) {
        for (std::size_t at = 0; at < stream.size();) {
            std::size_t left = std::min(piece, stream.size() - at), given = 0;
            for (const iovec& place : receiver.places()) {
                const std::size_t part = std::min(left - given, place.iov_len);
                if (part > 0) std::memcpy(place.iov_base, stream.data() + at + given, part);
                given += part;
            }
            at += given;
            if (receiver.received(given) == Received::kMalformed) return false;
        }
        return true;
    }
    /// One READ, so that the next one's head is expected to be as long.
    void learn() {
        send(4);
        ASSERT_TRUE(arrive(sent_read_reply(4, counting(kLength, 4))));
        answered.clear();
    }
    bool guesses() { return receiver.places().back().iov_len > 0; }
    bool holds(std::uint32_t xid, const Bytes& data) const {
        return std::equal(data.begin(), data.end(), memory[xid].begin());
    }
    bool untouched(std::uint32_t xid, std::size_t from) const {
        return std::all_of(memory[xid].begin() + static_cast<std::ptrdiff_t>(from), memory[xid].end(),
                           [](std::byte byte) { return byte == kUntouched; });
    }

    std::array<Call, 5> calls;
    std::array<Bytes, 5> memory;
    std::vector<std::uint32_t> answered;
    std::function<void(Call&)> on_reply;
    Protocol3 protocol{{}, {}};
    Receiver receiver{*this, protocol};
};

TEST_F(ReceiverTest, TheDataOfTheOnlyReadTakeOneReceiveAndNoCopy) {
    learn();
    send(1);
    const Bytes data = counting(kLength, 1);
    const std::size_t before = receiver.copied();
    ASSERT_TRUE(arrive(sent_read_reply(1, data)));
    EXPECT_EQ(answered, (std::vector<std::uint32_t>{1}));
    EXPECT_TRUE(holds(1, data));
    EXPECT_TRUE(untouched(1, kLength));
    EXPECT_EQ(receiver.copied(), before);
}

TEST_F(ReceiverTest, GuessesOnlyWhenOneReadIsUnderWay) {
    send(1);
    EXPECT_FALSE(guesses()) << "no head has been seen";
    ASSERT_TRUE(arrive(sent_read_reply(1, counting(kLength, 1))));
    send(2);
    EXPECT_TRUE(guesses());
    send(3);
    EXPECT_FALSE(guesses());
    ASSERT_TRUE(arrive(sent_read_reply(3, counting(kLength, 3))));
    EXPECT_FALSE(guesses()) << "it is not known which one is left";
    ASSERT_TRUE(arrive(sent_read_reply(2, counting(kLength, 2))));
    send(1);
    calls[1].abandoned = true;
    EXPECT_FALSE(guesses()) << "its memory is somebody else's";
    ASSERT_TRUE(arrive(sent_read_reply(1, counting(kLength, 1))));
    EXPECT_TRUE(untouched(1, 0));
}

/// With attributes in place of as many data, a record has the size that was expected.
TEST_F(ReceiverTest, ALongerHeadInARecordOfTheExpectedSizeCostsNothing) {
    const Bytes data = counting(kLength - kAttributes, 1);
    for (const std::size_t piece : {1u << 20, 1u, 40u, 41u, 124u, 125u, 126u, 200u, 4000u}) {
        receiver.reset();
        learn();
        send(1);
        ASSERT_TRUE(guesses());
        ASSERT_TRUE(arrive(sent_read_reply(1, data, true), piece)) << piece;
        EXPECT_EQ(answered, (std::vector<std::uint32_t>{1}));
        EXPECT_EQ(calls[1].reply.count, data.size());
        EXPECT_TRUE(holds(1, data)) << piece;
        EXPECT_TRUE(untouched(1, kLength)) << piece;
    }
}

/// A head without attributes where one with them was expected: the data begin inside the expected head.
TEST_F(ReceiverTest, AShorterHeadInARecordOfTheExpectedSizeCostsNothing) {
    send(4);
    ASSERT_TRUE(arrive(sent_read_reply(4, counting(kLength, 4), true)));
    answered.clear();
    send(1);
    ASSERT_TRUE(guesses());
    const Bytes data = counting(kLength, 1);
    Bytes stream = sent_read_reply(1, data);
    stream.insert(stream.end(), kAttributes, std::byte{0});  // behind the end, as the record's size has it
    const std::uint32_t size = static_cast<std::uint32_t>(stream.size() - 4) | kLastFragment;
    const Bytes mark = Words().u32(size).bytes;
    std::copy(mark.begin(), mark.end(), stream.begin());
    ASSERT_TRUE(arrive(stream));
    EXPECT_EQ(answered, (std::vector<std::uint32_t>{1}));
    EXPECT_TRUE(holds(1, data));
    EXPECT_TRUE(untouched(1, kLength));
}

/// A server may say that fewer bytes are data than it has sent; the rest is skipped, as it is when no guess
/// was made, and nothing is put behind the READ's memory.
TEST_F(ReceiverTest, LessDataInARecordOfTheExpectedSizeCostsNothing) {
    for (const std::size_t piece : {1u << 20, 41u, 60u, 3000u, 4140u}) {
        receiver.reset();
        learn();
        send(1, Procedure::kRead, 4093);
        Bytes data = counting(4093 + 3, 1);
        ASSERT_TRUE(arrive(sent_read_reply(1, data, false, 10), piece)) << piece;
        EXPECT_EQ(answered, (std::vector<std::uint32_t>{1}));
        EXPECT_EQ(calls[1].reply.count, 10u);
        data.resize(10);
        EXPECT_TRUE(holds(1, data));
        EXPECT_TRUE(untouched(1, 4093));
    }
}

TEST_F(ReceiverTest, AReplyOfAnotherCallIsReadRightly) {
    learn();
    send(1);
    send(2, Procedure::kCommit, 0);
    ASSERT_TRUE(guesses());
    Bytes stream = in_one_record(accepted(2).u32(0).u32(0).u32(0).fill(8, 0x5a).bytes);
    const Bytes data = counting(kLength, 1), reply = sent_read_reply(1, data);
    stream.insert(stream.end(), reply.begin(), reply.end());
    ASSERT_TRUE(arrive(stream));
    EXPECT_EQ(answered, (std::vector<std::uint32_t>{2, 1}));
    EXPECT_TRUE(holds(1, data));
    EXPECT_TRUE(untouched(1, kLength));
}

/// The READ whose memory took what was not its data is given up by the reply that they were.
TEST_F(ReceiverTest, WhoeverIsCalledBackMayGiveTheReadUp) {
    learn();
    send(1);
    send(2, Procedure::kCommit, 0);
    Bytes stream = in_one_record(accepted(2).u32(0).u32(0).u32(0).fill(8, 0x5a).bytes);
    const Bytes data = counting(kLength, 1), reply = sent_read_reply(1, data);
    stream.insert(stream.end(), reply.begin(), reply.end());
    on_reply = [this](Call& call) {
        if (call.xid != 2) return;
        calls[1].abandoned = true;
        std::ranges::fill(memory[1], kUntouched);
    };
    ASSERT_TRUE(arrive(stream));
    EXPECT_EQ(answered, (std::vector<std::uint32_t>{2, 1}));
    EXPECT_TRUE(untouched(1, 0));
}

TEST_F(ReceiverTest, ANewStreamBeginsWithoutAGuess) {
    learn();
    send(1);
    ASSERT_TRUE(guesses());
    receiver.reset();
    receiver.sent(calls[1]);
    EXPECT_FALSE(guesses()) << "another server's heads may have another length";
    const Bytes data = counting(kLength, 1);
    ASSERT_TRUE(arrive(sent_read_reply(1, data, true)));
    EXPECT_TRUE(holds(1, data));
}

}  // namespace
}  // namespace farswap::nfs
