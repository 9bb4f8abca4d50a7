#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "job.h"

using namespace farswap;
using namespace farswap::simulate;

namespace farswap::simulate {
void fail_run(const std::string& what) {
    fmt::print(stderr, "simulate: seed {} step {}: {}\n", world->options.seed, world->steps, what);
    if (world->options.trace) print_trace();
    _exit(1);
}
}

int main(int argc, char** argv) {
    Options options;
    options.seed = std::strtoull(argv[1], nullptr, 10);
    if (argc > 2) options.steps = std::strtoull(argv[2], nullptr, 10);
    options.trace = argc > 3;
    signal(SIGABRT, [](int) {
        if (world) { fmt::print(stderr, "simulate: seed {} step {}: aborted\n", world->options.seed, world->steps);
        if (world->options.trace) print_trace();}
        _exit(2);
    });
    options.choose();
    log::set_level(log::Level::kQuiet);
    if (options.trace) log::set_level(log::Level::kDebug);
    World run(options);
    SimulatedJob job;
    job.run();
    fmt::print("seed {}: {} steps, {} ops, {} reads checked, evicted {} stored {} cached {} second {}, {} s, stop {}\n", options.seed, run.steps, run.operations, run.reads_checked,
      job.stats().pages_evicted, job.stats().faults_stored, job.stats().faults_cached, job.stats().second_chances, run.now/1000000000, job.stopped_by() ? job.stopped_by()->message : "-");
}
