"""Writes ``torch_signatures.json``: the arguments of PyTorch 2.13.0's classes and functions.

    python tests/reference/make_torch_signatures.py

Each is a list of [name, default], the default as Python writes it, and null where there is none.
"""

import inspect
import json
from pathlib import Path

import torch

assert torch.__version__.split("+")[0] == "2.13.0", "made with another version of PyTorch"

#: what says where or how it is computed, or is there for older versions, not what is computed
LEFT_OUT = {
    "self",
    "params",
    "optimizer",
    "device",
    "dtype",
    "inplace",
    "size_average",
    "reduce",
    "last_epoch",
    "out",
    "_stacklevel",
    "verbose",
}
LEFT_OUT |= {"foreach", "capturable", "differentiable", "fused", "args", "kwargs"}


def arguments(function):
    """The arguments of a class or function."""
    found = inspect.signature(function).parameters.values()
    return [[p.name, None if p.default is p.empty else repr(p.default)] for p in found if p.name not in LEFT_OUT]


def classes(module, base):
    """Public classes of a module that are derived from one."""
    named = {name: value for name, value in vars(module).items() if inspect.isclass(value) and name[0] != "_"}
    return {name: arguments(value) for name, value in sorted(named.items()) if issubclass(value, base)}


def functions(module):
    """Public functions of a module; of those that are not written in Python, PyTorch has a signature for tests."""
    overrides, found = torch.overrides.get_testing_overrides(), {}
    for name, value in sorted(vars(module).items()):
        if not inspect.isroutine(value) or not name[0].islower():
            continue
        if hasattr(module, f"{name}_with_indices"):  # one of two, which has no signature of its own
            value = getattr(module, f"{name}_with_indices")
        try:
            named = arguments(value)
        except ValueError:
            named = arguments(overrides[value]) if value in overrides else []
        if named and named[0][0].startswith("input"):
            found[name] = named
    return found


if __name__ == "__main__":
    schedules = torch.optim.lr_scheduler
    found = {
        "torch.nn": classes(torch.nn, torch.nn.Module),
        "torch.nn.functional": functions(torch.nn.functional),
        "torch.nn.grad": functions(torch.nn.grad),
        "torch.optim": classes(torch.optim, torch.optim.Optimizer),
        "torch.optim.lr_scheduler": classes(schedules, schedules.LRScheduler),
    }
    path = Path(__file__).with_name("torch_signatures.json")
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{path.name}: {sum(map(len, found.values()))} classes and functions, {path.stat().st_size / 1000:.0f} KB")
