// Counts allocations by operator new, but for those that a test double makes.
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
