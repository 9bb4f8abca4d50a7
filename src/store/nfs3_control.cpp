// The control plane of NFSv3 by libnfs's raw calls; see nfs3_control.h.
#include "store/nfs3_control.h"

#include <netdb.h>
#include <poll.h>

// libnfs's headers need each other in this order.
// clang-format off
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
// clang-format on

#include <algorithm>
#include <cstring>
#include <optional>

namespace farswap::nfs {
namespace {

using std::chrono::steady_clock;

nfs_fh3 wire(const FileHandle& handle) {
    // libnfs only reads through it.
    return {{handle.size, const_cast<char*>(reinterpret_cast<const char*>(handle.bytes.data()))}};
}

std::optional<FileHandle> handle_of(const char* data, std::size_t size) {
    FileHandle handle;
    if (size == 0 || size > kHandle3Max) return std::nullopt;
    handle.size = static_cast<std::uint32_t>(size);
    std::memcpy(handle.bytes.data(), data, size);
    return handle;
}

Verifier verifier_of(const char* data) {
    Verifier verifier;
    std::memcpy(verifier.data(), data, verifier.size());
    return verifier;
}

Control::Found found(FileHandle handle, const post_op_attr& attributes) {
    Control::Found found{.handle = handle};
    if (attributes.attributes_follow != 0) {
        found.directory = attributes.post_op_attr_u.attributes.type == NF3DIR;
        found.size = attributes.post_op_attr_u.attributes.size;
    }
    return found;
}

std::unexpected<Error> refused(const char* what, std::uint32_t status) {
    return fail_errno(errno_of_status(status), "{}", what);
}

/// The socket's own error: libnfs keeps it to itself.
int socket_error(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0 ? error : ECONNRESET;
}

/// Why libnfs could not even begin to connect: it keeps the resolver's answer to itself, too.
std::string why_unknown(const std::string& host) {
    addrinfo* found = nullptr;
    const int error = ::getaddrinfo(host.c_str(), nullptr, nullptr, &found);
    if (error == 0) {
        ::freeaddrinfo(found);
        return "no connection can be begun";
    }
    return fmt::format("{}; is the name right?", ::gai_strerror(error));
}

}  // namespace

/// A call under way: lives on the caller's stack until libnfs has answered or the context is gone.
struct Control3::Pending {
    bool done = false;
    int status = RPC_STATUS_ERROR;
    std::string error;
    void (*take)(Pending& pending, void* reply) = nullptr;

    static void answered(rpc_context*, int status, void* data, void* pending_data) {
        auto& pending = *static_cast<Pending*>(pending_data);
        pending.done = true;
        pending.status = status;
        if (status == RPC_STATUS_SUCCESS && pending.take != nullptr) {
            pending.take(pending, data);
        } else if (status == RPC_STATUS_ERROR && data != nullptr) {
            pending.error = static_cast<const char*>(data);
        }
    }
};

void Control3::Destroy::operator()(rpc_context* rpc) const noexcept {
    rpc_destroy_context(rpc);
}

Control3::~Control3() = default;

Control3::Control3(const Server& server, Deadline deadline)
    : server_(server), rpc_(rpc_init_context()), deadline_(deadline) {
    if (!rpc_) return;
    const Credential& who = server.credential;
    std::vector<std::uint32_t> groups(
        who.groups.begin(),
        who.groups.begin() + static_cast<std::ptrdiff_t>(std::min(who.groups.size(), kGroupsMax)));
    rpc_set_auth(rpc_.get(),
                 libnfs_authunix_create(who.machine.substr(0, kMachineMax).c_str(), who.uid, who.gid,
                                        static_cast<std::uint32_t>(groups.size()), groups.data()));
}

Status Control3::wait(Pending& pending, const char* what) {
    int error = EIO;
    bool lost = false;
    while (!pending.done && !lost) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - steady_clock::now());
        pollfd poller{rpc_get_fd(rpc_.get()), static_cast<short>(rpc_which_events(rpc_.get())), 0};
        const int ready = left.count() <= 0 ? 0 : ::poll(&poller, 1, static_cast<int>(left.count()));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) {
            rpc_.reset();  // answers `pending` as cancelled while it still lives
            return fail(ETIMEDOUT, "{}: no answer from the server in time", what);
        }
        if ((poller.revents & (POLLERR | POLLHUP)) != 0) error = socket_error(poller.fd);
        lost = rpc_service(rpc_.get(), poller.revents) < 0;
    }
    if (pending.done && pending.status == RPC_STATUS_SUCCESS) return {};
    rpc_.reset();
    if (lost) return fail_errno(error == EIO ? ECONNRESET : error, "{}: lost the connection", what);
    return fail(error, "{}: {}", what, pending.error);
}

/// Runs one call. `start(callback, data)` gives it to libnfs; `take(reply)` copies what is needed of the
/// reply, whose memory is gone afterwards.
template <typename Reply, typename Start, typename Take>
Status Control3::call(const char* what, Start start, Take take) {
    if (!rpc_) return fail(ENOTCONN, "{}: the connection is gone", what);
    struct Typed : Pending {
        Take* taker = nullptr;
    } pending;
    pending.taker = &take;
    pending.take = [](Pending& base, void* reply) {
        (*static_cast<Typed&>(base).taker)(*static_cast<Reply*>(reply));
    };
    if (start(&Pending::answered, static_cast<Pending*>(&pending)) != 0) {
        return fail(ENOMEM, "{}: {}", what, rpc_get_error(rpc_.get()));
    }
    return wait(pending, what);
}

Status Control3::open(const std::string& host, int port, std::uint32_t program, const char* service) {
    if (!rpc_) return fail(ENOMEM, "out of memory");
    Pending pending;
    const int rc = port != 0
                       ? rpc_connect_port_async(rpc_.get(), host.c_str(), port, static_cast<int>(program), 3,
                                                &Pending::answered, &pending)
                       : rpc_connect_program_async(rpc_.get(), host.c_str(), static_cast<int>(program), 3,
                                                   &Pending::answered, &pending);
    const std::string where = port != 0 ? fmt::format("{} (port {})", service, port) : std::string(service);
    if (rc != 0) return fail(EHOSTUNREACH, "cannot reach {} at {}: {}", where, host, why_unknown(host));
    if (auto status = wait(pending, "connect"); !status) {
        const int code = status.error().code;
        if (code == ETIMEDOUT)
            return fail(ETIMEDOUT, "{} at {} does not answer; is the server up?", where, host);
        // Where the system call's error is not known, libnfs's words are better than none.
        const std::string why = code == EIO ? pending.error : std::string(::strerrordesc_np(code));
        return fail(code, "cannot reach {} at {}: {}; is the server up, and the address right?", where, host,
                    why);
    }
    return {};
}

Result<Control::Found> Control3::mount(const std::string& path) {
    Control3 mountd(server_, deadline_);
    if (auto status = mountd.open(server_.host, server_.mount_port, MOUNT_PROGRAM, "the NFS mount service");
        !status) {
        return std::unexpected(status.error());
    }
    const auto root = mountd.mount_path(path);
    return root ? attributes(*root) : std::unexpected(root.error());
}

Result<FileHandle> Control3::mount_path(const std::string& path) {
    std::uint32_t refusal = 0;
    std::optional<FileHandle> handle;
    auto status = call<mountres3>(
        "mount",
        [&](rpc_cb answered, void* data) {
            return rpc_mount3_mnt_async(rpc_.get(), answered, const_cast<char*>(path.c_str()), data);
        },
        [&](const mountres3& reply) {
            refusal = static_cast<std::uint32_t>(reply.fhs_status);
            const auto& handle_bytes = reply.mountres3_u.mountinfo.fhandle;
            if (refusal == 0) handle = handle_of(handle_bytes.fhandle3_val, handle_bytes.fhandle3_len);
        });
    if (!status) return std::unexpected(status.error());
    if (refusal != 0)
        return refused("mount", refusal);  // mountstat3 has the numbers of nfsstat3 (RFC 1813 section 5.1.5)
    if (!handle) return fail(EPROTO, "mount: the server gave no file handle");
    return *handle;
}

Result<std::unique_ptr<Control>> Control3::connect(const Server& server, Deadline deadline) {
    std::unique_ptr<Control3> control(new Control3(server, deadline));
    if (auto status = control->open(server.host, server.nfs_port, NFS_PROGRAM, "the NFS service"); !status) {
        return std::unexpected(status.error());
    }
    return control;
}

Result<Address> Control3::peer() const {
    Address address;
    address.size = sizeof address.storage;
    if (!rpc_ || ::getpeername(rpc_get_fd(rpc_.get()), reinterpret_cast<sockaddr*>(&address.storage),
                               &address.size) < 0) {
        return fail(ENOTCONN, "the connection to the NFS service is gone");
    }
    return address;
}

Result<Control::Found> Control3::lookup(const FileHandle& directory, const std::string& name) {
    LOOKUP3args arguments{{wire(directory), const_cast<char*>(name.c_str())}};
    std::uint32_t refusal = 0;
    std::optional<FileHandle> handle;
    Found result;
    auto status = call<LOOKUP3res>(
        "look up",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_lookup_async(rpc_.get(), answered, &arguments, data);
        },
        [&](const LOOKUP3res& reply) {
            refusal = reply.status;
            if (refusal != 0) return;
            const auto& ok = reply.LOOKUP3res_u.resok;
            handle = handle_of(ok.object.data.data_val, ok.object.data.data_len);
            if (handle) result = found(*handle, ok.obj_attributes);
        });
    if (!status) return std::unexpected(status.error());
    if (refusal != 0) return refused("look up", refusal);
    if (!handle) return fail(EPROTO, "look up: the server gave no file handle");
    return result;
}

Result<Control::Found> Control3::attributes(const FileHandle& file) {
    GETATTR3args arguments{wire(file)};
    std::uint32_t refusal = 0;
    Found result{.handle = file};
    auto status = call<GETATTR3res>(
        "get attributes",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_getattr_async(rpc_.get(), answered, &arguments, data);
        },
        [&](const GETATTR3res& reply) {
            refusal = reply.status;
            if (refusal != 0) return;
            result.directory = reply.GETATTR3res_u.resok.obj_attributes.type == NF3DIR;
            result.size = reply.GETATTR3res_u.resok.obj_attributes.size;
        });
    if (!status) return std::unexpected(status.error());
    if (refusal != 0) return refused("get attributes", refusal);
    return result;
}

Result<FileHandle> Control3::create(const FileHandle& directory, const std::string& name) {
    CREATE3args arguments{};
    arguments.where = {wire(directory), const_cast<char*>(name.c_str())};
    arguments.how.mode = GUARDED;
    sattr3& attributes = arguments.how.createhow3_u.g_obj_attributes;
    attributes.mode.set_it = 1;
    attributes.mode.set_mode3_u.mode = 0600;
    std::uint32_t refusal = 0;
    std::optional<FileHandle> handle;
    auto status = call<CREATE3res>(
        "create",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_create_async(rpc_.get(), answered, &arguments, data);
        },
        [&](const CREATE3res& reply) {
            refusal = reply.status;
            if (refusal != 0 || reply.CREATE3res_u.resok.obj.handle_follows == 0) return;
            const auto& object = reply.CREATE3res_u.resok.obj.post_op_fh3_u.handle.data;
            handle = handle_of(object.data_val, object.data_len);
        });
    if (!status) return std::unexpected(status.error());
    if (refusal != 0) return refused("create", refusal);
    if (handle) return *handle;
    auto looked_up = lookup(directory, name);  // the handle is optional in the reply
    if (!looked_up) return std::unexpected(looked_up.error());
    return looked_up->handle;
}

Status Control3::remove(const FileHandle& directory, const std::string& name) {
    REMOVE3args arguments{{wire(directory), const_cast<char*>(name.c_str())}};
    std::uint32_t refusal = 0;
    auto status = call<REMOVE3res>(
        "remove",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_remove_async(rpc_.get(), answered, &arguments, data);
        },
        [&](const REMOVE3res& reply) { refusal = reply.status; });
    if (!status) return status;
    if (refusal != 0) return refused("remove", refusal);
    return {};
}

Result<std::vector<std::string>> Control3::list(const FileHandle& directory, const std::string& prefix) {
    READDIR3args arguments{};
    arguments.dir = wire(directory);
    arguments.count = kListBytes;
    std::vector<std::string> names;
    bool end = false;
    while (!end) {
        std::uint32_t refusal = 0;
        end = true;  // unless there are entries to go on from
        auto status = call<READDIR3res>(
            "list",
            [&](rpc_cb answered, void* data) {
                return rpc_nfs3_readdir_async(rpc_.get(), answered, &arguments, data);
            },
            [&](const READDIR3res& reply) {
                refusal = reply.status;
                if (refusal != 0) return;
                const auto& ok = reply.READDIR3res_u.resok;
                std::memcpy(arguments.cookieverf, ok.cookieverf, sizeof arguments.cookieverf);
                for (const entry3* next = ok.reply.entries; next != nullptr;) {
                    entry3 entry;  // libnfs hands out entries that are not aligned
                    std::memcpy(&entry, next, sizeof entry);
                    next = entry.nextentry;
                    arguments.cookie = entry.cookie;
                    end = false;
                    if (std::string_view(entry.name).starts_with(prefix)) names.emplace_back(entry.name);
                }
                end = end || ok.reply.eof != 0;
            });
        if (!status) return std::unexpected(status.error());
        if (refusal != 0) return refused("list", refusal);
    }
    return names;
}

Result<Control::Limits> Control3::limits(const FileHandle& root) {
    FSINFO3args info_arguments{wire(root)};
    FSSTAT3args stat_arguments{wire(root)};
    std::uint32_t refusal = 0;
    Limits limits;
    auto status = call<FSINFO3res>(
        "get limits",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_fsinfo_async(rpc_.get(), answered, &info_arguments, data);
        },
        [&](const FSINFO3res& reply) {
            refusal = reply.status;
            if (refusal != 0) return;
            limits.read_max = reply.FSINFO3res_u.resok.rtmax;
            limits.write_max = reply.FSINFO3res_u.resok.wtmax;
        });
    if (status && refusal == 0) {
        status = call<FSSTAT3res>(
            "get free space",
            [&](rpc_cb answered, void* data) {
                return rpc_nfs3_fsstat_async(rpc_.get(), answered, &stat_arguments, data);
            },
            [&](const FSSTAT3res& reply) {
                refusal = reply.status;
                if (refusal == 0) limits.free_bytes = reply.FSSTAT3res_u.resok.abytes;
            });
    }
    if (!status) return std::unexpected(status.error());
    if (refusal != 0) return refused("get limits", refusal);
    return limits;
}

Result<std::uint32_t> Control3::read(const FileHandle& file, std::uint64_t offset,
                                     std::span<std::byte> into) {
    READ3args arguments{wire(file), offset, static_cast<std::uint32_t>(into.size())};
    std::uint32_t refusal = 0, count = 0;
    auto status = call<READ3res>(
        "read",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_read_async(rpc_.get(), answered, &arguments, data);
        },
        [&](const READ3res& reply) {
            refusal = reply.status;
            if (refusal != 0) return;
            const auto& data = reply.READ3res_u.resok.data;
            count = std::min(data.data_len, arguments.count);
            std::memcpy(into.data(), data.data_val, count);
        });
    if (!status) return std::unexpected(status.error());
    if (refusal != 0) return refused("read", refusal);
    return count;
}

Result<bool> Control3::write(const FileHandle& file, std::uint64_t offset, std::span<const std::byte> data,
                             std::uint32_t write_max, Verifier& verifier) {
    bool first = true, same_server = true;
    while (!data.empty()) {
        const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(data.size(), write_max));
        WRITE3args arguments{wire(file),
                             offset,
                             length,
                             UNSTABLE,
                             {length, const_cast<char*>(reinterpret_cast<const char*>(data.data()))}};
        std::uint32_t refusal = 0, count = 0;
        auto status = call<WRITE3res>(
            "write",
            [&](rpc_cb answered, void* pending) {
                return rpc_nfs3_write_async(rpc_.get(), answered, &arguments, pending);
            },
            [&](const WRITE3res& reply) {
                refusal = reply.status;
                if (refusal != 0) return;
                const auto& ok = reply.WRITE3res_u.resok;
                count = std::min(ok.count, length);
                const Verifier now = verifier_of(ok.verf);
                same_server = same_server && (first || now == verifier);
                verifier = now;
                first = false;
            });
        if (!status) return std::unexpected(status.error());
        if (refusal != 0) return refused("write", refusal);
        if (count == 0) return fail(EIO, "write: the server took nothing");
        data = data.subspan(count);
        offset += count;
    }
    return same_server;
}

Result<bool> Control3::commit(const FileHandle& file, const Verifier& verifier) {
    COMMIT3args arguments{wire(file), 0, 0};
    std::uint32_t refusal = 0;
    bool same_server = false;
    auto status = call<COMMIT3res>(
        "commit",
        [&](rpc_cb answered, void* data) {
            return rpc_nfs3_commit_async(rpc_.get(), answered, &arguments, data);
        },
        [&](const COMMIT3res& reply) {
            refusal = reply.status;
            if (refusal == 0) same_server = verifier_of(reply.COMMIT3res_u.resok.verf) == verifier;
        });
    if (!status) return std::unexpected(status.error());
    if (refusal != 0) return refused("commit", refusal);
    return same_server;
}

}  // namespace farswap::nfs
