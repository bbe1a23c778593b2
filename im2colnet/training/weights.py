"""A copy of a network's parameters and of its state, such as running statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from im2colnet.errors import CheckpointError
from im2colnet.graph.parameters import Parameters
from im2colnet.memory import working
from im2colnet.types import Array

T = TypeVar("T")


def beneath(prefix: str, entries: Mapping[str, T]) -> dict[str, T]:
    """Return the entries whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}


class Weights:
    """A copy of a network's parameters and state, in the memory of its backend.

    Parameters
    ----------
    parameters : Parameters
        The parameters of the network: ``net.held``.

    Attributes
    ----------
    flat : (size,) array of the backend
        The copy of all parameters, in the order of ``parameters.flat``.
    state : list of arrays of the backend
        The copies of the network's state.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._scratch: Array | None = None
        with working(), parameters.backend.context():
            self.flat = parameters.flat.copy()
            self.state = [array.copy() for array in self.live_state()]

    def live_state(self) -> list[Array]:
        """Return the arrays of the network's state: views, in the order of ``state``."""
        return [array for node in self.parameters.graph.nodes for array in node.buffers.values()]

    def read(self) -> None:
        """Copy the network's parameters and state."""
        with working(), self.parameters.backend.context():
            self.flat[...] = self.parameters.flat
            for copy, array in zip(self.state, self.live_state(), strict=True):
                copy[...] = array

    def write(self) -> None:
        """Copy this copy's parameters and state into the network."""
        with working(), self.parameters.backend.context():
            self.parameters.flat[...] = self.flat
            for copy, array in zip(self.state, self.live_state(), strict=True):
                array[...] = copy

    def approach(self, rate: float) -> None:
        """Move this copy towards the network's parameters and state: ``w += rate · (network - w)``.

        It works in place, in pieces that fit the cache; a rate of 1 / n makes the mean of n networks.
        """
        backend = self.parameters.backend
        xp, size = backend.xp, max(1, min(backend.update_chunk, self.flat.size))
        with working(), backend.context():
            if self._scratch is None:
                self._scratch = backend.empty((size,), self.parameters.dtype)
            for start in range(0, self.flat.size, size):
                mine, other = self.flat[start : start + size], self.parameters.flat[start : start + size]
                way = self._scratch[: mine.size]
                xp.subtract(other, mine, out=way)
                way *= rate
                mine += way
            for copy, array in zip(self.state, self.live_state(), strict=True):
                copy += rate * (array - copy)

    def state_dict(self) -> dict[str, Any]:
        """Return the copy as NumPy arrays, with the names and layouts of ``net.state_dict()``."""
        from im2colnet.host import np

        backend = self.parameters.backend
        return {name: np.array(backend.to_numpy(array), order="C") for name, array in self._named()}

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Set the copy from the arrays of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If an array is missing or has another shape.
        """
        backend = self.parameters.backend
        for name, own in self._named():
            given = arrays.get(name)
            if given is None or tuple(given.shape) != tuple(own.shape):
                shape = "missing" if given is None else tuple(given.shape)
                raise CheckpointError(f"it is damaged: {name} must have shape {tuple(own.shape)}, it is {shape}")
        with working(), backend.context():
            for name, own in self._named():
                own[...] = backend.asarray(arrays[name])

    def _named(self) -> Iterator[tuple[str, Array]]:
        copies = iter(self.state)
        for node in self.parameters.graph.nodes:
            for key, array in self.parameters.views(node, self.flat).items():
                yield f"{node.name}.{key}", array
            for key in node.buffers:
                yield f"{node.name}.{key}", next(copies)
