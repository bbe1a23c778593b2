"""Training: steps, epochs, evaluation, and checkpoints from which training resumes exactly."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import copy, deepcopy
from functools import partial, wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import more_than_zero, truth_value, whole
from im2colnet.engine import Engine, Moment
from im2colnet.errors import (
    BackendError,
    CheckpointError,
    FrozenError,
    InterruptedStepError,
    NonFiniteError,
    ShapeError,
    TrainingWarning,
    mark_agreed,
)
from im2colnet.interrupt import Interruption, deferred
from im2colnet.layout import internal_shape
from im2colnet.losses import CrossEntropyLoss, Loss
from im2colnet.network import Network
from im2colnet.optim import SGD, Optimizer
from im2colnet.show.automatic import progress_display
from im2colnet.show.display import RECORDED, VALIDATION, Display, Progress, cells
from im2colnet.text import count
from im2colnet.training import agreement
from im2colnet.training.agreement import Agreement
from im2colnet.training.callbacks.base import Callbacks, Fitting, lost
from im2colnet.training.callbacks.checkpoints import Checkpoints
from im2colnet.training.data import (
    Data,
    as_dataset,
    check_batches,
    check_fit,
    compare,
    know_inputs,
    named_as_trained,
    statistics_of,
    training_data,
)
from im2colnet.training.folder import check_free, make_folder
from im2colnet.training.history import History
from im2colnet.training.measuring import Mistake, check_metrics, finite, measure_all, worst_mistakes
from im2colnet.training.state import LossScale, _Epoch, _State, lengthened, rate_of
from im2colnet.training.update import Gradient, Groups, Update, check_groups, rules_of, slots_of
from im2colnet.training.weights import Weights, beneath
from im2colnet.types import Array
from im2colnet.version import __version__

if TYPE_CHECKING:
    from im2colnet.datasets.inputs import Inputs
    from im2colnet.datasets.transforms import Transform
    from im2colnet.metrics import Metric


#: the prefix of the trained weights' names in a checkpoint whose network has other weights
OWN = "own."
#: the entries of a checkpoint's description that ranks compare
COMPARED = (
    *("dtype", "precision", "loss", "optimizer", "groups", "seed", "shard"),
    *("clip_norm", "clip_value", "accumulate", "frozen", "normalization"),
)
#: attributes that are made anew in a copy
_MADE = ("_engine", "_update", "_parameters", "_callbacks", "fitting")

P = ParamSpec("P")
R = TypeVar("R")


def _takes_a_pair(method: Callable[Concatenate[Trainer, P], R]) -> Callable[Concatenate[Trainer, P], R]:
    """Make a method that takes a pair (images, labels) raise a clear error when it gets two arguments instead."""

    @wraps(method)
    def checked(self: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if len(args) > 1 and (isinstance(args[1], (list, tuple)) or getattr(args[1], "shape", None)):
            name = method.__name__
            more = ", epochs=..." if name == "fit" else ""
            raise ShapeError(f"give images and labels as a pair: trainer.{name}((images, labels){more})")
        return method(self, *args, **kwargs)

    return checked


class Trainer:
    """Trains a network on images, evaluates it, and writes and reads checkpoints.

    Parameters
    ----------
    net : Network
        The network to train. If it has no parameters yet, ``net.init(seed)`` makes them.
    loss : Loss, optional
        The loss function, which also decides what the labels are. The default is ``CrossEntropyLoss()``.
    optimizer : Optimizer, optional
        The optimizer, such as ``SGD``, ``Adam`` or ``AdamW``. The default is ``SGD(lr=0.1, momentum=0.9)``.
    seed : int
        The seed of the random numbers for initialization, shuffling and dropout. The same seed gives the same result,
        bit for bit, for any number of threads.
    backend : str or Backend, optional
        The backend on which a new network gets its parameters. A network that has parameters keeps its backend: naming
        another one raises BackendError.
    shard : int, optional
        The largest number of samples that go through the network together. It decides how sums are grouped, so the last
        bits of a result depend on it, and so do the masks of dropout. The default on a CPU is half of the batch, or
        fewer samples if half of the batch does not fit into the cache; on a GPU it is the whole batch. With more than
        two cores a smaller shard can be faster.
    precision : {"float32", "tf32", "float16", "bfloat16"}, optional
        The precision that is assigned to :attr:`Network.precision`; by default the network keeps its precision. On a
        GPU a lower precision can make a step faster. With "float16" the loss is multiplied by a scale; a step whose
        gradient overflows changes only this scale.
    metrics : dict of str to callable, optional
        Metrics by name: functions ``metric(outputs, targets)`` that return a number. :meth:`evaluate` computes them in
        addition to the loss, and :meth:`fit` computes them on the validation data after every epoch. A checkpoint does
        not hold them: assign :attr:`metrics` again after :meth:`load`.
    clip_norm : float, optional
        The largest norm of the gradient of all parameters together. A gradient with a larger norm is scaled down to
        this norm, as by ``torch.nn.utils.clip_grad_norm_``.
    clip_value : float, optional
        The largest absolute value of the elements of the gradient: each element is clipped to the range from
        ``-clip_value`` to ``clip_value``, before the norm is clipped.
    accumulate : int
        The number of batches whose gradients are accumulated for one update of the parameters. The update uses the mean
        gradient, so without batch norm it equals the update of one batch with all these images. The last update of an
        epoch may have fewer batches.
    groups : dict of str to dict, optional
        Parameter groups: optimizer arguments for the parameters whose names match a pattern, such as
        ``{"*.bias": {"weight_decay": 0}, "features.*": {"lr": 0.01}}``. A learning rate is a number or a schedule. A
        parameter that matches several patterns gets the arguments of all of them; if they give the same argument, the
        value of the last pattern counts. :func:`im2colnet.optim.decay_weights_only` makes groups.
    ranks : {"auto", "mpi", "none"} or communicator of mpi4py, optional
        The processes (ranks) that train together, if ``mpiexec`` has started several; each computes a part of every
        batch. With "auto" all processes that a known launcher has started train together; with "mpi" all processes
        that MPI sees, for launchers that "auto" does not recognize; with "none" each process trains on its own. With a
        communicator its processes train together, so that one job can have several trainings. The default is the
        environment variable ``IM2COLNET_RANKS``, or "auto" if it is not set. The result is bit for bit the result of
        one process. All ranks must make the same trainer and call its collective methods in the same order; these
        methods are marked "Collective" below.

    Attributes
    ----------
    history : History
        The records of all epochs so far.
    fitting : Fitting or None
        The arguments of the current or last call of :meth:`fit`, and how it ended.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])
    >>> trainer = ic.Trainer(net, optimizer=ic.Adam(1e-2), seed=0)
    >>> history = trainer.fit(train, 5, validation=test, progress=False)
    >>> trainer.evaluate(test)["accuracy"] > 0.9
    True
    >>> trainer.save("digits.safetensors")
    >>> ic.Trainer.load("digits.safetensors").epoch
    5
    """

    def __init__(
        self,
        net: Network,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        seed: int = 0,
        backend: str | Backend | None = None,
        shard: int | None = None,
        precision: str | None = None,
        metrics: Mapping[str, Metric] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        groups: Groups | None = None,
        ranks: Any = None,
    ) -> None:
        self._agreement = Agreement(ranks)
        with self._agreement.collective(agreement.MAKE) as meet:
            shard = None if shard is None else whole("shard", shard)
            if not isinstance(net, Network):
                raise ShapeError(f"net must be a network such as ic.Sequential([...]), got {net!r}")
            seed = whole("seed", seed, least=0)
            self._loss = _check_loss(CrossEntropyLoss() if loss is None else loss)
            self._optimizer = _check_optimizer(SGD(lr=0.1, momentum=0.9) if optimizer is None else optimizer)
            self.clip_norm, self.clip_value, self.accumulate = clip_norm, clip_value, accumulate
            self._groups = check_groups(groups)
            if not net.initialized:
                net.init(seed, backend=backend)
            _check_backend(net, backend)
            if precision is not None:
                net.precision = precision
            self._net, self._seed, self._parameters = net, seed, net.held
            self.history = History()
            self._engine = self._new_engine(shard)
            self._update = Update(self.optimizer, net.held, self._groups)
            self._state = _State()
            self.metrics = metrics or {}
            self._augment: tuple[Transform, ...] = ()
            #: the checksums of the checkpoints that this trainer has written or was loaded from
            self._marks: set[str] = set()
            #: the arguments of the current or last call of `fit`, and how it ended
            self.fitting: Fitting | None = None
            self._callbacks = Callbacks([])
            #: the functions that return the states of the callbacks of the last `fit` or of a checkpoint, by name
            self._states: dict[str, Callable[[], dict[str, Any]]] = {}
            #: the weights that are trained, while the network has others: see `use`
            self._own: Weights | None = None
            self._loads = 0  #: the number of `load_state_dict` of the network when it got the others
            meet()
        if self._agreement.ranks is not None:
            self._agreement.compare(self._beginning())

    def _beginning(self) -> dict[str, Any]:
        """Return the facts that must be equal on all ranks, by name."""
        state = self.net.state_dict()
        try:
            facts = self._information()
        except CheckpointError:  # a class of the user's that no checkpoint can hold
            facts = {"loss": type(self.loss), "optimizer": type(self.optimizer), "seed": self.seed, "shard": self.shard}
        return {
            "network": facts.get("network"),
            "weights": zlib.crc32(b"".join(array.tobytes() for array in state.values())),
            "version of im2colnet": __version__,
            "backend": self.net.backend.full_name,
            **{name: facts.get(name) for name in COMPARED},
        }

    @property
    def rank(self) -> int:
        """The rank of this process: its number, from 0, among the processes that train together."""
        return self._agreement.rank

    @property
    def rank_count(self) -> int:
        """The number of processes that train together."""
        return self._agreement.count

    def on_first(self, function: Callable[[], R]) -> R:
        """Call a function on rank 0 only, and return its result on every rank. Collective.

        Use it for work that must happen once, such as writing a file. An error of the function is raised on every rank.

        Parameters
        ----------
        function : callable
            A function without arguments.

        Returns
        -------
        object
            The result of the function; it is pickled for the other ranks.
        """
        return self._agreement.on_first(function)

    def of_first(self, value: R) -> R:
        """Return rank 0's value on every rank, such as a decision that depends on the time. Collective.

        Parameters
        ----------
        value : object
            The value of this rank. The value of rank 0 is pickled for the other ranks.

        Returns
        -------
        object
            The value of rank 0.
        """
        return self._agreement.of_first(value)

    def __getstate__(self) -> dict[str, Any]:
        self._check_network()
        self._complete()
        state = {k: v for k, v in vars(self).items() if k not in _MADE}
        vectors = {
            name: self.net.backend.to_numpy(vector) for name, vector in self._update.kept(self._state.held).items()
        }
        own = None if self._own is None else self._own.state_dict()
        remembered = {name: state() for name, state in self._states.items()}
        return state | {"_kept": vectors, "_shard": self._engine.shard, "_own": own, "_states": remembered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shard, kept, own = state.pop("_shard"), state.pop("_kept"), state.pop("_own", None)
        remembered = state.pop("_states", {})
        vars(self).update(state)
        self.fitting, self._callbacks, self._states = None, Callbacks([]), _kept(remembered)
        self._parameters, backend = self.net.held, self.net.backend
        self._engine = self._new_engine(shard)
        self._update = Update(self.optimizer, self._parameters, self._groups, self._state.missed)
        with backend.context():
            for name, vector in self._update.kept(self._state.held).items():
                vector[...] = backend.asarray(kept[name])
        self._own = None
        if own is not None:
            self._take_own(own)

    def __copy__(self) -> Trainer:
        return deepcopy(self)  # two trainers of the same network would disturb each other

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<Trainer of {type(self.net).__name__}: {facts}>"

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook: the settings and the progress of the training, and the history."""
        from im2colnet.show.html import pairs

        return pairs({"network": type(self.net).__name__} | self._facts()) + self.history._repr_html_()

    def _facts(self) -> dict[str, str]:
        """Return the settings and the progress of the training, as texts by name."""
        last = [f", {title} {text}" for title, text in cells(self.history[-1]).items()] if self.history else []
        return {
            "parameters": f"{self._parameters.flat.size:,}",
            "loss": repr(self.loss),
            "optimizer": repr(self.optimizer),
            "backend": self._parameters.backend.name,
            "seed": str(self.seed),
            "done": f"{count(self.epoch, 'epoch')}, {count(self.steps, 'step')}{''.join(last)}",
        }

    @property
    def net(self) -> Network:
        """The network that is trained."""
        return self._net

    @net.setter
    def net(self, net: Network) -> None:
        raise FrozenError(
            "the net of a trainer cannot be replaced, because the optimizer has a state for it: make a new Trainer(net)"
        )

    @property
    def seed(self) -> int:
        """The seed of shuffling and dropout."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        raise FrozenError(
            "the seed of a trainer cannot be changed, because it orders the images: make a new Trainer(net, seed=...)"
        )

    @property
    def shard(self) -> int | None:
        """The largest number of samples in a shard, or None where the backend decides."""
        return self._engine.shard

    @property
    def loss(self) -> Loss:
        """The loss. A loss that is assigned is used from the next step or evaluation on."""
        return self._loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._loss = self._engine.loss = _check_loss(loss)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that are computed in addition to the loss: functions ``metric(outputs, targets)`` by name."""
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = check_metrics(metrics, self.loss)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer. A new optimizer can be assigned; the next step uses it, with the present state.

        After the first step, the new optimizer must therefore have the same state vectors: ``SGD`` with momentum can
        follow ``SGD`` with momentum, and ``AdamW`` can follow ``Adam``.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        self._set_rules(_check_optimizer(optimizer), self._groups)

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """The parameter groups, see :class:`Trainer`. Groups that are assigned are used from the next step on."""
        return {pattern: dict(fields) for pattern, fields in self._groups.items()}

    @groups.setter
    def groups(self, groups: Groups | None) -> None:
        self._set_rules(self._optimizer, check_groups(groups))

    def _set_rules(self, optimizer: Optimizer, groups: dict[str, dict[str, Any]]) -> None:
        """Change the optimizer and its groups, and keep the state of the previous optimizer."""
        self._complete()
        before, update = self._update, Update(optimizer, self._parameters, groups, self._state.missed)
        found, wanted = (", ".join(names) or "empty" for names in (before.slots, update.slots))
        if found != wanted and self._state.step:
            steps = count(self._state.step, "step")
            if groups != self._groups:
                raise FrozenError(
                    f"the groups cannot be replaced after {steps}: the state of the optimizer is {found}, but the state"
                    f" of {optimizer!r} with these groups is {wanted}: make a new Trainer(net, groups=...), which"
                    " begins with zeros"
                )
            raise FrozenError(
                f"the optimizer cannot be replaced after {steps}: its state is {found}, but the state of"
                f" {optimizer!r} is {wanted}: make a new Trainer(net, optimizer=...), which begins with zeros"
            )
        self._optimizer, self._groups, self._update = optimizer, groups, update
        if found == wanted:
            update.slots, update.sum, update.norm = before.slots, before.sum, before.norm

    @property
    def clip_norm(self) -> float | None:
        """The largest norm of the gradient of all parameters together, or None. It may be assigned between steps."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, most: float | None) -> None:
        self._clip_norm = None if most is None else more_than_zero("clip_norm", most)

    @property
    def clip_value(self) -> float | None:
        """The largest absolute value in the gradient, or None. It may be assigned between steps."""
        return self._clip_value

    @clip_value.setter
    def clip_value(self, most: float | None) -> None:
        self._clip_value = None if most is None else more_than_zero("clip_value", most)

    @property
    def accumulate(self) -> int:
        """The number of batches whose gradients are added up for one update. It may be assigned between steps."""
        return self._accumulate

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = whole("accumulate", batches)

    @property
    def gradient_norm(self) -> float | None:
        """The norm of the gradient of the last update, before clipping; None without ``clip_norm``."""
        return None if self.clip_norm is None else self._update.norm

    @property
    def updates(self) -> int:
        """The number of updates of the parameters so far. With :attr:`accumulate` several steps make one update."""
        return self._state.updates

    @property
    def augment(self) -> tuple[Transform, ...]:
        """The transforms of the training images in the last ``fit``, which are the default of the next ``fit``."""
        return self._augment

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return self._state.epoch

    # ------------------------------------------------------------------ steps

    def step(self, images: Any, labels: Any) -> float:
        """Train on one batch: compute its loss and gradient, and update the parameters.

        With :attr:`accumulate`, every step adds its gradient, and only the last of several steps updates the
        parameters.

        Collective: every rank gets the whole batch, and computes its part of it.

        Parameters
        ----------
        images : (N, C, H, W) array, or (N, features)
            The images. Values of type uint8 are scaled to [0, 1].
        labels : (N, ...) array
            The labels, in the form that the loss takes: the class of each image as (N,) integers, or targets of the
            output's shape.

        Returns
        -------
        float
            The mean loss of the batch before the parameters change.

        Raises
        ------
        NonFiniteError
            If the images, the loss, or with ``clip_norm`` the gradient's norm are not finite. The parameters are
            unchanged.
        ShapeError, DTypeError, BackendError
            If images or labels do not fit the network, or all its parameters are frozen.
        KeyboardInterrupt
            After Ctrl-C, when the step is done. A second Ctrl-C stops the step at once.
        InterruptedStepError
            If an earlier step was interrupted while it changed the parameters. Load a checkpoint then.
        """
        with deferred() as interruption:
            loss = self._step(images, labels)
        interruption.act()
        return loss

    def _step(
        self,
        images: Any,
        labels: Any,
        while_waiting: Callable[[], None] | None = None,
        epoch: _Epoch | None = None,
        samples: int | None = None,
    ) -> float:
        """Train on one batch and count the step, or raise.

        If parameters have changed but the step was not counted, later calls refuse to continue from them. ``samples``
        is the batch size, if the images are only those of this rank.
        """
        state = self._state
        with self._agreement.collective(agreement.STEP) as meet:
            self._check_network()
            self.train_own()
            if self._update.frozen and not self._update.parts:
                raise ShapeError(
                    "all parameters of the network are frozen, so there is nothing to learn: net.unfreeze(...)"
                )
            images = self.net.check_images(images, 1 if samples is None else 0)
            scaled = self._engine.dtype == "float16"
            moment = self._moment(scaled, last=epoch is not None and epoch.batch + 1 == epoch.steps)
            if self._agreement.ranks is not None:
                images, samples = self._own_part(images, samples)
                meet(step=state.step, batch_size=samples, checksum_of_labels=agreement.checksum(labels))
        with self._engine.alone():
            if moment.held or moment.update is None:
                self._update.hold_sum()
            try:
                loss, *counts = self._engine.train(images, labels, self._update, moment, while_waiting, samples)
            except NonFiniteError:
                if self._engine.refused:  # what was added up holds the same numbers
                    state.drop_held()
                raise
            self.net.knows_shape(images)
            if scaled:
                state.scale.update(self._engine.overflowed)
                if state.scale.value < 1:
                    self._engine.changing = False
                    raise NonFiniteError(
                        "the gradient overflows in float16 however the loss is scaled: try a lower learning rate, or"
                        ' precision="bfloat16"; the parameters are unchanged'
                    )
            state.count(moment.update is not None, self._engine.weight, self._update.frozen)
            if epoch is not None:
                epoch.count(loss, dict(zip(self.loss.metrics, counts, strict=True)), len(labels))
            self._engine.changing = False
        self._engine.say()
        return loss

    def _own_part(self, images: Any, samples: int | None) -> tuple[Any, int]:
        """Return the images of this rank, and the batch size.

        The batch is planned here, before the ranks meet, so that images of a wrong shape are an error on every rank.
        """
        if samples is not None:
            return images, samples
        return images[self._engine.part(tuple(images.shape[1:]), len(images))], len(images)

    def _moment(self, scaled: bool, last: bool) -> Moment:
        """Return the numbers of the next step; ``last`` says that it is the last one of its epoch."""
        state, rules = self._state, self._update.rules
        schedules = {id(rule.lr): rule.schedule for rule in rules}
        rates = {key: rate_of(schedule, state, self.history) for key, schedule in schedules.items()}
        updates = last or state.held_steps + 1 >= self.accumulate
        return Moment(
            self.seed,
            state.step,
            tuple(rates[id(rule.lr)] for rule in rules),
            state.scale.value if scaled else 1.0,
            state.updates + 1 if updates else None,
            state.held,
            self.clip_norm,
            self.clip_value,
        )

    def gradients(self, images: Any, labels: Any) -> dict[str, Array]:
        """Return the gradient of a batch's mean loss with respect to each parameter, and change nothing. Collective.

        It is the gradient that the next :meth:`step` would compute for this batch, before clipping: layers work as in
        training, and dropout draws the same masks as in that step.

        Parameters
        ----------
        images : (N, C, H, W) array, or (N, features)
            The images. Values of type uint8 are scaled to [0, 1].
        labels : (N, ...) array
            The labels, in the form that the loss takes.

        Returns
        -------
        dict of str to array
            An array of the backend for each parameter that is not frozen, with the names and shapes of
            :meth:`Network.parameters`.

        Raises
        ------
        NonFiniteError
            If the images or the loss are not finite, or the gradient overflows in float16.
        """
        samples: int | None = None
        with self._agreement.collective(agreement.GRADIENTS) as meet:
            self._check_network()
            engine = self._new_engine(self._engine.shard)
            images, gradient = self.net.check_images(images), Gradient(self._parameters.flat.size)
            before = Weights(self._parameters)
            moment = Moment(self.seed, self.steps, (), self._state.scale.value if engine.dtype == "float16" else 1.0)
            if self._agreement.ranks is not None:
                images, samples = self._own_part(images, None)
                meet(step=self.steps, batch_size=samples, checksum_of_labels=agreement.checksum(labels))
        with deferred() as interruption:
            try:
                with engine.alone():
                    engine.train(images, labels, gradient, moment, samples=samples)
            finally:
                before.write()  # running statistics
        interruption.act()
        if gradient.flat is None or engine.overflowed:
            raise NonFiniteError("the gradient overflows in float16: use precision='bfloat16', or another batch")
        views = ((node, self.net.views(node, gradient.flat)) for node in self.net.graph.nodes)
        return {f"{node.name}.{key}": view[key] for node, view in views for key in node.learning}

    def clocked_step(self, images: Any, labels: Any) -> dict[tuple[str, int], float]:
        """Train on one batch; return the seconds of each layer, by kind of pass and position in the network."""
        with self._engine.clocked() as clock:
            self._step(images, labels)
        return clock

    @property
    def steps(self) -> int:
        """The number of completed steps in all epochs."""
        return self._state.step

    @property
    def marks(self) -> frozenset[str]:
        """The checksums of the checkpoints that this trainer has written or was loaded from."""
        return frozenset(self._marks)

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """The state of the optimizer: vectors by name, arrays of the backend with one element for each parameter.

        Collective: each rank keeps the state of the parameters that it updates, and gets the rest from the other ranks
        here.
        """
        self._complete()
        return dict(self._update.slots)

    def _complete(self) -> None:
        """Get the optimizer's state of the parameters that other ranks update."""
        ranks = self._agreement.ranks
        if ranks is not None:
            self._agreement.meet(agreement.STATE, step=self._state.step)
            with self._engine.alone():
                self._update.gather(ranks)

    @property
    def loss_scale(self) -> LossScale:
        """The factor that the loss is multiplied by in float16."""
        return self._state.scale

    @property
    def engine(self) -> Engine:
        """The engine that runs the steps."""
        return self._engine

    @property
    def workers(self) -> str:
        """The workers that ran the last step, such as "2 processes", "2 threads" or "1 worker".

        "1 thread" means that one thread ran all shards in a fixed order, because one of your own layers, losses or
        optimizers keeps state.
        """
        return self._engine.workers_text

    def _new_engine(self, shard: int | None) -> Engine:
        graph, ranks = self.net.graph.for_loss(), self._agreement.ranks
        return Engine(self._parameters, graph, training=True, loss=self.loss, shard=shard, ranks=ranks)

    def _check_whole(self) -> None:
        if self._engine.changing:
            raise InterruptedStepError(
                "a training step ended while it changed the parameters, so some are new and some are old: continue from"
                " a checkpoint with ic.Trainer.load(path), or start again with net.init(seed) and a new Trainer"
            )

    def _check_network(self) -> None:
        self._check_whole()
        if self.net.held is not self._parameters:
            raise ShapeError("the network was initialized again after this trainer was made: make a new Trainer")
        if self._engine.precision != self.net.precision:
            self._engine = self._new_engine(self._engine.shard)
        self.net.check_unchanged()
        if not self._update.arranged:
            self._update.arrange(self._state.missed)

    @_takes_a_pair
    def evaluate(self, data: Data, metrics: Mapping[str, Metric] | None = None) -> dict[str, float]:
        """Return the mean loss, the metrics of the loss, and other metrics over a data set, in evaluation mode.

        Collective: the ranks divide the data set, and all of them return the same result.

        Parameters
        ----------
        data : Dataset, or (images, labels)
            The data to evaluate on. Any object with a length whose items are pairs (image, label) works too.
        metrics : dict of str to callable, optional
            Functions ``metric(outputs, targets)`` that return a number, such as the functions of
            ``im2colnet.metrics``, by name. They get the network's outputs for all samples and the labels of the data
            set, as NumPy arrays. The default is the trainer's :attr:`metrics`.

        Returns
        -------
        dict of str to float
            For a classifier ``{"loss": ..., "accuracy": ...}``, and the value of each of ``metrics``.

        Raises
        ------
        ShapeError
            If a metric does not return a number, or has a name that is taken.
        """
        with self._agreement.collective(agreement.EVALUATE) as meet:
            metrics = self.metrics if metrics is None else check_metrics(metrics, self.loss)
            data = as_dataset("data", data)
            self._check_whole()
            self._use_averages()
            compare(self.net, self._engine.dtype, "data", data)
            if self._agreement.ranks is not None:
                labels = agreement.checksum(data.labels)
                meet(number_of_images=len(data), checksum_of_labels=labels, number_of_metrics=len(metrics))
        (loss, *counts), outputs = self.net.evaluated(
            data.images, data.labels, self.loss, keep=bool(metrics), ranks=self._agreement.ranks
        )
        found = {name: count / len(data) for name, count in zip(self.loss.metrics, counts, strict=True)}
        return {"loss": loss} | found | measure_all(metrics, outputs, data.labels)

    def predict(self, images: Any, scores: bool = False) -> Any:
        """Apply the network in evaluation mode. Collective: the ranks divide the images, and all return the result.

        In a single process it does the same as :meth:`Network.predict`, which is never collective.

        Parameters
        ----------
        images : (N, C, H, W) array
            The images; they must be the same on every rank.
        scores : bool
            See :meth:`Network.predict`.

        Returns
        -------
        (N, classes) array
            The network's output, see :meth:`Network.predict`.
        """
        with self._agreement.collective(agreement.PREDICT) as meet:
            self._check_whole()
            if self._agreement.ranks is not None:
                images = self.net.check_images(images, least=0)
                meet(number_of_images=len(images))
        return self.net.predicted(images, scores, self._agreement.ranks)

    # ------------------------------------------------------------------ other weights than the trained weights

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Within the block a change is made that must be complete: if the block fails, the trainer does not continue.

        It is for callbacks that change arrays on which training depends, such as averages of the weights.
        """
        self._engine.changing = True
        yield
        self._engine.changing = False

    def use(self, weights: Weights) -> None:
        """Give the network other weights until the next step, such as averages or the weights of the best epoch.

        The trained weights are kept meanwhile, also in a checkpoint, and the next step continues with them.

        Parameters
        ----------
        weights : Weights
            The weights that a callback has kept: see :meth:`Callback.weights`.
        """
        self._check_network()
        own = self._own or Weights(self._parameters)
        with self.changing():
            self._own, self._loads = own, self._parameters.loads
            weights.write()

    @property
    def uses_others(self) -> bool:
        """Whether the network has other weights than the trained weights: see :meth:`use`."""
        return self._own is not None

    def train_own(self) -> None:
        """Give the network the trained weights back, if it has other weights: see :meth:`use`.

        Weights that ``net.load_state_dict`` has loaded meanwhile stay, and are trained from now on.
        """
        if self._own is not None:
            with self.changing():
                if self._loads == self._parameters.loads:
                    self._own.write()
                self._own = None

    def _take_own(self, arrays: Mapping[str, Any]) -> None:
        """Set the trained weights from arrays by name, while the network has other weights."""
        own = Weights(self._parameters)
        own.load_state_dict(arrays)
        self._own, self._loads = own, self._parameters.loads

    def _use_averages(self) -> None:
        """Give the network the averages of a callback, unless it already has other weights than the trained weights."""
        weights = self._callbacks.weights() if self._own is None else None
        if weights is not None:
            self.use(weights)

    @_takes_a_pair
    def mistakes(self, data: Data, count: int = 25) -> list[Mistake]:
        """Return the worst mistakes of a classifier: images whose true class has the lowest probability. Collective.

        Parameters
        ----------
        data : Dataset, or (images, labels)
            The images and their true classes.
        count : int
            The largest number of images to return.

        Returns
        -------
        list of Mistake
            The worst mistake is the first. Each has the image's ``index`` in the data set, the name of its ``file``,
            its true class as ``label`` and ``label_name``, the predicted class as ``predicted`` and ``predicted_name``,
            the ``probability`` of the predicted class, and ``label_probability``, the probability of the true class.

        Raises
        ------
        ShapeError
            If the network is not a classifier of images, or the data set has targets in place of classes.
        """
        data, count = as_dataset("data", data), whole("count", count)
        self._check_whole()
        compare(self.net, self._engine.dtype, "data", data)
        return worst_mistakes(
            self.loss, named_as_trained(self.net, data), self.predict(data.images, scores=True), count
        )

    # ------------------------------------------------------------------ epochs

    @_takes_a_pair
    def fit(
        self,
        train: Data,
        epochs: int,
        batch_size: int = 64,
        validation: Data | None = None,
        directory: str | os.PathLike[str] | None = None,
        display: Display | None = None,
        drop_last: bool = False,
        metrics: Mapping[str, Metric] | None = None,
        *,
        callbacks: Sequence[Any] = (),
        progress: bool | str = True,
        save_every: int | str | None = None,
        augment: Transform | Sequence[Transform] | None = None,
        steps: int | None = None,
        normalize: bool = False,
    ) -> History:
        """Train until the trainer has completed ``epochs`` epochs in total, including those of a loaded checkpoint.

        Collective: every rank gets the same data, and reads its part of each batch. Every rank calls its callbacks;
        only rank 0 writes files and shows the progress.

        The learning rate of a schedule such as :class:`~im2colnet.Cosine` depends on the fraction of ``epochs`` that is
        done. If ``epochs`` changes, the learning rate jumps: after 5 of 5 epochs, ``fit(..., epochs=10)`` continues in
        the middle of the cosine, and a warning says so. Another batch size or other data do not change this fraction.

        Parameters
        ----------
        train : Dataset, or (images, labels)
            The training data. Any object with a length whose items are pairs (image, label) works too (see
            :func:`im2colnet.datasets.from_items`), and so do batches: an iterable of pairs (images, labels), such as
            PyTorch's DataLoader, or a function that returns such an iterable. The function may take the number of the
            epoch, from 0.
        epochs : int
            The total number of epochs. If they are completed already, ``fit`` does nothing.
        batch_size : int
            The number of images in a batch. The last batch of an epoch may be smaller, see ``drop_last``.
        validation : Dataset, or (images, labels), optional
            The validation data. The network is evaluated on them after every epoch, and not trained on them.
        directory : str or path, optional
            The folder to which ``checkpoint.safetensors`` and ``metrics.jsonl`` are written after every epoch. An
            existing checkpoint is overwritten if this trainer has written it or was loaded from it; otherwise ``fit``
            raises CheckpointError.
        display : Display, optional
            An object that shows the progress, in place of the display that ``progress`` chooses.
        drop_last : bool
            Whether to leave out the last batch of an epoch if it has fewer images than ``batch_size``. The images are
            shuffled again in every epoch, so each epoch leaves out other images.
        metrics : dict of str to callable, optional
            The new :attr:`metrics`: functions ``metric(outputs, targets)`` that are measured on the validation data
            after every epoch. The values are in ``history["validation_NAME"]``. A value that is not finite causes a
            TrainingWarning, and the record of its epoch does not contain it.
        callbacks : sequence of Callback
            Objects whose methods are called during training, such as ``ic.callbacks.EarlyStopping(patience=5)``.
        progress : bool or "log"
            Whether to show the progress, on stderr: a live bar on a terminal and in a notebook, else a line for each
            epoch, and within a long epoch a line every 30 seconds. "log" chooses the lines everywhere.
        save_every : int or str, optional
            How often to write the checkpoint within an epoch too: a number of steps, or a time such as "10 min" or
            "1 h". By default it is written after every epoch and when the training stops.
        augment : Transform, or list of Transform, optional
            Random changes of the training images, such as ``[ic.transforms.RandomCrop(padding=4),
            ic.transforms.RandomHorizontalFlip()]``, in this order. The default is the transforms of the last ``fit``,
            or of the loaded checkpoint; an empty list means no transforms.
        steps : int, optional
            The number of batches in an epoch, if ``train`` is batches; required if they have no length. An interrupted
            training resumes exactly if the iterable or the function gives the same batches for an epoch again. A
            generator cannot do this: it continues with its next batch, and the batch that was already fetched is lost.
        normalize : bool
            Whether to compute the mean and standard deviation of each channel of the training images, and to assign
            them to :attr:`Network.normalization`. A network that already has a normalization keeps it.

        Returns
        -------
        History
            The records of all epochs so far.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            Before the first step, if the network, its loss or its batch norm cannot take the data.
        NonFiniteError
            If the loss or the statistics of a batch norm are not finite, or at the end of an epoch a parameter or a
            value of the network's state is not finite. Training stops, and the checkpoint of the last epoch remains.
        KeyboardInterrupt, SystemExit
            After Ctrl-C, and after SIGTERM (exit status 143). The current step is finished and, with ``directory``, the
            checkpoint is written first. ``Trainer.load(...).fit(...)`` with the same arguments continues exactly there.
            A second Ctrl-C stops at once.
        InterruptedStepError
            If an earlier step was interrupted while it changed the parameters. Load a checkpoint then.

        Warns
        -----
        TrainingWarning
            If ``epochs`` has changed, so that the learning rate differs from the planned one; or if training stopped
            within an epoch and continues with other batches, so that this epoch begins again; or if a callback that has
            kept a state is not in ``callbacks`` any more. A callback or display with a method ``say`` shows these texts
            instead.
        """
        from im2colnet.datasets.transforms.augmentation import as_transforms

        agreed = self._agreement
        with agreed.collective(agreement.FIT) as meet:
            self._check_network()
            epochs, batch_size = whole("epochs", epochs), whole("batch_size", batch_size)
            if metrics is not None:
                self.metrics = metrics
            augment = self._augment if augment is None else as_transforms("augment", augment)
            train, loader = training_data(
                self.net, train, batch_size, self.seed, bool(drop_last), augment, steps, self._parts()
            )
            check_fit(self.net, self.loss, train, loader)
            check_batches(self.net, train, loader)
            if validation is not None:
                validation = as_dataset("validation", validation)
                check_fit(self.net, self.loss, validation)
            measured = truth_value("normalize", normalize) and self.net.normalization is None
            normalized = measured or self.net.normalization is not None
            know_inputs(self.net, self._engine.dtype, train, loader, validation, normalized)
            listed = Callbacks(callbacks).members.values()
            given = Callbacks([*listed, *([] if display is None else [display])])
            shown = progress_display(progress, epochs) if display is None and not self.rank else None
            writer = Checkpoints(directory, save_every) if directory is not None or save_every is not None else None
            if agreed.ranks is not None:
                meet(
                    epochs=epochs,
                    batch_size=batch_size,
                    number_of_steps=len(loader),
                    number_of_images=len(train),
                    number_of_images_to_validate=0 if validation is None else len(validation),
                )
        if agreed.ranks is not None:
            agreed.compare(
                {
                    "training data": agreement.checksum_of(train),
                    "validation data": None if validation is None else agreement.checksum_of(validation),
                    "transforms of the images": [*map(repr, augment)],
                }
            )
        folder = None
        if writer is not None and directory is not None:
            writer.directory = folder = agreed.on_first(partial(self._prepare, directory, augment))
        seam = Callbacks([*given.members.values(), *(one for one in (shown, writer) if one is not None)])
        planned = epochs, len(loader), loader.batch_size, loader.drop_last, augment == self._augment
        self._state, said = lengthened(self._state, self.optimizer.schedule, self.history, *planned)
        self._augment = augment
        states = {name: kept for name, state in self._states.items() if (kept := state())}
        if self._state.epoch < epochs:
            said += [lost(name) for name in states if name not in seam.members]
        elif not states.keys() & seam.members.keys():
            return self.history
        if measured and self._state.epoch < epochs:
            self.net.normalization = statistics_of(train, loader)
        for text in said if not self.rank else ():
            if not given.say(text):
                warnings.warn(text, TrainingWarning, stacklevel=3)  # the warning points at the call of fit
        fitting = Fitting(loader, epochs, validation, folder, heeds_steps=bool(given.members))
        with deferred() as interrupted:
            agreed.wish = lambda: interrupted.number or (agreement.STOP if fitting.reason is not None else 0)
            try:
                with agreed.told(), self._calling(seam, fitting, states), agreed.told():
                    self._train(fitting, interrupted)
                agreed.meet(agreement.FIT)
            finally:
                agreed.wish = int
        if agreed.heard > 0:  # a signal that another rank has got ends the training here too
            interrupted.number = agreed.heard
        if shown is not None and fitting.outcome == "interrupted":
            shown.say(f"interrupted in epoch {self.epoch + 1}: fit with the same arguments continues exactly there")
        try:
            interrupted.act()
        except BaseException as end:
            if agreed.heard > 0:
                mark_agreed(end)
            raise
        return self.history

    def _parts(self) -> Callable[[tuple[int, ...], int], slice] | None:
        """Return a function that says which samples of a batch this rank computes; None if it computes all."""
        return None if self._agreement.ranks is None else self._engine.part

    def _stops(self, fitting: Fitting, interrupted: Interruption) -> bool:
        """Whether the training ends here: on all ranks after the step in which one of them asked for it."""
        if self._agreement.ranks is None:
            return bool(interrupted) or fitting.reason is not None
        return self._agreement.heard != 0

    def stop(self, reason: str) -> None:
        """End the training of :meth:`fit` after the present step, or after the present epoch if its steps are done.

        It is for callbacks. The next call of ``fit`` continues from there.

        Parameters
        ----------
        reason : str
            The reason, which is kept as ``trainer.fitting.reason`` and shown with the progress.
        """
        if self.fitting is not None:
            self.fitting.reason = str(reason)

    @contextmanager
    def _calling(self, seam: Callbacks, fitting: Fitting, states: dict[str, dict[str, Any]]) -> Iterator[None]:
        """Within the block the callbacks are called; they begin with the states that they had when training stopped."""
        self.fitting, self._states = fitting, _kept(states)
        self.train_own()
        try:
            with seam.called():
                self._callbacks = seam
                seam.start(self, states)
                self._states = seam.states()
                yield
        finally:
            self._callbacks = Callbacks([])
            fitting.loader = fitting.validation = None  # or the data would stay in memory

    def _train(self, fitting: Fitting, interrupted: Interruption) -> None:
        state, batches = self._state, len(fitting.loader)
        self._agreement.meet(agreement.EPOCH)
        while state.epoch < fitting.epochs and not self._stops(fitting, interrupted):
            self._train_epoch(fitting, interrupted)
            if state.partial.batch == batches:
                self._finish_epoch(fitting)
                if not self._agreement.heard:
                    self._agreement.meet(agreement.EPOCH)
        if state.epoch >= fitting.epochs:
            fitting.outcome = "completed"
        elif fitting.reason is not None or self._agreement.heard == agreement.STOP:
            fitting.reason = fitting.reason or "another rank has stopped it"
            fitting.outcome = "stopped"
            within = f"within epoch {state.epoch + 1}" if state.partial.batch else f"after epoch {state.epoch}"
            self._callbacks.say(f"training ends {within}: {fitting.reason}")
        else:
            fitting.outcome = "interrupted"
        self._use_averages()

    def _train_epoch(self, fitting: Fitting, interrupted: Interruption) -> None:
        state, done, loader = self._state, self._state.partial, fitting.loader
        before, backend, seam = done.seconds, self.net.backend, self._callbacks
        begin = time.perf_counter()
        ahead = deque[Any]()
        with closing(loader.epoch(state.epoch, done.batch, reuse=True)) as batches:

            def fetch() -> None:
                for images, labels in islice(batches, 1):
                    ahead.append((backend.prefetch(images), labels))

            fetch()
            while ahead:
                arriving, labels = ahead.popleft()
                # a GPU computes while the next batch is fetched; on a CPU all cores are busy anyway
                samples = None if self._agreement.ranks is None else len(labels)
                self._step(arriving(), labels, fetch if backend.prefetches else None, done, samples)
                if not backend.prefetches:
                    fetch()
                done.seconds = before + time.perf_counter() - begin
                if seam.members:
                    left = (fitting.epochs - state.epoch) * len(loader) - done.batch
                    seam.step(
                        Progress(
                            state.epoch + 1,
                            fitting.epochs,
                            done.batch,
                            len(loader),
                            done.loss / done.images,
                            done.means(),
                            done.images / done.seconds,
                            left * done.seconds / done.batch,
                        )
                    )
                    self._check_progress(state)
                if fitting.heeds_steps:  # a callback may end the training after this step, as in one process
                    self._agreement.meet(agreement.EPOCH)
                if self._stops(fitting, interrupted):
                    break

    def _finish_epoch(self, fitting: Fitting) -> None:
        """Validate, and put the record of the epoch into the history."""
        state, done, seam = self._state, self._state.partial, self._callbacks
        self.net.check_finite()
        record: dict[str, float] = {
            "epoch": state.epoch + 1,
            "loss": done.loss / done.images,
            **done.means(),
        }
        seam.validate()
        self._use_averages()
        if fitting.validation is not None:
            measured = finite(self.evaluate(fitting.validation), self.metrics, state.epoch + 1)
            record |= {f"{VALIDATION}{k}": v for k, v in measured.items()}
        last = copy(state)
        last.step, last.partial = state.step - 1, copy(done)
        last.partial.batch -= 1
        record["lr"] = rate_of(self.optimizer.schedule, last, self.history)
        record |= {"seconds": done.seconds, "images_per_second": done.images / done.seconds}
        record = self._agreement.of_first(record)  # each rank has its own clock
        seam.epoch(record)
        self._check_progress(state)
        record = self._agreement.of_first(record)
        with self.changing():
            self.history.append(record)
            state.epoch += 1
            state.partial = _Epoch(steps=done.steps)
        seam.after_epoch(record)
        self._check_progress(state)

    def _check_progress(self, state: _State) -> None:
        """Raise if a callback has called :meth:`fit`, which has replaced the epoch under way."""
        if self._state is not state:
            raise ShapeError("a callback must not call trainer.fit: trainer.stop(reason) ends the training")

    def _prepare(self, directory: str | os.PathLike[str], augment: tuple[Transform, ...]) -> str:
        """Make the folder, and check before the first epoch that a checkpoint can be written."""
        from im2colnet.training.checkpoint import describe, encode

        folder = make_folder(directory)
        encode({}, self._information() | {"augment": [describe(transform) for transform in augment]})
        check_free(folder, self._marks)
        return folder

    # ------------------------------------------------------------------ checkpoints

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (safetensors): the network, the optimizer and the progress of training.

        Collective: rank 0 writes it.

        Parameters
        ----------
        path : str or path
            The file. An existing file is overwritten.

        Raises
        ------
        CheckpointError
            If the file cannot be written. An existing file is unchanged then.
        """
        from im2colnet.files import replace_file
        from im2colnet.training.checkpoint import divided, encode

        with self._agreement.collective(agreement.SAVE) as meet:
            self._check_network()
            self._use_averages()
            meet(step=self._state.step)
        self._complete()

        def write() -> str:
            tensors, information = self._tensors(), self._information()
            for name, state in self._states.items():
                if kept := state():
                    arrays, information["callbacks"][name] = divided(name, kept)
                    tensors |= arrays
            content, mark = encode(tensors, information)
            replace_file(path, content)
            return mark

        self._marks.add(self._agreement.on_first(write))

    def _tensors(self) -> dict[str, Any]:
        from im2colnet.training.checkpoint import NETWORK

        net, tensors = self.net, {f"{NETWORK}{name}": array for name, array in self.net.state_dict().items()}
        tensors |= {
            name: net.backend.to_numpy(view).copy(order="C") for name, view in self._update.views(self._state.held)
        }
        own = {} if self._own is None else self._own.state_dict()
        return tensors | {f"{OWN}{name}": array for name, array in own.items()}

    def _information(self) -> dict[str, Any]:
        from im2colnet.training.checkpoint import describe

        net, state = self.net, self._state
        return {
            "network": describe(net),
            "dtype": net.dtype,
            "input_shape": net.input_shape,
            "loss": describe(self.loss),
            "optimizer": describe(self.optimizer),
            "seed": self.seed,
            "shard": self._engine.shard,
            "precision": net.precision,
            "state": {**vars(state), "partial": state.partial.describe(), "scale": vars(state.scale)},
            "history": list(self.history),
            "inputs": net.inputs and net.inputs.describe(),
            "normalization": net.normalization,
            "callbacks": {},
            "augment": [describe(transform) for transform in self._augment],
            "frozen": list(net.frozen),
            "clip_norm": self.clip_norm,
            "clip_value": self.clip_value,
            "accumulate": self.accumulate,
            "groups": describe(self._groups),
        }

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        net: Network | None = None,
        backend: str | Backend | None = None,
        ranks: Any = None,
    ) -> Trainer:
        """Load a checkpoint and return its trainer, which continues as if training had never stopped.

        Collective: every rank reads the file. The number of ranks may differ from the number before.

        Parameters
        ----------
        path : str or path
            The file. Training continues in the checkpoint's precision if the backend has that precision.
        net : Network, optional
            The network to load into. It must have the same parameters as the checkpoint. By default a network is made
            from the checkpoint's description.
        backend : str or Backend, optional
            The backend on which a new network gets its parameters. A network that has parameters keeps its backend:
            naming another one raises BackendError.
        ranks : {"auto", "mpi", "none"} or communicator of mpi4py, optional
            See :class:`Trainer`.

        Returns
        -------
        Trainer
            A trainer with the network, the optimizer's state and the history of the file.

        Raises
        ------
        CheckpointError
            If the file is missing or damaged, or belongs to another network. The message lists what differs.
        """
        agreed = Agreement(ranks)
        with agreed.collective(agreement.LOAD) as meet:
            trainer = cls._read(path, net, backend)
            meet(checksum_of_the_checkpoint=zlib.crc32(repr(trainer._marks).encode()))
        trainer._agreement = agreed
        if agreed.ranks is not None:
            trainer._engine = trainer._new_engine(trainer.shard)
            agreed.compare(trainer._beginning())
        return trainer

    @classmethod
    def _read(cls, path: str | os.PathLike[str], net: Network | None, backend: str | Backend | None) -> Trainer:
        """Return the trainer of a checkpoint, for this process alone."""
        from im2colnet.training import checkpoint
        from im2colnet.training.checkpoint import entry, rebuild_as

        with checkpoint.loading(path) as file:
            info = file.information
            made = net is None
            if net is None:
                net = rebuild_as(Network, entry("network", info, dict), "network")
            loss = rebuild_as(Loss, entry("loss", info, dict), "loss")
            optimizer = rebuild_as(Optimizer, entry("optimizer", info, dict), "optimizer")
            seed, shard = whole("seed", info.get("seed"), least=0), entry("shard", info, int | None)
            dtype, precision = entry("dtype", info, str), entry("precision", {"precision": None} | info, str | None)
            progress = checkpoint.read_state(entry("state", info, dict))
            history = checkpoint.read_history(entry("history", info, list))
            # the shapes are checked before any array of these shapes is allocated
            groups = check_groups(checkpoint.rebuild(info.get("groups"), "groups"))
            vectors = [f"optimizer.{slot}" for slot in slots_of(rules_of(optimizer, groups, net.graph)[0])]
            checkpoint.check_shapes(file.shapes, net, [*vectors, *["accumulated"] * bool(progress.held)])
            shape = checkpoint.read_input_shape(entry("input_shape", info, list | None))
            if shape and made:
                net.graph.shapes(internal_shape(shape, 1))
            tensors = file.tensors()
            if not net.initialized:
                net.init(seed, dtype=dtype, backend=backend)
            _check_backend(net, backend)
            if net.dtype != dtype:
                raise CheckpointError(f"its parameters are {dtype}, but the network's are {net.dtype}")
            net.load_state_dict(beneath(checkpoint.NETWORK, tensors))
            net.input_shape = shape
            # the checkpoint may come from a backend with other precisions
            if precision in net.backend.precisions and precision != net.precision:
                net.precision = precision
            net.freeze_only(checkpoint.read_names("frozen", info, [*net.state_shapes()]))
            clip_norm, clip_value, accumulate = checkpoint.read_clipping(info)
            trainer = cls(
                net,
                loss,
                optimizer,
                seed,
                shard=shard,
                clip_norm=clip_norm,
                clip_value=clip_value,
                accumulate=accumulate,
                groups=groups,
                ranks="none",
            )
            trainer._state, trainer.history = progress, history
            net.inputs, net.normalization = _inputs(info.get("inputs")), info.get("normalization")
            trainer._update.arrange(progress.missed)
            trainer._augment = checkpoint.read_transforms(entry("augment", {"augment": []} | info, list))
            with net.backend.context():
                for name, view in trainer._update.views(progress.held):
                    view[...] = net.backend.asarray(tensors[name])
            if own := beneath(OWN, tensors):
                trainer._take_own(own)
            trainer._states = _kept(checkpoint.read_callbacks(info, tensors))
            trainer._marks.add(file.mark)
        return trainer


def _kept(states: dict[str, dict[str, Any]]) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return functions that return states."""
    return {name: partial(dict, state) for name, state in states.items()}


def _check_backend(net: Network, backend: str | Backend | None) -> None:
    """Raise if the network's parameters are not on the backend that is asked for."""
    if backend is None:
        return
    asked, held = get_backend(backend).full_name, net.backend.full_name
    if asked != held:
        raise BackendError(
            f"the backend {asked!r} is asked for, but the network has its parameters on {held!r} already: leave out"
            " backend=, or move it by"
            f" state = net.state_dict(); net.init(backend={asked!r}); net.load_state_dict(state)"
        )


def _check_loss(loss: Any) -> Loss:
    if not isinstance(loss, Loss):
        raise ShapeError(
            f"loss must be an object such as ic.CrossEntropyLoss(), of a class derived from ic.Loss, got {loss!r}"
        )
    names = loss.metrics
    taken = [n for n in names if not str(n).isidentifier() or n in RECORDED or n.startswith(VALIDATION)]
    if not isinstance(names, tuple) or taken or len({*names}) < len(names):
        raise ShapeError(
            f"{type(loss).__name__}.metrics must be a tuple of names, none twice and none of {', '.join(RECORDED)},"
            f" got {names!r}"
        )
    return loss


def _check_optimizer(optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise ShapeError(f"optimizer must be an optimizer such as ic.SGD(lr=0.1), got {optimizer!r}")
    return optimizer


def _inputs(description: Any) -> Inputs | None:
    from im2colnet.datasets.inputs import Inputs  # imported only with a data set: a training step does not need it

    return Inputs.read(description)
