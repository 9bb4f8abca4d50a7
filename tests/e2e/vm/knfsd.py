#!/usr/bin/python3
"""The Linux kernel's own NFS server as a store, and its power failing: a program under farswap here, its pages on a server in
a virtual machine, which is killed at random moments and started again with the same disk. What it had not flushed is gone, and
the program must not notice.

  knfsd.py --build DIR [--version 3|4] [--kills 20] [--seed N] [--report DIR]

Needs what vm.py needs, rpcbind and nfs-common; the server's programs come from apt's archive and are not installed.
"""
import argparse
import contextlib
import dataclasses
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import harness  # noqa: E402
import knfsd_machine  # noqa: E402

SIZE, CAP = "128M", "48M"
# A round of it ends with a digest of all of its memory; rounds go on until the file is there.
ROUNDS = '>"$0.started"; until [ -e "$0" ]; do "$@" || exit 1; done'
GRACE_MAX_S = 120  # NFSv4: no file is made until a server that has just been started has waited for its former clients
UP_S = (0.0, 8.0)  # of the server, from its first WRITEs to its end
NEEDED = ("qemu-system-x86_64", "mke2fs", "depmod", "busybox", "rpcbind")


@dataclasses.dataclass
class Outcome:
    version: str
    kills: int = 0
    kernel: str = ""
    accelerator: str = ""
    rounds: int = 0
    seconds: float = 0.0
    stats: dict = dataclasses.field(default_factory=dict)
    problems: list = dataclasses.field(default_factory=list)

    def store(self, key):
        return (self.stats.get("stores") or [{}])[0].get(key, 0)

    def table(self):
        pages = self.stats.get("pages", {})
        verdict = "; ".join(self.problems) or "equal, nothing left"
        head = ("server", "NFS", "virtual by", "kills", "rounds of the program", "s", "pages written", "pages in", "connected anew",
                "acknowledged writes lost", "output")
        row = (f"Linux {self.kernel}", f"v{self.version}", self.accelerator, self.kills, self.rounds, f"{self.seconds:.0f}",
               pages.get("written", 0), pages.get("in", 0), self.store("reconnects"), self.store("lost_writes"), verdict)
        lines = (head, ["---"] * len(head), row)
        return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


class Job:
    """The program under farswap, in the background."""

    def __init__(self, tools, directory, url):
        self.stop_file, self.stats_path = directory / "stop", directory / "stats.json"
        self.program = program(tools)
        self.argv = [tools.farswap, "run", "--ram", CAP, "--swap", url, "--stats", self.stats_path, "--",
                     "sh", "-c", ROUNDS, self.stop_file, *self.program]
        self.run = None
        self.thread = threading.Thread(target=self.work, args=(directory,))
        self.thread.start()

    def work(self, directory):
        self.run = harness.run([str(word) for word in self.argv], directory / "job", limit_s=3600)

    def runs(self):
        return self.thread.is_alive()

    def wait_for_start(self):
        """Before, a store that goes away is an error like any other."""
        started = pathlib.Path(f"{self.stop_file}.started")
        while self.runs() and not started.exists():
            time.sleep(0.02)

    def end(self):
        """Lets the round that is under way be the last one."""
        self.stop_file.touch()
        self.thread.join()
        return self.run


def program(tools):
    return [str(tools.workloads / "verify"), "--size", SIZE, "--operations", "3000"]


def fail_power(server, job, kills):
    """Returns how often it failed before the program ended."""
    job.wait_for_start()
    for done in range(kills):
        server.wait_for_writes(job.runs)
        moment = time.monotonic() + random.uniform(*UP_S)
        while job.runs() and time.monotonic() < moment:
            time.sleep(0.02)
        if not job.runs():
            return done
        server.kill()
        print(f"knfsd: power failed {done + 1} of {kills}", flush=True)
        server.start()
    return kills


def judge(outcome, run, plain, kills):
    lines = run.output.read_text(errors="replace").splitlines()
    outcome.rounds, outcome.seconds = len(lines), run.seconds
    found = outcome.problems
    if run.status != 0 or run.timed_out:
        print(run.error, flush=True)  # the reason stands somewhere between what was said at each kill
        found.append(f"exit status {run.status}, see above")
    if not lines or set(lines) != {plain}:
        found.append(f"output differs: {sorted(set(lines) - {plain})[:3]}")
    if outcome.kills < kills:
        found.append(f"ended after {outcome.kills} kills of {kills}")
    if not outcome.store("lost_writes") and kills > 0:
        found.append("nothing that the server had acknowledged was lost, so that nothing was shown")
    if run.left:
        found.append(f"left running: {run.left}")


def look_for_what_is_left(tools, directory, url, found):
    listed = harness.run([str(tools.farswap), "check", "--clean", url], directory / "clean", limit_s=60)
    if "nothing to remove" not in listed.output.read_text():
        found.append(f"left on the server: {listed.output.read_text()} {listed.error}")


def look_at_ports(tools, directory, url, found):
    """The export serves ports below 1024 only: who may have none is refused, and root gets one without asking for it."""
    without = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-all"]
    for name, prefix, good in (("privileged", [], True), ("ordinary", without, False)):
        deadline = time.monotonic() + GRACE_MAX_S
        while True:
            run = harness.run([*prefix, str(tools.farswap), "check", url], directory / f"port-{name}", limit_s=120)
            said = run.output.read_text()
            if "puts it off" not in said or time.monotonic() > deadline:
                break
        if (run.status == 0) != good:
            found.append(f"check from a port that is {name} ends with {run.status}: {said[-300:]}")


def suite(tools, directory, options, cleanup):
    plain = harness.run(program(tools), directory / "plain", limit_s=300)
    server = knfsd_machine.Server(directory)
    cleanup.callback(server.kill)  # however this ends, no machine stays behind
    server.start()
    outcome = Outcome(options.version, kernel=server.said("ready").split()[1], accelerator=server.accelerator)
    url = server.url(options.version)
    look_at_ports(tools, directory, url, outcome.problems)
    job = Job(tools, directory, url)
    try:
        outcome.kills = fail_power(server, job, options.kills)
    except BaseException:
        harness.end_all()  # it would wait for the server
        raise
    finally:
        run = job.end()
    outcome.stats = harness.read_stats(job.stats_path)
    judge(outcome, run, plain.output.read_text().strip(), options.kills)
    look_for_what_is_left(tools, directory, url, outcome.problems)
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--version", choices=["3", "4"], default="3")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the moments")
    parser.add_argument("--report", type=pathlib.Path, help="a directory for the table, as e2e.md")
    parser.add_argument("--directory", default="/var/tmp", help="on a file system with direct I/O")
    options = parser.parse_args()
    tools = harness.Tools.of_build(options.build)
    if not tools.farswap.exists():
        sys.exit(f"knfsd: not built: {tools.farswap}")
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        print(f"knfsd: not installed: {', '.join(missing)}")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"knfsd: seed {options.seed}", flush=True)
    random.seed(options.seed)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-knfsd-", dir=options.directory))
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        outcome = suite(tools, directory, options, cleanup)
    print(outcome.table(), flush=True)
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "e2e.md").write_text(outcome.table())
    print(f"{'FAIL' if outcome.problems else 'PASS'} knfsd NFSv{options.version}, {outcome.kills} kills")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
