"""Memory that this process shares with the workers that it forks, and with no other process.

A worker's process must see what the others write: parameters, gradients, sums. So these lie in memory that a fork
shares. But whoever forks for a purpose of their own, such as a server or a pool, expects a copy, as of all other
memory. So after every fork that is not of a worker the child moves each block to memory of its own, at the same address
and with the same contents, before anything else runs there. The parent waits for that, since it may write next; and
the fork waits until no other thread is in the middle of a step, so that the child has a whole number of them.
"""
from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: whether a fork can share memory and move it afterwards: Linux has mremap, and x86-64 shows stores in their order
AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64" and hasattr(os, "register_at_fork")

PROT_READ_WRITE = 3
MAP_SHARED_ANONYMOUS = 0x21
MREMAP_MAYMOVE_FIXED = 3
LONGEST_STEP = 60.0     # seconds that a fork waits for the steps of other threads, at most


class Block(mmap.mmap):
    """Memory that forked workers share."""

    address: int
    #: whether nobody needs the contents after a fork, unless the fork happens while they are in use
    scratch = False


_blocks: weakref.WeakSet[Block] = weakref.WeakSet()
_libc: ctypes.CDLL | None = None
_here = threading.local()   # of a thread: the `depth` of its work on blocks, whether it forks a `worker`, its `pipe`
_gate = threading.Condition()
_working = 0                # threads that work on blocks
_forking = 0                # threads that fork: nobody else may begin to work


def allocate(nbytes: int) -> Block:
    """Return a new block of ``nbytes`` zeros."""
    global _libc
    if _libc is None:      # at the first block, so that whoever needs none pays for nothing
        _libc = ctypes.CDLL(None, use_errno=True)
        for function in _libc.mmap, _libc.mremap:
            function.restype = ctypes.c_void_p
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
    block = Block(-1, nbytes)
    block.address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    _blocks.add(block)
    return block


def block_of(array: Any) -> Block | None:
    """Return the block in which an array lies, if it lies in one."""
    while (owner := getattr(array, "base", None)) is not None:
        array = owner
    array = array.obj if isinstance(array, memoryview) else array
    return array if isinstance(array, Block) else None


def as_scratch(array: Any) -> Any:
    """Say of an array that fills its block that nobody needs the contents between two runs; return it."""
    block = block_of(array)
    if block is not None:
        block.scratch = True
    return array


def _depth() -> int:
    depth: int = getattr(_here, "depth", 0)
    return depth


@contextmanager
def working(member: bool = False) -> Iterator[None]:
    """Within the block no other thread forks; a fork by this thread copies scratch too, since the child may go on.

    A ``member`` works for a thread that is in such a block.
    """
    global _working
    depth = _depth()
    counts = not depth and not member
    if counts:
        with _gate:
            _gate.wait_for(lambda: not _forking)
            _working += 1
    _here.depth = depth + 1
    try:
        yield
    finally:
        _here.depth = depth
        if counts:
            with _gate:
                _working -= 1
                _gate.notify_all()


@contextmanager
def forking_a_worker() -> Iterator[None]:
    """Within the block this thread's forks share memory with their child."""
    _here.worker = True
    try:
        yield
    finally:
        _here.worker = False


def _before() -> None:
    global _forking
    _here.pipe = None
    if getattr(_here, "worker", False):
        return
    with _gate:
        _forking += 1
        if not _depth():
            _gate.wait_for(lambda: not _working, LONGEST_STEP)
    with suppress(OSError):     # no more files may be opened: the child still moves, only nobody waits for it
        _here.pipe = os.pipe()


def _after_in_parent() -> None:
    global _forking
    if getattr(_here, "worker", False):
        return
    if _here.pipe is not None:
        os.close(_here.pipe[1])
        os.read(_here.pipe[0], 1)       # until the child has written or is gone
        os.close(_here.pipe[0])
    with _gate:
        _forking -= 1
        _gate.notify_all()


def _after_in_child() -> None:
    global _gate, _forking, _working
    # other threads of the parent, which are not here, may have held or counted in these
    _gate, _forking, _working = threading.Condition(), 0, int(_depth() > 0)
    if getattr(_here, "worker", False):
        return
    try:
        for block in list(_blocks):
            _move(block)
    except BaseException as error:
        # to go on would be to write into the parent's network
        os.write(2, f"im2colnet: a forked process got no memory of its own ({error}), so it ends\n".encode())
        os._exit(1)
    pipe = getattr(_here, "pipe", None)     # a fork without Python's knowledge has none
    if pipe is not None:
        with suppress(OSError):
            os.write(pipe[1], b"\0")
        os.close(pipe[0])
        os.close(pipe[1])


def _move(block: Block) -> None:
    """Put memory of this process's own where the block lies; views of it stay valid."""
    assert _libc is not None
    length = -(-len(block) // mmap.PAGESIZE) * mmap.PAGESIZE
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    own = _libc.mmap(None, size(length), number(PROT_READ_WRITE), number(MAP_SHARED_ANONYMOUS), number(-1), size(0))
    if own != pointer(-1).value:
        if not block.scratch or _depth() > 0:
            ctypes.memmove(own, block.address, len(block))
        # takes the place of what lay there
        own = _libc.mremap(
            pointer(own), size(length), size(length), number(MREMAP_MAYMOVE_FIXED), pointer(block.address)
        )
    if own != block.address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
