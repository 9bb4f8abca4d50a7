// The names in a directory as READDIR of either version brings them: piece after piece, from a server that
// may send anything. Knows no bytes of a protocol.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "store/nfs_wire.h"

namespace farswap::nfs {

class Listing {
  public:
    static constexpr std::size_t kNamesMax = 100'000;    ///< with the prefix; more are a mistake, or ill will
    static constexpr std::size_t kNameMax = 255;         ///< bytes; the file systems' own limit
    static constexpr std::uint32_t kNameReadMax = 4096;  ///< bytes of a name that a reply may have

    explicit Listing(std::string prefix) : prefix_(std::move(prefix)) {}

    /// Where the next reply is to begin.
    std::uint64_t cookie() const noexcept { return cookie_; }
    Verifier& verifier() noexcept { return verifier_; }
    bool done() const noexcept { return done_; }

    /// An entry of a reply. Names that no file of ours can have are passed over: longer ones, and those with
    /// control characters or a slash, which a terminal or a path would take for something else.
    void take(std::uint64_t cookie, std::span<const std::byte> name);
    /// The reply is at its end. False: the server begins again where it was, or lists too much.
    bool end_reply(bool end_of_directory);

    std::vector<std::string>& names() noexcept { return names_; }

  private:
    std::string prefix_;
    std::vector<std::string> names_;
    std::uint64_t cookie_ = 0, began_at_ = 0;
    Verifier verifier_{};
    bool any_ = false, done_ = false;
};

}  // namespace farswap::nfs
