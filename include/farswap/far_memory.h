/// @file
/// Memory of a program's own that may exceed its RAM: a std::pmr::memory_resource with a cap on RAM, whose
/// cold pages go to a store. Link libfarswap_memory (pkg-config farswap-memory, or farswap::memory in CMake).
///
/// It is paged by a thread of this process, with userfaultfd (Linux 6.8 or later); nothing but this memory
/// is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>

namespace farswap {

/// What FarMemory is asked to be.
struct FarMemoryOptions {
    /// Bytes that can be allocated. Address space only, until it is touched. Rounded up to whole pages.
    std::uint64_t size = 0;
    /// Bytes of RAM at the most: the pages that are here, those on their way, and what is noted of those that
    /// are not.
    std::uint64_t ram = 0;
    /// Where pages go: the URL of a store, as `farswap run --swap` has them (file:, nfs:, nbd:, plugin:).
    /// Empty: a file without a name in /var/tmp.
    std::string store{};
    /// Of `ram`, memory for pages on their way. 0: a sixteenth, at least 4 MiB and at most 256 MiB.
    std::uint64_t pool = 0;
};

/// Blocks are whole pages: it is meant for large ones. For small ones put a std::pmr pool resource in front
/// of it. Any thread may allocate, deallocate and use the memory, also hand it to system calls.
///
/// After fork(2) the child does not have this memory (MADV_DONTFORK): it ends by SIGSEGV where it touches it.
/// To give it back there, or to destroy this object, does nothing.
/// What is pinned in RAM by others (io_uring's registered buffers) or locked cannot leave; when too much of
/// it is, whoever touches what is outside waits. Do not change the protection of the memory, or move it, nor
/// give up parts of it by madvise(2): what was outside would come back.
///
/// What comes back was verified, and left encrypted: never a wrong byte. When the store has lost or changed a
/// page, fails for good or is full, one line on standard error says so and the process ends by abort(3):
/// there is nobody else to tell it to.
class FarMemory final : public std::pmr::memory_resource {
  public:
    /// Opens the store and starts the thread. Null on failure: errno says why, and `message` what to do, in
    /// one line. Blocking, for some seconds where a server does not answer.
    static std::unique_ptr<FarMemory> create(const FarMemoryOptions& options, std::string& message);
    /// Everything in it must be destroyed by now. Ends the thread, removes what is on the store.
    ~FarMemory() override;

    /// What was done so far.
    struct Counters {
        std::uint64_t ram_bytes = 0;       ///< RAM that counts against the cap now
        std::uint64_t ram_peak_bytes = 0;  ///< the most of it at one time
        std::uint64_t far_bytes = 0;       ///< of the memory, what is outside of RAM now
        std::uint64_t faults = 0;          ///< page faults served
        std::uint64_t pages_out = 0;       ///< pages that left
        std::uint64_t pages_written =
            0;  ///< of these, written to the store; the others were on it already, or empty
        std::uint64_t pages_in = 0;  ///< pages read from the store
    };
    /// Any thread.
    Counters counters() const noexcept;

  private:
    // Throws std::bad_alloc when no such piece of the range is left, or for an alignment above a page's.
    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    // The pages are given up: what was in them is gone, and their RAM and places on the store are free.
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override;
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override;

    struct State;
    explicit FarMemory(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace farswap
