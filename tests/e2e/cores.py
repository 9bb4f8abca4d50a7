"""Cases of bad_input.py in which a paged program is looked at from outside: core files, the kernel's own and farswap's, and
a debugger show what the program has, wherever it lies, and change nothing.
"""
import contextlib
import fcntl
import os
import pathlib
import select
import signal
import stat
import struct
import subprocess
import termios
import time

from attaching import LIMIT_S, Attached, Program, status_of, wait_until
from fault_lab import REFUSED, USAGE, Skip, case
from nbd import Nbdkit, image

HERE = pathlib.Path(__file__).resolve().parent
RAM, PAGED_MIB = "40M", 40
FRAMES = 21
PATTERN, PIPE_LIMIT = pathlib.Path("/proc/sys/kernel/core_pattern"), pathlib.Path("/proc/sys/kernel/core_pipe_limit")


def list_program(lab, mode="wait"):
    return lab.tools.workloads / "far_list", mode


def waiting_list(lab, **options):
    """far_list in its place deep down, most of it outside; and its pager."""
    program = Program(lab, *list_program(lab))
    program.wait_for("ready")
    attached = Attached(lab, program.pid, ram=RAM, **options)
    attached.wait_until_paged(program.pid, PAGED_MIB)
    return program, attached


def expect_whole(lab, text):
    lab.expect(f"list is whole frames {FRAMES}" in text, f"gdb says: {text[-400:]}")


def gdb(lab, *arguments, prefix=()):
    output = lab.output()
    command = [*map(str, prefix), "gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", *map(str, arguments), "-x",
               str(HERE / "list_in_core.py")]
    with open(output, "wb") as out:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=LIMIT_S, check=False)
    return f"status {status.returncode}: {output.read_text(errors='replace')}"


def elsewhere(lab):
    """Where nothing can be left: the store is in use."""
    return lab.directory / "nothing"


def end_well(lab, program, attached):
    os.kill(program.pid, signal.SIGUSR1)
    program.expect_success()  # it has checked its list
    attached.expect_end()


@case
def core_of_a_paged_program(lab):
    program, attached = waiting_list(lab)
    core = lab.directory / "core"
    before = status_of(program.pid, "RssAnon")
    run = lab.farswap("core", "-o", core, program.pid)
    lab.expect(run.status == 0 and not run.error, f"status {run.status}: {run.error}")
    after = status_of(program.pid, "RssAnon")
    lab.expect(after <= before + 1024, f"RAM went from {before} to {after} KiB for it")
    lab.expect(stat.S_IMODE(core.stat().st_mode) == 0o600, "others can read the core file")
    expect_whole(lab, gdb(lab, list_program(lab)[0], core))
    again = lab.farswap("core", "-o", core, program.pid)
    lab.expect_refusal(again, REFUSED, "exists", "-o", left_in=(elsewhere(lab),))
    end_well(lab, program, attached)


@case
def core_while_pages_come_and_go(lab):
    """Chaos moves pages all the time, so that some are on their way when the process is stopped."""
    program, attached = waiting_list(lab, flags=("--chaos", "20000", "--pool", "4M"))
    for i in range(2):
        core = lab.directory / f"core{i}"
        run = lab.farswap("core", "-o", core, program.pid)
        lab.expect(run.status == 0, f"status {run.status}: {run.error}")
        expect_whole(lab, gdb(lab, list_program(lab)[0], core))
        core.unlink()
    os.kill(program.pid, signal.SIGUSR1)
    program.expect_success()
    lab.expect(attached.process.wait(LIMIT_S) == 0, attached.text()[-300:])


@case
def core_through_a_pipe(lab):
    program, attached = waiting_list(lab)
    core = lab.directory / "core"
    with open(core, "wb") as out:
        piped = subprocess.Popen([str(lab.tools.farswap), "core", "-o", "-", str(program.pid)], stdout=subprocess.PIPE)
        subprocess.run(["cat"], stdin=piped.stdout, stdout=out, check=True, timeout=LIMIT_S)
        lab.expect(piped.wait(LIMIT_S) == 0, "farswap core failed")
    expect_whole(lab, gdb(lab, list_program(lab)[0], core))
    end_well(lab, program, attached)


def waiting_bytes(pipe):
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


@case
def core_can_be_interrupted(lab):
    """In the middle of it: nobody reads the pipe. What was stopped goes on."""
    program, attached = waiting_list(lab)
    read_end, write_end = os.pipe()
    writer = subprocess.Popen([str(lab.tools.farswap), "core", "-o", "-", str(program.pid)], stdout=write_end)
    os.close(write_end)
    lab.cleanup.callback(os.close, read_end)
    capacity = fcntl.fcntl(read_end, fcntl.F_GETPIPE_SZ)
    wait_until(lambda: waiting_bytes(read_end) > capacity - select.PIPE_BUF, "the pipe is full")
    lab.expect(status_of(program.pid, "TracerPid") == writer.pid, "the program is not stopped")
    writer.send_signal(signal.SIGINT)
    lab.expect(writer.wait(LIMIT_S) == -signal.SIGINT, f"status {writer.returncode}")
    lab.expect(status_of(program.pid, "TracerPid") == 0, "the program is still stopped")
    end_well(lab, program, attached)


def waits_for_its_pager(process):
    """Whether it is in poll(2) or recvfrom(2) at each of several looks."""
    looks = []
    for _ in range(5):
        looks.append(pathlib.Path(f"/proc/{process}/syscall").read_text().split()[0])
        time.sleep(0.02)
    return set(looks) <= {"7", "45"}


@case
def core_can_be_ended_while_the_store_is_away(lab):
    server = Nbdkit(lab, "file", image(lab))
    program, attached = waiting_list(lab, url=server.url)
    core = lab.directory / "core"
    server.process.send_signal(signal.SIGSTOP)
    lab.cleanup.callback(server.process.send_signal, signal.SIGCONT)
    writer = subprocess.Popen([str(lab.tools.farswap), "core", "-o", str(core), str(program.pid)], stderr=subprocess.PIPE)
    wait_until(lambda: status_of(program.pid, "TracerPid") == writer.pid and waits_for_its_pager(writer.pid), "it waits")
    writer.send_signal(signal.SIGTERM)
    lab.expect(writer.wait(LIMIT_S) == -signal.SIGTERM, f"status {writer.returncode}")
    lab.expect(status_of(program.pid, "TracerPid") == 0, "the program is still stopped")
    lab.expect(not core.exists(), "half a core file is left")
    server.process.send_signal(signal.SIGCONT)
    end_well(lab, program, attached)


@case
def core_of_a_program_that_is_killed(lab):
    """While it is written: what is gone must not pass for zeros."""
    program, attached = waiting_list(lab)
    read_end, write_end = os.pipe()
    writer = subprocess.Popen([str(lab.tools.farswap), "core", "-o", "-", str(program.pid)], stdout=write_end,
                              stderr=subprocess.PIPE)
    os.close(write_end)
    wait_until(lambda: waiting_bytes(read_end) > fcntl.fcntl(read_end, fcntl.F_GETPIPE_SZ) - select.PIPE_BUF, "the pipe is full")
    os.kill(program.pid, signal.SIGKILL)
    with open(read_end, "rb") as reader:
        while reader.read(1 << 20):
            pass
    error = writer.communicate(timeout=LIMIT_S)[1]
    lab.expect(writer.returncode == REFUSED and error.count(b"\n") == 1, f"status {writer.returncode}: {error!r}")
    program.process.wait(LIMIT_S)
    attached.expect_end()


@case
def debugger_sees_all(lab):
    program, attached = waiting_list(lab)
    before = status_of(program.pid, "RssAnon")
    expect_whole(lab, gdb(lab, "-p", program.pid, prefix=(lab.tools.farswap, "debug")))
    after = status_of(program.pid, "RssAnon")
    lab.expect(after <= before + 1024, f"RAM went from {before} to {after} KiB for it")
    # Without it: no answer, but never a wrong one.
    text = gdb(lab, "-p", program.pid)
    lab.expect("Cannot access memory" in text and "is wrong" not in text, f"gdb alone says: {text[-300:]}")
    end_well(lab, program, attached)


@contextlib.contextmanager
def kernel_cores(lab):
    """The kernel gives its core files to `farswap core --merge`, in the lab's directory."""
    before = PATTERN.read_text(), PIPE_LIMIT.read_text()
    try:
        PIPE_LIMIT.write_text("4")
        PATTERN.write_text(f"|{lab.tools.farswap} core --merge -o {lab.directory}/core.%P %P")
    except OSError as error:
        raise Skip(f"kernel.core_pattern cannot be set here: {error}") from error
    try:
        yield
    finally:
        PATTERN.write_text(before[0])
        PIPE_LIMIT.write_text(before[1])


def the_core(lab):
    found = list(lab.directory.glob("core.*"))
    lab.expect(len(found) == 1, f"core files: {found}")
    return found[0]


def lift_core_limit():
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@case
def kernel_core_is_completed(lab):
    with kernel_cores(lab):
        # The shell lives on, so the job does while its child is dumped.
        run = lab.job(lab.file_url(), "sh", "-c", f"{list_program(lab)[0]} abort; echo status $?", ram=RAM,
                      preexec=lift_core_limit)
    lab.expect("status 134" in run.output.read_text(errors="replace"), f"the shell says {run.output.read_text()[-200:]}")
    core = the_core(lab)
    expect_whole(lab, gdb(lab, list_program(lab)[0], core))


@case
def kernel_core_of_others_is_kept(lab):
    """Those that nobody pages crash on the same machine."""
    with kernel_cores(lab):
        program = Program(lab, *list_program(lab, "abort"), preexec_fn=lift_core_limit)
        lab.expect(program.process.wait(LIMIT_S) == -signal.SIGABRT, "it aborts")
    core = the_core(lab)
    expect_whole(lab, gdb(lab, list_program(lab)[0], core))


@case
def core_refusals(lab):
    sleeper = Program(lab, "sleep", "1000")
    lab.expect_refusal(lab.farswap("core", sleeper.pid), REFUSED, "not managed", "gcore")
    lab.expect_refusal(lab.farswap("core", 4_000_000), REFUSED, "no process")
    lab.expect_refusal(lab.farswap("core"), USAGE, "PID")
    lab.expect_refusal(lab.farswap("core", "--merge", sleeper.pid), USAGE, "-o")
    lab.expect_refusal(lab.farswap("debug"), USAGE, "PROGRAM")
    lab.expect_refusal(lab.farswap("debug", "no-such-debugger"), 127, "no-such-debugger")
    program, attached = waiting_list(lab)
    lab.expect_refusal(lab.farswap("core", "-o", lab.directory / "missing" / "core", program.pid), REFUSED, "cannot create",
                       left_in=(elsewhere(lab),))
    tracer = subprocess.Popen(["strace", "-o", "/dev/null", "-p", str(program.pid)], stderr=subprocess.DEVNULL)
    wait_until(lambda: status_of(program.pid, "TracerPid") == tracer.pid, "it is traced")
    lab.expect_refusal(lab.farswap("core", "-o", lab.directory / "core", program.pid), REFUSED, "traced by process",
                       str(tracer.pid), left_in=(elsewhere(lab),))
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    lab.expect(not (lab.directory / "core").exists(), "a core file was left")
    end_well(lab, program, attached)


@case
def merged_core_that_is_none(lab):
    """Whatever comes in goes out, and the complaint is one line."""
    for content in (b"", b"no core file at all", b"\x7fELF" + bytes(40), os.urandom(100_000)):
        out = lab.directory / "merged"
        given = lab.directory / "given"
        given.write_bytes(content)
        with open(given, "rb") as stdin:
            done = subprocess.run([str(lab.tools.farswap), "core", "--merge", "-o", str(out), str(os.getpid())], stdin=stdin,
                                  capture_output=True, timeout=LIMIT_S, check=False)
        lab.expect(done.returncode == REFUSED and done.stderr.count(b"\n") == 1, f"{done.returncode}: {done.stderr!r}")
        lab.expect(out.read_bytes() == content, "it was changed")
        out.unlink()
