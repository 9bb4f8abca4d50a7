// Calls liblz4 and libzstd.
#include "swap/compress.h"

// For contexts in memory of our own (ZSTD_customMem): "experimental", and the same since zstd 1.0.
#define ZSTD_STATIC_LINKING_ONLY
#include <lz4.h>
#include <sys/mman.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/secret_memory.h"

namespace farswap {
namespace {

constexpr int kZstdLevel = 1;
struct FreeZstd {
    void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
    void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

/// zstd takes three pieces of memory, tables and literals of pages in them, and gives them back at the end.
void* take_locked(void*, std::size_t bytes) noexcept {
    void* const mapped = map_secret_memory(kPageSize + bytes);
    if (mapped == nullptr) return nullptr;
    std::memcpy(mapped, &bytes, sizeof bytes);
    return static_cast<std::byte*>(mapped) + kPageSize;
}
void give_locked_back(void*, void* memory) noexcept {
    if (memory == nullptr) return;
    std::byte* const mapped = static_cast<std::byte*>(memory) - kPageSize;
    std::size_t bytes = 0;
    std::memcpy(&bytes, mapped, sizeof bytes);
    ::munmap(mapped, kPageSize + bytes);
}
constexpr ZSTD_customMem kLockedMemory{take_locked, give_locked_back, nullptr};
constexpr ZSTD_customMem kHeap{nullptr, nullptr, nullptr};

}  // namespace

struct Compressor::State {
    Compression compression = Compression::kOff;
    std::unique_ptr<char[]> lz4;  ///< LZ4_sizeofState() bytes: positions, nothing of the page itself
    std::unique_ptr<ZSTD_CCtx, FreeZstd> packing;
    std::unique_ptr<ZSTD_DCtx, FreeZstd> unpacking;
};

Compressor::Compressor(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Compressor::~Compressor() = default;

Result<std::unique_ptr<Compressor>> Compressor::create(Compression compression, bool locked) {
    auto state = std::make_unique<State>();
    state->compression = compression;
    if (compression == Compression::kLz4)
        state->lz4 = std::make_unique<char[]>(static_cast<std::size_t>(LZ4_sizeofState()));
    if (compression == Compression::kZstd) {
        const ZSTD_customMem& memory = locked ? kLockedMemory : kHeap;
        errno = ENOMEM;
        state->packing.reset(ZSTD_createCCtx_advanced(memory));
        state->unpacking.reset(ZSTD_createDCtx_advanced(memory));
        if (!state->packing || !state->unpacking)
            return fail_errno(errno, "no {}memory for zstd's tables", locked ? "locked " : "");
    }
    std::unique_ptr<Compressor> compressor(new Compressor(std::move(state)));
    // Contexts take their tables at the first use.
    std::array<std::byte, kPageSize> page{}, packed{};
    const std::uint32_t length = compressor->compress(page.data(), packed.data(), kPageSize);
    if (compression != Compression::kOff && !compressor->expand(packed.data(), length, page.data()))
        return fail(EIO, "{} cannot expand what it has compressed", name_of(compression));
    return compressor;
}

std::uint32_t Compressor::compress(const std::byte* page, std::byte* into, std::uint32_t most) noexcept {
    if (state_->compression == Compression::kLz4) {
        const int length = LZ4_compress_fast_extState(state_->lz4.get(), reinterpret_cast<const char*>(page),
                                                      reinterpret_cast<char*>(into),
                                                      static_cast<int>(kPageSize), static_cast<int>(most), 1);
        return static_cast<std::uint32_t>(length);
    }
    if (state_->compression == Compression::kZstd) {
        const std::size_t length =
            ZSTD_compressCCtx(state_->packing.get(), into, most, page, kPageSize, kZstdLevel);
        return ZSTD_isError(length) ? 0 : static_cast<std::uint32_t>(length);
    }
    return 0;
}

bool Compressor::expand(const std::byte* from, std::uint32_t length, std::byte* page) noexcept {
    if (state_->compression == Compression::kLz4)
        return LZ4_decompress_safe(reinterpret_cast<const char*>(from), reinterpret_cast<char*>(page),
                                   static_cast<int>(length),
                                   static_cast<int>(kPageSize)) == static_cast<int>(kPageSize);
    FARSWAP_ASSERT(state_->compression == Compression::kZstd);
    return ZSTD_decompressDCtx(state_->unpacking.get(), page, kPageSize, from, length) == kPageSize;
}

}  // namespace farswap
