#include "cli/debug.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/log.h"

namespace farswap::cli {
namespace {

/// Beside us where we were built, in the libraries' folder where we are installed. Empty: in neither.
std::string find_library() {
    std::error_code ignored;
    const auto folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
    for (const auto& path : {folder / FARSWAP_DEBUG_LIBRARY, folder / FARSWAP_DEBUG_LIBRARY_INSTALLED}) {
        if (std::filesystem::exists(path, ignored)) return path.lexically_normal().string();
    }
    return {};
}

}  // namespace

Ending debug_command(const DebugOptions& options) {
    std::string library = find_library();
    if (library.empty()) {
        log::write_line(fmt::format("{} is missing: install farswap as a whole", FARSWAP_DEBUG_LIBRARY));
        return {kExitFailure, 0};
    }
    if (const char* others = getenv("LD_PRELOAD"); others != nullptr && *others != '\0')
        library.append(":").append(others);
    setenv("LD_PRELOAD", library.c_str(), 1);
    std::vector<char*> words;
    for (const std::string& word : options.argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    execvp(words.front(), words.data());
    log::write_line(fmt::format("cannot execute {}: {}", options.argv.front(), strerror(errno)));
    return ending_of_start_failure(errno);
}

}  // namespace farswap::cli
