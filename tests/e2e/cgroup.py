#!/usr/bin/python3
"""The kernel's own account of the cap: job and pager run in one memory cgroup that is limited to the cap and the slack,
without swap. Whoever needs more is killed by the kernel, and the test fails.

  cgroup.py --build DIR [--only NAME,...] [--quick] [--stores nfs,file] [--directory DIR]

The limit also holds kernel memory (page tables, sockets) and page cache, which the kernel can take back.
"""
import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import harness
import programs
from harness import MIB

SLACK_MIN, SLACK_SHARE = 64 * MIB, 0.10
PROGRAMS = ("verify-mixed", "sort", "numpy-sort", "sqlite", "java", "g++", "fork_tree")
QUICK = ("verify-half-mixed",)


def read_counts(path):
    """Lines of "name number"; empty when the file is not there."""
    try:
        return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines()) if len(words) == 2}
    except OSError:
        return {}


class MemoryCgroup:
    """A new memory cgroup with a hard limit, v1 or v2, whichever this machine has the memory controller in."""

    def __init__(self, limit):
        name = f"farswap-e2e-{os.getpid()}"
        self.v2 = "memory" in self.controllers_v2()
        self.path = pathlib.Path("/sys/fs/cgroup") / ("" if self.v2 else "memory") / name
        self.path.mkdir()
        if self.v2:
            (self.path / "memory.max").write_text(str(limit))
            self.write_if_there("memory.swap.max", "0")
        else:
            (self.path / "memory.limit_in_bytes").write_text(str(limit))
            self.write_if_there("memory.memsw.limit_in_bytes", str(limit))
            self.write_if_there("memory.swappiness", "0")

    @staticmethod
    def controllers_v2():
        try:
            return pathlib.Path("/sys/fs/cgroup/cgroup.subtree_control").read_text().split()
        except OSError:
            return []

    @staticmethod
    def available():
        root = pathlib.Path("/sys/fs/cgroup")
        return "memory" in MemoryCgroup.controllers_v2() or (root / "memory" / "memory.limit_in_bytes").exists()

    def write_if_there(self, name, text):
        try:
            (self.path / name).write_text(text)
        except OSError:
            pass

    def enter(self):
        """In the child, before exec."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def oom_kills(self):
        counts = read_counts(self.path / ("memory.events" if self.v2 else "memory.oom_control"))
        return counts.get("oom_kill", 0)

    def peak(self):
        try:
            name = "memory.peak" if self.v2 else "memory.max_usage_in_bytes"
            return int((self.path / name).read_text())
        except OSError:
            return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        deadline = time.monotonic() + 10  # what was killed may need a moment to be gone
        while True:
            try:
                return self.path.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    print(f"cgroup: {self.path} stays: {error}")
                    return None
            time.sleep(0.05)


def run_row(tools, directory, program, url, store, percent):
    environment = dict(os.environ, **program.environment)
    options = {"limit_s": program.limit_s, "environment": environment}
    plain = harness.run_plain(tools, program.command(directory), directory / "plain.out", **options)
    need = plain.sampler.get("peak", 0)
    cap = max(need * percent // 100, 32 * MIB)
    limit = cap + max(SLACK_MIN, int(cap * SLACK_SHARE))
    with MemoryCgroup(limit) as group:
        run = harness.run_far(tools, program.command(directory), directory / "far.out", cap=cap, urls=[url],
                              preexec=group.enter, **options)
        kills, peak = group.oom_kills(), group.peak()
    problems = []
    if kills:
        problems.append(f"{kills} processes killed for memory")
    if run.timed_out:
        problems.append(f"not done after {program.limit_s} s\n{run.diagnosis}")
    elif run.status != plain.status:
        problems.append(f"exit status {run.status} instead of {plain.status}: {run.last_error()}")
    elif program.compare and run.digest() != plain.digest():
        problems.append("output differs from the plain run's")
    if run.left:
        problems.append(f"left running: {run.left}")
    print(f"{'FAIL' if problems else 'PASS'} {program.name:14} {store:4} {percent}%  need {need // MIB} cap {cap // MIB} "
          f"limit {limit // MIB} peak of the group {peak // MIB} MiB, {run.seconds:.1f} s (plain {plain.seconds:.1f})"
          + "".join(f"\n     - {problem}" for problem in problems), flush=True)
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--stores", type=lambda text: text.split(","), default=["nfs", "file"])
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    if not MemoryCgroup.available():
        print("cgroup: no memory controller that can be written here")
        return 77
    tools = harness.Tools.of_build(options.build)
    if tools.missing():
        sys.exit(f"cgroup: not built: {', '.join(tools.missing())}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = options.only or (QUICK if options.quick else PROGRAMS)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-cgroup-", dir=options.directory))
    (directory / "store").mkdir()
    server = harness.NfsServer(directory / "nfs") if "nfs" in options.stores else None
    try:
        urls = {"file": f"file:{directory / 'store'}", "nfs": server.url if server else ""}
        everything = programs.verifiers(tools) + programs.scenarios(tools, directory) + programs.real_programs(directory)
        rows = [row for row in everything if row.name in wanted]
        good = [run_row(tools, directory, row, urls[store], store, percent)
                for row in rows for store in options.stores for percent in ((25,) if options.quick else (50, 25))]
    finally:
        if server:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
