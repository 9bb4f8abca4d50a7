"""Three NFS clients in turn against one nfs-ganesha on loopback: requests that were encoded beforehand (bench/raw_nfs),
libnfs, and farswap's store. Prints a table of ratios within this one run; knows nothing of how the clients work.

  bench_nfs.py --build DIR [--rounds 5] [--seconds 1.0]
"""
import argparse
import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

GANESHA = pathlib.Path(__file__).with_name("ganesha.sh")
FILE_BYTES = 64 << 20
# Operation, bytes, depth.
WORK = [("read", 4096, 1), ("read", 4096, 32), ("read", 65536, 8), ("read", 1 << 20, 4),
        ("write", 4096, 1), ("write", 4096, 32), ("write", 1 << 20, 4)]


class Bench:
    def __init__(self, options, directory):
        self.options, self.build = options, pathlib.Path(options.build).resolve()
        self.export = directory / "export"
        started = subprocess.run([GANESHA, "start", directory / "server", "--export", self.export], check=True,
                                 capture_output=True, text=True)
        self.url = started.stdout.strip()
        self.ports = [re.search(f"{name}=([0-9]+)", self.url).group(1) for name in ("nfsport", "mountport")]
        self.files = 0
        self.make_file(self.export / "file", b"x")

    @staticmethod
    def make_file(path, byte):
        with open(path, "wb") as file:
            for _ in range(FILE_BYTES >> 20):
                file.write(byte * (1 << 20))
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def file_for(self, operation):
        """Writes go to one that nobody has written to since its space was taken and committed, as farswap's is: an older one
        is dirty already, which is other work for the server's disk. The server remembers names, so that each has its own.
        """
        if operation != "write":
            yield "file"
            return
        self.files += 1
        path = self.export / f"new{self.files}"
        self.make_file(path, b"\0")
        try:
            yield path.name
        finally:
            path.unlink()

    def run(self, client, operation, size, depth):
        """Operations a second, and microseconds of CPU time for each."""
        with contextlib.ExitStack() as scope:
            where = [self.url]
            if client != "farswap":
                where = [*self.ports, self.export, scope.enter_context(self.file_for(operation))]
            command = [self.build / f"{client}_nfs", *where, operation, size, depth, self.options.seconds]
            ended = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if ended.returncode != 0:
            sys.exit(f"bench_nfs: {client}: {ended.stderr.strip()}")
        operations, seconds, cpu, *copied = map(float, ended.stdout.splitlines()[0].split())
        if copied and copied[0] != 0:
            sys.exit(f"bench_nfs: farswap copied {copied[0]:.0f} bytes")
        return operations / seconds, cpu

    def rounds(self, clients, operation, size, depth):
        """Each client once a round, in an order that is turned round each time."""
        found = {client: [] for client in clients}
        for number in range(self.options.rounds):
            for client in clients if number % 2 == 0 else reversed(clients):
                found[client].append(self.run(client, operation, size, depth))
            print(".", end="", file=sys.stderr, flush=True)
        return found


def ratio(found, client, base, column):
    """Median and extremes of the rounds' ratios."""
    ratios = sorted(mine[column] / other[column] for mine, other in zip(found[client], found[base]))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def name_of(size):
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def table(bench):
    yield ("| work | depth | raw: per s | CPU us | raw/libnfs: rate | farswap/raw: rate | farswap/libnfs: rate | "
           "farswap/libnfs: CPU | farswap/raw: CPU |")
    yield "|---|---|---|---|---|---|---|---|---|"
    null = bench.rounds(["raw"], "null", 0, 1)["raw"]
    rate, cpu = (statistics.median(values) for values in zip(*null))
    yield f"| NULL | 1 | {rate:.0f} | {cpu:.1f} | | | | | |"
    for operation, size, depth in WORK:
        found = bench.rounds(["raw", "farswap", "libnfs"], operation, size, depth)
        rate, cpu = (statistics.median(values) for values in zip(*found["raw"]))
        yield (f"| {operation} {name_of(size)} | {depth} | {rate:.0f} | {cpu:.1f} | {ratio(found, 'raw', 'libnfs', 0)} | "
               f"{ratio(found, 'farswap', 'raw', 0)} | {ratio(found, 'farswap', 'libnfs', 0)} | "
               f"{ratio(found, 'farswap', 'libnfs', 1)} | {ratio(found, 'farswap', 'raw', 1)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farswap-bench-", dir="/var/tmp") as path:
        directory = pathlib.Path(path)
        bench = Bench(options, directory)
        try:
            for line in table(bench):
                print(line, flush=True)
        finally:
            subprocess.run([GANESHA, "stop", directory / "server"], check=False)
            print(file=sys.stderr)


if __name__ == "__main__":
    main()
