// Descriptors that lead into the simulation: userfaultfds, pidfds, agents' sockets, files of /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernel.h"

namespace farswap::simulate {

struct File {
    enum class Kind { kUffd, kPidfd, kSocket, kPagemap, kText, kDirectory };
    Kind kind = Kind::kText;
    Context* uffd = nullptr;
    pid_t process = 0;
    std::shared_ptr<Channel> channel{};
    std::shared_ptr<Memory> memory{};  ///< pagemap: of whatever the process executed then
    std::string name{};                ///< kText: after the process's number
    std::string text{};
    std::vector<pid_t> threads{};  ///< kDirectory: what is in a /proc/PID/task
    std::size_t offset = 0;        ///< bytes; kDirectory: entries
};

class Files {
  public:
    static constexpr int kFirst = 1 << 20;  ///< above any that the real kernel gives

    static bool are_ours(int descriptor) { return descriptor >= kFirst; }
    int add(File file);
    File* find(int descriptor);
    void close(int descriptor);
    bool is_readable(int descriptor);
    std::size_t open() const { return files_.size(); }

    /// open(2) of a path below /proc; -1 and errno if there is none, nothing if the path is not ours.
    static bool is_ours(const char* path);
    int open(const char* path);

  private:
    std::map<int, File> files_;
    int next_ = kFirst;
};

/// The text of /proc/PROCESS/NAME; empty: nothing there any more.
std::string proc_text(pid_t process, const std::string& name);

}  // namespace farswap::simulate
