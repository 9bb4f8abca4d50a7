"""What the cases of bad_input.py share: a place for stores, servers and small file systems, a way to run farswap there,
and the rules that every refusal must meet. Knows no case.
"""
import contextlib
import os
import pathlib
import re
import shutil
import struct
import subprocess

import harness

CAP_SYS_PTRACE = 19
USAGE, REFUSED, NOT_EXECUTABLE, NOT_FOUND = 2, 125, 126, 127
CASES = {}


class Skip(Exception):
    """The machine lacks what a case needs."""


def case(function):
    CASES[function.__name__] = function
    return function


class Lab:
    """One case: its own directory, removed afterwards, and what it started."""

    def __init__(self, tools, directory):
        self.tools, self.directory = tools, pathlib.Path(directory)
        self.store = self.directory / "store"
        self.store.mkdir(parents=True)
        self.problems = []
        self.cleanup = contextlib.ExitStack()
        self.runs = 0

    def close(self):
        self.cleanup.close()

    def expect(self, good, text):
        if not good:
            self.problems.append(text)
        return good

    def file_url(self, query=""):
        return f"file:{self.store}{query}"

    def server(self, *exports):
        return self.cleanup.enter_context(harness.NfsServer(self.directory / "nfs", exports))

    def output(self):
        self.runs += 1
        return self.directory / f"run{self.runs}"

    def farswap(self, *arguments, **options):
        """Runs `farswap ARGUMENTS` without the sampler."""
        options.setdefault("limit_s", 60)
        options.setdefault("cwd", self.directory)
        return harness.run([self.tools.farswap, *map(str, arguments)], self.output(), **options)

    def job(self, url, *program, ram="64M", flags=(), **options):
        return self.farswap("run", "--ram", ram, "--swap", url, *flags, "--", *program, **options)

    def expect_nothing_left(self, run, *directories):
        self.expect(not run.left, f"left running: {run.left}")
        for directory in directories or (self.store,):
            left = harness.listing(directory)
            self.expect(not left, f"left in {directory.name}: {left}")

    def expect_refusal(self, run, status, *words, left_in=()):
        """One line on standard error that begins with "farswap: ", says each of `words` (regular expressions), and the
        program did not run."""
        statuses = status if isinstance(status, tuple) else (status,)
        lines = run.error.splitlines()
        if not self.expect(not run.timed_out, f"not done after {run.seconds:.0f} s"):
            return
        self.expect(run.status in statuses, f"exit status {run.status} instead of {status}: {run.last_error()}")
        self.expect(len(lines) == 1, f"{len(lines)} lines on standard error instead of one: {lines[:4]}")
        if lines:
            self.expect(lines[0].startswith("farswap: "), f"does not begin with 'farswap: ': {lines[0]}")
            for word in words:
                self.expect(re.search(word, lines[0], re.IGNORECASE), f"does not say '{word}': {lines[0]}")
        self.expect(run.output.stat().st_size == 0, "wrote to standard output")
        self.expect_nothing_left(run, *(left_in or (self.store,)))

    def small_filesystem(self, mib):
        """A mounted ext4 of a few MiB, for stores that get full."""
        image, point = self.directory / "small.img", self.directory / "small"
        point.mkdir()
        with open(image, "wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, point], capture_output=True).returncode != 0:
            raise Skip("no loop mounts here")
        self.cleanup.callback(subprocess.run, ["umount", "-l", point], check=False)
        os.rmdir(point / "lost+found")
        return point

    def for_everybody(self, program):
        """A copy where every user can execute it: the build folder may be closed to others."""
        copy = pathlib.Path("/var/tmp") / f"farswap-e2e-{self.directory.name}-{pathlib.Path(program).name}"
        shutil.copy(program, copy)
        self.cleanup.callback(copy.unlink, missing_ok=True)
        return copy

    def granted(self):
        """A command prefix and a farswap: an ordinary user of a machine whose administrator has done what `farswap
        check` asks for, setcap cap_sys_ptrace+ep on the program and /dev/userfaultfd open to all (for this user only:
        in a mount namespace of its own), and the usual limit of 8 MiB on locked memory."""
        program = self.for_everybody(self.tools.farswap)
        # struct vfs_cap_data of linux/capability.h: revision 2 and effective, permitted, inheritable, upper halves.
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << CAP_SYS_PTRACE, 0, 0, 0))
        minor = next(line.split()[0] for line in pathlib.Path("/proc/misc").read_text().splitlines()
                     if line.split()[1] == "userfaultfd")
        script = ("mount -t tmpfs none /mnt && mknod -m 666 /mnt/device c 10 " + minor +
                  " && mount --bind /mnt/device /dev/userfaultfd && exec setpriv --reuid 65534 --regid 65534 "
                  '--clear-groups --inh-caps -all prlimit --memlock=8388608:8388608 "$@"')
        return ["unshare", "--mount", "sh", "-c", script, "sh"], program

    def unprivileged(self, *drop):
        """A command prefix: an ordinary user, or root without the capabilities in `drop`."""
        if drop:
            return ["setpriv", "--bounding-set", ",".join(f"-{name}" for name in drop), "--inh-caps", "-all"]
        return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all",
                "--no-new-privs"]
