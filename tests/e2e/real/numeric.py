"""numeric.py sort|blocks|product SIZE: sorts SIZE random numbers, as one or in blocks, or multiplies two SIZE x SIZE
matrices, and prints digests."""
import hashlib
import sys

import numpy


BLOCK = 1 << 20  # numbers


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
elif kind == "blocks":
    # In place, one pass after the other over all of it: what a job does that is far larger than its machine.
    numbers = numpy.empty(size)
    blocks = numbers[:size // BLOCK * BLOCK].reshape(-1, BLOCK)
    for block in blocks:
        generator.random(out=block)
    numbers[blocks.size:] = 0.5
    numpy.multiply(numbers, 1000.0, out=numbers)
    for block in blocks:
        block.sort()
    medians = blocks[:, BLOCK // 2].copy()
    for block, median in zip(blocks, medians):
        assert bool((block[1:] >= block[:-1]).all())
        block -= median
    print("blocks", len(blocks), "medians", digest(medians), "all", digest(numbers))
else:
    # Whole numbers, so that the result does not depend on the order of the additions.
    left = generator.integers(-8, 8, (size, size)).astype(numpy.float64)
    right = generator.integers(-8, 8, (size, size)).astype(numpy.float64)
    print("product", digest(left @ right))
