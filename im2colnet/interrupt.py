"""Ctrl-C and SIGTERM, put off until what is under way is whole."""
from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def terminate(number: int, frame: Any) -> None:
    """Handle SIGTERM as the command line does: end like any program, so that files are closed and workers told.

    A process with the id 1, as in a container, would ignore SIGTERM without a handler.
    """
    raise SystemExit(128 + number)


class Interruption:
    """The signal that has come meanwhile, if any has."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def act(self) -> None:
        """Do what the signal would have done: raise KeyboardInterrupt, or SystemExit with 128 + its number."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is not None:
            raise SystemExit(128 + self.number)


@contextmanager
def deferred() -> Iterator[Interruption]:
    """Within the block the first Ctrl-C or SIGTERM is only noted; a second one acts at once.

    Handlers of the user's own stay in force, and so do those of other threads, which get no signals.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    usual = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, terminate)}
    before = {number: handler for number in usual if (handler := signal.getsignal(number)) in usual[number]}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        interruption.number = number
        restore()

    try:
        for number in before:
            signal.signal(number, note)
        yield interruption
    finally:
        restore()
