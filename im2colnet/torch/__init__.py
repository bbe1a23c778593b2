"""Networks from PyTorch.

Only this module uses PyTorch, and only when a function is called. To load weights alone, PyTorch is not needed: see
:func:`im2colnet.load_weights`.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from im2colnet.backend import Backend
from im2colnet.checks import whole
from im2colnet.errors import InputWarning, ModelError
from im2colnet.network import Net
from im2colnet.network.draft import INPUT
from im2colnet.torch import importers  # noqa: F401 - they register themselves
from im2colnet.torch.trace import Refused, Trace, entries, own_line
from im2colnet.torch.values import Untraceable, Value, values_in

__all__ = ["from_module"]

#: names that a warning lists
MOST_NAMES = 8
#: problems that an error lists, beside the operations that are lacking
MOST_LINES = 20


def from_module(module: Any, input_shape: Sequence[int], backend: str | Backend | None = None) -> Net:
    """Convert a PyTorch module to a network, with its weights.

    The module's ``forward`` is called once with a symbolic value, and its operations become layers. The network's
    parameters and running statistics have the module's names, so that ``net.load_state_dict(module.state_dict())``
    works, and the other direction, too. Constants of the module become state of the network. Parameters with
    ``requires_grad=False`` are frozen. The running statistics of a batch norm in evaluation mode are also frozen, if
    the module is in training mode. Otherwise the module's mode makes no difference. A softmax at the end is applied in
    predictions only: the loss gets the input of the softmax. The module is not changed.

    Parameters
    ----------
    module : torch.nn.Module
        A module with one input.
    input_shape : (C, H, W), (C, L) or (features,)
        The shape of a sample.
    backend : str or Backend, optional
        The backend of the parameters; see :func:`im2colnet.get_backend`.

    Returns
    -------
    Net
        A network with the module's weights and names.

    Raises
    ------
    ModelError
        If the module uses unsupported operations; the message lists all of them, and their places in the code. Or if
        PyTorch is not installed.

    Warns
    -----
    InputWarning
        If the network differs from the module: a parameter does not affect the output, or is a constant of the network;
        an entry has another name; or the module branches on whether it is in training mode.

    Examples
    --------
    PyTorch is not part of the library's test environment, so these lines are not run as tests::

        module = torchvision.models.resnet18(weights="DEFAULT")
        net = ic.torch.from_module(module, input_shape=(3, 224, 224))
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"module must be a torch.nn.Module, got {module!r:.80}")
    kind = type(module).__name__
    scripted = [path for path, m in module.named_modules() if isinstance(m, torch.jit.ScriptModule)]
    if scripted:
        raise ModelError(f"{kind} was compiled by TorchScript: give the original module")
    if hasattr(module, "_orig_mod"):
        raise ModelError(f"{kind} was compiled by torch.compile: give the original module, module._orig_mod")
    _check_forward(module, kind)
    if not hasattr(input_shape, "__len__") or not len(input_shape):
        raise ModelError(
            f"input_shape must be the shape of a sample, such as (channels, height, width), got {input_shape!r}"
        )
    trace = Trace(torch, module, [whole("input_shape", n) for n in input_shape])
    with torch.enable_grad(), trace.tracing():
        made = _run(module, trace)
    _set_outputs(trace, made)
    _raise_problems(kind, trace)
    net = trace.draft.network(backend, "float64" if trace.dtype == torch.float64 else "float32")
    net.freeze_only({*trace.frozen} & net.state_shapes().keys())
    for note in _notes(module, trace, net):
        warnings.warn(f"{kind}: {note}", InputWarning, stacklevel=2)
    return net


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise ModelError("a module of PyTorch needs PyTorch: pip install torch (https://pytorch.org)") from error


def _check_forward(module: Any, kind: str) -> None:
    try:
        inspect.signature(module.forward).bind(None)
    except TypeError:
        given = ", ".join(inspect.signature(module.forward).parameters)
        raise ModelError(f"forward of {kind} takes ({given}): a network has one input") from None


def _run(module: Any, trace: Trace) -> Any:
    """Call a module with a symbolic value; an error that ends the tracing early is noted as a problem."""
    try:
        return module(Value(trace, INPUT))
    except Untraceable as error:
        trace.problems.append(f"{_end(error)}: {error}")
    except Exception as error:  # of the module's own code
        trace.problems.append(f"{_end(error)}: {type(error).__name__}: {error}")
    return ()


def _end(error: BaseException) -> str:
    """Return where the tracing has ended."""
    line = own_line(traceback.extract_tb(error.__traceback__)[1:])
    return f"the tracing ended at {line}" if line else "the tracing ended"


def _set_outputs(trace: Trace, made: Any) -> None:
    from im2colnet.layers import Reshape

    draft = trace.draft
    try:
        trace.check_read(made)
    except Refused as error:
        trace.problems.append(f"the output of {type(trace.root).__name__}: {error}")
    for value in values_in(made):
        name = value.name
        if name is None:
            if not trace.problems and not trace.lacking:
                trace.problems.append(
                    "an output depends on the indices of maxima or minima, which a network does not compute"
                )
            continue
        if name == INPUT or name in draft.outputs:  # each output is a layer of its own
            name = draft.add("output", Reshape(draft.shape(name)), [name])
        draft.outputs.append(name)
    if not trace.problems and not trace.lacking and not draft.outputs:
        trace.problems.append(f"forward returns {type(made).__name__}: it must return tensors that depend on its input")
    draft.prune()


def _raise_problems(kind: str, trace: Trace) -> None:
    lines = list(dict.fromkeys(trace.problems))
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} more"]
    if trace.lacking:
        each = ", ".join(f"{operation} ({_listed(places)})" for operation, places in trace.lacking.items())
        plural = f"{len(trace.lacking)} operations" if len(trace.lacking) > 1 else "an operation"
        lines.insert(0, f"{kind} has {plural} that im2colnet lacks: {each}")
    elif lines:
        lines.insert(0, f"{kind} cannot become a network:")
    if lines:
        raise ModelError("\n  ".join(lines))


def _listed(places: Sequence[str]) -> str:
    return places[0] if len(places) == 1 else f"{len(places)} times, first in {places[0]}"


def _notes(module: Any, trace: Trace, net: Net) -> list[str]:
    """Return notes on how the network differs from the module."""
    found, own = [], net.state_shapes()
    renamed = {name: new for name, new in trace.renamed.items() if new in own and name not in own}
    unused = [name for name in entries(module) if name not in own and name not in renamed]
    for what, names in (
        (
            "these check whether they are in training mode, and the network follows their evaluation mode (but dropout"
            " is active in training)",
            trace.asked,
        ),
        ("constants of the network, which training does not change", trace.constants),
        ("other names in the network", [f"{name} is {new}" for name, new in renamed.items()]),
        (
            "not used for the output, and not in the network (load_state_dict(..., strict=False) leaves them out)",
            unused,
        ),
    ):
        if names:
            found.append(f"{what}: {_names(names)}")
    return found


def _names(names: Any) -> str:
    names = [*names]
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
