"""Write the tables of what there is: ``python docs/tables.py`` writes ``docs/tables.md``, beside PyTorch's names.

Everything comes from the code: names, arguments and defaults from the classes, the first sentence from their
documentation, and PyTorch's arguments from ``tests/reference/torch_signatures.json``, which PyTorch itself has written.
"""

import ast
import inspect
import json
import re
from pathlib import Path

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.graph.parameters import state_shapes
from im2colnet.models.registry import MODELS

ROOT = Path(__file__).parents[1]
TORCHVISION = json.loads((ROOT / "tests/reference/torchvision_models.json").read_text())
TORCH = json.loads((ROOT / "tests/reference/torch_signatures.json").read_text())
#: of each table its title, the base class of what it lists, and PyTorch's module of the same things
TABLES = [
    ("Layers", ic.Layer, "torch.nn"),
    ("Networks and their parts", ic.Network, "torch.nn"),
    ("Losses", ic.Loss, "torch.nn"),
    ("Optimizers", ic.Optimizer, "torch.optim"),
    ("Schedules of the learning rate", ic.Schedule, "torch.optim.lr_scheduler"),
]


def shown(parameters):
    """Arguments as a call would write them."""
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)


def sentence(thing):
    """The first sentence of the documentation, without references to other names."""
    first = inspect.getdoc(thing).split("\n\n")[0].replace("\n", " ")
    return first.replace("``", "`").replace(":class:", "").replace(":func:", "").replace("|", "\\|")


def number(text):
    """Return a default that is a number as a float, so that 0 equals 0.0 and False, and any other one as its text."""
    try:
        return float(ast.literal_eval(text))
    except (SyntaxError, TypeError, ValueError):
        return text


def difference(name, parameters, named, kind="class"):
    """Return how a thing differs from PyTorch's of the same name: arguments of only one of them, other defaults."""
    theirs = named.get(name)
    if theirs is None:
        return f"no {kind} of this name"
    own, others = {p.name: p for p in parameters}, dict(theirs)
    said = []
    missing = [name for name in others if name not in own]
    added = [name for name in own if name not in others]
    if missing:
        said.append("not here: " + ", ".join(f"`{name}`" for name in missing))
    if added:
        said.append("only here: " + ", ".join(f"`{name}`" for name in added))
    for name in own.keys() & others.keys():
        default = None if own[name].default is inspect.Parameter.empty else repr(own[name].default)
        if (default is None) != (others[name] is None) or (default and number(default) != number(others[name])):
            said.append(f"`{name}`" + (f"={others[name]}" if others[name] else " must be given"))
    return "; ".join(sorted(said)) or "the same"


def table(title, base, module):
    """The lines of one table."""
    classes = {name: value for name in ic.__all__ if inspect.isclass(value := getattr(ic, name))}
    yield f"\n## {title}\n"
    yield f"| class | arguments | description | `{module}` |"
    yield "|---|---|---|---|"
    for name, cls in sorted(classes.items(), key=lambda item: item[0].lower()):
        if issubclass(cls, base) and cls is not base and (base is ic.Network or not issubclass(cls, ic.Network)):
            parameters = list(inspect.signature(cls).parameters.values())
            arguments = f"`{shown(parameters)}`" if parameters else ""
            yield f"| {{class}}`~im2colnet.{name}` | {arguments} | {sentence(cls)} | {difference(name, parameters, TORCH[module])} |"


def functions():
    """The lines of the table of functions."""
    theirs = TORCH["torch.nn.functional"] | TORCH["torch.nn.grad"]
    yield "\n## Functions\n"
    yield "The functions are in `im2colnet.functional`. Arguments after `*` must be given by name.\n"
    yield "| function | arguments | description | `torch.nn.functional`, `torch.nn.grad` |"
    yield "|---|---|---|---|"
    for name in sorted(F.__all__):
        parameters = list(inspect.signature(getattr(F, name)).parameters.values())
        named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        arguments = ", ".join(filter(None, [shown(parameters[: len(parameters) - len(named)]), "*" * bool(named), shown(named)]))
        row = [f"{{func}}`~im2colnet.functional.{name}`", f"`{arguments}`", sentence(getattr(F, name))]
        yield f"| {' | '.join([*row, difference(name, parameters, theirs, 'function')])} |"


def metrics():
    """The lines of the table of metrics."""
    yield "\n## Metrics\n"
    yield "The metrics are in `im2colnet.metrics`, and give the same values as scikit-learn.\n"
    yield "| function | arguments | description |"
    yield "|---|---|---|"
    for name in ic.metrics.__all__:
        if inspect.isfunction(function := getattr(ic.metrics, name)):
            arguments = shown(inspect.signature(function).parameters.values())
            yield f"| {{func}}`~im2colnet.metrics.{name}` | `{arguments}` | {sentence(function)} |"


def transforms():
    """The lines of the table of transforms."""
    yield "\n## Transforms of training images\n"
    yield "The transforms are in `im2colnet.transforms`, and have the names of `torchvision.transforms.v2`.\n"
    yield "| class | arguments | description |"
    yield "|---|---|---|"
    for name in ic.transforms.__all__:
        if inspect.isclass(cls := getattr(ic.transforms, name)) and cls is not ic.transforms.Transform:
            arguments = shown(inspect.signature(cls).parameters.values())
            yield f"| {{class}}`~im2colnet.datasets.transforms.{name}` | `{arguments}` | {sentence(cls)} |"


def compared(name, build, options):
    """Return how a model differs from torchvision's of the same name: in names and shapes of parameters and state."""
    if name not in TORCHVISION:
        return "no model of this name"
    large = {"stem": "large"} if "stem" in options else {}
    graph = build(classes=1000, **large).graph
    own = {k: [*shape] for k, shape in state_shapes(graph).items()}
    same = "the same names and shapes" + ", with `stem=\"large\"`" * bool(large)
    return same if own == TORCHVISION[name]["shapes"] else "other names or shapes"


def models():
    """The lines of the table of models."""
    yield "\n## Models\n"
    yield "| model | arguments | description | parameters | smallest image | torchvision 0.28 |"
    yield "|---|---|---|---:|---:|---|"
    builders = {name: (model.build, str(model.smallest)) for name, model in MODELS.items()}
    builders |= {name: (getattr(ic.models, name), "–") for name in ("autoencoder", "unet")}
    for name, (build, smallest) in sorted(builders.items()):
        parameters = inspect.signature(build).parameters
        row = [f"{{func}}`~im2colnet.models.{name}`", f"`{shown(parameters.values())}`", sentence(build), f"{build().graph.size:,}", smallest]
        yield f"| {' | '.join([*row, compared(name, build, parameters)])} |"


def text():
    """The whole page."""
    lines = [
        "# All layers, losses and functions, compared with PyTorch",
        "",
        "This page is written by [`docs/tables.py`](tables.py) from the code. The last column compares each name with the same",
        "name in PyTorch 2.13. It lists arguments that only one of the libraries has, and PyTorch's defaults where they differ.",
        "Arguments that say where or how something is computed, such as `device`, `inplace` and `foreach`, are left out.",
    ]
    for each in TABLES:
        lines += table(*each)
    page = "\n".join([*lines, *functions(), *metrics(), *transforms(), *models()]) + "\n"
    return re.sub(r"(?m)(^\|.*\n)+", r":::{table}\n:class: dense\n\n\g<0>:::\n", page)  # small print: all columns fit


if __name__ == "__main__":
    path = Path(__file__).with_name("tables.md")
    path.write_text(text(), encoding="utf-8")
    print(path)
