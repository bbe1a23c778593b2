"""What a ready-made network is: a function that builds it, with how it is best trained."""

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
    """How a model is trained unless somebody says otherwise.

    Parameters
    ----------
    epochs : int
        The number of epochs.
    batch_size : int
        The number of images in a training step.
    optimizer : Optimizer
        The optimiser with its highest learning rate, which the command line lets fall as a cosine.

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
        How it is trained unless somebody says otherwise.
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
        """The names of the arguments that other models do not have."""
        return tuple(inspect.signature(self.build).parameters)[3:]


#: every model, by name
MODELS: dict[str, Model] = {}


def model(recipe: Recipe, smallest: int) -> Callable[[Callable[P, N]], Callable[P, N]]:
    """Make a model of a function ``f(classes, in_channels, input_size, ...)``, which has a default for each argument.

    The function returns the network; its ``input_shape`` is set here. The model gets the function's name, which the
    command line knows in this process.

    Parameters
    ----------
    recipe : Recipe
        How it is trained unless somebody says otherwise.
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
    >>> _ = ic.models.MODELS.pop("tiny")        # so that it is known no more
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
    """Build the model of that name.

    Parameters
    ----------
    name : str
        One of :data:`MODELS`.
    classes : int
        The number of classes: what the network gives for an image.
    in_channels : int
        The channels of an image: 1 for grey, 3 for colors.
    input_size : int, or (int, int)
        Height and width of the images; one number for both if they are equal.
    **arguments
        Those of the model.

    Returns
    -------
    Network
        Without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If there is no such model, or it cannot take images of that size.

    Examples
    --------
    >>> net = ic.models.make("resnet20", 10, 1, (28, 28))
    >>> net.input_shape
    (1, 28, 28)
    """
    if name not in MODELS:
        raise ShapeError(f"there is no model {name!r}; there are: {', '.join(MODELS)}")
    return MODELS[name](classes=classes, in_channels=in_channels, input_size=input_size, **arguments)
