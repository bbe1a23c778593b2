"""Memory that this process shares with the workers that it forks, and with no other process.

A worker's process must see what the others write: parameters, gradients, sums. So these lie in memory that a fork
shares. But a program that forks for another purpose, such as a server or a pool, expects a copy, as for all other
memory. So after every fork that is not for a worker, the child moves each block to memory of its own, at the same
address and with the same contents, before anything else runs there. The parent waits for that, since it may write next.
The fork waits until no other thread is in the middle of a step, so that the child has a whole number of steps.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from im2colnet.interrupt import quiet_at_exit

#: whether a fork can share memory and move it afterwards: Linux has mremap, and x86-64 shows stores in their order
AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64" and hasattr(os, "register_at_fork")

PROT_READ_WRITE = 3
MAP_SHARED_ANONYMOUS = 0x21
MREMAP_MAYMOVE_FIXED = 3
LONGEST_STEP = 60.0  # seconds that a fork waits for the steps of other threads, at most


class Block(mmap.mmap):
    """Memory that forked workers share."""

    address: int
    #: whether nobody needs the contents after a fork, unless the fork happens while they are in use
    scratch = False


_blocks: weakref.WeakSet[Block] = weakref.WeakSet()
_libc: ctypes.CDLL | None = None
#: of a thread its `lock`, or whether it is a `member` of a team; of a fork whether it makes a `worker`, `pipe`, `held`
_here = threading.local()
_gate = threading.Lock()  # held while a thread forks, and while one gets its lock
_locks: weakref.WeakSet[Any] = weakref.WeakSet()  # of all threads


def allocate(nbytes: int) -> Block:
    """Return a new block of ``nbytes`` zeros."""
    global _libc
    if _libc is None:  # at the first block, so that whoever needs none pays for nothing
        _libc = ctypes.CDLL(None, use_errno=True)
        for function in _libc.mmap, _libc.mremap:
            function.restype = ctypes.c_void_p
        # What is registered last runs first before a fork: before a pool's locks are held, for which a step may wait.
        with quiet_at_exit():
            import concurrent.futures.thread  # noqa: F401

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
    """Mark an array that fills its block as scratch: its contents are not needed between two runs; return it."""
    block = block_of(array)
    if block is not None:
        block.scratch = True
    return array


def working() -> AbstractContextManager[Any]:
    """Return this thread's own lock; the thread holds it while it works on blocks, so that no other thread forks.

    If the thread itself forks meanwhile, the child gets the scratch blocks too, since it may continue the work. A
    thread that works for another thread needs no lock, since the other thread holds one.
    """
    if getattr(_here, "member", False):
        return nullcontext()
    if not hasattr(_here, "lock"):
        with _gate:
            _here.lock = threading.RLock()
            _locks.add(_here.lock)
    elif _gate.locked() and not _works():
        with _gate:  # a fork waits for this thread, which must not take its lock again first
            pass
    lock: AbstractContextManager[Any] = _here.lock
    return lock


def _works() -> bool:
    """Whether this thread is in the middle of work on blocks."""
    return getattr(_here, "member", False) or (hasattr(_here, "lock") and _here.lock._is_owned())


def let_go() -> None:
    """Drop this thread's lock. An exception that was raised asynchronously may have left it locked."""
    if hasattr(_here, "lock"):
        _locks.discard(_here.lock)
        del _here.lock


def join_team() -> None:
    """Note that this thread works only for other threads, which wait for it."""
    _here.member = True


@contextmanager
def forking_a_worker() -> Iterator[None]:
    """Within the block this thread's forks share memory with their child."""
    _here.worker = True
    try:
        yield
    finally:
        _here.worker = False


def _before() -> None:
    _here.pipe, _here.held = None, []
    if getattr(_here, "worker", False):
        return
    if not _works():
        _hold(_gate)
        until = time.monotonic() + LONGEST_STEP
        for lock in list(_locks):
            if lock is not getattr(_here, "lock", None):
                _hold(lock, max(0.0, until - time.monotonic()))
    with suppress(OSError):  # no more files may be opened: the child still moves, only nobody waits for it
        _here.pipe = os.pipe()


def _hold(lock: Any, timeout: float = -1) -> None:
    if lock.acquire(timeout=timeout):
        _here.held.append(lock)


def _after_in_parent() -> None:
    if getattr(_here, "worker", False):
        return
    if _here.pipe is not None:
        os.close(_here.pipe[1])
        os.read(_here.pipe[0], 1)  # until the child has written or is gone
        os.close(_here.pipe[0])
    while _here.held:
        _here.held.pop().release()


def _after_in_child() -> None:
    global _gate, _locks
    if getattr(_here, "worker", False):
        _gate, _locks = threading.Lock(), weakref.WeakSet()
        return
    try:
        for block in list(_blocks):
            _move(block)
    except BaseException as error:
        # to go on would be to write into the parent's network
        os.write(2, f"im2colnet: a forked process got no memory of its own ({error}), so it ends\n".encode())
        os._exit(1)
    pipe = getattr(_here, "pipe", None)  # a fork without Python's knowledge has none
    if pipe is not None:
        with suppress(OSError):
            os.write(pipe[1], b"\0")
        os.close(pipe[0])
        os.close(pipe[1])
    # Other threads of the parent, which are not here, may have held theirs.
    mine = getattr(_here, "lock", None)
    _gate, _locks, _here.held = threading.Lock(), weakref.WeakSet([mine] if mine else []), []


def _move(block: Block) -> None:
    """Replace the block's memory by private memory of this process at the same address; views stay valid."""
    assert _libc is not None
    length = -(-len(block) // mmap.PAGESIZE) * mmap.PAGESIZE
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    own = _libc.mmap(None, size(length), number(PROT_READ_WRITE), number(MAP_SHARED_ANONYMOUS), number(-1), size(0))
    if own != pointer(-1).value:
        if not block.scratch or _works():
            ctypes.memmove(own, block.address, len(block))
        # takes the place of what lay there
        own = _libc.mremap(
            pointer(own), size(length), size(length), number(MREMAP_MAYMOVE_FIXED), pointer(block.address)
        )
    if own != block.address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
