"""Memory that this process shares with the workers that it forks, and with no other process.

A worker's process must see what the others write: parameters, gradients, sums. So these lie in memory that a fork
shares. But whoever forks for a purpose of their own, such as a server or a pool, expects a copy, as of all other
memory. So after every fork that is not of a worker the child moves each block to memory of its own, at the same address
and with the same contents, before anything else runs there; the parent waits for that, since it may write next.
"""
from __future__ import annotations

import ctypes
import mmap
import os
import platform
import select
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: whether a fork can share memory and move it afterwards: Linux has mremap, and x86-64 shows stores in their order
AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64" and hasattr(os, "register_at_fork")

PROT_READ_WRITE = 3
MAP_SHARED_ANONYMOUS = 0x21
MREMAP_MAYMOVE_FIXED = 3


class Block(mmap.mmap):
    """Memory that forked workers share."""

    address: int
    #: contents that nobody needs after a fork, unless the fork happens while they are in use
    scratch: bool


_blocks: weakref.WeakSet[Block] = weakref.WeakSet()
_users = 0                          # how many runs use scratch at this moment, whichever thread they are on
_users_lock = threading.Lock()
_fork = threading.local()           # of the thread that forks: `worker`, `pipe`
_libc: ctypes.CDLL | None = None


def allocate(nbytes: int, scratch: bool = False) -> Block:
    """Return a new block of ``nbytes`` zeros."""
    global _libc
    if _libc is None:      # at the first block, so that whoever needs none pays for nothing
        _libc = ctypes.CDLL(None, use_errno=True)
        for function in _libc.mmap, _libc.mremap:
            function.restype = ctypes.c_void_p
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
    block = Block(-1, nbytes)
    block.address, block.scratch = ctypes.addressof(ctypes.c_char.from_buffer(block)), scratch
    _blocks.add(block)
    return block


@contextmanager
def using_scratch() -> Iterator[None]:
    """Within the block a fork copies scratch too: a child that goes on from here needs it."""
    global _users
    with _users_lock:
        _users += 1
    try:
        yield
    finally:
        with _users_lock:
            _users -= 1


@contextmanager
def forking_a_worker() -> Iterator[None]:
    """Within the block this thread's forks share memory with their child."""
    _fork.worker = True
    try:
        yield
    finally:
        _fork.worker = False


def _before() -> None:
    _fork.pipe = None
    if _blocks and not getattr(_fork, "worker", False):
        with suppress(OSError):     # no more files may be opened: the child still moves, only nobody waits for it
            _fork.pipe = os.pipe()


def _after_in_parent() -> None:
    pipe = getattr(_fork, "pipe", None)
    if pipe is not None:
        os.close(pipe[1])
        waiting = select.poll()
        waiting.register(pipe[0])
        waiting.poll()              # until the child has written or is gone
        os.close(pipe[0])
        _fork.pipe = None


def _after_in_child() -> None:
    global _users_lock
    _users_lock = threading.Lock()      # another thread of the parent may have held it
    if getattr(_fork, "worker", False):
        return
    try:
        for block in list(_blocks):
            _move(block)
    except BaseException as error:
        # to go on would be to write into the parent's network
        os.write(2, f"im2colnet: a forked process got no memory of its own ({error}), so it ends\n".encode())
        os._exit(1)
    pipe = getattr(_fork, "pipe", None)
    if pipe is not None:
        with suppress(OSError):
            os.write(pipe[1], b"\0")
        os.close(pipe[0])
        os.close(pipe[1])
        _fork.pipe = None


def _move(block: Block) -> None:
    """Put memory of this process's own where the block lies; views of it stay valid."""
    assert _libc is not None
    length = -(-len(block) // mmap.PAGESIZE) * mmap.PAGESIZE
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    own = _libc.mmap(None, size(length), number(PROT_READ_WRITE), number(MAP_SHARED_ANONYMOUS), number(-1), size(0))
    if own != pointer(-1).value:
        if not block.scratch or _users:
            ctypes.memmove(own, block.address, len(block))
        # takes the place of what lay there
        own = _libc.mremap(
            pointer(own), size(length), size(length), number(MREMAP_MAYMOVE_FIXED), pointer(block.address)
        )
    if own != block.address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
