"""Cases of bad_input.py: what lies on a store is changed behind farswap's back while the program waits. When it reads on, it must
be stopped before it sees a wrong byte, with one line that names page, slot and store; and what is named must be what was changed.
"""
import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import time

import nbd
from fault_lab import REFUSED, case
from faults import Background, wait_until
from harness import MIB

SEED = 5
PAGE = 4096
LEASE = 4096           # bytes of the owner's record, where a store begins; left alone
SIZE = "48M"           # of the program
STORE_SIZE = "56M"     # so little that what changes takes the places of what was there before
AT_ONCE = 16           # pages changed: some hold nothing any more, or lie in the cache, too
TRIES = 5              # until what was changed is read back
NAMED = re.compile(r"page 0x[0-9a-f]+ of process [0-9]+ (.*): slot [0-9]+ \((.*) at byte ([0-9]+)\); the program was stopped")


def flip(image, _, pages, rng):
    return {page: flipped(image[page], rng.randrange(PAGE * 8)) for page in pages}


def flipped(content, bit):
    content = bytearray(content)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def swap(image, _, pages, __):
    changes = {}
    for one, other in zip(pages[::2], pages[1::2]):
        changes[one], changes[other] = image[other], image[one]
    return changes


def replay(image, older, pages, _):
    return {page: older[page] for page in pages if page in older and older[page] != image[page]}


def zero(_, __, pages, ___):
    return {page: bytes(PAGE) for page in pages}


def truncate(image, _, pages, rng):
    """The second half or more is gone; read as zeros."""
    start = sorted(image)[rng.randrange(len(image) // 4, len(image) // 2)]
    return {page: bytes(PAGE) for page in image if page >= start}


def roll_back(image, older, _, __):
    return {page: older.get(page, bytes(PAGE)) for page in image if older.get(page) != image[page]}


HOWS = {"flip": flip, "swap": swap, "replay": replay, "zero": zero, "truncate": truncate, "rollback": roll_back}


def read_image(path):
    """Page number to content, of the pages that hold something; a page is counted from the owner's record on."""
    image = {}
    with open(path, "rb") as file:
        file.seek(LEASE)
        number = 0
        while block := file.read(MIB):
            for at in range(0, len(block), PAGE):
                content = block[at:at + PAGE]
                if content.count(0) != len(content):
                    image[number + at // PAGE] = content
            number += len(block) // PAGE
    return image


def write_pages(path, changes):
    with open(path, "r+b") as file:
        for page, content in changes.items():
            os.pwrite(file.fileno(), content, LEASE + page * PAGE)
        os.fsync(file.fileno())


@dataclasses.dataclass
class Place:
    """A store that many jobs use in turn."""
    name: str
    url: str
    directory: pathlib.Path   # where the job's file appears
    image: pathlib.Path = None

    def file(self):
        return self.image or next(iter(sorted(path for path in self.directory.iterdir() if path.is_file())))


def places(lab):
    server = lab.server()
    image = nbd.image(lab)
    kit = nbd.Nbdkit(lab, "file", image)
    return [Place("file", lab.file_url(f"?size={STORE_SIZE}"), lab.store),
            Place("nbd", f"{kit.url}&size={STORE_SIZE}", image, image),
            Place("nfs", f"{server.url}&size={STORE_SIZE}", server.store_directory())]


class Reread:
    """The program under farswap, and the byte that lets it go on."""

    def __init__(self, lab, place, flags):
        self.lab, self.place = lab, place
        stdin, self.go = os.pipe()
        self.job = Background(lab, place.url, lab.tools.workloads / "reread", SIZE, ram="24M", flags=["--quiet", *flags],
                              limit_s=240, stdin=stdin)
        self.stdin = stdin
        self.run = None

    def says(self, word):
        output = self.lab.directory / f"run{self.lab.runs}"

        def said():
            return not self.job.thread.is_alive() or (output.exists() and word in output.read_text())
        return wait_until(said, 200) and word in output.read_text()

    def go_on(self):
        os.write(self.go, b".")

    def end(self):
        """Returns the ended run."""
        if self.run is None:
            with contextlib.suppress(OSError):
                os.close(self.go)
            self.run = self.job.end()
            os.close(self.stdin)
        return self.run


def tamper(lab, place, how, rng, flags=()):
    """One program, one tampering: "refused", "not read" (the program ended well, without what was changed) or "missed"."""
    work = Reread(lab, place, flags)
    try:
        if not work.says("filled"):
            return "broken", f"does not start: {work.end().error}"
        older = read_image(place.file())
        work.go_on()
        if not work.says("changed"):
            return "broken", f"does not go on: {work.end().error}"
        image = read_image(place.file())
        pages = sorted(image) if how != "replay" else sorted(page for page in image if older.get(page, image[page]) != image[page])
        changes = HOWS[how](image, older, rng.sample(pages, min(AT_ONCE, len(pages))), rng)
        changes = {page: content for page, content in changes.items() if content != image[page]}
        if not changes:
            return "not read", "nothing to change"
        write_pages(place.file(), changes)
        work.go_on()
        return verdict(work.end(), place, changes)
    finally:
        work.end()


def verdict(run, place, changes):
    lines = run.error.splitlines()
    if run.status == 0 and "right" in run.output.read_text():
        return "not read", ""
    named = NAMED.search(run.error)
    if run.status != REFUSED or len(lines) != 1 or not named:
        return "missed", f"exit status {run.status}, {len(lines)} lines: {run.error}"
    # A record may end in the block behind.
    if not {int(named[3]) // PAGE, (int(named[3]) + PAGE - 1) // PAGE} & changes.keys():
        return "missed", f"names what nobody has changed: {lines[0]}"
    if named[2].partition("?")[0] != place.url.partition("?")[0]:
        return "missed", f"names another store: {lines[0]}"
    if run.left:
        return "missed", f"left running: {run.left}"
    return "refused", lines[0]


def many(lab, rounds, flags=(), hows=tuple(HOWS), only=("file", "nbd", "nfs")):
    """Every kind on every store, `rounds` times; what was not read back is tried anew. Returns the counts by store and kind."""
    rng = random.Random(SEED)
    counts = collections.Counter()
    said = {}
    started = time.monotonic()
    chosen = [(place, how) for place in places(lab) if place.name in only for how in hows]
    for _ in range(rounds):
        for place, how in chosen:
            for _ in range(TRIES):
                outcome, text = tamper(lab, place, how, rng, flags)
                counts[place.name, how, outcome] += 1
                if outcome != "not read":
                    break
            said[place.name] = text
            lab.expect(outcome == "refused", f"{how} on {place.name}: {outcome}: {text}")
        report(lab, counts, said, time.monotonic() - started)
    return counts


def report(lab, counts, said, seconds):
    folder = lab.tools.farswap.parent / "e2e" / "tampering"
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted({key[:2] for key in counts})
    lines = ["| store | tampering | programs | stopped | without what was changed | missed |", "|---|---|---:|---:|---:|---:|"]
    for store, how in rows:
        of = {outcome: counts[store, how, outcome] for outcome in ("refused", "not read", "missed", "broken")}
        lines.append(f"| {store} | {how} | {sum(of.values())} | {of['refused']} | {of['not read']} | {of['missed'] + of['broken']} |")
    total = sum(count for key, count in counts.items() if key[2] == "refused")
    lines += ["", f"{total} stopped, in {seconds:.0f} s. What was said, for example:", "", "```",
              *said.values(), "```"]
    (folder / "tampering.md").write_text("\n".join(lines) + "\n")


@case
def tampered_with_once_each(lab):
    many(lab, 1)


@case
def tampered_with_300_times(lab):
    many(lab, 17)   # of 6 kinds on 3 stores


@case
def tampered_with_without_seals(lab):
    """The checksum is kept here, and keyed: it knows what is older, too."""
    many(lab, 1, flags=["--seal", "off"], hows=("flip", "replay", "rollback"), only=("file",))
