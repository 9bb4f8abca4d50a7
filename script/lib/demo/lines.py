#!/usr/bin/python3
"""Writes lines of random letters to standard output, the same ones every time. Usage: lines.py LINES LENGTH"""
import sys

import numpy

lines, length = int(sys.argv[1]), int(sys.argv[2])
random = numpy.random.default_rng(20120731)
letters = numpy.frombuffer(b"abcdefghijklmnopqrstuvwxyz012345", dtype=numpy.uint8)
at_once = 1 << 14
for start in range(0, lines, at_once):
    count = min(at_once, lines - start)
    block = letters[random.integers(0, 32, size=(count, length), dtype=numpy.uint8)]
    block[:, -1] = ord("\n")
    sys.stdout.buffer.write(block.tobytes())
