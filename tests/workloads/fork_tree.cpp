// Fork without exec, nested, with both sides writing; children that outlive their parent; fork while other
// threads write; vfork and posix_spawn of itself. Every copy must see exactly what was there when it was
// made.
#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "support.h"

extern char** environ;

namespace {

using namespace workload;

constexpr std::size_t kPages = 2048;  // 8 MiB a generation

// Both sides see the old content, change different halves and keep their own.
void two_sides(Filler& filler, const Pages& pages, std::uint32_t version) {
    pages.stamp(version);
    filler.push();
    probe(pages.data(), pages.bytes());
    const pid_t child = static_cast<pid_t>(sys(::fork(), "fork"));
    if (child == 0) {
        pages.expect(version, 0, kPages / 4, "child: first quarter");
        pages.stamp(version + 1, kPages / 2, kPages / 2);
        filler.push();
        pages.expect(version, 0, kPages / 2, "child: half that it left alone (the parent changed it)");
        pages.expect(version + 1, kPages / 2, kPages / 2, "child: half that it changed");
        ::_exit(0);
    }
    pages.stamp(version + 2, 0, kPages / 2);
    filler.push();
    pages.expect(version + 2, 0, kPages / 2, "parent: half that it changed");
    pages.expect(version, kPages / 2, kPages / 2, "parent: half that it left alone (the child changed it)");
    expect_exit(child, 0, "child with copy-on-write");
    filler.push();
    pages.expect(version + 2, 0, kPages / 2, "parent: its half when the child is gone");
    pages.expect(version, kPages / 2, kPages / 2, "parent: the other half when the child is gone");
}

// Each generation rewrites an eighth and forks the next; all check what they must still see.
void generation(const Pages& pages, std::size_t depth, std::size_t depth_max, std::uint32_t base) {
    const std::size_t eighth = kPages / 8;
    pages.stamp(base + static_cast<std::uint32_t>(depth), depth * eighth, eighth);
    if (depth + 1 < depth_max) {
        in_child("nested generation", [&] { generation(pages, depth + 1, depth_max, base); });
    }
    for (std::size_t i = 0; i < 8; i++) {
        const std::uint32_t version = i <= depth ? base + static_cast<std::uint32_t>(i) : base - 1;
        pages.expect(version, i * eighth, eighth, "nested generation");
    }
}

void nested(Filler& filler, const Pages& pages, std::uint32_t base) {
    pages.stamp(base - 1);
    filler.push();
    generation(pages, 0, 6, base);
}

// The middle process ends at once; the grandchild lives on and checks, and says so through a pipe.
void outlive_parent(Filler& filler, const Pages& pages, std::uint32_t version) {
    std::array<int, 2> ends{};
    sys(::pipe(ends.data()), "pipe");
    pages.stamp(version);
    filler.push();
    in_child("the middle process", [&] {
        const pid_t grandchild = static_cast<pid_t>(sys(::fork(), "fork"));
        if (grandchild != 0) return;
        const pid_t parent = ::getppid();
        for (int i = 0; i < 5000 && ::getppid() == parent; i++) ::usleep(1000);
        pages.expect(version, "grandchild that outlives its parent");
        pages.stamp(version + 1, 0, 64);
        pages.expect(version + 1, 0, 64, "grandchild, own pages");
        sys(::write(ends[1], "k", 1), "write");
    });
    ::close(ends[1]);
    char answer = 0;
    check(::read(ends[0], &answer, 1) == 1 && answer == 'k',
          "the grandchild that outlives its parent did not report");
    ::close(ends[0]);
    pages.expect(version, "pages of the first process");
}

// Threads rewrite lines all the time; a forked copy is one moment of them: each line is whole or torn at one
// place only in the thread that wrote it, and stays as it is.
void fork_under_writes(std::size_t filler_bytes, const Pages& pages, int forks) {
    pages.stamp(1);
    std::atomic<bool> stop{false};
    std::vector<std::jthread> writers;
    constexpr std::size_t kWriters = 2;
    for (std::size_t w = 0; w < kWriters; w++) {
        writers.emplace_back([&, w] {
            std::vector<std::uint32_t> versions(kPages, 1);
            Random random(w + 1);
            while (!stop) {
                const std::size_t page = random.below(kPages / kWriters) * kWriters + w;
                expect_content(pages.page(page), kPage, pages.key(versions[page], page),
                               "page of a writing thread");
                pages.stamp(++versions[page], page, 1);
            }
        });
    }
    {
        BackgroundFiller background(filler_bytes);
        for (int i = 0; i < forks; i++) {
            in_child("copy made while threads write", [&] {
                std::size_t torn = 0;
                for (std::size_t p = 0; p < kPages; p++) {
                    const auto* words = reinterpret_cast<const std::uint64_t*>(pages.page(p));
                    const std::uint32_t newest = decode(words[0]).version;
                    const std::size_t wrong =
                        find_wrong_word(words, kPage, pages.key(newest, p)).value_or(kWordsPerPage);
                    if (wrong == kWordsPerPage) continue;
                    torn++;
                    expect_content(words + wrong, kPage - wrong * 8,
                                   {1, newest - 1, pages.key(0, p).word + static_cast<std::uint32_t>(wrong)},
                                   "page that was being rewritten when the copy was made");
                }
                check(torn <= kWriters, "{} pages hold two versions; {} threads write", torn, kWriters);
            });
        }
    }
    stop = true;
}

// A new process image of this program: checks memory of its own and exits with a status that proves it ran.
constexpr int kSpawnedStatus = 43;

std::vector<std::string> spawn_arguments(const Options& options) {
    return {"/proc/self/exe", "--extra", "spawned", "--filler", std::to_string(options.filler / 2)};
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (auto& text : strings) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
}

int spawned() {
    const Pages pages(1, kPages);
    pages.expect_zero(0, 16, "fresh memory of a new process image");
    pages.stamp(5);
    pages.expect(5, "memory of a new process image");
    return kSpawnedStatus;
}

void new_images(const Options& options, Filler& filler, const Pages& pages, std::uint32_t version) {
    pages.stamp(version);
    filler.push();
    auto strings = spawn_arguments(options);
    const auto arguments = pointers(strings);

    pid_t child = 0;
    const int error = ::posix_spawn(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
    check(error == 0, "posix_spawn: {}", std::strerror(error));
    expect_exit(child, kSpawnedStatus, "posix_spawn");

    child = ::vfork();
    if (child == 0) {
        ::execv(arguments[0], arguments.data());
        ::_exit(99);
    }
    check(child > 0, "vfork: {}", std::strerror(errno));
    expect_exit(child, kSpawnedStatus, "vfork and exec");

    child = static_cast<pid_t>(sys(::fork(), "fork"));
    if (child == 0) {
        pages.expect(version, 0, 64, "child about to exec");
        ::execv(arguments[0], arguments.data());
        ::_exit(99);
    }
    expect_exit(child, kSpawnedStatus, "fork and exec");
    pages.expect(version, "parent's pages after new images");
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    if (options.extra == "spawned") return spawned();
    const Pages pages(1, kPages);
    {
        Filler filler(options.filler);
        for (int round = 0; round < options.rounds; round++) {
            const auto version = static_cast<std::uint32_t>(round) * 100 + 10;
            two_sides(filler, pages, version);
            nested(filler, pages, version + 20);
            outlive_parent(filler, pages, version + 40);
            new_images(options, filler, pages, version + 60);
        }
    }
    fork_under_writes(options.filler / 2, pages, options.rounds * 10);
    return succeed();
}
