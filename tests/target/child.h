// What the tests of this folder share: a forked child that runs a function, and waits for what /proc shows of
// it.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <string>

namespace farswap::target {

/// A zeroed T in memory that a test shares with the children that it forks afterwards.
template <typename T>
class Shared {
  public:
    Shared()
        : value_(::new (mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                     T{}) {}
    ~Shared() { munmap(value_, sizeof(T)); }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    T* operator->() const { return value_; }
    T* get() const { return value_; }

  private:
    T* value_;
};

/// A child process that runs `body` and exits with its result. Killed and reaped on destruction; it does not
/// outlive the test.
class Child {
  public:
    explicit Child(const std::function<int()>& body);
    explicit Child(pid_t started) : process_(started) {}
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    pid_t process() const { return process_; }
    /// Waits for its end; the exit status, or -1 when a signal ended it.
    int join();

  private:
    pid_t process_;
};

/// Writes to each page of the range, and makes no other memory present: not the address sanitizer's shadow of
/// it either, an eighth, which the sanitizer reads before an ordinary write and some kernels give memory for.
void touch_pages(void* at, std::size_t bytes);

/// Waits until `holds()`; false when it does not within a minute. For what the kernel shows but does not
/// announce.
bool wait_until(const std::function<bool()>& holds);

/// Whether the task is blocked in system call `number`, or in its restart.
bool is_in_system_call(pid_t task, long number);
/// Whether the task sleeps in a fault on a page of a userfaultfd (or in an event that waits to be read
/// there).
bool waits_for_userfaultfd(pid_t task);
/// "0 /dev/null, 1 pipe:[123], ...": the descriptor table of a process.
std::string descriptors(pid_t process);

}  // namespace farswap::target
