"""Predictions of farswap size against measurement: five programs, each predicted from one run of it, then run with 70, 40 and
20% of its need. Prints a Markdown table with every error.

  bench_size.py --build DIR [--only NAME,...] [--directory DIR] [--json FILE]

The cost of following pages is measured as well: processor time of the pager and time of a run at 40%, with and without.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import inputs  # noqa: E402
import programs  # noqa: E402

MIB = 1 << 20
SHARES = (70, 40, 20)
CAP_LEAST = 20 * MIB
GOAL = 15  # percent
RUN_LIMIT_S = 300


def chosen(build, directory):
    """Name and command of each. Chosen before the estimator was written."""
    lines = directory / "lines"
    if not lines.exists():
        inputs.lines(80 * MIB, lines)
    classes = programs.compiled_java(directory)
    sized = str(build / "sized_programs")
    return {
        "sort": ["sort", "--parallel=1", "-S", "1G", "-T", str(directory), str(lines)],
        "SQLite": ["sqlite3", ":memory:", programs.sqlite_script(250_000)],
        "PageRank": [sized, "pagerank", "2000000", "15"],
        "JVM": ["java", "-Xmx200m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(classes), "Churn", "400000"],
        "phases": [sized, "phases", "128"],
    }


class Lab:
    def __init__(self, build, directory):
        self.farswap, self.directory = str(build / "farswap"), directory
        self.store = directory / "store"
        self.store.mkdir(exist_ok=True)

    def timed(self, command):
        """Seconds, and seconds of processor time of it and all below it."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C"))
        try:
            _, said = run.communicate(timeout=RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            run.terminate()  # farswap passes it on to the program
            run.communicate()
            raise
        seconds = time.monotonic() - started
        if run.returncode != 0:
            sys.exit(f"bench_size: {command[:6]} ended with {run.returncode}: {said.decode(errors='replace')[-400:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def job(self, verb, *flags, command, stats=True):
        """Statistics, empty without, seconds and processor seconds of a run."""
        path = self.directory / "stats.json"
        path.unlink(missing_ok=True)
        seconds, cpu = self.timed([self.farswap, verb, "-q", "--swap", f"file:{self.store}", *flags,
                                   *(["--stats", str(path)] if stats else []), "--", *command])
        return json.loads(path.read_text()) if stats else {}, seconds, cpu


def at(curve, cap):
    """Seconds that a curve says for a cap; of a smaller one than it begins with, what it begins with."""
    before = curve[0]
    for point in curve:
        if point["cap_bytes"] >= cap:
            span = point["cap_bytes"] - before["cap_bytes"]
            part = (cap - before["cap_bytes"]) / span if span > 0 else 0
            return before["seconds"] + (point["seconds"] - before["seconds"]) * max(part, 0)
        before = point
    return before["seconds"]


def measure(lab, name, command):
    plain = statistics.median(lab.timed(command)[0] for _ in range(3))
    sized, seconds, _ = lab.job("size", command=command)
    size, need = sized["size"], sized["memory"]["need_bytes"]
    row = {"name": name, "plain_s": plain, "full_speed_s": size["full_speed_s"], "need": need, "size_s": seconds, "cells": []}
    for share in SHARES:
        cap = max(need * share // 100, CAP_LEAST)
        measured, _, _ = lab.job("run", "--ram", str(cap), command=command)
        predicted = at(size["curve"], cap) if size["curve"] else None
        row["cells"].append({"share": share, "cap": cap, "measured_s": measured["elapsed_s"], "predicted_s": predicted})
        print(f"bench_size: {name} at {share}%: predicted {predicted}, measured {measured['elapsed_s']:.2f} s; "
              f"plain {plain:.2f} s, full speed {size['full_speed_s']:.2f} s, need {need / MIB:.0f} MiB", file=sys.stderr)
    cap = str(max(need * 40 // 100, CAP_LEAST))
    _, with_s, with_cpu = lab.job("run", "--ram", cap, command=command)
    _, without_s, without_cpu = lab.job("run", "--ram", cap, command=command, stats=False)
    row["cost"] = {"seconds": with_s / without_s - 1, "cpu": with_cpu / without_cpu - 1}
    return row


def error(cell):
    return (cell["predicted_s"] / cell["measured_s"] - 1) * 100


def table(rows):
    lines = ["| program | need | RAM | predicted | measured | error |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(f"| {row['name']} | {row['need'] / MIB:.0f} MiB | all | {row['full_speed_s']:.2f} s | "
                     f"{row['plain_s']:.2f} s | {(row['full_speed_s'] / row['plain_s'] - 1) * 100:+.0f}% |")
        for cell in row["cells"]:
            foretold, wrong = "too few misses", ""
            if cell["predicted_s"] is not None:
                foretold, wrong = f"{cell['predicted_s']:.2f} s", f"{error(cell):+.0f}%"
            lines.append(f"| | | {cell['share']}%: {cell['cap'] / MIB:.0f} MiB | {foretold} | "
                         f"{cell['measured_s']:.2f} s | {wrong} |")
    cells = [cell for row in rows for cell in row["cells"] if cell["predicted_s"] is not None]
    good = sum(abs(error(cell)) <= GOAL for cell in cells)
    lines += ["", f"{good} of {len(cells)} predictions for a cap are within {GOAL}%; the median error is "
              f"{statistics.median(abs(error(cell)) for cell in cells):.0f}%.", "",
              "What following pages costs, at 40% (with `--stats`, so recording for the report included; one run each):", "",
              "| program | time | processor time, program and pager | the run of `farswap size` |", "|---|---:|---:|---:|"]
    for row in rows:
        cost = row["cost"]
        lines.append(f"| {row['name']} | {cost['seconds'] * 100:+.0f}% | {cost['cpu'] * 100:+.0f}% | {row['size_s']:.1f} s |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("/var/tmp"))
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="farswap-size-") as name:
        directory = pathlib.Path(name)
        lab = Lab(options.build.resolve(), directory)
        commands = chosen(options.build.resolve(), directory)
        only = options.only.split(",") if options.only else list(commands)
        if unknown := set(only) - set(commands):
            sys.exit(f"bench_size: no such program: {', '.join(sorted(unknown))}; there are: {', '.join(commands)}")
        rows = []
        for name in only:
            try:
                rows.append(measure(lab, name, commands[name]))
            except subprocess.TimeoutExpired as late:
                words = f"{pathlib.Path(late.cmd[0]).name} {late.cmd[1]}"
                print(f"{name}: given up, as `{words}` was not done after {RUN_LIMIT_S} s of it\n")
    if not rows:
        sys.exit(1)
    if options.json:
        options.json.write_text(json.dumps(rows))
    print(table(rows), end="")
    print(f"\nLoad of the machine at the end: {pathlib.Path('/proc/loadavg').read_text().split()[0]}.")


if __name__ == "__main__":
    main()
