#!/usr/bin/python3
"""farswapd on a Debian 12 that has booted with systemd: its units, sandbox, socket activation, reload, restart, journal and
removal, an ordinary user's jobs through it, and control groups v2. The checks are booted_guest.sh's, in a virtual machine with a
root file system of debootstrap and Debian's 6.12 kernel.

  booted.py --build DIR [--package DIR] [--base FILE] [--mirror URL] [--only GROUP,...] [--report DIR]

Installed is what `cmake --install` lays down, or with --package the Debian package of that directory (script/package). --base
keeps what debootstrap has made in a file, and takes it from there the next time. Needs what vm.py needs, and debootstrap.
"""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import harness  # noqa: E402
import image  # noqa: E402
import inputs  # noqa: E402
import vm  # noqa: E402
from harness import MIB  # noqa: E402

RAM_MIB, PROCESSORS, DISK_MIB = 1536, 2, 3072
LINES_BYTES, LINE_BYTES = 128 * MIB, 1 << 16  # of sort's input: twice its cap, and few comparisons, each of which may fault
BOOT_LIMIT_S, LIMIT_S, POWEROFF_LIMIT_S = 600, 5400, 80  # systemd kills what has not ended after 90
# The order is that of their lives: what one has begun the next goes on with.
GROUPS = ("look_at_the_boot", "refused", "ordinary_user", "confinement", "control_group", "reload", "budget",
          "reload_and_restart", "start_with_a_mistake", "switched_off")
WORKLOADS = ("verify", "fork_tree")
# Debian's own choice, and what it needs to come up; no procps, man-db or libpam-systemd, which a small machine may lack.
PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus")
NEEDED = ("qemu-system-x86_64", "mke2fs", "depmod", "busybox", "debootstrap", "cmake")
UNIT = """[Unit]
Description=The checks of farswap's suite `booted`

[Service]
Type=exec
ExecStart=/booted/guest.sh {groups}
StandardOutput=file:/dev/ttyS0

[Install]
WantedBy=multi-user.target
"""


def packages_of(programs):
    """Debian packages of the libraries that they are linked to, by this machine's own list: it has them with or without /usr."""
    names = set()
    for library in {path for program in programs for path in image.libraries_of(program)}:
        for path in (library, f"/usr{library}"):
            found = subprocess.run(["dpkg-query", "-S", path], capture_output=True, text=True, check=False).stdout
            names.update(line.split(":")[0] for line in found.splitlines() if not line.startswith("diversion"))
    return sorted(names)


def in_root(root, *command, **options):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                   "DEBIAN_FRONTEND": "noninteractive"}
    return image.run("chroot", root, *command, env=environment, stdout=subprocess.DEVNULL, **options)


def make_base(root, programs, options):
    """Debian 12, and the libraries; from the file of --base if that is there."""
    if options.base and options.base.exists():
        root.mkdir()
        image.run("tar", "-xpf", options.base, "-C", root, "--numeric-owner")
        return
    wanted = ",".join([*PACKAGES, *packages_of(programs)])
    mirror = [options.mirror] if options.mirror else []
    log = root.parent / "debootstrap.log"
    with open(log, "wb") as said:
        done = subprocess.run(["debootstrap", "--variant=minbase", f"--include={wanted}", "bookworm", root, *mirror], stdout=said,
                              stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.exit("booted: debootstrap fails:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    if options.base:
        image.run("tar", "-cpf", options.base, "-C", root, "--numeric-owner", ".")


def install(root, options):
    """farswap and farswapd, switched on as by an administrator, or by the package itself. Returns how it was done."""
    if options.package:
        debs = sorted(options.package.glob("farswap_*_amd64.deb"))
        if len(debs) != 1:
            sys.exit(f"booted: no single farswap_*_amd64.deb in {options.package}")
        shutil.copy(debs[0], root / "root")
        in_root(root, "dpkg", "-i", f"/root/{debs[0].name}", stderr=subprocess.DEVNULL)
        return f"package {debs[0].name}"
    image.run("cmake", "--install", options.build, "--prefix", "/usr", "--strip", env=dict(os.environ, DESTDIR=str(root)),
              stdout=subprocess.DEVNULL)
    in_root(root, "systemctl", "enable", "farswapd.socket", "farswapd-budget.socket", stderr=subprocess.DEVNULL)
    return "cmake --install"


def build_disk(tools, directory, options):
    root = directory / "root"
    workloads = [tools.workloads / name for name in WORKLOADS]
    make_base(root, [tools.farswap, *workloads], options)
    how = install(root, options)
    for user in ("alice", "bob"):
        in_root(root, "useradd", "--create-home", user)
    booted = root / "booted"
    booted.mkdir()
    for path in workloads:
        image.run("strip", "-o", booted / path.name, path)
    shutil.copy(HERE / "booted_guest.sh", booted / "guest.sh")
    inputs.lines(LINES_BYTES, booted / "lines", width=LINE_BYTES)
    image.run("chmod", "-R", "a+rX", booted)
    etc = root / "etc"
    (etc / "hostname").write_text("booted\n")
    # Known, so that this is no first start at which systemd switches all units on.
    (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    units = etc / "systemd/system"
    (units / "booted.service").write_text(UNIT.format(groups=" ".join(options.only or GROUPS)))
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "booted.service").symlink_to("../booted.service")
    # The console is the checks' own.
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    (root / "init").symlink_to("lib/systemd/systemd")
    image.make_image(root, directory / "disk.img", DISK_MIB)
    shutil.rmtree(root)
    return how


class Machine(vm.Machine):
    """One start; see vm.Machine for its console."""

    def __init__(self, directory, kernel, accelerator, processors):
        self.lines, self.log = [], []
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", accelerator, "-cpu", vm.CPU[accelerator], "-smp", str(processors),
             "-m", str(RAM_MIB), "-nographic", "-no-reboot", "-nic", "none",
             "-kernel", kernel, "-initrd", directory / "initramfs",
             "-drive", f"file={directory / 'disk.img'},format=raw,if=none,id=root,cache=unsafe",
             "-device", "virtio-blk-pci,drive=root", "-append", f"{vm.COMMAND_LINE} systemd.show_status=no"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def ends_by_itself(self, limit_s):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(limit_s)
        return self.process.poll() is not None


@dataclasses.dataclass
class Outcome:
    how: str
    accelerator: str
    lines: list
    seconds: float
    problems: list = dataclasses.field(default_factory=list)

    def checks(self):
        """Verdict, name and what was seen, in their order."""
        for line in self.lines:
            if match := re.match(r"(pass|fail|note) (.*?):\s*(.*)", line):  # nothing seen: no blank either
                yield match.groups()

    def judge(self, wanted):
        self.problems += [f"{name}: {seen}" for verdict, name, seen in self.checks() if verdict == "fail"]
        passed = sum(verdict == "pass" for verdict, _, _ in self.checks())
        if "done" not in self.lines:
            self.problems.append("the machine did not get to the end of its checks")
        if wanted is not None and passed + len(self.problems) < wanted:
            self.problems.append(f"{passed} checks of {wanted}")

    def table(self):
        ready = next((line for line in self.lines if line.startswith("ready ")), "ready none")
        text = [f"Installed by: {self.how}. Virtual machine by {self.accelerator}: {ready[6:]}. {self.seconds:.0f} s in all.", "",
                "| check | |", "|---|---|"]
        text += [f"| {name} | {'passed' if verdict == 'pass' else 'FAILED: ' + seen} |"
                 for verdict, name, seen in self.checks() if verdict != "note"]
        text += ["", *(f"- {name}: {seen}" for verdict, name, seen in self.checks() if verdict == "note")]
        return "\n".join(text) + "\n"


def checks_of(script):
    """How many there are: each is one call of `expect`."""
    return len(re.findall(r"^\s+expect \"", script.read_text(), re.M))


def suite(tools, directory, options):
    kernel, modules = image.unpack_kernel(vm.KERNEL, directory / "kernel")
    image.write_initramfs(directory / "initramfs", modules)
    how = build_disk(tools, directory, options)
    print("booted: the disk is made", flush=True)
    accelerators = [name for name in ("kvm", "tcg") if name != "kvm" or os.access("/dev/kvm", os.W_OK)]
    for accelerator in accelerators:
        started = time.monotonic()
        machine = Machine(directory, kernel, accelerator, options.processors)
        options.cleanup.callback(machine.end)  # however this ends, no machine stays behind
        if machine.wait_for("ready", BOOT_LIMIT_S):
            break
        machine.end()
    if not machine.wait_for("done", LIMIT_S):
        print("booted: the machine did not come to its end; its last words:\n" + "\n".join(machine.log[-25:]), flush=True)
    went = machine.ends_by_itself(POWEROFF_LIMIT_S)
    outcome = Outcome(how, accelerator, list(machine.lines), time.monotonic() - started)
    outcome.judge(None if options.only else checks_of(HERE / "booted_guest.sh"))
    if not went:
        outcome.problems.append("it could not be switched off while a job ran:\n" + "\n".join(machine.log[-15:]))
    machine.end()
    if options.log:
        options.log.write_text("\n".join(machine.log) + "\n")
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--package", type=pathlib.Path, help="a directory with the Debian packages, to install instead")
    parser.add_argument("--base", type=pathlib.Path, help="a tar file with the system of debootstrap, made if it is not there")
    parser.add_argument("--mirror", help="of Debian, instead of the one that debootstrap takes by itself")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help=f"of {','.join(GROUPS)}")
    parser.add_argument("--processors", type=int, default=PROCESSORS)
    parser.add_argument("--report", type=pathlib.Path, help="a directory for the table, as e2e.md")
    parser.add_argument("--log", type=pathlib.Path, help="a file for all that the console said")
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    tools = harness.Tools.of_build(options.build)
    if not tools.farswap.exists():
        sys.exit(f"booted: not built: {tools.farswap}")
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        print(f"booted: not installed, or not root: {', '.join(missing)}")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-booted-", dir=options.directory))
    with contextlib.ExitStack() as options.cleanup:
        options.cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        outcome = suite(tools, directory, options)
    print(outcome.table(), flush=True)
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "e2e.md").write_text(outcome.table())
    for problem in outcome.problems:
        print(f"     - {problem}")
    print(f"{'FAIL' if outcome.problems else 'PASS'} booted: farswapd under systemd")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
