// The kernel's own core file, completed: while it is written, the kernel does not wait for pages that are
// outside (handle_userfault() in fs/userfaultfd.c, PF_DUMPCORE), and leaves zeros in their places.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/log.h"
#include "cli/core.h"
#include "cli/core_file.h"
#include "cli/elf_core.h"
#include "cli/outside_memory.h"
#include "farswap/request.h"

namespace farswap::cli {
namespace {

constexpr std::size_t kPiece = OutsideMemory::kPagesMax * kPageSize;

/// Standard input, read in full pieces.
class Input {
  public:
    /// As many bytes as there are, `into` at most.
    Result<std::size_t> read(std::span<std::byte> into) {
        std::size_t got = 0;
        while (got < into.size()) {
            const ssize_t more = ::read(STDIN_FILENO, into.data() + got, into.size() - got);
            if (more < 0 && errno == EINTR) continue;
            if (more < 0) return fail_errno(errno, "cannot read the core file from standard input");
            if (more == 0) break;
            got += static_cast<std::size_t>(more);
        }
        return got;
    }
};

/// Puts what is outside into pieces of the process's memory as they pass.
class Merge {
  public:
    Merge(OutsideMemory& far, Input& input, CoreFile& file) : far_(far), input_(input), file_(file) {}

    /// Copies an extent. False: the input ends within it.
    Result<bool> copy(const CoreExtent& extent) {
        std::array<std::byte, kPiece> buffer;
        for (std::uint64_t at = 0; at < extent.bytes;) {
            const auto wanted = std::span(buffer).first(std::min<std::uint64_t>(kPiece, extent.bytes - at));
            // Asked for before it is read: when the kernel has got rid of the last piece, the process is
            // gone.
            prepare(extent.address + at, wanted.size());
            auto got = input_.read(wanted);
            if (!got) return std::unexpected(got.error());
            put_in(wanted.first(*got));
            if (auto put = file_.write(wanted.first(*got)); !put) return std::unexpected(put.error());
            if (*got < wanted.size()) return false;
            at += *got;
        }
        return true;
    }

    /// Why pages that were outside are missing; empty if none is.
    const std::string& why_missing() const { return why_; }

  private:
    void prepare(std::uint64_t address, std::size_t bytes) {
        outside_ = 0;
        const std::size_t pages = bytes / kPageSize;
        if (is_lost_ || pages == 0 || !may_be_outside(address, address + pages * kPageSize)) return;
        auto read = far_.read(address, std::span(content_).first(pages * kPageSize));
        if (read) {
            outside_ = *read;
        } else {
            note_missing(read.error());
        }
    }

    bool may_be_outside(std::uint64_t start, std::uint64_t end) {
        if (start < known_from_ || end > known_.until) {
            auto known = far_.outside(start, std::max(end, start + kKnownBytes));
            if (!known) {
                note_missing(known.error());
                return false;
            }
            known_ = std::move(*known);
            known_from_ = start;
        }
        return std::ranges::any_of(
                   known_.ranges,
                   [&](const auto& range) { return range.start < end && range.end > start; }) ||
               end > known_.until;
    }

    void put_in(std::span<std::byte> piece) const {
        for (std::size_t i = 0; i < piece.size() / kPageSize; i++) {
            if ((outside_ >> i & 1) != 0)
                std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(i * kPageSize), kPageSize,
                            piece.begin() + static_cast<std::ptrdiff_t>(i * kPageSize));
        }
    }

    void note_missing(const Error& error) {
        why_ = error.message;
        is_lost_ = error.code != EIO;  // a page that cannot be had, or all of them
    }

    static constexpr std::uint64_t kKnownBytes = std::uint64_t{64} << 20;
    OutsideMemory& far_;
    Input& input_;
    CoreFile& file_;
    std::array<std::byte, kPiece> content_{};
    std::uint32_t outside_ = 0;
    OutsideMemory::Outside known_{};
    std::uint64_t known_from_ = 1;
    bool is_lost_ = false;
    std::string why_;
};

/// Copies until `end`, a byte offset in the file, or the end of the input; whether that came first.
Result<bool> copy_until(Input& input, CoreFile& file, std::uint64_t end) {
    std::array<std::byte, kPiece> buffer;
    while (file.bytes_written() < end) {
        const auto wanted =
            std::span(buffer).first(std::min<std::uint64_t>(kPiece, end - file.bytes_written()));
        auto got = input.read(wanted);
        if (!got) return std::unexpected(got.error());
        if (auto put = file.write(wanted.first(*got)); !put) return std::unexpected(put.error());
        if (*got < wanted.size()) return true;
    }
    return false;
}

/// Reads the beginning of a core file, written on as it is, up to where it is understood.
Result<std::vector<CoreExtent>> read_head(Input& input, CoreFile& file) {
    std::string head;
    for (;;) {
        std::uint64_t needed = 0;
        auto extents = core_extents(head, needed);
        if (extents || extents.error().code != EAGAIN) return extents;
        const std::size_t had = head.size();
        head.resize(needed);
        const auto more = std::as_writable_bytes(std::span(head)).subspan(had);
        auto got = input.read(more);
        if (!got) return std::unexpected(got.error());
        if (auto put = file.write(more.first(*got)); !put) return std::unexpected(put.error());
        if (*got < more.size()) return fail(EINVAL, "the core file on standard input ends in its headers");
    }
}

/// Whatever goes wrong on the side of what is outside, the rest of the core file is kept: there will be no
/// other.
Status merge(pid_t process, Input& input, CoreFile& file) {
    auto far = OutsideMemory::open(process);
    auto extents = read_head(input, file);
    Status complaint;
    if (!extents) complaint = std::unexpected(extents.error());
    if (far) {
        if (auto held = far->hold(); !held) far = std::unexpected(held.error());
    }
    if (!far && far.error().code != ENOENT) complaint = std::unexpected(far.error());
    if (extents && far) {
        Merge merge(*far, input, file);
        bool has_ended = false;
        for (const CoreExtent& extent : *extents) {
            auto before = copy_until(input, file, extent.offset);
            if (!before) return std::unexpected(before.error());
            auto whole = merge.copy(extent);
            if (!whole) return std::unexpected(whole.error());
            has_ended = *before || !*whole;
            if (has_ended) break;
        }
        if (has_ended)
            complaint = fail(EINVAL, "the core file on standard input ends before its last mapping");
        if (!merge.why_missing().empty())
            complaint = fail(EIO, "the core file of process {} shows zeros for pages that were outside: {}",
                             process, merge.why_missing());
    }
    auto rest = copy_until(input, file, ~std::uint64_t{0});
    if (!rest) return std::unexpected(rest.error());
    if (auto kept = file.keep(); !kept) return kept;
    return complaint;
}

}  // namespace

Ending merge_core_command(const CoreOptions& options) {
    auto file = CoreFile::create(options.output, [] { return false; });  // signals end us
    Input input;
    const Status done = file ? merge(options.process, input, *file) : Status(std::unexpected(file.error()));
    if (done) return {0, 0};
    log::write_line(done.error().message);
    return {kExitFailure, 0};
}

}  // namespace farswap::cli
