"""Cases of bad_input.py over an image of a Ceph cluster, which qemu-nbd offers: one monitor and one OSD of the suite's own, on
loopback, with files below the case's directory. Skipped where Debian's ceph-mon, ceph-osd, ceph-common, qemu-utils and
qemu-block-extra are not installed.
"""
import shutil
import signal
import socket
import subprocess
import uuid

import harness
from fault_lab import Skip, case
from faults import wait_until
from many_stores import Sweep

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {monitor}
mon initial members = a
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = bluestore
bluestore block size = 2147483648
osd memory target = 939524096
"""
PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "monmaptool", "qemu-nbd")
POOL_IMAGE = "rbd/swap"


def two_free_ports():
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


class Ceph:
    """A cluster of one, with one image, and qemu-nbd before it."""

    def __init__(self, lab):
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise Skip(f"not installed: {', '.join(missing)}")
        self.lab, self.directory = lab, lab.directory / "ceph"
        self.configuration, self.socket = self.directory / "ceph.conf", self.directory / "nbd.sock"
        for name in ("mon", "osd"):
            (self.directory / name).mkdir(parents=True)
        self.processes = {}
        lab.cleanup.callback(self.stop)
        self.start_monitor()
        self.make_osd()
        self.start_osd()
        self.ask("ceph", "osd", "pool", "create", "rbd", "8", "8")
        self.ask("rbd", "pool", "init", "rbd")
        self.ask("rbd", "create", POOL_IMAGE, "--size", "1G")
        self.daemon("qemu-nbd", "--persistent", "--shared=4", "--cache=none", f"--socket={self.socket}", "--format=raw",
                    f"rbd:{POOL_IMAGE}:conf={self.configuration}")
        if not wait_until(self.socket.exists):
            raise RuntimeError("qemu-nbd does not serve: " + (self.directory / "qemu-nbd.out").read_text()[-300:])
        self.url = f"nbd+unix:///?socket={self.socket}"

    def ask(self, *words, limit_s=120):
        words = [words[0], "-c", str(self.configuration), *map(str, words[1:])] if words[0] != "monmaptool" else words
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, cwd=self.directory)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-300:]}")

    def daemon(self, name, *words):
        output = open(self.directory / f"{name}.out", "ab")
        self.lab.cleanup.callback(output.close)
        self.processes[name] = subprocess.Popen([name, *map(str, words)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                                cwd=self.directory)

    def start_monitor(self):
        fsid = str(uuid.uuid4())
        second, first = two_free_ports()
        monitor = f"[v2:127.0.0.1:{second},v1:127.0.0.1:{first}]"
        self.configuration.write_text(CONFIGURATION.format(fsid=fsid, monitor=monitor, directory=self.directory))
        self.ask("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, "monmap")
        self.ask("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap")
        self.daemon("ceph-mon", "-i", "a", "-f", "-c", self.configuration)

    def make_osd(self):
        own = str(uuid.uuid4())
        self.ask("ceph", "osd", "new", own)
        self.ask("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", own)

    def start_osd(self):
        self.daemon("ceph-osd", "-i", "0", "-f", "-c", self.configuration)

    def kill_osd(self):
        self.processes["ceph-osd"].send_signal(signal.SIGKILL)
        self.processes["ceph-osd"].wait()

    def stop(self):
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@case
def ceph_image_whose_osd_is_killed(lab):
    """The program goes on over the image; it waits while the only OSD is dead, and goes on when that is back."""
    ceph = Ceph(lab)
    sweep = Sweep(lab, [ceph.url])
    sweep.start()
    sweep.one_round_more()
    ceph.kill_osd()
    if sweep.said("no answer for 5 s"):
        ceph.start_osd()
        sweep.said("answers again")
        sweep.one_round_more()
    run = sweep.end()
    lab.expect(not run.left, f"left running: {run.left}")
    stores = sweep.stores()
    moved = [store["written_bytes"] // harness.MIB for store in stores] + [store["read_bytes"] // harness.MIB for store in stores]
    lab.expect(len(moved) == 2 and min(moved) > 16, f"hardly anything went through the image: {stores}")
