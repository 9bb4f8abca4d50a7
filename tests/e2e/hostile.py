"""Cases of bad_input.py: NFSv3 servers that answer the control plane (mount, look up, create, list, ...) with what no server
should. Whatever it is, the process that asked ends by itself, and soon, and small."""
import concurrent.futures
import os
import random
import socket
import struct
import subprocess
import threading

from fault_lab import case

MOUNT, NFS = 100005, 100003
LAST_FRAGMENT = 0x80000000
RUN_S_MAX = 120           # of one run, the deadlines of calls that are not answered included
QUIET_S = 0.3             # a connection over which nothing comes any more is closed, as by a server that gives up
MEMORY_MAX_KB = 300 << 10
SIZES = [0, 1, 2, 3, 4, 63, 64, 65, 255, 4096, 0x40000001, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff]
JOB_FILE = b"farswap-1-000000000000000a"


def words(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


def opaque(data):
    return words(len(data)) + data + bytes(-len(data) % 4)


def attributes(directory=False, size=1 << 20):
    return (words(2 if directory else 1, 0o755, 2, 0, 0) + struct.pack(">QQ", size, size) + words(0, 0)
            + struct.pack(">QQ", 1, 2) + bytes(24))


def entries(names, first=2):
    return b"".join(words(1) + struct.pack(">Q", i) + opaque(name) + struct.pack(">Q", i)
                    for i, name in enumerate(names, first))


class Server:
    """A directory with one file of a job's in it, by NFSv3 and MOUNT on one port. `change(call, body)` makes of the body of a
    reply, from the number on, what is sent; calls are counted from 0, those over the data path's connections not among them."""

    def __init__(self, change):
        self.change = change
        self.calls, self.file, self.lock = 0, bytearray(), threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        port = self.socket.getsockname()[1]
        self.url = f"nfs://127.0.0.1/srv?version=3&nfsport={port}&mountport={port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        # The control plane begins with a NULL call; the data path does not.
        control, changed = None, False
        with connection, connection.makefile("rb") as stream:
            try:
                while len(mark := stream.read(4)) == 4:
                    call = stream.read(struct.unpack(">I", mark)[0] & ~LAST_FRAGMENT)
                    xid, _, _, program, _, procedure = struct.unpack(">6I", call[:24])
                    control = procedure == 0 if control is None else control
                    body = words(xid, 1, 0, 0, 0, 0) + self.answer(program, procedure, call)
                    with self.lock:
                        number, self.calls = self.calls, self.calls + control
                    sent = self.change(number, body) if control else body
                    if sent != body:
                        changed = True
                    connection.sendall(words(len(sent) | LAST_FRAGMENT) + sent)
                    if changed:
                        connection.settimeout(QUIET_S)
            except OSError:
                pass

    def answer(self, program, procedure, call):
        if program == MOUNT:
            return words(0) + opaque(b"the root") + words(2, 1, 6) if procedure == 1 else b""
        here = words(1) + attributes(directory=True)
        file = words(1) + attributes(size=len(self.file))
        answers = {
            0: b"",
            1: words(0) + attributes(directory=True),                                             # GETATTR
            3: words(0) + opaque(b"the file") + file + here,                                      # LOOKUP
            8: words(0, 1) + opaque(b"the file") + file + words(0) + here,                        # CREATE
            12: words(0, 0) + here,                                                               # REMOVE
            16: words(0) + here + bytes(8) + entries([b".", JOB_FILE, b"other"]) + words(0, 1),   # READDIR
            18: words(0) + here + struct.pack(">6Q", *[1 << 40] * 6) + words(0),                  # FSSTAT
            19: words(0) + here + words(65536, 65536, 512, 65536, 65536, 512, 4096) + struct.pack(">Q", 1 << 50)
            + words(0, 1, 0x1b),                                                                  # FSINFO
            21: words(0, 0) + file + bytes(8),                                                    # COMMIT
        }
        if procedure in (6, 7):
            return self.transfer(procedure, call)
        return answers.get(procedure, words(10004, 0, 0))

    def transfer(self, procedure, call):
        at = 24 + 8 + (struct.unpack(">I", call[28:32])[0] + 3 & ~3) + 8  # behind credential and verifier
        at += 4 + (struct.unpack(">I", call[at:at + 4])[0] + 3 & ~3)      # and handle
        offset, count = struct.unpack(">QI", call[at:at + 12])
        with self.lock:
            if procedure == 6:
                data = bytes(self.file[offset:offset + count])
                return words(0, 1) + attributes(size=len(self.file)) + words(len(data), int(len(data) < count)) + opaque(data)
            self.file.extend(bytes(max(0, offset + count - len(self.file))))
            self.file[offset:offset + count] = call[at + 20:at + 20 + count]
            return words(0, 0, 1) + attributes(size=len(self.file)) + words(count, 0) + bytes(8)


def changed(rng, body):
    """One to three things that a decoder may fall over; the number stays in most, or nobody would look any further."""
    body = bytearray(body)
    first = 0 if rng.random() < 0.1 else 4
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(first, max(first + 1, len(body))) & ~3
        kind = rng.randrange(6)
        if kind == 0:
            body[at:at + 4] = words(rng.choice(SIZES))
        elif kind == 1 and at < len(body):
            body[at + rng.randrange(min(4, len(body) - at))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del body[at:]
        elif kind == 3:
            del body[at:at + 4 * rng.randint(1, 8)]
        elif kind == 4:
            body[at:at] = rng.randbytes(4 * rng.randint(1, 64))
        else:
            body[at:at] = body[first:] * rng.randint(1, 200)
    return bytes(body[:1 << 20])


def ends_by_itself(lab, what, arguments):
    """Runs farswap, with memory bounded; says what is wrong with how it ended. -> its exit status"""
    process = subprocess.Popen([lab.tools.farswap, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    timer = threading.Timer(RUN_S_MAX, process.kill)
    timer.start()
    said = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    timer.cancel()
    lab.expect(process.returncode in (0, 1), f"{what}: exit status {process.returncode}: {said[-200:]}")
    lab.expect(usage.ru_maxrss <= MEMORY_MAX_KB, f"{what}: {usage.ru_maxrss >> 10} MiB resident")
    lab.expect(process.returncode != 1 or said, f"{what}: no word of why")
    return process.returncode


def try_seed(lab, seed):
    rng = random.Random(seed)
    chosen, chance = rng.randrange(12), rng.choice([0.0, 0.2])
    with Server(lambda call, body: changed(rng, body) if call == chosen or rng.random() < chance else body) as server:
        arguments = ["check", "--clean", "--yes", server.url] if seed % 2 else ["check", server.url]
        return ends_by_itself(lab, f"seed {seed}", arguments)


def try_seeds(lab, seeds):
    """Several at once: most of a run waits for an answer that does not come."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda seed: try_seed(lab, seed), seeds))


@case
def hostile_nfs_server_answers_with_anything(lab):
    results = try_seeds(lab, range(60))
    lab.expect(results.count(1) > 10, f"only {results.count(1)} of {len(results)} runs noticed")


@case
def hostile_nfs_server_answers_with_anything_500_times(lab):
    try_seeds(lab, range(1000, 1500))


@case
def hostile_nfs_server_lists_as_many_names_as_fit(lab):
    """A reply may have 2 MiB."""
    for count, status in (80_000, 0), (90_000, 1), (400_000, 1):
        listing = words(0, 0) + bytes(8) + entries([b""] * count) + words(0, 1)
        with Server(lambda _, body: body) as server:
            plain = server.answer
            server.answer = lambda program, procedure, call: listing if (program, procedure) == (NFS, 16) else plain(
                program, procedure, call)
            got = ends_by_itself(lab, f"{count} names", ["check", "--clean", "--yes", server.url])
            lab.expect(got == status, f"{count} names: exit status {got}")
