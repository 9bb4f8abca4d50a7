// The control plane of an NFSv3 server, by libnfs.
#pragma once

#include "store/nfs_control.h"

struct rpc_context;

namespace farswap::nfs {

/// An RPC connection of libnfs.
class Control3 final : public Control {
  public:
    static Result<std::unique_ptr<Control>> connect(const Server& server, Deadline deadline);

    ~Control3() override;
    Control3(const Control3&) = delete;
    Control3& operator=(const Control3&) = delete;

    void set_deadline(Deadline deadline) noexcept override { deadline_ = deadline; }
    bool broken() const noexcept override { return !rpc_; }
    Result<Address> peer() const override;
    Result<Found> mount(const std::string& path) override;
    Result<Found> lookup(const FileHandle& directory, const std::string& name) override;
    Result<Found> attributes(const FileHandle& file) override;
    Result<FileHandle> create(const FileHandle& directory, const std::string& name) override;
    Status remove(const FileHandle& directory, const std::string& name) override;
    Result<std::vector<std::string>> list(const FileHandle& directory, const std::string& prefix) override;
    Result<Limits> limits(const FileHandle& root) override;
    Result<std::uint32_t> read(const FileHandle& file, std::uint64_t offset,
                               std::span<std::byte> into) override;
    Result<bool> write(const FileHandle& file, std::uint64_t offset, std::span<const std::byte> data,
                       std::uint32_t write_max, Verifier& verifier) override;
    Result<bool> commit(const FileHandle& file, const Verifier& verifier) override;

  private:
    struct Pending;
    Control3(const Server& server, Deadline deadline);

    Status open(const std::string& host, int port, std::uint32_t program, const char* service);
    template <typename Reply, typename Start, typename Take>
    Status call(const char* what, Start start, Take take);
    Status wait(Pending& pending, const char* what);
    Result<FileHandle> mount_path(const std::string& path);

    struct Destroy {
        void operator()(rpc_context* rpc) const noexcept;
    };
    const Server server_;
    std::unique_ptr<rpc_context, Destroy> rpc_;
    Deadline deadline_;
};

}  // namespace farswap::nfs
