"""Makes what a small virtual machine boots: Debian's kernel out of its package (unpacked, not installed), an initramfs
that mounts the disk, and a disk with the programs under test and the libraries that they need, copied from this machine.
"""
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess

BUSYBOX = "/bin/busybox"  # package busybox-static
MODULES = ["virtio_pci", "virtio_blk", "ext4", "virtio_net"]
INITRAMFS_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 /dev/vda /root || echo "VM: the disk cannot be mounted"
exec /bin/busybox switch_root /root /init
"""


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


def unpack_kernel(package, directory):
    """Downloads the newest package that the meta package names. Returns the kernel and its module tree."""
    directory.mkdir(parents=True, exist_ok=True)
    depends = run("apt-cache", "depends", package, capture_output=True, text=True).stdout
    names = re.findall(r"Depends: (linux-image-[0-9]\S+)", depends)
    name = names[0] if names else package
    if not list(directory.glob("*.deb")):
        run("apt-get", "download", "-q", name, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tree = directory / "tree"
    if not tree.exists():
        run("dpkg-deb", "-x", next(directory.glob("*.deb")), tree)
    modules = next((tree / "lib" / "modules").iterdir())
    run("depmod", "-b", tree, modules.name, stderr=subprocess.DEVNULL)
    return next((tree / "boot").glob("vmlinuz-*")), modules


def module_files(modules, names):
    """Files of the named modules in the order of loading; what is built in needs none."""
    dependencies = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        dependencies[pathlib.Path(path).name.split(".")[0].replace("-", "_")] = (path, needed.split())
    ordered = []
    for name in names:
        if name in dependencies:
            path, needed = dependencies[name]
            for file in [*reversed(needed), path]:
                if file not in ordered:
                    ordered.append(file)
    return [modules / file for file in ordered]


def module_bytes(path):
    return lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()


def cpio_entry(name, mode, data, number):
    """One member of a newc archive (cpio(5))."""
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def write_initramfs(path, modules, names=tuple(MODULES)):
    members = [(name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "root", "modules")]
    members.append(("bin/busybox", stat.S_IFREG | 0o755, pathlib.Path(BUSYBOX).read_bytes()))
    members.append(("init", stat.S_IFREG | 0o755, INITRAMFS_INIT.encode()))
    for index, file in enumerate(module_files(modules, names)):
        members.append((f"modules/{index:02d}.ko", stat.S_IFREG | 0o644, module_bytes(file)))
    with open(path, "wb") as archive:
        for number, (name, mode, data) in enumerate(members, 1):
            archive.write(cpio_entry(name, mode, data, number))
        archive.write(cpio_entry("TRAILER!!!", 0, b"", 0))


def libraries_of(path):
    text = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", text)


def make_image(directory, path, mib):
    """A file system with what is in the directory."""
    run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-d", directory, path, f"{mib}M",
        stdout=subprocess.DEVNULL)


class Root:
    """The directory that becomes the disk."""

    def __init__(self, directory):
        self.directory = directory
        for name in ("bin", "dev", "proc", "sys", "tmp", "job", "usr/bin", "usr/lib", "lib64", "var/tmp", "run", "etc"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "lib").symlink_to("usr/lib")
        (directory / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        self.add_program(BUSYBOX)
        for applet in ("sh", "mount", "ip", "sha256sum", "cat", "dmesg", "grep", "poweroff", "date", "uname", "true",
                       "sleep", "tr"):
            (directory / "bin" / applet).symlink_to("busybox")

    def copy(self, source):
        """A file to the same path, and what its links lead to."""
        source = pathlib.Path(source)
        target = self.directory / str(source).lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source.resolve(), target)

    def add_program(self, path, name=None):
        path = pathlib.Path(path)
        if name:
            target = self.directory / "bin" / name
            shutil.copy2(path, target)
        else:
            self.copy(path)
        for library in libraries_of(path):
            self.copy(library)

    def add_tree(self, path, leave_out=()):
        target = self.directory / str(path).lstrip("/")
        shutil.copytree(path, target, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("test", "tests", *leave_out))
        for library in list(pathlib.Path(path).rglob("*.so*")):
            for needed in libraries_of(library):
                self.copy(needed)

    def add_python(self):
        """Debian's interpreter with numpy, and what it has compiled: to do that again takes minutes in an emulation."""
        self.add_program("/usr/bin/python3")
        version = os.path.basename(os.path.realpath("/usr/bin/python3"))
        self.add_tree(f"/usr/lib/{version}", leave_out=("idlelib", "lib2to3", "ensurepip", "config-*"))
        self.add_tree("/usr/lib/python3/dist-packages/numpy")

    def make_image(self, path, mib):
        make_image(self.directory, path, mib)
