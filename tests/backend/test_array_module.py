"""What an array module must have: the lists are true, and a backend whose module lacks something says so."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import GenericBackend, batches
from narrow_module import Module, NarrowBackend, ndarray

import im2colnet as ic
from im2colnet.backend import array_module, registry
from im2colnet.backend.array_module import ATTRIBUTES, BEHAVIOUR, FUNCTIONS, OPERATORS, OPTIONAL, unsuitable

ROOT = Path(__file__).parents[2]
#: rooms that use no array module but NumPy, and the module that has the lists
NOT_READ = {"cli", "datasets", "reports", "show", "testing", "onnx", "array_module.py"}


def sources():
    """The parts of the library that compute with the array module of a backend, as syntax trees."""
    for path in sorted((ROOT / "im2colnet").rglob("*.py")):
        if not NOT_READ & set(path.relative_to(ROOT).parts):
            yield ast.parse(path.read_text(encoding="utf-8"))


def used():
    """Names that the library takes from an array module ``xp``, and all names that follow a dot."""
    nodes = [node for tree in sources() for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    of_module = {node.attr for node in nodes if ast.unparse(node.value).rpartition(".")[2] == "xp"}
    return of_module, {node.attr for node in nodes}


# The lists are true; that nothing else is used is what all tests show that run on the narrow module ------------------
def test_the_library_uses_the_functions_of_the_list_and_all_of_them():
    of_module, _ = used()
    assert of_module <= {*FUNCTIONS, *OPTIONAL}
    by_getattr = {"less_equal"}  # of Minimum
    assert set(FUNCTIONS) <= of_module | by_getattr


def test_the_library_uses_all_attributes_of_the_list():
    _, attributes = used()
    assert set(ATTRIBUTES) <= attributes


def test_the_narrow_module_has_nothing_else():
    assert {name for name in dir(ndarray) if not name.startswith("_")} == set(ATTRIBUTES)
    module = {name for name in vars(Module()) if not name.startswith("_")}
    assert module == {*FUNCTIONS, "errstate"}
    with pytest.raises(AttributeError, match="empty_like"):
        NarrowBackend.xp.empty_like(NarrowBackend().empty((1,), "float32"))


def test_the_documentation_has_the_lists():
    text = (ROOT / "docs/guides/backend-contract.md").read_text(encoding="utf-8")
    section = text.split("## What an array module must have")[1].split("\n## ")[0]
    words = set(re.findall(r"`(\w+)", section))
    assert set(FUNCTIONS) | set(ATTRIBUTES) <= words
    joined = " ".join(section.split())
    for sentence in BEHAVIOUR:
        assert sentence in joined


# What is lacking is said ---------------------------------------------------------------------------------------------
def backend_of(xp, base=NarrowBackend, **others):
    return type("Faulty", (base,), {"name": "faulty", "xp": xp, **others})()


@pytest.mark.parametrize("backend", [GenericBackend, NarrowBackend])
def test_what_suits_starts(backend):
    assert unsuitable(backend()) == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_is_lacking_is_named(name):
    with pytest.raises(ic.BackendError, match=rf"'faulty' cannot start: .*'narrow' does not suit: it lacks {name}\."):
        ic.get_backend(backend_of(Module(without=[name])))


def test_all_that_is_lacking_is_named_at_once():
    text = unsuitable(backend_of(Module(without=["exp", "tanh", "add"])))
    assert "it lacks add, exp, tanh. Set xp to" in text


@pytest.mark.parametrize("name", [*ATTRIBUTES, *OPERATORS])
def test_an_attribute_that_arrays_lack_is_named(name, monkeypatch):
    monkeypatch.delattr(ndarray, name)
    assert f"its arrays lack {name}" in unsuitable(NarrowBackend())


def test_an_object_without_a_name_is_called_by_its_class():
    assert "its array module 'object' does not suit: it lacks ndarray" in unsuitable(backend_of(object()))


def frozen_array(values, dtype=None):
    found = np.array(values, dtype)
    found.flags.writeable = False
    return found


def numpy_but(**others):
    """A backend on NumPy's functions, some of which are others."""
    return backend_of(Module(**{name: getattr(np, name) for name in FUNCTIONS} | others), GenericBackend)


def test_a_module_that_takes_no_lists_is_told():
    def asarray(values, dtype=None):
        raise TypeError("no lists")

    assert "`asarray` must take lists and `dtype='float32'` (TypeError: no lists)" in unsuitable(
        backend_of(Module(asarray=asarray))
    )


def always_wide(*args, **options):
    found = np.add(*args, **options)
    return found if "out" in options else found.astype("float64")


class Foreign(np.ndarray):
    pass


#: what a backend does otherwise -> (the backend, words of the sentence that says so)
OTHERWISE = {
    "its arrays stay where they are": (backend_of(Module(), to_numpy=lambda self, a: a), "its `to_numpy` must give"),
    "its arrays are not its own": (numpy_but(ndarray=Foreign), "of the class `ndarray`"),
    "types have other names": (
        numpy_but(empty=lambda shape, dtype: np.empty(shape, "float32" if dtype == "float64" else dtype)),
        "`dtype=` must take names",
    ),
    "arrays are read-only": (
        numpy_but(asarray=frozen_array),
        r"arrays must be writable, as by `a\[\.\.\.\] = 0` and `a \+= 1` \(ValueError",
    ),
    "out is forgotten": (
        numpy_but(sum=lambda a, out=None, **options: np.sum(a, **options)),
        "`out=` must be written to",
    ),
    "numbers widen": (numpy_but(add=always_wide), "must not change the type"),
    "arrays are no indices": (
        numpy_but(arange=lambda n: np.arange(float(n))),
        r"arrays of integers must be indices, to read and to write \(IndexError",
    ),
    "division fails": (
        numpy_but(divide=lambda a, b, **options: 1 / 0 if b == 0 else np.divide(a, b, **options)),
        r"infinity and NaN must be numbers, not errors \(ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("backend", "text"), OTHERWISE.values(), ids=OTHERWISE)
def test_what_behaves_otherwise_is_said(backend, text):
    with pytest.raises(ic.BackendError, match=text):
        ic.get_backend(backend)


def test_slices_that_are_copies_are_said(monkeypatch):
    taken = ndarray.__getitem__
    monkeypatch.setattr(ndarray, "__getitem__", lambda self, key: taken(self, key).copy())
    assert "slices with a positive step, `reshape`, `transpose` and `view` must share" in unsuitable(NarrowBackend())


def test_each_behaviour_can_fail():
    tried = " ".join(text.replace("\\", "") for _, text in OTHERWISE.values()) + " share the memory of their array"
    for sentence in BEHAVIOUR:
        assert any(sentence[i : i + 15] in tried for i in range(len(sentence) - 15)), sentence


# When it is looked at ------------------------------------------------------------------------------------------------
def test_it_is_looked_at_once_and_not_at_all_in_what_the_library_brings(monkeypatch):
    looked = []

    def look(backend):
        looked.append(backend.name)
        return ""

    monkeypatch.setattr(registry, "unsuitable", look)
    backend = GenericBackend()
    for _ in range(3):
        assert ic.get_backend(backend) is backend
        ic.get_backend("numpy")
        ic.get_backend(type(ic.get_backend("numpy"))())
    assert looked == ["generic"]
    assert array_module.unsuitable is not look


def test_a_backend_that_does_not_suit_is_not_used_by_anything():
    faulty = backend_of(Module(without=["exp"]))
    net = ic.Sequential([ic.Linear(3, 2)])
    for use in (
        lambda: net.init(backend=faulty),
        lambda: ic.Trainer(net, backend=faulty),
        lambda: ic.use_backend(faulty).__enter__(),
        lambda: ic.testing.check_layer(ic.ReLU(), (3,), backend=faulty),
    ):
        with pytest.raises(ic.BackendError, match=r"'faulty' cannot start: .* it lacks exp"):
            use()


# What the module's looser promises would break -----------------------------------------------------------------------
def test_predictions_are_the_caller_s():
    """Also where ``to_numpy`` gives the memory that the next prediction is written to."""
    net = ic.Sequential([ic.Linear(3, 2)]).init(0, backend=NarrowBackend())
    images = batches((3,), 2, 4)
    first = net.predict(images()[0])
    kept = first.copy()
    second = net.predict(images(seed=1)[0])
    assert not np.shares_memory(first, second)
    assert np.array_equal(first, kept)


def test_a_whole_training_gives_numpy_s_bits():
    """Every function of the module is NumPy's, so the textbook kernels give what they give on NumPy itself."""
    found = []
    for backend in GenericBackend(), NarrowBackend():
        net = ic.models.notebook(in_channels=1, input_size=8)
        trainer = ic.Trainer(net, optimizer=ic.AdamW(1e-3), clip_norm=1.0, accumulate=2, seed=0, backend=backend)
        trainer.fit(batches((1, 8, 8), 2, 40, pixels=True)(), epochs=2, batch_size=8)
        found.append(net.state_dict())
    for name, parameter in found[0].items():
        assert np.array_equal(found[1][name], parameter), name


# The example of the documentation ------------------------------------------------------------------------------------
def test_the_example_is_a_backend():
    """PyTorch's arrays, as the documentation shows it. It is one test, since PyTorch takes long to start."""
    pytest.importorskip("torch._numpy", reason="the example of the documentation needs PyTorch")
    text = (ROOT / "docs/guides/backend-contract.md").read_text(encoding="utf-8")
    (program,) = (p for p in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "torch._numpy" in p)
    assert program.count("\n") < 30
    names = {"__name__": "my_backend"}
    exec(compile(program, "backend-contract.md", "exec"), names)
    backend = ic.get_backend(names["TorchBackend"]())
    slow = "layers.convolution", "layers.pooling", "layers.activation", "layers.normalization", "losses", "training"
    quick = [name for name in ic.testing.check_names() if name not in (*slow, "workers")]
    for result in ic.testing.check_backend(backend, only=quick).results:
        assert result.ok, (result.name, result.error)
    (expected, losses), (state, other) = map(trained, (GenericBackend(), backend))
    np.testing.assert_allclose(other, losses, rtol=1e-9)
    for name, parameter in expected.items():
        np.testing.assert_allclose(state[name], parameter, rtol=1e-7, atol=1e-9, err_msg=name)


def trained(backend):
    """Parameters and losses of a network that was trained on a backend."""
    net = ic.models.lenet5(classes=3, in_channels=1, input_size=12).init(0, "float64", backend)
    trainer = ic.Trainer(net, optimizer=ic.Adam(1e-3), clip_norm=1.0, seed=0)
    history = trainer.fit(batches((1, 12, 12), 3, 48, pixels=True)(), epochs=2, batch_size=16)
    return net.state_dict(), history["loss"]
