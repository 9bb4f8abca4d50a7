"""What the kernel has against farswap: a memory cgroup with a limit, a swap file, zram. All of it is undone on leaving,
however that comes about. Knows nothing of workloads and of farswap.
"""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
ZRAM_CONTROL = pathlib.Path("/sys/class/zram-control")
PAGE_CLUSTER = pathlib.Path("/proc/sys/vm/page-cluster")
SWAPS = pathlib.Path("/proc/swaps")


class Unavailable(Exception):
    """Why a rival cannot run, for the table."""


def active_swaps():
    return [line.split()[0] for line in SWAPS.read_text().splitlines()[1:]]


def interrupted(number, _frame):
    raise SystemExit(128 + number)


def begin():
    """Before anything is measured: ends the program where the machine swaps already, and has signals end it so that all is
    undone."""
    if active_swaps():
        sys.exit("bench: this machine is swapping already, which would be measured along; write: swapoff -a")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)


def tool(*words):
    ended = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    if ended.returncode != 0:
        raise Unavailable(f"{words[0]} failed: {ended.stderr.strip().splitlines()[-1:] or ended.returncode}")


class MemoryCgroup:
    """A new memory cgroup, v1 or v2, whichever this machine has the memory controller in; swap is not limited in it."""

    def __init__(self):
        self.v2 = "memory" in self.controllers_v2()
        self.path = CGROUPS / ("" if self.v2 else "memory") / f"farswap-bench-{os.getpid()}"
        self.limit_file = self.path / ("memory.max" if self.v2 else "memory.limit_in_bytes")

    @staticmethod
    def controllers_v2():
        try:
            return (CGROUPS / "cgroup.subtree_control").read_text().split()
        except OSError:
            return []

    def __enter__(self):
        if not self.v2 and not (CGROUPS / "memory" / "memory.limit_in_bytes").exists():
            raise Unavailable("no memory cgroups")
        try:
            self.path.mkdir()
        except OSError as error:
            raise Unavailable(f"no cgroup can be made: {error.strerror}") from None
        return self

    def __exit__(self, *_):
        for _ in range(100):  # a member that has just ended may still be counted
            try:
                self.path.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.05)
        print(f"bench: {self.path} could not be removed; write: rmdir {self.path}")

    def limit(self, size):
        self.limit_file.write_text(str(int(size)))

    def enter(self):
        """In the child, before exec."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def used(self):
        return int((self.path / ("memory.current" if self.v2 else "memory.usage_in_bytes")).read_text())


class PageCluster:
    """vm.page-cluster: 2^N pages are read along with a fault."""

    def __init__(self, value):
        self.value = value

    def __enter__(self):
        self.before = PAGE_CLUSTER.read_text()
        PAGE_CLUSTER.write_text(str(self.value))

    def __exit__(self, *_):
        PAGE_CLUSTER.write_text(self.before)


class Swap:
    """Swap on `path` (a file or a device with mkswap's mark) while the block runs."""

    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()

    def __enter__(self):
        tool("swapon", self.path)
        return self

    def __exit__(self, *_):
        if str(self.path) in active_swaps():
            subprocess.run(["swapoff", self.path], check=True)


@contextlib.contextmanager
def signals_held():
    """Ctrl-C waits meanwhile, so that nothing is left half set up or half undone."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def in_force(*managers):
    """All of them, entered in order and left in reverse, with signals held on the way in and out."""
    with contextlib.ExitStack() as stack:
        with signals_held():
            entered = [stack.enter_context(manager) for manager in managers]
        try:
            yield entered
        finally:
            with signals_held():
                stack.close()


def make_swap_file(path, size):
    """Removed by whoever removes its directory."""
    tool("fallocate", "-l", size, path)
    os.chmod(path, 0o600)
    tool("mkswap", path)
    return path


class Zram:
    """A zram device of its own, compressed as farswap does by default where the kernel has lz4."""

    def __init__(self, size):
        self.size, self.number = size, None

    def __enter__(self):
        try:
            self.number = int((ZRAM_CONTROL / "hot_add").read_text())
        except OSError:
            raise Unavailable("no zram (modprobe zram)") from None
        try:
            self.sys = pathlib.Path(f"/sys/block/zram{self.number}")
            self.device = pathlib.Path(f"/dev/zram{self.number}")
            algorithms = (self.sys / "comp_algorithm").read_text().replace("[", " ").replace("]", " ").split()
            self.algorithm = "lz4" if "lz4" in algorithms else algorithms[0]
            (self.sys / "comp_algorithm").write_text(self.algorithm)
            (self.sys / "disksize").write_text(str(self.size))
            for _ in range(100):  # udev, or devtmpfs, makes the node
                if self.device.exists():
                    break
                time.sleep(0.02)
            tool("mkswap", self.device)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.number is not None:
            (self.sys / "reset").write_text("1")
            (ZRAM_CONTROL / "hot_remove").write_text(str(self.number))
            self.number = None

    def memory_used(self):
        """What the compressed pages take with the allocator's own (mem_used_total), and their size before (orig_data_size)."""
        stored, _, taken = (self.sys / "mm_stat").read_text().split()[:3]
        return int(taken), int(stored)


def why_not_here():
    """Why no rival of the kernel's can run on this machine, or None."""
    if os.geteuid() != 0:
        return "needs root"
    return None
