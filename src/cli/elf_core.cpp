#include "cli/elf_core.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "farswap/request.h"

namespace farswap::cli {
namespace {

constexpr std::size_t kNoteAlignment = 4;
constexpr std::uint64_t kHeadersMax = std::uint64_t{64} << 20;  // of a core that is read

template <typename T>
void append(std::string& text, const T& value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
T read_at(std::string_view text, std::size_t offset) {
    T value{};
    std::memcpy(&value, text.data() + offset, sizeof value);
    return value;
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t to) {
    return (value + to - 1) / to * to;
}

Elf64_Ehdr core_header(std::size_t segments) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_CORE;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = static_cast<Elf64_Half>(segments + 1);
    return header;
}

bool is_core_of_ours(const Elf64_Ehdr& header) {
    return std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
           header.e_ident[EI_DATA] == ELFDATA2LSB && header.e_type == ET_CORE &&
           header.e_phentsize == sizeof(Elf64_Phdr);
}

}  // namespace

void append_note(std::string& notes, std::string_view owner, std::uint32_t type,
                 std::span<const std::byte> content) {
    append(notes, Elf64_Nhdr{static_cast<Elf64_Word>(owner.size() + 1),
                             static_cast<Elf64_Word>(content.size()), type});
    notes.append(owner);
    notes.push_back('\0');
    notes.resize(round_up(notes.size(), kNoteAlignment));
    notes.append(reinterpret_cast<const char*>(content.data()), content.size());
    notes.resize(round_up(notes.size(), kNoteAlignment));
}

Result<std::string> core_head(std::string_view notes, std::span<const CoreSegment> segments) {
    if (segments.size() + 1 >= PN_XNUM)
        return fail(EFBIG, "{} mappings are more than a core file can name", segments.size());
    std::string head;
    append(head, core_header(segments.size()));
    const std::uint64_t notes_at = sizeof(Elf64_Ehdr) + (segments.size() + 1) * sizeof(Elf64_Phdr);
    Elf64_Phdr note{};
    note.p_type = PT_NOTE;
    note.p_offset = notes_at;
    note.p_filesz = notes.size();
    note.p_align = kNoteAlignment;
    append(head, note);
    std::uint64_t offset = round_up(notes_at + notes.size(), kPageSize);
    const std::uint64_t head_bytes = offset;
    for (const CoreSegment& segment : segments) {
        Elf64_Phdr load{};
        load.p_type = PT_LOAD;
        load.p_flags = segment.flags;
        load.p_offset = offset;
        load.p_vaddr = segment.start;
        load.p_memsz = segment.end - segment.start;
        load.p_filesz = segment.has_content ? load.p_memsz : 0;
        load.p_align = kPageSize;
        append(head, load);
        offset += load.p_filesz;
    }
    head.append(notes);
    head.resize(head_bytes);
    return head;
}

Result<std::vector<CoreExtent>> core_extents(std::string_view head, std::uint64_t& bytes_needed) {
    bytes_needed = sizeof(Elf64_Ehdr);
    if (head.size() < bytes_needed) return fail(EAGAIN, "more of the core file is needed");
    const auto header = read_at<Elf64_Ehdr>(head, 0);
    if (!is_core_of_ours(header)) return fail(EINVAL, "what is read is no core file of a 64-bit program");
    std::uint64_t count = header.e_phnum;
    // With 65,535 and more the number stands in the first section header, which comes last: not in a pipe.
    if (count == PN_XNUM || header.e_phoff > kHeadersMax)
        return fail(EINVAL, "the core file has too many mappings to be read from a pipe");
    bytes_needed = header.e_phoff + count * sizeof(Elf64_Phdr);
    if (head.size() < bytes_needed) return fail(EAGAIN, "more of the core file is needed");
    std::vector<CoreExtent> extents;
    for (std::uint64_t i = 0; i < count; i++) {
        const auto segment = read_at<Elf64_Phdr>(head, header.e_phoff + i * sizeof(Elf64_Phdr));
        if (segment.p_type != PT_LOAD || segment.p_filesz == 0) continue;
        if (segment.p_vaddr % kPageSize != 0 || segment.p_filesz > ~std::uint64_t{0} - segment.p_offset ||
            segment.p_filesz > ~std::uint64_t{0} - segment.p_vaddr)
            return fail(EINVAL, "the core file has a segment at {:#x} that cannot be", segment.p_vaddr);
        extents.push_back({segment.p_offset, segment.p_vaddr, segment.p_filesz});
    }
    std::ranges::sort(extents, {}, &CoreExtent::offset);
    std::uint64_t end = bytes_needed;
    for (const CoreExtent& extent : extents) {
        if (extent.offset < end) return fail(EINVAL, "the core file has segments that overlap");
        end = extent.offset + extent.bytes;
    }
    return extents;
}

}  // namespace farswap::cli
