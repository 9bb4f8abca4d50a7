#!/usr/bin/python3
"""PostgreSQL as Debian packages it: initdb, pgbench with several clients, a large sort and a hash join in private memory,
a crash in the middle (SIGKILL of all) and the recovery, and the checks of its own (checksums, amcheck).

  postgres_bench.py TRANSACTIONS

Works in a folder of its own in /var/tmp: run as root it becomes another user, as PostgreSQL refuses root. Prints what must
be the same in every run.
"""
import contextlib
import glob
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NOBODY = 65534
CLIENTS = 4
SCALE = 2
HEAVY = """
SET work_mem = '256MB'; SET max_parallel_workers_per_gather = 0;
SELECT count(*), sum(rank) FROM (SELECT row_number() OVER (ORDER BY md5(i::text)) AS rank FROM generate_series(1, 600000) i) s;
SET enable_mergejoin = off; SET enable_nestloop = off;
SELECT count(*), sum(length(a.t)) FROM (SELECT i, repeat(md5(i::text), 4) AS t FROM generate_series(1, 300000) i) a
    JOIN (SELECT i * 3 AS i FROM generate_series(1, 300000) i) b USING (i);
"""
CHECK = """
CREATE EXTENSION IF NOT EXISTS amcheck;
SELECT bool_and(bt_index_check(c.oid, true) IS NOT NULL) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relname LIKE 'pgbench%';
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
   AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history)
   AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history);
"""


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        sys.exit("postgres_bench: the package postgresql is not installed")
    return pathlib.Path(found[-1])


class Server:
    def __init__(self, directory):
        self.bin, self.data = programs(), directory / "data"
        self.directory = directory
        self.process = None

    def run(self, program, *arguments, **options):
        done = subprocess.run([str(self.bin / program), *arguments], capture_output=True, check=False, text=True, **options)
        if done.returncode != 0:
            sys.exit(f"postgres_bench: {program} {arguments}: {done.returncode} {done.stdout[-300:]} {done.stderr[-600:]}")
        return done.stdout

    def start(self):
        self.process = subprocess.Popen(
            [str(self.bin / "postgres"), "-D", str(self.data), "-k", str(self.directory), "-c", "listen_addresses=",
             "-c", "shared_buffers=16MB", "-c", "autovacuum_naptime=1s", "-c", "max_wal_size=64MB"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while subprocess.run([str(self.bin / "pg_isready"), "-q", "-h", str(self.directory)], check=False).returncode != 0:
            if self.process.poll() is not None:
                sys.exit(f"postgres_bench: the server has ended with {self.process.returncode}")
            time.sleep(0.1)

    def sql(self, text):
        return self.run("psql", "-h", str(self.directory), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres", input=text)

    def bench(self, transactions, seed):
        self.run("pgbench", "-n", "-h", str(self.directory), "-c", str(CLIENTS), "-j", "2", "-t", str(transactions // CLIENTS),
                 "--random-seed", str(seed), "postgres")

    def crash(self):
        """The master first, then all that it has started: nobody can write anything any more."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.process.send_signal(signal.SIGKILL)
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait()


def become_nobody(directory):
    os.chown(directory, NOBODY, NOBODY)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="farswap-postgres-", dir="/var/tmp"))
    if os.geteuid() == 0:
        become_nobody(directory)
    os.chdir(directory)
    try:
        bench(directory, int(sys.argv[1]))
    finally:
        shutil.rmtree(directory / "data", ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.rmdir()  # in /var/tmp, where everybody may


def bench(directory, transactions):
    server = Server(directory)
    server.run("initdb", "-D", str(server.data), "-U", "nobody", "--data-checksums", "--no-sync", "--locale=C")
    os.environ.update(PGUSER="nobody")
    server.start()
    server.run("pgbench", "-h", str(directory), "-i", "-q", "-s", str(SCALE), "postgres")
    server.bench(transactions, 1)
    print("heavy", server.sql(HEAVY).split())
    server.bench(transactions, 2)
    server.crash()
    server.start()
    print("checks", server.sql(CHECK).split())
    print("history", server.sql("SELECT count(*) FROM pgbench_history").strip())
    status = server.stop()
    server.run("pg_checksums", "-D", str(server.data), "--check")
    print("status", status)


if __name__ == "__main__":
    main()
