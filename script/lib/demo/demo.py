#!/usr/bin/python3
"""Runs each program plainly and under a quarter of its memory, compares the outputs, prints the table.

Usage: demo.py FARSWAP URL DIRECTORY REPORTS       DIRECTORY takes the input and the outputs, REPORTS a page for each run
under farswap. Exits 1 when something differs.
"""
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure  # noqa: E402  (lies one folder up)

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20
CAP_SHARE = 4  # the cap is the plain run's peak divided by this
# The promise: cap plus the larger of 16 MiB and 3% in 99.9% of samples, never above the larger of 64 MiB and 10%.
SLACK_MAX_BYTES, SLACK_MAX_SHARE = 64 * MIB, 0.10
# Same addresses and the same number of threads in both runs, so that only the paging differs.
ENVIRONMENT = dict(os.environ, LC_ALL="C", OPENBLAS_NUM_THREADS="2", PYTHONDONTWRITEBYTECODE="1")

LINES, LINE_BYTES = 180_000, 2000
NUMBERS, MATRIX_SIDE = 48_000_000, 1200
ROWS = 120_000


def programs(directory):
    text = directory / "lines"
    return {
        "GNU sort": ["sort", "--parallel=2", "-S", "600M", "-T", str(directory), str(text)],
        "numpy sort and product": [str(HERE / "matrix.py"), str(NUMBERS), str(MATRIX_SIDE)],
        "SQLite in memory": [str(HERE / "database.py"), str(ROWS)],
    }


@dataclasses.dataclass
class Row:
    name: str
    plain: measure.Run
    far: measure.Run
    cap: int
    stats: dict
    equal: bool

    def good(self):
        slack = max(SLACK_MAX_BYTES, int(self.cap * SLACK_MAX_SHARE))
        return self.equal and self.far.exit_status == 0 and self.far.peak_bytes <= self.cap + slack


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def measured(command, output, **options):
    with open(output, "wb") as file:
        return measure.run(command, file, ENVIRONMENT, **options)


def compare(name, command, farswap, url, directory, reports):
    plain_output, far_output, stats = directory / "plain", directory / "far", directory / "stats.json"
    say(f"{name}: plain")
    plain = measured(command, plain_output)
    if plain.exit_status != 0:
        sys.exit(f"demo: {name} fails without farswap too (status {plain.exit_status})")
    cap = plain.peak_bytes // CAP_SHARE
    say(f"{name}: needs {mib(plain.peak_bytes)}, {plain.seconds:.1f} s; now with {mib(cap)}")
    stats.unlink(missing_ok=True)
    page = reports / f"{name.lower().replace(' ', '-')}.html"
    far = measured([farswap, "run", "--ram", str(cap), "--swap", url, "--stats", str(stats), "--report", str(page), "--",
                    *command], far_output, under_farswap=True)
    equal = sha256(plain_output) == sha256(far_output)
    counts = json.loads(stats.read_text()) if stats.exists() else {}
    say(f"{name}: {far.seconds:.1f} s, output {'equal' if equal else 'DIFFERENT'}, status {far.exit_status}")
    return Row(name, plain, far, cap, counts, equal)


def say(text):
    print(f"demo: {text}", flush=True)


def mib(count):
    return f"{count / MIB:.0f} MiB"


def table(rows):
    head = ["program", "needs", "cap", "peak RAM", "pages out", "pages in", "NFS ops", "plain", "farswap", "output"]
    cells = [head]
    for row in rows:
        cells.append([
            row.name, mib(row.plain.peak_bytes), mib(row.cap), mib(row.far.peak_bytes),
            f"{pages(row.stats, 'evicted'):,}", f"{pages(row.stats, 'in'):,}", f"{nfs_operations(row.stats):,}",
            f"{row.plain.seconds:.1f} s", f"{row.far.seconds:.1f} s", "equal" if row.good() else "FAILED",
        ])
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    for line in cells:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(line, widths))))


def pages(stats, kind):
    return stats.get("pages", {}).get(kind, 0)


def nfs_operations(stats):
    return sum(store[kind] for store in stats.get("stores", []) for kind in ("reads", "writes", "flushes"))


def interrupt(_signal, _frame):
    raise KeyboardInterrupt


def main():
    # Bash starts what runs in the background with SIGINT ignored; script/demo sends SIGTERM.
    signal.signal(signal.SIGTERM, interrupt)
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    farswap, url, directory, reports = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
    if shutil.disk_usage(directory).free < 4 << 30:
        sys.exit(f"demo: {directory} needs 4 GiB of free space; set TMPDIR to a folder with more")
    say("writing the lines to sort")
    with open(directory / "lines", "wb") as file:
        if measure.run([str(HERE / "lines.py"), str(LINES), str(LINE_BYTES)], file).exit_status != 0:
            sys.exit("demo: no input could be written")
    rows = [compare(name, command, farswap, url, directory, reports) for name, command in programs(directory).items()]
    print()
    table(rows)
    sys.exit(0 if all(row.good() for row in rows) else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
