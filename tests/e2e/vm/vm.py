#!/usr/bin/python3
"""Jobs larger than the machine: in a virtual machine with little RAM, Debian's 6.12 kernel and no swap, programs that
need several times its RAM must finish with the output that they give here, and without an OOM kill.

  vm.py --build DIR [--ram-mib 512] [--times 4] [--store file|nfs] [--only sort,numpy,sqlite] [--report DIR]
  vm.py --build DIR --old-kernel       Debian 12's 6.1 must be refused with one clear line

Needs qemu-system-x86, busybox-static, e2fsprogs, kmod and apt's archive for the kernel. Uses KVM where it works, else TCG,
which is ten to thirty times slower. The jobs are made for that: their work for each byte is small, and they go through
their memory mostly in order.
"""
import argparse
import contextlib
import os
import pathlib
import re
import shlex
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
import verdict  # noqa: E402
from harness import MIB  # noqa: E402

KERNEL, OLD_KERNEL = "linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"
BOOT_LIMIT_S = {"kvm": 20, "tcg": 240}
# Two emulated processors on a busy host wait for each other in spin locks: five times slower than one.
PROCESSORS = {"kvm": "2", "tcg": "1"}
# Without "fast" string instructions, which an emulation does byte by byte.
CPU = {"kvm": "host,-arch-capabilities", "tcg": "max,la57=off,erms=off,fsrm=off"}
COMMAND_LINE = "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 tsc=reliable nowatchdog"
LINE_BYTES = 1 << 20  # of sort's input: each line is compared by its head, and written as a whole
ROW_BYTES = 102400    # of SQLite's table; in memory they take a fifth more
ENVIRONMENT = dict(os.environ, LC_ALL="C", OPENBLAS_NUM_THREADS="1")


def sqlite_script(rows):
    """Every byte of a row follows from its number and its place, and is compared with that in SQL."""
    expected = "replace(pattern, '#', printf('%08x', id * 7919)) || iif(id % 50 = 0, '!', '')"
    return f"""
CREATE TABLE patterns(pattern TEXT);
WITH RECURSIVE p(j) AS (SELECT 1 UNION ALL SELECT j + 1 FROM p WHERE j < {ROW_BYTES // 64})
INSERT INTO patterns SELECT group_concat(printf('%056x#', j), '') FROM p;
CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, v TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO t SELECT i, (i * 2654435761) % 4294967296, replace(pattern, '#', printf('%08x', i * 7919)) FROM n, patterns;
CREATE INDEX t_k ON t(k);
UPDATE t SET v = v || '!' WHERE id % 50 = 0;
SELECT count(*), sum(k), sum(v = {expected}) FROM t, patterns;
SELECT sum(id), sum(length(v)) FROM (SELECT id, v FROM t ORDER BY k LIMIT 200);
DELETE FROM t WHERE id % 10 = 3;
PRAGMA integrity_check;
SELECT count(*), sum(id) FROM t;
"""


def jobs(need):
    """Name and words of programs that need that many bytes at least. The paths are those inside the machine."""
    return {
        "sort": ["sort", "--parallel=2", "-S", str(need * 2), "-T", "/job", "/job/lines"],
        "numpy": ["/usr/bin/python3", "/job/numeric.py", "blocks", str(need // 8)],
        "sqlite": ["sqlite3", ":memory:", ".read /job/rows.sql"],
    }


def make_inputs(need, names, directory):
    if "sort" in names:
        inputs.lines(need, directory / "lines", width=LINE_BYTES)
    if "sqlite" in names:
        (directory / "rows.sql").write_text(sqlite_script(int(need * 0.9) // ROW_BYTES))
    shutil.copy(HERE.parent / "real" / "numeric.py", directory / "numeric.py")


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
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", accelerator, "-cpu", CPU[accelerator], "-smp", PROCESSORS[accelerator],
             "-m", str(ram_mib), "-nographic", "-no-reboot", "-kernel", kernel, "-initrd", initramfs, *network,
             "-object", "iothread,id=disk", "-drive", f"file={disk},format=raw,if=none,id=job,cache=unsafe",
             "-device", "virtio-blk-pci,drive=job,iothread=disk", "-append", COMMAND_LINE],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").strip()
            self.log.append(line)
            if "VM: " in line:
                self.lines.append(line[line.index("VM: ") + 4:])
                if not self.lines[-1].startswith("stats"):
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
    for name in ("lines", "rows.sql", "numeric.py"):
        if (directory / name).exists():
            os.link(directory / name, directory / "root" / "job" / name)
    network = "10.0.2.15/24" if options.store == "nfs" else ""
    (directory / "root" / "farswap-options").write_text(
        f"NET='{network}'\nOPTIONS='--ram {options.cap} --overcommit --swap {url}'\n")
    (directory / "root" / "tests").write_text("".join(f"{name}|{shlex.join(words)}\n" for name, words in rows.items()))
    init = directory / "root" / "init"
    shutil.copy(HERE / "guest.sh", init)
    init.chmod(0o755)
    need_mib = int(options.ram_mib * options.times)
    root.make_image(directory / "disk.img", 3 * need_mib + 2048)
    shutil.rmtree(directory / "root")
    return directory / "disk.img"


def big_jobs(tools, directory, options):
    need, machine_ram = int(options.ram_mib * options.times) * MIB, options.ram_mib * MIB
    rows = {name: words for name, words in jobs(need).items() if not options.only or name in options.only}
    make_inputs(need, rows, directory)
    wanted = []
    for name, words in rows.items():
        wanted.append(verdict.Job(name, *run_here(words, directory)))
        print(f"vm: {name} runs here in {wanted[-1].plain_s:.1f} s", flush=True)
    server = harness.NfsServer(directory / "nfs") if options.store == "nfs" else None
    try:
        url = server.url.replace("127.0.0.1", "10.0.2.2") if server else "file:/job"
        kernel, modules = image.unpack_kernel(KERNEL, directory / "kernel")
        image.write_initramfs(directory / "initramfs", modules)
        machine = start(kernel, directory / "initramfs", build_disk(tools, directory, rows, options, url), options)
        if not machine.wait_for("done", options.limit_s):
            print("vm: it did not come to its end; its last words:\n" + "\n".join(machine.log[-25:]), flush=True)
        machine.end()
    finally:
        if server:
            server.stop()
    problems = verdict.judge(wanted, machine.lines, need, machine_ram)
    text = verdict.table(wanted, machine.lines, machine_ram)
    print(text, flush=True)
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "e2e.md").write_text(text)
    return problems


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
    if not any(line.startswith("result true 125 ") for line in machine.lines):
        problems.append("the exit status is not 125")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--ram-mib", type=int, default=512)
    parser.add_argument("--times", type=float, default=4, help="what the programs need, in RAMs of the machine")
    parser.add_argument("--cap", default="90%", help="for farswap run --ram; 90%% is what it takes by itself")
    parser.add_argument("--store", choices=["file", "nfs"], default="file")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--old-kernel", action="store_true")
    parser.add_argument("--limit-s", type=int, default=5400)
    parser.add_argument("--report", type=pathlib.Path, help="a directory for the table, as e2e.md")
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
