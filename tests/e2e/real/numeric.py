"""numeric.py sort|product SIZE: sorts SIZE random numbers, or multiplies two SIZE x SIZE matrices, and prints digests."""
import hashlib
import sys

import numpy


def digest(array):
    return hashlib.sha256(memoryview(numpy.ascontiguousarray(array)).cast("B")).hexdigest()


kind, size = sys.argv[1], int(sys.argv[2])
generator = numpy.random.default_rng(7)
if kind == "sort":
    numbers = generator.random(size)
    print("unsorted", digest(numbers))
    numbers.sort()
    assert bool((numbers[1:] >= numbers[:-1]).all())
    print("sorted", digest(numbers))
else:
    # Whole numbers, so that the result does not depend on the order of the additions.
    left = generator.integers(-8, 8, (size, size)).astype(numpy.float64)
    right = generator.integers(-8, 8, (size, size)).astype(numpy.float64)
    print("product", digest(left @ right))
