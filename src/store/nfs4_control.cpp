// The control plane of an NFSv4.1 server; see nfs4_control.h.
#include "store/nfs4_control.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "store/nfs_listing.h"

namespace farswap::nfs {
namespace {

using namespace v4;
using xdr::Reader, xdr::Writer;

constexpr std::uint32_t kBitmapMax = 8;         // words of a bitmap4; attributes are below 3 * 32
constexpr std::uint32_t kAttributesMax = 4096;  // bytes of the attributes that we ask for, and much more
constexpr std::uint32_t kUnstable = 0;          // section 18.32, stable_how4
constexpr std::uint32_t kTypeDirectory = 2;     // section 3.2.3, NF4DIR

// Section 5.6 to 5.8, numbers of attributes.
constexpr std::uint32_t kType = 1, kSize = 4, kMaxRead = 30, kMaxWrite = 31, kMode = 33, kSpaceAvail = 42;

/// A set of attributes below 64: all that we ask for.
constexpr std::uint64_t set_of(std::initializer_list<std::uint32_t> attributes) {
    std::uint64_t set = 0;
    for (const std::uint32_t attribute : attributes) set |= std::uint64_t{1} << attribute;
    return set;
}

bool has(std::uint64_t set, std::uint32_t attribute) {
    return (set >> attribute & 1) != 0;
}

void put_set(Writer& out, std::uint64_t set) {
    out.u32(2);
    out.u32(static_cast<std::uint32_t>(set));
    out.u32(static_cast<std::uint32_t>(set >> 32));
}

/// The set and the bytes of a fattr4. Nothing when there are attributes that were not asked for, whose size
/// is not known.
std::optional<std::uint64_t> take_attributes(Reader& reader, std::uint64_t asked, Reader& values) {
    const std::uint32_t words = reader.u32();
    if (words > kBitmapMax) return std::nullopt;
    std::uint64_t set = 0;
    for (std::uint32_t i = 0; i < words; ++i) {
        const std::uint64_t word = reader.u32();
        if (i < 2) set |= word << 32 * i;
        if (i >= 2 && word != 0) return std::nullopt;
    }
    values = Reader(reader.opaque(kAttributesMax));
    return (set & ~asked) == 0 ? std::optional(set) : std::nullopt;
}

bool take_handle(CompoundReply& reply, Reader& reader, FileHandle& handle) {
    if (!reply.next(reader, Op::kGetfh)) return false;
    const auto bytes = reader.opaque(kHandleMax);
    if (bytes.empty() && !reader.short_of_bytes()) return reply.spoil();
    handle.size = static_cast<std::uint32_t>(bytes.size());
    std::ranges::copy(bytes, handle.bytes.begin());
    return true;
}

constexpr std::uint64_t kFoundSet = set_of({kType, kSize});

bool take_found(CompoundReply& reply, Reader& reader, Control::Found& found) {
    if (!reply.next(reader, Op::kGetattr)) return false;
    Reader values({});
    const auto set = take_attributes(reader, kFoundSet, values);
    if (reader.short_of_bytes()) return false;
    if (set != kFoundSet) return reply.spoil();
    found.directory = values.u32() == kTypeDirectory;
    found.size = values.u64();
    return !values.short_of_bytes() || reply.spoil();
}

void put_name(Compound& call, Op op, const std::string& name) {
    call.op(op).opaque(name.data(), static_cast<std::uint32_t>(name.size()));
}

void put_state(Writer& out, const StateId& state) {
    out.raw(state.data(), state.size());
}

}  // namespace

Result<std::unique_ptr<Control>> Control4::connect(const Server& server, Deadline deadline) {
    auto dialogue = Dialogue::connect(server, deadline);
    if (!dialogue) return std::unexpected(dialogue.error());
    return std::unique_ptr<Control>(new Control4(std::move(*dialogue)));
}

/// Runs what leads to a file (the operations `before`) and asks who it is.
Result<Control::Found> Control4::find(const char* what, const Dialogue::Put& put,
                                      std::span<const Op> before) {
    Found found;
    auto status = dialogue_->run(
        what,
        [&](Compound& call) {
            put(call);
            call.op(Op::kGetfh);
            put_set(call.op(Op::kGetattr), kFoundSet);
        },
        [&](CompoundReply& reply, Reader& reader) {
            return std::ranges::all_of(before, [&](Op op) { return reply.next(reader, op); }) &&
                   take_handle(reply, reader, found.handle) && take_found(reply, reader, found);
        });
    if (!status) return std::unexpected(status.error());
    return found;
}

Result<Control::Found> Control4::mount(const std::string& path) {
    constexpr std::array kBefore{Op::kPutrootfh};
    auto found = find(
        "look up the root", [](Compound& call) { call.op(Op::kPutrootfh); }, kBefore);
    for (std::size_t at = 0; found && at < path.size();) {
        const std::size_t end = std::min(path.find('/', at), path.size());
        if (end > at) found = lookup(found->handle, path.substr(at, end - at));
        at = end + 1;
    }
    return found;
}

Result<Control::Found> Control4::lookup(const FileHandle& directory, const std::string& name) {
    if (auto good = check_name(name); !good) return std::unexpected(good.error());
    constexpr std::array kBefore{Op::kPutfh, Op::kLookup};
    return find(
        "look up",
        [&](Compound& call) {
            put_handle(call, directory);
            put_name(call, Op::kLookup, name);
        },
        kBefore);
}

Result<Control::Found> Control4::attributes(const FileHandle& file) {
    constexpr std::array kBefore{Op::kPutfh};
    return find(
        "get attributes", [&](Compound& call) { put_handle(call, file); }, kBefore);
}

/// Section 18.16. The new file is closed again at once: what reads and writes it needs no open file.
Result<FileHandle> Control4::create(const FileHandle& directory, const std::string& name) {
    if (auto good = check_name(name); !good) return std::unexpected(good.error());
    constexpr std::uint32_t kWriteNoDelegation = 2 | 0x0400, kDenyNone = 0, kCreate = 1, kGuarded = 1,
                            kClaimNull = 0;
    constexpr std::string_view kOwner = "farswap";
    FileHandle made;
    StateId state{};
    auto status = dialogue_->run(
        "create",
        [&](Compound& call) {
            put_handle(call, directory);
            Writer& out = call.op(Op::kOpen);
            out.u32(0);
            out.u32(kWriteNoDelegation);
            out.u32(kDenyNone);
            out.u64(dialogue_->client().id);
            out.opaque(kOwner.data(), kOwner.size());
            out.u32(kCreate);
            out.u32(kGuarded);
            put_set(out, set_of({kMode}));
            out.u32(4);  // bytes of attributes
            out.u32(0600);
            out.u32(kClaimNull);
            out.opaque(name.data(), static_cast<std::uint32_t>(name.size()));
        },
        [&](CompoundReply& reply, Reader& reader) {
            if (!reply.next(reader, Op::kPutfh) || !reply.next(reader, Op::kOpen)) return false;
            reader.raw(state);
            return true;  // what else it says is of no use to us, and its handle is looked up below
        });
    if (!status) return std::unexpected(status.error());
    const auto found = lookup(directory, name);
    if (!found) return std::unexpected(found.error());
    made = found->handle;
    if (status = close(made, state); !status) return std::unexpected(status.error());
    return made;
}

Status Control4::close(const FileHandle& file, const StateId& state) {
    return dialogue_->run(
        "close",
        [&](Compound& call) {
            put_handle(call, file);
            Writer& out = call.op(Op::kClose);
            out.u32(0);
            put_state(out, state);
        },
        [](CompoundReply& reply, Reader& reader) {
            return reply.next(reader, Op::kPutfh) && reply.next(reader, Op::kClose);
        });
}

Status Control4::remove(const FileHandle& directory, const std::string& name) {
    if (auto good = check_name(name); !good) return good;
    return dialogue_->run(
        "remove",
        [&](Compound& call) {
            put_handle(call, directory);
            put_name(call, Op::kRemove, name);
        },
        [](CompoundReply& reply, Reader& reader) {
            return reply.next(reader, Op::kPutfh) && reply.next(reader, Op::kRemove);
        });
}

Result<std::vector<std::string>> Control4::list(const FileHandle& directory, const std::string& prefix) {
    Listing listing(prefix);
    while (!listing.done()) {
        auto status = dialogue_->run(
            "list",
            [&](Compound& call) {
                put_handle(call, directory);
                Writer& out = call.op(Op::kReaddir);
                out.u64(listing.cookie());
                out.raw(listing.verifier().data(), listing.verifier().size());
                out.u32(kListBytes);
                out.u32(kListBytes);
                put_set(out, 0);
            },
            [&](CompoundReply& reply, Reader& reader) {
                if (!reply.next(reader, Op::kPutfh) || !reply.next(reader, Op::kReaddir)) return false;
                reader.raw(listing.verifier());
                while (reader.u32() != 0 && !reader.short_of_bytes()) {
                    const std::uint64_t cookie = reader.u64();
                    const auto name = reader.opaque(Listing::kNameReadMax);
                    Reader values({});
                    const bool good = take_attributes(reader, 0, values).has_value();
                    if (reader.short_of_bytes()) return false;
                    if (!good) return reply.spoil();
                    listing.take(cookie, name);
                }
                return listing.end_reply(reader.u32() != 0) || reply.spoil();
            });
        if (!status) return std::unexpected(status.error());
    }
    return std::move(listing.names());
}

Result<Control::Limits> Control4::limits(const FileHandle& root) {
    constexpr std::uint64_t kAsked = set_of({kMaxRead, kMaxWrite, kSpaceAvail});
    std::uint64_t read_max = ~std::uint64_t{0}, write_max = read_max;
    Limits limits;
    auto status = dialogue_->run(
        "get limits",
        [&](Compound& call) {
            put_handle(call, root);
            put_set(call.op(Op::kGetattr), kAsked);
        },
        [&](CompoundReply& reply, Reader& reader) {
            if (!reply.next(reader, Op::kPutfh) || !reply.next(reader, Op::kGetattr)) return false;
            Reader values({});
            const auto set = take_attributes(reader, kAsked, values);
            if (reader.short_of_bytes()) return false;
            if (!set) return reply.spoil();
            if (has(*set, kMaxRead)) read_max = values.u64();
            if (has(*set, kMaxWrite)) write_max = values.u64();
            if (has(*set, kSpaceAvail)) limits.free_bytes = values.u64();
            return !values.short_of_bytes() || reply.spoil();
        });
    if (!status) return std::unexpected(status.error());
    // What the session lets through counts as well.
    const auto within = [](std::uint64_t bytes, std::uint32_t message_max) {
        const std::uint32_t room = message_max > kOverhead ? message_max - kOverhead : 0;
        return static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, room));
    };
    limits.read_max = within(read_max, dialogue_->channel().response_max);
    limits.write_max = within(write_max, dialogue_->channel().request_max);
    return limits;
}

Result<std::uint32_t> Control4::read(const FileHandle& file, std::uint64_t offset,
                                     std::span<std::byte> into) {
    std::uint32_t count = 0;
    const auto most = static_cast<std::uint32_t>(into.size());
    auto status = dialogue_->run(
        "read",
        [&](Compound& call) {
            put_handle(call, file);
            Writer& out = call.op(Op::kRead);
            put_state(out, kReadBypass);
            out.u64(offset);
            out.u32(most);
        },
        [&](CompoundReply& reply, Reader& reader) {
            if (!reply.next(reader, Op::kPutfh) || !reply.next(reader, Op::kRead)) return false;
            reader.u32();  // eof
            const auto data = reader.opaque(most);
            count = static_cast<std::uint32_t>(data.size());
            std::ranges::copy(data, into.begin());
            return true;
        });
    if (!status) return std::unexpected(status.error());
    return count;
}

Result<Control::Written> Control4::write_once(const FileHandle& file, std::uint64_t offset,
                                              std::span<const std::byte> data) {
    Written written;
    auto status = dialogue_->run(
        "write",
        [&](Compound& call) {
            put_handle(call, file);
            Writer& out = call.op(Op::kWrite);
            put_state(out, kAnonymous);
            out.u64(offset);
            out.u32(kUnstable);
            out.u32(static_cast<std::uint32_t>(data.size()));
        },
        [&](CompoundReply& reply, Reader& reader) {
            if (!reply.next(reader, Op::kPutfh) || !reply.next(reader, Op::kWrite)) return false;
            written.count = reader.u32();
            reader.u32();  // how stable it is
            reader.raw(written.verifier);
            return true;
        },
        data);
    if (!status) return std::unexpected(status.error());
    return written;
}

Result<bool> Control4::commit(const FileHandle& file, const Verifier& verifier) {
    Verifier now{};
    auto status = dialogue_->run(
        "commit",
        [&](Compound& call) {
            put_handle(call, file);
            Writer& out = call.op(Op::kCommit);
            out.u64(0);
            out.u32(0);  // to the end
        },
        [&](CompoundReply& reply, Reader& reader) {
            if (!reply.next(reader, Op::kPutfh) || !reply.next(reader, Op::kCommit)) return false;
            reader.raw(now);
            return true;
        });
    if (!status) return std::unexpected(status.error());
    return now == verifier;
}

}  // namespace farswap::nfs
