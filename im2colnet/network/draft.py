"""A network that is being built from a model file: layers by name, their inputs, and their initial weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend, use_backend
from im2colnet.layers import Layer, Softmax
from im2colnet.layout import internal_shape, user_shape
from im2colnet.network.containers import Net

#: the name of the network's input among the layers
INPUT = "input"


@dataclass
class Entry:
    """A layer, the layers that it reads, and its parameters and state."""

    layer: Layer
    reads: tuple[str, ...]
    shape: tuple[int, ...]  #: the shape of one sample of its output, as users see it: (C, H, W) of images
    before: tuple[int, ...]  #: the shape of one sample of its first input
    weights: dict[str, Any] = field(default_factory=dict)
    own_name: bool = False  #: whether its name is the name of its weights in the file


class Draft:
    """Layers by name, each after the layers whose outputs it reads.

    Parameters
    ----------
    input_shape : (C, H, W), or that of any other sample
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self.input_shape = tuple(input_shape)
        self.entries: dict[str, Entry] = {}
        self.outputs: list[str] = []
        self._counts: Counter[str] = Counter()  # how often each name was requested
        self._outer: set[str] = set()  # what comes before a dot in the names, such as "layer1.0" of "layer1.0.conv1"

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a sample of a layer's output."""
        return self.input_shape if name == INPUT else self.entries[name].shape

    def output_shape(self, layer: Layer, reads: Sequence[str]) -> tuple[int, ...]:
        """Return the shape of one sample of a layer's output for these inputs, or raise a ShapeError."""
        made = layer.output_shape(*(internal_shape(self.shape(read), 1) for read in reads))
        return user_shape(made)[1:]

    def add(
        self, name: str, layer: Layer, reads: Sequence[str], weights: Mapping[str, Any] = {}, own_name: bool = False
    ) -> str:
        """Append a layer, and return its name: the requested name, or a similar name that is free."""
        name = self.free_name(name)
        self.put(name, layer, reads, weights)
        self.entries[name].own_name = own_name
        self._note_name(name)
        return name

    def _note_name(self, name: str) -> None:
        parts = name.split(".")
        self._outer |= {".".join(parts[:i]) for i in range(1, len(parts))}

    def free_name(self, name: str) -> str:
        """Return a name that is not the name of a layer, nor the first part of a layer's name."""
        parts = name.split(".")
        taken = any(".".join(parts[:i]) in self.entries for i in range(1, len(parts)))  # a layer, not a part of a name
        wanted = name.replace(".", "_") if taken else name
        found = wanted
        while found in self.entries or found in self._outer or found in (INPUT, ""):
            self._counts[wanted] += 1
            found = f"{wanted}_{self._counts[wanted] + 1}"
        return found

    # ------------------------------------------------------------------ what passes need

    def readers(self) -> Counter[str]:
        """Count the readers of each value: layers, and the network's outputs."""
        return Counter([*(read for entry in self.entries.values() for read in entry.reads), *self.outputs])

    def readers_of(self, name: str) -> list[str]:
        """Return the layers that read a value."""
        return [reader for reader, entry in self.entries.items() if name in entry.reads]

    def put(self, name: str, layer: Layer, reads: Sequence[str], weights: Mapping[str, Any] = {}) -> None:
        """Put a layer in the place of another layer, or at the end."""
        own_name = name in self.entries and self.entries[name].own_name
        before = self.shape(reads[0])
        self.entries[name] = Entry(
            layer, tuple(reads), self.output_shape(layer, reads), before, dict(weights), own_name
        )

    def redirect(self, old: str, new: str) -> None:
        """Let all readers of one value read another value."""
        for entry in self.entries.values():
            entry.reads = tuple(new if read == old else read for read in entry.reads)
        self.outputs = [new if name == old else name for name in self.outputs]

    def rename(self, old: str, new: str) -> None:
        """Rename a layer, which keeps its place."""
        self.entries = {new if name == old else name: entry for name, entry in self.entries.items()}
        self._note_name(new)
        self.redirect(old, new)

    def prune(self) -> None:
        """Remove the layers on which no output depends."""
        needed, open_ = {*self.outputs}, [*self.outputs]
        while open_:
            name = open_.pop()
            more = [read for read in self.entries[name].reads if read != INPUT and read not in needed]
            needed.update(more)
            open_ += more
        self.entries = {name: entry for name, entry in self.entries.items() if name in needed}

    def sort(self) -> None:
        """Sort the layers so that each comes after the layers whose outputs it reads."""
        found: dict[str, Entry] = {}
        for start in self.entries:
            stack = [start]
            while stack:
                name = stack[-1]
                missing = [read for read in self.entries[name].reads if read != INPUT and read not in found]
                if name in found or not missing:
                    found.setdefault(name, self.entries[name])
                    stack.pop()
                else:
                    stack += missing
        self.entries = found

    # ------------------------------------------------------------------ the network

    def scores(self) -> Iterator[str]:
        """Yield for each output the value that a loss gets: for a softmax over classes, its input."""
        for name in self.outputs:
            entry = self.entries[name]
            is_last = isinstance(entry.layer, Softmax) and entry.layer.dim % (len(entry.shape) + 1) == 1
            yield entry.reads[0] if is_last and entry.reads[0] != INPUT else name

    def size(self) -> int:
        """Return the number of elements of all parameters and of the state of the layers."""
        layers = [entry.layer for entry in self.entries.values()]
        return sum(prod(p.shape) for layer in layers for p in (*layer.parameters().values(), *layer.state().values()))

    def net(self) -> Net:
        """Return the network, without its parameters."""
        layers = {name: (entry.layer, *entry.reads) for name, entry in self.entries.items()}
        scores = [*self.scores()]
        apart = scores != self.outputs and len({*scores}) == len(scores)
        net = Net(layers, outputs=self.outputs, scores=scores if apart else None)
        net.input_shape = self.input_shape
        return net

    def network(self, backend: str | Backend | None = None, dtype: str = "float32") -> Net:
        """Return the network, with its parameters of the type "float32" or "float64"."""
        net = self.net()
        weights = {f"{name}.{key}": w for name, entry in self.entries.items() for key, w in entry.weights.items()}
        with use_backend(get_backend(backend)):
            if not weights or dtype != "float32":
                net.init(dtype=dtype)
            if weights:
                net.load_state_dict(weights)
        return net
