// Sessions and slots of NFSv4.1; see nfs4_session.h.
#include "store/nfs4_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace farswap::nfs {
namespace {

using namespace v4;

constexpr unsigned kFruitlessMax = 3;  // sessions in a row that are refused as soon as they are made

std::string make_owner(const Credential& credential) {
    return fmt::format("farswap {:.64} {:016x}", credential.machine, random_number());
}

/// A new session's first call, which has it for itself.
Turn first_turn(const Session& session) {
    return {.session = session.id, .sequence = 1};
}

/// Whether SEQUENCE was refused because of what came with it, and would be in any session. All else
/// (NFS4ERR_BADSESSION, NFS4ERR_SEQ_MISORDERED, NFS4ERR_EXPIRED, ...) says that the server does not know the
/// session, or not as we know it.
bool is_of_the_call(std::uint32_t status) {
    switch (status) {
        case status::kBadXdr:
        case status::kReqTooBig:
        case status::kRepTooBig:
        case status::kRepTooBigToCache:
        case status::kTooManyOps:
            return true;
        default:
            return false;
    }
}

}  // namespace

Protocol4::Protocol4(const Credential& credential, const FileHandle& file, std::uint32_t read_max,
                     std::uint32_t write_max, std::string server)
    : file_(file),
      wanted_{.request_max = write_max + kOverhead,
              .response_max = read_max + kOverhead,
              .operations = kOperationsMax,
              .slots = kSlotsMax},
      server_(std::move(server)),
      prefix_size_(make_prefix(prefix_, credential)),
      owner_(make_owner(credential)),
      incarnation_(random_number()) {}

std::uint32_t Protocol4::Busy::first_free() const noexcept {
    for (std::uint32_t word = 0; word < words_.size(); ++word)
        if (~words_[word] != 0) return word * 64 + static_cast<std::uint32_t>(std::countr_one(words_[word]));
    return kSlotsMax;
}

std::uint32_t Protocol4::Busy::highest() const noexcept {
    for (auto word = static_cast<std::uint32_t>(words_.size()); word-- > 0;)
        if (words_[word] != 0)
            return word * 64 + 63 - static_cast<std::uint32_t>(std::countl_zero(words_[word]));
    return 0;
}

// ---- calls

Turn Protocol4::turn_of(const Call& call) const noexcept {
    return {.session = session_.id,
            .forgotten = call.session != number_,
            .sequence = call.sequence,
            .slot = call.slot};
}

bool Protocol4::prepare(Call& call) noexcept {
    if (step_ != Step::kReady) return false;
    if (call.slot != Call::kNoSlot && call.session == number_) {
        if (call.head_size != 0) return true;
    } else {
        const std::uint32_t slot = busy_.first_free();
        if (slot >= slots_usable_) return false;
        busy_.set(slot);
        call.slot = slot;
        call.sequence = sequences_[slot] + 1;
        call.session = number_;
    }
    Turn turn = turn_of(call);
    turn.highest = busy_.highest();
    call.head_size = encode_call(call, turn, {prefix_.data(), prefix_size_}, file_, call.head);
    return true;
}

void Protocol4::dropped(Call& call) noexcept {
    if (call.slot != Call::kNoSlot && call.session == number_) busy_.clear(call.slot);
    call.slot = Call::kNoSlot;
}

Decoded Protocol4::decode(Call& call, std::span<const std::byte> head, std::uint32_t& used) noexcept {
    if (call.procedure == Procedure::kSetup) return decode_step(call, head, used);
    const Decoded decoded = decode_call(call, turn_of(call), head, sequence_, used);
    // A server that makes sessions and knows none of them is not asked for ever.
    const bool refused = sequence_.rpc_failed || sequence_.status != status::kOk;
    const bool useless = refused && fruitless_ >= kFruitlessMax && call.session == number_;
    return decoded == Decoded::kDone && useless ? Decoded::kMalformed : decoded;
}

void Protocol4::answered(Call& call) noexcept {
    if (call.procedure == Procedure::kSetup) return step_answered(call);
    if (settle(call)) dropped(call);
}

/// What the answer means for the slot and the session. False: the call keeps its slot.
bool Protocol4::settle(Call& call) noexcept {
    Reply& reply = call.reply;
    const bool current = call.session == number_;
    const auto executed = [&] {
        if (current) sequences_[call.slot] = call.sequence;
    };
    if (!sequence_.rpc_failed && sequence_.status == status::kOk) {
        fruitless_ = 0;
        executed();
        if (current) slots_usable_ = std::min(slots_usable_, std::min(sequence_.target, kSlotsMax) + 1);
        return true;
    }
    if (!sequence_.rpc_failed && sequence_.status == status::kDelay && current) {
        // Not begun; or still under way, when it is sent again. Either way the slot has not moved on.
        reply.again = reply.try_later = true;
        return false;
    }
    if (!sequence_.rpc_failed && sequence_.status == status::kRetryUncachedRep) {
        executed();  // and what came of it is forgotten
        reply.again = !call.probe;
        return true;
    }
    if (!sequence_.rpc_failed && sequence_.status == status::kSeqFalseRetry && call.probe) {
        executed();
        return true;
    }
    // Nobody knows where the slot stands now, or even whether there is a session.
    if (current) renew();
    reply.again = call.probe || (!sequence_.rpc_failed && !is_of_the_call(sequence_.status));
    return true;
}

void Protocol4::renew() noexcept {
    if (step_ != Step::kReady) return;
    step_ = Step::kExchangeId;
    ++fruitless_;
}

void Protocol4::disconnected() noexcept {
    step_out_ = false;
    fruitless_ = 0;
    if (step_ != Step::kReady) step_ = Step::kExchangeId;
}

// ---- making a session

bool Protocol4::next_step(Call& call) noexcept {
    if (step_ == Step::kReady || step_out_) return false;
    Compound compound(call.head, {prefix_.data(), prefix_size_}, call.xid);
    switch (step_) {
        case Step::kExchangeId: {
            ClientOwner client{.owner = owner_};
            ++incarnation_;
            std::memcpy(client.verifier.data(), &incarnation_, sizeof incarnation_);
            put_exchange_id(compound, client);
            break;
        }
        case Step::kCreateSession:
            put_create_session(compound, client_, wanted_);
            break;
        case Step::kReclaimComplete:
            put_sequence(compound, first_turn(session_), false);
            put_reclaim_complete(compound);
            break;
        case Step::kReady:
            break;
    }
    call.head_size = compound.finish();
    step_out_ = true;
    return true;
}

Decoded Protocol4::decode_step(Call& call, std::span<const std::byte> head, std::uint32_t& used) noexcept {
    call.reply = Reply{};
    xdr::Reader reader(head);
    CompoundReply compound;
    call.reply.error = compound.begin(reader);
    bool good = !compound.malformed();
    if (good && call.reply.error == 0) {
        bool done = false;
        std::uint32_t target = 0;
        switch (step_) {
            case Step::kExchangeId:
                done = compound.next(reader, Op::kExchangeId);
                if (done) take_exchange_id(reader, found_client_);
                break;
            case Step::kCreateSession:
                done = compound.next(reader, Op::kCreateSession);
                if (done) take_create_session(reader, found_session_);
                break;
            case Step::kReclaimComplete:
                done = compound.next(reader, Op::kSequence);
                if (done) good = take_sequence(reader, first_turn(session_), target);
                if (done && good)
                    done = compound.next(reader, Op::kReclaimComplete) ||
                           compound.status() == status::kCompleteAlready;
                break;
            case Step::kReady:
                good = false;
                break;
        }
        if (!done) call.reply.error = -v4::errno_of_status(compound.status());
        good = good && !compound.malformed();
    }
    if (reader.short_of_bytes()) return Decoded::kIncomplete;
    used = reader.at();
    return good ? Decoded::kDone : Decoded::kMalformed;
}

void Protocol4::step_answered(Call& call) noexcept {
    step_out_ = false;
    int error = call.reply.error;
    if (error == 0 && step_ == Step::kCreateSession) error = check_session();
    if (error != 0) {
        // Over again from the beginning, whatever the server did not like.
        if (error != -EAGAIN && !std::exchange(reported_, true))
            log::warning("{}: the server makes no NFSv4.1 session: {}; trying again", server_,
                         strerrordesc_np(-error));
        step_ = Step::kExchangeId;
        call.reply.try_later = true;
        return;
    }
    if (step_ == Step::kExchangeId) {
        client_ = found_client_;
        step_ = Step::kCreateSession;
    } else if (step_ == Step::kCreateSession) {
        begin_session();
        step_ = Step::kReclaimComplete;
    } else {
        sequences_[0] = 1;
        reported_ = false;
        step_ = Step::kReady;
    }
}

/// Whether the session that the server offers will do.
int Protocol4::check_session() const noexcept {
    const Channel& channel = found_session_.channel;
    const bool good = channel.request_max >= wanted_.request_max &&
                      channel.response_max >= wanted_.response_max && channel.operations >= 3 &&
                      channel.slots > 0;
    return good ? 0 : -EMSGSIZE;
}

/// The calls that have a slot of the old one get another when they are sent again.
void Protocol4::begin_session() noexcept {
    session_ = found_session_;
    ++number_;
    busy_.clear();
    sequences_.fill(0);
    slots_usable_ = std::min(kSlotsMax, session_.channel.slots);
}

}  // namespace farswap::nfs
