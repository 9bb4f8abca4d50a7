"""Cases of bad_input.py about farswap bench: what it prints of stores of every kind, on a terminal and elsewhere, and how it ends
where there is nothing to measure, or no longer.
"""
import json
import os
import pty
import re
import signal
import subprocess
import threading

import harness
from durability import by_version
from fault_lab import USAGE, case
from faults import wait_until
from nbd import Nbdkit, image

SIZES = [4096, 16384, 65536, 262144, 1 << 20]
DEPTHS = [1, 2, 4, 8, 16, 32]
NAMES = ["4.0 KiB", "16 KiB", "64 KiB", "256 KiB", "1.0 MiB"]
FAILED = 1
BRIEF = ("--size", "16M", "--seconds", "0.01")
ENDS_S = 60  # far more than it takes


def expect_cells(lab, store):
    """All sizes and depths, and figures that can be: as many transfers as fit into the time at that latency."""
    name, cells = store["store"], store["cells"]
    found = [(cell["operation"], cell["size_bytes"], cell["depth"]) for cell in cells]
    wanted = [(operation, size, depth) for operation in ("read", "write") for size in SIZES for depth in DEPTHS]
    lab.expect(found == wanted, f"{name}: cells {found}")
    for cell in cells:
        moved = cell["transfers"] * cell["size_bytes"]
        good = cell["transfers"] >= 1 and 0.01 <= cell["seconds"] < ENDS_S
        good &= abs(cell["bytes_per_second"] * cell["seconds"] - moved) <= moved / 1000
        good &= 1 <= cell["p50_us"] <= cell["p99_us"] <= cell["seconds"] * 1e6
        # At least half of them took the median or longer, and no more than `depth` were under way.
        good &= cell["transfers"] / 2 * cell["p50_us"] <= cell["depth"] * cell["seconds"] * 1e6
        lab.expect(good, f"{name}: this cannot be: {cell}")


def expect_table(lab, text, null):
    lines = text.splitlines()
    lab.expect(("calls that ask for nothing: median" in lines[1]) == null, f"{lines[0]}: NULL calls: {lines[1]}")
    rows = [re.match(r" +([0-9.]+ [KM]iB)((?: +[0-9.]+ MiB/s){6})$", line) for line in lines]
    lab.expect([row.group(1) for row in rows if row] == 2 * NAMES, f"{lines[0]}: rows {[row.group(1) for row in rows if row]}")
    for words, count in (("depth", 2), ("median", 10), ("99%", 10)):
        of_these = [line.split() for line in lines if line.split()[:1] == [words]]
        cells = 6 if words == "depth" else 12  # a figure and its unit
        good = len(of_these) == count and all(len(line) == 1 + cells for line in of_these)
        lab.expect(good, f"{lines[0]}: {words}: {of_these}")
        if words == "depth":
            lab.expect(all(line[1:] == list(map(str, DEPTHS)) for line in of_these), f"{lines[0]}: {of_these}")


@case
def bench_of_every_kind(lab):
    server, nbd, figures = lab.server(), Nbdkit(lab, "file", image(lab)), lab.directory / "figures.json"
    urls = [lab.file_url(), by_version(server, 3), by_version(server, 4), nbd.url]
    run = lab.farswap("bench", *BRIEF, "--json", figures, *urls)
    lab.expect(run.status == 0 and run.error == "", f"exit status {run.status}: {run.error!r}")
    lab.expect_nothing_left(run, lab.store, server.store_directory())
    tables, stores = re.split(r"\n(?=\S+, 16 MiB of it\n)", run.output.read_text()), json.loads(figures.read_text())
    if not lab.expect(len(tables) == len(stores) == 4, f"{len(tables)} tables and {len(stores)} objects of four stores"):
        return
    for url, text, store in zip(urls, tables, stores):
        is_nfs = url.startswith("nfs:")
        lab.expect(url.startswith(store["store"]) and store["bytes"] == 16 << 20, f"{store['store']}, {store['bytes']} of {url}")
        lab.expect(text.startswith(f"{store['store']}, 16 MiB of it\n"), f"the table begins with {text[:100]!r}")
        expect_table(lab, text, is_nfs)
        expect_cells(lab, store)
        null = store["null"]
        good = 1 <= null["p50_us"] <= null["p99_us"] < 5e6 if is_nfs and null else null is None and not is_nfs
        lab.expect(good, f"{url}: null: {null}")
    # An export has no file that could be removed: the next job has it without waiting for a lease to end.
    run = lab.job(nbd.url, "true", flags=["--quiet"])
    lab.expect(run.status == 0 and run.error == "", f"the export is not free: {run.error}")


class OnTerminal:
    """farswap bench, whose standard error is a terminal."""

    def __init__(self, lab, *arguments):
        self.shown, (terminal, end) = "", pty.openpty()
        self.process = subprocess.Popen([lab.tools.farswap, "bench", *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=end)
        os.close(end)
        lab.cleanup.callback(self.process.kill)
        self.reader = threading.Thread(target=self.read, args=(terminal,))
        self.reader.start()

    def read(self, terminal):
        with open(terminal, "rb", buffering=0) as file:
            try:
                while some := file.read(4096):
                    self.shown += some.decode()
            except OSError:  # EIO: nobody has the other end any more
                pass

    def shows(self, words):
        return wait_until(lambda: words in self.shown or self.process.poll() is not None, ENDS_S) and words in self.shown

    def end(self):
        """Its status, and its lines once all that is drawn over is gone."""
        status = self.process.wait(ENDS_S)
        self.reader.join()
        return status, [line.rpartition("\x1b[K")[2] for line in self.shown.replace("\r\n", "\n").split("\n")]


@case
def bench_on_a_terminal(lab):
    """A bar that grows with each figure, and is gone at the end."""
    bench = OnTerminal(lab, *BRIEF, lab.file_url())
    status, lines = bench.end()
    lab.expect(status == 0 and lines == [""], f"exit status {status}, left on the terminal: {lines}")
    bars = re.findall(r"\[(#*)(\.*)\] (read|write) ([0-9]+) KiB, ([0-9]+) at a time", bench.shown)
    lab.expect([(word, int(kib) << 10, int(depth)) for _, _, word, kib, depth in bars] ==
               [(word, size, depth) for word in ("read", "write") for size in SIZES for depth in DEPTHS], f"it showed {bars}")
    full = [len(done) for done, _, *_ in bars]
    lab.expect(full == sorted(full) and full[:1] == [0] and full[-1:] == [29] and {len(a) + len(b) for a, b, *_ in bars} == {30},
               f"the bar: {full}")


@case
def bench_that_makes_no_sense(lab):
    for seconds in ("0", "-1", "nan", "inf", "1e99", "601", "banana", ""):
        lab.expect_refusal(lab.farswap("bench", lab.file_url(), "--seconds", seconds), USAGE, "--seconds")
    for size in ("4K", "0", "banana", "-1"):
        lab.expect_refusal(lab.farswap("bench", lab.file_url(), f"--size={size}"), USAGE, "--size")
    lab.expect_refusal(lab.farswap("bench", "ftp://127.0.0.1/x"), USAGE, "ftp")
    lab.expect_refusal(lab.farswap("bench", "--json", lab.directory / "no" / "f", lab.file_url()), FAILED, "no/f")
    lab.expect_refusal(lab.farswap("bench", "--size", "99T", lab.file_url("?size=512K")), USAGE, "size")


@case
def bench_of_what_refuses(lab):
    """One line for each; the others are measured all the same."""
    read_only = Nbdkit(lab, "-r", "memory", "64M")
    for url, words in (("file:/dev/shm", "tmpfs|memory|RAM"), (f"file:{lab.directory}/no/such", "no/such"),
                       (read_only.url, "read-only"), ("nfs://127.0.0.1/export?version=3&nfsport=1&mountport=1", "127.0.0.1")):
        lab.expect_refusal(lab.farswap("bench", url), FAILED, words)
    figures = lab.directory / "figures.json"
    run = lab.farswap("bench", *BRIEF, "--json", figures, read_only.url, lab.file_url())
    good = run.status == FAILED and run.error.count("\n") == 1 and "read-only" in run.error
    lab.expect(good, f"status {run.status}: {run.error!r}")
    measured = [store["store"] for store in json.loads(figures.read_text())]
    lab.expect(measured == [lab.file_url()], f"figures of {measured}")
    lab.expect_nothing_left(run)


def expect_end_of_bench(lab, bench, *words):
    """A line that says each of `words`, status 1, and no bar left over."""
    status, lines = bench.end()
    lab.expect(status == FAILED, f"exit status {status}: {lines}")
    said = [line for line in lines if line]
    lab.expect(all(line.startswith("farswap: ") for line in said), f"left on the terminal: {said}")
    for word in words:
        lab.expect(any(re.search(word, line) for line in said), f"does not say '{word}': {said}")


@case
def bench_that_is_interrupted(lab):
    """Nothing is left behind; where the server has just gone it is not waited for either."""
    bench = OnTerminal(lab, lab.file_url())
    lab.expect(bench.shows("] read 16 KiB"), f"no reads: {bench.shown!r}")
    bench.process.send_signal(signal.SIGINT)
    expect_end_of_bench(lab, bench, f"{re.escape(lab.file_url())}: interrupted")
    lab.expect(not harness.listing(lab.store), f"left in the store: {harness.listing(lab.store)}")
    server = lab.server()
    bench = OnTerminal(lab, "--size", "16M", "--seconds", "5", server.url)
    lab.expect(bench.shows("] read 4 KiB"), f"no reads: {bench.shown!r}")
    subprocess.run([harness.GANESHA, "kill", server.directory], check=True)
    bench.process.send_signal(signal.SIGINT)
    # Its 30 s for a transfer would be over long after this.
    lab.expect(wait_until(lambda: bench.process.poll() is not None, 20), "the server that is gone is waited for")
    expect_end_of_bench(lab, bench, "interrupted", "`farswap check --clean` removes it later")
    subprocess.run([harness.GANESHA, "restart", server.directory], check=True)
    lab.farswap("check", "--clean", "--yes", server.url)
    left = harness.listing(server.store_directory())
    lab.expect(not left, f"check --clean left {left}")


@case
def bench_of_a_disk_that_breaks(lab):
    """Every request fails from then on."""
    broken = lab.directory / "broken"
    nbd = Nbdkit(lab, "--filter=error", "file", image(lab), "error=EIO", "error-rate=100%", f"error-file={broken}")
    bench = OnTerminal(lab, "--size", "16M", "--seconds", "0.1", nbd.url)
    lab.expect(bench.shows("] read 16 KiB"), f"no reads: {bench.shown!r}")
    broken.touch()
    expect_end_of_bench(lab, bench, r"nbd\+unix:.*: cannot read: Input/output error")
