#include "files.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "world.h"

namespace farswap::simulate {
namespace {

std::string maps(const Memory& memory, bool with_details) {
    std::string text;
    for (const auto& [start, vma] : memory.vmas) {
        text += fmt::format("{:x}-{:x} rw-p 00000000 00:00 0 {}\n", start, vma.end,
                            vma.agents ? "[anon:farswap]" : "");
        if (!with_details) continue;
        text += fmt::format("VmFlags: rd wr mr mw me ac{}{}{}\n", vma.dont_fork ? " dc" : "",
                            vma.wipe_on_fork ? " wf" : "", vma.locked ? " lo" : "");
    }
    return text;
}

/// proc_pid_stat(5), as far as it is read: state, parent, minor faults.
std::string stat(const Process& process) {
    return fmt::format("{} (program) {} {} 0 0 0 0 0 {} 0 0 0 0 0 0 0 0 0 0 0 0\n", process.id,
                       process.alive ? 'S' : 'Z', process.parent, process.minor_faults);
}

std::string status(const Process& process) {
    if (!process.alive) return fmt::format("State: Z\nTgid: {}\nThreads: 1\n", process.id);
    const std::uint64_t kib = process.memory->pages_present() * kPageSize / 1024;
    return fmt::format("State: S\nTgid: {}\nVmRSS: {} kB\nRssAnon: {} kB\nRssShmem: 0 kB\nThreads: {}\n",
                       process.id, kib, kib, process.threads.size());
}

}  // namespace

std::string proc_text(pid_t number, const std::string& name) {
    const Process* process = world->find_by_thread(number);
    if (process == nullptr) return {};
    if (name == "stat") return stat(*process);
    if (name == "status") return status(*process);
    if (name == "schedstat") {
        for (const auto& thread : process->threads)
            if (thread->id == number) return fmt::format("{} 0 0\n", thread->run_time);
        return {};
    }
    if (!process->alive) return {};
    if (name == "mem") return {};  // only read where process_vm_readv(2) is refused
    if (name == "maps" || name == "smaps") return maps(*process->memory, name == "smaps");
    fail_run(fmt::format("/proc/{}/{} is not simulated", number, name));
}

int Files::add(File file) {
    if (file.uffd != nullptr) ++file.uffd->descriptors;
    files_.emplace(next_, std::move(file));
    return next_++;
}

File* Files::find(int descriptor) {
    const auto found = files_.find(descriptor);
    return found == files_.end() ? nullptr : &found->second;
}

void Files::close(int descriptor) {
    const auto found = files_.find(descriptor);
    if (found == files_.end()) fail_run(fmt::format("descriptor {} is closed, and is not open", descriptor));
    File& file = found->second;
    if (file.uffd != nullptr && --file.uffd->descriptors == 0) file.uffd->shut();
    if (file.channel) {
        file.channel->closed = true;
        for (const auto& process : world->processes)
            if (process->channel == file.channel)
                for (const auto& thread : process->threads)
                    if (thread->is_agent) thread->unblock();
    }
    files_.erase(found);
}

bool Files::is_readable(int descriptor) {
    const File* file = find(descriptor);
    if (file == nullptr) return false;
    switch (file->kind) {
        case File::Kind::kUffd:
            return file->uffd->is_readable();
        case File::Kind::kSocket:
            return !file->channel->replies.empty() || file->channel->agent_ended;
        case File::Kind::kPidfd: {
            const Process* process = world->find(file->process);
            return process == nullptr || !process->alive;
        }
        default:
            return false;
    }
}

bool Files::is_ours(const char* path) {
    return world != nullptr && std::strncmp(path, "/proc/", 6) == 0 && path[6] >= '0' && path[6] <= '9';
}

int Files::open(const char* path) {
    char* rest = nullptr;
    const auto number = static_cast<pid_t>(std::strtol(path + 6, &rest, 10));
    const std::string name = *rest == '/' ? rest + 1 : "";
    Process* process = world->find_by_thread(number);
    if (process == nullptr) {
        errno = ENOENT;
        return -1;
    }
    if (name == "task") {
        File directory{.kind = File::Kind::kDirectory, .process = number};
        if (process->alive) process->memory->looked = world->steps;
        for (const auto& thread : process->threads) directory.threads.push_back(thread->id);
        return add(std::move(directory));
    }
    if (name == "pagemap")
        return add({.kind = File::Kind::kPagemap, .process = process->id, .memory = process->memory});
    return add({.kind = File::Kind::kText, .process = number, .name = name, .text = proc_text(number, name)});
}

}  // namespace farswap::simulate
