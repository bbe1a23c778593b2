"""Your own layer in networks that are trained, predict, are divided among workers, and are saved and loaded."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from im2colnet.backend import Backend, Division
from im2colnet.errors import CheckpointError, LayerError, WorkerWarning
from im2colnet.host import np
from im2colnet.layers import Context, Conv2d, Layer, Parameter, ReLU
from im2colnet.layout import channel_axis, internal_shape, one_or_tuple
from im2colnet.losses import MSELoss, SumLoss
from im2colnet.network import Net, Network
from im2colnet.optim import SGD
from im2colnet.parallel.state import UnknownStateError, snapshot, stateless
from im2colnet.settings import get_workers, num_threads, set_workers
from im2colnet.testing.inputs import Part
from im2colnet.training.checkpoint import describe, rebuild
from im2colnet.training.trainer import Trainer
from im2colnet.types import Array, Shape

#: how far apart two results may be that are sums in another order, as a share of the largest number
ROUNDING = 1e-9
WORKERS = 1, 2, 3


class Watcher(Layer):
    """Passes its input to the layer under test; its parameter's gradient shows the gradient of the layer's input.

    The parameter is used for nothing else, so the layer's input stays as it is.
    """

    stateless = True

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    def parameters(self) -> dict[str, Parameter]:
        return {"seen": Parameter((self.shape[0],))}

    def forward(self, x: Array, ctx: Context) -> Array:
        ctx.y[...] = x
        return ctx.y

    def backward(self, dy: Array, ctx: Context) -> Array:
        ctx.grads["seen"][...] = dy.sum(axis=tuple(i for i in range(dy.ndim) if i != channel_axis(dy.shape)))
        return dy


AROUND = Watcher, Part  #: the layers around the one that is checked


def network_around(layer: Layer, shapes: Sequence[Shape], sample: Shape) -> Network:
    """Return a network of the layer behind a :class:`Watcher`; ``sample`` is the shape of one sample of its input."""
    if len(shapes) == 1:
        return Net({"before": Watcher(sample), "layer": layer})
    starts = [sum(int(np.prod(shape)) for shape in shapes[:i]) for i in range(len(shapes))]
    parts = {f"input{i}": (Part(starts[i], shape), "before") for i, shape in enumerate(shapes)}
    return Net({"before": Watcher(sample), **parts, "layer": (layer, *parts)})


class LayerInNetwork:
    """Networks around one layer, on one batch.

    Parameters
    ----------
    layer : Layer
    shapes : list of tuple of int
        Shapes of one sample of each input.
    images : (n, ...) array
        The input of the network, of all the layer's inputs together if there are several.
    seed : int
    backend : Backend
    """

    def __init__(self, layer: Layer, shapes: Sequence[Shape], images: Any, seed: int, backend: Backend) -> None:
        self.layer, self.shapes, self.images, self.seed, self.backend = layer, shapes, images, seed, backend
        self.layers = [node.layer for node in self._trainer().net.graph.nodes if not isinstance(node.layer, AROUND)]
        rng, shapes = np.random.default_rng((seed, 1)), self._trainer().net.graph.output_shapes(images.shape)
        targets = tuple(rng.standard_normal(shape) for shape in shapes)
        self.targets = one_or_tuple(targets)

    def error(self, text: str) -> LayerError:
        """An error that names the layer."""
        shapes = self.shapes[0] if len(self.shapes) == 1 else self.shapes
        return LayerError(f"{self.layer!r}, input {shapes}, in a network: {text}")

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Use threads as workers, without the warning that they are not processes."""
        before = get_workers()
        set_workers("threads")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", WorkerWarning)
                yield
        finally:
            set_workers(before)

    def _trainer(self, shard: int | None = None, seed: int | None = None) -> Trainer:
        net = network_around(self.layer, self.shapes, self.images.shape[1:]).init(self.seed, "float64", self.backend)
        outputs = len(net.graph.outputs)
        loss = MSELoss() if outputs == 1 else SumLoss([MSELoss()] * outputs)
        seed = self.seed if seed is None else seed
        return Trainer(net, loss=loss, optimizer=SGD(0.01), seed=seed, shard=shard, ranks="none")

    @staticmethod
    def _prediction(net: Network, images: Any) -> dict[str, Any]:
        """Each output of the network, by the words of an error."""
        found = net.predict(images)
        several = enumerate(found) if isinstance(found, tuple) else [("", found)]
        return {f"the prediction {i}".rstrip(): array for i, array in several}

    def _result(self, trainer: Trainer, steps: int = 2) -> dict[str, Any]:
        """Losses, all parameters and states after some steps, and a prediction."""
        losses = [trainer.step(self.images, self.targets) for _ in range(steps)]
        return {"the loss": np.array(losses), **trainer.net.state_dict(), **self._prediction(trainer.net, self.images)}

    def check(self, joined: bool = True) -> None:
        """Raise the first error; ``joined``: the layer takes any numbers, so it may follow other layers."""
        with self._quietly():
            self._check_described()
            self._check_stateless()
            single = self._check_workers()
            self._check_shards(single)
            self._check_saved()
            self._check_bands()
            if joined and self.images.ndim == 4 and not isinstance(self.targets, tuple):
                self._check_joined()

    # ------------------------------------------------------------------ planning

    def _check_described(self) -> None:
        """Check that the layer describes itself in the same way each time, since plans use that once."""
        graph = self._trainer().net.graph
        for node in graph.nodes:
            if isinstance(node.layer, AROUND):
                continue

            def said(n: int, node: Any = node, layer: Layer = node.layer) -> dict[str, Any]:
                shapes = graph.shapes(internal_shape(self.images.shape[1:], n))
                x, y = node.input_shape(shapes), shapes[node.output]
                found = {"parameters": dict(layer.parameters()), "state": dict(layer.state()), "output_shape": y}
                for training in (True, False):
                    found[f"needs(training={training})"] = layer.needs(x, y, "float64", self.backend, training)
                return found

            n = len(self.images)
            first = said(n)
            said(n + 1)
            for what, again in said(n).items():
                if again != first[what]:
                    raise self.error(
                        f"{what} of {node.layer!r} is {first[what]!r} in a first call and {again!r} in a second call."
                        " The memory plan uses it once, so it must depend only on its arguments and on the arguments of"
                        " the constructor"
                    )
            if shared := first["parameters"].keys() & first["state"].keys():
                raise self.error(
                    f"{', '.join(sorted(shared))}: a parameter and a state of {node.layer!r} have the same name, but a"
                    " checkpoint has one array for each name: give the state another name"
                )

    # ------------------------------------------------------------------ workers and shards

    def _check_stateless(self) -> None:
        """Check that a layer with ``stateless = True`` keeps no state."""
        for layer in self.layers:
            if not stateless(layer):
                continue
            before = _attributes(layer)
            trainer = self._trainer()
            trainer.step(self.images, self.targets)
            trainer.net.predict(self.images)
            changed = sorted(name for name, value in _attributes(layer).items() if before.get(name) != value)
            if changed:
                raise self.error(
                    f"the class {type(layer).__name__} has stateless = True, but a step changes {', '.join(changed)}:"
                    " each worker process would change its own copy. Keep it in ctx, or remove stateless = True"
                )

    def _check_workers(self) -> dict[str, Any]:
        """Return the results of one worker, which must be the same each time and for any number of workers."""
        found = []
        for number in (1, *WORKERS):
            with num_threads(number):
                found.append(self._result(self._trainer(shard=1)))
        first, *others = found
        for number, other in zip(WORKERS, others, strict=True):
            if what := _unequal(first, other):
                raise self.error(
                    f"{what} differs in a second training with the same seed: random numbers must come from ctx.key,"
                    " and values that are kept from step to step must be in state()"
                    if number == 1
                    else f"{what} differs between {number} workers and 1 worker, since several shards run at the same"
                    " time: forward must keep values for backward in ctx, and may write nowhere else"
                )
        return first

    def _check_shards(self, single: dict[str, Any]) -> None:
        """Check that shards of single samples give the result of the whole batch as one shard, except for rounding."""
        whole = self._result(self._trainer(shard=len(self.images)))
        if _unequal(whole, self._result(self._trainer(len(self.images), seed=self.seed + 1))):
            return  # it draws random numbers, of its own for each shard
        for what, array in whole.items():
            if not np.allclose(single[what], array, rtol=ROUNDING, atol=ROUNDING):
                raise self.error(
                    f"{what} depends on how the batch is divided into shards: it is off by"
                    f" {np.abs(single[what] - array).max():.3g} with one sample in each. A gradient must be a sum over"
                    " the samples of the shard; values of the whole batch must come from batch_sums or step_sums"
                )

    # ------------------------------------------------------------------ checkpoints

    def _check_saved(self) -> None:
        """Check that a checkpoint holds everything that training and prediction depend on."""
        kind = type(self.layer)
        try:
            description = describe(self.layer)
            made = rebuild(json.loads(json.dumps(description)), "layer")
        except CheckpointError as error:
            raise self.error(f"it cannot be stored in a checkpoint: {error}") from error
        if type(made) is not kind:
            raise self.error(
                f"a checkpoint would load a layer of another class with the same name, which was defined later in"
                f" {type(made).__module__}: check a layer of that class, or rename one of the classes"
            )
        if describe(made) != description:
            raise self.error(
                f"a checkpoint would load it as {made!r}, with the arguments {_arguments(made)}, not"
                f" {_arguments(self.layer)}: the constructor must store each argument unchanged in the attribute with"
                " the same name"
            )
        trainer = self._trainer()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layer.safetensors"
            trainer.step(self.images, self.targets)
            trainer.save(path)
            loaded = Trainer.load(path, backend=self.backend, ranks="none")
        if what := _unequal(self._result(trainer, 1), self._result(loaded, 1)):
            raise self.error(
                f"{what} is different after a checkpoint was loaded: values that the layer learns or counts must be in"
                " parameters() or state(), and its settings in the arguments of its constructor"
            )

    # ------------------------------------------------------------------ rows of one image, and other layers

    def _check_bands(self) -> None:
        """Check that several workers that share an image's rows give the result of one worker."""
        if not any(layer.keeps("band") for layer in self.layers):
            return
        one: dict[str, Any] = {}
        other: dict[str, Any] = {}
        for found, bands in ((one, 1), (other, 2)):
            with self._divided(Division(bands=bands, band_min_flops=1)):
                found.update(self._prediction(self._trainer().net, self.images[:1]))
        for what, array in one.items():
            if not np.allclose(other[what], array, rtol=ROUNDING, atol=ROUNDING):
                raise self.error(
                    f"{what} of one image is off by {np.abs(other[what] - array).max():.3g} if two workers share its"
                    " rows: band must return a layer that makes these rows of the output, and the rows of the input"
                    " that it reads, or None"
                )

    @contextmanager
    def _divided(self, division: Division) -> Iterator[None]:
        """Within the block the backend divides its work in this way."""
        own = vars(self.backend)
        before = own.get("division")
        own["division"] = division
        try:
            yield
        finally:
            del own["division"]
            if before is not None:
                own["division"] = before

    def _check_joined(self) -> None:
        """Check that the layer joined with its neighbours by graph passes gives the result of the separate layers."""
        sample = self.images.shape[1:]
        conv, relu = Conv2d(sample[0], sample[0], 1), ReLU()
        joined = Net({"conv": conv, "layer": self.layer, "relu": relu}).init(self.seed, "float64", self.backend)
        arrays, x = joined.state_dict(), self.images
        for name, layer in (("conv", conv), ("layer", self.layer), ("relu", relu)):
            alone = Net({name: layer}).init(self.seed, "float64", self.backend)
            alone.load_state_dict({key: value for key, value in arrays.items() if key.partition(".")[0] == name})
            x = alone.predict(x)
        found = joined.predict(self.images)
        if not np.allclose(found, x, rtol=ROUNDING, atol=ROUNDING):
            raise self.error(
                f"behind a convolution and before ReLU its prediction is off by {np.abs(found - x).max():.3g}: its"
                " epilogue, absorb, running_line, fuses and needs must agree with its forward"
            )


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the name of the first array whose bits differ, or nothing."""
    return next((name for name, array in one.items() if array.tobytes() != other[name].tobytes()), "")


def _attributes(layer: Layer) -> dict[str, Any]:
    """Return a value for each attribute of a layer that differs if the attribute has changed."""
    found = {}
    for name, value in vars(layer).items():
        with suppress(UnknownStateError):
            found[name] = snapshot(value, random=False)
    return found


def _arguments(layer: Layer) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in layer.config().items())
