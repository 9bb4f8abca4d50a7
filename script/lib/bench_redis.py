"""redis-server under load that saves again and again (BGSAVE: a child of fork writes what was there, the parent goes on),
under farswap, under the kernel's swap in a memory cgroup of the same size, and plainly, in turn. Each dump is loaded by
another server and compared with what the keys were at the fork. Prints a Markdown table.

  bench_redis.py --build DIR [--keys 60000] [--saves 4] [--rounds 2] [--ram 50,25] [--directory DIR]

A load is a write to each third key and two reads of random ones for each write; it begins when BGSAVE has answered. Only
the server is limited; the client is not. Swap and cgroup are undone, also on errors and Ctrl-C. Ends with 1 when a dump is
not right.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import swap_rivals
from swap_rivals import Unavailable

MIB = 1 << 20
PAGE = 4096
PROGRAM = "/usr/bin/redis-check-rdb"  # the same program by its other name: the package redis-server would start a service
HALF_BYTES = 1000  # of a value: so much is random, and so much is one byte over and over
START_LIMIT_S, SAVE_LIMIT_S, LOAD_LIMIT_S = 120, 900, 900


@dataclasses.dataclass
class Run:
    fill_s: float = 0  # until all keys are there
    saves_s: float = 0  # all the saves with their loads
    fork_ms: float = 0  # the longest that a BGSAVE took to answer
    peak: int = 0  # RAM as the sampler sees it, farswap's own included
    written: int = 0  # to swap or the store; bytes
    read: int = 0
    wrong: int = 0  # dumps


def command(*words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def set_command(key, chance):
    return command("SET", f"key:{key}", chance.randbytes(HALF_BYTES) + b"x" * HALF_BYTES)


class Load:
    """What is sent to every server alike: how the keys are filled, and one load for each save."""

    def __init__(self, directory, keys, saves):
        chance = random.Random(1)
        self.filling = self.write(directory / "filling", (set_command(key, chance) for key in range(keys)))
        self.loads = [self.write(directory / f"load-{number}", self.load(chance, keys, number)) for number in range(saves)]

    @staticmethod
    def load(chance, keys, number):
        for key in range(number % 3, keys, 3):
            yield set_command(key, chance)
            yield command("GET", f"key:{chance.randrange(keys)}") + command("GET", f"key:{chance.randrange(keys)}")

    @staticmethod
    def write(path, commands):
        with open(path, "wb") as file:
            file.writelines(commands)
        return path


class Server:
    """One that listens on a socket in `directory`, where its dumps go as well."""

    def __init__(self, directory, before=(), enter=None, dump="dump.rdb"):
        self.socket = str(directory / "socket")
        pathlib.Path(self.socket).unlink(missing_ok=True)
        words = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", str(directory),
                 "--dbfilename", dump, "--enable-debug-command", "local"]
        # `exec -a`, as whoever comes before the server does not know of its other name.
        self.process = subprocess.Popen([*map(str, before), "bash", "-c", 'exec -a redis-server "$0" "${@:2}"', PROGRAM, *words],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        preexec_fn=enter, start_new_session=True)
        try:
            self.wait_until_it_answers()
        except BaseException:  # a signal, too: nobody else knows of it yet
            self.end()
            raise

    def wait_until_it_answers(self):
        deadline = time.monotonic() + START_LIMIT_S
        while not pathlib.Path(self.socket).is_socket() or self.ask("ping") != "PONG":
            self.need(time.monotonic() < deadline, "does not answer")
            time.sleep(0.02)

    def need(self, condition, what):
        if self.process.poll() is not None:
            said = self.process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"the server ended with {self.process.returncode}: {' '.join(said)}")
        if not condition:
            raise Unavailable(f"the server {what}")

    def ask(self, *words):
        run = subprocess.run(["redis-cli", "-s", self.socket, *words], capture_output=True, check=False, timeout=LOAD_LIMIT_S)
        return run.stdout.decode().strip()

    def play(self, path):
        with open(path, "rb") as file:
            run = subprocess.run(["redis-cli", "-s", self.socket, "--pipe"], stdin=file, capture_output=True, check=False,
                                 timeout=LOAD_LIMIT_S)
        self.need(b"errors: 0," in run.stdout, f"did not take a load: {run.stdout[-100:]!r}")

    def digest(self):
        return self.ask("debug", "digest")

    def save(self, load):
        """Milliseconds until BGSAVE answered; then the load, until both are done."""
        began = time.monotonic()
        answer = self.ask("bgsave")
        fork_ms = (time.monotonic() - began) * 1000
        self.need("started" in answer, f"does not save: {answer}")
        self.play(load)
        deadline = time.monotonic() + SAVE_LIMIT_S
        while "rdb_bgsave_in_progress:0" not in (said := self.ask("info", "persistence")):
            self.need(time.monotonic() < deadline, "does not end its save")
            time.sleep(0.05)
        self.need("rdb_last_bgsave_status:ok" in said, "failed to save")
        return fork_ms

    def end(self):
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ask("shutdown", "nosave")
                self.process.wait(30)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stderr.close()


@contextlib.contextmanager
def server(*arguments, **options):
    running = Server(*arguments, **options)
    try:
        yield running
    finally:
        running.end()


def swapped():
    """Bytes that went to the kernel's swap, and that came from it, since the machine started."""
    counts = dict(line.split() for line in pathlib.Path("/proc/vmstat").read_text().splitlines())
    return int(counts["pswpout"]) * PAGE, int(counts["pswpin"]) * PAGE


class Bench:
    def __init__(self, options, directory):
        build = pathlib.Path(options.build).resolve()
        self.farswap, self.sampler = build / "farswap", build / "ram_sampler"
        self.options, self.directory = options, directory
        self.load = Load(directory, options.keys, options.saves)
        self.dumps = directory / "dumps"
        self.dumps.mkdir()
        self.expected = self.digests()
        self.swap_file = None

    def digests(self):
        """Of the keys before each load, and after the last, as a server without limits has them."""
        found = []
        with server(self.dumps) as reference:
            reference.play(self.load.filling)
            for load in self.load.loads:
                found.append(reference.digest())
                reference.play(load)
            return [*found, reference.digest()]

    def wrong(self):
        """How many dumps do not hold what was there at the fork."""
        wrong = 0
        for number, expected in enumerate(self.expected[:-1]):
            with server(self.dumps, dump=f"{number}.rdb") as loaded:
                wrong += loaded.digest() != expected
            (self.dumps / f"{number}.rdb").unlink()
        return wrong

    def measure(self, sampler, **options):
        run, samples = Run(), self.directory / "samples"
        samples.unlink(missing_ok=True)
        with server(self.dumps, **options) as running:
            watcher = subprocess.Popen([self.sampler, *map(str, sampler), str(running.process.pid), "--json", samples],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            began = time.monotonic()
            running.play(self.load.filling)
            run.fill_s = time.monotonic() - began
            began = time.monotonic()
            for number, load in enumerate(self.load.loads):
                run.fork_ms = max(run.fork_ms, running.save(load))
                (self.dumps / "dump.rdb").rename(self.dumps / f"{number}.rdb")
            run.saves_s = time.monotonic() - began
            run.wrong = int(running.digest() != self.expected[-1])
        watcher.wait(60)
        run.peak = json.loads(samples.read_text())["peak"]
        run.wrong += self.wrong()
        return run

    def plain(self):
        return self.measure(["--interval-ms", 20, "--plain"])

    def under_farswap(self, cap):
        store, stats = self.directory / "store", self.directory / "stats.json"
        store.mkdir(exist_ok=True)
        run = self.measure(["--cap", cap, "--interval-ms", 20, "--pager"], before=[
            self.farswap, "run", "--quiet", "--ram", cap, "--swap", f"file:{store}", "--stats", stats, "--"])
        stores = json.loads(stats.read_text())["stores"]
        run.written, run.read = (sum(each[name] for each in stores) for name in ("written_bytes", "read_bytes"))
        return run

    def under_kernel_swap(self, cap):
        if why := swap_rivals.why_not_here():
            raise Unavailable(why)
        if not self.swap_file:
            self.swap_file = swap_rivals.make_swap_file(self.directory / "swap", 16 * self.options.keys * HALF_BYTES)
        with swap_rivals.in_force(swap_rivals.Swap(self.swap_file), swap_rivals.MemoryCgroup()) as (_, group):
            group.limit(cap)
            before = swapped()
            run = self.measure(["--interval-ms", 20, "--plain"], enter=group.enter)
            run.written, run.read = (after - then for after, then in zip(swapped(), before))
            return run


def spread(values, digits=1):
    values = sorted(values)
    text = f"{statistics.median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({values[0]:.{digits}f}-{values[-1]:.{digits}f})"


def row(name, ram, runs):
    """A line of the table; `runs` may be why there are none."""
    if isinstance(runs, str):
        return f"| {name} | {ram} | {runs} | | | | | | |"
    cells = [spread([run.fill_s for run in runs]), spread([run.saves_s for run in runs]),
             spread([run.fork_ms for run in runs], 0), spread([run.peak / MIB for run in runs], 0),
             spread([run.written / PAGE for run in runs], 0), spread([run.read / PAGE for run in runs], 0),
             str(sum(run.wrong for run in runs))]
    return f"| {name} | {ram} | " + " | ".join(cells) + " |"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def measure_all(bench, options):
    """Each rival once a round, in turned order every second time. By rival and RAM: one run a round, or why there are none."""
    found = {("plain", "all"): [bench.plain()]}
    need = found["plain", "all"][0].peak
    say(f"plain: {found['plain', 'all'][0]}")
    rivals = [(name, percent, function) for percent in options.ram
              for name, function in (("farswap", bench.under_farswap), ("kernel swap", bench.under_kernel_swap))]
    for number in range(options.rounds):
        for name, percent, function in rivals if number % 2 == 0 else reversed(rivals):
            cap = need * percent // 100
            key = (name, f"{percent}%: {cap // MIB} MiB")
            if isinstance(found.setdefault(key, []), str):
                continue
            try:
                found[key].append(function(cap))
                said = found[key][-1]
            except Unavailable as why:
                found[key] = said = str(why)
            say(f"round {number + 1} of {options.rounds}, {name} at {percent}%: {said}")
    return found


def parse():
    parser = argparse.ArgumentParser(prog="script/bench redis", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=int, default=60000, help="values of 2000 bytes")
    parser.add_argument("--saves", type=int, default=4, help="one after the other, each with a load beside it")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ram", default=[50, 25], help="percent of the plain peak",
                        type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--directory", default="/var/tmp", help="where swap file, store and dumps lie")
    return parser.parse_args()


def main():
    options = parse()
    swap_rivals.begin()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="farswap-redis-", dir=options.directory) as directory:
        found = measure_all(Bench(options, pathlib.Path(directory)), options)
    print(f"{options.keys} keys of {2 * HALF_BYTES} bytes, {options.saves} saves, each under a load of {options.keys // 3} "
          f"writes and twice as many reads; rounds: {options.rounds}. Load of the machine at the start {load:.1f}, at the end "
          f"{os.getloadavg()[0]:.1f}.\n")
    print("| | RAM | filled after s | saves and loads s | longest BGSAVE call ms | peak MiB | pages written | "
          "pages read | wrong |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (name, ram), runs in found.items():
        print(row(name, ram, runs))
    return int(any(run.wrong for runs in found.values() if not isinstance(runs, str) for run in runs))


if __name__ == "__main__":
    sys.exit(main())
