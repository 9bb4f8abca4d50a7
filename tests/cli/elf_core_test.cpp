// The form of core files, written and read.
#include "cli/elf_core.h"

#include <elf.h>
#include <gmock/gmock.h>

#include <cerrno>
#include <cstring>

namespace farswap::cli {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kPage = 4096;

const std::vector<CoreSegment> kSegments = {{0x10000, 0x13000, PF_R | PF_W, true},
                                            {0x20000, 0x30000, PF_R | PF_X, false},
                                            {0x7f0000000000, 0x7f0000001000, PF_R, true}};

std::string head_of(const std::vector<CoreSegment>& segments) {
    std::string notes;
    append_note(notes, "CORE", NT_AUXV, std::as_bytes(std::span("12345", 5)));
    auto head = core_head(notes, segments);
    EXPECT_TRUE(head) << head.error().message;
    return head.value_or("");
}

Result<std::vector<CoreExtent>> extents_of(const std::string& head) {
    std::uint64_t needed = 0;
    return core_extents(head, needed);
}

TEST(ElfCore, WhatIsWrittenIsFoundAgain) {
    const std::string head = head_of(kSegments);
    EXPECT_EQ(head.size() % kPage, 0u);
    const auto extents = extents_of(head);
    ASSERT_TRUE(extents) << extents.error().message;
    ASSERT_EQ(extents->size(), 2u) << "the second has no content";
    EXPECT_EQ(extents->at(0).offset, head.size());
    EXPECT_EQ(extents->at(0).address, 0x10000u);
    EXPECT_EQ(extents->at(0).bytes, 3 * kPage);
    EXPECT_EQ(extents->at(1).offset, head.size() + 3 * kPage);
    EXPECT_EQ(extents->at(1).address, 0x7f0000000000u);
}

TEST(ElfCore, AsksForAsMuchAsItNeeds) {
    const std::string head = head_of(kSegments);
    std::uint64_t needed = 0;
    EXPECT_EQ(core_extents("", needed).error().code, EAGAIN);
    EXPECT_EQ(needed, sizeof(Elf64_Ehdr));
    EXPECT_EQ(core_extents(std::string_view(head).substr(0, needed), needed).error().code, EAGAIN);
    EXPECT_EQ(needed, sizeof(Elf64_Ehdr) + 4 * sizeof(Elf64_Phdr));
    EXPECT_TRUE(core_extents(std::string_view(head).substr(0, needed), needed));
}

TEST(ElfCore, NotesArePadded) {
    std::string notes;
    append_note(notes, "LINUX", NT_X86_XSTATE, std::as_bytes(std::span("123", 3)));
    Elf64_Nhdr header{};
    ASSERT_EQ(notes.size(), sizeof header + 8 + 4);
    std::memcpy(&header, notes.data(), sizeof header);
    EXPECT_EQ(header.n_namesz, 6u);
    EXPECT_EQ(header.n_descsz, 3u);
    EXPECT_STREQ(notes.data() + sizeof header, "LINUX");
}

TEST(ElfCore, RefusesWhatIsNoCoreFile) {
    std::string head = head_of(kSegments);
    head[EI_CLASS] = ELFCLASS32;
    EXPECT_THAT(extents_of(head).error().message, HasSubstr("64-bit"));
    EXPECT_EQ(extents_of(std::string(4096, 'x')).error().code, EINVAL);
}

TEST(ElfCore, RefusesSegmentsThatOverlapInTheFile) {
    std::string head = head_of({kSegments[0], kSegments[0]});
    Elf64_Phdr second{};
    char* at = head.data() + sizeof(Elf64_Ehdr) + 2 * sizeof second;
    std::memcpy(&second, at, sizeof second);
    second.p_offset -= kPage;
    std::memcpy(at, &second, sizeof second);
    EXPECT_THAT(extents_of(head).error().message, HasSubstr("overlap"));
}

TEST(ElfCore, RefusesMoreMappingsThanTheFormHasNumbersFor) {
    EXPECT_EQ(core_head("", std::vector<CoreSegment>(PN_XNUM)).error().code, EFBIG);
}

}  // namespace
}  // namespace farswap::cli
