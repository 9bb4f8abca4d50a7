// READ, WRITE and COMMIT of NFSv3 as bytes; see nfs_wire.h.
#include "store/nfs_wire.h"

#include <algorithm>
#include <cerrno>

#include "store/xdr.h"

namespace farswap::nfs {
namespace {

using xdr::Reader, xdr::Writer;

constexpr std::uint32_t kCall = 0, kReply = 1;            // RFC 5531 section 9, msg_type
constexpr std::uint32_t kRpcVersion = 2;                  // RFC 5531 section 9
constexpr std::uint32_t kProgram = 100003, kVersion = 3;  // RFC 1813 section 3
constexpr std::uint32_t kAuthNone = 0, kAuthSys = 1;      // RFC 5531 section 8.2
constexpr std::uint32_t kUnstable = 0;                    // RFC 1813 section 3.3.7, stable_how
constexpr std::uint32_t kAttributes = 84;                 // bytes of a fattr3
constexpr std::uint32_t kWccAttributes = 24;              // bytes of a wcc_attr
constexpr std::size_t kXidAt = 4, kProcedureAt = 24;      // in a call, from the record mark on

void attributes(Reader& reader, std::uint32_t size) {  // an optional structure: a boolean, then perhaps it
    if (reader.u32() != 0) reader.skip(size);
}

int errno_of_accept(std::uint32_t accept_status) {
    switch (accept_status) {
        case 1:  // PROG_UNAVAIL
        case 2:  // PROG_MISMATCH
        case 3:  // PROC_UNAVAIL
            return EPROTONOSUPPORT;
        case 4:  // GARBAGE_ARGS
            return EBADMSG;
        default:  // SYSTEM_ERR
            return EREMOTEIO;
    }
}

/// The RPC part, up to the procedure's own result. False: malformed.
bool decode_rpc(Reader& reader, Reply& reply) {
    reader.u32();  // xid
    if (reader.u32() != kReply && !reader.short_of_bytes()) return false;
    if (reader.u32() != 0) {  // MSG_DENIED: RPC_MISMATCH or AUTH_ERROR
        reply.error = reader.u32() == 0 ? -EPROTONOSUPPORT : -EACCES;
        return true;
    }
    reader.u32();  // the verifier's flavour
    const std::uint32_t verifier_size = reader.u32();
    if (verifier_size > 400) return false;
    reader.skip(verifier_size + padding(verifier_size));
    const std::uint32_t accepted = reader.u32();
    if (accepted != 0) reply.error = -errno_of_accept(accepted);
    return true;
}

void decode_wcc(Reader& reader) {
    attributes(reader, kWccAttributes);
    attributes(reader, kAttributes);
}

}  // namespace

CallEncoder::CallEncoder(const Credential& credential, const FileHandle& file) {
    std::array<std::byte, 8 + 20 + kMachineMax + 4 * kGroupsMax> body;
    Writer auth(body);
    auth.u32(0);  // stamp: any number
    auth.opaque(credential.machine.data(),
                static_cast<std::uint32_t>(std::min(credential.machine.size(), kMachineMax)));
    auth.u32(credential.uid);
    auth.u32(credential.gid);
    const std::size_t groups = std::min(credential.groups.size(), kGroupsMax);
    auth.u32(static_cast<std::uint32_t>(groups));
    for (std::size_t i = 0; i < groups; ++i) auth.u32(credential.groups[i]);

    Writer out(prefix_);
    for (const std::uint32_t word : {0u, 0u, kCall, kRpcVersion, kProgram, kVersion, 0u}) out.u32(word);
    out.u32(kAuthSys);
    out.opaque(body.data(), auth.size());
    out.u32(kAuthNone);
    out.u32(0);
    out.opaque(file.bytes.data(), file.size);
    prefix_size_ = out.size();
}

std::uint32_t CallEncoder::encode(Procedure procedure, std::uint32_t xid, std::uint64_t offset,
                                  std::uint32_t length,
                                  std::span<std::byte, kCallHeadMax> head) const noexcept {
    Writer out(head);
    out.raw(prefix_.data(), prefix_size_);
    out.u64(offset);
    out.u32(length);
    std::uint32_t record = 0;
    if (procedure == Procedure::kWrite) {
        out.u32(kUnstable);
        out.u32(length);
        record = length + padding(length);
    }
    record += out.size() - 4;
    Writer(head).u32(record | kLastFragment);
    Writer(head.subspan(kXidAt)).u32(xid);
    Writer(head.subspan(kProcedureAt)).u32(static_cast<std::uint32_t>(procedure));
    return out.size();
}

Decoded decode_reply(Procedure procedure, std::span<const std::byte> head, Reply& reply,
                     std::uint32_t& used) noexcept {
    reply = Reply{};
    Reader reader(head);
    if (!decode_rpc(reader, reply)) return Decoded::kMalformed;
    if (reply.error == 0) {
        const std::uint32_t status = reader.u32();
        if (status != 0) {
            reply.error = -errno_of_status(status);
            reply.try_later = status == kStatusJukebox;
        } else if (procedure == Procedure::kRead) {
            attributes(reader, kAttributes);
            reply.count = reader.u32();
            reader.u32();  // eof: a short read is continued, and nothing is stored beyond what was written
            if (reader.u32() != reply.count && !reader.short_of_bytes()) return Decoded::kMalformed;
        } else {
            decode_wcc(reader);
            if (procedure == Procedure::kWrite) {
                reply.count = reader.u32();
                reply.durable = reader.u32() != kUnstable;
            }
            reader.raw(reply.verifier);
        }
    }
    used = reader.short_of_bytes() ? static_cast<std::uint32_t>(reader.needed()) : reader.at();
    return reader.short_of_bytes() ? Decoded::kIncomplete : Decoded::kDone;
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
        case ENODEV:
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
        case 70:     // NFS3ERR_STALE
        case 10001:  // NFS3ERR_BADHANDLE
            return ESTALE;
        case 10004:
            return EOPNOTSUPP;
        case kStatusJukebox:
            return EAGAIN;
        default:
            return EREMOTEIO;
    }
}

}  // namespace farswap::nfs
