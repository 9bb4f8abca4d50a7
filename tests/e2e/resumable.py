"""Long suites that can be ended and go on where they were: many rows, each run plainly and, where that passes, by
`farswap run` and by `farswap attach`. What passes plainly must pass. Knows nothing of what the rows are.
"""
import contextlib
import json
import pathlib
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time

import harness

WAYS = ("plain", "run", "attach")
ATTACH_FAILED = 99
# The program, which waits for a line from the pipe, and a pager that comes before it gets that. Ends with the program's
# status, or with ATTACH_FAILED when the pager did not come or did not end well. A shell has what runs beside it ignore SIGINT.
ATTACH = f"""
pipe=$1 log=$2 pager=$3; shift 3
mkfifo "$pipe" && : >"$log" || exit {ATTACH_FAILED}
exec 3<>"$pipe"
env --default-signal=INT,QUIT "$@" 3>&- & program=$!
{{ $pager $program 3>&- 2>>"$log"; echo "pager ended with $?" >>"$log"; }} &
until grep -q 'attached to\\|pager ended' "$log"; do sleep 0.02; done
echo go >&3
wait $program; status=$?; wait
grep -q 'attached to' "$log" && grep -q 'pager ended with 0' "$log" || {{ cat "$log"; exit {ATTACH_FAILED}; }} >&2
exit $status
"""


class Job:
    """Runs one row after the other, in a directory of its own. To be derived from: flags(row) and command(row, pipe)."""

    SLACK_S, SLOWER = 60, 8  # a row may take so long under farswap: seconds, times the plain run's

    def __init__(self, tools, directory, options):
        self.tools, self.directory, self.options = tools, directory, options
        self.store = directory / "store"
        self.work = directory / "work"

    def flags(self, row):
        """Of farswap, but where the store is."""
        raise NotImplementedError

    def command(self, row, pipe):
        """The program; it waits for a line from `pipe` first, if that is not empty."""
        raise NotImplementedError

    def said(self, run):
        """What the program itself says of its failure."""
        return run.last_error()

    def plain(self, row):
        return self.command(row, "")

    def run(self, row):
        return [self.tools.farswap, "run", *self.flags(row), "--swap", f"file:{self.store}", "--quiet", "--", *self.command(row, "")]

    def attach(self, row):
        pager = " ".join(map(str, [self.tools.farswap, "attach", "-v", *self.flags(row), "--swap", f"file:{self.store}"]))
        pipe = str(self.directory / "pipe")
        return ["sh", "-c", ATTACH, "sh", pipe, self.directory / "attach.log", pager, *self.command(row, pipe)]

    def outcome(self, row, way, limit_s):
        """What became of it, and the seconds that it took."""
        for directory in (self.directory, self.store, self.work):
            directory.mkdir()
        try:
            run = harness.run(getattr(self, way)(row), self.directory / "output", limit_s=limit_s, cwd=self.work)
            text = self.judge(run, limit_s)
            if text != "pass" and not harness.ENDING:
                said = run.output.read_text(errors="replace") + run.error + run.diagnosis
                (self.options.report / f"{row}-{way}.txt").write_text(f"{text}\n\n{said}")
            return text, round(run.seconds, 1)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def judge(self, run, limit_s):
        if run.timed_out:
            return f"not done after {limit_s:.0f} s"
        if run.left:
            return "left running: " + "; ".join(run.left)
        if left := harness.listing(self.store):
            return "left in the store: " + ", ".join(left)
        return f"exit status {run.status}: {self.said(run)}" if run.status else "pass"


class Suite:
    """What was decided, and what is to be run. The verdicts lie in NAME.json and, to be read, in NAME.md."""

    def __init__(self, name, job, tools, directory, options):
        self.name, self.job, self.tools, self.directory, self.options = name, job, tools, directory, options
        self.path = options.report / f"{name}.json"
        self.verdicts = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.lock, self.stopping = threading.Lock(), False

    def decide(self, row, limit_s=None):
        """How long a row may take under farswap follows from how long it takes plainly."""
        job = self.job(self.tools, pathlib.Path(tempfile.mkdtemp(dir=self.directory)) / "job", self.options)
        verdict, seconds = {}, {}
        for way in ["plain", *self.options.ways]:
            if verdict.get("plain", "pass") == "pass" and not self.stopping:
                limit = limit_s or (self.options.limit if way == "plain" else job.SLACK_S + job.SLOWER * seconds["plain"])
                verdict[way], seconds[way] = job.outcome(row, way, limit)
        return {**verdict, "seconds": seconds}

    def first_look(self, row):
        if row not in self.verdicts and not self.stopping:
            self.record(row, self.decide(row))

    def second_look(self, row):
        """Whatever did not pass is run once more, alone: what a busy machine did is told from what farswap did."""
        first = self.verdicts[row]
        if "first" in first or all(text == "pass" for _, text in ways_of(first)):
            return
        self.record(row, {**self.decide(row, self.options.limit), "first": first})

    def record(self, row, verdict):
        with self.lock:
            if self.stopping:
                return
            self.verdicts[row] = verdict
            self.path.write_text(json.dumps(self.verdicts, indent=1) + "\n")
            self.write_table()
            print(f"[{len(self.verdicts)}] {row}: " + ", ".join(f"{way} {text[:120]}" for way, text in ways_of(verdict)) +
                  f"  {seconds_of(verdict)} s", flush=True)

    def run(self, rows):
        waiting = queue.SimpleQueue()
        for row in rows:
            waiting.put(row)
        workers = [threading.Thread(target=self.work, args=(waiting,)) for _ in range(self.options.jobs)]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            for row in rows:
                self.second_look(row)
        except BaseException:
            self.stopping = True
            while any(worker.is_alive() for worker in workers):
                harness.end_all()
                time.sleep(0.1)
            raise

    def work(self, waiting):
        with contextlib.suppress(queue.Empty):
            while True:
                self.first_look(waiting.get_nowait())

    def failures(self, rows):
        return [f"{row} {way}" for row in rows for way in failed_ways(self.verdicts[row])]

    def write_table(self):
        lines = ["| row | plain | run | attach | s | when it did not pass at first |", "| --- | --- | --- | --- | --- | --- |"]
        for row, verdict in sorted(self.verdicts.items()):
            cells = [row, *(verdict.get(way, "-")[:160] for way in WAYS), seconds_of(verdict),
                     "; ".join(f"{way}: {text[:120]}" for way, text in ways_of(verdict.get("first", {})) if text != "pass")]
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        (self.options.report / f"{self.name}.md").write_text("\n".join(lines) + "\n")


def ways_of(verdict):
    return [(way, verdict[way]) for way in WAYS if way in verdict]


def seconds_of(verdict):
    return " / ".join(str(verdict["seconds"].get(way, "-")) for way in WAYS)


def failed_ways(verdict):
    return [way for way, text in ways_of(verdict) if way != "plain" and text != "pass"]


def add_options(parser, limit_s):
    parser.add_argument("--build", required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--ways", type=lambda text: text.split(","), default=["run", "attach"])
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time")
    parser.add_argument("--limit", type=int, default=limit_s, help="seconds that a row may take")
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--directory", default="/var/tmp")


def main(name, job, options, rows):
    """Runs what has not been decided yet. The exit status: 1 when a row that passes plainly did not pass."""
    options.report = options.report or pathlib.Path(options.build) / "e2e" / name
    options.report.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # also where these are ignored: programs would inherit that
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    tools = harness.Tools.of_build(options.build)
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"farswap-{name}-", dir=options.directory))
    started = time.monotonic()
    suite = Suite(name, job, tools, directory, options)
    try:
        suite.run(rows)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    failed = suite.failures(rows)
    passed_plainly = sum(suite.verdicts[row]["plain"] == "pass" for row in rows)
    print(f"{name}: {passed_plainly} of {len(rows)} rows pass plainly, {len(failed)} did not under farswap, "
          f"{time.monotonic() - started:.0f} s" + "".join(f"\n  {row}" for row in failed))
    return 1 if failed or not passed_plainly else 0
