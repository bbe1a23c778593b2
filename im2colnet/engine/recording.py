"""Recorded work of one bound batch: a device repeats it, after it was the same a few times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from im2colnet.backend import Backend
from im2colnet.parallel.state import constant, of_the_library
from im2colnet.types import Call

#: how often work is done in the same state before it is recorded
TIMES_BEFORE = 3


class Recording:
    """The work of a batch as the backend has recorded it.

    Work depends on arrays, which keep their addresses, on the attributes of layers and loss, and on numbers. If an
    attribute or a number changes, the host does the work again, until it was the same a few times. Work of a user's own
    classes is never recorded, since it may depend on anything.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._state: list[Any] = []
        self._times = 0
        self._again: Call | None = None

    def run(self, work: Call, objects: Sequence[Any], *values: Any) -> None:
        """Do the work, which depends on these objects and values."""
        objects = list(_with_parts(objects))
        state = [*values, *objects, *(dict(vars(thing)) for thing in objects)]
        if not self._is(state):
            self._state, self._times, self._again = state, 0, None
        self._times += 1
        if self._times == TIMES_BEFORE and all(map(_is_fixed, objects)):
            self._again = self._backend.recorded(work)
        (self._again or work)()

    def _is(self, state: list[Any]) -> bool:
        try:
            return state == self._state
        except ValueError:  # an attribute is an array
            return False


def _with_parts(objects: Iterable[Any]) -> Iterator[Any]:
    """Yield objects and their attributes of library classes, such as the two layers of a joined layer."""
    for thing in objects:
        yield thing
        if of_the_library(thing):
            yield from _with_parts(value for value in vars(thing).values() if hasattr(value, "__dict__"))


def _is_fixed(thing: Any) -> bool:
    """Whether an object is the library's own, and nothing that it refers to can change unseen."""
    values = (tuple(value) if isinstance(value, frozenset) else value for value in vars(thing).values())
    return of_the_library(thing) and all(constant(value) or of_the_library(value) for value in values)
