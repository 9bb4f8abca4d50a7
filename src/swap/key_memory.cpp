#include "swap/key_memory.h"

#include <openssl/crypto.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/secret_memory.h"

namespace farswap {
namespace {

constexpr std::size_t kAlignment = 16;  // malloc(3)'s

std::atomic<std::byte*> memory{nullptr};
std::mutex mutex;  // of what follows
std::size_t used = 0;
std::size_t live = 0;
bool replaced = false;
thread_local int uses = 0;

/// How long a piece is stands before it.
struct alignas(kAlignment) Head {
    std::size_t bytes;
};

bool is_ours(const void* piece) noexcept {
    const auto* const start = memory.load(std::memory_order_acquire);
    const auto at = reinterpret_cast<std::uintptr_t>(piece);
    return start != nullptr && at - reinterpret_cast<std::uintptr_t>(start) < KeyMemory::kBytes;
}

void* take(std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex);
    const std::size_t whole = sizeof(Head) + (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > KeyMemory::kBytes || whole > KeyMemory::kBytes - used) return nullptr;
    auto* const head = reinterpret_cast<Head*>(memory.load(std::memory_order_relaxed) + used);
    head->bytes = bytes;
    used += whole;
    live++;
    return head + 1;
}

/// Pieces are few and go together: room is made when the last one has gone.
void give_back(void* piece) noexcept {
    const std::lock_guard lock(mutex);
    Head* const head = static_cast<Head*>(piece) - 1;
    OPENSSL_cleanse(piece, head->bytes);
    if (--live == 0) used = 0;
}

void* allocate(std::size_t bytes, const char*, int) noexcept {
    if (bytes == 0) return nullptr;
    if (uses == 0 || memory.load(std::memory_order_acquire) == nullptr) return std::malloc(bytes);
    return take(bytes);
}

void release(void* piece, const char*, int) noexcept {
    is_ours(piece) ? give_back(piece) : std::free(piece);
}

void* reallocate(void* piece, std::size_t bytes, const char* file, int line) noexcept {
    if (piece == nullptr) return allocate(bytes, file, line);
    if (!is_ours(piece)) return std::realloc(piece, bytes);
    if (bytes == 0) {
        give_back(piece);
        return nullptr;
    }
    void* const larger = take(bytes);
    if (larger == nullptr) return nullptr;
    const std::size_t has = (static_cast<Head*>(piece) - 1)->bytes;
    std::memcpy(larger, piece, has < bytes ? has : bytes);
    give_back(piece);
    return larger;
}

}  // namespace

bool keep_expanded_keys_apart() noexcept {
    replaced = ::CRYPTO_set_mem_functions(allocate, reallocate, release) == 1;
    return replaced;
}

int KeyMemory::prepare() noexcept {
    if (!replaced || memory.load(std::memory_order_relaxed) != nullptr) return 0;
    auto* const mapped = static_cast<std::byte*>(map_secret_memory(kBytes));
    if (mapped == nullptr) return errno;
    memory.store(mapped, std::memory_order_release);
    return 0;
}

KeyMemory::Use::Use() noexcept {
    uses++;
}
KeyMemory::Use::~Use() {
    uses--;
}

}  // namespace farswap
