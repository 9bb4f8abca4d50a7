// The memory of simulated processes: pages, page table entries, mappings, and the oracle that knows what each
// byte must be. Data only; kernel.h says how it changes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "farswap/request.h"
#include "target/proc.h"

namespace farswap::simulate {

class Context;

using target::AddressRange;

/// The content that a page has after the write of that number; number 0 is zeros.
void fill_page(std::byte* page, std::uint64_t version);
bool page_holds(const std::byte* page, std::uint64_t version);

/// Memory that page table entries of one or more address spaces point to.
struct Page {
    std::array<std::byte, kPageSize> bytes{};
    std::uint32_t maps = 0;
    std::uint32_t pins = 0;  ///< a device's: it reads or writes whatever becomes of the entries
};

/// What is mapped at an address. Without a page: the kernel's page of zeros.
struct Entry {
    Page* page = nullptr;
    bool exclusive = false;     ///< PageAnonExclusive: no fork has shared it since the last write or unshare
    bool wp = false;            ///< write-protected by userfaultfd
    std::uint64_t wp_look = 0;  ///< as Memory::looks, when it was protected
    bool lazy = false;          ///< MADV_FREE: dropped some time, unless it is written to before
};

struct Vma {
    std::uint64_t start = 0, end = 0;
    Context* uffd = nullptr;  ///< registered with it
    bool agents = false;      ///< the agent's own memory
    bool is_unknown = false;  ///< inherited, of an agent that the pager had not been told of
    bool dont_fork = false;   ///< MADV_DONTFORK
    bool wipe_on_fork = false;
    bool locked = false;  ///< mlock(2): MOVE refuses it
};

/// An address space. Its pages go with it.
struct Memory {
    std::map<std::uint64_t, Vma> vmas;  ///< by their starts; no two touch each other's addresses
    std::map<std::uint64_t, Entry> entries;
    Context* uffd = nullptr;  ///< of its registered mappings; there is one at most
    bool gone = false;        ///< nobody uses it any more

    /// The oracle: the last write to each page, in program order of this model; none: zeros.
    std::map<std::uint64_t, std::uint64_t> expected;
    /// madvise(2) calls under way: a page there may read as it was or as zeros.
    std::vector<AddressRange> removing;
    /// Ranges that are being unmapped or moved away.
    std::vector<AddressRange> leaving;
    /// Calls of MADV_WIPEONFORK or MADV_KEEPONFORK under way: what a fork beside them copies is nobody's
    /// guess.
    std::uint32_t advising = 0;
    /// Ranges that a call is about: a program that unmaps what it is removing elsewhere is not right itself.
    std::vector<AddressRange> claimed;

    Vma* find(std::uint64_t address);
    /// Makes mappings begin and end there.
    void split(std::uint64_t address);
    AddressRange freed{};         ///< what was unmapped or moved away last
    std::uint64_t newest = 0;     ///< the start of what was mapped last
    std::uint64_t arrived = 0;    ///< where something has moved to last, by a call that has returned
    std::uint64_t forked_at = 0;  ///< step at which it last did; far ahead while it does
    /// When the pager last looked for threads and what they hold, in steps; and when it had, before the MOVE
    /// that took a page. What a thread comes to hold between such a look and the MOVE nobody can know.
    std::uint64_t looked = 0, looked_before_move = 0;
    std::map<std::uint64_t, std::uint64_t> taken;

    bool is_free(std::uint64_t start, std::uint64_t end) const;
    bool is_claimed(std::uint64_t start, std::uint64_t end) const;
    bool is_leaving(std::uint64_t start, std::uint64_t end) const;
    bool is_forking() const { return forked_at > kForking / 2; }
    static constexpr std::uint64_t kForking = std::uint64_t{1} << 62;
    bool is_removing(std::uint64_t address) const;
    std::uint64_t version_at(std::uint64_t address) const;
    /// Takes the entry away; the page is freed with its last one.
    void drop(std::map<std::uint64_t, Entry>::iterator entry);
    void drop_range(std::uint64_t start, std::uint64_t end);
    /// Pages that are present, each divided by how many have it.
    double pages_used() const;
    std::uint64_t pages_present() const;
};

/// Takes one use away; frees the page when nobody maps or pins it.
void release(Page* page);

/// Removes the first range that is equal.
void remove_range(std::vector<AddressRange>& ranges, AddressRange range);

}  // namespace farswap::simulate
