// The control plane of an NFSv3 server; see nfs3_control.h. Sections are RFC 1813's.
#include "store/nfs3_control.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "store/nfs3_mount.h"
#include "store/nfs3_service.h"
#include "store/nfs_listing.h"

namespace farswap::nfs {
namespace {

using xdr::Reader, xdr::Writer;

constexpr std::uint32_t kGetattr = 1, kLookup = 3, kCreate = 8, kRemove = 12, kReaddir = 16, kFsstat = 18,
                        kFsinfo = 19;      // sections 3.3.1 to 3.3.19
constexpr std::uint32_t kDirectory3 = 2;   // section 2.6, NF3DIR
constexpr std::uint32_t kBeforeSize = 16;  // bytes of a fattr3 between its type and its size
constexpr std::uint32_t kBehindSize = 56;  // ... and behind its size
constexpr std::uint32_t kGuarded = 1;      // section 3.3.8, createmode3

void put_handle3(Writer& out, const FileHandle& handle) {
    out.opaque(handle.bytes.data(), handle.size);
}

/// diropargs3
void put_place(Writer& out, const FileHandle& directory, const std::string& name) {
    put_handle3(out, directory);
    out.opaque(name.data(), static_cast<std::uint32_t>(name.size()));
}

/// fattr3, section 2.6.
void take_fattr3(Reader& reader, Control::Found& found) {
    found.directory = reader.u32() == kDirectory3;
    reader.skip(kBeforeSize);
    found.size = reader.u64();
    reader.skip(kBehindSize);
}

/// post_op_attr. -> whether they are there.
bool take_post_op_attr(Reader& reader, Control::Found& found) {
    const bool follow = reader.u32() != 0;
    if (follow) take_fattr3(reader, found);
    return follow;
}

void skip_post_op_attr(Reader& reader) {
    Control::Found nobody;
    take_post_op_attr(reader, nobody);
}

}  // namespace

Control3::Control3(RpcConnection connected, const Server& server)
    : Control3(RpcClient(std::move(connected), kNfs3Program, server.credential), server) {}

Result<std::unique_ptr<Control>> Control3::connect(const Server& server, Deadline deadline) {
    auto nfs = connect_nfs3(server, deadline);
    if (!nfs) return std::unexpected(nfs.error());
    return std::make_unique<Control3>(std::move(*nfs), server);
}

/// Makes a call whose reply begins with an nfsstat3, again and again while that asks for patience.
Status Control3::run(const char* what, std::uint32_t procedure, const RpcClient::Put& put,
                     const RpcClient::Take& take) {
    while (true) {
        std::uint32_t refusal = 0;
        auto status = nfs_.call(what, procedure, put, [&](Reader& reader) {
            refusal = reader.u32();
            return refusal != 0 || take(reader);
        });
        if (!status || refusal == 0) return status;
        if (refusal != kStatusJukebox) return fail_errno(errno_of_status(refusal), "{}", what);
        if (status = nfs_.connection().be_patient(what); !status) return status;
    }
}

Result<Control::Found> Control3::mount(const std::string& path) {
    auto mountd = connect_mountd(server_, nfs_.connection().deadline());
    if (!mountd) return std::unexpected(mountd.error());
    const auto root = mount_export(*mountd, path);
    return root ? attributes(*root) : std::unexpected(root.error());
}

Result<Control::Found> Control3::lookup(const FileHandle& directory, const std::string& name) {
    if (auto good = check_name(name); !good) return std::unexpected(good.error());
    Found found;
    bool described = false;
    auto status = run(
        "look up", kLookup, [&](Writer& out) { put_place(out, directory, name); },
        [&](Reader& reader) {
            if (!take_handle3(reader, found.handle)) return false;
            described = take_post_op_attr(reader, found);
            return true;
        });
    if (!status) return std::unexpected(status.error());
    return described ? found : attributes(found.handle);
}

Result<Control::Found> Control3::attributes(const FileHandle& file) {
    Found found{.handle = file};
    auto status = run(
        "get attributes", kGetattr, [&](Writer& out) { put_handle3(out, file); },
        [&](Reader& reader) {
            take_fattr3(reader, found);
            return true;
        });
    if (!status) return std::unexpected(status.error());
    return found;
}

Result<FileHandle> Control3::create(const FileHandle& directory, const std::string& name) {
    if (auto good = check_name(name); !good) return std::unexpected(good.error());
    FileHandle made;
    bool told = false;
    auto status = run(
        "create", kCreate,
        [&](Writer& out) {
            put_place(out, directory, name);
            // Of a sattr3 the mode alone is set; not owner, group, size and the two times.
            for (const std::uint32_t word : {kGuarded, 1u, 0600u, 0u, 0u, 0u, 0u, 0u}) out.u32(word);
        },
        [&](Reader& reader) {
            told = reader.u32() != 0;
            return !told || take_handle3(reader, made);
        });
    if (!status) return std::unexpected(status.error());
    if (told) return made;
    const auto found = lookup(directory, name);  // the handle is optional in the reply
    if (!found) return std::unexpected(found.error());
    return found->handle;
}

Status Control3::remove(const FileHandle& directory, const std::string& name) {
    if (auto good = check_name(name); !good) return good;
    return run(
        "remove", kRemove, [&](Writer& out) { put_place(out, directory, name); },
        [](Reader&) { return true; });
}

Result<std::vector<std::string>> Control3::list(const FileHandle& directory, const std::string& prefix) {
    Listing listing(prefix);
    while (!listing.done()) {
        auto status = run(
            "list", kReaddir,
            [&](Writer& out) {
                put_handle3(out, directory);
                out.u64(listing.cookie());
                out.raw(listing.verifier().data(), listing.verifier().size());
                out.u32(kListBytes);
            },
            [&](Reader& reader) {
                skip_post_op_attr(reader);
                reader.raw(listing.verifier());
                while (reader.u32() != 0 && !reader.short_of_bytes()) {
                    reader.u64();  // its number
                    const auto name = reader.opaque(Listing::kNameReadMax);
                    const std::uint64_t cookie = reader.u64();
                    if (!reader.short_of_bytes()) listing.take(cookie, name);
                }
                return listing.end_reply(reader.u32() != 0);
            });
        if (!status) return std::unexpected(status.error());
    }
    return std::move(listing.names());
}

Result<Control::Limits> Control3::limits(const FileHandle& root) {
    Limits limits;
    const auto put = [&](Writer& out) { put_handle3(out, root); };
    auto status = run("get limits", kFsinfo, put, [&](Reader& reader) {
        skip_post_op_attr(reader);
        limits.read_max = reader.u32();
        reader.skip(8);  // what it prefers, and multiples of what
        limits.write_max = reader.u32();
        return true;
    });
    if (!status) return std::unexpected(status.error());
    status = run("get free space", kFsstat, put, [&](Reader& reader) {
        skip_post_op_attr(reader);
        reader.skip(16);  // all bytes, and those that are free to root
        limits.free_bytes = reader.u64();
        return true;
    });
    if (!status) return std::unexpected(status.error());
    return limits;
}

/// READ, WRITE or COMMIT as the data path encodes and decodes them. -> what follows the reply's head
Result<std::span<const std::byte>> Control3::transfer(const char* what, Procedure procedure,
                                                      const FileHandle& file, std::uint64_t offset,
                                                      std::uint32_t length, std::span<const std::byte> data,
                                                      Reply& reply) {
    const CallEncoder encoder(server_.credential, file);
    RpcConnection& connection = nfs_.connection();
    while (true) {
        std::array<std::byte, kCallHeadMax> head;
        const auto size = encoder.encode(procedure, connection.next_xid(), offset, length, head);
        const auto bytes = connection.exchange(what, std::span(head).first(size), data);
        if (!bytes) return std::unexpected(bytes.error());
        std::uint32_t used = 0;
        if (decode_reply(procedure, *bytes, reply, used) != Decoded::kDone) return connection.malformed(what);
        if (reply.error == 0) return bytes->subspan(used);
        if (!reply.try_later) return fail_errno(-reply.error, "{}", what);
        if (auto status = connection.be_patient(what); !status) return std::unexpected(status.error());
    }
}

Result<std::uint32_t> Control3::read(const FileHandle& file, std::uint64_t offset,
                                     std::span<std::byte> into) {
    Reply reply;
    const auto behind =
        transfer("read", Procedure::kRead, file, offset, static_cast<std::uint32_t>(into.size()), {}, reply);
    if (!behind) return std::unexpected(behind.error());
    if (reply.count > into.size() || reply.count > behind->size()) return nfs_.connection().malformed("read");
    std::ranges::copy(behind->first(reply.count), into.begin());
    return reply.count;
}

Result<Control::Written> Control3::write_once(const FileHandle& file, std::uint64_t offset,
                                              std::span<const std::byte> data) {
    Reply reply;
    const auto done = transfer("write", Procedure::kWrite, file, offset,
                               static_cast<std::uint32_t>(data.size()), data, reply);
    if (!done) return std::unexpected(done.error());
    return Written{.count = reply.count, .verifier = reply.verifier};
}

Result<bool> Control3::commit(const FileHandle& file, const Verifier& verifier) {
    Reply reply;
    const auto done = transfer("commit", Procedure::kCommit, file, 0, 0, {}, reply);
    if (!done) return std::unexpected(done.error());
    return reply.verifier == verifier;
}

}  // namespace farswap::nfs
