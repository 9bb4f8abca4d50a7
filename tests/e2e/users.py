"""Cases of bad_input.py about who runs farswap: users without privileges, with what an administrator may grant them."""
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import threading

import harness
import killed
import seccomp
from fault_lab import REFUSED, Skip, case
from faults import store_file, verify, wait_until

NOBODY = 65534


class Helper:
    """A farswapd of the case's own; root starts it."""

    def __init__(self, lab, *options):
        self.path = lab.directory / "farswapd.sock"
        self.log = lab.directory / "farswapd.log"
        with open(self.log, "ab") as log:
            self.earlier = log.tell()
            self.process = subprocess.Popen([lab.tools.farswap.parent / "farswapd", "--socket", self.path, *options],
                                            stderr=log, stdin=subprocess.DEVNULL)
        lab.cleanup.callback(self.kill)
        self.wait_until_it_listens()

    def wait_until_it_listens(self):
        while self.process.poll() is None:
            if "serves " in self.log.read_text()[self.earlier:]:
                return
            select.select([], [], [], 0.01)
        raise AssertionError(f"farswapd ended: {self.log.read_text()}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def handed_out(self):
        return [line for line in self.log.read_text().splitlines() if f"user {NOBODY}, process" in line]


class User:
    """An ordinary user: no capability, no sysctl, no device, no way to become more, 8 MiB of locked memory."""

    def __init__(self, lab, socket_path):
        if pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() != "0":
            raise Skip("vm.unprivileged_userfaultfd is on")
        self.lab = lab
        self.program = lab.for_everybody(lab.tools.farswap)
        self.environment = dict(os.environ, FARSWAPD_SOCKET=str(socket_path))
        self.prefix = [*lab.unprivileged(), "prlimit", "--memlock=8388608:8388608"]
        for directory in (lab.directory, lab.directory.parent, lab.store):
            directory.chmod(0o777)

    def farswap(self, *arguments, around=(), **options):
        return harness.run([*self.prefix, *around, self.program, *map(str, arguments)], self.lab.output(), limit_s=120,
                           cwd="/", environment=self.environment, **options)

    def job(self, *program, ram="40M", flags=(), **options):
        return self.farswap("run", "--ram", ram, "--swap", self.lab.file_url(), *flags, "--", *program, **options)

    def workload(self, name):
        return self.lab.for_everybody(self.lab.tools.workloads / name)


def expect_paged(lab, run):
    lab.expect(run.status == 0, f"exit status {run.status}: {run.error}")
    lab.expect("pages    out" in run.error, f"no page left RAM: {run.error}")
    lab.expect_nothing_left(run)


FORK_TREE = ("--filler", "32M", "--rounds", "1", "--dir", "/var/tmp")


@case
def helper_lets_an_ordinary_user_fork(lab):
    """With nothing but farswapd: forks, a new program in the middle, and the right bytes with pages outside."""
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    checked = user.farswap("check")
    lab.expect(checked.status == 0, f"check ends with {checked.status}: {checked.output.read_text()}")
    lab.expect(f"user {NOBODY}: a userfaultfd by farswapd, its fork event by farswapd" in checked.output.read_text(),
               f"check does not say by what right: {checked.output.read_text()}")
    before = len(helper.handed_out())
    run = user.job(user.workload("fork_tree"), *FORK_TREE)
    expect_paged(lab, run)
    lab.expect("stays in RAM" not in run.error, f"a process was not managed: {run.error}")
    lab.expect(len(helper.handed_out()) > before, f"farswapd was not asked: {helper.log.read_text()}")
    run = user.job(user.workload("verify"), "--size", "64M", "--operations", "1000")
    expect_paged(lab, run)


def expect_out_of_reach(lab, run, times=None):
    """It has ended well, and what could not be paged any more has been said."""
    lab.expect(run.status == 0, f"exit status {run.status}: {run.error}")
    said = run.error.count("may not be read any more")
    lab.expect(said >= 1 if times is None else said == times, f"said {said} times: {run.error}")
    lab.expect_nothing_left(run)


@case
def program_that_must_not_be_dumped(lab):
    """PR_SET_DUMPABLE in the middle, for a pager without CAP_SYS_PTRACE: an ordinary user's and a root's. What is outside comes
    back, threads that die are noticed, children live; one line says that the cap is no more."""
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    rounds = ("--filler", "48M", "--rounds", "1", "--dir", "/var/tmp")
    undumpable = user.workload("undumpable")
    for flags in ((), ("--chaos", "20000")):
        run = user.job(undumpable, *rounds, flags=flags)
        expect_out_of_reach(lab, run)
        lab.expect("pages    out" in run.error, f"no page left RAM: {run.error}")
    # It is closed after the first round.
    robust = user.job(user.workload("robust"), *rounds, "--rounds", "2", "--extra", "undumpable")
    expect_out_of_reach(lab, robust, times=1)
    run = harness.run(["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-all", *map(str, (
        lab.tools.farswap, "run", "--ram", "64M", "--swap", lab.file_url(), "--", lab.tools.workloads / "undumpable", *rounds))],
        lab.output(), limit_s=120, environment=dict(os.environ, FARSWAPD_SOCKET=str(helper.path)))
    expect_out_of_reach(lab, run)


@case
def no_helper_for_an_ordinary_user(lab):
    """There is none, its socket is closed to this user, or it serves others: each refusal says what to do."""
    user = User(lab, lab.directory / "no-such-socket")
    lab.expect_refusal(user.job("true"), REFUSED, "userfaultfd", "farswapd.socket", "setcap")
    checked = user.farswap("check")
    lab.expect(checked.status == 1 and "type: systemctl enable --now farswapd.socket" in checked.output.read_text(),
               f"check ends with {checked.status}: {checked.output.read_text()}")
    helper = Helper(lab)
    user.environment["FARSWAPD_SOCKET"] = str(helper.path)
    lab.expect_refusal(user.job("true"), REFUSED, "userfaultfd", "usermod -aG farswap")
    helper.kill()
    helper = Helper(lab, "--allow-uid", "1")
    lab.expect_refusal(user.job("true"), REFUSED, "userfaultfd", "usermod -aG farswap")
    lab.expect(not [line for line in helper.handed_out() if "refused" not in line], helper.log.read_text())
    helper.kill()
    impostor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with impostor:
        helper.path.unlink()
        impostor.bind(str(helper.path))
        os.chown(helper.path, NOBODY, NOBODY)
        lab.expect_refusal(user.job("true"), REFUSED, "userfaultfd", "farswapd")


@case
def helper_is_killed_in_the_middle(lab):
    """What it has handed out goes on to serve; what needs it anew is told so, and nothing computes a wrong byte."""
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    script = '"$1" --size 64M --operations 6000 || exit 1; read go; "$1" --size 6M --seconds 2 || exit 2'
    reader, writer = os.pipe()
    results = []
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w") as go:
        job = threading.Thread(
            target=lambda: results.append(user.job("sh", "-c", script, "sh", user.workload("verify"), stdin=stdin)))
        job.start()
        written = store_file(lab.store)
        helper.kill()
        lab.expect(written is not None, "nothing was written to the store")
        refused = user.farswap("run", "--swap", f"file:{user.program.parent}", "--", "true")
        lab.expect_refusal(refused, REFUSED, "userfaultfd", "farswapd", left_in=[lab.directory / "nowhere"])
        go.write("go\n")
        go.flush()
        job.join()
    expect_paged(lab, results[0])
    lab.expect("stays in RAM, as may others: no right to a userfaultfd" in results[0].error
               and "farswapd" in results[0].error, f"does not say what was refused: {results[0].error}")


# Numbers of arch/x86/entry/syscalls/syscall_64.tbl, answers of Docker's profiles/seccomp/default.json.
FORBIDDEN = {"userfaultfd": (323, 1), "process_madvise": (440, 1), "clone3": (435, 38)}
# Podman's own profile allows them to everybody, Docker's to who has CAP_SYS_PTRACE; farswap needs both.
FORBIDDEN_BY_DOCKER = {"process_vm_readv": (310, 1), "pidfd_getfd": (438, 1)}


def forbid_as_container_engines_do():
    """Of what farswap and its programs may call, that which no default profile allows. Between fork and exec, as root."""
    seccomp.forbid(FORBIDDEN.values())


@case
def reach_is_forbidden(lab):
    """Behind a filter that permits ptrace(2) and not what else it takes, as Docker's own: refused before the program starts, in
    one line that names the call, by `run` and by `check`."""
    for name, refusal in FORBIDDEN_BY_DOCKER.items():
        def forbid(refusal=refusal):
            seccomp.forbid([refusal])
        run = harness.run([lab.tools.farswap, "run", "--ram", "40M", "--swap", lab.file_url(), "--", "true"], lab.output(),
                          limit_s=60, preexec=forbid)
        lab.expect_refusal(run, REFUSED, "ptrace", name, "seccomp=PROFILE")
        checked = harness.run([lab.tools.farswap, "check"], lab.output(), limit_s=60, preexec=forbid)
        said = checked.output.read_text()
        lab.expect(checked.status == 1 and f"no    ptrace         {name} on our own children is refused" in said,
                   f"check ends with {checked.status}: {said}")


@case
def user_namespace_with_the_helper(lab):
    """As a rootless container has it: root in there is nobody outside, system calls are filtered, and the helper's socket is a
    path."""
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--mount", "--net"]
    if subprocess.run([*user.prefix, *container, "true"], capture_output=True).returncode != 0:
        raise Skip("no user namespaces here")
    run = user.job(user.workload("fork_tree"), *FORK_TREE, around=container, preexec=forbid_as_container_engines_do)
    expect_paged(lab, run)
    lab.expect(helper.handed_out(), "the helper was not asked")
    checked = user.farswap("check", around=container)
    lab.expect("its fork event by farswapd" in checked.output.read_text(), checked.output.read_text())
    helper.kill()
    lab.expect_refusal(user.job("true", around=container), REFUSED, "userfaultfd", "farswapd")


# Docker's and Podman's defaults.
CONTAINER = ("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "sys_chroot",
             "setfcap")


@case
def root_as_in_a_container(lab):
    """Root with the capabilities that an engine leaves and the helper, with no_new_privs and without: programs that could change
    their identity, and a pager that could not reach a process of another. Then a root that lacks CAP_SYS_PTRACE alone."""
    helper = Helper(lab)
    environment = dict(os.environ, FARSWAPD_SOCKET=str(helper.path))
    few = "-all," + ",".join(f"+{name}" for name in CONTAINER)
    for prefix in (["--bounding-set", few], ["--bounding-set", few, "--no-new-privs"], ["--bounding-set", "-sys_ptrace"]):
        run = harness.run(["setpriv", *prefix, "--inh-caps", "-all", *map(str, (
            lab.tools.farswap, "run", "--ram", "40M", "--swap", lab.file_url(), "--", lab.tools.workloads / "fork_tree", *FORK_TREE))],
            lab.output(), limit_s=120, environment=environment)
        expect_paged(lab, run)
        lab.expect("stays in RAM" not in run.error, f"{prefix}: a process was not managed: {run.error}")
    lab.expect("the fork event" in helper.log.read_text(), f"farswapd was not asked: {helper.log.read_text()}")


def little_locked_memory(lab, output):
    return [*lab.unprivileged("ipc_lock"), "prlimit", "--memlock=8388608", lab.tools.farswap, "run", "--ram", "96M",
            "--swap", lab.file_url(), "--", *verify(lab, "--operations", "1500")]


@case
def little_locked_memory_serves(lab):
    """8 MiB of locked memory, as users have it, and four jobs at once: they work, and the summary says what was short."""
    if subprocess.run([*lab.unprivileged("ipc_lock"), "true"], capture_output=True).returncode != 0:
        raise Skip("setpriv cannot drop a capability here")
    results = [None] * 4

    def work(index):
        output = lab.directory / f"four{index}"
        results[index] = harness.run(little_locked_memory(lab, output), output, limit_s=180)
    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in results:
        lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
        lab.expect("locked" in run.error, "the summary does not speak of locked memory")
        lab.expect_nothing_left(run)


@case
def ordinary_user_whose_forks_wipe(lab):
    """No gate tells what madvise(2) says of forks: the parent is asked, or the child when that has ended."""
    prefix, program = lab.granted()
    for directory in (lab.directory, lab.directory.parent, lab.store):
        directory.chmod(0o777)
    for name, rounds in (("wipeonfork", 1), ("wipe_and_end", 8)):
        workload = lab.for_everybody(lab.tools.workloads / name)
        run = harness.run([*prefix, program, "run", "--ram", "48M", "--swap", lab.file_url(), "--", workload, "--filler", "64M",
                           "--rounds", str(rounds), "--dir", "/var/tmp"], lab.output(), limit_s=120, cwd="/")
        expect_paged(lab, run)


@case
def ordinary_user(lab):
    """What `farswap check` asks an administrator for is enough: four jobs of one user at once, none of which may lock all
    of the pool that it would have, as the summary says."""
    prefix, program = lab.granted()
    workload = lab.for_everybody(lab.tools.workloads / "verify")
    for directory in (lab.directory, lab.directory.parent, lab.store):
        directory.chmod(0o777)
    checked = harness.run([*prefix, program, "check"], lab.output(), limit_s=60, cwd="/")
    lab.expect(checked.status == 0, f"check ends with {checked.status}: {checked.output.read_text()}")
    runs = [None] * 4

    def work(index):
        runs[index] = harness.run(
            [*prefix, program, "run", "--ram", "160M", "--swap", lab.file_url(), "--", workload, "--size", "256M",
             "--operations", "800"], lab.directory / f"four{index}", limit_s=180, cwd="/")
    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
        lab.expect("pages    out" in run.error, f"no page left RAM: {run.last_error()}")
        lab.expect("instead of 10 MiB" in run.error, f"the summary does not speak of locked memory: {run.error}")
        lab.expect_nothing_left(run)


INTRUDER = pathlib.Path(__file__).with_name("intruder.py")
REFUSALS = ("EPERM", "EACCES")


def expect_all_refused(lab, run, but=()):
    """Of the intruder's lines: nothing was had of pager and keeper, and all ways lead to a child of its own."""
    lines = [line.split() for line in run.output.read_text().splitlines()]
    lab.expect(run.status == 0, f"exit status {run.status}: {run.error}")
    for who in ("pager", "keeper", "child"):
        answers = {line[1]: line[2] for line in lines if line[0] == who and line[1] not in but}
        right = ("had",) if who == "child" else REFUSALS
        lab.expect(len(answers) + len(but) == 14, f"{who}: {len(answers)} ways were tried: {run.error}")
        lab.expect(all(answer in right for answer in answers.values()), f"{who}: {answers}")


@case
def ordinary_users_pager_is_out_of_reach(lab):
    """The program, and whoever else the user runs, can neither trace pager or keeper nor read their memory nor have their
    descriptors: without any capability, with what `farswap check` asks an administrator for, and as a container's root, who can
    list the numbers of descriptors."""
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    intruder = lab.for_everybody(INTRUDER)
    expect_all_refused(lab, user.job(harness.PYTHON, intruder, "parent"))
    prefix, program = lab.granted()
    run = harness.run([*prefix, program, "run", "--ram", "64M", "--swap", lab.file_url(), "--", harness.PYTHON, intruder, "parent"],
                      lab.output(), limit_s=60, cwd="/")
    expect_all_refused(lab, run)
    few = "-all," + ",".join(f"+{name}" for name in CONTAINER)
    run = harness.run(["setpriv", "--bounding-set", few, "--inh-caps", "-all", *map(str, (
        lab.tools.farswap, "run", "--ram", "64M", "--swap", lab.file_url(), "--", harness.PYTHON, intruder, "parent"))],
        lab.output(), limit_s=60, environment=dict(os.environ, FARSWAPD_SOCKET=str(helper.path)))
    expect_all_refused(lab, run, but=("fd",))


@case
def roots_pager_is_out_of_reach_of_who_is_not_root(lab):
    """A program that has dropped its privileges reaches nothing of the pager that root has started for it."""
    intruder = lab.for_everybody(INTRUDER)
    lab.directory.chmod(0o755)
    expect_all_refused(lab, lab.job(lab.file_url(), *lab.unprivileged(), harness.PYTHON, intruder, "parent"))


@case
def ordinary_users_heirs_are_out_of_reach(lab):
    """A pager that its program kills again and again goes on each time, and at no moment of that is it, or its keeper, within
    anybody's reach."""
    times = 25
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    run = user.job(harness.PYTHON, lab.for_everybody(INTRUDER), "kill", times, ram="200M")
    lines = run.output.read_text().splitlines()
    lab.expect(f"killed {times}" in lines, f"the pager did not go on: {lines[-3:]}: {run.error}")
    heirs = {line for line in lines if line.startswith("heir ")}
    lab.expect(heirs and all(line.split()[2] in REFUSALS for line in heirs), f"an heir: {sorted(heirs)}")
    hammered = [line.split()[1:] for line in lines if line.startswith("hammered ")]
    lab.expect(len(hammered) == 2 and all(int(words[0]) > 20 * times for words in hammered), f"tried too little: {hammered}")
    lab.expect(all(len(words) == 1 for words in hammered), f"was open for a moment: {hammered}")


@case
def ordinary_users_pagers_are_killed(lab):
    """As root's, they go on in other processes, with a helper's right and with a capability; stopped ones, too."""
    helper = Helper(lab, "--allow-uid", str(NOBODY))
    user = User(lab, helper.path)
    for who in (lambda: (user.prefix, user.program), lab.granted):   # one copy of the program, which gets its capability last
        prefix, program = who()
        job = killed.checking_job(lab, command=[*prefix, program], env={"FARSWAPD_SOCKET": str(helper.path)})
        job.wait_until_paged(60)
        killed.kill_again_and_again(job, 10)
        for _ in range(5):
            os.kill(job.pager, signal.SIGSTOP)
            wait_until(lambda: killed.state_of(job.pager) == "t", 10)
            os.kill(job.pager, signal.SIGCONT)
            wait_until(lambda: killed.state_of(job.pager) != "t", 10)
            os.kill(job.pager, signal.SIGSTOP)
            job.kill_pager()
        job.expect_success()
        killed.expect_deaths(lab, job, 15)


def ends_with_core(lab, argv, pid_of=lambda process: process.pid):
    """Whether one that is ended by SIGSEGV leaves a core file."""
    process = subprocess.Popen([str(word) for word in argv], cwd=lab.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 26, 1 << 26)))
    process.stdout.readline()   # it runs
    os.kill(pid_of(process), signal.SIGSEGV)
    process.stdin.close()
    return os.WCOREDUMP(os.waitpid(process.pid, 0)[1])


@case
def pager_leaves_no_core(lab):
    """A pager that crashes, which has a key and pages, leaves no core file: root's neither."""
    lab.directory.chmod(0o777)
    says_that_it_runs = ["sh", "-c", "echo runs; exec cat"]
    if not ends_with_core(lab, says_that_it_runs):
        raise Skip("no core files are written here")
    job = [lab.tools.farswap, "run", "-q", "--ram", "64M", "--swap", lab.file_url(), "--", *says_that_it_runs]
    for flags in ((), ("--keeper", "off")):
        lab.expect(not ends_with_core(lab, [*job[:2], *flags, *job[2:]]), f"{flags}: root's pager left a core")
    prefix, program = lab.granted()
    lab.store.chmod(0o777)
    lab.expect(not ends_with_core(lab, [*prefix, program, *job[1:]]), "an ordinary user's pager left a core")
