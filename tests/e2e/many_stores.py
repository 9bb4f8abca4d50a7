"""Cases of bad_input.py with several stores: priorities and sizes, and mirrors whose halves come and go."""
import concurrent.futures
import subprocess

import harness
from fault_lab import USAGE, case
from faults import store_file, wait_until
from harness import MIB

# Every page says which it is and how often it was written; all are read and written again until the file `stop` appears.
# What is printed at the end depends on the first only.
SWEEPER = """
import hashlib, os, struct, sys
size, stop, progress = int(sys.argv[1]) << 20, sys.argv[2], sys.argv[3]
memory = bytearray(size)
pages = range(0, size, 4096)
for at in pages: memory[at + 8:at + 40] = hashlib.sha256(b"%d" % at).digest()
rounds = 0
while not os.path.exists(stop) or rounds < 2:
    for at in pages:
        if struct.unpack_from("Q", memory, at)[0] != rounds: sys.exit("WRONG BYTE at %d" % at)
        if memory[at + 8:at + 40] != hashlib.sha256(b"%d" % at).digest(): sys.exit("WRONG BYTE at %d" % at)
        struct.pack_into("Q", memory, at, rounds + 1)
    rounds += 1
    with open(progress, "w") as file: file.write(str(rounds))
digest = hashlib.sha256()
for at in pages: digest.update(memory[at + 8:at + 4096])
print(digest.hexdigest())
"""

HANG_S = 600  # without a sign of life; what is waited for takes seconds, on a busy machine minutes


class Sweep:
    """The program under farswap in the background, over `urls`."""

    def __init__(self, lab, urls, *flags, size=128, ram="48M"):
        self.lab, self.size = lab, size
        self.stop_file, self.progress = lab.directory / "stop", lab.directory / "progress"
        self.stop_file.unlink(missing_ok=True)
        self.progress.unlink(missing_ok=True)
        self.stats = lab.directory / "stats.json"
        self.output = lab.output()
        words = [lab.tools.farswap, "run", "--ram", ram, "--stats", self.stats, *flags]
        for url in urls:
            words += ["--swap", url]
        self.words = [str(word) for word in [*words, "--", *self.program()]]
        self.background = None

    def program(self):
        return [harness.PYTHON, "-c", SWEEPER, str(self.size), str(self.stop_file), str(self.progress)]

    def start(self):
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.background = pool.submit(harness.run, self.words, self.output, limit_s=3 * HANG_S, cwd=self.lab.directory)

    def said(self, words, limit_s=HANG_S):
        """Waits until farswap has said the words; fails the case otherwise, unless the job has ended."""
        path = self.output.with_name(self.output.name + ".err")

        def there():
            return self.background.done() or (path.exists() and words in path.read_text(errors="replace"))
        wait_until(there, limit_s)
        text = path.read_text(errors="replace") if path.exists() else ""
        return self.lab.expect(words in text, f"did not say '{words}', but: {text.splitlines()[-4:]}")

    def rounds(self):
        try:
            return int(self.progress.read_text() or 0)
        except (OSError, ValueError):
            return 0

    def one_round_more(self):
        now = self.rounds()
        wait_until(lambda: self.background.done() or self.rounds() > now + 1, HANG_S)
        self.lab.expect(self.rounds() > now + 1, "the program stands still")

    def end(self):
        self.stop_file.touch()
        run = self.background.result()
        plain = harness.run(self.program(), self.lab.output(), limit_s=120)
        self.lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
        self.lab.expect(run.digest() == plain.digest(), "the output differs from a plain run's")
        return run

    def stores(self):
        return harness.read_stats(self.stats).get("stores", [])


def written(stores):
    return [store["written_bytes"] // MIB for store in stores]


@case
def high_priority_first_and_the_overflow_below(lab):
    """A small store of high priority gets full, and the rest goes to the one below; a second one of that is not touched."""
    directories = [lab.directory / name for name in ("low", "high", "lowest")]
    for directory in directories:
        directory.mkdir()
    low, high, lowest = directories
    # As long as they are: compressed, all pages find room in the small one.
    sweep = Sweep(lab, [f"file:{low}?prio=3", f"file:{high}?prio=7&size=32M", f"file:{lowest}"], "--compress", "off")
    sweep.stop_file.touch()
    sweep.start()
    sweep.end()
    stores = sweep.stores()
    lab.expect(len(stores) == 3 and written(stores)[0] > 16 and written(stores)[1] > 16, f"written: {written(stores)} MiB")
    lab.expect(len(stores) == 3 and written(stores)[2] == 0, f"the lowest was used: {written(stores)} MiB")
    lab.expect(stores and stores[1]["reserved_bytes"] <= 32 * MIB, "the size was overstepped")
    lab.expect(not any(harness.listing(directory) for directory in directories), "something was left behind")


@case
def equal_priorities_stripe(lab):
    directories = [lab.directory / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    for query in ("", "?prio=5"):
        sweep = Sweep(lab, [f"file:{directory}{query}" for directory in directories])
        sweep.stop_file.touch()
        sweep.start()
        sweep.end()
        amounts = [store["written_bytes"] for store in sweep.stores()]
        lab.expect(len(amounts) == 2 and min(amounts) * 2 > max(amounts) > 0, f"not in turn: {amounts}")


@case
def many_stores_that_make_no_sense(lab):
    for urls, flags, words in (
            (["file:{}?prio=40000"], [], "prio=40000 has to be a number from 0 to 32767"),
            (["file:{}?prio=1&prio=2"], [], "'prio' is given twice"),
            (["file:{}"], ["--mirror", "2"], "two by two"),
            (["file:{}", "file:{}"], ["--mirror", "2"], "cannot mirror itself"),
            (["file:{}?prio=1", "file:{}?prio=2"], ["--mirror", "2"], "the same prio="),
            (["file:{}", "file:{}?size=1G"], ["--mirror", "3"], "--mirror")):
        words_of = [word for url in urls for word in ("--swap", url.format(lab.store))]
        run = lab.farswap("run", "--ram", "64M", *flags, *words_of, "--", "true")
        lab.expect_refusal(run, USAGE, words)


@case
def mirror_survives_either_server(lab):
    """One server is killed and comes back; when all is copied to it, the other one is killed for good."""
    first, second = (lab.cleanup.enter_context(harness.NfsServer(lab.directory / name)) for name in ("first", "second"))
    first_name, second_name = (server.url.partition("?")[0] for server in (first, second))
    sweep = Sweep(lab, [first.url, second.url], "--mirror", "2")
    sweep.start()
    for one in (first, second):
        lab.expect(store_file(one.store_directory()) is not None, f"nothing was written to {one.directory.name}")
    subprocess.run([harness.GANESHA, "kill", first.directory], check=True)
    if sweep.said(f"mirror: lost {first_name}"):
        sweep.one_round_more()
        subprocess.run([harness.GANESHA, "restart", first.directory], check=True)
        if sweep.said(f"mirror: {first_name} is complete again"):
            subprocess.run([harness.GANESHA, "kill", second.directory], check=True)
            if sweep.said(f"mirror: lost {second_name}"):
                sweep.one_round_more()
    run = sweep.end()
    lab.expect(not run.left, f"left running: {run.left}")
    stores = sweep.stores()
    lab.expect(len(stores) == 1 and stores[0]["name"].startswith("mirror("), f"stores: {stores}")
    left = harness.listing(first.store_directory())
    lab.expect(not left, f"left on the first server: {left}")


@case
def mirror_serves_what_one_half_has_changed(lab):
    """All that one file holds is overwritten behind farswap's back: every page comes from the other."""
    directories = [lab.directory / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    sweep = Sweep(lab, [f"file:{directory}" for directory in directories], "--mirror", "2", "--quiet")
    sweep.start()
    path = store_file(directories[0])
    if lab.expect(path is not None, "nothing was written to the store"):
        with open(path, "r+b") as file:
            for offset in range(MIB, path.stat().st_size, MIB):
                file.seek(offset)
                file.write(bytes(MIB))
    sweep.one_round_more()
    sweep.end()


@case
def mirror_under_chaos(lab):
    """Pages leave at random places, over two halves that are slow, fail and forget, each in its own way and at its own time."""
    directories = [lab.directory / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    # Without the tier: the cap leaves so much memory to compressed pages that none would go to a store.
    sweep = Sweep(lab, [f"file:{directory}" for directory in directories], "--mirror", "2", "--chaos", "20000", "--pool", "4M",
                  "--cache-tier", "off", size=64, ram="128M")
    sweep.start()
    for _ in range(30):
        sweep.one_round_more()
    sweep.end()
    stores, pages = sweep.stores(), harness.read_stats(sweep.stats).get("pages", {})
    lab.expect(len(stores) == 1 and stores[0]["name"].startswith("mirror("), f"stores: {stores}")
    lab.expect(pages.get("in", 0) > 5000, f"few pages came back: {pages}")
    lab.expect(not any(harness.listing(directory) for directory in directories), "something was left behind")
