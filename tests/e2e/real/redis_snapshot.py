#!/usr/bin/python3
"""Redis saves a snapshot in a forked child while the parent's data are overwritten: what both share is copied on
write. The snapshot must hold what was there at the fork.

  redis_snapshot.py DIRECTORY KEYS

Prints three digests: of the data at first, after they were overwritten, and of the snapshot when it is loaded.
"""
import pathlib
import subprocess
import sys
import time

VALUE_BYTES = 2000
OVERWRITTEN = 3  # every third key


# The same program under another name; the package redis-server, which has that name, would start a service.
PROGRAM = "/usr/bin/redis-check-rdb"


class Server:
    def __init__(self, directory):
        self.socket = str(directory / "socket")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", str(directory),
             "--enable-debug-command", "local"], executable=PROGRAM, stdout=subprocess.DEVNULL)
        while not pathlib.Path(self.socket).is_socket() or self.ask("ping") != "PONG":
            if self.process.poll() is not None:
                sys.exit("redis_snapshot: the server has ended")
            time.sleep(0.05)

    def ask(self, *words, data=None):
        run = subprocess.run(["redis-cli", "-s", self.socket, *words], input=data, capture_output=True, check=False)
        return run.stdout.decode().strip()

    def info(self, name):
        lines = dict(line.strip().split(":", 1) for line in self.ask("info", "persistence").splitlines() if ":" in line)
        return lines[name]


def overwriting_commands(keys):
    return b"".join(b"SET key:%d %s\r\n" % (key, (b"%d-" % key * VALUE_BYTES)[:VALUE_BYTES])
                    for key in range(0, keys, OVERWRITTEN))


def main():
    directory, keys = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    commands = overwriting_commands(keys)
    server = Server(directory)
    server.ask("debug", "populate", str(keys), "key", str(VALUE_BYTES))
    before = server.ask("debug", "digest")
    server.ask("bgsave")
    server.ask("--pipe", data=commands)
    while server.info("rdb_bgsave_in_progress") != "0":
        time.sleep(0.1)
    if server.info("rdb_last_bgsave_status") != "ok":
        sys.exit("redis_snapshot: saving has failed")
    print("at first   ", before)
    print("overwritten", server.ask("debug", "digest"))
    server.ask("debug", "reload", "nosave")
    loaded = server.ask("debug", "digest")
    print("snapshot   ", loaded)
    server.ask("shutdown", "nosave")
    status = server.process.wait()
    (directory / "dump.rdb").unlink()
    sys.exit(status or int(loaded != before))


if __name__ == "__main__":
    main()
