"""Deferred handling of Ctrl-C and SIGTERM, so that work in progress is completed first."""

from __future__ import annotations

# what signal wraps: its enumerations would cost a small network's step a tenth of its time
import _signal  # type: ignore[import-not-found]
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

SIGTERM: int | None = getattr(signal, "SIGTERM", None)  # not every system has it


class Terminated(SystemExit):
    """The process was asked to end, by SIGTERM; its exit status is 143, as if the signal had ended it."""


def terminate(number: int, frame: Any) -> None:
    """Handle SIGTERM: end Python regularly, so that files are closed and workers are stopped."""
    raise Terminated(128 + number)


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated`, also in process 1 of a container, which would ignore it."""
    main = threading.current_thread() is threading.main_thread()
    if SIGTERM is None or not main or signal.getsignal(SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(SIGTERM, signal.SIG_DFL)


#: (signal, handlers): a signal is put off while one of these handlers is in force; any other one is the user's own
USUAL: list[tuple[int, tuple[Any, ...]]] = [(int(signal.SIGINT), (signal.default_int_handler,))]
if SIGTERM is not None:
    USUAL.append((int(SIGTERM), (int(signal.SIG_DFL), terminate)))


class Interruption:
    """The signal that has arrived in the meantime, if there is one."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def act(self) -> None:
        """Raise the exception of the signal: KeyboardInterrupt or Terminated."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is not None:
            raise Terminated(128 + self.number)


class _Note:
    """A handler that notes its signal for an interruption, and restores the previous handlers."""

    def __init__(self, interruption: Interruption, before: dict[int, Any]) -> None:
        self.interruption, self.before = weakref.ref(interruption), before

    def __call__(self, number: int, frame: Any) -> None:
        self.restore()
        interruption = self.interruption()
        if interruption is None:  # its block has ended by an error before it could restore the handlers
            signal.raise_signal(number)
        else:
            interruption.number = number

    def restore(self) -> None:
        for number, handler in self.before.items():
            _signal.signal(number, handler)


def _handler(number: int) -> Any:
    """Return the current handler, or the previous one if a block has ended without restoring it."""
    found: Any = _signal.getsignal(number)
    return found.before[number] if isinstance(found, _Note) and found.interruption() is None else found


class deferred:
    """Within the block the first Ctrl-C or SIGTERM is only noted; a second one acts at once.

    The user's own handlers stay in effect. Other threads get no signals, so nothing changes there.
    """

    _note: _Note | None = None

    def __enter__(self) -> Interruption:
        interruption = Interruption()
        if threading.current_thread() is threading.main_thread():
            before = {number: handler for number, usual in USUAL if (handler := _handler(number)) in usual}
            self._note = note = _Note(interruption, before)
            try:
                for number in before:
                    _signal.signal(number, note)
            except BaseException:
                note.restore()
                raise
        return interruption

    def __exit__(self, *error: object) -> None:
        if self._note is not None:
            self._note.restore()


def thread_pool(size: int, **options: Any) -> Executor:
    """Return a pool of threads."""
    with quiet_at_exit():
        from concurrent.futures import ThreadPoolExecutor  # costs a few ms of import time

        return ThreadPoolExecutor(size, **options)


def submit(pool: Executor, function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Give work to a thread."""
    with quiet_at_exit():
        return pool.submit(function, *args)


class quiet_at_exit:
    """Within the block a daemon thread ends quietly on errors that occur since the interpreter is ending."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and threading.current_thread().daemon:
            pools = sys.modules.get("concurrent.futures.thread")
            if getattr(pools, "_shutdown", False) or not threading.main_thread().is_alive():
                raise SystemExit from None  # which threads end by without a word
