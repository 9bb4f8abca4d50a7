// Where a connection puts what an NFSv3 server sends, guesses and all: calls go out, are given up and
// answered, truly or not, and connections are lost, in any order and with bytes that arrive in pieces of any
// size. What is reported is compared with what a plain reading of the stream gives; no place lies outside the
// memory of a READ that waits.
#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "fuzz.h"
#include "nfs_receive.h"
#include "store/nfs_receiver.h"
#include "store/xdr.h"

namespace farswap::nfs {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t kCalls = 16;  // of a run; call n has the number n + 1
constexpr std::size_t kPlan = 8;    // bytes of the input that say how the stream arrives
constexpr std::size_t kStreamMax = 100'000;
constexpr std::uint32_t kAttributes = 84;  // bytes

unsigned take_byte(Bytes& rest) {
    if (rest.empty()) return 0;
    const auto byte = std::to_integer<unsigned>(rest.front());
    rest = rest.subspan(1);
    return byte;
}

std::byte data_byte(std::uint32_t call, std::size_t at) {
    return static_cast<std::byte>(call * 37 + at * 7 + at / 256);
}

struct Outcome {
    std::uint32_t call;
    Reply reply;
    std::vector<std::byte> data;
};

/// The calls of a run, in the order in which they go out.
struct Calls {
    Call& add(Procedure procedure, std::uint32_t length) {
        Call& call = call_of[sent];
        call.procedure = procedure;
        call.length = length;
        call.xid = ++sent;
        call.state = Call::State::kSent;
        return call;
    }
    Call* waiting(std::uint32_t xid) {
        if (xid == 0 || xid > sent) return nullptr;
        Call& call = call_of[xid - 1];
        return call.state == Call::State::kSent ? &call : nullptr;
    }
    std::uint32_t number_of(const Call& call) const {
        return static_cast<std::uint32_t>(&call - call_of.data());
    }

    std::array<Call, kCalls> call_of;
    std::uint32_t sent = 0;
};

/// Reads the stream in the plainest way: a record when all of it is there.
class Model {
  public:
    Calls calls;
    std::vector<Outcome> outcomes;
    bool broken = false;

    void reset() {
        mark_.clear();
        body_.clear();
        left_ = 0;
        call_ = nullptr;
        broken = false;
    }
    void take(Bytes bytes) {
        while (!bytes.empty() && !broken) {
            std::size_t taken = 1;
            if (left_ == 0) {
                take_mark(bytes.front());
            } else {
                if (body_.size() >= 4) taken = std::min<std::size_t>(bytes.size(), left_);
                body_.insert(body_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
                left_ -= static_cast<std::uint32_t>(taken);
                if (body_.size() == 4) call_ = calls.waiting(xdr::load_u32(body_.data()));
                if (left_ == 0 && last_) end_record();
            }
            bytes = bytes.subspan(taken);
        }
    }
    bool between_records() const { return mark_.empty() && body_.empty() && left_ == 0; }

  private:
    void take_mark(std::byte byte) {
        mark_.push_back(byte);
        if (mark_.size() < 4) return;
        const std::uint32_t mark = xdr::load_u32(mark_.data());
        mark_.clear();
        left_ = mark & ~kLastFragment;
        last_ = (mark & kLastFragment) != 0;
        broken = left_ == 0 || left_ > 8u << 20;
    }
    void end_record() {
        if (body_.size() < 4) broken = true;
        if (!broken && call_ != nullptr) answer(*call_);
        call_ = nullptr;
        body_.clear();
    }
    void answer(Call& call) {
        std::uint32_t used = 0;
        const Bytes head = Bytes(body_).first(std::min(body_.size(), kReplyHeadMax));
        if (decode_reply(call.procedure, head, call.reply, used) != Decoded::kDone)
            return void(broken = true);
        const std::uint32_t count = call.procedure == Procedure::kRead ? call.reply.count : 0;
        if (count > call.length || count > body_.size() - used) return void(broken = true);
        const Bytes data = Bytes(body_).subspan(used, count);
        call.state = Call::State::kFree;
        outcomes.push_back({calls.number_of(call), call.reply, {data.begin(), data.end()}});
    }

    std::vector<std::byte> mark_, body_;
    std::uint32_t left_ = 0;
    bool last_ = false;
    Call* call_ = nullptr;
};

/// The same calls with memory, each of its own, which is gone as soon as it is not the receiver's any more,
/// so that the address sanitizer sees whoever touches it then.
class Client final : public ReplyReader::Calls {
  public:
    explicit Client(Bytes plan) : plan_(plan) {}

    nfs::Calls calls;
    std::vector<Outcome> outcomes;
    bool broken = false;

    void send(Call& call) {
        auto& memory = memory_[calls.number_of(call)];
        if (call.procedure == Procedure::kRead) memory = std::make_unique<std::byte[]>(call.length);
        call.data = memory.get();
        receiver_.sent(call);
    }
    void abandon(Call& call) {
        call.abandoned = true;
        memory_[calls.number_of(call)].reset();
    }
    /// Over the next connection everything that waits is asked again, but for what nobody waits for.
    void reset() {
        receiver_.reset();
        broken = false;
        for (Call& call : calls.call_of)
            if (call.state == Call::State::kSent)
                call.abandoned ? void(call.state = Call::State::kFree) : receiver_.sent(call);
    }
    void take(Bytes stream) {
        while (!stream.empty() && !broken) {
            check_places();
            broken = fuzz::receive(receiver_, stream, arriving()) == Received::kMalformed;
        }
    }

    Call* find(std::uint32_t xid) noexcept override { return calls.waiting(xid); }
    void replied(Call& call) noexcept override {
        PROMISE(call.state == Call::State::kSent);
        receiver_.answered(call);
        call.state = Call::State::kFree;
        const std::uint32_t number = calls.number_of(call);
        const std::uint32_t count =
            call.procedure == Procedure::kRead && !call.abandoned ? call.reply.count : 0;
        PROMISE(count <= call.length);
        outcomes.push_back({number, call.reply, {call.data, call.data + count}});
        memory_[number].reset();
    }

  private:
    std::size_t arriving() {
        const unsigned next = plan_.empty() ? 255 : std::to_integer<unsigned>(plan_[step_++ % plan_.size()]);
        return next < 160 ? next + 1 : next < 240 ? (next - 150) * 16 : kStreamMax;
    }
    /// Every place is the receiver's own or memory of a READ that waits, as far as it goes.
    void check_places() {
        for (const iovec& place : receiver_.places()) {
            const auto* const from = static_cast<const std::byte*>(place.iov_base);
            const auto* const own = reinterpret_cast<const std::byte*>(&receiver_);
            bool good = place.iov_len == 0 || (from >= own && from + place.iov_len <= own + sizeof receiver_);
            for (const Call& call : calls.call_of) {
                if (call.procedure != Procedure::kRead || call.state != Call::State::kSent || call.abandoned)
                    continue;
                good = good || (from >= call.data && from + place.iov_len <= call.data + call.length);
            }
            PROMISE(good);
        }
    }

    Protocol3 protocol_{{}, {}};
    Receiver receiver_{*this, protocol_};
    std::unique_ptr<std::byte[]> memory_[kCalls];
    const Bytes plan_;
    std::size_t step_ = 0;
};

/// One reply as a server would send it, but for what the input asks for.
class Answer {
  public:
    Answer(const Call& call, std::uint32_t xid, Bytes& input) {
        const unsigned how = take_byte(input), low = take_byte(input), high = take_byte(input);
        const bool attributes = (how & 1) != 0;
        for (const std::uint32_t word : {xid, 1u, 0u, 0u}) u32(word);
        u32(how & 0x20 ? 8 : 0);  // of a verifier
        if (how & 0x20) zeros(8);
        u32(0);  // accepted
        if (how & 2) {
            u32(5);  // NFS3ERR_IO
            u32(attributes);
            if (attributes) zeros(kAttributes);
        } else if (call.procedure == Procedure::kRead) {
            u32(0);
            u32(attributes);
            if (attributes) zeros(kAttributes);
            read(call, how & 0x1c, low | high << 8);
        } else {
            u32(0);
            u32(0);
            u32(0);
            zeros(16);
        }
        if (how & 0x40) zeros(low);  // behind the end
        mark(how & 0x80 ? high : 0, low);
    }
    std::vector<std::byte> stream;

  private:
    void read(const Call& call, unsigned how, std::uint32_t given) {
        const std::uint32_t room = call.length + padding(call.length);
        std::uint32_t count = call.length;
        if (how == 4) count = given;
        if (how == 8 || how == 0x18) count -= std::min(count, kAttributes);  // attributes in place of data
        if (how == 0xc) count -= std::min(count, 8u);                        // a verifier in place of data
        if (how == 0x10 || how == 0x18) count -= std::min(count, given % 8);
        if (how == 0x14) count = std::min(count, given);  // in a record for all that was asked for
        u32(count);
        u32(0);
        u32(count);
        const std::size_t before = body_.size();
        body_.resize(before + count);
        for (std::uint32_t i = 0; i < count; ++i) body_[before + i] = data_byte(call.xid, i);
        zeros(padding(count));
        if (how == 0x14) zeros(room - count - padding(count));
    }
    /// In two fragments when `cut` is not zero; the record is `lie` bytes longer than what comes of it then.
    void mark(unsigned cut, unsigned lie) {
        const auto all = static_cast<std::uint32_t>(body_.size());
        const std::uint32_t first = cut == 0 || cut == 255 ? 0 : std::min(all - 1, 4 * cut);
        const auto put = [&](std::uint32_t size, std::uint32_t flag, std::size_t from, std::size_t bytes) {
            for (int shift = 24; shift >= 0; shift -= 8)
                stream.push_back(static_cast<std::byte>((size | flag) >> shift));
            stream.insert(stream.end(), body_.begin() + static_cast<std::ptrdiff_t>(from),
                          body_.begin() + static_cast<std::ptrdiff_t>(from + bytes));
        };
        if (first > 0) put(first, 0, 0, first);
        put(all - first + (cut == 255 ? lie : 0), kLastFragment, first, all - first);
    }
    void u32(std::uint32_t word) {
        for (int shift = 24; shift >= 0; shift -= 8) body_.push_back(static_cast<std::byte>(word >> shift));
    }
    void zeros(std::size_t count) { body_.insert(body_.end(), count, std::byte{0}); }

    std::vector<std::byte> body_;
};

class Run {
  public:
    explicit Run(Bytes plan) : client_(plan) {}

    void step(Bytes& input) {
        const unsigned what = take_byte(input);
        switch (what % 8) {
            case 0:
            case 1:
                return send(what / 8);
            case 2:
                return abandon(what / 8);
            case 3:
                return what < 0xc0 ? raw(input, what / 8) : reset();
            default:
                return answer(what / 8, input);
        }
    }

  private:
    void send(unsigned what) {
        constexpr std::array<std::uint32_t, 16> kLengths = {512, 512, 512, 96,  1,   3,     61,    700,
                                                            88,  512, 512, 600, 512, 32768, 32769, 0};
        if (model_.calls.sent == kCalls) return;
        const std::uint32_t length = kLengths[what % kLengths.size()];
        const Procedure procedure = length == 0 ? Procedure::kWrite : Procedure::kRead;
        (void)model_.calls.add(procedure, length == 0 ? 4096 : length);
        client_.send(client_.calls.add(procedure, length == 0 ? 4096 : length));
    }
    void abandon(unsigned what) {
        const std::uint32_t xid = 1 + what % kCalls;
        if (Call* const call = client_.calls.waiting(xid)) {
            client_.abandon(*call);
            model_.calls.waiting(xid)->abandoned = true;
        }
    }
    void reset() {
        model_.reset();
        for (Call& call : model_.calls.call_of)
            if (call.abandoned) call.state = Call::State::kFree;
        client_.reset();
    }
    void raw(Bytes& input, std::size_t size) {
        const Bytes piece = input.first(std::min(size, input.size()));
        input = input.subspan(piece.size());
        take(piece);
    }
    /// To the last call that has gone out, to an earlier one, or to a number that is none.
    void answer(unsigned which, Bytes& input) {
        const std::uint32_t sent = model_.calls.sent;
        if (sent == 0) return;
        const std::uint32_t back = which < 16 ? 0 : which - 16;
        const std::uint32_t of = back < sent ? sent - back : 1;
        take(Answer(model_.calls.call_of[of - 1], back < sent ? of : 1000, input).stream);
    }
    void take(Bytes stream) {
        if (taken_ + stream.size() > kStreamMax) return;
        taken_ += stream.size();
        model_.take(stream);
        client_.take(stream);
        compare();
    }
    void compare() {
        PROMISE(model_.outcomes.size() == client_.outcomes.size());
        for (; compared_ < model_.outcomes.size(); ++compared_) {
            const Outcome &wanted = model_.outcomes[compared_], &got = client_.outcomes[compared_];
            PROMISE(wanted.call == got.call);
            const Reply &a = wanted.reply, &b = got.reply;
            PROMISE(a.error == b.error && a.try_later == b.try_later && a.durable == b.durable);
            PROMISE(a.count == b.count && a.verifier == b.verifier);
            if (!client_.calls.call_of[got.call].abandoned) PROMISE(wanted.data == got.data);
        }
        // Earlier than at the end of the record is as good.
        PROMISE(model_.broken ? client_.broken : !client_.broken || !model_.between_records());
    }

    Model model_;
    Client client_;
    std::size_t taken_ = 0, compared_ = 0;
};

}  // namespace
}  // namespace farswap::nfs

using namespace farswap::nfs;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes input = std::as_bytes(std::span(data, size));
    const Bytes plan = input.first(std::min(size, kPlan));
    input = input.subspan(plan.size());
    Run run(plan);
    while (!input.empty()) run.step(input);
    return 0;
}
