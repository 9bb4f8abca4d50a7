// Memory for what OpenSSL makes of keys: locked, in no core file and no child. Knows sizes, no keys.
#pragma once

#include <cstddef>

namespace farswap {

/// A cipher's context holds the expanded key, and OpenSSL takes it from the heap, which need not be locked
/// and is in core files. A program whose OpenSSL is its own calls this first of all: from then on what is
/// allocated while a KeyMemory::Use lives comes from memory that is kept for it. False: OpenSSL has allocated
/// something already, and goes on as it began.
bool keep_expanded_keys_apart() noexcept;

class KeyMemory {
  public:
    /// This thread's allocations by OpenSSL are about keys while it lives. Without keep_expanded_keys_apart()
    /// it has no effect.
    class [[nodiscard]] Use {
      public:
        Use() noexcept;
        ~Use();
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;
    };

    /// Maps and locks it, if it is to be used and is not there yet. 0 or an errno: EPERM or ENOMEM under a
    /// limit on locked memory.
    static int prepare() noexcept;
    /// Bytes of it, for messages.
    static constexpr std::size_t kBytes = 32 << 10;
};

}  // namespace farswap
