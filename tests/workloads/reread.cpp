// Fills memory, changes all of it, and reads it back, each step when a byte comes on standard input: time for
// whoever wants to change something meanwhile where the pages are. "filled", "changed" and "right" on
// standard output tell how far it is. The first wrong byte ends it with status 1. Usage: reread [SIZE]
#include <unistd.h>

#include <cstdio>

#include "support.h"

namespace {

void say(const char* what) {
    std::printf("%s\n", what);
    std::fflush(stdout);
}

void wait_for_a_byte() {
    char byte = 0;
    workload::check(::read(STDIN_FILENO, &byte, 1) == 1, "nobody tells when to go on");
}

}  // namespace

int main(int argc, char** argv) {
    workload::set_program_name(argv[0]);
    const std::size_t bytes = argc > 1 ? workload::parse_size(argv[1]) : std::size_t{48} << 20;
    workload::check(bytes >= workload::kPage, "usage: reread [SIZE]");
    const workload::Pages pages(1, bytes / workload::kPage);
    pages.stamp(1);
    say("filled");
    wait_for_a_byte();
    pages.stamp(2);
    say("changed");
    wait_for_a_byte();
    pages.expect(2, "after the wait");
    say("right");
}
