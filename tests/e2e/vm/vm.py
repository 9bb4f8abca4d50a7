#!/usr/bin/python3
"""Jobs larger than the machine: in a virtual machine with little RAM, Debian's 6.12 kernel and no swap, programs that
need several times its RAM must finish with the output that they give here, and without an OOM kill.

  vm.py --build DIR [--ram-mib 512] [--times 4] [--store file|nfs] [--only sort,numpy,sqlite] [--directory DIR]
  vm.py --build DIR --old-kernel       Debian 12's 6.1 must be refused with one clear line

Needs qemu-system-x86, busybox-static, e2fsprogs, kmod and apt's archive for the kernel. Uses KVM where it works, else TCG,
which is ten to thirty times slower.
"""
import argparse
import contextlib
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
import programs  # noqa: E402
from harness import MIB  # noqa: E402

KERNEL, OLD_KERNEL = "linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"
BOOT_LIMIT_S = {"kvm": 20, "tcg": 240}
SQLITE_ROW_BYTES = 480  # what one row of programs.sqlite_script() costs, its index included
ENVIRONMENT = dict(os.environ, LC_ALL="C", OPENBLAS_NUM_THREADS="2")


def tests(need, directory):
    """Name and words of programs that need that many bytes. The paths are those inside the machine."""
    lines = directory / "lines"
    # Wide ones: an emulated machine serves few faults a second, and each comparison may cost two.
    inputs.lines(int(need * 0.95), lines, width=65536)
    sql = directory / "rows.sql"
    sql.write_text(programs.sqlite_script(int(need / SQLITE_ROW_BYTES)))
    return {
        "sort": ["sort", "--parallel=2", "-S", str(need * 2), "-T", "/job", "/job/lines"],
        "numpy": ["/usr/bin/python3", "/job/numeric.py", "sort", str(need // 8)],
        "sqlite": ["sqlite3", ":memory:", ".read /job/rows.sql"],
    }


def run_here(command, directory):
    """The digest of the same program on this machine, without farswap."""
    # Paths of the virtual machine's disk are found in the working folder here.
    local = [word.replace("/job", str(directory)) for word in command]
    run = harness.run(local, directory / "plain.out", environment=ENVIRONMENT, limit_s=3600)
    if run.status != 0:
        sys.exit(f"vm: {command[0]} fails on this machine: {run.last_error()}")
    digest = run.digest()
    run.output.unlink()
    return digest, run.seconds


class Machine:
    """One start of the virtual machine; collects the lines of its console that begin with "VM: "."""

    def __init__(self, kernel, initramfs, disk, ram_mib, accelerator, store_network):
        self.lines, self.log = [], []
        network = ["-nic", "user,model=virtio-net-pci"] if store_network else ["-nic", "none"]
        cpu = "max,la57=off" if accelerator == "tcg" else "host,-arch-capabilities"
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", accelerator, "-cpu", cpu, "-smp", "2", "-m", str(ram_mib), "-nographic",
             "-no-reboot", "-kernel", kernel, "-initrd", initramfs, *network,
             "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe", "-append", "console=ttyS0 panic=-1 quiet"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").strip()
            self.log.append(line)
            if "VM: " in line:
                self.lines.append(line[line.index("VM: ") + 4:])
                print(f"     vm: {self.lines[-1][:180]}", flush=True)

    def wait_for(self, word, limit_s):
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if any(line.startswith(word) for line in list(self.lines)):
                return True
            if self.process.poll() is not None:
                self.reader.join(5)
                return any(line.startswith(word) for line in self.lines)
            time.sleep(0.2)
        return False

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def start(kernel, initramfs, disk, options):
    """With KVM where the machine then comes up in time, else with TCG."""
    for accelerator in ("kvm", "tcg"):
        if accelerator == "kvm" and not os.access("/dev/kvm", os.W_OK):
            continue
        machine = Machine(kernel, initramfs, disk, options.ram_mib, accelerator, options.store == "nfs")
        options.cleanup.callback(machine.end)  # however this ends, no machine stays behind
        if machine.wait_for("ready", BOOT_LIMIT_S[accelerator]):
            print(f"vm: up with {accelerator}", flush=True)
            return machine
        machine.end()
        last = machine.log
    sys.exit("vm: the machine does not come up; its last words:\n" + "\n".join(last[-15:]))


def build_disk(tools, directory, rows, options, url):
    root = image.Root(directory / "root")
    root.add_program(tools.farswap, "farswap")
    for program in ("sort", "sqlite3"):
        root.add_program(shutil.which(program))
    root.add_python()
    shutil.copy(HERE.parent / "real" / "numeric.py", directory / "numeric.py")
    for name in ("lines", "rows.sql", "numeric.py"):
        if (directory / name).exists():
            os.link(directory / name, directory / "root" / "job" / name)
    network = "10.0.2.15/24" if options.store == "nfs" else ""
    (directory / "root" / "farswap-options").write_text(
        f"NET='{network}'\nOPTIONS='--ram {options.cap} --overcommit --quiet --swap {url}'\n")
    (directory / "root" / "tests").write_text("".join(f"{name}|{' '.join(words)}\n" for name, words in rows.items()))
    init = directory / "root" / "init"
    shutil.copy(HERE / "guest.sh", init)
    init.chmod(0o755)
    need_mib = options.ram_mib * options.times
    root.make_image(directory / "disk.img", 3 * need_mib + 2048)
    shutil.rmtree(directory / "root")
    return directory / "disk.img"


def results_of(machine):
    found = {}
    for line in machine.lines:
        words = line.split()
        if words[0] == "result" and len(words) == 5:
            found[words[1]] = (int(words[2]), words[3], int(words[4]))
    return found


def judge(machine, expected):
    problems = []
    results = results_of(machine)
    if "done" not in machine.lines:
        print("vm: it did not come to its end; its last words:\n" + "\n".join(machine.log[-25:]), flush=True)
    for name, (digest, plain_s) in expected.items():
        if name not in results:
            problems.append(f"{name}: no result")
            continue
        status, got, seconds = results[name]
        good = status == 0 and got == digest
        print(f"{'PASS' if good else 'FAIL'} vm {name}: status {status}, output {'equal' if got == digest else 'DIFFERENT'}, "
              f"{seconds} s (here, plain: {plain_s:.1f} s)", flush=True)
        if not good:
            problems.append(f"{name}: status {status}, digest {got} instead of {digest}")
    if "oom 0" not in machine.lines:
        problems.append("the kernel killed for memory, or the machine did not get that far")
    if not any(re.match(r"ready 6\.12.* swaps 0$", line) for line in machine.lines):
        problems.append("not Debian's 6.12 without swap")
    return problems


def big_jobs(tools, directory, options):
    need = options.ram_mib * options.times * MIB
    rows = {name: words for name, words in tests(need, directory).items() if not options.only or name in options.only}
    shutil.copy(HERE.parent / "real" / "numeric.py", directory / "numeric.py")
    expected = {}
    for name, words in rows.items():
        expected[name] = run_here(words, directory)
        print(f"vm: {name} runs here in {expected[name][1]:.1f} s", flush=True)
    server = harness.NfsServer(directory / "nfs") if options.store == "nfs" else None
    try:
        url = server.url.replace("127.0.0.1", "10.0.2.2") if server else "file:/job"
        kernel, modules = image.unpack_kernel(KERNEL, directory / "kernel")
        image.write_initramfs(directory / "initramfs", modules)
        machine = start(kernel, directory / "initramfs", build_disk(tools, directory, rows, options, url), options)
        machine.wait_for("done", options.limit_s)
        machine.end()
    finally:
        if server:
            server.stop()
    return judge(machine, expected)


def old_kernel(tools, directory, options):
    kernel, modules = image.unpack_kernel(OLD_KERNEL, directory / "kernel")
    image.write_initramfs(directory / "initramfs", modules)
    disk = build_disk(tools, directory, {"true": ["/bin/true"]}, options, "file:/job")
    machine = start(kernel, directory / "initramfs", disk, options)
    machine.wait_for("done", 120)
    machine.end()
    said = [line for line in machine.lines if line.startswith("said true ")]
    problems = []
    if len(said) != 1 or not re.match(r"said true farswap: .*6\.8", said[0]):
        problems.append(f"not one line that names Linux 6.8: {said}")
    if results_of(machine).get("true", (None,))[0] != 125:
        problems.append(f"exit status {results_of(machine).get('true')} instead of 125")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--ram-mib", type=int, default=512)
    parser.add_argument("--times", type=int, default=4, help="what the programs need, in RAMs of the machine")
    parser.add_argument("--cap", default="60%", help="for farswap run --ram")
    parser.add_argument("--store", choices=["file", "nfs"], default="file")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--old-kernel", action="store_true")
    parser.add_argument("--limit-s", type=int, default=3 * 3600)
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    tools = harness.Tools.of_build(options.build)
    if not tools.farswap.exists():
        sys.exit(f"vm: not built: {tools.farswap}")
    missing = [name for name in ("qemu-system-x86_64", "mke2fs", "depmod", "busybox") if not shutil.which(name)]
    if missing:
        print(f"vm: not installed: {', '.join(missing)}")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-vm-test-", dir=options.directory))
    with contextlib.ExitStack() as options.cleanup:
        options.cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        problems = (old_kernel if options.old_kernel else big_jobs)(tools, directory, options)
    for problem in problems:
        print(f"     - {problem}")
    print(f"{'FAIL' if problems else 'PASS'} vm {'old kernel' if options.old_kernel else 'jobs larger than the machine'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
