// NFSv4.1 without a server: calls and replies as bytes, and what a session makes of each answer.
#include "store/nfs4_session.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "words.h"

namespace farswap::nfs {
namespace {

using test::accepted, test::Bytes, test::Words;

constexpr std::uint32_t kSequence = 53, kPutfh = 22, kRead = 25, kWrite = 38, kCommit = 5, kExchangeId = 42,
                        kCreateSession = 43, kReclaimComplete = 58;
constexpr std::uint32_t kMiB = 1u << 20;

/// The head of the reply to a COMPOUND: its status, no tag, the number of results.
Words compound(std::uint32_t status, std::uint32_t results) {
    return accepted(1).u32(status).u32(0).u32(results);
}

class Protocol4Test : public testing::Test {
  protected:
    Decoded decode(Call& call, const Bytes& bytes) { return protocol.decode(call, bytes, used); }
    /// The whole of a reply that has to be good.
    void answer(Call& call, const Words& words) {
        ASSERT_EQ(decode(call, words.bytes), Decoded::kDone);
        protocol.answered(call);
    }
    /// What SEQUENCE says to a call that it lets through.
    Words& sequence(Words& words, const Call& call, std::uint32_t target = 127) const {
        words.u32(kSequence).u32(0).fill(16, session).u32(call.sequence).u32(call.slot);
        return words.u32(127).u32(target).u32(0);
    }
    Words refused_by_sequence(std::uint32_t status) { return compound(status, 1).u32(kSequence).u32(status); }
    Words written(const Call& call, std::uint32_t how = 0) {
        Words words = compound(0, 3);
        sequence(words, call).u32(kPutfh).u32(0);
        return words.u32(kWrite).u32(0).u32(call.length).u32(how).fill(8, 0x5a);
    }
    Words exchanged() const { return compound(0, 1).u32(kExchangeId).u32(0).u32(0).u32(77).u32(9).u32(0); }
    Words created(std::uint32_t slots, std::uint32_t request_max = kMiB + v4::kOverhead) const {
        Words words = compound(0, 1).u32(kCreateSession).u32(0).fill(16, session).u32(1).u32(0);
        return words.u32(0).u32(request_max).u32(kMiB + v4::kOverhead).u32(1024).u32(8).u32(slots).u32(0);
    }
    Words reclaimed() {
        Call first;
        first.sequence = 1;
        first.slot = 0;
        Words words = compound(0, 2);
        return sequence(words, first).u32(kReclaimComplete).u32(0);
    }
    void make_session(std::uint32_t slots = 64) {
        for (int i = 0; i < 3; ++i) {
            ASSERT_TRUE(protocol.next_step(step));
            ASSERT_NO_FATAL_FAILURE(answer(step, i == 0   ? exchanged()
                                                 : i == 1 ? created(slots)
                                                          : reclaimed()));
            ASSERT_EQ(step.reply.error, 0);
        }
        ASSERT_FALSE(protocol.next_step(step));
    }
    static Call call_of(Procedure procedure) {
        Call call;
        call.procedure = procedure;
        call.length = procedure == Procedure::kCommit ? 0 : 4096;
        return call;
    }
    /// As a connection does that sends it anew.
    bool send_again(Call& call) {
        call.head_size = 0;
        return protocol.prepare(call);
    }

    FileHandle file{.size = 5,
                    .bytes{std::byte{'f'}, std::byte{'f'}, std::byte{'f'}, std::byte{'f'}, std::byte{'f'}}};
    Protocol4 protocol{{.machine = "host", .uid = 1, .gid = 2, .groups = {3}}, file, kMiB, kMiB, "test"};
    Call step = call_of(Procedure::kSetup);
    int session = 0xaa;  ///< every byte of its id
    std::uint32_t used = 0;
};

TEST_F(Protocol4Test, EncodesAWrite) {
    make_session();
    Call call = call_of(Procedure::kWrite);
    call.xid = 99;
    call.offset = 0x1'0000'0002;
    call.length = 10;
    ASSERT_TRUE(protocol.prepare(call));
    Words want;
    want.u32(0);                                           // record mark, below
    want.u32(99).u32(0).u32(2).u32(100003).u32(4).u32(1);  // xid, CALL, RPC 2, NFS 4, COMPOUND
    want.u32(1).u32(28).u32(0).u32(4).raw({std::byte{'h'}, std::byte{'o'}, std::byte{'s'}, std::byte{'t'}});
    want.u32(1).u32(2).u32(1).u32(3).u32(0).u32(0);                  // uid, gid, groups, verifier
    want.u32(0).u32(1).u32(3);                                       // no tag, minor version, operations
    want.u32(kSequence).fill(16, 0xaa).u32(2).u32(0).u32(0).u32(1);  // its second, slot, highest, kept
    want.u32(kPutfh).u32(5).fill(5, 'f').fill(3, 0);
    want.u32(kWrite).fill(16, 0).u32(1).u32(2).u32(0).u32(10);  // anonymous, offset, UNSTABLE, length
    const auto all = static_cast<std::uint32_t>(want.bytes.size()) - 4 + 12;
    std::memcpy(want.bytes.data(), Words().u32(all | kLastFragment).bytes.data(), 4);
    EXPECT_EQ(Bytes(call.head.begin(), call.head.begin() + call.head_size), want.bytes);
}

TEST_F(Protocol4Test, LongestCallsFit) {
    const FileHandle long_handle{.size = kHandleMax};
    Protocol4 longest(
        {.machine = std::string(300, 'm'), .uid = 1, .gid = 2, .groups = std::vector<std::uint32_t>(40)},
        long_handle, kMiB, kMiB, "test");
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(longest.next_step(step));
        EXPECT_LE(step.head_size, kCallHeadMax);
        const Bytes reply = (i == 0 ? exchanged() : i == 1 ? created(64) : reclaimed()).bytes;
        ASSERT_EQ(longest.decode(step, reply, used), Decoded::kDone);
        longest.answered(step);
    }
    for (const auto procedure : {Procedure::kRead, Procedure::kWrite, Procedure::kCommit}) {
        Call call = call_of(procedure);
        ASSERT_TRUE(longest.prepare(call));
        EXPECT_LE(call.head_size, kCallHeadMax);
    }
}

TEST_F(Protocol4Test, NothingGoesOutBeforeThereIsASession) {
    Call call = call_of(Procedure::kRead);
    EXPECT_FALSE(protocol.prepare(call));
    ASSERT_TRUE(protocol.next_step(step));
    EXPECT_FALSE(protocol.next_step(step)) << "one at a time";
    EXPECT_FALSE(protocol.prepare(call));
    protocol.disconnected();
    make_session();
    EXPECT_TRUE(protocol.prepare(call));
}

TEST_F(Protocol4Test, SessionThatIsRefusedOrTooSmallIsAskedForAgainALittleLater) {
    ASSERT_TRUE(protocol.next_step(step));
    answer(step, compound(10008, 1).u32(kExchangeId).u32(10008));
    EXPECT_TRUE(step.reply.try_later);
    for (const Words& bad :
         {created(0), created(64, 65536), compound(10022, 1).u32(kCreateSession).u32(10022)}) {
        ASSERT_TRUE(protocol.next_step(step));
        answer(step, exchanged());
        EXPECT_FALSE(step.reply.try_later);
        ASSERT_TRUE(protocol.next_step(step));
        answer(step, bad);
        EXPECT_TRUE(step.reply.try_later);
    }
    make_session();
}

TEST_F(Protocol4Test, ReadsWhatTheReplySays) {
    make_session();
    Call read = call_of(Procedure::kRead), write = call_of(Procedure::kWrite),
         commit = call_of(Procedure::kCommit);
    for (Call* call : {&read, &write, &commit}) ASSERT_TRUE(protocol.prepare(*call));
    EXPECT_EQ(read.slot, 0u);
    EXPECT_EQ(write.slot, 1u);
    EXPECT_EQ(commit.slot, 2u);
    Words words = compound(0, 3);
    sequence(words, read).u32(kPutfh).u32(0).u32(kRead).u32(0).u32(1).u32(8);
    const std::size_t head = words.bytes.size();
    answer(read, words.fill(8, 7));
    EXPECT_EQ(used, head);
    EXPECT_EQ(read.reply.count, 8u);
    answer(write, written(write));
    EXPECT_EQ(write.reply.count, 4096u);
    EXPECT_FALSE(write.reply.durable);
    EXPECT_EQ(write.reply.verifier[7], std::byte{0x5a});
    words = compound(0, 3);
    answer(commit, sequence(words, commit).u32(kPutfh).u32(0).u32(kCommit).u32(0).fill(8, 0x5b));
    EXPECT_EQ(commit.reply.verifier[0], std::byte{0x5b});
}

TEST_F(Protocol4Test, BelievesNoPromiseThatThereIsNot) {
    make_session();
    Call write = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(write));
    EXPECT_EQ(decode(write, written(write, 2).bytes), Decoded::kDone);
    EXPECT_TRUE(write.reply.durable);
    EXPECT_EQ(decode(write, written(write, 3).bytes), Decoded::kMalformed);
}

TEST_F(Protocol4Test, AsksForMoreUntilTheReplyIsThere) {
    make_session();
    Call call = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(call));
    const Bytes whole = written(call).bytes;
    for (std::size_t size = 4; size < whole.size(); ++size)
        EXPECT_EQ(decode(call, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}),
                  Decoded::kIncomplete)
            << size;
    EXPECT_EQ(decode(call, whole), Decoded::kDone);
}

TEST_F(Protocol4Test, RefusesWhatIsNoReplyToTheCall) {
    make_session();
    Call call = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(call));
    const Bytes good = written(call).bytes;
    // In words behind the RPC head: results, operation, session, sequence, slot, the next operation, the
    // last.
    for (const std::size_t word : {2u, 3u, 5u, 9u, 10u, 14u, 16u}) {
        Bytes bad = good;
        bad[24 + 4 * word + 3] ^= word == 2 ? std::byte{2} : std::byte{1};  // three results become one
        EXPECT_EQ(decode(call, bad), Decoded::kMalformed) << word;
    }
    EXPECT_EQ(decode(call, compound(0, 0).bytes), Decoded::kMalformed) << "no results and no reason";
    EXPECT_EQ(decode(call, good), Decoded::kDone);
}

TEST_F(Protocol4Test, RefusalsBecomeErrnos) {
    make_session();
    const auto refused = [&](std::uint32_t status) {
        Call call = call_of(Procedure::kWrite);
        EXPECT_TRUE(protocol.prepare(call));
        Words words = compound(status, 3);
        answer(call, sequence(words, call).u32(kPutfh).u32(0).u32(kWrite).u32(status));
        EXPECT_FALSE(call.reply.again);
        return call.reply;
    };
    EXPECT_EQ(refused(28).error, -ENOSPC);
    EXPECT_EQ(refused(69).error, -EDQUOT);
    EXPECT_EQ(refused(70).error, -ESTALE);
    EXPECT_EQ(refused(10001).error, -ESTALE);
    EXPECT_EQ(refused(4711).error, -EREMOTEIO);
    EXPECT_TRUE(refused(10008).try_later) << "NFS4ERR_DELAY";
    EXPECT_TRUE(refused(10013).try_later) << "NFS4ERR_GRACE";
    Call call = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(call));
    EXPECT_EQ(call.sequence, 9u) << "each of these calls, and the session's first, was executed";
    Words stale = compound(70, 2);
    answer(call, sequence(stale, call).u32(kPutfh).u32(70));
    EXPECT_EQ(call.reply.error, -ESTALE);
}

TEST_F(Protocol4Test, CallThatIsSentAgainStaysTheSameCall) {
    make_session();
    Call call = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(call));
    const auto sequence = call.sequence;
    const Bytes first(call.head.begin(), call.head.begin() + call.head_size);
    protocol.disconnected();
    ASSERT_TRUE(protocol.prepare(call)) << "the session outlives its connection";
    EXPECT_EQ(Bytes(call.head.begin(), call.head.begin() + call.head_size), first);
    answer(call, written(call));
    Call next = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(next));
    EXPECT_EQ(next.slot, 0u);
    EXPECT_EQ(next.sequence, sequence + 1);
}

TEST_F(Protocol4Test, CallsWaitForASlot) {
    make_session(2);
    Call one = call_of(Procedure::kWrite), two = one, three = one;
    ASSERT_TRUE(protocol.prepare(one));
    ASSERT_TRUE(protocol.prepare(two));
    EXPECT_FALSE(protocol.prepare(three));
    answer(two, written(two));
    ASSERT_TRUE(protocol.prepare(three));
    EXPECT_EQ(three.slot, 1u);
    // The server wants fewer used.
    Words words = compound(0, 3);
    sequence(words, one, 0).u32(kPutfh).u32(0).u32(kWrite).u32(0).u32(4096).u32(0).fill(8, 1);
    answer(one, words);
    answer(three, written(three));
    ASSERT_TRUE(protocol.prepare(one));
    EXPECT_FALSE(protocol.prepare(two));
    protocol.dropped(one);
    EXPECT_TRUE(protocol.prepare(two)) << "what was not sent gives its slot back";
    EXPECT_EQ(two.sequence, one.sequence);
}

TEST_F(Protocol4Test, LostSessionIsMadeAnewAndItsCallsAreSentAgain) {
    for (const std::uint32_t status : {10052u, 10078u, 10055u, 10063u, 10053u, 10077u, 10011u}) {
        make_session();
        Call lost = call_of(Procedure::kWrite), late = lost;
        ASSERT_TRUE(protocol.prepare(lost));
        ASSERT_TRUE(protocol.prepare(late));
        const Words late_reply = written(late);
        answer(lost, refused_by_sequence(status));
        EXPECT_TRUE(lost.reply.again) << status;
        EXPECT_FALSE(send_again(lost)) << "before there is another";
        ++session;
        make_session();
        ASSERT_TRUE(send_again(lost));
        EXPECT_EQ(lost.slot, 0u);
        EXPECT_EQ(lost.sequence, 2u);
        answer(late, late_reply);  // of the old session
        EXPECT_FALSE(late.reply.again);
        EXPECT_EQ(late.reply.count, 4096u);
        answer(lost, written(lost));
        EXPECT_EQ(lost.reply.error, 0);
        // For the next one.
        Call end = call_of(Procedure::kCommit);
        ASSERT_TRUE(protocol.prepare(end));
        answer(end, refused_by_sequence(10052));
        ++session;
    }
}

TEST_F(Protocol4Test, CallThatTheServerDoesNotTakeEndsAndTheSessionIsMadeAnew) {
    make_session();
    Call call = call_of(Procedure::kWrite);
    ASSERT_TRUE(protocol.prepare(call));
    answer(call, refused_by_sequence(10065));
    EXPECT_FALSE(call.reply.again);
    EXPECT_EQ(call.reply.error, -EMSGSIZE);
    make_session();
    ASSERT_TRUE(protocol.prepare(call));
    answer(call, Words().u32(1).u32(1).u32(1).u32(1).u32(5));  // denied: AUTH_TOOWEAK
    EXPECT_FALSE(call.reply.again);
    EXPECT_EQ(call.reply.error, -EACCES);
    make_session();
}

TEST_F(Protocol4Test, ServerThatKnowsNoneOfItsSessionsIsNotAskedForEver) {
    Call call = call_of(Procedure::kRead);
    for (int i = 0; i < 3; ++i) {
        make_session();
        ASSERT_TRUE(send_again(call));
        answer(call, refused_by_sequence(10052));
    }
    make_session();
    ASSERT_TRUE(send_again(call));
    EXPECT_EQ(decode(call, refused_by_sequence(10052).bytes), Decoded::kMalformed);
}

TEST_F(Protocol4Test, ReplyThatTheServerForgotCostsATurn) {
    make_session();
    Call call = call_of(Procedure::kRead);
    ASSERT_TRUE(protocol.prepare(call));
    answer(call, refused_by_sequence(10068));
    EXPECT_TRUE(call.reply.again);
    ASSERT_TRUE(send_again(call));
    EXPECT_EQ(call.sequence, 3u);
    // The operation behind it may say so instead.
    Words words = compound(10068, 2);
    answer(call, sequence(words, call).u32(kPutfh).u32(10068));
    EXPECT_TRUE(call.reply.again);
    ASSERT_TRUE(send_again(call));
    EXPECT_EQ(call.sequence, 4u);
    EXPECT_FALSE(protocol.next_step(step));
}

TEST_F(Protocol4Test, CallThatMayStillBeUnderWayKeepsItsTurn) {
    make_session();
    Call call = call_of(Procedure::kWrite), other = call;
    ASSERT_TRUE(protocol.prepare(call));
    answer(call, refused_by_sequence(10008));
    EXPECT_TRUE(call.reply.again && call.reply.try_later);
    ASSERT_TRUE(protocol.prepare(other));
    EXPECT_EQ(other.slot, 1u);
    ASSERT_TRUE(send_again(call));
    EXPECT_EQ(call.slot, 0u);
    EXPECT_EQ(call.sequence, 2u);
}

// What is left of a WRITE that nobody waits for any more: its turn, taken by nothing.
TEST_F(Protocol4Test, ProbeIsAnsweredWhateverTheServerKept) {
    make_session();
    for (const std::uint32_t status : {0u, 1u, 10068u, 10076u}) {
        Call call = call_of(Procedure::kWrite);
        ASSERT_TRUE(protocol.prepare(call));
        const auto turn = call.sequence;
        protocol.disconnected();
        call.probe = true;
        ASSERT_TRUE(send_again(call));
        EXPECT_FALSE(call.carries_data());
        EXPECT_EQ(call.sequence, turn);
        Words alone = compound(0, 1);
        answer(call, status == 0   ? sequence(alone, call)
                     : status == 1 ? written(call)  // what it answered at the time
                                   : refused_by_sequence(status));
        EXPECT_FALSE(call.reply.again) << status;
        EXPECT_FALSE(protocol.next_step(step)) << status;
        Call next = call_of(Procedure::kWrite);
        ASSERT_TRUE(protocol.prepare(next));
        EXPECT_EQ(next.sequence, turn + 1);
        protocol.dropped(next);
    }
    // Anything else leaves it open: then the session ends, and the call with it.
    Call call = call_of(Procedure::kWrite);
    call.probe = true;
    ASSERT_TRUE(protocol.prepare(call));
    answer(call, refused_by_sequence(10065));
    EXPECT_TRUE(call.reply.again);
    make_session();
    EXPECT_TRUE(send_again(call));
}

}  // namespace
}  // namespace farswap::nfs
