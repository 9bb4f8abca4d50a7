// The control plane of an NFSv3 server. Knows procedures; how a call is made is nfs_rpc_client.h.
#pragma once

#include "store/nfs_control.h"
#include "store/nfs_rpc_client.h"

namespace farswap::nfs {

class Control3 final : public Control {
  public:
    static Result<std::unique_ptr<Control>> connect(const Server& server, Deadline deadline);
    /// Over a connection that there is. Of `server` the credential matters, and for mount() all but the NFS
    /// service's port.
    Control3(RpcConnection connected, const Server& server);
    Control3(RpcClient nfs, const Server& server) : server_(server), nfs_(std::move(nfs)) {}

    void set_deadline(Deadline deadline) noexcept override { nfs_.connection().set_deadline(deadline); }
    bool broken() const noexcept override { return nfs_.connection().broken(); }
    Result<Address> peer() const override { return nfs_.connection().peer(); }
    /// Asks the mount service, over a connection of its own.
    Result<Found> mount(const std::string& path) override;
    Result<Found> lookup(const FileHandle& directory, const std::string& name) override;
    Result<Found> attributes(const FileHandle& file) override;
    Result<FileHandle> create(const FileHandle& directory, const std::string& name) override;
    Status remove(const FileHandle& directory, const std::string& name) override;
    Result<std::vector<std::string>> list(const FileHandle& directory, const std::string& prefix) override;
    Result<Limits> limits(const FileHandle& root) override;
    Result<std::uint32_t> read(const FileHandle& file, std::uint64_t offset,
                               std::span<std::byte> into) override;
    Result<bool> commit(const FileHandle& file, const Verifier& verifier) override;

  private:
    Result<Written> write_once(const FileHandle& file, std::uint64_t offset,
                               std::span<const std::byte> data) override;
    Status run(const char* what, std::uint32_t procedure, const RpcClient::Put& put,
               const RpcClient::Take& take);
    Result<std::span<const std::byte>> transfer(const char* what, Procedure procedure, const FileHandle& file,
                                                std::uint64_t offset, std::uint32_t length,
                                                std::span<const std::byte> data, Reply& reply);

    const Server server_;
    RpcClient nfs_;
};

}  // namespace farswap::nfs
