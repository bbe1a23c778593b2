"""The update of the parameters; each worker updates a range of them."""

from __future__ import annotations

from typing import Any

from im2colnet.engine.program import Moment
from im2colnet.graph.parameters import Parameters
from im2colnet.optim import Optimizer
from im2colnet.parallel import Communicator
from im2colnet.types import Array


class Update:
    """An optimiser, and what it keeps of the parameters of one network.

    Parameters
    ----------
    optimizer : Optimizer
    parameters : Parameters

    Attributes
    ----------
    slots : dict of str to (size,) array
        The vectors of :meth:`im2colnet.Optimizer.state_slots`, as long as the parameters.
    """

    def __init__(self, optimizer: Optimizer, parameters: Parameters) -> None:
        self.optimizer, self._parameters = optimizer, parameters
        self.slots = {name: self._zeros() for name in optimizer.state_slots()}
        self._scratch: dict[int, Array] = {}  # by the rank of the worker

    def _zeros(self) -> Array:
        backend = self._parameters.backend
        vector = backend.empty_shared(self._parameters.flat.shape, self._parameters.dtype)
        with backend.context():
            vector[...] = 0
        return vector

    def known(self) -> list[dict[str, Any]]:
        """Return all values that :meth:`apply` depends on, by name; first the objects whose methods it calls."""
        return [{"optimizer": self.optimizer}, self.slots]

    def apply(self, gradient: Array, comm: Communicator, moment: Moment) -> None:
        """Change a worker's range of parameters; the first worker changes all if the optimiser must see all."""
        parameters, backend = self._parameters, self._parameters.backend
        flat, size = parameters.flat, parameters.flat.size
        if self.optimizer.works_elementwise():
            elements, most = comm.partition(size), min(backend.update_chunk, size)
        else:
            elements, most = range(0 if comm.rank else size), size
        most = max(1, most)
        if comm.rank not in self._scratch or self._scratch[comm.rank].size < min(most, len(elements)):
            self._scratch[comm.rank] = backend.empty((most,), parameters.dtype)
        scratch = self._scratch[comm.rank]
        for start in range(elements.start, elements.stop, most):
            part = slice(start, min(start + most, elements.stop))
            slots = {name: vector[part] for name, vector in self.slots.items()}
            some = scratch[: part.stop - part.start]
            backend.update(self.optimizer, flat[part], gradient[part], slots, moment.lr, moment.step + 1, some)
        gradient[elements.start : elements.stop] = 0  # the next step expects zeros where no layer writes
