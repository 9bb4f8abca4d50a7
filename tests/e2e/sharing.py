"""Cases of bad_input.py in which farswapd divides a machine's budget between the jobs of several users: their caps follow who
is there, and what they have in RAM together stays below it.
"""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import harness
from attaching import wait_until
from fault_lab import REFUSED, case
from harness import MIB
from users import NOBODY, Helper, User

SLACK = 24 * MIB  # of two pagers that are sampled one after the other, while pages move
LIMIT_S = 90


class Machine:
    """A farswapd with a budget, and a user who is nobody."""

    def __init__(self, lab, text):
        self.lab = lab
        self.config = lab.directory / "farswapd.toml"
        self.write(text)
        self.start()
        self.user = User(lab, self.helper.path)
        self.verify = self.user.workload("verify")
        self.environment = dict(os.environ, FARSWAPD_SOCKET=str(self.helper.path))
        self.jobs = []
        lab.cleanup.callback(self.end_all)

    def start(self):
        self.helper = Helper(self.lab, "--allow-uid", str(NOBODY), "--config", str(self.config))

    def write(self, text):
        self.config.write_text(text)

    def reload(self):
        self.helper.process.send_signal(signal.SIGHUP)

    def log(self):
        return self.helper.log.read_text()

    def farswap(self, *arguments):
        return self.lab.farswap(*arguments, environment=self.environment)

    def budget(self):
        run = self.farswap("budget", "--json")
        return json.loads(run.output.read_text()) if run.status == 0 else {"jobs": [], "held_bytes": 0}

    def cap_of(self, job):
        return next((one["cap_bytes"] for one in self.budget()["jobs"] if one["pager"] == job.process.pid), 0)

    def end_all(self):
        for job in self.jobs:
            job.end()


class Job:
    """farswap run in the background, as root or as nobody, of a program that uses more than there is. Its pager is not kept:
    one that is killed is gone, unless it is said otherwise."""

    def __init__(self, machine, *flags, prefix=(), farswap=None, workload=None, size="400M", keeper="off"):
        lab = machine.lab
        self.error_path = lab.directory / f"job{len(machine.jobs)}.err"
        command = [*prefix, farswap or lab.tools.farswap, "run", "--quiet", "--keeper", keeper, *flags, "--",
                   workload or lab.tools.workloads / "verify", "--size", size, "--seconds", "600"]
        with open(self.error_path, "wb") as error:
            self.process = subprocess.Popen(list(map(str, command)), cwd="/", env=machine.environment, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=error, start_new_session=True)
        harness.keep_nice(self.process.pid)
        machine.jobs.append(self)

    def members(self):
        """The pager and all below it."""
        found, look_at = [], [self.process.pid]
        while look_at:
            pid = look_at.pop()
            found.append(pid)
            try:
                look_at += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                pass
        return found

    def ram(self):
        return sum(ram_of(pid) for pid in self.members())

    def end(self, number=signal.SIGTERM):
        """By a signal to the pager; what it leaves, as one that is killed must, is killed here."""
        members = self.members() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            number = signal.SIGKILL
        if number == signal.SIGKILL:
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()


def comm_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def end_if_there(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def ram_of(pid):
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def of_nobody(machine, *flags):
    user = machine.user
    return Job(machine, *flags, prefix=user.prefix, farswap=user.program, workload=machine.verify)


def about(size, wanted):
    return wanted * 0.85 <= size <= wanted * 1.15


def expect_caps(machine, caps, what, budget=None):
    """Waits until the jobs have about these caps, and looks meanwhile at what they have together."""
    budget = budget or machine.budget().get("budget_bytes", 0)
    worst = 0

    def reached():
        nonlocal worst
        worst = max(worst, sum(job.ram() for job in machine.jobs))
        return all(about(machine.cap_of(job), cap) for job, cap in caps.items())
    try:
        wait_until(reached, what, LIMIT_S)
    except AssertionError:
        machine.lab.expect(False, f"{what}: {machine.budget()} {machine.log()}")
    machine.lab.expect(worst <= budget + SLACK, f"{what}: {worst / MIB:.0f} MiB of {budget / MIB:.0f} MiB were in use")


class Activated(Helper):
    """A farswapd behind sockets that somebody else has made, as systemd does (sd_listen_fds(3))."""

    def __init__(self, lab, *options):
        self.path = lab.directory / "farswapd.sock"
        self.log = lab.directory / "farswapd.log"
        with contextlib.ExitStack() as made, open(self.log, "ab") as log:
            self.earlier = log.tell()
            passed = []
            for path in (self.path, pathlib.Path(f"{self.path}.budget")):
                path.unlink(missing_ok=True)
                passed.append(made.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)))
                passed[-1].bind(str(path))
                passed[-1].listen(64)
                path.chmod(0o666)
            numbers = [one.fileno() for one in passed]
            # The shell's process number will be farswapd's.
            script = 'ours=$1 shares=$2; shift 2; LISTEN_PID=$$ LISTEN_FDS=2 exec "$@" 3<&"$ours" 4<&"$shares"'
            command = ["bash", "-c", script, "bash", *map(str, numbers), lab.tools.farswap.parent / "farswapd", *options]
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, pass_fds=numbers)
        lab.cleanup.callback(self.kill)
        self.wait_until_it_listens()


def mistaken(machine):
    """Its configuration, that has a mistake now."""
    machine.write("[machine]\nrum = 1\n")
    return machine.config


def config(lab, ram, more=""):
    return f'[machine]\nram = "{ram}"\n\n[defaults]\nswap = ["file:{lab.store}"]\nram-least = "40M"\n{more}'


@case
def two_users_share_one_budget(lab):
    """One alone has it all; with a second each has half; what one has that is killed goes back."""
    machine = Machine(lab, config(lab, "320M"))
    first = of_nobody(machine)
    expect_caps(machine, {first: 320 * MIB}, "one alone")
    wait_until(lambda: first.ram() > 200 * MIB, "the first to fill its share", LIMIT_S)
    second = Job(machine)
    expect_caps(machine, {first: 160 * MIB, second: 160 * MIB}, "two users")
    wait_until(lambda: second.ram() > 100 * MIB, "the second to fill its share", LIMIT_S)
    lab.expect(first.ram() + second.ram() <= 320 * MIB + SLACK, "more than the budget in use")
    table = machine.farswap("budget")
    lab.expect("of 320 MiB are held by 2 jobs" in table.output.read_text(), f"budget: {table.output.read_text()}")
    machine.jobs.remove(second)
    second.end(signal.SIGKILL)
    expect_caps(machine, {first: 320 * MIB}, "the second was killed")
    first.end()
    ended = first.process.returncode
    lab.expect(ended == -signal.SIGTERM, f"ended with {ended}: {first.error_path.read_text()}")
    wait_until(lambda: machine.log().count(": released ") == 2, "both shares to be back")
    for words in (f"user {NOBODY}, process {first.process.pid}: granted 320 MiB of", "user 0, process ",
                  "cap 160 MiB instead of 320"):
        lab.expect(words in machine.log(), f"no '{words}' in {machine.log()}")
    for path in lab.store.iterdir():  # of the one that was killed
        path.unlink()


@case
def jobs_of_one_user_share_his_part(lab):
    """Two jobs of one user have together what the one of another has; --ram is a job's own limit."""
    machine = Machine(lab, config(lab, "400M"))
    first, second = of_nobody(machine), of_nobody(machine)
    third = Job(machine)
    expect_caps(machine, {first: 100 * MIB, second: 100 * MIB, third: 200 * MIB}, "two users, three jobs")
    third.end()
    machine.jobs.remove(third)
    small = Job(machine, "--ram", "80M")
    expect_caps(machine, {first: 160 * MIB, second: 160 * MIB, small: 80 * MIB}, "one that wants little")
    run = machine.farswap("set", small.members()[-1], "--ram", "300M")
    lab.expect(run.status == 0 and "this machine's budget leaves the job " in run.error, f"set: {run.status} {run.error}")
    expect_caps(machine, {first: 100 * MIB, second: 100 * MIB, small: 200 * MIB}, "one that wants more now")


def seen_by_top(machine, *programs):
    """What top says of the jobs that are paged for these programs, in their order (None: nothing), and their lines in its table;
    other jobs may run on this machine."""
    jobs = json.loads(machine.farswap("top", "--json", "--interval", "0.1").output.read_text())
    found = [next((job for job in jobs if program in job.get("processes", {}).get("pids", [])), None) for program in programs]
    table = machine.farswap("top", "--once", "--interval", "0.1").output.read_text()
    return found, [next((line for line in table.splitlines() if line.split()[0] == str(program)), "") for program in programs]


@case
def an_heir_keeps_the_share(lab):
    """The pager of a job is killed and another process goes on: its share stays, follows who else is there, and ends with it."""
    machine = Machine(lab, config(lab, "320M"))
    first = Job(machine, keeper="auto")
    expect_caps(machine, {first: 320 * MIB}, "one alone")
    wait_until(lambda: first.ram() > 200 * MIB, "it to fill its share", LIMIT_S)
    program = next(pid for pid in first.members() if comm_of(pid) == "verify")
    [job], [line] = seen_by_top(machine, program)
    lab.expect(job and job["share"] and about(job["share"]["cap_bytes"], 320 * MIB) and job["share"]["budget_bytes"] == 320 * MIB and
               " 100% " in line, f"top says {job and job['share']} {line}")
    os.kill(first.process.pid, signal.SIGKILL)
    lab.cleanup.callback(end_if_there, program)
    heir = 0

    def has_heir():
        nonlocal heir
        [job], _ = seen_by_top(machine, program)
        heir = job["pager"] if job else 0
        return heir not in (0, first.process.pid)
    wait_until(has_heir, "an heir", LIMIT_S)
    time_to_notice = time.monotonic() + 2
    while time.monotonic() < time_to_notice:  # that it is not given back is what is looked at
        lab.expect(about(machine.cap_of(first), 320 * MIB), f"the share of the heir: {machine.budget()}")
    second = Job(machine, prefix=machine.user.prefix, farswap=machine.user.program, workload=machine.verify)
    machine.jobs.remove(first)  # whose processes are the heir's now
    expect_caps(machine, {first: 160 * MIB, second: 160 * MIB}, "a second beside the heir")
    wait_until(lambda: second.ram() > 100 * MIB, "the second to fill its share", LIMIT_S)
    other = max(second.members(), key=ram_of)
    jobs, lines = seen_by_top(machine, program, other)
    lab.expect(all(job and job["share"] and about(job["share"]["cap_bytes"], 160 * MIB) for job in jobs) and
               all(" 50% " in line for line in lines), f"top says {[job and job['share'] for job in jobs]} {lines}")
    released = machine.log().count(": released ")
    os.kill(heir, signal.SIGTERM)
    wait_until(lambda: machine.log().count(": released ") > released, "the heir's share to be back", LIMIT_S)
    expect_caps(machine, {second: 320 * MIB}, "the heir has ended")


@case
def budget_reload_and_restart(lab):
    """Another budget is followed by jobs that run; a bad file changes nothing; a new farswapd learns who holds what."""
    machine = Machine(lab, config(lab, "300M"))
    job = of_nobody(machine)
    expect_caps(machine, {job: 300 * MIB}, "before")
    machine.write(config(lab, "200M"))
    machine.reload()
    expect_caps(machine, {job: 200 * MIB}, "another budget", budget=300 * MIB)
    wait_until(lambda: job.ram() <= 200 * MIB, "the job to come down", LIMIT_S)
    machine.write("[machine]\nrum = 1\n")
    machine.reload()
    wait_until(lambda: "not reloaded: " in machine.log(), "the mistake to be named", LIMIT_S)
    lab.expect(f"not reloaded: {machine.config}:2:1: [machine] has no 'rum'" in machine.log(), machine.log())
    expect_caps(machine, {job: 200 * MIB}, "after the mistake")
    machine.helper.kill()
    machine.write(config(lab, "240M"))
    machine.start()
    wait_until(lambda: "came back with a cap of 200 MiB" in machine.log(), "the job to come back", LIMIT_S)
    expect_caps(machine, {job: 240 * MIB}, "under a new farswapd", budget=240 * MIB)


@case
def a_lower_cap_holds_at_once(lab):
    """A job whose cap is lowered while it fills its memory, a GiB or more a second, does not reach the old one first."""
    machine = Machine(lab, config(lab, "300M"))
    job = of_nobody(machine)
    expect_caps(machine, {job: 300 * MIB}, "before")
    machine.write(config(lab, "200M"))
    machine.reload()
    expect_caps(machine, {job: 200 * MIB}, "lowered", budget=300 * MIB)
    before = peak = job.ram()

    def pages_are_outside():
        nonlocal peak
        peak = max(peak, job.ram())
        return any(one.get("far_bytes", 0) > 0 for one in machine.budget()["jobs"])
    wait_until(pages_are_outside, "pages to leave", LIMIT_S)
    lab.expect(peak <= max(before, 200 * MIB) + SLACK, f"{peak / MIB:.0f} MiB of 200 MiB were in use, {before / MIB:.0f} before")


@case
def starts_with_a_mistake(lab):
    """Behind systemd's sockets a file with a mistake ends nothing: the helper serves, shares are refused until it is mended, and
    a job that runs comes back then. Started by hand it ends, with one line."""
    machine = Machine(lab, config(lab, "200M"))
    by_hand = subprocess.run([lab.tools.farswap.parent / "farswapd", "--socket", lab.directory / "other.sock", "--config",
                              mistaken(machine)], capture_output=True, text=True, timeout=LIMIT_S)
    lab.expect(by_hand.returncode == 1 and by_hand.stderr.count("\n") == 1 and "has no 'rum'" in by_hand.stderr, f"{by_hand}")
    job = of_nobody(machine)
    expect_caps(machine, {job: 200 * MIB}, "before")
    machine.helper.kill()
    machine.helper = Activated(lab, "--config", machine.config)
    wait_until(lambda: "no share for anybody until it is mended" in machine.log(), "the mistake to be named", LIMIT_S)
    lab.expect(f"{machine.config}:2:1: [machine] has no 'rum'" in machine.log(), machine.log())
    words = ("farswapd: the configuration of this machine's budget has a mistake",)
    lab.expect_refusal(machine.user.farswap("run", "--", "true"), REFUSED, *words, left_in=[lab.directory / "nowhere"])
    asked = machine.farswap("budget")
    lab.expect(asked.status == REFUSED and words[0] in asked.error, f"budget: {asked.status} {asked.error}")
    checked = machine.user.farswap("check")
    lab.expect("its fork event by farswapd" in checked.output.read_text(), f"check: {checked.output.read_text()}")
    lab.expect(job.process.poll() is None, "the job has ended")
    machine.write(config(lab, "160M"))
    machine.reload()
    wait_until(lambda: "came back with a cap of " in machine.log(), "the job to come back", LIMIT_S)
    expect_caps(machine, {job: 160 * MIB}, "mended", budget=200 * MIB)


@case
def budget_says_no(lab):
    """Refusals by the rules, each in one line; nobody's job is started."""
    rules = f'[[user]]\nid = {NOBODY}\n'
    machine = Machine(lab, config(lab, "200M", rules + "allow = false\n"))

    def expect(words, *arguments, text=None):
        if text is not None:
            machine.write(text)
            machine.helper.kill()
            machine.start()
        lab.expect_refusal(machine.user.farswap("run", *arguments, "--", "true"), REFUSED, *words)
    expect(["may not run jobs here"])
    expect(["only stores that begin with nfs://nas/"], "--swap", lab.file_url(),
           text=config(lab, "200M", rules + 'stores = ["nfs://nas/"]\n'))
    expect(["a job may have 64 MiB here"], "--pool", "60M", text=config(lab, "200M", rules + 'ram-max = "64M"\n'))
    machine.write(config(lab, "200M"))
    machine.reload()
    other = Job(machine, "--pool", "100M")
    wait_until(lambda: machine.cap_of(other), "another job", LIMIT_S)
    run = machine.user.farswap("run", "--pool", "100M", "--", "true")
    words = ("farswapd: no room: the machine's budget is 200 MiB", "user 0: 200 MiB in 1 job")
    lab.expect(run.status == REFUSED and run.error.count("\n") == 1 and all(word in run.error for word in words),
               f"ends with {run.status}: {run.error}")
    other.end()
    run = machine.user.farswap("run", "--quiet", "--", "true")
    lab.expect(run.status == 0 and not run.error, f"ends with {run.status}: {run.error}")
    lab.expect_nothing_left(run)
    none = lab.farswap("budget", environment=dict(os.environ, FARSWAPD_SOCKET=str(lab.directory / "nowhere")))
    lab.expect_refusal(none, REFUSED, "no farswapd divides a budget here")


@case
def budget_config_is_checked(lab):
    farswapd = lab.tools.farswap.parent / "farswapd"

    def check(text):
        path = lab.directory / "checked.toml"
        path.write_text(text)
        return subprocess.run([farswapd, "--check-config", path], capture_output=True, text=True)
    good = check(config(lab, "50%"))
    lab.expect(good.returncode == 0 and "in order, a budget of" in good.stdout, f"{good}")
    lab.expect(check("# nothing\n").stdout.endswith("in order, no budget\n"), "an empty file is in order")
    bad = check('[machine]\nram = "50%"\n[defaults]\ncompress = "zip"\n')
    lab.expect(bad.returncode == 1 and bad.stderr.count("\n") == 1, f"{bad}")
    lab.expect("checked.toml:4:12: compress: write " in bad.stderr, bad.stderr)


@case
def strangers_at_the_budget(lab):
    """Who sends nonsense, too much or nothing hurts nobody else."""
    machine = Machine(lab, config(lab, "300M"))
    path = str(machine.helper.path) + ".budget"

    def client():
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.settimeout(LIMIT_S)
        one.connect(path)
        return one
    with client() as silent, client() as rude:
        rude.send(b"x" * 10)
        lab.expect(b"10 bytes are no request for a share" in rude.recv(4096), "no reason")
        lab.expect(rude.recv(4096) == b"", "not hung up on")
        started = time.monotonic()
        lab.expect(silent.recv(4096) == b"" and time.monotonic() - started < 60, "a silent one is not hung up on")
    crowd = [client() for _ in range(60)]
    answers = [one.recv(4096) for one in crowd]
    for one in crowd:
        one.close()
    lab.expect(sum(b"connections of this user are open already" in answer for answer in answers) > 0,
               "a crowd of one user is not refused")
    job = of_nobody(machine)
    expect_caps(machine, {job: 300 * MIB}, "a job beside them")
    lab.expect("hung up on: 10 bytes" in machine.log(), machine.log())
