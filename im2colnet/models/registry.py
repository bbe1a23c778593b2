"""The registry of ready-made networks: functions that build them, with their default training settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

from im2colnet.checks import frozen, positive, sides
from im2colnet.errors import ShapeError
from im2colnet.network import Network
from im2colnet.optim import Optimizer

P = ParamSpec("P")
N = TypeVar("N", bound=Network)
#: height and width of an image, or one number for both
Size: TypeAlias = int | tuple[int, int]


class Recipe(NamedTuple):
    """The default training settings of a model.

    Parameters
    ----------
    epochs : int
        The number of epochs.
    batch_size : int
        The number of images in a training step.
    optimizer : Optimizer
        The optimizer with its highest learning rate; on the command line the rate falls as a cosine.

    Examples
    --------
    >>> recipe = ic.models.MODELS["lenet5"].recipe
    >>> recipe.epochs, recipe.batch_size
    (15, 64)
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer


@frozen
class Model:
    """A ready-made network; a call builds it.

    Parameters
    ----------
    build : callable
        ``build(classes, in_channels, input_size, **options)`` returns the network.
    recipe : Recipe
        The default training settings.
    smallest : int
        The smallest height and width of an image.

    Examples
    --------
    >>> lenet = ic.models.MODELS["lenet5"]
    >>> lenet.smallest, lenet(classes=3).input_shape
    (12, (1, 28, 28))
    >>> ic.models.MODELS["resnet18"].options
    ('stem',)
    """

    build: Callable[..., Network]
    recipe: Recipe
    smallest: int

    def __call__(self, **arguments: Any) -> Network:
        """Build the network."""
        return self.build(**arguments)

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the arguments after ``classes``, ``in_channels`` and ``input_size``."""
        return tuple(inspect.signature(self.build).parameters)[3:]


#: every model, by name
MODELS: dict[str, Model] = {}


def model(recipe: Recipe, smallest: int) -> Callable[[Callable[P, N]], Callable[P, N]]:
    """Register a function ``f(classes, in_channels, input_size, ...)`` as a model; each argument must have a default.

    The function returns the network; the decorator sets its ``input_shape``. The model gets the name of the function.
    The command line knows this name if it runs in the same process.

    Parameters
    ----------
    recipe : Recipe
        The default training settings.
    smallest : int
        The smallest height and width of an image.

    Returns
    -------
    callable
        A decorator, which returns a function that checks the arguments and builds the network.

    Examples
    --------
    >>> @ic.models.model(ic.models.Recipe(5, 32, ic.Adam()), smallest=8)
    ... def tiny(classes=10, in_channels=1, input_size=8):
    ...     pooled = [ic.GlobalAvgPool2d(), ic.Flatten()]
    ...     return ic.Sequential([*pooled, ic.Linear(in_channels, classes)])
    >>> ic.models.make("tiny", 4, 3, 16).input_shape
    (3, 16, 16)
    >>> _ = ic.models.MODELS.pop("tiny")        # remove it from the registry
    """

    def register(function: Callable[P, N]) -> Callable[P, N]:
        signature = inspect.signature(function)

        @wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> N:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            classes, in_channels, size = (bound.arguments[name] for name in ("classes", "in_channels", "input_size"))
            positive(classes=classes, in_channels=in_channels)
            height, width = sides("input_size", size)
            if min(height, width) < smallest:
                raise ShapeError(f"input_size must be at least {smallest} for this network, got {size}")
            net = function(*args, **kwargs)
            net.input_shape = (in_channels, height, width)
            return net

        MODELS[function.__name__] = Model(build, recipe, smallest)
        return build

    return register


def make(name: str, classes: int, in_channels: int, input_size: Size, **arguments: Any) -> Network:
    """Build the model with this name.

    Parameters
    ----------
    name : str
        The name of the model, a key of :data:`MODELS`.
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images; one number for both if they are equal.
    **arguments
        Further arguments of the model.

    Returns
    -------
    Network
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If there is no such model, or it cannot take images of this size.

    Examples
    --------
    >>> net = ic.models.make("resnet20", 10, 1, (28, 28))
    >>> net.input_shape
    (1, 28, 28)
    """
    if name not in MODELS:
        raise ShapeError(f"there is no model {name!r}; there are: {', '.join(MODELS)}")
    return MODELS[name](classes=classes, in_channels=in_channels, input_size=input_size, **arguments)
