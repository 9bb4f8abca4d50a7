"""Cases of bad_input.py in which farswap must refuse before the program runs, or in which the program cannot run."""
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import threading

import harness
from faults import Background, wait_until
from fault_lab import NOT_EXECUTABLE, NOT_FOUND, REFUSED, USAGE, Skip, case


@case
def usage(lab):
    lab.expect_refusal(lab.farswap(), USAGE)
    lab.expect_refusal(lab.farswap("swim"), USAGE, "swim")
    lab.expect_refusal(lab.farswap("run"), USAGE, "program")
    lab.expect_refusal(lab.farswap("run", "--frobnicate", "--", "true"), USAGE, "frobnicate")
    lab.expect_refusal(lab.farswap("run", "--ram"), USAGE, "ram")
    lab.expect_refusal(lab.farswap("run", "--ram", "64M", "--"), USAGE, "program")


@case
def size_that_is_no_size(lab):
    for size in ("banana", "", "0", "-5M", "12Q", "0%", "101%", "1e99G", "99999999999999T", "64 M", "%"):
        lab.expect_refusal(lab.farswap("run", f"--ram={size}", "--swap", lab.file_url(), "--", "true"), USAGE, "ram")
    for size in ("banana", "0", "-1", "9999999999T"):
        lab.expect_refusal(lab.job(lab.file_url(f"?size={size}"), "true"), USAGE, "size")


@case
def url_that_is_no_url(lab):
    for url in ("banana", "ftp://127.0.0.1/x", "nfs://", "nfs://127.0.0.1", "file:", "", f"{lab.file_url()}?colour=red"):
        lab.expect_refusal(lab.job(url, "true"), USAGE)


@case
def cap_too_small(lab):
    lab.expect_refusal(lab.job(lab.file_url(), "true", ram="4096"), USAGE, "ram", "least")
    lab.expect_refusal(lab.job(lab.file_url(), "true", ram="1M"), USAGE, "ram", "least")


@case
def stats_file_not_writable(lab):
    lab.expect_refusal(lab.job(lab.file_url(), "true", flags=["--stats", lab.directory / "no" / "s"]), REFUSED, "stats")


@case
def program_not_found(lab):
    lab.expect_refusal(lab.job(lab.file_url(), "no-such-program-anywhere"), NOT_FOUND, "no-such-program-anywhere")
    lab.expect_refusal(lab.job(lab.file_url(), "./no/such/path"), NOT_FOUND, "no/such/path")
    script = lab.directory / "orphan-script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    lab.expect_refusal(lab.job(lab.file_url(), script), (NOT_FOUND, NOT_EXECUTABLE), "orphan-script")


@case
def program_not_executable(lab):
    plain = lab.directory / "plain-file"
    plain.write_text("not a program\n")
    lab.expect_refusal(lab.job(lab.file_url(), plain), NOT_EXECUTABLE, "plain-file")
    lab.expect_refusal(lab.job(lab.file_url(), lab.directory), NOT_EXECUTABLE, lab.directory.name)
    broken = lab.directory / "broken-elf"
    broken.write_bytes(b"\x7fELF" + b"\0" * 60)
    broken.chmod(0o755)
    # execvp(3) gives what is no program to the shell, whose own status this is; it must end, and leave nothing.
    run = lab.job(lab.file_url(), broken)
    lab.expect(not run.timed_out and run.status in (NOT_EXECUTABLE, NOT_FOUND), f"exit status {run.status}")
    lab.expect_nothing_left(run)


@case
def unreachable_server(lab):
    lab.expect_refusal(lab.job("nfs://127.0.0.1/export?version=3&nfsport=1&mountport=1", "true"), REFUSED, "127.0.0.1")
    lab.expect_refusal(lab.job("nfs://no-such-host.invalid/export", "true"), REFUSED, "no-such-host.invalid")


@case
def silent_server(lab):
    """It takes connections and never answers: a deadline ends it, not the operator's patience."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        port = server.getsockname()[1]
        url = f"nfs://127.0.0.1/export?version=3&nfsport={port}&mountport={port}"
        lab.expect_refusal(lab.job(url, "true", limit_s=90), REFUSED, "127.0.0.1", "answer|time")


@case
def no_nfs_behind_the_port(lab):
    """It answers, but not as an NFS server does."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        port = server.getsockname()[1]

        def talk():
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(64)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        threading.Thread(target=talk, daemon=True).start()
        url = f"nfs://127.0.0.1/export?version=3&nfsport={port}&mountport={port}"
        lab.expect_refusal(lab.job(url, "true", limit_s=90), REFUSED, "127.0.0.1")
        server.shutdown(socket.SHUT_RDWR)


@case
def wrong_export(lab):
    server = lab.server()
    export = server.store_directory()
    lab.expect_refusal(lab.job(server.url_of("/no/such/export"), "true"), REFUSED, "export", left_in=[export])
    lab.expect_refusal(lab.job(server.url_of(f"{export}/no/such/dir/file"), "true"), REFUSED, left_in=[export])


@case
def no_permission_on_the_server(lab):
    server = lab.server(f"{lab.directory}/nfs/squashed,squash")
    export = server.store_directory()
    export.chmod(0o700)
    lab.expect_refusal(lab.job(server.url, "true"), REFUSED, "permission|denied|access", left_in=[export])


@case
def as_whom_the_server_is_asked(lab):
    """AUTH_SYS: a directory that only one user, or one group, of the server's may write to, on an export that takes root for
    nobody. The job's program looks at the file that it is kept in.
    """
    server = lab.server(f"{lab.directory}/nfs/owned,squash")

    def ask(directory, version, query):
        url = server.url_of(directory).replace("version=3", f"version={version}")
        return lab.job(url + query, "sh", "-c", f"stat -c '%u %g' {directory}/*", flags=["--quiet"])
    for owner, mode, asked, refused in (((1234, 2345), 0o700, (1234, 2345), (1235, 2345)),
                                        ((0, 2345), 0o770, (4321, 2345), (4321, 2346))):
        export = server.store_directory() / f"{mode:o}"  # of its own: the server remembers for a while who may do what
        export.mkdir()
        os.chown(export, *owner)
        export.chmod(mode)
        for version in (3, 4):
            run = ask(export, version, "&uid={}&gid={}".format(*asked))
            lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
            made_by = run.output.read_text().split()
            lab.expect(made_by == list(map(str, asked)), f"the file is of {made_by}, not of {asked}")
            lab.expect_nothing_left(run, export)
            says = "no permission to write in .*: uid {} gid {} may not"
            for who, query in ((refused, "&uid={}&gid={}".format(*refused)), ((0, 0), "")):
                lab.expect_refusal(ask(export, version, query), REFUSED, says.format(*who), left_in=[export])


@case
def with_which_groups_the_server_is_asked(lab):
    """Those of farswap's user, unless the URL says who asks."""
    server = lab.server()
    export, program = server.store_directory(), lab.for_everybody(lab.tools.farswap)
    os.chown(export, 0, 2345)
    export.chmod(0o770)

    def ask(groups, version, query=""):
        prefix = ["setpriv", "--reuid", "4321", "--regid", "4322", *groups, "--inh-caps", "-all"]
        return harness.run([*prefix, program, "bench", "--size", "1M", "--seconds", "0.01",
                            server.url.replace("version=3", f"version={version}") + query], lab.output(), limit_s=60, cwd="/")
    many = ["--groups", ",".join(map(str, [*range(5001, 5016), 2345]))]  # sixteen, as many as a call may name
    for version in (3, 4):
        run = ask(many, version)
        lab.expect(run.status == 0 and run.error == "", f"exit status {run.status}: {run.last_error()}")
        lab.expect_nothing_left(run, export)
        says = "no permission to write in .*: uid 4321 gid 4322 may not"
        for groups, query in ((["--clear-groups"], ""), (many, "&uid=4321&gid=4322")):
            lab.expect_refusal(ask(groups, version, query), 1, says, left_in=[export])


@case
def read_only_export(lab):
    server = lab.server(f"{lab.directory}/nfs/fixed,ro")
    lab.expect_refusal(lab.job(server.url, "true"), REFUSED, "read-only", left_in=[server.store_directory()])


@case
def read_only_directory(lab):
    point = lab.small_filesystem(16)
    subprocess.run(["mount", "-o", "remount,ro", point], check=True)
    lab.expect_refusal(lab.job(f"file:{point}", "true"), REFUSED, "read-only", left_in=[point])


@case
def missing_directory(lab):
    lab.expect_refusal(lab.job(f"file:{lab.directory}/no/such/place", "true"), REFUSED, "no/such")


@case
def store_in_memory(lab):
    lab.expect_refusal(lab.job("file:/dev/shm", "true"), REFUSED, "tmpfs|memory|RAM")


@case
def no_store_and_another_one(lab):
    run = lab.job("none", "true", flags=["--swap", lab.file_url()])
    lab.expect_refusal(run, USAGE, "--swap none.*no other --swap")
    lab.expect_refusal(lab.job("none", "true", flags=["--compress", "off"]), USAGE, "nothing would be won")


@case
def what_does_not_compress_needs_a_store(lab):
    """Random bytes in twice the cap: the job is stopped in so many words, and nothing is left."""
    # It is given up after fifteen seconds in which next to nothing moved, which a busy machine takes long to come to.
    run = lab.job("none", harness.PYTHON, "-c", "import os; print(len(os.urandom(150 << 20)))", ram="64M", flags=["--quiet"],
                  limit_s=300)
    lab.expect_refusal(run, REFUSED, "what does not compress")


@case
def store_without_room(lab):
    point = lab.small_filesystem(16)
    filler = point / "filler"
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    lab.expect_refusal(lab.job(f"file:{point}", "true"), REFUSED, "space|full|free", left_in=[])
    names = [path.name for path in point.iterdir()]
    lab.expect(names == ["filler"], f"left in the full store: {names}")


@case
def size_above_the_room(lab):
    point = lab.small_filesystem(32)
    lab.expect_refusal(lab.job(f"file:{point}?size=1G", "true"), REFUSED, "size|space|holds|free", left_in=[point])


@case
def store_of_another(lab):
    """A named file serves one job; a file that is not ours is not touched."""
    foreign = lab.store / "letters"
    foreign.write_bytes(b"dear reader\n" * 1000)
    before = foreign.read_bytes()
    lab.expect_refusal(lab.job(f"file:{foreign}", "true"), REFUSED, "letters", left_in=[lab.directory / "nowhere"])
    lab.expect(foreign.read_bytes() == before, "a foreign file was changed")


@case
def missing_privileges(lab):
    if pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() != "0":
        raise Skip("vm.unprivileged_userfaultfd is on")
    program = lab.for_everybody(lab.tools.farswap)
    run = harness.run([*lab.unprivileged(), program, "run", "--ram", "64M", "--swap", f"file:{program.parent}", "--",
                       "true"], lab.output(), limit_s=60, cwd="/")
    lab.expect_refusal(run, REFUSED, "userfaultfd|privilege|CAP_SYS_PTRACE")


@case
def ports_below_1024_only(lab):
    """An export that is `secure`, as exports(5) has it by default: root comes from such a port by itself. Who may not bind one is
    refused, which shows that the server looks.
    """
    server = lab.server(f"{lab.directory / 'export'},secure")
    for url in (server.url, server.url.replace("version=3", "version=4")):
        run = lab.job(url, "sh", "-c", "exit 7", flags=["--quiet"])
        lab.expect(run.status == 7, f"exit status {run.status} instead of 7: {run.last_error()}")
        run = harness.run([*lab.unprivileged("net_bind_service"), lab.tools.farswap, "run", "--ram", "64M", "--swap", url, "--",
                           "true"], lab.output(), limit_s=60)
        lab.expect_refusal(run, REFUSED, str(server.store_directory()), left_in=[server.store_directory()])


@case
def caller_that_ignores_the_end_of_children(lab):
    """With SIGCHLD ignored the kernel keeps no exit status, and exec passes that on."""
    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(3):
        run = lab.job(lab.file_url(), "sh", "-c", "exit 3", preexec=ignore)
        lab.expect(run.status == 3, f"exit status {run.status}: {run.last_error()}")
    run = lab.job(lab.file_url(), "grep", "SigIgn", "/proc/self/status", preexec=ignore)
    ignored = int(run.output.read_text().split()[1], 16)
    lab.expect(ignored >> (signal.SIGCHLD - 1) & 1, "the program does not find SIGCHLD ignored")


@case
def program_that_ends_at_once(lab):
    """It may be gone before its process can be looked at."""
    for _ in range(40):
        run = lab.job(lab.file_url(), "true")
        if not lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}"):
            return


FORKS = """
import os, time
memory = bytearray(40 << 20)
for at in range(0, len(memory), 4096): memory[at] = 1
children = []
for _ in range(100):
    child = os.fork()
    if child == 0: time.sleep(60)
    children.append(child)
for child in children: os.kill(child, 9)
for child in children: os.waitpid(child, 0)
print(sum(memory[::4096]))
"""


@case
def too_few_descriptors(lab):
    """A soft limit is raised for farswap and not for the program; a hard one ends the job with a reason."""
    program = [harness.PYTHON, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])" + FORKS]

    def limit(soft, hard):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    run = lab.job(lab.file_url(), *program, ram="32M", preexec=limit(200, 4096))
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect(run.output.read_text().split() == ["200", "10240"], f"it printed {run.output.read_text()!r}")
    run = lab.job(lab.file_url(), *program, ram="32M", flags=["--quiet"], preexec=limit(200, 200))
    lab.expect(run.status == REFUSED and "ulimit -Hn" in run.error and run.error.count("\n") == 1,
               f"exit status {run.status}, {run.error!r}")
    lab.expect_nothing_left(run)


# Finds the agent's memory by its code, the one mapping that is executable and of no file but the kernel's own.
MAPS_OVER_THE_AGENT = r"""
import ctypes, re, time
held = bytearray(64 << 20)
for at in range(0, len(held), 4096): held[at] = 1
lines = [re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ (\d+) *(.*)", line).groups() for line in open("/proc/self/maps")]
code = next(i for i, (_, _, access, inode, name) in enumerate(lines) if access == "r-xp" and inode == "0" and not name)
start, end = [(int(a, 16), int(b, 16)) for a, b, access, _, _ in lines[code:code + 8] if access == "rw-p"][2]
libc = ctypes.CDLL(None)
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.mmap(start, end - start, 3, 0x32, -1, 0)
time.sleep(60)
"""


@case
def program_that_maps_over_the_agent(lab):
    """What is mapped over staging would be emptied by the next zap."""
    run = lab.job(lab.file_url(), harness.PYTHON, "-c", MAPS_OVER_THE_AGENT, ram="40M", flags=["--quiet"])
    lab.expect(run.status == REFUSED and "mapped something else over it" in run.error and run.error.count("\n") == 1,
               f"exit status {run.status}, {run.error!r}")
    lab.expect_nothing_left(run)


@case
def last_thread_ends_alone(lab):
    """By exit(2), not exit_group(2): the agent is all that is left, and must not keep the process, nor change its status."""
    run = lab.job(lab.file_url(), harness.PYTHON, "-c", "import ctypes; ctypes.CDLL(None).syscall(60, 3)", flags=["--quiet"])
    lab.expect(run.status == 3, f"exit status {run.status}: {run.error}")


@case
def grown_again_in_its_place(lab):
    """What lay in the half of a mapping that was given up is still in the cache when the mapping grows again, without an event."""
    run = lab.job(lab.file_url(), lab.tools.workloads / "regrow", "--filler", "24M", "--rounds", "20", ram="44M",
                  flags=["--quiet", "--pool", "24M"], limit_s=100)
    lab.expect(run.status == 0, f"exit status {run.status}: {run.error}")


HOLD_AND_WAIT = """
import os, subprocess, sys
hold = "import os, sys; held = os.urandom(70 << 20); print('held', flush=True); sys.stdin.read()"
holder = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert holder.stdout.readline() == b"held\\n"
print("held", flush=True)
os.set_blocking(holder.stdin.fileno(), True)
waiter = subprocess.Popen([sys.executable, "-c", "import os; text = os.urandom(70 << 20); print(len(text))"])
os.read(0, 1)
holder.communicate()
sys.exit(waiter.wait())
"""


def full_stores(lab):
    """Of 64 MiB each, on a disk and on a server. -> URL, directory."""
    yield lab.file_url("?size=64M"), lab.store
    server = lab.server()
    yield f"{server.url}&size=64M", server.store_directory()


@case
def full_stores_are_waited_for(lab):
    """Two processes need more than the stores hold: one waits until the other has ended, if that is asked for."""
    for url, directory in full_stores(lab):
        stdin, tell = os.pipe()
        job = Background(lab, url, harness.PYTHON, "-c", HOLD_AND_WAIT, ram="48M", flags=["--on-full", "wait"], limit_s=120,
                         stdin=stdin)
        error = lab.directory / f"run{lab.runs}.err"
        says = f"swap is full \\(64 MiB on .*{directory}.*\\): the program waits"
        lab.expect(wait_until(lambda error=error, says=says: error.exists() and re.search(says, error.read_text()), 100),
                   f"nothing says that swap is full, and where: {error.read_text()!r}")
        os.write(tell, b".")
        run = job.end()
        os.close(stdin)
        os.close(tell)
        lab.expect(run.status == 0 and str(70 << 20) in run.output.read_text(), f"exit status {run.status}: {run.error}")
        lab.expect_nothing_left(run, directory)


@case
def full_stores_get_room_again(lab):
    """Others fill the disk while the job runs: if it is to wait it goes on when they have made room there, on a server's as on an
    own one.
    """
    point = lab.small_filesystem(256)
    server = lab.server(str(point))
    filler = point / "filler"
    hold = "import os; print('begun', flush=True); os.read(0, 1); held = os.urandom(150 << 20); print(len(held))"
    for url in (f"file:{point}", server.url):
        stdin, tell = os.pipe()
        job = Background(lab, url, harness.PYTHON, "-c", hold, ram="48M", flags=["--on-full", "wait"], limit_s=100, stdin=stdin)
        output = lab.directory / f"run{lab.runs}"
        error = pathlib.Path(f"{output}.err")
        lab.expect(wait_until(lambda output=output: output.exists() and output.read_text(), 60), "it does not begin")
        with open(filler, "wb") as file:
            for mib in range(256):
                try:
                    os.posix_fallocate(file.fileno(), mib * harness.MIB, harness.MIB)
                except OSError:
                    break
        os.write(tell, b".")
        lab.expect(wait_until(lambda error=error: "swap is full" in error.read_text(), 60), "nothing says that swap is full")
        filler.unlink()
        run = job.end()
        os.close(stdin)
        os.close(tell)
        lab.expect(run.status == 0 and str(150 << 20) in run.output.read_text(), f"exit status {run.status}: {run.error}")
        lab.expect_nothing_left(run, point)


@case
def full_stores_stop_the_job(lab):
    """The same need, and nobody who is to wait: one line that names the store, whether that was asked for or not."""
    hold = "import os; held = os.urandom(160 << 20); print(len(held))"
    for url, directory in full_stores(lab):
        for flags in (["--on-full", "stop"], []):
            run = lab.job(url, harness.PYTHON, "-c", hold, ram="48M", flags=["--quiet", *flags], limit_s=120)
            lab.expect_refusal(run, REFUSED, f"swap is full \\(64 MiB on .*{directory}.*\\): the program was stopped",
                               "a larger store|a second --swap", left_in=[directory])


@case
def full_stores_of_several_are_named(lab):
    """All of them: which one is to be made larger is the operator's to say."""
    other = lab.directory / "other"
    other.mkdir()
    hold = "import os; held = os.urandom(160 << 20); print(len(held))"
    run = lab.job(lab.file_url("?size=32M"), harness.PYTHON, "-c", hold, ram="48M",
                  flags=["--quiet", "--swap", f"file:{other}?size=32M"], limit_s=120)
    lab.expect_refusal(run, REFUSED, f"swap is full \\(64 MiB on .*{lab.store}.*, .*{other}.*\\)", left_in=[lab.store, other])
