#!/usr/bin/python3
"""Fills an in-memory SQLite database, updates and checks it, and prints sums of what is in it. Usage: database.py ROWS"""
import random
import sqlite3
import sys

rows = int(sys.argv[1])
source = random.Random(20120731)
database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, machine INTEGER, at INTEGER, body BLOB)")
database.executemany(
    "INSERT INTO event VALUES (?, ?, ?, ?)",
    ((row, source.randrange(5000), row * 7 + source.randrange(7), source.randbytes(700)) for row in range(rows)),
)
database.execute("CREATE INDEX event_at ON event (at)")
database.execute("UPDATE event SET machine = machine + 1 WHERE id % 10 = 0")
print(database.execute("PRAGMA integrity_check").fetchone()[0])
print(database.execute("SELECT count(*), sum(machine), sum(at), sum(unicode(substr(hex(body), 3, 1))) FROM event").fetchone())
