"""For gdb: follows the list of the workload far_list, and checks every word of it. Prints "list is whole" and the number
of frames in which the main thread is."""
import struct

import gdb

WORDS = 508


def follow(inferior, address):
    number = 0
    while address:
        words = struct.unpack(f"<{WORDS + 2}Q", bytes(inferior.read_memory(address, 8 * (WORDS + 2))))
        if words[1] != number or any(words[2 + i] != number * (i + 1) for i in range(WORDS)):
            return f"node {number} at {address:#x} is wrong"
        address, number = words[0], number + 1
    return number


def frames():
    gdb.execute("thread 1", to_string=True)
    frame, found = gdb.newest_frame(), []
    while frame is not None:
        found.append(frame.name() or "?")
        frame = frame.older()
    return sum("descend" in name for name in found) if found[-1] == "main" else 0


length = int(gdb.parse_and_eval("list_length"))
followed = follow(gdb.selected_inferior(), int(gdb.parse_and_eval("list_head")))
print("list is whole" if followed == length else f"of {length} nodes: {followed}", f"frames {frames()}", flush=True)
