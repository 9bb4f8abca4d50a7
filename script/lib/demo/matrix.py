#!/usr/bin/python3
"""Sorts an array and multiplies two matrices with numpy; prints a checksum of each. Usage: matrix.py NUMBERS SIDE"""
import hashlib
import sys

import numpy

numbers, side = int(sys.argv[1]), int(sys.argv[2])
random = numpy.random.default_rng(20120731)

values = random.random(numbers)
values.sort()
print("sorted", numbers, hashlib.sha256(values).hexdigest())

left, right = random.random((side, side)), random.random((side, side))
print("product", side, hashlib.sha256(left @ right).hexdigest())
print("order", bool((values[1:] >= values[:-1]).all()))
