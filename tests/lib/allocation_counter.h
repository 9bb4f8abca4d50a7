// Counts what is taken from the heap, by operator new or by malloc, but for what a test double takes.
#pragma once

#include <cstddef>

namespace farswap::test {

/// Counts from its construction on, this thread's allocations.
class AllocationCounter {
  public:
    AllocationCounter();
    std::size_t allocations() const;

  private:
    std::size_t start_;
};

/// While one lives, allocations are not counted.
class UncountedAllocations {
  public:
    UncountedAllocations();
    ~UncountedAllocations();
    UncountedAllocations(const UncountedAllocations&) = delete;
    UncountedAllocations& operator=(const UncountedAllocations&) = delete;
};

}  // namespace farswap::test
