// READ, WRITE and COMMIT of NFSv3 as bytes; see nfs_wire.h.
#include "store/nfs_wire.h"

#include <cerrno>

#include "store/xdr.h"

namespace farswap::nfs {
namespace {

using xdr::Reader, xdr::Writer;

constexpr std::uint32_t kProgram = 100003, kVersion = 3;  // RFC 1813 section 3
constexpr std::uint32_t kUnstable = 0, kFileSync = 2;     // RFC 1813 section 3.3.7, stable_how
constexpr std::uint32_t kAttributes = 84;                 // bytes of a fattr3
constexpr std::uint32_t kWccAttributes = 24;              // bytes of a wcc_attr

void attributes(Reader& reader, std::uint32_t size) {  // an optional structure: a boolean, then perhaps it
    if (reader.u32() != 0) reader.skip(size);
}

void decode_wcc(Reader& reader) {
    attributes(reader, kWccAttributes);
    attributes(reader, kAttributes);
}

}  // namespace

CallEncoder::CallEncoder(const Credential& credential, const FileHandle& file) {
    Writer out(prefix_);
    put_rpc_call(out, credential, kProgram, kVersion);
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
    if (!take_rpc_reply(reader, reply.error)) return Decoded::kMalformed;
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
                const std::uint32_t how = reader.u32();
                // What no server may say promises nothing: least of all that a COMMIT is not needed.
                if (how > kFileSync) return Decoded::kMalformed;
                reply.durable = how != kUnstable;
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
