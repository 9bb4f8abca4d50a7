"""A virtual machine whose kernel serves NFS, on a disk that keeps what was flushed and nothing else when it is killed. Knows
nothing of who uses the server.
"""
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import image
import vm

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = "nfs-kernel-server"  # unpacked, never installed: here no server is to run
PROGRAMS = ("usr/sbin/rpc.nfsd", "usr/sbin/rpc.mountd", "usr/sbin/exportfs")
NFS_PORT, MOUNT_PORT = 2049, 20048  # in the machine
RAM_MIB = 384
DISK_MIB = 1024
# sync: a COMMIT is answered when the disk has it. With async the server would not keep its word. secure: only clients that come
# from a port below 1024 are served, as is the default of exports(5); the port passes through qemu as it is.
EXPORTS = "/export *(rw,sync,secure,no_root_squash,no_subtree_check,fsid=1)\n"


def unpack_server(directory):
    """The server's programs, from Debian's archive."""
    directory.mkdir(parents=True)
    subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=directory, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    subprocess.run(["dpkg-deb", "-x", next(directory.glob("*.deb")), directory / "tree"], check=True)
    return [directory / "tree" / name for name in PROGRAMS]


def build_root(programs, directory):
    """The disk that the machine boots from."""
    root = image.Root(directory / "root")
    for path in programs:
        root.add_program(path, path.name)
    root.add_program("/usr/sbin/rpcbind", "rpcbind")
    (root.directory / "bin" / "mkdir").symlink_to("busybox")
    etc = root.directory / "etc"
    for name in ("netconfig", "protocols", "services"):
        shutil.copy(f"/etc/{name}", etc / name)
    (etc / "nsswitch.conf").write_text("".join(f"{name}: files\n" for name in
                                               ("passwd", "group", "hosts", "services", "protocols", "rpc", "netgroup")))
    (etc / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n_rpc:x:100:65534::/run/rpcbind:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "exports").write_text(EXPORTS)
    for name in ("export", "var/lib/nfs/v4recovery", "var/lib/nfs/sm"):
        (root.directory / name).mkdir(parents=True)
    for name in ("etab", "rmtab", "xtab"):
        (root.directory / "var/lib/nfs" / name).touch()
    shutil.copy(HERE / "knfsd_guest.sh", root.directory / "init")
    root.make_image(directory / "root.img", 256)
    shutil.rmtree(root.directory)
    return directory / "root.img"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Machine(vm.Machine):
    """One start; see vm.Machine for its console."""

    def __init__(self, server, accelerator):
        self.lines, self.log = [], []
        ports = zip(server.ports, (NFS_PORT, MOUNT_PORT))
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ports)
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", accelerator, "-cpu", vm.CPU[accelerator], "-smp", vm.PROCESSORS[accelerator],
             "-m", str(RAM_MIB), "-nographic", "-no-reboot", "-kernel", server.kernel, "-initrd", server.initramfs,
             "-netdev", f"user,id=net{forwards}", "-device", "virtio-net-pci,netdev=net,romfile=",
             "-drive", f"file={server.root},format=raw,if=none,id=root,snapshot=on", "-device", "virtio-blk-pci,drive=root",
             # Past the host's page cache, so that the order of what is written and flushed is the guest's own.
             "-drive", f"file={server.disk},format=raw,if=none,id=data,cache=none", "-device", "virtio-blk-pci,drive=data",
             "-append", vm.COMMAND_LINE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()


class Server:
    """The same disk and the same ports, whichever start of the machine it is."""

    def __init__(self, directory):
        self.directory = directory
        self.kernel, modules = image.unpack_kernel(vm.KERNEL, directory / "kernel")
        self.initramfs = directory / "initramfs"
        image.write_initramfs(self.initramfs, modules, [*image.MODULES, "nfsd"])
        self.root = build_root(unpack_server(directory / "server"), directory)
        self.disk = directory / "data.img"
        image.run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", self.disk, f"{DISK_MIB}M")
        self.ports = free_ports(2)
        self.accelerator = self.machine = None

    def url(self, version):
        nfs, mount = self.ports
        return f"nfs://127.0.0.1/export?nfsport={nfs}&mountport={mount}&version={version}"

    def start(self):
        """Until it serves. The first time with KVM if the machine then comes up, else with TCG."""
        last = []
        for accelerator in [self.accelerator] if self.accelerator else ["kvm", "tcg"]:
            if accelerator == "kvm" and not os.access("/dev/kvm", os.W_OK):
                continue
            self.machine = Machine(self, accelerator)
            served = self.machine.wait_for("ready", vm.BOOT_LIMIT_S[accelerator])
            if served and not any(line.startswith("failed") for line in self.machine.lines):
                self.accelerator = accelerator
                return
            self.kill()
            last = self.machine.log
        raise RuntimeError("the NFS server's machine does not come up; its last words:\n" + "\n".join(last[-15:]))

    def wait_for_writes(self, still_wanted):
        """Until a client has written, or it is no more to be expected."""
        while still_wanted() and not self.machine.wait_for("written", 1):
            continue

    def said(self, word):
        return next((line for line in self.machine.lines if line.startswith(word)), "")

    def kill(self):
        """As if the power failed: SIGKILL."""
        if self.machine:
            self.machine.end()
