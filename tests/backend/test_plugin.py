"""A backend from a third party: found by its entry point alone, trains, and when it is broken says why."""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from im2colnet_numpy import NumpyBackend
from narrow_module import NarrowBackend
from numpy.testing import assert_allclose

import im2colnet as ic
import im2colnet.functional as F
from im2colnet import cli
from im2colnet.testing import oracles as naive

PLUGIN = Path(__file__).parents[1] / "plugin"
GROUP = "im2colnet.backends"


@pytest.fixture(autouse=True)
def nothing_known(nothing_started, monkeypatch):
    """Every test begins with no backend started or chosen and no plug-in imported, and leaves none behind."""
    monkeypatch.delenv("IM2COLNET_BACKEND", raising=False)

    def plug_ins():
        return [module for module in sys.modules if module.startswith(("im2colnet_demo", "plug_in_"))]

    before = {module: sys.modules.pop(module) for module in plug_ins()}  # imported by another test
    yield
    for module in plug_ins():
        del sys.modules[module]
    sys.modules.update(before)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Put a distribution on the path as if it were installed: its metadata, and a module if it is made up here."""
    monkeypatch.syspath_prepend(tmp_path)

    def publish(distribution, entry_points, source=None):
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        for value in entry_points.values() if source is not None else ():
            (tmp_path / f"{value.partition(':')[0]}.py").write_text(source)

    return publish


@pytest.fixture
def demo(publish, monkeypatch):
    """Make the distribution in tests/plugin as good as installed, with the name and entry points it declares."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    monkeypatch.syspath_prepend(PLUGIN)
    publish(project["name"], project["entry-points"][GROUP])


def plug_in(body, name="plug_in_one"):
    """Entry point and source of a backend ``name`` whose module has this body, after the usual imports."""
    return {name: f"{name}:Plug"}, f"import numpy\nfrom im2colnet import Backend\n{body}\n"


def rows():
    """``list_backends`` by name."""
    return {row.name: row for row in ic.list_backends()}


# Found -------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("demo")
def test_a_plug_in_is_listed_with_the_distribution_that_brings_it():
    assert rows()["demo"] == ("demo", "im2colnet-demo", True, "")
    assert rows()["numpy"] == ("numpy", "built-in", True, "")


@pytest.mark.usefixtures("demo")
def test_an_explicit_name_gives_the_plug_in_and_always_the_same_one():
    backend = ic.get_backend("demo")
    assert type(backend).__module__ == "im2colnet_demo"
    assert isinstance(backend, ic.Backend)
    assert ic.get_backend("demo") is backend
    assert ic.get_backend(backend) is backend
    assert ic.get_backend().name == "numpy"


@pytest.mark.usefixtures("demo")
def test_argument_goes_before_context_before_environment(monkeypatch):
    assert ic.get_backend().name == "numpy"
    monkeypatch.setenv("IM2COLNET_BACKEND", "")  # as good as not set
    assert ic.get_backend().name == "numpy"
    monkeypatch.setenv("IM2COLNET_BACKEND", "demo")
    assert ic.get_backend().name == "demo"
    with ic.use_backend("numpy") as outer:
        assert ic.get_backend() is outer
        assert outer.name == "numpy"
        assert ic.get_backend("demo").name == "demo"
        with ic.use_backend("demo") as inner:
            assert ic.get_backend() is inner
            assert ic.get_backend("numpy") is outer
        assert ic.get_backend() is outer
        with pytest.raises(KeyError), ic.use_backend("demo"):
            raise KeyError
        assert ic.get_backend() is outer
    assert ic.get_backend().name == "demo"


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("how", ["argument", "trainer", "context", "environment"])
def test_every_way_of_choosing_reaches_the_network(how, monkeypatch):
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])
    net.input_shape = (1, 8, 8)
    if how == "argument":
        net.init(backend="demo")
    elif how == "trainer":
        ic.Trainer(net, backend="demo")
    elif how == "context":
        with ic.use_backend("demo"):
            net.init()
    else:
        monkeypatch.setenv("IM2COLNET_BACKEND", "demo")
        net.init()
    assert net.backend is ic.get_backend("demo")


@pytest.mark.usefixtures("demo")
def test_only_the_chosen_plug_in_is_imported(publish):
    publish("other", {"other": "plug_in_other:Plug"}, "raise SystemExit('imported, though nobody asked for it')")
    ic.get_backend()
    assert "im2colnet_demo" not in sys.modules
    ic.get_backend("demo")
    assert "im2colnet_demo" in sys.modules
    assert "plug_in_other" not in sys.modules


def test_a_plug_in_with_devices_is_started_with_the_one_that_follows_the_colon(publish):
    publish(
        "devices",
        *plug_in("""
class Plug(Backend):
    name, xp = "plug_in_one", numpy
    def __init__(self, device=None):
        self.device = device
"""),
    )
    assert ic.get_backend("plug_in_one").device is None
    assert ic.get_backend("plug_in_one:3").device == "3"
    assert ic.get_backend("plug_in_one:3") is not ic.get_backend("plug_in_one:4")


# Trains ------------------------------------------------------------------------------------------------------------
def everything():
    """A network for 8×8 digits with every kind of layer, strides, groups, padding and overlapping windows."""
    net = ic.Sequential(
        [
            ic.Conv2d(1, 8, 3, padding=1, bias=False),
            ic.BatchNorm2d(8),
            ic.ReLU(),
            ic.Residual(ic.Sequential([ic.Conv2d(8, 8, 3, padding=1, groups=2), ic.ReLU()])),
            ic.MaxPool2d(3, stride=2, padding=1),
            ic.Conv2d(8, 12, 3, stride=2, padding=1),
            ic.ReLU(),
            ic.AvgPool2d(2, stride=1),
            ic.Dropout(0.1),
            ic.Flatten(),
            ic.Linear(12, 10),
        ]
    )
    net.input_shape = (1, 8, 8)
    return net


class Generic(ic.Backend):
    """Nothing but what the contract asks for."""

    name = "generic"
    xp = np


def trained_on_digits(backend, dtype="float64"):
    """Train on some digits; return the trainer and its history."""
    train, test = ic.datasets.load("digits")
    net = everything().init(seed=3, dtype=dtype, backend=backend)
    trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.05, momentum=0.9), seed=1, shard=32)
    return trainer, trainer.fit(train[:320], epochs=2, batch_size=80, validation=test[:100])


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("backend", ["demo", Generic()], ids=["plug-in", "generic base"])
def test_training_gives_what_the_numpy_backend_gives(backend):
    expected, expected_history = trained_on_digits("numpy")
    trainer, history = trained_on_digits(backend)
    assert trainer.net.backend is ic.get_backend(backend)
    for name, parameter in expected.net.state_dict().items():
        assert_allclose(trainer.net.state_dict()[name], parameter, rtol=1e-8, atol=1e-10, err_msg=name)
    for key in "loss", "accuracy", "validation_loss", "validation_accuracy":
        assert_allclose(history[key], expected_history[key], rtol=1e-9, err_msg=key)


@pytest.mark.usefixtures("demo", "shards_of_32")
def test_the_plug_ins_own_kernel_does_the_work(monkeypatch):
    def elsewhere(*args, **kwargs):
        raise AssertionError("a kernel of the built-in backend ran")

    for kernel in "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "activation_grad", "matmul":
        monkeypatch.setattr(NumpyBackend, kernel, elsewhere)
    trained_on_digits("demo")
    demo = ic.get_backend("demo")
    # 2 epochs of 4 steps of 3 shards: forward, weight and input gradients of three convolutions and a linear layer
    assert demo.calls > 0.9 * 2 * 4 * 3 * (4 + 4 + 3)  # two threads that count at once may miss one


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("backend", ["demo", Generic()], ids=["plug-in", "generic base"])
def test_it_learns_the_digits(backend):
    train, test = ic.datasets.load("digits")
    net = ic.Sequential(
        [
            ic.Conv2d(1, 8, 3, padding=1),
            ic.ReLU(),
            ic.MaxPool2d(2),
            ic.Flatten(),
            ic.Linear(128, 10),
        ]
    )
    trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.1, momentum=0.9), backend=backend)
    history = trainer.fit(train, epochs=3, batch_size=64, validation=test)
    assert net.dtype == "float32"
    assert history["validation_accuracy"][-1] > 0.93
    assert net.predict(test.images[:7]).argmax(1).shape == (7,)


@pytest.mark.usefixtures("demo")
def test_a_checkpoint_goes_from_one_backend_to_another(tmp_path):
    trainer, _ = trained_on_digits("demo")
    trainer.save(tmp_path / "demo.safetensors")
    images = ic.datasets.load("digits")[1].images[:50]
    expected = trainer.net.predict(images)
    for name in "numpy", "demo":
        loaded = ic.Trainer.load(tmp_path / "demo.safetensors", backend=name)
        assert loaded.net.backend.name == name
        assert_allclose(loaded.net.predict(images), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("backend", ["demo", Generic()], ids=["plug-in", "generic base"])
def test_the_operators_on_plain_arrays_use_the_chosen_backend(backend, monkeypatch):
    used = Counter()

    class Counting(type(ic.get_backend(backend))):
        def matmul(self, a, b, out=None):
            used["matmul"] += 1
            return super().matmul(a, b, out)

    def elsewhere(*args, **kwargs):
        raise AssertionError("a kernel of the built-in backend ran")

    for name in "im2col", "matmul":
        monkeypatch.setattr(NumpyBackend, name, elsewhere)
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 2, 3, 2)), rng.standard_normal(6)
    conv = {"stride": (2, 1), "padding": (1, 2), "dilation": 1, "groups": 2}
    with ic.use_backend(Counting()):
        y = F.conv2d(x, w, b, **conv)
        dy = rng.standard_normal(y.shape)
        assert_allclose(y, naive.conv2d(x, w, b, **conv), atol=1e-12)
        assert_allclose(F.conv2d_input(x.shape, w, dy, **conv), naive.conv2d_input(x.shape, w, dy, **conv), atol=1e-12)
        dw = F.conv2d_weight(x, w.shape, dy, **conv)
        assert_allclose(dw, naive.conv2d_weight(x, w.shape, dy, **conv), atol=1e-12)
        pooled, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        expected, expected_indices = naive.max_pool2d(x, 3, 2, 1, return_indices=True)
        assert np.array_equal(pooled, expected)
        assert np.array_equal(indices, expected_indices)
        assert_allclose(F.avg_pool2d(x, 3, 2, 1), naive.avg_pool2d(x, 3, 2, 1), atol=1e-12)
    assert used["matmul"] == 3


# Refused -----------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("demo")
def test_an_unknown_name_lists_those_there_are(monkeypatch):
    with pytest.raises(ic.BackendError, match=r"no backend 'cudnn'; there are: .*demo, numba, numpy"):
        ic.get_backend("cudnn")
    monkeypatch.setenv("IM2COLNET_BACKEND", "nonsense")
    with pytest.raises(ic.BackendError, match=r"'nonsense'; there are: .*demo, numba, numpy.*IM2COLNET_BACKEND"):
        ic.get_backend()


@pytest.mark.parametrize("name", ["numpy:1", "demo:0"])
@pytest.mark.usefixtures("demo")
def test_a_device_where_there_are_none_is_refused(name):
    backend, device = name.split(":")
    with pytest.raises(ic.BackendError, match=f"'{name}' cannot start: .*'{backend}' has no devices.*'{device}'"):
        ic.get_backend(name)


def test_a_plug_in_may_not_take_a_built_in_name(publish):
    for value in "plug_in_impostor:Plug", "plug_in_another:Plug":
        publish(value[:-5], {"numpy": value}, "raise SystemExit('a plug-in took the place of NumPy')")
    assert type(ic.get_backend("numpy")) is NumpyBackend
    assert rows()["numpy"] == ("numpy", "built-in", True, "")


@pytest.mark.usefixtures("demo")
def test_two_distributions_with_one_name_are_refused_by_name(publish):
    publish("rival", *plug_in("class Plug(Backend): name, xp = 'demo', numpy", "plug_in_rival"))
    publish("usurper", {"demo": "plug_in_rival:Plug"})
    message = r"'demo': im2colnet-demo \(im2colnet_demo:DemoBackend\), usurper \(plug_in_rival:Plug\)"
    with pytest.raises(ic.BackendError, match=message):
        ic.get_backend("demo")
    assert not rows()["demo"].available
    assert "usurper" in rows()["demo"].reason
    assert rows()["numpy"].available
    assert ic.get_backend("plug_in_rival").name == "demo"  # another entry point with a name of its own is none of it


BROKEN = {
    "needs a library": ("import a_library_nobody_has", "ModuleNotFoundError.*a_library_nobody_has"),
    "syntax": ("def", "SyntaxError"),
    "class missing": ("", "AttributeError.*Plug"),
    "cannot start": (
        "class Plug(Backend):\n    def __init__(self, device=None): raise OSError('no accelerator: set its driver up')",
        "OSError: no accelerator: set its driver up",
    ),
    "takes no device": ("class Plug(Backend):\n    def __init__(self): pass", "TypeError"),
    "no Backend": (
        "class Plug:\n    def __init__(self, device=None): pass",
        "gives a Plug, not a subclass of im2colnet.Backend",
    ),
    "no callable": ("Plug = 3", "TypeError"),
    "calls sys.exit": ("import sys; sys.exit('no licence was found')", "SystemExit: no licence was found"),
    "ends silently": ("import sys; sys.exit()", "SystemExit"),
    "calls sys.exit at start": (
        "class Plug(Backend):\n    def __init__(self, device=None): raise SystemExit(3)",
        "SystemExit: 3",
    ),
    "an exception of its own": (
        "class Ours(BaseException): pass\nclass Plug(Backend):\n    def __init__(self, device=None): raise Ours('why')",
        "Ours: why",
    ),
    "fails where it is looked at": (
        "class Plug(Backend):\n    name = 'plug_in_one'\n    @property\n    def xp(self): raise OSError('no library')",
        "OSError: no library",
    ),
    "without xp": ("class Plug(Backend): name = 'plug_in_one'", "xp"),
    "without name": ("class Plug(Backend): xp = numpy", "name"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plug_in_says_why_and_disturbs_no_other(publish, monkeypatch, body, reason):
    publish("broken-one", *plug_in(body))
    with pytest.raises(ic.BackendError, match=f"'plug_in_one'.*{reason}"):
        ic.get_backend("plug_in_one")
    row = rows()["plug_in_one"]
    assert row[:3] == ("plug_in_one", "broken-one", False)
    assert row.reason
    assert rows()["numpy"].available

    # never a silent fall-back to another one
    monkeypatch.setenv("IM2COLNET_BACKEND", "plug_in_one")
    net = everything()
    for use in ic.get_backend, net.init, lambda: ic.Trainer(net), lambda: F.unfold(np.ones((1, 1, 3, 3)), 2):
        with pytest.raises(ic.BackendError, match="plug_in_one"):
            use()
    with pytest.raises(ic.BackendError, match="plug_in_one"), ic.use_backend("plug_in_one"):
        raise AssertionError("not reached")
    assert not net.initialized
    assert ic.get_backend("numpy").name == "numpy"


def test_the_user_s_interrupt_is_no_fault_of_a_plug_in(publish):
    publish("slow", *plug_in("raise KeyboardInterrupt"))
    for use in ic.list_backends, lambda: ic.get_backend("plug_in_one"):
        with pytest.raises(KeyboardInterrupt):
            use()


def test_the_command_line_lists_one_that_calls_sys_exit(publish, capsys):
    publish("quits", *plug_in("import sys; sys.exit(0)"))
    assert cli.main(["backends"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"plug_in_one +quits +no .*SystemExit", out)
    assert "numpy" in out


# Mixed -------------------------------------------------------------------------------------------------------------
class Foreign:
    """An array of nobody's."""

    def __init__(self, *shape):
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype("float32")


def test_arrays_of_two_backends_are_refused_naming_both():
    x, w = np.ones((1, 1, 5, 5), "f4"), np.ones((1, 1, 3, 3), "f4")
    with ic.use_backend(NarrowBackend()) as narrow:
        with pytest.raises(ic.BackendError, match=r"input .*'numpy'.* weight .*'narrow'"):
            F.conv2d(x, narrow.asarray(w))
        with pytest.raises(ic.BackendError, match=r"input .*'narrow'.* weight .*'numpy'"):
            F.conv2d(narrow.asarray(x), w)
        net = everything().init(backend="numpy")
        for use in net.predict, lambda images: ic.Trainer(net).step(images, np.zeros(1, int)):
            with pytest.raises(ic.BackendError, match=r"'narrow'.*'numpy'"):
                use(narrow.asarray(np.ones((1, 1, 8, 8), "f4")))


def test_an_array_of_no_backend_is_refused():
    w = np.ones((1, 1, 3, 3), "f4")
    with pytest.MonkeyPatch.context() as patch:
        for module in "cupy", "numba":
            patch.delitem(sys.modules, module, raising=False)
        with pytest.raises(ic.BackendError, match=r"an array of a backend \(numpy\)"):  # nobody has CuPy's here
            F.conv2d([[1.0]], w)
    with pytest.raises(ic.BackendError, match=r"input must be an array of a backend \(.*numpy.*\), got Foreign"):
        F.conv2d(Foreign(1, 1, 5, 5), w)
    with pytest.raises(ic.BackendError, match=r"images must be .*numpy.*, got Foreign"):
        everything().init().predict(Foreign(1, 1, 8, 8))


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("selected", ["numpy", "demo"])
@pytest.mark.parametrize("home", ["numpy", "demo"])
def test_a_network_takes_numpy_images_wherever_it_lives_and_whatever_is_selected(home, selected):
    train, test = ic.datasets.load("digits")
    net = everything().init(dtype="float64", backend=home)
    expected = net.predict(test.images[:5])
    with ic.use_backend(selected):
        assert_allclose(net.predict(test.images[:5]), expected)
        assert ic.Trainer(net).step(train.images[:8], train.labels[:8]) > 0
        assert net.backend.name == home
