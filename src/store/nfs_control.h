// The control plane of an NFS store: mount, look-up, create, remove, sizes, and small transfers while nothing
// else runs. Blocking, by libnfs, every call bounded by one deadline. Knows nothing of leases, requests or
// the event loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/nfs_connection.h"
#include "store/nfs_wire.h"

struct rpc_context;

namespace farswap::nfs {

using Deadline = std::chrono::steady_clock::time_point;

struct Server {
    std::string host;
    int nfs_port = 0;               ///< 0: ask the server's rpcbind
    int mount_port = 0;             ///< 0: ask the server's rpcbind
    std::uint32_t connections = 1;  ///< for each direction of the data path
    Credential credential;
};

/// An RPC connection of libnfs. Moved, not copied. After a call that timed out every further one fails.
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

    /// Asks the server's mountd for the handle of `path`. EACCES, ENOENT (no such export), ECONNREFUSED,
    /// ETIMEDOUT.
    static Result<FileHandle> mount(const Server& server, const std::string& path, Deadline deadline);
    /// Connects to the server's NFS service.
    static Result<Control> connect(const Server& server, Deadline deadline);

    Control(Control&&) noexcept;
    Control& operator=(Control&&) noexcept;
    ~Control();

    /// The calls that follow have this long; the first that does not make it is the last.
    void set_deadline(Deadline deadline) noexcept { deadline_ = deadline; }
    /// The connection is gone, and so is every further call.
    bool broken() const noexcept { return !rpc_; }
    /// Where the NFS service was found.
    Result<Address> peer() const;

    Result<Found> lookup(const FileHandle& directory, const std::string& name);
    Result<Found> attributes(const FileHandle& file);
    /// Makes a file that did not exist before, of mode 0600. EEXIST, EACCES, EROFS, ENOSPC, EDQUOT.
    Result<FileHandle> create(const FileHandle& directory, const std::string& name);
    Status remove(const FileHandle& directory, const std::string& name);
    /// The names in a directory that start with `prefix`.
    Result<std::vector<std::string>> list(const FileHandle& directory, const std::string& prefix);
    Result<Limits> limits(const FileHandle& root);

    /// Up to the whole of `into`; less at the end of the file. -> bytes. At most one transfer.
    Result<std::uint32_t> read(const FileHandle& file, std::uint64_t offset, std::span<std::byte> into);
    /// All of `data`, UNSTABLE, in transfers of at most `write_max` bytes. -> false when the server restarted
    /// meanwhile.
    Result<bool> write(const FileHandle& file, std::uint64_t offset, std::span<const std::byte> data,
                       std::uint32_t write_max, Verifier& verifier);
    /// -> false when the server has restarted since it gave `verifier`.
    Result<bool> commit(const FileHandle& file, const Verifier& verifier);

  private:
    struct Pending;
    Control(const Server& server, Deadline deadline);

    Status open(const std::string& host, int port, std::uint32_t program, const char* service);
    template <typename Reply, typename Start, typename Take>
    Status call(const char* what, Start start, Take take);
    Status wait(Pending& pending, const char* what);
    Result<FileHandle> mount_path(const std::string& path);

    struct Destroy {
        void operator()(rpc_context* rpc) const noexcept;
    };
    std::unique_ptr<rpc_context, Destroy> rpc_;
    Deadline deadline_;
};

}  // namespace farswap::nfs
