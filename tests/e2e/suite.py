#!/usr/bin/python3
"""Real programs and scenarios under farswap: each runs plainly, which tells what it needs, then at shares of that need
over each store. A case passes when output and exit status are those of the plain run, RAM kept to the cap in the
sampler's eyes, and nothing was left behind.

  suite.py --build DIR [--only NAME,...] [--kind real|runtime|scenario] [--quick] [--stores nfs,nfs4,file]
           [--caps 50,25] [--report DIR] [--list] [--sabotage]

Prints a line for each case, writes DIR/e2e.json and DIR/e2e.md, and exits 1 when a case failed.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import harness
import programs
import runtimes
from harness import MIB

SKIPPED = 77
CHAOS_MEMORY = 512 * MIB
CHAOS_FILLER = "48M"  # chaos pushes pages out by itself
CAP_MIN = 24 * MIB  # below, farswap refuses: its pool and the program need room to move


@dataclasses.dataclass
class Case:
    program: str
    store: str
    cap_percent: int
    verdict: str  # pass, fail, skip
    problems: list
    need: int = 0
    cap: int = 0
    peak: int = 0
    share_over: float = 0.0
    sampled_by: str = ""
    seconds: float = 0.0
    plain_seconds: float = 0.0
    pages_out: int = 0
    pages_in: int = 0
    probed: str = ""

    def line(self):
        name = f"{self.program} {self.store} {self.cap_percent}%"
        text = (f"{self.verdict.upper():4} {name:32} need {self.need // MIB:5} cap {self.cap // MIB:4} peak "
                f"{self.peak // MIB:4} MiB  over {self.share_over * 100:6.3f}%  {self.seconds:7.1f} s (plain "
                f"{self.plain_seconds:.1f})  out {self.pages_out} in {self.pages_in} {self.probed}")
        return text.rstrip() + "".join(f"\n     - {problem}" for problem in self.problems)


@dataclasses.dataclass
class Plain:
    run: harness.Run
    digest: str
    need: int


class Suite:
    def __init__(self, tools, directory, options):
        self.tools, self.directory, self.options = tools, directory, options
        self.cases = []
        self.server = None
        self.file_store = directory / "store"
        self.file_store.mkdir()

    def store(self, kind):
        """The URL, and the directory in which the store's file lies."""
        if kind == "file":
            return f"file:{self.file_store}", self.file_store
        if self.server is None:
            self.server = harness.NfsServer(self.directory / "nfs")
        url = self.server.url.replace("version=3", "version=4") if kind == "nfs4" else self.server.url
        return url, self.server.store_directory()

    def close(self):
        if self.server:
            self.server.stop()

    def environment(self, program):
        return dict(os.environ, **program.environment)

    def digest(self, program, run):
        """Of everything that the program wrote."""
        text = run.digest() if program.compare else "-"
        if program.output:
            text += harness.sha256(program.output) if program.output.exists() else "missing"
            program.output.unlink(missing_ok=True)
        return text

    def plain(self, program):
        run = harness.run_plain(self.tools, program.command(self.directory), self.directory / "plain.out", limit_s=program.limit_s,
                                environment=self.environment(program))
        return Plain(run, self.digest(program, run), run.sampler.get("peak", 0))

    def run_program(self, program):
        plain = self.plain(program)
        if plain.run.status == SKIPPED:
            self.add(Case(program.name, "-", 100, "skip", [plain.run.last_error()]))
            return
        if plain.run.status != 0 or plain.run.timed_out:
            self.add(Case(program.name, "-", 100, "fail", [f"fails without farswap: {ending(plain.run)}"]))
            return
        for store in self.options.stores:
            for percent in self.options.caps or program.caps:
                self.run_far(program, plain, store, percent)

    def run_far(self, program, plain, store, percent):
        cap = max(plain.need * percent // 100, CAP_MIN)
        url, directory = self.store(store)
        before = harness.listing(directory)
        stats_path = self.directory / "stats.json"
        argv = program.command(self.directory)
        if self.options.sabotage:  # a suite that cannot fail proves nothing
            argv = ["sh", "-c", '"$@"; echo sabotage', "sh", *argv]
        flags = ["--quiet"]
        if self.options.chaos:
            cap += CHAOS_MEMORY
            flags += ["--chaos", str(self.options.chaos), "--pool", "4M"]
        run = harness.run_far(self.tools, argv, self.directory / "far.out", cap=cap, urls=[url], stats=stats_path,
                              flags=flags, limit_s=program.limit_s, environment=self.environment(program))
        stats = harness.read_stats(stats_path)
        pages = stats.get("pages", {})
        case = Case(program.name, store, percent, "pass", [], plain.need, cap, run.sampler.get("peak", 0),
                    run.sampler.get("share_over", 0.0), sampled_by(run.sampler), run.seconds, plain.run.seconds,
                    pages.get("out", 0), pages.get("in", 0), probed(run))
        case.problems = self.problems(program, plain, run, stats)
        left = [name for name in harness.listing(directory) if name not in before]
        if left:
            case.problems.append(f"left in the store: {', '.join(left)}")
            for name in left:
                (directory / name).unlink(missing_ok=True)
        case.verdict = "fail" if case.problems else "pass"
        self.add(case)
        if run.diagnosis:
            print("\n".join("       " + line for line in run.diagnosis.splitlines()), flush=True)
        if case.problems and self.options.keep:
            name = f"{program.name}-{store}-{percent}"
            for suffix in ("", ".err"):
                shutil.copy(f"{run.output}{suffix}", self.options.report / f"{name}.out{suffix}")

    def problems(self, program, plain, run, stats):
        found = []
        if run.timed_out:
            found.append(f"not done after {program.limit_s} s; killed")
        elif run.status != plain.run.status:
            found.append(f"{ending(run)} instead of {plain.run.status}")
        if self.digest(program, run) != plain.digest and not run.timed_out:
            found.append("output differs from the plain run's")
        if not self.options.chaos:  # its stores keep pages in the pager's memory
            found += sampler_problems(run.sampler)
        if run.left:
            found.append("left running: " + "; ".join(run.left))
        if not stats and not run.timed_out:
            found.append("no statistics were written")
        found += [f"{store['copied_bytes']} bytes were copied between pages and the connections of {store['name']}"
                  for store in stats.get("stores", []) if store["name"].startswith("nfs:") and store["copied_bytes"] != 0]
        return found

    def add(self, case):
        self.cases.append(case)
        print(case.line(), flush=True)
        self.write_report()

    def write_report(self):
        report = self.options.report
        (report / "e2e.json").write_text(json.dumps([dataclasses.asdict(case) for case in self.cases], indent=1) + "\n")
        head = ["program", "store", "cap of need", "need MiB", "cap MiB", "peak MiB", "samples over", "s", "plain s",
                "pages out", "pages in", "verdict"]
        rows = [[c.program, c.store, f"{c.cap_percent}%", c.need // MIB, c.cap // MIB, c.peak // MIB,
                 f"{c.share_over * 100:.3f}%", f"{c.seconds:.1f}", f"{c.plain_seconds:.1f}", c.pages_out, c.pages_in,
                 "; ".join([c.verdict, *c.problems]).replace("|", "/")] for c in self.cases]
        table = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in [head, ["---"] * len(head), *rows]]
        (report / "e2e.md").write_text("\n".join(table) + "\n")


def ending(run):
    return f"exit status {run.status} ({run.last_error()})"


def probed(run):
    """What a scenario said about how many of the pages it looked at were away."""
    for line in run.error.splitlines():
        if line.endswith("probed pages were away"):
            return "away " + line.split(": ", 1)[1].removesuffix(" probed pages were away").replace(" of ", "/")
    return ""


def sampled_by(sampler):
    return (f"rss {sampler.get('rss_samples', 0)} x {sampler.get('rss_us_mean', 0):.0f} us, pss "
            f"{sampler.get('pss_samples', 0)} x {sampler.get('pss_us_mean', 0):.0f} us")


def sampler_problems(sampler):
    if not sampler:
        return ["the sampler gave no report"]
    if sampler["ok"]:
        return []
    return [f"RAM: {sampler['share_over'] * 100:.3f}% of {sampler['samples']} samples above cap + "
            f"{(sampler['soft_limit'] - sampler['cap']) // MIB} MiB, peak {sampler['peak'] / MIB:.1f} MiB (job "
            f"{sampler['peak_job'] / MIB:.1f}, pager {sampler['peak_pager'] / MIB:.1f}, at {sampler['peak_at_s']:.1f} s)"]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="the build folder with farswap, ram_sampler and workloads/")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="names of programs")
    parser.add_argument("--kind", choices=["real", "runtime", "scenario"])
    parser.add_argument("--quick", action="store_true", help="the excerpt for every test run")
    parser.add_argument("--stores", type=lambda text: text.split(","), default=["nfs", "file"])
    parser.add_argument("--caps", type=lambda text: [int(word) for word in text.split(",")], default=[])
    parser.add_argument("--chaos", type=int, metavar="RATE", help="evict so many pages a second at random, on bad stores")
    parser.add_argument("--report", type=pathlib.Path, help="folder for e2e.json and e2e.md (default: BUILD/e2e)")
    parser.add_argument("--directory", default="/var/tmp", help="for inputs, stores and the server; on ext4 or xfs")
    parser.add_argument("--keep", action="store_true", help="copy the output of failed cases to the report folder")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--sabotage", action="store_true", help="spoil the output under farswap: every case must fail")
    options = parser.parse_args()
    options.report = options.report or pathlib.Path(options.build) / "e2e"
    return options


def chosen(options, tools, directory):
    rows = []
    if options.kind in (None, "scenario"):
        filler = CHAOS_FILLER if options.chaos else programs.FILLER
        rows += programs.verifiers(tools) + programs.scenarios(tools, directory, filler)
    if options.kind in (None, "real"):
        rows += programs.real_programs(directory, options.quick)
    if options.kind in (None, "runtime"):
        rows += runtimes.runtimes(directory)
    unknown = set(options.only) - {row.name for row in rows}
    if unknown:
        sys.exit(f"suite: no such program: {', '.join(sorted(unknown))}")
    if options.only:
        return [row for row in rows if row.name in options.only]
    return [row for row in rows if not row.on_request and (row.quick or not options.quick)]


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tools = harness.Tools.of_build(options.build)
    if tools.missing() and not options.list:
        sys.exit(f"suite: not built: {', '.join(tools.missing())}")
    options.report.mkdir(parents=True, exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-e2e-", dir=options.directory))
    started = time.monotonic()
    suite = Suite(tools, directory, options)
    try:
        rows = chosen(options, tools, directory)
        if options.list:
            print("\n".join(row.name for row in rows))
            return 0
        for row in rows:
            suite.run_program(row)
    finally:
        suite.close()
        shutil.rmtree(directory, ignore_errors=True)
    count = {verdict: sum(case.verdict == verdict for case in suite.cases) for verdict in ("pass", "fail", "skip")}
    print(f"suite: {count['pass']} passed, {count['fail']} failed, {count['skip']} skipped in "
          f"{time.monotonic() - started:.0f} s; report in {options.report}")
    return 1 if count["fail"] or not count["pass"] else 0


if __name__ == "__main__":
    sys.exit(main())
