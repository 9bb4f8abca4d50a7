// Counts what is taken from the heap, by operator new or by malloc, but for what a test double takes; or
// traps it.
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

/// While one lives, an allocation of this thread's ends the program with a line that names `where` (a string
/// that lives as long), and where it was made. Traps nest.
class AllocationTrap {
  public:
    explicit AllocationTrap(const char* where);
    ~AllocationTrap();
    AllocationTrap(const AllocationTrap&) = delete;
    AllocationTrap& operator=(const AllocationTrap&) = delete;

  private:
    const char* outer_;
};

/// While one lives, allocations are neither counted nor trapped.
class UncountedAllocations {
  public:
    UncountedAllocations();
    ~UncountedAllocations();
    UncountedAllocations(const UncountedAllocations&) = delete;
    UncountedAllocations& operator=(const UncountedAllocations&) = delete;
};

}  // namespace farswap::test
