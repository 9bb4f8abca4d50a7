"""Cases of bad_input.py in which the pager is killed while its job runs. With a keeper (docs/decisions/0025) another
process goes on where it was; without one the programs are ended before they can read a wrong byte.
"""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import time

import harness
from attaching import wait_until
from fault_lab import REFUSED, USAGE, case
from harness import keep_nice

LIMIT_S = 120
KEEPER = "farswap-keeper"


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children_of(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def state_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_being_killed(pid):
    """Whether a SIGKILL is pending for the process: as long as its threads stand at their ends, it is."""
    pending = re.search(r"^ShdPnd:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1]
    return int(pending, 16) >> (signal.SIGKILL - 1) & 1


def pagers_listed(lab):
    return [job.get("pager") for job in json.loads(lab.farswap("top", "--json", "--interval", "0.1").output.read_text() or "[]")]


class Job:
    """farswap run with a program whose end is told by its output: its parent may be killed."""

    def __init__(self, lab, *argv, ram="64M", url=None, flags=(), env=None, command=None):
        """`command`: farswap, and who runs it."""
        self.lab, self.output, self.said, self.stats = lab, lab.output(), lab.output(), lab.output()
        script = ['"$@"; echo "status $?"', "sh", *map(str, argv)]
        with open(self.output, "wb") as out, open(self.said, "wb") as error:
            self.process = subprocess.Popen(
                [*map(str, command or [lab.tools.farswap]), "run", "--ram", ram, "--swap", url or lab.file_url(), "--stats", str(self.stats),
                 *flags, "--", "sh", "-c", *script], stdin=subprocess.DEVNULL, stdout=out, stderr=error, cwd=lab.directory,
                start_new_session=True, env={**os.environ, **(env or {})})
        keep_nice(self.process.pid)
        self.first = self.pager = self.process.pid
        self.keeper = 0
        self.deaths = 0
        self.enough = None
        lab.cleanup.callback(self.kill_all)
        if "--keeper" not in flags:
            wait_until(self.find_keeper, "a keeper")

    def find_keeper(self):
        self.keeper = next((child for child in children_of(self.first) if name_of(child) == KEEPER), 0)
        return self.keeper or self.process.poll() is not None

    def heirs(self):
        """Children of the keeper that page: who waits to be one has its name."""
        return [child for child in children_of(self.keeper) if name_of(child) not in (KEEPER, "")]

    def errors(self):
        return self.said.read_text(errors="replace")

    def text(self):
        return self.output.read_text(errors="replace")

    def is_over(self):
        return "status" in self.text()

    def wait_until_paged(self, mib):
        """Until so much has left, or the program has ended."""
        wait_until(lambda: self.is_over() or self.far_mib() >= mib, f"{mib} MiB outside")

    def far_mib(self):
        answer = self.lab.farswap("top", "--json", "--interval", "0.1").output.read_text()
        job = next((job for job in json.loads(answer or "[]") if job.get("pager") == self.pager), None)
        return job["memory"]["far_bytes"] >> 20 if job else 0

    def kill_pager(self):
        """-> whether another one has taken its place."""
        dead = self.pager
        os.kill(dead, signal.SIGKILL)
        if dead == self.first:
            self.process.wait()

        def heir():
            self.pager = next((heir for heir in self.heirs() if heir != dead), 0)
            return self.pager or not name_of(self.keeper)
        wait_until(heir, f"a pager after {self.deaths} deaths")
        self.deaths += self.pager != 0
        return self.pager != 0

    def expect_success(self):
        if self.enough:
            self.enough.touch()
        wait_until(lambda: self.is_over() or not self.is_paged(), "the program's end", LIMIT_S)
        wait_until(lambda: not self.is_paged(), "the pager's end", LIMIT_S)
        self.lab.expect("status 0" in self.text(), f"the program: {self.text()[-300:]!r}; farswap: {self.errors()!r}")
        left = harness.listing(self.lab.store)
        self.lab.expect(not left, f"left in the store: {left}")

    def left(self):
        """What is alive of its session, with the place in the kernel where it waits."""
        found = subprocess.run(["ps", "-s", str(self.first), "-L", "-o", "pid=,tid=,stat=,wchan:32=,comm="], capture_output=True,
                               text=True, check=False).stdout.splitlines()
        return [line for line in found if line.split()[2][0] not in "ZX"]

    def is_paged(self):
        return self.pager and state_of(self.pager) not in ("", "Z", "X")

    def kill_all(self):
        for pid in (self.keeper, self.pager, self.first):
            if pid and name_of(pid).startswith("farswap"):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        # The programs have a session of their own.
        subprocess.run(["pkill", "-KILL", "-s", str(self.first)], check=False)


def checking_job(lab, **options):
    """Two threads check all of 200 MiB until the job is expected to end well."""
    enough = lab.output()
    job = Job(lab, lab.tools.workloads / "verify", "--size", "200M", "--threads", "2", "--until", enough, "--seconds", 4 * LIMIT_S,
              **options)
    job.enough = enough
    return job


def kill_again_and_again(job, times, seed=1, pause_max_s=0.08):
    dice = random.Random(seed)
    for _ in range(times):
        time.sleep(dice.uniform(0, pause_max_s))
        if job.is_over() or not job.kill_pager():
            return


def census_of(job):
    """What was under way at the kills so far, as the last heir that has said so counts it (FARSWAP_LOG=debug): a number for each
    phase, by its name; `in_...`: the pager's own thread was at it, `with_...`: some of it was under way."""
    lines = re.findall(r"the pager was killed so far: (.*)", job.errors())
    if not lines:
        return {}
    kills, in_steps, with_kinds = re.fullmatch(r"(.*) in: (.*) with: (.*)", lines[-1]).groups()
    return {prefix + name: int(count) for prefix, text in (("", kills), ("in_", in_steps), ("with_", with_kinds))
            for name, count in (word.split("=") for word in text.split())}


def expect_census(lab, job):
    """Each kill is counted, and in one place."""
    census = census_of(job)
    lab.expect(census.get("kills") == job.deaths, f"{job.deaths} deaths; counted: {census}")
    places = sum(count for name, count in census.items() if name.startswith("in_")) + census.get("not_begun", 0)
    lab.expect(places == job.deaths, f"{job.deaths} deaths, {places} places: {census}")
    lab.expect(census.get("with_write", 0) > 0, f"no kill found a write under way: {census}")


def expect_deaths(lab, job, least):
    lab.expect(job.deaths >= least, f"only {job.deaths} pagers were killed while the job ran")
    # One that is killed before it has taken over says nothing; the next one counts it.
    said = job.errors().count("in place of one that was killed")
    lab.expect(1 <= said <= job.deaths, f"{job.deaths} deaths; it says {job.errors()[-600:]!r}")
    stats = json.loads(job.stats.read_text() or "{}")
    lab.expect(stats.get("pagers_killed") == job.deaths, f"--stats says {stats.get('pagers_killed')} of {job.deaths} deaths")


@case
def pager_killed_again_and_again(lab):
    """Two threads check every byte while one pager after the other dies."""
    job = checking_job(lab, env={"FARSWAP_LOG": "debug"})
    job.wait_until_paged(60)
    kill_again_and_again(job, 60)
    job.expect_success()
    expect_deaths(lab, job, 60)
    expect_census(lab, job)


@case
def pager_killed_over_nfs(lab):
    """Its connections, and what the server is still to do, pass to the next one."""
    server = lab.server()
    for flags in ((), ("--cache-tier", "off")):
        job = checking_job(lab, url=server.url, flags=flags)
        job.wait_until_paged(60)
        kill_again_and_again(job, 30, seed=2)
        job.expect_success()
        expect_deaths(lab, job, 30)


@case
def pager_killed_while_the_program_maps_and_forks(lab):
    """Events that one pager has read are acted upon by the next."""
    for name, arguments in (("mmap_race", ("--rounds", "60")), ("fork_change", ("--rounds", "4"))):
        job = Job(lab, lab.tools.workloads / name, *arguments, ram="32M")
        time.sleep(0.5)
        kill_again_and_again(job, 40, seed=3)
        # Killed while an agent is being put in, it cannot go on; then the program is ended, and this is said.
        if "while it prepared process" in job.errors():
            wait_until(lambda job=job: not job.is_paged(), "its end")
            continue
        job.expect_success()
        expect_deaths(lab, job, 5)


@case
def pager_killed_with_threads_for_files(lab):
    """Without io_uring, several threads go on."""
    job = checking_job(lab, env={"FARSWAP_IO_ENGINE": "epoll"})
    job.wait_until_paged(60)
    kill_again_and_again(job, 40, seed=4)
    job.expect_success()
    expect_deaths(lab, job, 40)


@case
def stopped_pager_is_replaced(lab):
    """farswap resume: the stopped one is fenced by its death, and the job goes on."""
    job = checking_job(lab)
    job.wait_until_paged(60)
    refused = lab.farswap("resume", job.pager)
    lab.expect(refused.status == REFUSED and "is not stopped" in refused.error, f"it says {refused.error!r}")
    refused = lab.farswap("resume", os.getpid())
    lab.expect(refused.status == REFUSED and "is no pager" in refused.error, f"it says {refused.error!r}")
    refused = lab.farswap("resume")
    lab.expect(refused.status == USAGE, f"it says {refused.error!r}")
    os.kill(job.pager, signal.SIGSTOP)
    wait_until(lambda: state_of(job.pager) in "tT", "a stop")
    run = lab.farswap("resume", job.pager)
    lab.expect(run.status == 0, f"it says {run.error!r}")
    job.process.wait()
    job.pager = int(re.search(r"process (\d+) pages on", run.error)[1])
    job.deaths = 1
    job.expect_success()
    expect_deaths(lab, job, 1)


@case
def resume_names_its_own_heir(lab):
    """A job that begins while a stopped pager is being replaced is not taken for the one that goes on."""
    job = Job(lab, lab.tools.workloads / "verify", "--size", "200M", "--threads", "2", "--seconds", "6")
    job.wait_until_paged(60)
    os.kill(job.pager, signal.SIGSTOP)
    wait_until(lambda: state_of(job.pager) in "tT", "a stop")
    os.kill(job.keeper, signal.SIGSTOP)  # what follows the kill has to wait
    lab.cleanup.callback(lambda: name_of(job.keeper) == KEEPER and os.kill(job.keeper, signal.SIGCONT))
    resume = subprocess.Popen([str(lab.tools.farswap), "resume", str(job.pager)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: is_being_killed(job.pager), "the kill")
    elsewhere = lab.directory / "other"  # the other job's file stays where it is, as that is killed
    elsewhere.mkdir()
    other = Job(lab, "sleep", "60", url=f"file:{elsewhere}")
    wait_until(lambda: other.pager in pagers_listed(lab), "another job")
    os.kill(job.keeper, signal.SIGCONT)
    said = resume.communicate(timeout=LIMIT_S)[1]
    heirs = [heir for heir in job.heirs() if heir != job.first]
    right = [heir for heir in heirs if f"process {heir} pages on in place of {job.first}\n" in said]
    lab.expect(resume.returncode == 0 and right == heirs and len(heirs) == 1, f"heirs {heirs}; it says {said!r}")
    other.kill_all()
    job.process.wait()
    job.pager = heirs[0]
    job.expect_success()


@case
def pager_killed_after_a_stop(lab):
    """All that it does by the clock is overdue when the next one begins, before that knows who it is."""
    job = checking_job(lab)
    job.wait_until_paged(60)
    for _ in range(20):
        if job.is_over():
            break
        os.kill(job.pager, signal.SIGSTOP)
        time.sleep(0.25)
        if not job.kill_pager():
            break
        time.sleep(0.05)
    job.expect_success()
    expect_deaths(lab, job, 20)


@case
def nobody_left_to_go_on(lab):
    """With its keeper gone, too, or with none from the start, what was paged is ended, and reads nothing."""
    for flags in ((), ("--keeper", "off")):
        job = checking_job(lab, flags=flags)
        job.wait_until_paged(60)
        if job.keeper:
            os.kill(job.keeper, signal.SIGKILL)
            wait_until(lambda job=job: "the keeper was killed" in job.errors(), "a warning")
        os.kill(job.pager, signal.SIGKILL)
        job.process.wait()
        # The shell tells of the program's end only if nothing was moved out of the shell itself.
        try:
            wait_until(lambda job=job: not job.left(), "the programs' end")
        except AssertionError as error:
            raise AssertionError(f"{error}; there are still {job.left()}") from None
        told = job.text().rpartition("status ")[2].strip() if job.is_over() else "137"
        lab.expect(told == "137" and "FAIL" not in job.text(), f"the program: {job.text()[-300:]!r}")
        refused = lab.farswap("resume", job.pager)
        lab.expect(refused.status == REFUSED, f"it says {refused.error!r}")
