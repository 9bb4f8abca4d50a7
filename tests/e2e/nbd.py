"""Cases of bad_input.py: programs over an NBD server (nbdkit) that is slow, fails now and then, or dies."""
import os
import pathlib
import socket
import subprocess
import time

import harness
from fault_lab import REFUSED, case
from faults import Background, verify, wait_until
from harness import MIB

EXPORT_BYTES = 400 * MIB


class Nbdkit:
    """One server of the lab's; `arguments` name the plugin, its filters and their parameters."""

    def __init__(self, lab, *arguments, port=None):
        self.arguments, self.port = arguments, port
        self.socket = lab.directory / "nbd.sock"
        self.process = None
        lab.cleanup.callback(self.kill)
        self.start()
        self.url = f"nbd://127.0.0.1:{port}/" if port else f"nbd+unix:///?socket={self.socket}"

    def start(self):
        self.socket.unlink(missing_ok=True)
        where = ["-i", "127.0.0.1", "-p", str(self.port)] if self.port else ["-U", self.socket]
        self.process = subprocess.Popen(["nbdkit", "--exit-with-parent", "-f", *where, *self.arguments], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        if not wait_until(self.answers):
            raise RuntimeError("nbdkit does not answer")

    def answers(self):
        family, address = (socket.AF_INET, ("127.0.0.1", self.port)) if self.port else (socket.AF_UNIX, str(self.socket))
        with socket.socket(family, socket.SOCK_STREAM) as client:
            return client.connect_ex(address) == 0

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def image(lab):
    path = lab.directory / "image"
    with open(path, "wb") as file:
        file.truncate(EXPORT_BYTES)
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def expect_paged(lab, run, stats):
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect(not run.left, f"left running: {run.left}")
    store = harness.read_stats(stats).get("stores", [{}])[0]
    lab.expect(store.get("read_bytes", 0) > MIB and store.get("written_bytes", 0) > MIB, f"it was hardly used: {store}")
    return store


@case
def nbd_that_is_slow_and_fails_now_and_then(lab):
    server = Nbdkit(lab, "--filter=error", "--filter=delay", "file", image(lab), "rdelay=1ms", "wdelay=2ms",
                    "error-pread-rate=0.5%", "error-pwrite-rate=0.5%", "error-pread=EIO", "error-pwrite=EIO")
    stats = lab.directory / "stats.json"
    run = lab.job(server.url, *verify(lab, "--seconds", "6"), flags=["--quiet", "--stats", stats], limit_s=200)
    expect_paged(lab, run, stats)


@case
def nbd_server_that_dies_and_comes_back(lab):
    """Over TCP, with its data, twice; what was not flushed by then is written again."""
    server = Nbdkit(lab, "file", image(lab), port=free_port())
    stats, enough = lab.directory / "stats.json", lab.directory / "enough"
    job = Background(lab, server.url, *verify(lab, "--until", enough, "--seconds", "100"), flags=["--quiet", "--stats", stats],
                     limit_s=200)
    for _ in range(2):
        lab.expect(wait_until(lambda: holds_pages(lab.directory / "image")), "nothing was written to the store")
        time.sleep(2)
        server.kill()
        time.sleep(0.5)
        server.start()
    enough.touch()
    store = expect_paged(lab, job.end(), stats)
    lab.expect(store.get("reconnects", 0) >= 2, f"the server's end was not noticed: {store}")


@case
def nbd_server_that_forgets_all(lab):
    """nbdkit's memory plugin comes back empty: the job is stopped, it never reads zeros."""
    server = Nbdkit(lab, "memory", str(EXPORT_BYTES))
    job = Background(lab, server.url, *verify(lab, "--seconds", "100"), flags=["--quiet"], limit_s=200)
    time.sleep(5)
    server.kill()
    server.start()
    run = job.end()
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    lab.expect(run.status == REFUSED, f"exit status {run.status} instead of {REFUSED}: {run.last_error()}")
    lab.expect(not run.left, f"left running: {run.left}")


@case
def nbd_that_cannot_serve(lab):
    read_only = Nbdkit(lab, "-r", "memory", str(EXPORT_BYTES))
    lab.expect_refusal(lab.job(read_only.url, "true"), REFUSED, "read-only")
    read_only.kill()
    lab.expect_refusal(lab.job(read_only.url, "true"), REFUSED, "nbd", "refused|No such file|cannot")
    lab.expect_refusal(lab.job("nbds://127.0.0.1/", "true"), 2, "TLS|nbds")


def holds_pages(path):
    """Whether something lies beyond the owner's record."""
    with open(pathlib.Path(path), "rb") as file:
        return any(any(os.pread(file.fileno(), 4096, offset)) for offset in range(4 * MIB, 64 * MIB, 4 * MIB))
