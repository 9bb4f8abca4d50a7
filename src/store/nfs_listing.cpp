// Gathers the names of a directory; see nfs_listing.h.
#include "store/nfs_listing.h"

#include <algorithm>
#include <string_view>

namespace farswap::nfs {
namespace {

bool is_plain(std::string_view name) {
    return std::ranges::none_of(name, [](char c) {
        const auto code = static_cast<unsigned char>(c);
        return code < 0x20 || code == 0x7f || c == '/';
    });
}

}  // namespace

void Listing::take(std::uint64_t cookie, std::span<const std::byte> name) {
    cookie_ = cookie;
    any_ = true;
    const std::string_view text(reinterpret_cast<const char*>(name.data()), name.size());
    if (names_.size() <= kNamesMax && text.size() <= kNameMax && text.starts_with(prefix_) && is_plain(text))
        names_.emplace_back(text);
}

bool Listing::end_reply(bool end_of_directory) {
    // A reply without entries has nothing to go on from.
    done_ = end_of_directory || !any_;
    const bool goes_on = done_ || cookie_ != began_at_;
    began_at_ = cookie_;
    any_ = false;
    return goes_on && names_.size() <= kNamesMax;
}

}  // namespace farswap::nfs
