// The byte stream that an NFS server sends: taken apart all at once, byte by byte, and as the connection does
// it (data straight into memory, in pieces of any size, with calls that are abandoned meanwhile). All three
// have to come to the same replies and the same data, and none may touch memory that is not the call's.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "fuzz.h"
#include "nfs_receive.h"
#include "store/nfs_receiver.h"

namespace farswap::nfs {
namespace {

using Bytes = std::span<const std::byte>;

/// Calls 1 to 6, each waiting for one reply.
class Table final : public ReplyReader::Calls {
  public:
    static constexpr std::size_t kCalls = 6;

    Table() {
        constexpr struct {
            Procedure procedure;
            std::uint32_t length;
        } kinds[kCalls] = {{Procedure::kRead, 8},   {Procedure::kRead, 1},  {Procedure::kWrite, 4096},
                           {Procedure::kCommit, 0}, {Procedure::kRead, 64}, {Procedure::kRead, 700}};
        for (std::size_t i = 0; i < kCalls; ++i) {
            calls_[i].procedure = kinds[i].procedure;
            calls_[i].length = kinds[i].length;
            // Each of its own, so that the address sanitizer sees a byte too many.
            if (kinds[i].procedure == Procedure::kRead)
                memory_[i] = std::make_unique<std::byte[]>(kinds[i].length);
            calls_[i].data = memory_[i].get();
        }
    }

    Call* find(std::uint32_t xid) noexcept override {
        return xid >= 1 && xid <= kCalls && !replied_[xid - 1] ? &calls_[xid - 1] : nullptr;
    }
    void replied(Call& call) noexcept override {
        const auto i = static_cast<std::size_t>(&call - calls_);
        PROMISE(!replied_[i]);
        if (receiver_ != nullptr) receiver_->answered(call);
        if (call.procedure == Procedure::kRead) PROMISE(call.reply.count <= call.length);
        if (call.reply.error != 0) PROMISE(call.reply.error < 0 && call.reply.count == 0);
        replied_[i] = true;
        order_.push_back(i);
    }
    void sent_over(Receiver& receiver) {
        receiver_ = &receiver;
        for (const Call& call : calls_) receiver.sent(call);
    }
    void abandon(std::size_t i) {
        if (replied_[i]) return;
        calls_[i].abandoned = true;
        memory_[i].reset();
    }

    void promise_same_as(const Table& other) const {
        PROMISE(order_ == other.order_);
        for (const std::size_t i : order_) {
            const Reply &a = calls_[i].reply, &b = other.calls_[i].reply;
            PROMISE(a.error == b.error && a.try_later == b.try_later && a.durable == b.durable);
            PROMISE(a.count == b.count && a.verifier == b.verifier);
            if (memory_[i] && other.memory_[i] && calls_[i].procedure == Procedure::kRead)
                PROMISE(std::memcmp(memory_[i].get(), other.memory_[i].get(), a.count) == 0);
        }
    }

  private:
    Receiver* receiver_ = nullptr;
    Call calls_[kCalls];
    std::unique_ptr<std::byte[]> memory_[kCalls];
    bool replied_[kCalls] = {};
    std::vector<std::size_t> order_;
};

bool feed_all(Table& table, Bytes stream) {
    Protocol3 protocol({}, {});
    ReplyReader reader(table, protocol);
    return reader.feed(stream);
}

bool feed_bytes(Table& table, Bytes stream) {
    Protocol3 protocol({}, {});
    ReplyReader reader(table, protocol);
    return std::ranges::all_of(stream, [&](const std::byte& byte) { return reader.feed({&byte, 1}); });
}

/// As a connection does it. `plan`: how many bytes are there each time; many also abandon a call.
bool feed_as_received(Table& table, Bytes stream, Bytes plan) {
    Protocol3 protocol({}, {});
    Receiver receiver(table, protocol);
    table.sent_over(receiver);
    for (std::size_t step = 0; !stream.empty(); ++step) {
        const unsigned next = plan.empty() ? 5 : std::to_integer<unsigned>(plan[step % plan.size()]);
        if (next >= 0xf0) table.abandon(next % Table::kCalls);
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
