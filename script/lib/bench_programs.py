"""Real programs with part of the RAM that they need: under farswap, and under the kernel's own swap on the same disk in a memory
cgroup of the same size, in turn within one run. What each writes is compared with what it writes with enough RAM. Prints a
Markdown table.

  bench_programs.py --build DIR [--only NAME,...] [--rounds 2] [--ram 50,25] [--directory DIR]

A program's need is the most RAM that it takes plainly (anonymous memory, from /proc). Kernel swap: the better of vm.page-cluster 0
and 3 in each row; its cgroup counts the files that a program reads, too, and gives them up first. Swap and cgroup are undone, also
on errors and Ctrl-C.
"""
import argparse
import hashlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import measure
import swap_rivals
from swap_rivals import Unavailable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import inputs  # noqa: E402
import programs  # noqa: E402

MIB = 1 << 20
CAP_LEAST = 24 * MIB
RUN_LIMIT_S = 600
CLUSTERS = (0, 3)
ENVIRONMENT = dict(os.environ, LC_ALL="C", OPENBLAS_NUM_THREADS="2")


def chosen(build, directory):
    """Name and command of each; what it writes to standard output is the same each time."""
    lines, source = directory / "lines", directory / "heavy.cpp"
    inputs.lines(150 * MIB, lines)
    inputs.cpp_source(8, source)
    numeric = [programs.PYTHON, str(programs.REAL / "numeric.py")]
    return {
        "sort": ["sort", "--parallel=2", "-S", "1G", "-T", str(directory), str(lines)],
        "numpy sort": [*numeric, "sort", "20000000"],
        "SQLite": ["sqlite3", ":memory:", programs.sqlite_script(400_000)],
        "PageRank": [str(build / "sized_programs"), "pagerank", "2000000", "5"],
        "g++": ["g++", "-std=c++20", "-O1", "-frandom-seed=1", "-S", "-o", "-", str(source)],
    }


class Bench:
    def __init__(self, build, directory):
        self.farswap, self.directory = build / "farswap", directory
        self.swap_file = swap_rivals.make_swap_file(directory / "swap", 2048 * MIB)
        self.right = {}  # what each program writes

    def need(self, name, command):
        """The most RAM that it takes, and its seconds with enough of it."""
        with open(self.directory / "output", "wb") as output:
            run = measure.run(command, output, ENVIRONMENT)
        if run.exit_status != 0:
            sys.exit(f"bench: {name} ends with {run.exit_status}")
        self.right[name] = self.digest()
        return run.peak_bytes, self.timed(name, command)

    def digest(self):
        with open(self.directory / "output", "rb") as output:
            return hashlib.file_digest(output, "sha256").hexdigest()

    def timed(self, name, command, enter=None):
        with open(self.directory / "output", "wb") as output:
            began = time.monotonic()
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, env=ENVIRONMENT,
                                 preexec_fn=enter, timeout=RUN_LIMIT_S, check=False)
            seconds = time.monotonic() - began
        # The compiler's driver reports it of its child.
        if run.returncode == -signal.SIGKILL or b"Killed signal" in run.stderr:
            raise Unavailable("killed for want of memory")
        if run.returncode != 0:
            raise Unavailable(f"ended with {run.returncode}: {' '.join(run.stderr.decode(errors='replace').split())[-80:]}")
        if self.digest() != self.right[name]:
            sys.exit(f"bench: {name} wrote something else: {' '.join(map(str, command))[:200]}")
        return seconds

    def under_farswap(self, name, command, cap):
        store = self.directory / "store"
        store.mkdir(exist_ok=True)
        return self.timed(name, [self.farswap, "run", "--quiet", "--ram", str(cap), "--swap", f"file:{store}", "--", *command])

    def under_kernel_swap(self, name, command, cap, cluster):
        if why := swap_rivals.why_not_here():
            raise Unavailable(why)
        with swap_rivals.in_force(swap_rivals.PageCluster(cluster), swap_rivals.Swap(self.swap_file),
                                  swap_rivals.MemoryCgroup()) as (*_, group):
            group.limit(cap)
            return self.timed(name, command, group.enter)


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def measure_row(bench, name, command, cap, rounds):
    """What each rival did in each round: seconds, or why it came to no end; in turned order every second round."""
    rivals = [("farswap", lambda: bench.under_farswap(name, command, cap)),
              *[(cluster, lambda cluster=cluster: bench.under_kernel_swap(name, command, cap, cluster)) for cluster in CLUSTERS]]
    found = {rival: [] for rival, _ in rivals}
    for number in range(rounds):
        for rival, run in rivals if number % 2 == 0 else reversed(rivals):
            try:
                found[rival].append(run())
            except (Unavailable, subprocess.TimeoutExpired) as why:
                found[rival].append(str(why))
            say(f"{name}, {cap // MIB} MiB, {rival if rival == 'farswap' else f'kernel swap, page-cluster {rival}'}: {found[rival]}")
    return found


def seconds(outcomes):
    return [one for one in outcomes if not isinstance(one, str)]


def spread(outcomes, digits=1):
    """Median and extremes of those that came to an end, and what became of the others."""
    values, others = sorted(seconds(outcomes)), [one for one in outcomes if isinstance(one, str)]
    text = f"{statistics.median(values):.{digits}f}" if values else ""
    if len(values) > 1:
        text += f" ({values[0]:.{digits}f}-{values[-1]:.{digits}f})"
    return "; ".join(filter(None, [text, *(f"{others.count(one)} of {len(outcomes)} {one}" for one in dict.fromkeys(others))]))


def line(name, need, plain, percent, cap, found):
    """A line of the table, and the ratio that it shows if there is one."""
    best = min(CLUSTERS, key=lambda cluster: (-len(seconds(found[cluster])), sum(seconds(found[cluster]))))
    ratios = [ours / theirs for ours, theirs in zip(found["farswap"], found[best])
              if not isinstance(ours, str) and not isinstance(theirs, str)]
    text = (f"| {name} | {need / MIB:.0f} MiB | {plain:.1f} | {percent}%: {cap // MIB} MiB | {spread(found['farswap'])} "
            f"| {spread(found[best])} | {best} | {spread(ratios, 2)} |")
    return text, statistics.median(ratios) if ratios else None


def parse():
    parser = argparse.ArgumentParser(prog="script/bench programs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="NAME,...")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ram", default=[50, 25], help="percent of the need",
                        type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--directory", default="/var/tmp", help="where swap file, store and inputs lie")
    return parser.parse_args()


def main():
    options = parse()
    swap_rivals.begin()
    load = os.getloadavg()[0]
    lines, ratios = [], {percent: [] for percent in options.ram}
    with tempfile.TemporaryDirectory(prefix="farswap-programs-", dir=options.directory) as name:
        directory = pathlib.Path(name)
        commands = chosen(options.build.resolve(), directory)
        only = options.only.split(",") if options.only else list(commands)
        if unknown := set(only) - set(commands):
            sys.exit(f"bench: no such program: {', '.join(sorted(unknown))}; there are: {', '.join(commands)}")
        bench = Bench(options.build.resolve(), directory)
        for program in only:
            need, plain = bench.need(program, commands[program])
            say(f"{program}: needs {need // MIB} MiB, {plain:.1f} s")
            for percent in options.ram:
                cap = max(need * percent // 100, CAP_LEAST)
                found = measure_row(bench, program, commands[program], cap, options.rounds)
                text, ratio = line(program, need, plain, percent, cap, found)
                lines.append(text)
                ratios[percent] += [ratio] if ratio else []
    print(f"Rounds: {options.rounds}. Load of the machine at the start {load:.1f}, at the end {os.getloadavg()[0]:.1f}. "
          "All programs wrote what they write with enough RAM.\n")
    print("| program | need | plain s | RAM | farswap s | kernel swap s | page-cluster | farswap/kernel |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    print("\n".join(lines) + "\n")
    for percent, found in ratios.items():
        if found:
            print(f"- At {percent}%: farswap takes {statistics.geometric_mean(found):.2f} of kernel swap's time in the geometric "
                  f"mean, {max(found):.2f} at the most.")


if __name__ == "__main__":
    main()
