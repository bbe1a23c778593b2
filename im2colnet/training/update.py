"""The update of the parameters: the rule that changes each of them, and the clipping of the gradient.

Each worker updates a range of the parameters. The ranges are made of chunks of one size, so that sums over a chunk do
not depend on the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from math import prod
from numbers import Integral, Real
from typing import Any, NamedTuple

from im2colnet.checks import arguments
from im2colnet.engine.program import Moment
from im2colnet.errors import Im2colnetError, ShapeError
from im2colnet.graph.choosing import chosen
from im2colnet.graph.nodes import Graph
from im2colnet.graph.parameters import Parameters, names
from im2colnet.optim import Optimizer
from im2colnet.parallel import Communicator, bounds
from im2colnet.parallel.ranks import Ranks
from im2colnet.types import Array

#: patterns of parameters' names, and the arguments of the optimizer that differ there
Groups = Mapping[str, Mapping[str, Any]]


class Part(NamedTuple):
    """Neighbouring elements of the vector of parameters that are updated by the same rule."""

    start: int
    stop: int
    rule: int  #: the number of their optimizer
    missed: int  #: the number of updates in which they were frozen


class Update:
    """An optimizer, and its state for the parameters of one network.

    Parameters
    ----------
    optimizer : Optimizer
    parameters : Parameters
    groups : dict of str to dict, optional
        The optimizer arguments that differ for the parameters whose names match a pattern. A parameter that matches
        several patterns gets the arguments of all of them; the last value of an argument counts.
    missed : dict of str to int, optional
        The number of updates in which a parameter was frozen, by name.

    Attributes
    ----------
    rules : list of Optimizer
        The optimizer, and the optimizers that are made from it for the groups.
    parts : tuple of Part
        All parameters that are trained.
    frozen : list of str
        The names of the parameters that are not trained.
    slots : dict of str to (size,) array
        The vectors of :meth:`im2colnet.Optimizer.state_slots`, as long as the parameters. With ranks only the elements
        that a rank updates are valid, until :meth:`gather`.
    sum : (size,) array or None
        The weighted sum of the gradients since the last update; None before the first use. With ranks only a part is
        valid, as of ``slots``.
    norm : float or None
        The norm of the last gradient, before clipping by the norm.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Parameters,
        groups: Groups | None = None,
        missed: Mapping[str, int] | None = None,
    ) -> None:
        self._parameters = parameters
        self.sum: Array | None = None
        self.norm: float | None = None
        self._scratch: dict[int, Array] = {}  # by the rank of the worker
        self.rules, self._rule_of = rules_of(optimizer, groups or {}, parameters.graph)
        self.slots = {name: self._zeros() for name in slots_of(self.rules)}
        chunks = math.ceil(parameters.flat.size / self._chunk)
        #: the sum of the gradient's squares in each chunk
        self._squares = parameters.backend.empty_shared((chunks,), "float64")
        self.arrange(missed or {})

    def arrange(self, missed: Mapping[str, int]) -> None:
        """Divide the trained parameters into parts; ``missed`` holds the number of updates in which each was frozen."""
        found: list[Part] = []
        self.frozen: list[str] = []
        for name, node, key in names(self._parameters.graph, "parameters"):
            if key in node.frozen:
                self.frozen.append(name)
                continue
            start = node.offsets[key]
            part = Part(start, start + prod(node.params[key].shape), self._rule_of[name], missed.get(name, 0))
            if found and found[-1].stop == start and found[-1][2:] == part[2:]:
                part = found.pop()._replace(stop=part.stop)
            found.append(part)
        self.parts, self._arranged_for = tuple(found), self._parameters.graph.frozen
        self._pieces: dict[tuple[int, int], list[Part]] = {}
        with self._parameters.backend.context():
            self._squares[...] = 0  # also of chunks in which nothing learns
            for _, node, key in names(self._parameters.graph, "parameters"):
                if self.sum is not None and key in node.frozen:  # a parameter that learns again begins with nothing
                    self._parameters.views(node, self.sum)[key][...] = 0

    @property
    def arranged(self) -> bool:
        """Whether the parts match the parameters that are trained now."""
        return self._arranged_for is self._parameters.graph.frozen

    def hold_sum(self) -> Array:
        """Return the vector of the sum of gradients, which is made on first use."""
        if self.sum is None:
            self.sum = self._zeros()
        return self.sum

    def kept(self, held: float) -> dict[str, Array]:
        """Return the vectors that belong to the parameters, by the prefix of their names in a checkpoint.

        ``held`` is the weight of the gradients that were added up since the last update.
        """
        return {f"optimizer.{slot}": vector for slot, vector in self.slots.items()} | (
            {"accumulated": self.hold_sum()} if held else {}
        )

    def views(self, held: float) -> Iterator[tuple[str, Array]]:
        """Yield what :meth:`kept` returns for each parameter, with its name in a checkpoint."""
        for name, vector in self.kept(held).items():
            for node in self._parameters.graph.nodes:
                for key, view in self._parameters.views(node, vector).items():
                    yield f"{name}.{node.name}.{key}", view

    def known(self) -> list[dict[str, Any]]:
        """Return all values that :meth:`apply` depends on, by name; first the objects whose methods it calls."""
        rules = {f"rule {i}": rule for i, rule in enumerate(self.rules)}
        sums = {} if self.sum is None else {"sum": self.sum}
        return [rules, {**self.slots, **sums, "squares": self._squares}, {"parts": self.parts}]

    def bounds(self, ranks: int) -> list[int]:
        """Return the offsets of the parameters that each rank updates: whole chunks, or all of them for the first."""
        return [min(self._chunk * end, self._parameters.flat.size) for end in self._chunk_bounds(ranks)]

    def _chunk_bounds(self, ranks: int) -> list[int]:
        count = self._squares.size
        return bounds(count, ranks) if self._elementwise else [0] + [count] * ranks

    def gather(self, ranks: Ranks) -> None:
        """Get the optimizer's state of the parameters that other ranks update."""
        ends = self.bounds(ranks.size)
        for vector in [*self.slots.values(), *([] if self.sum is None else [self.sum])]:
            ranks.all_gather(vector, ends)

    def apply(self, gradient: Array, comm: Communicator, moment: Moment, weight: float = 1.0) -> bool:
        """Update a worker's range of parameters; the first worker updates all if the optimizer must see all.

        The gradient becomes the mean of the gradients since the last update. Then its values are clipped, then its
        norm.
        """
        xp, pieces = self._parameters.backend.xp, self._mine(comm)
        slices = [slice(piece.start, piece.stop) for piece in pieces]
        last, finite = moment.update is not None, True
        if moment.held or not last:
            self._add(gradient, slices, moment, weight)
        if last and moment.held + weight:  # without a weight, all gradients have overflowed
            if moment.clip_value is not None:
                for part in slices:
                    xp.clip(gradient[part], -moment.clip_value, moment.clip_value, out=gradient[part])
            if moment.clip_norm is not None:
                finite = self._clip_norm(gradient, pieces, comm, moment.clip_norm)
            if finite:
                self._change(gradient, pieces, comm, moment)
        for part in slices:
            gradient[part] = 0  # the next step expects zeros where no layer writes
        return finite

    def _add(self, gradient: Array, slices: list[slice], moment: Moment, weight: float) -> None:
        """Add the gradient to the sum since the last update; the last gradient becomes the mean instead."""
        total, sums = moment.held + weight, self.hold_sum()
        for part in slices:
            g = gradient[part]
            g *= weight
            if moment.held:
                g += sums[part]
            if moment.update is None:
                sums[part] = g
            elif total:
                g /= total

    def _clip_norm(self, gradient: Array, pieces: list[Part], comm: Communicator, most: float) -> bool:
        """Scale the gradient down if its norm exceeds ``most``; return whether the norm is finite.

        All workers compute the same norm: each sums its own chunks, and all add the sums of all chunks.
        """
        backend, chunk = self._parameters.backend, self._chunk
        for i, inside in groupby(pieces, lambda piece: piece.start // chunk):
            squares = [backend.xp.square(gradient[piece.start : piece.stop], dtype="float64").sum() for piece in inside]
            self._squares[i] = sum(squares[1:], squares[0])
        comm.all_gather(self._squares, self._chunk_bounds(comm.ranks))
        self.norm = norm = math.sqrt(float(backend.to_numpy(self._squares.sum())))
        if not math.isfinite(norm):
            return False
        factor = most / (norm + 1e-6)
        if factor < 1:
            for piece in pieces:
                gradient[piece.start : piece.stop] *= factor
        return True

    def _change(self, gradient: Array, pieces: list[Part], comm: Communicator, moment: Moment) -> None:
        """Let each part's rule change the parameters."""
        backend, flat = self._parameters.backend, self._parameters.flat
        if not self._elementwise:
            if pieces:
                self._change_whole(gradient, moment)
            return
        work = self._work(comm.rank, self._chunk)
        for start, stop, number, missed in pieces:
            part, rule = slice(start, stop), self.rules[number]
            slots = {name: self.slots[name][part] for name in rule.state_slots()}
            t = (moment.update or 1) - missed
            backend.update(rule, flat[part], gradient[part], slots, moment.rates[number], t, work[: stop - start])

    def _work(self, rank: int, size: int) -> Array:
        """Return scratch of a worker, of at least this size."""
        if rank not in self._scratch or self._scratch[rank].size < size:
            self._scratch[rank] = self._parameters.backend.empty((size,), self._parameters.dtype)
        return self._scratch[rank]

    def _change_whole(self, gradient: Array, moment: Moment) -> None:
        """Give each rule all its parameters at once, which are copied if they are not neighbours."""
        backend, flat = self._parameters.backend, self._parameters.flat
        for number in dict.fromkeys(part.rule for part in self.parts):
            own, rule = [part for part in self.parts if part.rule == number], self.rules[number]
            vectors = [flat, gradient, *(self.slots[name] for name in rule.state_slots())]
            slices = [slice(part.start, part.stop) for part in own]
            p, g, *kept = [
                vector[slices[0]] if len(own) == 1 else backend.xp.concatenate([vector[each] for each in slices])
                for vector in vectors
            ]
            slots = dict(zip(rule.state_slots(), kept, strict=True))
            t = (moment.update or 1) - min(part.missed for part in own)
            backend.update(rule, p, g, slots, moment.rates[number], t, self._work(0, flat.size)[: p.size])
            if len(own) > 1:
                for vector, whole in zip([flat, *vectors[2:]], [p, *kept], strict=True):
                    start = 0
                    for each in slices:
                        stop = start + each.stop - each.start
                        vector[each], start = whole[start:stop], stop

    # ------------------------------------------------------------------ chunks

    @property
    def _elementwise(self) -> bool:
        return all(rule.works_elementwise() for rule in self.rules)

    @property
    def _chunk(self) -> int:
        size: int = self._parameters.flat.size
        return max(1, min(self._parameters.backend.update_chunk, size))

    def _zeros(self) -> Array:
        backend = self._parameters.backend
        vector = backend.empty_shared(self._parameters.flat.shape, self._parameters.dtype)
        with backend.context():
            vector[...] = 0
        return vector

    def _mine(self, comm: Communicator) -> list[Part]:
        """Return the pieces of the parts in each chunk of a worker."""
        count = self._squares.size
        mine = comm.partition(count) if self._elementwise else range(0 if comm.rank or comm.number else count)
        key = mine.start, mine.stop
        if key not in self._pieces:
            self._pieces[key] = list(self._cut(mine))
        return self._pieces[key]

    def _cut(self, chunks: range) -> Iterator[Part]:
        parts = iter(self.parts)
        part = next(parts, None)
        for i in chunks:
            start, stop = i * self._chunk, (i + 1) * self._chunk
            while part is not None and part.start < stop:
                if part.stop > start:
                    yield part._replace(start=max(start, part.start), stop=min(stop, part.stop))
                if part.stop > stop:
                    break
                part = next(parts, None)


class Gradient:
    """An update that changes nothing: it keeps the gradient, a vector as long as the parameters.

    It is for steps without worker processes: each process would keep the gradient in a copy of its own.

    Parameters
    ----------
    size : int
        The number of parameters.
    """

    def __init__(self, size: int) -> None:
        self.flat: Array | None = None
        self._size = size

    def known(self) -> list[dict[str, Any]]:
        return [{}]

    def bounds(self, ranks: int) -> list[int]:
        return [0, *[self._size] * ranks]

    def apply(self, gradient: Array, comm: Communicator, moment: Moment, weight: float = 1.0) -> bool:
        if comm.ranks > 1:
            comm.all_gather(gradient, self.bounds(comm.ranks))
        if not comm.rank:
            self.flat = gradient.copy()
        comm.barrier()  # the gradient is as it was until it is copied
        gradient[...] = 0
        return True


def slots_of(rules: Iterable[Optimizer]) -> tuple[str, ...]:
    """Return the names of the vectors that optimizers keep."""
    return tuple(dict.fromkeys(name for rule in rules for name in rule.state_slots()))


def rules_of(optimizer: Optimizer, groups: Groups, graph: Graph) -> tuple[list[Optimizer], dict[str, int]]:
    """Return the optimizer and its variants for the groups, and the number of each parameter's rule, by name."""
    known = [name for name, _, _ in names(graph, "parameters")]
    changes: dict[str, dict[str, Any]] = {name: {} for name in known}
    for pattern, fields in groups.items():
        for name in chosen("the pattern of groups", pattern, known):
            changes[name] |= fields
    distinct: list[dict[str, Any]] = [{}]
    rules, rule_of = [optimizer], {}
    for name, fields in changes.items():
        if fields not in distinct:
            distinct.append(fields)
            rules.append(changed(optimizer, fields, name))
        rule_of[name] = distinct.index(fields)
    return rules, rule_of


def changed(optimizer: Optimizer, fields: Mapping[str, Any], name: str) -> Optimizer:
    """Return an optimizer of the same class with other arguments, for the parameter ``name``."""
    kept = {key: getattr(optimizer, key) for key in arguments(type(optimizer))}
    for key in fields:
        if key not in kept:
            raise ShapeError(
                f"groups give {key!r} for {name}, which {type(optimizer).__name__} does not have; it has:"
                f" {', '.join(kept)}"
            )
    try:
        return type(optimizer)(**{**kept, **fields})
    except Im2colnetError as error:
        raise ShapeError(f"groups give {dict(fields)!r} for {name}: {error}") from error


def check_groups(groups: Any) -> dict[str, dict[str, Any]]:
    """Return groups as a dict of dicts, or raise a ShapeError."""
    if groups is None:
        return {}
    if not isinstance(groups, Mapping) or not all(isinstance(fields, Mapping) for fields in groups.values()):
        raise ShapeError(
            'groups must be a dict of name patterns and optimizer arguments such as {"*.bias": {"weight_decay": 0}},'
            f" got {groups!r:.80}"
        )
    return {pattern: {key: _plain(value) for key, value in fields.items()} for pattern, fields in groups.items()}


def _plain(value: Any) -> Any:
    """Return a number of NumPy as one of Python, which a checkpoint can hold."""
    return float(value) if isinstance(value, Real) and not isinstance(value, Integral) else value
