// Which pool an address belongs to: a fixed table of entries, each behind its own sequence count.
#include "page/registry.h"

#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/assert.h"
#include "page/frame_table.h"

namespace farswap::registry {

namespace {

using Address = std::uintptr_t;

struct AtomicRange {
    std::atomic<Address> begin{0};
    std::atomic<Address> end{0};

    void store(const void* data, std::size_t size) noexcept {
        const auto first = reinterpret_cast<Address>(data);
        begin.store(first, std::memory_order_release);
        end.store(first + size, std::memory_order_release);
    }
    bool holds(Address address) const noexcept {
        return begin.load(std::memory_order_acquire) <= address &&
               address < end.load(std::memory_order_acquire);
    }
};

/// Readers never wait: an entry that changes while it is read is not the caller's (see registry.h), so a
/// look-up passes it by. Loads that acquire and stores that release, instead of fences, are what
/// ThreadSanitizer knows.
struct Entry {
    std::atomic<std::uint32_t> sequence{0};  // odd while the entry changes
    std::atomic<FrameTable*> table{nullptr};
    AtomicRange memory;
    AtomicRange handles;

    void begin_change() noexcept { sequence.fetch_add(1, std::memory_order_relaxed); }
    void end_change() noexcept { sequence.fetch_add(1, std::memory_order_release); }
};

Entry entries[kPoolsMax];
// Entries that were ever used: what a look-up walks, 1 in a pager.
std::atomic<int> entries_used{0};
std::mutex writers;

FrameTable* find(AtomicRange Entry::*range, const void* pointer) noexcept {
    const auto address = reinterpret_cast<Address>(pointer);
    const int used = entries_used.load(std::memory_order_acquire);
    for (int i = 0; i < used; ++i) {
        const Entry& entry = entries[i];
        const std::uint32_t before = entry.sequence.load(std::memory_order_acquire);
        if (before % 2 != 0 || !(entry.*range).holds(address)) continue;
        FrameTable* table = entry.table.load(std::memory_order_acquire);
        if (entry.sequence.load(std::memory_order_relaxed) == before) return table;
    }
    return nullptr;
}

Entry& entry_of(const FrameTable* table) noexcept {
    for (Entry& entry : entries) {
        if (entry.table.load(std::memory_order_relaxed) == table) return entry;
    }
    FARSWAP_ASSERT(!"the pool is registered");
    __builtin_unreachable();
}

}  // namespace

bool add(FrameTable& table) noexcept {
    const std::lock_guard lock(writers);
    for (int i = 0; i < kPoolsMax; ++i) {
        Entry& entry = entries[i];
        if (entry.table.load(std::memory_order_relaxed) != nullptr) continue;
        entry.begin_change();
        entry.memory.store(table.memory().data(), table.memory().size());
        entry.handles.store(table.handles().data(), table.handles().size());
        entry.table.store(&table, std::memory_order_release);
        entry.end_change();
        if (i >= entries_used.load(std::memory_order_relaxed))
            entries_used.store(i + 1, std::memory_order_release);
        return true;
    }
    return false;
}

void retire(const FrameTable& table) noexcept {
    const std::lock_guard lock(writers);
    Entry& entry = entry_of(&table);
    entry.begin_change();
    entry.memory.store(nullptr, 0);
    entry.end_change();
}

void remove(const FrameTable& table) noexcept {
    const std::lock_guard lock(writers);
    Entry& entry = entry_of(&table);
    entry.begin_change();
    entry.memory.store(nullptr, 0);
    entry.handles.store(nullptr, 0);
    entry.table.store(nullptr, std::memory_order_release);
    entry.end_change();
}

FrameTable* find_memory(const void* address) noexcept {
    return find(&Entry::memory, address);
}

FrameTable* find_handle(const page* handle) noexcept {
    return find(&Entry::handles, handle);
}

}  // namespace farswap::registry
