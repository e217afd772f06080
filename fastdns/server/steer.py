# SPDX-License-Identifier: Apache-2.0
"""Which socket of a reuseport group gets a datagram or a connection: by flow, by CPU, or at random.

Strategy: the kernel's hash of the flow needs nothing. The other two are classic BPF programs that return a place in the
group; the supervisor attaches one to a group whose first places are the sockets of workers 0, 1, 2 … in order. Every
doubt ends at the hash: a program that returns a place beyond the group, a kernel that refuses the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Sequence

FLOW, CPU, RANDOM = "flow", "cpu", "random"
MODES = (FLOW, CPU, RANDOM)

# <asm/socket.h>: not in Python's socket module.
SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68

# <linux/filter.h>, <linux/bpf_common.h>
LOAD, MODULO, JUMP, JUMP_EQUAL, RETURN, RETURN_A = 0x20, 0x94, 0x05, 0x15, 0x06, 0x16
ANCILLARY = 0xFFFFF000
CPU_NUMBER, RANDOM_NUMBER = ANCILLARY + 36, ANCILLARY + 56
BEYOND = 0xFFFFFFFF  # no group is so large: the kernel takes its hash
MOST_INSTRUCTIONS = 4096

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def program(mode: str, cpus: Sequence[int]) -> list[Instruction]:
    """The program for a group whose socket i is read on CPU `cpus[i]`.

    `cpu`: to a worker on the CPU that received the packet, one of several at random; by the hash where that CPU has no
    worker. `random`: to any worker.
    """
    if mode == FLOW:
        return [(RETURN, 0, 0, BEYOND)]
    if mode == RANDOM:
        return [(LOAD, 0, 0, RANDOM_NUMBER), (MODULO, 0, 0, len(cpus)), (RETURN_A, 0, 0, 0)]
    places: dict[int, list[int]] = {}
    for place, cpu in enumerate(cpus):
        places.setdefault(cpu, []).append(place)
    words: list[Instruction] = [(LOAD, 0, 0, CPU_NUMBER)]
    for cpu, own in places.items():
        body = _one_of(own)
        # A conditional jump reaches 255 instructions, the plain one any number.
        words += [(JUMP_EQUAL, 1, 0, cpu), (JUMP, 0, 0, len(body)), *body]
    return [*words, (RETURN, 0, 0, BEYOND)]


def _one_of(places: Sequence[int]) -> list[Instruction]:
    if len(places) == 1:
        return [(RETURN, 0, 0, places[0])]
    words: list[Instruction] = [(LOAD, 0, 0, RANDOM_NUMBER), (MODULO, 0, 0, len(places))]
    for number, place in enumerate(places[:-1]):
        words += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, place)]
    return [*words, (RETURN, 0, 0, places[-1])]


def attach(sock: socket.socket, mode: str, cpus: Sequence[int]) -> None:
    """Steer the group of `sock`. OSError where the kernel refuses."""
    if mode == FLOW:
        detach(sock)
        return
    words = program(mode, cpus)
    if len(words) > MOST_INSTRUCTIONS:
        raise OSError(errno.E2BIG, f"{len(words)} instructions, at most {MOST_INSTRUCTIONS} fit")
    _attach(sock, words)


def detach(sock: socket.socket) -> None:
    """Give the group of `sock` back to the kernel's hash."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # ENOENT: it has no program
            # Before Linux 5.3 a program can only be replaced; a kernel that knows neither has none.
            with contextlib.suppress(OSError):
                _attach(sock, program(FLOW, ()))


def _attach(sock: socket.socket, words: Sequence[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *word) for word in words))
    # struct sock_fprog: the pointer must outlive the call, so `code` has a name.
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(words), ctypes.addressof(code)))
