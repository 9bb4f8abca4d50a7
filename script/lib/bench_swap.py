"""farswap against the kernel's own swap, zram and enough RAM, in turn within one run: the same program (bench/touch_pages),
machine, disk, RAM and content. Prints a Markdown table; with --record writes it with JSON and an HTML page beside it.

  bench_swap.py --build DIR [--minutes 20] [--rounds 3] [--full] [--record DIR] [--ram 50,25] [--content half,...]
                [--work PATTERN:WRITES%:THREADS,...] [--size MIB] [--directory DIR]

RAM is made equal: farswap's cap holds its pager; the memory cgroup of kernel swap is as large; zram's cgroup is smaller by what
zram itself takes. Everything that is switched on (swap, zram, cgroup, vm.page-cluster) is undone, also on errors and Ctrl-C.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import swap_report
import swap_rivals
from swap_rivals import Unavailable

MIB = 1 << 20
WORKS = ["sequential:0:1", "sequential:100:1", "random:0:1", "random:100:1", "random:0:4", "zipf:30:1", "zipf:30:4"]
MORE_WORKS = ["zipf:0:1", "random:30:1", "sequential:0:4", "random:100:4"]
# Content and RAM in percent of the size. The last is there for zram, which holds no more than its pages compress.
CELLS = [("incompressible", 50), ("incompressible", 25), ("half", 50), ("half", 25), ("quarter", 50)]
MORE_CELLS = [("incompressible", 75), ("incompressible", 10), ("half", 75), ("half", 10), ("quarter", 75), ("quarter", 25)]
CONTENTS = ("incompressible", "half", "quarter")
ZRAM_RESIDENT_MIN = 24 * MIB
WARM_UP_SHARE = 0.35
ZIPF_WARM_UP_S = 2.0  # until the popular pages are the ones that are in RAM, or nearly
PLAIN_SECONDS = 0.3  # nothing is paged there
SECONDS_MIN, SECONDS_MAX = 0.4, 4.0
RUN_OVERHEAD_S = 2.2  # filling 512 MiB, and ending
RUN_LIMIT_S = 180
LATENESS_MAX = 1.1  # a last round that ends a little late is better than none
KILLED_MAX = 2


@dataclasses.dataclass
class Run:
    """One run of the program under one rival."""
    works: dict  # by name: what touch_pages says
    setup_s: float
    notes: dict


class Killed(Unavailable):
    """By the kernel, which at times finds nothing to reclaim in a cgroup whose pages are all in use."""


def again_if_killed(run):
    """`run()`, up to three times; its notes say how often it was killed before."""
    for killed in range(KILLED_MAX):
        with contextlib.suppress(Killed):
            done = run()
            done.notes["killed"] = killed
            return done
    return run()


def warm_up_s(work, seconds):
    return max(seconds * WARM_UP_SHARE, ZIPF_WARM_UP_S if work.startswith("zipf") and seconds > PLAIN_SECONDS else 0)


class Bench:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        build = pathlib.Path(options.build).resolve()
        self.program, self.farswap = build / "touch_pages", build / "farswap"
        self.size = options.size * MIB
        self.swap_file = None
        self.zram_shares = {}  # by content
        self.seconds = 1.0

    def command(self, content, seconds=None):
        seconds = seconds or self.seconds
        return [self.program, "--size", self.size, "--content", content, "--seconds", f"{seconds:.3f}",
                *(f"{work}:{warm_up_s(work, seconds):.3f}" for work in self.options.work)]

    def execute(self, command, enter=None, meanwhile=None):
        """Runs `command`; calls `meanwhile` every 50 ms. Its figures, or Unavailable with what it said."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       preexec_fn=enter, start_new_session=True)
            try:
                began = time.monotonic()
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.05)
                    if meanwhile:
                        meanwhile()
                    if time.monotonic() - began > RUN_LIMIT_S:
                        raise Unavailable(f"not done after {RUN_LIMIT_S} s")
            finally:
                if process.poll() is None:
                    end(process)
            if process.returncode == -signal.SIGKILL:
                raise Killed("killed by the kernel: no memory in its cgroup, whatever swap is left")
            if process.returncode != 0:
                err.seek(0)
                raise Unavailable((err.read().strip().splitlines() or [f"ended with {process.returncode}"])[-1])
            out.seek(0)
            try:
                found = json.load(out)
            except json.JSONDecodeError:
                raise Unavailable("said what is no JSON") from None
        return Run({work["work"]: work for work in found["works"]}, found["setup_s"], {})

    def plain(self, content):
        return self.execute(self.command(content, seconds=PLAIN_SECONDS))

    def under_farswap(self, content, cap):
        stats = self.directory / "stats.json"
        store = self.directory / "farswap"
        store.mkdir(exist_ok=True)
        run = self.execute([self.farswap, "run", "--quiet", "--ram", cap, "--swap", f"file:{store}", "--stats", stats, "--",
                            *self.command(content)])
        found = json.loads(stats.read_text())
        run.notes = {"pages": found["pages"], "faults": found["faults"], "memory": found["memory"]}
        return run

    def under_kernel_swap(self, content, cap, cluster):
        self.need_kernel()
        if not self.swap_file:
            self.swap_file = swap_rivals.make_swap_file(self.directory / "swap", 3 * self.size)
        with swap_rivals.in_force(swap_rivals.PageCluster(cluster), swap_rivals.Swap(self.swap_file),
                                  swap_rivals.MemoryCgroup()) as (_, _, group):
            group.limit(cap)
            return self.execute(self.command(content), enter=group.enter)

    def in_zram(self, command, limit):
        """A run, with `limit` on its cgroup, whose notes hold samples of (bytes in the cgroup, in zram, before compression)."""
        with swap_rivals.in_force(swap_rivals.PageCluster(0), swap_rivals.Zram(2 * self.size)) as (_, zram), \
                swap_rivals.in_force(swap_rivals.Swap(zram.device), swap_rivals.MemoryCgroup()) as (_, group):
            group.limit(limit)
            samples = []
            run = self.execute(command, enter=group.enter, meanwhile=lambda: samples.append((group.used(), *zram.memory_used())))
            run.notes = {"algorithm": zram.algorithm, "samples": samples}
            return run

    def zram_share(self, content):
        """What a page takes in zram, measured once: an eighth of the size, most of it outside."""
        if content not in self.zram_shares:
            command = [self.program, "--size", self.size // 8, "--content", content, "--seconds", "0.1", "random:0:1"]
            _, taken, stored = max(self.in_zram(command, self.size // 32).notes["samples"], key=lambda sample: sample[2])
            self.zram_shares[content] = taken / stored
        return self.zram_shares[content]

    def under_zram(self, content, cap):
        """With a limit so that the cgroup, and what zram takes for the rest of the pages, are the cap."""
        self.need_kernel()
        share = self.zram_share(content)
        limit = (cap - share * self.size) / (1 - share) if share < 1 else 0
        if limit < ZRAM_RESIDENT_MIN:
            raise Unavailable(f"does not fit: a page takes {share:.2f} of one in zram")
        run = self.in_zram(self.command(content), limit)
        totals = [(used + taken) / cap for used, taken, _ in run.notes.pop("samples")]
        run.notes |= {"share": share, "limit_mib": limit / MIB, "ram_of_cap": statistics.median(totals),
                      "ram_of_cap_max": max(totals)}
        return run

    @staticmethod
    def need_kernel():
        why = swap_rivals.why_not_here()
        if why:
            raise Unavailable(why)

    def rivals(self, content, ram):
        cap = self.size * ram // 100
        return {"farswap": lambda: self.under_farswap(content, cap),
                "kernel swap, page-cluster 0": lambda: again_if_killed(lambda: self.under_kernel_swap(content, cap, 0)),
                "kernel swap, page-cluster 3": lambda: again_if_killed(lambda: self.under_kernel_swap(content, cap, 3)),
                "zram": lambda: again_if_killed(lambda: self.under_zram(content, cap))}


def end(process):
    """It and what it started, which is in a session of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


class Progress:
    def __init__(self, minutes):
        self.began, self.limit_s = time.monotonic(), minutes * 60

    def spent_s(self):
        return time.monotonic() - self.began

    def say(self, text):
        print(f"bench: {self.spent_s() / 60:4.1f} of {self.limit_s / 60:.0f} min  {text}", file=sys.stderr, flush=True)


def seconds_a_work(bench, cells, progress):
    """So long that all rounds fit into the budget; zram, which seldom fits, and plain runs count a little in each cell."""
    runs = len(cells) * 3.4 * bench.options.rounds
    works = bench.options.work
    zipf_s = ZIPF_WARM_UP_S * sum(work.startswith("zipf") for work in works)
    left_s = progress.limit_s / runs - RUN_OVERHEAD_S * bench.size / (512 * MIB) - zipf_s
    return min(max(left_s / len(works) / (1 + WARM_UP_SHARE), SECONDS_MIN), SECONDS_MAX)


def measure_cell(bench, content, ram, number, runs, say):
    """Each rival of a cell once, in an order that is turned round each time."""
    rivals = list(bench.rivals(content, ram).items())
    for name, run in rivals if number % 2 == 0 else reversed(rivals):
        if isinstance(runs.setdefault(name, []), str):
            continue
        began = time.monotonic()
        try:
            runs[name].append(run())
            said = f"{time.monotonic() - began:.1f} s"
        except Unavailable as why:
            runs[name] = said = str(why)
        say(f"round {number + 1} of {bench.options.rounds}, {content} at {ram}%, {name}: {said}")


def measure(bench, cells, progress):
    """All cells each round. By cell and rival: one run a round, or why there are none."""
    found = {cell: {} for cell in cells}
    plain = {content: [] for content, _ in cells}
    bench.seconds = seconds_a_work(bench, cells, progress)
    round_s = 0
    for number in range(bench.options.rounds):
        round_began = progress.spent_s()
        if number > 0 and round_began + round_s > LATENESS_MAX * progress.limit_s:
            progress.say(f"no time for round {number + 1}")
            break
        for content, runs in plain.items():
            runs.append(bench.plain(content))
        for content, ram in cells:
            measure_cell(bench, content, ram, number, found[content, ram], progress.say)
        round_s = progress.spent_s() - round_began
    for content, ram in cells:
        found[content, ram]["plain"] = plain[content]
    return found


def facts(bench, rounds, loads):
    """What has to be known of machine and run beside the figures; no paths and no names of hosts."""
    options = bench.options
    kind = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", options.directory], capture_output=True, text=True).stdout.strip()
    huge = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    mode = huge.read_text().split("[")[1].split("]")[0] if huge.exists() else "none"
    return {"size_mib": options.size, "seconds": round(bench.seconds, 2), "rounds": rounds,
            "warm_up_s": round(bench.seconds * WARM_UP_SHARE, 2), "zipf_warm_up_s": ZIPF_WARM_UP_S,
            "store": kind, "huge_pages": mode, "cgroups": 2 if swap_rivals.MemoryCgroup().v2 else 1,
            "load": [round(load, 1) for load in loads]}


def words(text):
    return text.split(",")


def parse():
    parser = argparse.ArgumentParser(prog="script/bench swap", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--record", metavar="DIR", type=pathlib.Path, help="write swap.md, swap.json and swap.html there")
    parser.add_argument("--minutes", type=float, default=20, help="for all of it: sets how long each work is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also 75%% and 10%%, and more works; give it more --minutes")
    parser.add_argument("--size", type=int, default=512, metavar="MIB", help="what the program fills")
    parser.add_argument("--content", help="some of incompressible,half,quarter", type=words)
    parser.add_argument("--ram", help="percent of the size", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--work", help="PATTERN:WRITES%%:THREADS,...", type=words)
    parser.add_argument("--directory", default="/var/tmp", help="where swap file and store lie")
    options = parser.parse_args()
    options.cells = CELLS + (MORE_CELLS if options.full else [])
    if options.content or options.ram:
        contents, rams = options.content or ["incompressible", "half"], options.ram or [50, 25]
        options.cells = [(content, ram) for content in contents for ram in rams]
    if any(content not in CONTENTS or not 5 <= ram <= 100 for content, ram in options.cells):
        parser.error("--content is some of incompressible,half,quarter; --ram is from 5 to 100")
    options.work = options.work or WORKS + (MORE_WORKS if options.full else [])
    if options.rounds < 1 or options.size < 128:
        parser.error("--rounds is at least 1, --size at least 128")
    return options


def as_json(runs):
    return runs if isinstance(runs, str) else [dataclasses.asdict(run) for run in runs]


def main():
    options = parse()
    swap_rivals.begin()
    progress = Progress(options.minutes)
    with tempfile.TemporaryDirectory(prefix="farswap-bench-", dir=options.directory) as directory:
        bench = Bench(options, pathlib.Path(directory))
        loads = [os.getloadavg()[0]]
        cells = measure(bench, options.cells, progress)
        loads.append(os.getloadavg()[0])
    rounds = max(len(runs) for runs in next(iter(cells.values())).values() if not isinstance(runs, str))
    report = {"facts": facts(bench, rounds, loads), "cells": [
        {"content": content, "ram": ram, "rivals": {name: as_json(runs) for name, runs in rivals.items()}}
        for (content, ram), rivals in cells.items()]}
    print("\n".join(swap_report.markdown(report)))
    if options.record:
        swap_report.write(report, options.record)


if __name__ == "__main__":
    main()
