"""What farswap aims at beside the raw data path over NFS, a plain run and kernel swap, each in turn with what it is compared with
within one run: a fault over NFS and a bare READ, faults a second and READs a second, walks, write-out, a program that fits under its
cap, memory that four threads touch at once, and `--swap none` and zram. Prints a Markdown table.

  bench_goals.py --build DIR [--rounds 5] [--seconds 2] [--only ROW,...] [--directory DIR]

Rows: fault, faults8, walk, write-out, fits, four, tier. Root: a server is started on loopback, and kernel swap has a file or zram, and a cgroup.
Of rates over NFS it is told, too, how much of the machine's processors was at work meanwhile.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import bench_nfs
import bench_swap
import measure
import swap_rivals

MIB = 1 << 20
SIZE_MIB, RAM_MIB = 256, 64
MAPPING_MIB, MAPPING_RAM_MIB = 4096, 1024
TIER_WORKS = {"random:0:1": "random reads", "zipf:30:1": "Zipf 0.99, 30% writes"}
TIER_CONTENT = "quarter"
ONE_CORE = ("taskset", "-c", "0")


def idle_s():
    """Of all processors since the machine's start, in s: proc_stat(5), idle and iowait."""
    with open("/proc/stat", encoding="utf-8") as stat:
        words = stat.readline().split()
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")


class Server(bench_nfs.Bench):
    """The server of script/bench nfs, and what is asked of it by `raw` and through farswap. `busy` has of each command how much of
    the machine's processors was at work meanwhile, by what was run: by "raw" and "paged"."""

    def __init__(self, options, directory):
        super().__init__(options, directory)
        self.busy = {"raw": [], "paged": []}

    def observed(self, what, command):
        began, idle = time.monotonic(), idle_s()
        ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        self.busy[what].append(1 - (idle_s() - idle) / os.cpu_count() / (time.monotonic() - began))
        if ended.returncode != 0:
            sys.exit(f"bench: {what}: {ended.stderr.strip()}")
        return ended.stdout

    def at_work(self, what):
        """In percent, of the runs since it was asked last."""
        found = [100 * share for share in self.busy[what]]
        self.busy[what].clear()
        return f"{statistics.median(found):.0f}%"

    def pinned(self):
        """The server is on the same core as those who ask it."""
        self.on_core(self.server(), "0")

    def anywhere(self):
        self.on_core(self.server(), f"0-{os.cpu_count() - 1}")

    @staticmethod
    def on_core(process, cores):
        subprocess.run(["taskset", "-a", "-p", "-c", cores, str(process)], check=True, capture_output=True)

    def server(self):
        text = (self.export.parent / "server" / "env").read_text()
        return next(line.split("=")[1].strip("'\"") for line in text.splitlines() if line.startswith("GANESHA_PID="))

    def raw(self, operation, size, depth, around=()):
        """Operations a second; with a depth of 1 the median and the 99th percentile of one, in us, too."""
        with self.file_for(operation.partition("+")[0]) as file:
            command = [*around, self.build / "raw_nfs", *self.ports, self.export, file, operation, size, depth, self.options.seconds]
            said = self.observed("raw", command)
        operations, seconds = map(float, said.split()[:2])
        return (operations / seconds, *map(float, " ".join(said.splitlines()[1:]).split()))

    def paged(self, work, around=()):
        """What touch_pages says of it, with a quarter of its pages in RAM, and what farswap counted."""
        stats = self.export.parent / "stats.json"
        command = [*around, self.build / "farswap", "run", "-q", "--ram", f"{RAM_MIB}M", "--swap", self.url, "--stats", stats, "--",
                   self.build / "touch_pages", "--size", f"{SIZE_MIB}M", "--seconds", self.options.seconds, work]
        return json.loads(self.observed("paged", command))["works"][0], json.loads(stats.read_text())


def spread(values):
    values = sorted(values)
    return f"{statistics.median(values):.2f} ({values[0]:.2f}-{values[-1]:.2f})"


def in_turn(rounds, first, second):
    """The results of both, a round each, in an order that is turned round each time."""
    found = []
    for number in range(rounds):
        if number % 2 == 0:
            found.append((first(), second()))
        else:
            other = second()
            found.append((first(), other))
        print(".", end="", file=sys.stderr, flush=True)
    return found


def fault(server, options):
    """A fault that is waited for, and a READ, with server, pager and program on one core."""
    server.pinned()
    found = in_turn(options.rounds, lambda: server.paged("random:0:1", ONE_CORE)[0], lambda: server.raw("read", 4096, 1, ONE_CORE))
    server.anywhere()
    for pinned in server.busy.values():
        pinned.clear()
    median = [(mine["missed_median_ns"] / 1000, raw[1]) for mine, raw in found]
    p99 = [(mine["missed_p99_ns"] / 1000, raw[2]) for mine, raw in found]
    for name, pairs, goal in (("median", median, "<= 1.30"), ("99th percentile", p99, "<= 2")):
        ours, theirs = zip(*pairs)
        yield (f"a random fault over NFS, {name}, one core", f"{spread(ours)} us", f"{spread(theirs)} us a READ of 4 KiB",
               spread([a / b for a, b in pairs]), goal)


def rates_row(server, name, rates, unit, beside, goal):
    """`rates`: of each round farswap's and the raw data path's."""
    ours, theirs = zip(*rates)
    return (name, f"{spread(ours)} {unit}; processors {server.at_work('paged')} at work",
            f"{spread(theirs)} {beside}; {server.at_work('raw')}", spread([a / b for a, b in rates]), goal)


def faults8(server, options):
    found = in_turn(options.rounds, lambda: server.paged("random:0:8")[0], lambda: server.raw("read", 4096, 8))
    rates = [(mine["missed"] / mine["seconds"] / 1000, raw[0] / 1000) for mine, raw in found]
    yield rates_row(server, "random faults a second over NFS, 8 threads", rates, "k", "k READs, 8 at a time", ">= 0.95")


def walk(server, options):
    found = in_turn(options.rounds, lambda: server.paged("sequential:0:1")[0], lambda: server.raw("read", MIB, 4))
    rates = [(mine["per_s"] * 4096 / 1e6, raw[0] * MIB / 1e6) for mine, raw in found]
    yield rates_row(server, "a walk in order over NFS, read", rates, "MB/s", "MB/s by READs of 1 MiB", ">= 0.95")


def write_out(server, options):
    def written():
        work, stats = server.paged("sequential:100:1")
        return work["per_s"] * 4096 / 1e6 * min(1, stats["pages"]["written"] / max(1, stats["pages"]["evicted"]))

    rates = in_turn(options.rounds, written, lambda: server.raw("write+commit", MIB, 4)[0] * MIB / 1e6)
    yield rates_row(server, "a walk in order over NFS, every page written", rates, "MB/s out, as much in",
                    "MB/s by WRITEs of 1 MiB, unstable, and COMMIT", ">= 0.95")


def fits(build, options):
    """Seconds of a program under a cap that it never comes near, and plainly."""
    program = [build / "sized_programs", "pagerank", "2000000", "160"]

    def timed(around=()):
        began = time.monotonic()
        subprocess.run(list(map(str, [*around, *program])), stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - began

    timed()
    found = in_turn(3 * options.rounds, lambda: timed((build / "farswap", "run", "-q", "--ram", "4G", "--")), timed)
    yield ("a program that fits under its cap (PageRank), all of the command", spread([a for a, _ in found]) + " s",
           spread([b for _, b in found]) + " s plainly", spread([a / b for a, b in found]), "<= 1.01")


def four(build, options, directory):
    """A new mapping that four threads fill at once."""
    command = [build / "touch_pages", "--size", f"{MAPPING_MIB}M", "--fill-threads", 4, "--accesses", 1, "--warm-up", 0, "sequential:0:1"]
    peaks = []

    def rate(text):
        return MAPPING_MIB * MIB / 1e6 / json.loads(text)["setup_s"]

    def ours():
        with open(directory / "out", "w+", encoding="utf-8") as out:
            store = directory / "far"
            store.mkdir(exist_ok=True)
            run = measure.run(list(map(str, [build / "farswap", "run", "-q", "--ram", f"{MAPPING_RAM_MIB}M", "--swap", f"file:{store}", "--",
                                             *command])), out, under_farswap=True)
            if run.exit_status != 0:
                sys.exit(f"bench: farswap ends with {run.exit_status}")
            peaks.append(run.peak_bytes / MIB)
            return rate((directory / "out").read_text())

    def kernels():
        with swap_rivals.in_force(swap_rivals.PageCluster(3), swap_rivals.Swap(file), swap_rivals.MemoryCgroup()) as (_, _, group):
            group.limit(MAPPING_RAM_MIB * MIB)
            ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, preexec_fn=group.enter, check=False)
        return rate(ended.stdout) if ended.returncode == 0 else float("nan")

    file = swap_rivals.make_swap_file(directory / "swap", (MAPPING_MIB + 1024) * MIB)
    try:
        found = in_turn(min(options.rounds, 3), ours, kernels)
    finally:
        file.unlink()
    yield (f"{MAPPING_MIB >> 10} GiB that four threads fill at once, with {MAPPING_RAM_MIB} MiB", spread([a for a, _ in found]) + " MB/s",
           spread([b for _, b in found]) + " MB/s by kernel swap", spread([a / b for a, b in found]),
           f"peak {spread(peaks)} MiB")


def tier(build, options, directory):
    """With RAM made equal as `script/bench swap` does."""
    bench = bench_swap.Bench(argparse.Namespace(build=build, size=SIZE_MIB, work=list(TIER_WORKS)), directory)
    bench.seconds, cap = options.seconds, bench.size // 2

    def ours():
        return bench.execute([bench.farswap, "run", "--quiet", "--ram", cap, "--swap", "none", "--", *bench.command(TIER_CONTENT)]).works

    found = in_turn(options.rounds, ours, lambda: bench_swap.again_if_killed(lambda: bench.under_zram(TIER_CONTENT, cap)).works)
    for work, name in TIER_WORKS.items():
        pairs = [(mine[work]["per_s"] / 1000, zrams[work]["per_s"] / 1000) for mine, zrams in found]
        mine, zrams = zip(*pairs)
        yield (f"`--swap none` at 50%, three quarters of each page compress away, {name}", f"{spread(mine)} k accesses/s",
               f"{spread(zrams)} k by zram", spread([a / b for a, b in pairs]), ">= 0.9")


def rows(options, build, directory):
    wanted = options.only.split(",")
    over_nfs = {"fault": fault, "faults8": faults8, "walk": walk, "write-out": write_out}
    if any(name in over_nfs for name in wanted):
        server = Server(options, directory)
        try:
            for name in wanted:
                if name in over_nfs:
                    yield from over_nfs[name](server, options)
        finally:
            subprocess.run([bench_nfs.GANESHA, "stop", directory / "server"], check=False)
    if "fits" in wanted:
        yield from fits(build, options)
    if "four" in wanted:
        yield from four(build, options, directory)
    if "tier" in wanted:
        try:
            yield from tier(build, options, directory)
        except swap_rivals.Unavailable as why:
            yield ("`--swap none` beside zram", "-", str(why), "-", ">= 0.9")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="fault,faults8,walk,write-out,fits,four,tier")
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    swap_rivals.begin()
    print("| measure | farswap | beside it | ratio | goal |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="farswap-bench-", dir=options.directory) as path:
        for row in rows(options, pathlib.Path(options.build).resolve(), pathlib.Path(path)):
            print("| " + " | ".join(row) + " |", flush=True)
    print(file=sys.stderr)
    load = os.getloadavg()[0]
    print(f"\n{options.rounds} rounds, each with both in turn; medians and extremes of the rounds. Over NFS: nfs-ganesha on loopback, "
          f"{SIZE_MIB} MiB of incompressible pages under {RAM_MIB} MiB, default settings (sealed). Load of the machine at the end: {load:.1f}.")


if __name__ == "__main__":
    main()
