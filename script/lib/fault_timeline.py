"""Where the microseconds of a fault go: bench/touch_pages touches far pages at random under farswap, `perf record` takes the
kernel's tracepoints for a second, and the steps from the fault until the program runs again are put side by side. Prints a
Markdown table. Knows the order of the steps, nothing of what the pager does in them. Needs root and perf (linux-perf).

  fault_timeline.py --build DIR [--size 512M] [--ram 256M] [--work random:0:1] [--directory DIR]

Tracing adds a microsecond or so to each step. With one thread a fault is served alone, so that events need no matching.
"""
import argparse
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

EVENTS = ["exceptions:page_fault_user", "sched:sched_switch", "sched:sched_waking", "block:block_rq_issue",
          "block:block_rq_complete", "syscalls:sys_enter_read", "syscalls:sys_exit_io_uring_enter", "syscalls:sys_enter_ioctl"]
PROGRAM, PAGER = "touch_pages", "farswap"
SETTLED_S, TRACED_S = 3, 1
# Each begins where the one before it ends: name, whose event (None: whoever runs), event, what its line has to hold. Those in
# SKIPPED do not happen when the pager polls: they take no time then.
STEPS = [("the pager is woken", None, "sched:sched_waking", f"comm={PAGER} "),
         ("it runs", None, "sched:sched_switch", f"next_comm={PAGER} "),
         ("it reads the message", PAGER, "syscalls:sys_enter_read", ""),
         ("the disk has the read", PAGER, "block:block_rq_issue", " R"),
         ("the disk has answered", None, "block:block_rq_complete", " R"),
         ("the pager has the answer", PAGER, "syscalls:sys_exit_io_uring_enter", ""),
         ("the page is open, COPY begins", PAGER, "syscalls:sys_enter_ioctl", ""),
         ("the program is woken", None, "sched:sched_waking", f"comm={PROGRAM} "),
         ("it runs", None, "sched:sched_switch", f"next_comm={PROGRAM} ")]
SKIPPED = (0, 1, 5)
LINE = re.compile(r"^\s*(.+?)\s+\d+\s+\[\d+\]\s+([\d.]+):\s+(\S+):\s+(.*)$")


def record(options, data, store):
    """The trace, as perf script prints it."""
    build = pathlib.Path(options.build).resolve()
    job = subprocess.Popen([build / "farswap", "run", "--quiet", "--ram", options.ram, "--swap", f"file:{store}", "--",
                            build / PROGRAM, "--size", options.size, "--seconds", str(SETTLED_S + TRACED_S + 1), options.work],
                           stdout=subprocess.DEVNULL)
    try:
        subprocess.run(["sleep", str(SETTLED_S)], check=True)
        if job.poll() is not None:
            sys.exit("bench: the program has ended before it could be traced")
        chosen = [word for event in EVENTS for word in ("-e", event)]
        subprocess.run(["perf", "record", "-q", "-a", "-m", "32M", "-o", data, *chosen, "--", "sleep", str(TRACED_S)], check=True)
    finally:
        job.terminate()
        job.wait()
    return subprocess.run(["perf", "script", "-i", data], check=True, capture_output=True, text=True).stdout


def is_step(number, who, event, rest):
    _, whose, wanted, part = STEPS[number]
    return event == wanted and whose in (None, who) and part in rest


def faults(lines):
    """Of each fault that went to the disk alone: when it happened and when each step was done, in microseconds."""
    times = None
    for line in lines:
        match = LINE.match(line)
        if not match:
            continue
        who, at, event, rest = match.group(1), float(match.group(2)) * 1e6, match.group(3), match.group(4)
        if event == "exceptions:page_fault_user" and who == PROGRAM:
            times = [at]
            continue
        if times is None:
            continue
        step = len(times) - 1
        while step in SKIPPED and not is_step(step, who, event, rest):
            step += 1
        if not is_step(step, who, event, rest):
            continue
        times += [times[-1]] * (step + 1 - len(times)) + [at]
        if len(times) > len(STEPS):
            yield times
            times = None


def quantile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def table(found):
    polled = sum(times[1] == times[0] for times in found)
    yield f"Of {len(found)} faults, in microseconds since the step before; in {polled} of them the pager was not asleep:"
    yield ""
    yield "| until | median | mean | p90 | p99 |"
    yield "|---|---:|---:|---:|---:|"
    spans = [(name, [times[i + 1] - times[i] for times in found]) for i, (name, *_) in enumerate(STEPS)]
    spans.append(("all of it", [times[-1] - times[0] for times in found]))
    for name, values in spans:
        figures = (statistics.median(values), statistics.mean(values), quantile(values, 0.9), quantile(values, 0.99))
        yield f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |"


def main():
    parser = argparse.ArgumentParser(prog="script/bench faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--size", default="512M")
    parser.add_argument("--ram", default="256M")
    parser.add_argument("--work", default="random:0:1", help="of one thread")
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    if not shutil.which("perf"):
        sys.exit("bench: there is no perf; write: apt-get install linux-perf")
    with tempfile.TemporaryDirectory(prefix="farswap-bench-", dir=options.directory) as directory:
        found = list(faults(record(options, f"{directory}/trace", directory).splitlines()))
    if not found:
        sys.exit("bench: no fault went to the disk while it was traced; is this root, and --ram below --size?")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
