"""A seccomp filter that refuses system calls, to be installed between fork and exec. Knows nothing of why."""
import ctypes
import struct

LOAD_NUMBER, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
ALLOW, ERRNO = 0x7fff0000, 0x00050000               # linux/seccomp.h


def forbid(calls):
    """`calls`: pairs of a number (arch/x86/entry/syscalls/syscall_64.tbl) and the errno that it then fails with. For
    root, or under no_new_privs."""
    code = struct.pack("<HBBI", LOAD_NUMBER, 0, 0, 0)
    for number, error in calls:
        code += struct.pack("<HBBI", JUMP_EQUAL, 0, 1, number) + struct.pack("<HBBI", RETURN, 0, 0, ERRNO | error)
    code += struct.pack("<HBBI", RETURN, 0, 0, ALLOW)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    if ctypes.CDLL(None, use_errno=True).prctl(22, 2, ctypes.c_char_p(program)) != 0:  # PR_SET_SECCOMP, a filter
        raise OSError(ctypes.get_errno(), "no seccomp filter")
