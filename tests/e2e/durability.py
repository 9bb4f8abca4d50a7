"""Cases of bad_input.py: servers that really lose what was not committed, and WRITEs that are executed long after their
connection is gone (careless_nfs, before nfs-ganesha). The program checks every byte of its memory all the time.
"""
import json
import random
import re
import subprocess
import time

import harness
from fault_lab import REFUSED, case
from faults import Background, store_file, verify, wait_until

SEED = 20


class CarelessServer:
    """nfs-ganesha behind careless_nfs, which does what it is told."""

    def __init__(self, lab):
        self.server = lab.server()
        port = self.server.url.partition("nfsport=")[2].partition("&")[0]
        self.process = subprocess.Popen([lab.tools.farswap.parent / "careless_nfs", port, self.server.store_directory()],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lab.cleanup.callback(self.stop)
        own = self.process.stdout.readline().split()[1]
        self.url = self.server.url.replace(f"nfsport={port}", f"nfsport={own}")

    def ask(self, line):
        """The numbers of the answer."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [int(word) for word in self.process.stdout.readline().split()[1:]]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


class Verified:
    """The verifying program over a careless server, until it is expected to end well, for `seconds` at the most."""

    def __init__(self, lab, seconds, query=""):
        self.lab, self.careless = lab, CarelessServer(lab)
        self.stats_file, self.enough = lab.directory / "stats.json", lab.directory / "enough"
        flags = ["--quiet", "--pool", "16M", "--stats", self.stats_file]
        self.job = Background(lab, self.careless.url + query, *verify(lab, "--until", self.enough, "--seconds", str(seconds)),
                              flags=flags, limit_s=4 * seconds + 200)
        self.started = lab.expect(store_file(self.careless.server.store_directory()) is not None,
                                  "nothing was written to the store")

    def running(self):
        return self.job.thread.is_alive()

    def end(self):
        """Its own figures of the store, after it has been right to the end."""
        self.enough.touch()
        run = self.job.end()
        self.lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
        self.lab.expect_nothing_left(run, self.careless.server.store_directory())
        stores = harness.read_stats(self.stats_file).get("stores", [{}])
        return stores[0]


def lose(lab, restarts):
    """`restarts` at random moments, three in a second."""
    rng = random.Random(SEED)
    work = Verified(lab, restarts + 100)
    done = lost = 0
    while work.started and done < restarts and work.running():
        time.sleep(rng.uniform(0.03, 0.6))
        done, lost = work.careless.ask("restart")
    store = work.end()
    lab.expect(done >= restarts, f"the program ended after {done} of {restarts} restarts")
    lab.expect(lost > 0, f"{done} restarts lost nothing: this proves nothing")
    lab.expect(store.get("lost_writes", 0) > 0, f"the pager has noticed no loss: {store}")


def late(lab, delays, late_s):
    """WRITEs caught on connections that break, executed `late_s` later, when their slots would long have been used anew."""
    rng = random.Random(SEED)
    # Little more than it needs, so that slots are soon used again.
    work = Verified(lab, 2 * delays + late_s + 100, "&size=300M")
    caught = executed = left = 0
    for _ in range(delays):
        if not (work.started and work.running()):
            break
        time.sleep(rng.uniform(0.1, 1.0))
        caught += work.careless.ask(f"delay {late_s * 1000}")[0]
    while work.running() and (left or executed < caught):
        time.sleep(0.1)
        executed, left = work.careless.ask("late")
    work.end()
    lab.expect(caught > 0, "no WRITE was caught: this proves nothing")
    lab.expect(executed == caught, f"{executed} of {caught} WRITEs were executed late while the program ran")


@case
def server_that_forgets(lab):
    lose(lab, restarts=30)


@case
def late_writes(lab):
    late(lab, delays=5, late_s=10)


@case
def server_that_keeps_two_mib(lab):
    """nfs-ganesha's MEM back end answers every WRITE and COMMIT with success and forgets what lies behind 2 MiB of a file: the
    first page that should come back from there stops the program. It has no free space either, so that a size must be given.
    """
    server = lab.server(f"{lab.directory / 'export'},mem")
    for url in (server.url, server.url.replace("version=3", "version=4")):
        lab.expect_refusal(lab.job(url, "true"), REFUSED, "full")
        run = lab.job(f"{url}&size=1G", *verify(lab, "--seconds", "60"), flags=["--quiet"], limit_s=200)
        lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
        lab.expect_refusal(run, REFUSED, "page 0x", "slot [0-9]+", re.escape(str(server.store_directory())))
        cleaned = lab.farswap("check", "--clean", url).output.read_text()
        lab.expect("nothing to remove" in cleaned, f"left on the server: {cleaned}")


def by_version(server, version):
    return server.url.replace("version=3", f"version={version}")


def away(lab, version, flags, until, after=None):
    """The server is killed under a program that checks its memory, and comes back once `until` says so of standard error
    so far. It ends once `after` does. Returns the ended run."""
    server, enough = lab.server(), lab.directory / "enough"
    job = Background(lab, by_version(server, version), *verify(lab, "--until", enough, "--seconds", "150"),
                     flags=["--pool", "16M", *flags], limit_s=200)
    if lab.expect(store_file(server.store_directory()) is not None, "nothing was written to the store"):
        subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
        said = lab.directory / f"run{lab.runs}.err"
        lab.expect(wait_until(lambda: until(said.read_text()) or not job.thread.is_alive()), "the outage goes unnoticed")
        subprocess.run([harness.GANESHA, "restart", server.directory], check=True)
        wait_until(lambda: after is None or after(said.read_text()) or not job.thread.is_alive())
    enough.touch()
    return job.end(), server


def away_for_a_moment(lab, version):
    run, server = away(lab, version, [], lambda said: "no answer for 5 s" in said, lambda said: "answers again" in said)
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect(re.search("answers again, after [0-9]+ s", run.error), f"its return is not told: {run.error}")
    lab.expect_nothing_left(run, server.store_directory())


def away_for_too_long(lab, version):
    run, server = away(lab, version, ["--on-outage", "stop:3"], lambda said: "the job is stopped" in said)
    lab.expect(run.status == REFUSED, f"exit status {run.status} instead of {REFUSED}: {run.last_error()}")
    lab.expect("no answer for 3 s" in run.error and str(server.store_directory()) in run.error, f"does not say why: {run.error}")
    lab.expect(not run.left, f"left running: {run.left}")


@case
def server_is_away(lab):
    """The program waits, farswap says so, and says when it is over. For minutes: durability_long.py."""
    away_for_a_moment(lab, 3)


@case
def server_is_away_by_nfsv4(lab):
    away_for_a_moment(lab, 4)


@case
def server_is_away_for_too_long(lab):
    away_for_too_long(lab, 3)


@case
def server_is_away_for_too_long_by_nfsv4(lab):
    away_for_too_long(lab, 4)


# Standard error is the program's and farswap's. A write(2) holds its lock while the kernel reads the page that it is given.
WRITES_FAR_PAGES = """import mmap, os, random, sys, time
size = 192 << 20
memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, size, 4096): memory[at:at + 4096] = os.urandom(4095) + b"."
pages, end = memoryview(memory), time.monotonic() + 150
while time.monotonic() < end and not os.path.exists(sys.argv[1]):
    at = random.randrange(4095, size, 4096)
    os.write(2, pages[at:at + 1])
"""


def is_silent_for(lab, directory, seconds):
    """Whether the job over that store answers, and says that the store has not for so long."""
    jobs = json.loads(lab.farswap("top", "--json", "--interval", "0.2").output.read_text() or "[]")
    return any(str(directory) in store["name"] and store["silent_s"] > seconds for job in jobs for store in job.get("stores", []))


@case
def program_waits_where_farswap_writes_to(lab):
    """It holds the lock of standard error and waits for a page of a server that is away: farswap, which has to say so there,
    does not wait for it."""
    server, enough = lab.server(), lab.directory / "enough"
    job = Background(lab, server.url, harness.PYTHON, "-c", WRITES_FAR_PAGES, enough, ram="64M", flags=["--pool", "16M"],
                     limit_s=200)
    said = lab.directory / "run1.err"
    if lab.expect(wait_until(lambda: said.exists() and "." * 1000 in said.read_text()), "the program does not come to write"):
        subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
        lab.expect(wait_until(lambda: is_silent_for(lab, server.store_directory(), 7), 60),
                   "farswap does not answer after the server has gone")
        subprocess.run([harness.GANESHA, "restart", server.directory], check=True)
        wait_until(lambda: "answers again" in said.read_text() or not job.thread.is_alive())
    enough.touch()
    run = job.end()
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect("no answer for 5 s" in run.error and "answers again" in run.error, f"the outage is not told: {run.error[-300:]}")
    lab.expect_nothing_left(run, server.store_directory())
