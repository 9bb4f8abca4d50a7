// The control plane of an NFSv4.1 server. Knows operations; how a session carries them is nfs4_dialogue.h.
#pragma once

#include "store/nfs4_dialogue.h"

namespace farswap::nfs {

class Control4 final : public Control {
  public:
    static Result<std::unique_ptr<Control>> connect(const Server& server, Deadline deadline);
    explicit Control4(std::unique_ptr<v4::Dialogue> dialogue) : dialogue_(std::move(dialogue)) {}

    void set_deadline(Deadline deadline) noexcept override { dialogue_->set_deadline(deadline); }
    bool broken() const noexcept override { return dialogue_->broken(); }
    Result<Address> peer() const override { return dialogue_->peer(); }
    /// There is no mount service: the path is walked from the server's root.
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
    Result<Found> find(const char* what, const v4::Dialogue::Put& put, std::span<const v4::Op> before);
    Status close(const FileHandle& file, const v4::StateId& state);

    std::unique_ptr<v4::Dialogue> dialogue_;
};

}  // namespace farswap::nfs
