"""Estimators for scikit-learn: a classifier and a regressor that are convolutional networks.

They are used like scikit-learn's estimators: in pipelines, in grid searches, in cross-validation.

>>> from im2colnet.sklearn import CNNClassifier
>>> from sklearn.datasets import load_digits
>>> from sklearn.model_selection import train_test_split
>>> images, digits = load_digits(return_X_y=True)  # (1797, 64): each row is an image of 8×8 pixels
>>> train, test, train_digits, test_digits = train_test_split(images, digits, random_state=0)
>>> classifier = CNNClassifier(image_shape=(8, 8), epochs=3, random_state=0).fit(train, train_digits)
>>> bool(classifier.score(test, test_digits) > 0.95)
True
"""

from __future__ import annotations

import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, replace
from math import ceil, prod
from typing import Any, ClassVar, TypeAlias

from im2colnet.backend import Backend
from im2colnet.checks import truth_value, whole
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.inputs import channel_statistics
from im2colnet.datasets.loader import Loader
from im2colnet.errors import NonFiniteError, ShapeError, install
from im2colnet.host import np
from im2colnet.layers import BatchNorm2d, Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU
from im2colnet.losses import CrossEntropyLoss, Loss, MSELoss
from im2colnet.models import make
from im2colnet.network import Network, Sequential
from im2colnet.optim import Adam, Cosine, Optimizer
from im2colnet.settings import chosen_num_threads, get_num_threads, num_threads
from im2colnet.training.history import History
from im2colnet.training.trainer import Trainer
from im2colnet.types import Array, Shape

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(f"im2colnet.sklearn needs scikit-learn 1.6 or newer: {install('sklearn')}") from error

__all__ = ["CNNClassifier", "CNNRegressor"]

#: a name, a function that builds a network, layers, or a network to begin with
Model: TypeAlias = str | Callable[..., Any] | Sequence[Layer]
#: the weight of each sample in float64, above 0 and not all equal; or None
Weights: TypeAlias = np.ndarray | None
#: with epochs="auto" a training has about this number of steps
STEPS = 500
#: with epochs="auto" a training has at least this number of epochs
LEAST_EPOCHS = 10
#: with epochs="auto" a training has at most this number of epochs
MOST_EPOCHS = 100
#: the learning rate of the optimizer that is used if none is given
LEARNING_RATE = 2e-3
#: the batch size of predictions
BATCH = 32


@dataclass(eq=False, repr=False)  # scikit-learn reads the parameters from __init__, and has a repr
class _Estimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no type hints
    """The base of both estimators: it turns rows into images, builds and trains a network, and predicts."""

    model: Model = "auto"
    _: KW_ONLY
    image_shape: Sequence[int] | None = None
    epochs: int | str = "auto"
    batch_size: int = 32
    optimizer: Optimizer | None = None
    augment: Any = None
    normalize: bool = True
    backend: str | Backend | None = None
    random_state: Any = None
    warm_start: bool = False
    verbose: bool | int = False

    # ------------------------------------------------------------------ what differs

    @abstractmethod
    def _learn_targets(self, y: Any, weights: Weights, classes: Any = None) -> int:
        """Learn from the targets what is predicted, and return the number of outputs of the network."""

    @abstractmethod
    def _targets(self, y: Any) -> np.ndarray:
        """Return the targets as the network's loss takes them."""

    @abstractmethod
    def _loss(self, targets: np.ndarray, weights: Weights) -> tuple[Loss, np.ndarray]:
        """Return the loss for these targets, and the targets with their weights, if they have any."""

    def _weigh_classes(self, targets: np.ndarray) -> None:
        """Keep the weights of the classes, when a training begins."""

    def _class_names(self) -> tuple[str, ...]:
        return ()

    # ------------------------------------------------------------------ training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a new network; with ``warm_start``, train the network of the last ``fit`` further.

        Under ``mpiexec`` each process trains separately, since a search gives different data to each process. To divide
        one training among the processes, use :class:`im2colnet.Trainer`.

        Parameters
        ----------
        X : (n_samples, n_features) or (n_samples, C, H, W) array
            The images.
        y : (n_samples,) array, or (n_samples, n_outputs) for a regressor
            The classes, of any type that NumPy can sort, or the numbers to predict.
        sample_weight : (n_samples,) array, optional
            The weight of each image in the loss, and in the means and standard deviations of columns and targets. Only
            the ratios of the weights matter. Images with the weight 0 are left out.

        Returns
        -------
        self
            The estimator.
        """
        again = self.warm_start and hasattr(self, "net_")
        images, targets, weights, net = self._prepare(X, y, again, sample_weight)
        batch_size, epochs = self._batch_size(), self.epochs
        if epochs == "auto":
            epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, ceil(STEPS / ceil(len(images) / batch_size))))
        self._weigh_classes(targets)
        loss, targets = self._loss(targets, weights)
        trainer = self._trainer(net, loss, Adam(Cosine(LEARNING_RATE)))
        net.inputs = None  # another fit may have other images
        with _cores():
            trainer.fit(
                self._dataset(images, targets),
                whole("epochs", epochs),
                batch_size,
                progress=bool(self.verbose),
                augment=self.augment,
            )
        if net.inputs is not None:  # targets with weights have no names
            net.inputs = replace(net.inputs, classes=self._class_names())
        self.net_, self.history_, self.n_iter_ = net, trainer.history, trainer.epoch
        self._partial: Trainer | None = None  # the trainer of partial_fit
        return self

    def _learn_a_part(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        """Train for one epoch on a part of the data."""
        again = hasattr(self, "net_")
        images, targets, weights, net = self._prepare(X, y, again, sample_weight, classes)
        if not again:
            self._partial, self.history_, self.n_iter_ = None, History(), 0
        if self._partial is None:
            self._weigh_classes(targets)
        loss, targets = self._loss(targets, weights)
        if self._partial is None:
            self._partial = self._trainer(net, loss, Adam(LEARNING_RATE))
        else:
            self._partial.loss = loss  # the parts before may have had no weights
        data = self._dataset(images, targets)
        loader = Loader(data, self._batch_size(), self._partial.seed, transform=self.augment)
        with _cores():
            for some, their_targets in loader.epoch(self.n_iter_):
                self._partial.step(some, their_targets)
        self.net_, self.n_iter_ = net, self.n_iter_ + 1
        return self

    def _prepare(
        self, X: Any, y: Any, again: bool, sample_weight: Any, classes: Any = None
    ) -> tuple[np.ndarray, np.ndarray, Weights, Network]:
        """Check the data; return images, targets, weights, and the network: a new one, unless there is one already."""
        X, y = self._validate(X, y=y, reset=not again, **self._checks)
        weights = _weights(sample_weight, X)
        if weights is not None and not weights.all():
            X, y, weights = (array[weights > 0] for array in (X, y, weights))
        if weights is not None and (weights == weights[0]).all():
            weights = None
        if not again:
            self.image_shape_ = self._find_shape(X)
            self._outputs = self._learn_targets(y, weights, classes)
            self._uint8 = X.dtype == np.uint8
            self._measure(self._reshaped(X), weights)
        images, targets, net = self._images(X), self._targets(y), self.net_ if again else self._build()
        if truth_value("normalize", self.normalize) and not self._is_row and net.normalization is None:
            net.normalization = channel_statistics(images)
        return images, targets, weights, net

    def _dataset(self, images: np.ndarray, targets: np.ndarray) -> Dataset:
        """Return the training data; targets that hold weights have no class names."""
        return Dataset(images, targets, "X", self._class_names() if targets.ndim == 1 else ())

    def _validate(self, X: Any, **options: Any) -> Any:
        rank = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        return validate_data(self, X, ensure_2d=rank < 3, allow_nd=True, **options)

    #: how scikit-learn checks the targets
    _checks: ClassVar[dict[str, Any]] = {}

    def _batch_size(self) -> int:
        return whole("batch_size", self.batch_size)

    def _trainer(self, net: Network, loss: Loss, optimizer: Optimizer) -> Trainer:
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        return Trainer(net, loss, self.optimizer or optimizer, seed, self.backend, ranks="none")

    def _build(self) -> Network:
        """Return a new network for the images."""
        (channels, *size), outputs, model = self.image_shape_, self._outputs, self.model
        arguments: dict[str, Any] = {"classes": outputs, "in_channels": channels, "input_size": tuple(size)}
        made: Any
        called = callable(model) and not isinstance(model, Layer)
        if isinstance(model, str):
            made = _layers(self.image_shape_, outputs) if model == "auto" else make(model, **arguments)
        elif called:
            made = model(**arguments)  # type: ignore[operator]
        else:
            made = deepcopy(model)  # the estimator's arguments stay as they are
        if not isinstance(made, (Network, list, tuple)):
            raise ShapeError(
                'model must be "auto", the name of a model, a list of layers, a network, or a function that returns one'
                f", got {model!r:.80}" + (f", which returned {made!r:.80}" if called else "")
            )
        net: Network = made if isinstance(made, Network) else Sequential(made)
        shapes = net.graph.output_shapes((1, *self.image_shape_))
        if shapes != [(1, outputs)]:
            raise ShapeError(
                f"model must give {outputs} numbers for an image of the shape {self.image_shape_}, it gives"
                f" {' and '.join(str(shape[1:]) for shape in shapes)}"
            )
        return net

    # ------------------------------------------------------------------ images

    def _find_shape(self, X: np.ndarray) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of an image."""
        if self.image_shape is None:
            if X.ndim not in (2, 4):
                raise ShapeError(
                    f"X must have the shape (n_samples, n_features) or (n_samples, C, H, W), got {X.shape}; for images"
                    " of other shapes give image_shape=(H, W) or (C, H, W)"
                )
            C, H, W = X.shape[1:] if X.ndim == 4 else (1, 1, X.shape[1])
            return C, H, W
        given = self.image_shape if isinstance(self.image_shape, (tuple, list)) else ()
        if len(given) not in (2, 3):
            raise ShapeError(f"image_shape must be (H, W) or (C, H, W), got {self.image_shape!r}")
        C, H, W = (whole("image_shape's numbers", n) for n in (1, *given)[-3:])
        return C, H, W

    def _reshaped(self, X: np.ndarray) -> np.ndarray:
        """Return rows, or images, as images of the shape that is known."""
        if prod(X.shape[1:]) != prod(self.image_shape_) or (X.ndim == 4 and X.shape[1:] != self.image_shape_):
            raise ShapeError(
                f"an image of the shape {self.image_shape_} has {prod(self.image_shape_)} numbers, but X has the shape"
                f" {X.shape}"
            )
        return X.reshape(len(X), *self.image_shape_)

    def _measure(self, images: np.ndarray, weights: Weights) -> None:
        """Keep mean and standard deviation of each column of rows; images are standardized by the network."""
        if self.normalize and self._is_row:
            self.mean_, self.scale_ = _moments(images, weights)

    @property
    def _is_row(self) -> bool:
        return bool(self.image_shape_[1] == 1)

    def _images(self, X: np.ndarray) -> np.ndarray:
        """Return images as the network takes them."""
        images = self._reshaped(X)
        if self.normalize and self._is_row:
            images = _as_float32((images - self.mean_) / self.scale_)
        elif images.dtype != np.uint8 or not self._uint8:  # the network divides uint8 by 255
            images = _as_float32(images / (255 if self._uint8 else 1))
        return images

    def _predict(self, X: Any) -> np.ndarray:
        """Return the network's output for each image, in float64."""
        check_is_fitted(self, "net_")
        images, outputs = self._images(self._validate(X, reset=False)), []
        with _cores():
            for start in range(0, len(images), BATCH):
                some = images[start : start + BATCH]
                # one batch size for all, so that no prediction depends on the others, not even in its last bit
                batch = np.concatenate([some, np.zeros((BATCH - len(some), *some.shape[1:]), some.dtype)])
                outputs.append(self.net_.predict(batch, scores=True)[: len(some)])
        return np.concatenate(outputs).astype(np.float64)


@dataclass(eq=False, repr=False)
class CNNClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A convolutional network as a classifier of scikit-learn, for pipelines and searches.

    Parameters
    ----------
    model : "auto", str, callable, sequence of Layer, or Network
        The network. "auto" chooses a small network that suits the images. A name, such as "resnet20", is a model of
        ``im2colnet.models``. A function is called like these models, ``model(classes=..., in_channels=...,
        input_size=(H, W))``, and returns a network or its layers. If a network with parameters is given, training
        starts from a copy of it.
    image_shape : (H, W) or (C, H, W), optional
        The shape of an image, if the images in X are rows. Without it a row is an image of 1 × n_features pixels.
    epochs : int or "auto"
        The number of epochs. "auto" chooses between 10 and 100 epochs, so that there are about 500 training steps.
    batch_size : int
        The number of images in a batch.
    optimizer : Optimizer, optional
        The optimizer. The default is ``ic.Adam``, with a learning rate that falls from 0.002 to 0 during ``fit``.
    augment : Transform, or list of Transform, optional
        Random changes of the training images: see ``im2colnet.transforms``.
    normalize : bool
        Whether to standardize the images by the mean and standard deviation of the training data: for each channel of
        images, or for each column of rows.
    backend : str or Backend, optional
        The backend that computes: see :func:`im2colnet.get_backend`.
    random_state : int, RandomState or None
        The seed of all random numbers. The same int gives the same result, bit for bit.
    warm_start : bool
        Whether ``fit`` continues to train the network of the last ``fit``.
    verbose : bool or int
        Whether to show the progress of ``fit``.
    class_weight : dict, "balanced" or None
        The weight of each class in the loss, as in scikit-learn's classifiers. ``partial_fit`` balances the classes of
        the data of its first call.

    Attributes
    ----------
    classes_ : (n_classes,) array
        The classes, sorted.
    net_ : Network
        The network. Its inputs are images, which its :attr:`~im2colnet.Network.normalization` standardizes, or
        standardized rows, as images of one row.
    mean_, scale_ : (1, 1, n_features) arrays
        Mean and standard deviation of each column, if X is rows.
    image_shape_ : (C, H, W)
        The shape of an image.
    history_ : History
        The loss and accuracy of each epoch.
    n_iter_ : int
        The number of epochs, the epochs of ``partial_fit`` included.
    n_features_in_, feature_names_in_
        The same as in scikit-learn's estimators.

    Notes
    -----
    In each process of ``GridSearchCV(n_jobs=2)`` and similar searches, a network uses its share of the cores. An
    estimator can be pickled, with its network, if all its arguments can be pickled.

    Examples
    --------
    >>> from im2colnet.sklearn import CNNClassifier
    >>> train, test = ic.datasets.load("digits")
    >>> cnn = CNNClassifier(epochs=2, random_state=0)
    >>> cnn = cnn.fit(train.images, train.labels)
    >>> cnn.score(test.images, test.labels) > 0.9
    True
    """

    _: KW_ONLY
    class_weight: Any = None

    def _learn_targets(self, y: Any, weights: Weights, classes: Any = None) -> int:
        check_classification_targets(y)
        self.classes_ = np.unique(column_or_1d(y, warn=True) if classes is None else column_or_1d(classes))
        return len(self.classes_)

    def _targets(self, y: Any) -> np.ndarray:
        y = column_or_1d(y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ShapeError(
                f"y has the class {unknown.tolist()[0]!r}, which is not one of the known classes: {self.classes_}"
            )
        targets: np.ndarray = np.searchsorted(self.classes_, y)
        return targets

    def _weigh_classes(self, targets: np.ndarray) -> None:
        self._of_classes = None
        if self.class_weight is not None:
            labels = self.classes_[targets]
            self._of_classes = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)

    def _loss(self, targets: np.ndarray, weights: Weights) -> tuple[Loss, np.ndarray]:
        if weights is None:
            return CrossEntropyLoss(weight=self._of_classes), targets
        if self._of_classes is not None:
            weights = weights * self._of_classes[targets]
        each = np.zeros((len(targets), len(self.classes_)), np.float32)
        each[np.arange(len(targets)), targets] = weights / weights.mean()
        return WeightedCrossEntropy(), each

    def _class_names(self) -> tuple[str, ...]:
        return tuple(map(str, self.classes_))

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train for one epoch on a part of the data; the first call makes a new network, unless ``fit`` was called.

        Parameters
        ----------
        X : (n_samples, n_features) or (n_samples, C, H, W) array
            The images.
        y : (n_samples,) array
            The classes of the images.
        classes : (n_classes,) array, optional
            All classes. The first call needs this argument if its ``y`` does not contain all classes.
        sample_weight : (n_samples,) array, optional
            The weight of each image, as in :meth:`fit`. Only the ratios within this part of the data matter.

        Returns
        -------
        self
            The estimator.
        """
        return self._learn_a_part(X, y, sample_weight, classes)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : (n_samples, n_features) or (n_samples, C, H, W) array
            The images.

        Returns
        -------
        (n_samples, n_classes) array
            The probabilities, in float64.
        """
        return CrossEntropyLoss().probabilities(self._predict(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each image.

        Parameters
        ----------
        X : (n_samples, n_features) or (n_samples, C, H, W) array
            The images.

        Returns
        -------
        (n_samples,) array
            The classes, of the same type as ``y`` in ``fit``.
        """
        best = self._predict(X).argmax(axis=1)
        classes: np.ndarray = self.classes_[best]
        return classes


class CNNRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A convolutional network as a regressor of scikit-learn: it predicts a number, or several, for each image.

    The loss is the mean squared error of standardized targets.

    Parameters
    ----------
    model : "auto", str, callable, sequence of Layer, or Network
        The network, as in :class:`CNNClassifier`. The other parameters are also the same as there.
    image_shape : (H, W) or (C, H, W), optional
        The shape of an image, if the images in X are rows.
    epochs : int or "auto"
        The number of epochs.
    batch_size : int
        The number of images in a batch.
    optimizer : Optimizer, optional
        The optimizer.
    augment : Transform, or list of Transform, optional
        Random changes of the training images.
    normalize : bool
        Whether to standardize the images.
    backend : str or Backend, optional
        The backend that computes.
    random_state : int, RandomState or None
        The seed of all random numbers.
    warm_start : bool
        Whether ``fit`` continues to train the network of the last ``fit``.
    verbose : bool or int
        Whether to show the progress of ``fit``.

    Attributes
    ----------
    y_mean_, y_scale_ : (n_outputs,) arrays
        Mean and standard deviation of the training targets. The other attributes are the same as in
        :class:`CNNClassifier`.

    Examples
    --------
    >>> from im2colnet.sklearn import CNNRegressor
    >>> images = np.random.default_rng(0).random((200, 1, 8, 8))
    >>> ink = images.mean(axis=(1, 2, 3))
    >>> cnn = CNNRegressor(epochs=20, random_state=0).fit(images, ink)
    >>> cnn.score(images, ink) > 0.9
    True
    """

    _checks: ClassVar[dict[str, Any]] = {"y_numeric": True, "multi_output": True}

    def _learn_targets(self, y: Any, weights: Weights, classes: Any = None) -> int:
        rows = y.reshape(len(y), -1)
        (self.y_mean_, self.y_scale_), self._flat = _moments(rows, weights), y.ndim == 1
        return int(rows.shape[1])

    def _targets(self, y: Any) -> np.ndarray:
        return _as_float32((y.reshape(len(y), -1) - self.y_mean_) / self.y_scale_)

    def _loss(self, targets: np.ndarray, weights: Weights) -> tuple[Loss, np.ndarray]:
        if weights is None:
            return MSELoss(), targets
        return WeightedMSE(), np.column_stack([targets, (weights / weights.mean()).astype(np.float32)])

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch on a part of the data; the first call makes a new network, unless ``fit`` was called.

        Parameters
        ----------
        X : (n_samples, n_features) or (n_samples, C, H, W) array
            The images.
        y : (n_samples,) or (n_samples, n_outputs) array
            The numbers to predict.
        sample_weight : (n_samples,) array, optional
            The weight of each image, as in :meth:`fit`. Only the ratios within this part of the data matter.

        Returns
        -------
        self
            The estimator.
        """
        return self._learn_a_part(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted numbers for each image.

        Parameters
        ----------
        X : (n_samples, n_features) or (n_samples, C, H, W) array
            The images.

        Returns
        -------
        (n_samples,) or (n_samples, n_outputs) array
            The predictions, in the shape of the targets.
        """
        predicted: np.ndarray = self._predict(X) * self.y_scale_ + self.y_mean_
        return predicted[:, 0] if self._flat else predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _Weighted(Loss):
    """Base of the losses whose targets hold the weights of the samples."""

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Return the targets as they are: this module makes them."""
        found: np.ndarray = labels
        return found


class WeightedCrossEntropy(_Weighted, CrossEntropyLoss):
    """Cross-entropy of labels with a weight each: targets are (N, classes), the weight where the label is."""


class WeightedMSE(_Weighted):
    """Mean squared error of samples with a weight each: targets are (N, outputs + 1), the weight is the last number."""

    def __call__(
        self, output: Array, targets: Array, scale: float, metrics: Array, doutput: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ weight · mean((output - target)²)] and ``doutput`` to the gradient of that."""
        difference, weight = output - targets[:, :-1].T, targets[:, -1] * (scale / len(output))  # (outputs, n), (n,)
        metrics[0] = (weight * difference * difference).sum()
        if doutput is not None:
            doutput[...] = 2 * weight * difference


def _weights(given: Any, X: np.ndarray) -> Weights:
    """Return the weights of the samples in float64, if there are any."""
    if given is None:
        return None
    weights: np.ndarray = _check_sample_weight(given, X, dtype=np.float64)
    if weights.min() < 0 or not weights.any():
        raise ShapeError("sample_weight must be 0 or more for each sample, and more than 0 for at least one")
    return weights


def _moments(rows: np.ndarray, weights: Weights = None) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column; the deviation is 1 where all numbers are equal."""
    largest = np.abs(rows.astype(np.float64)).max(axis=0)
    largest[largest == 0] = 1
    shares = rows / largest  # so that no square is too large or too small
    if weights is None:
        mean, std = shares.mean(axis=0), shares.std(axis=0)
    else:
        mean = np.average(shares, axis=0, weights=weights)
        std = np.sqrt(np.average((shares - mean) ** 2, axis=0, weights=weights))
    equal = std <= 10 * np.finfo(np.float64).eps * np.abs(mean)  # rounding may leave a deviation that is not quite 0
    return mean * largest, np.where(equal, 1.0, std * largest)


def _as_float32(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = numbers.astype(np.float32)
    if not np.isfinite(found).all():
        raise NonFiniteError(
            "X or y has numbers that are too large for float32, in which the network computes: scale them"
        )
    return found


def _layers(shape: Sequence[int], outputs: int) -> list[Layer]:
    """Return the layers of a small network for images of the shape (C, H, W).

    Convolutions and poolings make small maps of the image, which two linear layers read. There is no batch norm for
    images of one row: small batches of single numbers give poor statistics.
    """
    channels, *size = shape
    row = 1 in size
    filters, small = (16, 16) if row else (32, 8)
    layers: list[Layer] = []
    while True:
        kernel = [3 if side > 1 else 1 for side in size]
        layers += [Conv2d(channels, filters, kernel, padding=[side // 2 for side in kernel], bias=row)]
        layers += [ReLU()] if row else [BatchNorm2d(filters), ReLU()]
        channels = filters
        if max(size) <= small:
            return [*layers, Flatten(), Linear(channels * prod(size), 64), ReLU(), Linear(64, outputs)]
        window = [2 if side > 1 else 1 for side in size]
        layers += [MaxPool2d(window)]
        size = [side // by for side, by in zip(size, window, strict=True)]
        filters = min(2 * filters, 128)


def _cores() -> AbstractContextManager[None]:
    """Within the block a process of joblib's uses its share of the cores, which joblib writes into OMP_NUM_THREADS."""
    if multiprocessing.parent_process() is None or chosen_num_threads() is not None:
        return nullcontext()
    share = os.environ.get("OMP_NUM_THREADS", "")
    return num_threads(min(int(share) if share.isdecimal() and int(share) else 1, get_num_threads()))
