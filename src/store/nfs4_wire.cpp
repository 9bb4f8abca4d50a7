// NFSv4.1 as bytes; see nfs4_wire.h.
#include "store/nfs4_wire.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace farswap::nfs::v4 {
namespace {

using xdr::Reader, xdr::Writer;

constexpr std::uint32_t kProgram = 100003, kVersion = 4, kMinorVersion = 1;
constexpr std::uint32_t kCompoundProcedure = 1;          // RFC 8881 section 16.2
constexpr std::uint32_t kUnstable = 0, kFileSync = 2;    // section 18.32, stable_how4
constexpr std::uint32_t kTagMax = 1024;                  // ours are empty, and come back
constexpr std::uint32_t kUseNonPnfs = 0x0001'0000;       // section 18.35, EXCHGID4_FLAG_USE_NON_PNFS
constexpr std::uint32_t kProtectNone = 0;                // section 18.35, SP4_NONE
constexpr std::uint32_t kCachedMax = 1024;               // bytes of a reply that is kept: a WRITE's is 140
constexpr std::uint32_t kCallbackProgram = 0x4000'0000;  // RFC 5531 section 8.3.1: transient
constexpr std::uint32_t kAuthNone = 0;

/// A back channel that is never used: servers refuse to make a session without plausible sizes for one.
constexpr Channel kBackChannel{.request_max = 4096, .response_max = 4096, .operations = 2, .slots = 1};

void put_channel(Writer& out, const Channel& channel, std::uint32_t cached_max) {
    out.u32(0);  // header padding
    out.u32(channel.request_max);
    out.u32(channel.response_max);
    out.u32(cached_max);
    out.u32(channel.operations);
    out.u32(channel.slots);
    out.u32(0);  // no RDMA
}

void take_channel(Reader& reader, Channel& channel) {
    reader.u32();
    channel.request_max = reader.u32();
    channel.response_max = reader.u32();
    reader.u32();
    channel.operations = reader.u32();
    channel.slots = reader.u32();
}

/// READ, WRITE or COMMIT behind SEQUENCE. False: malformed.
bool take_results(Reader& reader, CompoundReply& compound, Call& call) {
    Reply& reply = call.reply;
    constexpr auto op_of = [](Procedure procedure) {
        return procedure == Procedure::kRead    ? Op::kRead
               : procedure == Procedure::kWrite ? Op::kWrite
                                                : Op::kCommit;
    };
    if (!compound.next(reader, Op::kPutfh) || !compound.next(reader, op_of(call.procedure))) {
        const std::uint32_t refusal = compound.status();
        reply.error = -errno_of_status(refusal);
        reply.try_later = refusal == status::kDelay || refusal == status::kGrace;
        // Linux says so of the operation behind SEQUENCE.
        reply.again = refusal == status::kRetryUncachedRep;
        return !compound.malformed();
    }
    if (call.procedure == Procedure::kRead) {
        reader.u32();  // eof: a short read is continued, and nothing is stored beyond what was written
        reply.count = reader.u32();
        return true;
    }
    if (call.procedure == Procedure::kWrite) {
        reply.count = reader.u32();
        const std::uint32_t how = reader.u32();
        // What no server may say promises nothing: least of all that a COMMIT is not needed.
        if (how > kFileSync) return false;
        reply.durable = how != kUnstable;
    }
    reader.raw(reply.verifier);
    return true;
}

}  // namespace

Compound::Compound(std::span<std::byte> out, std::span<const std::byte> prefix, std::uint32_t xid) noexcept
    : out_(out), writer_(out) {
    writer_.raw(prefix.data(), prefix.size());
    Writer(out_.subspan(kXidAt)).u32(xid);
    writer_.u32(0);  // tag
    writer_.u32(kMinorVersion);
    count_at_ = writer_.size();
    writer_.u32(0);
}

Writer& Compound::op(Op op) noexcept {
    ++count_;
    writer_.u32(static_cast<std::uint32_t>(op));
    return writer_;
}

std::uint32_t Compound::finish(std::uint32_t data) noexcept {
    Writer(out_.subspan(count_at_)).u32(count_);
    Writer(out_).u32((writer_.size() - 4 + data + padding(data)) | kLastFragment);
    return writer_.size();
}

std::uint32_t make_prefix(std::span<std::byte, kRpcCallMax> out, const Credential& credential) {
    Writer writer(out);
    put_rpc_call(writer, credential, kProgram, kVersion);
    Writer(out.subspan(kProcedureAt)).u32(kCompoundProcedure);
    return writer.size();
}

int CompoundReply::begin(Reader& reader) noexcept {
    int error = 0;
    malformed_ = !take_rpc_reply(reader, error);
    if (malformed_) return -EBADMSG;
    if (error != 0) return error;
    whole_ = reader.u32();
    (void)reader.opaque(kTagMax);
    count_ = reader.u32();
    return 0;
}

bool CompoundReply::next(Reader& reader, Op op) noexcept {
    status_ = whole_;
    if (count_ == 0) {
        // The server stopped before it, and must say why.
        malformed_ = malformed_ || whole_ == status::kOk;
        return false;
    }
    --count_;
    if (reader.u32() != static_cast<std::uint32_t>(op)) malformed_ = true;
    status_ = reader.u32();
    return status_ == status::kOk && !malformed_;
}

void put_sequence(Compound& call, const Turn& turn, bool cache) noexcept {
    Writer& out = call.op(Op::kSequence);
    out.raw(turn.session.data(), turn.session.size());
    for (const std::uint32_t word : {turn.sequence, turn.slot, turn.highest, cache ? 1u : 0u}) out.u32(word);
}

bool take_sequence(Reader& reader, const Turn& turn, std::uint32_t& target) noexcept {
    SessionId session{};
    reader.raw(session);
    const std::uint32_t sequence = reader.u32(), slot = reader.u32();
    reader.u32();  // its highest slot
    target = reader.u32();
    reader.u32();  // status flags: of state, which we have none of
    return (session == turn.session || turn.forgotten) && sequence == turn.sequence && slot == turn.slot;
}

void put_handle(Compound& call, const FileHandle& file) noexcept {
    call.op(Op::kPutfh).opaque(file.bytes.data(), file.size);
}

std::uint32_t encode_call(const Call& call, const Turn& turn, std::span<const std::byte> prefix,
                          const FileHandle& file, std::span<std::byte, kCallHeadMax> head) noexcept {
    Compound compound(head, prefix, call.xid);
    // What a repeated READ brings may as well be read anew.
    put_sequence(compound, turn, call.procedure != Procedure::kRead && !call.probe);
    if (call.probe) return compound.finish();
    put_handle(compound, file);
    if (call.procedure == Procedure::kCommit) {
        Writer& out = compound.op(Op::kCommit);
        out.u64(call.offset);
        out.u32(call.length);
        return compound.finish();
    }
    const bool write = call.procedure == Procedure::kWrite;
    Writer& out = compound.op(write ? Op::kWrite : Op::kRead);
    const StateId& state = write ? kAnonymous : kReadBypass;
    out.raw(state.data(), state.size());
    out.u64(call.offset);
    if (write) out.u32(kUnstable);
    out.u32(call.length);
    return compound.finish(write ? call.length : 0);
}

Decoded decode_call(Call& call, const Turn& turn, std::span<const std::byte> head, SequenceReply& sequence,
                    std::uint32_t& used) noexcept {
    call.reply = Reply{};
    sequence = SequenceReply{};
    Reader reader(head);
    CompoundReply compound;
    call.reply.error = compound.begin(reader);
    bool good = !compound.malformed();
    if (good && call.reply.error != 0) {
        sequence.rpc_failed = true;
    } else if (good && compound.next(reader, Op::kSequence)) {
        good = take_sequence(reader, turn, sequence.target);
        if (good && !call.probe) good = take_results(reader, compound, call);
    } else if (good) {
        sequence.status = compound.status();
        call.reply.error = -errno_of_status(sequence.status);
        good = !compound.malformed();
    }
    if (reader.short_of_bytes()) return Decoded::kIncomplete;
    used = reader.at();
    return good ? Decoded::kDone : Decoded::kMalformed;
}

void put_exchange_id(Compound& call, const ClientOwner& owner) noexcept {
    FARSWAP_ASSERT(owner.owner.size() <= kOwnerMax);
    Writer& out = call.op(Op::kExchangeId);
    out.raw(owner.verifier.data(), owner.verifier.size());
    out.opaque(owner.owner.data(), static_cast<std::uint32_t>(owner.owner.size()));
    out.u32(kUseNonPnfs);
    out.u32(kProtectNone);
    out.u32(0);  // no word on the implementation
}

void take_exchange_id(Reader& reader, ClientId& client) noexcept {
    client.id = reader.u64();
    client.sequence = reader.u32();
    reader.u32();  // flags; how state is protected and who the server is stand behind, and do not matter here
}

void put_create_session(Compound& call, const ClientId& client, const Channel& wanted) noexcept {
    Writer& out = call.op(Op::kCreateSession);
    out.u64(client.id);
    out.u32(client.sequence);
    out.u32(0);  // flags: not persistent, no back channel
    put_channel(out, wanted, kCachedMax);
    put_channel(out, kBackChannel, 0);
    out.u32(kCallbackProgram);
    out.u32(1);
    out.u32(kAuthNone);
}

void take_create_session(Reader& reader, Session& session) noexcept {
    reader.raw(session.id);
    reader.u32();  // sequence
    reader.u32();  // flags
    take_channel(reader, session.channel);
}

void put_reclaim_complete(Compound& call) noexcept {
    call.op(Op::kReclaimComplete).u32(0);  // of all file systems
}

int errno_of_status(std::uint32_t status) noexcept {
    switch (status) {
        case 0:
        case EPERM:
        case ENOENT:
        case EIO:
        case ENXIO:
        case EACCES:
        case EEXIST:
        case EXDEV:
        case ENOTDIR:
        case EISDIR:
        case EINVAL:
        case EFBIG:
        case ENOSPC:
        case EROFS:
        case EMLINK:
            return static_cast<int>(status);
        case 63:
            return ENAMETOOLONG;
        case 66:
            return ENOTEMPTY;
        case 69:
            return EDQUOT;
        case 70:     // NFS4ERR_STALE
        case 10001:  // NFS4ERR_BADHANDLE
        case 10014:  // NFS4ERR_FHEXPIRED
            return ESTALE;
        case 10004:  // NFS4ERR_NOTSUPP
            return EOPNOTSUPP;
        case 10005:  // NFS4ERR_TOOSMALL
        case status::kReqTooBig:
        case status::kRepTooBig:
            return EMSGSIZE;
        case status::kDelay:
        case status::kGrace:
            return EAGAIN;
        case 10012:  // NFS4ERR_LOCKED
        case 10015:  // NFS4ERR_SHARE_DENIED
        case 10046:  // NFS4ERR_FILE_OPEN
            return EBUSY;
        case 10016:  // NFS4ERR_WRONGSEC
        case 10038:  // NFS4ERR_OPENMODE
            return EACCES;
        case 10019:  // NFS4ERR_MOVED
            return EREMOTE;
        case 10021:  // NFS4ERR_MINOR_VERS_MISMATCH
            return EPROTONOSUPPORT;
        case 10029:  // NFS4ERR_SYMLINK
            return ELOOP;
        case status::kBadXdr:
            return EBADMSG;
        case status::kExpired:
        case status::kBadSession:
        case status::kConnNotBound:
        case status::kDeadSession:
            return ECONNRESET;
        default:
            return EREMOTEIO;
    }
}

}  // namespace farswap::nfs::v4
