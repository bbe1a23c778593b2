"""The page of backends lists every kernel of the contract, with its arguments."""

import inspect
import re
from pathlib import Path

import im2colnet as ic
from im2colnet.backend import Kernel

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/backend.md"
#: arguments that all kernels have
COMMON = {"out", "scratch"}


def kernels():
    """The kernels of the contract with their arguments, as a call would write them."""
    for name in dir(ic.Backend):
        found = inspect.getattr_static(ic.Backend, name)
        if isinstance(found, Kernel):
            own = [p for p in found.signature.parameters.values() if p.name not in COMMON]
            given = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in own]
            yield f"{name}({', '.join(given)})"


def test_every_kernel_is_there_with_its_arguments():
    table = PAGE.read_text(encoding="utf-8").partition("## Its kernels")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+\([^`]*\))`", table, re.MULTILINE)) == sorted(kernels())
