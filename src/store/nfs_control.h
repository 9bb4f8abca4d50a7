// The control plane of an NFS store: mount, look-up, create, remove, sizes, and small transfers while nothing
// else runs. Blocking, every call bounded by one deadline. Knows nothing of leases, requests or the event
// loop.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/nfs_rpc_connection.h"
#include "store/nfs_wire.h"

namespace farswap::nfs {

inline constexpr std::uint32_t kListBytes = 32 * 1024;  ///< of a READDIR reply, at most

struct Server {
    std::string host;
    int version = 3;                ///< 3, or 4 for NFSv4.1
    int nfs_port = 0;               ///< 0: ask the server's rpcbind; NFSv4.1: 2049
    int mount_port = 0;             ///< 0: ask the server's rpcbind
    std::uint32_t connections = 1;  ///< for each direction of the data path
    Credential credential;
};

/// A connection to the server's NFS service. After a call that was not answered in time every further one
/// fails.
class Control {
  public:
    struct Found {
        FileHandle handle;
        bool directory = false;
        std::uint64_t size = 0;  ///< bytes
    };
    struct Limits {
        std::uint32_t read_max = 0, write_max = 0;  ///< bytes a transfer
        std::uint64_t free_bytes = 0;               ///< that this user may still fill
    };

    /// Connects to the server by the version that it names. ECONNREFUSED, ETIMEDOUT, EPROTONOSUPPORT (the
    /// server does not speak it).
    static Result<std::unique_ptr<Control>> connect(const Server& server, Deadline deadline);

    virtual ~Control() = default;

    /// The calls that follow have this long; the first that is not answered by then is the last.
    virtual void set_deadline(Deadline deadline) noexcept = 0;
    /// The connection is gone, and so is every further call.
    virtual bool broken() const noexcept = 0;
    /// Where the NFS service was found.
    virtual Result<Address> peer() const = 0;

    /// The file or directory that the server has at `path` of what it exports. EACCES, ENOENT (no such
    /// export), ECONNREFUSED, ETIMEDOUT.
    virtual Result<Found> mount(const std::string& path) = 0;

    virtual Result<Found> lookup(const FileHandle& directory, const std::string& name) = 0;
    virtual Result<Found> attributes(const FileHandle& file) = 0;
    /// Makes a file that did not exist before, of mode 0600. EEXIST, EACCES, EROFS, ENOSPC, EDQUOT.
    virtual Result<FileHandle> create(const FileHandle& directory, const std::string& name) = 0;
    virtual Status remove(const FileHandle& directory, const std::string& name) = 0;
    /// The names in a directory that start with `prefix`.
    virtual Result<std::vector<std::string>> list(const FileHandle& directory, const std::string& prefix) = 0;
    virtual Result<Limits> limits(const FileHandle& root) = 0;

    /// Up to the whole of `into`; less at the end of the file. -> bytes. At most one transfer.
    virtual Result<std::uint32_t> read(const FileHandle& file, std::uint64_t offset,
                                       std::span<std::byte> into) = 0;
    /// All of `data`, UNSTABLE, in transfers of at most `write_max` bytes. -> false when the server restarted
    /// meanwhile.
    Result<bool> write(const FileHandle& file, std::uint64_t offset, std::span<const std::byte> data,
                       std::uint32_t write_max, Verifier& verifier);
    /// -> false when the server has restarted since it gave `verifier`.
    virtual Result<bool> commit(const FileHandle& file, const Verifier& verifier) = 0;

  protected:
    struct Written {
        std::uint32_t count = 0;  ///< bytes; more than there were count as all
        Verifier verifier{};
    };
    /// One transfer.
    virtual Result<Written> write_once(const FileHandle& file, std::uint64_t offset,
                                       std::span<const std::byte> data) = 0;
    /// ENAMETOOLONG; also of an empty name.
    static Status check_name(const std::string& name);
};

/// Why a service cannot be asked, with what to do about it. `where` names the service and its host.
std::unexpected<Error> cannot_reach(const std::string& where, const Error& why);

}  // namespace farswap::nfs
