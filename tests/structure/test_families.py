"""A family is one word on every floor, and whatever is public has its row in ``im2colnet.testing.cases``."""

import inspect
import pkgutil
from importlib import import_module

import pytest

import im2colnet as ic
from im2colnet import functional, layers
from im2colnet.testing import cases, conformance, oracles

FAMILIES = {"activation", "convolution", "dropout", "linear", "losses", "merging", "normalization", "pooling"}
FAMILIES |= {"resampling", "shaping", "updates"}
#: packages with a module for each family that they hold, and the modules beside those
PACKAGES = {
    layers: {"base"},
    functional: {"applying", "arguments", "lowering"},
    oracles: {"arrays", "windows"},
    cases: {"base"},
    conformance: {"arrays", "base", "layers", "training"},
}
#: families without loops of their own: chance decides what they give
WITHOUT_ORACLE = {"dropout"}
#: functions that have other names than their oracles
TWINS = {
    "avg_pool2d_grad": "avg_pool2d_input",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "dice": "dice_loss",
    "focal": "focal_loss",
    "huber": "huber_loss",
    "l1": "l1_loss",
    "log_sigmoid": "logsigmoid",
    "max_pool2d_grad": "max_pool2d_input",
    "mse": "mse_loss",
    "nll": "nll_loss",
    "smooth_l1": "smooth_l1_loss",
    "upsample": "interpolate",
    "zero_pad2d": "pad",
}
#: functions that have no loops of their own
TORCH_ALONE = {"dropout", "dropout2d", "max_unpool2d", "normalize"}


def modules(package):
    """Names of a package's modules."""
    return {module.name for module in pkgutil.iter_modules(package.__path__)}


def public(base):
    """Public classes derived from one that is public itself, and from no network."""
    classes = {value for name in ic.__all__ if inspect.isclass(value := getattr(ic, name))}
    return {
        kind for kind in classes if issubclass(kind, base) and kind is not base and not issubclass(kind, ic.Network)
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_modules_have_the_names_of_families(package):
    assert modules(package) - PACKAGES[package] <= FAMILIES


def test_every_family_of_layers_has_its_cases_and_oracles():
    families = modules(layers) - PACKAGES[layers]
    assert families <= modules(cases)
    assert families - WITHOUT_ORACLE <= modules(oracles)


@pytest.mark.parametrize("family", sorted(modules(cases) - PACKAGES[cases]))
def test_a_row_stands_in_the_family_of_its_layer(family):
    for case in getattr(import_module(f"im2colnet.testing.cases.{family}"), "LAYERS", []):
        assert case.kind.__module__ == f"im2colnet.layers.{family}"
        assert all(type(layer) is case.kind for layer, *_ in case.examples)


def test_every_public_layer_has_its_row():
    assert public(ic.Layer) <= {case.kind for case in cases.LAYERS if case.examples}


def test_every_layer_s_row_is_run():
    listed = [
        case for name in modules(cases) for case in getattr(import_module(f"{cases.__name__}.{name}"), "LAYERS", [])
    ]
    assert sorted(map(id, listed)) == sorted(map(id, cases.LAYERS))


def test_every_public_loss_has_its_row():
    """Those of one output; tests/network/test_graphs.py has those of several."""
    losses = {getattr(ic, name) for name in ic.__all__ if name.endswith("Loss") and name != "Loss"}
    losses = {loss for loss in losses if not loss.several_outputs}
    assert losses <= {type(case.loss) for case in cases.LOSSES}


def test_every_public_optimizer_has_its_row():
    assert public(ic.Optimizer) <= {type(case.optimizer) for case in cases.OPTIMIZERS}


def test_every_public_function_has_its_oracle():
    """But for those that only PyTorch's values are for, in tests/reference."""
    named = {twin: name for name, twin in TWINS.items()}
    assert {named.get(name, name) for name in functional.__all__} - set(oracles.__all__) == TORCH_ALONE
