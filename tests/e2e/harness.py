"""Runs one program plainly or under farswap, with the RAM sampler beside it, a time limit, and a look at what it left
behind. Knows nothing of which programs there are, nor of how a suite judges them.
"""
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time
import uuid

MIB = 1 << 20
PYTHON = "/usr/bin/python3"  # Debian's, the one that has numpy
MARKER = "FARSWAP_E2E_RUN"   # in the environment of everything that a run starts
GANESHA = pathlib.Path(__file__).resolve().parents[2] / "script" / "lib" / "ganesha.sh"
LEFT_WAIT_S = 3.0            # for what ends by itself once the pager is gone
ENDING = []                  # not empty: end_all() was called
RUNNING = {}                 # the session of each run that is going on, by its mark

# Shells without job control start what they put into the background with these ignored, and what is ignored stays so
# over exec; cases that send them would wait for ever.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@dataclasses.dataclass
class Tools:
    """Where the built programs are."""
    farswap: pathlib.Path
    sampler: pathlib.Path
    workloads: pathlib.Path

    @staticmethod
    def of_build(build):
        build = pathlib.Path(build).resolve()
        return Tools(build / "farswap", build / "ram_sampler", build / "workloads")

    def missing(self):
        return [str(path) for path in (self.farswap, self.sampler, self.workloads) if not path.exists()]


@dataclasses.dataclass
class Run:
    """How a program ended. `status` as a shell reports it: 128 + N for signal N."""
    status: int
    seconds: float
    output: pathlib.Path
    error: str
    timed_out: bool
    sampler: dict
    left: list
    diagnosis: str = ""

    def digest(self):
        return sha256(self.output)

    def last_error(self):
        lines = [line for line in self.error.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def state_of(pid):
    """State letter, parent and session of a process (proc(5), stat)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])


def marked_processes(mark):
    """Living processes of a run, whoever their parent is: those that carry its mark in their environment. Some overwrite
    that to show a title: those of the run's session, and whoever descends from one of the run, are its own too.
    """
    needle = f"{MARKER}={mark}".encode()
    found, parents = set(), {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            state, parents[pid], session = state_of(pid)
            if state not in "ZX" and (session == RUNNING.get(mark) or needle in (entry / "environ").read_bytes().split(b"\0")):
                found.add(pid)
            elif state in "ZX":
                del parents[pid]
        except OSError:
            parents.pop(pid, None)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return sorted(found)


def describe_process(pid):
    """Where each thread of a process waits: the first thing one wants to know about a hang."""
    def text(path):
        try:
            return pathlib.Path(path).read_text().strip()
        except OSError:
            return "?"
    lines = [f"{pid} {text(f'/proc/{pid}/comm')}: {text(f'/proc/{pid}/cmdline').replace(chr(0), ' ')[:120]}"]
    for task in sorted(pathlib.Path(f"/proc/{pid}/task").glob("*"))[:40]:
        state = text(task / "stat").rpartition(")")[2].split()[:1]
        stack = " < ".join(line.split()[-1].split("+")[0] for line in text(task / "stack").splitlines()[:4] if line)
        lines.append(f"  {task.name} {''.join(state)} {text(task / 'wchan')} {stack}")
    return "\n".join(lines)


def kill_marked(mark):
    """Ends what a run left, by process id. Returns what it was."""
    left = marked_processes(mark)
    names = []
    for pid in left:
        names.append(describe_process(pid).splitlines()[0])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return names


def end_all():
    """Ends every run that other threads have going: each returns as if its program had been killed."""
    ENDING.append(True)
    for mark in list(RUNNING):
        kill_marked(mark)


def keep_nice(pid):
    """A session has a scheduling group of its own, which begins at nice 0 whatever its processes' are (sched(7), autogroup)."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice > 0:
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def wait_for_end_of(mark):
    """What is still there LEFT_WAIT_S after the end; a job's process may need a moment to be reaped."""
    deadline = time.monotonic() + LEFT_WAIT_S
    while marked_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    return kill_marked(mark)


def run(argv, output, *, environment=None, stdin=None, limit_s=300, sampler=None, cwd=None, preexec=None):
    """Runs `argv` to its end, its standard output in the file `output`. `sampler`: the sampler's command line before the
    process id, or None. On the time limit everything that the run started is described and killed.
    """
    mark = uuid.uuid4().hex
    environment = dict(os.environ if environment is None else environment, **{MARKER: mark})
    error_path = pathlib.Path(f"{output}.err")
    sample_path = pathlib.Path(f"{output}.ram")
    sample_path.unlink(missing_ok=True)
    started = time.monotonic()
    timed_out, diagnosis, watcher = False, "", None
    try:
        with open(output, "wb") as out, open(error_path, "wb") as err:
            process = subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd,
                                       env=environment, start_new_session=True, preexec_fn=preexec)
        RUNNING[mark] = process.pid
        keep_nice(process.pid)
        if sampler:
            watcher = subprocess.Popen([*sampler, str(process.pid), "--json", str(sample_path)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            diagnosis = "\n".join(describe_process(pid) for pid in marked_processes(mark))
            kill_marked(mark)
            process.wait()
    except BaseException:  # the suite is being ended: take the program along, also one that is just starting
        time.sleep(0.2)
        kill_marked(mark)
        RUNNING.pop(mark, None)
        raise
    seconds = time.monotonic() - started
    if watcher:
        watcher.wait(10)
    left = [] if timed_out else wait_for_end_of(mark)
    RUNNING.pop(mark, None)
    samples = json.loads(sample_path.read_text()) if sample_path.exists() else {}
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    error = error_path.read_text(errors="replace")
    return Run(status, seconds, pathlib.Path(output), error, timed_out, samples, left, diagnosis)


def run_plain(tools, argv, output, **options):
    """Without farswap; `sampler["peak"]` of the result is what the program needs."""
    return run(argv, output, sampler=[tools.sampler, "--interval-ms", "10", "--plain"], **options)


def run_far(tools, argv, output, *, cap, urls, stats=None, flags=("--quiet",), **options):
    command = [tools.farswap, "run", "--ram", str(cap), *flags]
    for url in urls:
        command += ["--swap", url]
    if stats:
        pathlib.Path(stats).unlink(missing_ok=True)
        command += ["--stats", str(stats)]
    return run([*command, "--", *argv], output,
               sampler=[tools.sampler, "--cap", str(cap), "--interval-ms", "5", "--pager"], **options)


class NfsServer:
    """A private nfs-ganesha for the time of a suite; `exports` as ganesha.sh takes them."""

    def __init__(self, directory, exports=()):
        self.directory = pathlib.Path(directory)
        self.exports = list(exports) or [str(self.directory / "export")]
        arguments = [word for spec in self.exports for word in ("--export", spec)]
        started = subprocess.run([GANESHA, "start", self.directory, *arguments], capture_output=True, text=True)
        if started.returncode != 0:
            raise RuntimeError(started.stderr.strip())
        self.url = started.stdout.strip()

    def url_of(self, path):
        """The URL of another path on the same server."""
        host, _, query = self.url.partition("?")
        return f"nfs://127.0.0.1{path}?{query}"

    def store_directory(self):
        return pathlib.Path(self.exports[0].split(",")[0])

    def stop(self):
        subprocess.run([GANESHA, "stop", self.directory], check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def listing(directory):
    """Names in a store's directory: the same before and after, or something was left behind."""
    return sorted(str(path.relative_to(directory)) for path in pathlib.Path(directory).rglob("*"))


def read_stats(path):
    try:
        return json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError):
        return {}
