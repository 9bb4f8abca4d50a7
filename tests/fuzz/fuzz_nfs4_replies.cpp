// The byte stream that an NFSv4.1 server sends in the middle of a session: taken apart all at once, byte by
// byte, and as a connection does it, which has to come to the same, call by call, slot by slot. Memory that
// is not a call's is not touched.
#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "fuzz.h"
#include "nfs_receive.h"
#include "store/nfs4_session.h"
#include "store/nfs_receiver.h"

namespace farswap::nfs {
namespace {

using Bytes = std::span<const std::byte>;

/// A session that has been made, with four calls under way (numbers 1 to 4: READ, WRITE, COMMIT and a probe)
/// and its steps (number 5). A READ that is over is followed by another one: numbers 17, 33 and 49.
class Table final : public ReplyReader::Calls {
  public:
    static constexpr std::uint32_t kCalls = 4, kStep = kCalls;

    Table() {
        make_session();
        constexpr Procedure kProcedures[kCalls] = {Procedure::kRead, Procedure::kWrite, Procedure::kCommit,
                                                   Procedure::kWrite};
        constexpr std::uint32_t kLengths[kCalls] = {64, 4096, 0, 4096};
        for (std::uint32_t i = 0; i < kCalls; ++i) {
            calls_[i].procedure = kProcedures[i];
            calls_[i].length = kLengths[i];
            calls_[i].xid = i + 1;
        }
        calls_[0].data = memory_.get();
        calls_[3].abandoned = calls_[3].probe = true;
        for (std::uint32_t i = 0; i < kCalls; ++i) PROMISE(protocol.prepare(calls_[i]));
    }

    Call* find(std::uint32_t xid) noexcept override {
        const std::uint32_t i = xid % 16 - 1;
        return i <= kCalls && waiting_[i] && calls_[i].xid == xid ? &calls_[i] : nullptr;
    }
    void replied(Call& call) noexcept override {
        const auto i = static_cast<std::uint32_t>(&call - calls_);
        PROMISE(waiting_[i]);
        if (receiver_ != nullptr) receiver_->answered(call);
        protocol.answered(call);
        const Reply& reply = call.reply;
        outcome_.push_back({i, reply, call.slot, {call.data, call.data + (i == 0 ? reply.count : 0)}});
        PROMISE(reply.error <= 0 && (reply.error == 0 || reply.count == 0));
        if (call.procedure == Procedure::kRead) PROMISE(reply.count <= call.length);
        if (i != kStep && !reply.again) PROMISE(call.slot == Call::kNoSlot);
        waiting_[i] = false;
        next(i);
    }
    void sent_over(Receiver& receiver) {
        receiver_ = &receiver;
        for (std::uint32_t i = 0; i < kCalls; ++i) receiver.sent(calls_[i]);
    }

    void promise_same_as(const Table& other) const {
        PROMISE(outcome_.size() == other.outcome_.size());
        for (std::size_t i = 0; i < outcome_.size(); ++i) {
            const Reply &a = outcome_[i].reply, &b = other.outcome_[i].reply;
            PROMISE(outcome_[i].call == other.outcome_[i].call && outcome_[i].slot == other.outcome_[i].slot);
            PROMISE(a.error == b.error && a.try_later == b.try_later && a.again == b.again);
            PROMISE(a.durable == b.durable && a.count == b.count && a.verifier == b.verifier);
            PROMISE(outcome_[i].data == other.outcome_[i].data);
        }
    }

    Protocol4 protocol{{.machine = "host"}, {.size = 8}, 4096, 4096, "fuzz"};

  private:
    struct Outcome {
        std::uint32_t call;
        Reply reply;
        std::uint32_t slot;
        std::vector<std::byte> data;
    };

    void make_session() {
        Call& step = calls_[kStep];
        step.procedure = Procedure::kSetup;
        step.xid = kStep + 1;
        for (const std::uint32_t operation : {42u, 43u, 53u}) {
            PROMISE(protocol.next_step(step));
            std::byte memory[256] = {};
            xdr::Writer reply(memory);
            for (const std::uint32_t word : {step.xid, 1u, 0u, 0u, 0u, 0u, 0u, 0u}) reply.u32(word);
            for (const std::uint32_t word : {operation == 53 ? 2u : 1u, operation, 0u}) reply.u32(word);
            for (int i = 0; operation != 42 && i < 4; ++i) reply.u32(0xaaaa'aaaa);
            if (operation == 42) reply.u64(7);
            if (operation == 43)
                for (const std::uint32_t word : {1u, 0u, 0u, 8192u, 8192u, 1024u, 8u, 64u, 0u})
                    reply.u32(word);
            if (operation == 53)
                for (const std::uint32_t word : {1u, 0u, 127u, 127u, 0u, 58u, 0u}) reply.u32(word);
            std::uint32_t used = 0;
            PROMISE(protocol.decode(step, memory, used) == Decoded::kDone);
            protocol.answered(step);
        }
    }
    /// As a connection does: what was not executed goes out again, and a session is made when one is wanted.
    void next(std::uint32_t i) {
        const bool more = i == 0 && !calls_[i].reply.again && calls_[i].xid < 49;
        if (more) calls_[i].xid += 16;
        if (i != kStep && (calls_[i].reply.again || more)) {
            calls_[i].head_size = 0;
            waiting_[i] = protocol.prepare(calls_[i]);
            if (waiting_[i] && receiver_ != nullptr) receiver_->sent(calls_[i]);
        }
        if (protocol.next_step(calls_[kStep])) waiting_[kStep] = true;
    }

    Receiver* receiver_ = nullptr;
    Call calls_[kCalls + 1];
    bool waiting_[kCalls + 1] = {true, true, true, true, false};
    std::unique_ptr<std::byte[]> memory_ = std::make_unique<std::byte[]>(64);
    std::vector<Outcome> outcome_;
};

bool feed_all(Table& table, Bytes stream) {
    ReplyReader reader(table, table.protocol);
    return reader.feed(stream);
}

bool feed_bytes(Table& table, Bytes stream) {
    ReplyReader reader(table, table.protocol);
    return std::ranges::all_of(stream, [&](const std::byte& byte) { return reader.feed({&byte, 1}); });
}

/// `plan`: how many bytes are there each time.
bool feed_as_received(Table& table, Bytes stream, Bytes plan) {
    Receiver receiver(table, table.protocol);
    table.sent_over(receiver);
    for (std::size_t step = 0; !stream.empty(); ++step) {
        const std::size_t next = plan.empty() ? 5 : std::to_integer<std::size_t>(plan[step % plan.size()]);
        if (fuzz::receive(receiver, stream, 1 + next) == Received::kMalformed) return false;
    }
    return true;
}

}  // namespace
}  // namespace farswap::nfs

using namespace farswap::nfs;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t kPlan = 4;
    const Bytes input = std::as_bytes(std::span(data, size));
    const Bytes plan = input.first(std::min(size, kPlan)), stream = input.subspan(plan.size());
    Table at_once, by_bytes, as_received;
    const bool good = feed_all(at_once, stream);
    PROMISE(feed_bytes(by_bytes, stream) == good);
    by_bytes.promise_same_as(at_once);
    PROMISE(feed_as_received(as_received, stream, plan) == good);
    as_received.promise_same_as(at_once);
    return 0;
}
