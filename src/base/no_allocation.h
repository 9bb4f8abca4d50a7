// Where a thread must not allocate, and where it may all the same. Marks only, which cost two instructions
// each and change nothing: a program that is linked with tests/lib/trapped_heap.cpp ends at an allocation
// where there may be none (decision 0026). Knows of no layer.
#pragma once

namespace farswap {

/// What the calling thread is in while it must not allocate; null: it may. Of the initial-exec kind, as the
/// first use of another one may allocate by itself.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local const char* no_allocation_in;

/// While one lives, its thread allocates nothing. `where`: a string that lives as long, for the trap's line.
class [[nodiscard]] NoAllocation {
  public:
    explicit NoAllocation(const char* where) noexcept : outer_(no_allocation_in) { no_allocation_in = where; }
    ~NoAllocation() { no_allocation_in = outer_; }
    NoAllocation(const NoAllocation&) = delete;
    NoAllocation& operator=(const NoAllocation&) = delete;

  private:
    const char* outer_;
};

/// While one lives, its thread may allocate, wherever it is. `why` is for the reader: what is served by it,
/// and that no thread waits for a page, nor a page for its write, until memory is there; or why it has to.
class [[nodiscard]] MayAllocate {
  public:
    explicit MayAllocate([[maybe_unused]] const char* why) noexcept : outer_(no_allocation_in) {
        no_allocation_in = nullptr;
    }
    ~MayAllocate() { no_allocation_in = outer_; }
    MayAllocate(const MayAllocate&) = delete;
    MayAllocate& operator=(const MayAllocate&) = delete;

  private:
    const char* outer_;
};

}  // namespace farswap
