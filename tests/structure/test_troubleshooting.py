"""The page of troubleshooting has the library's own messages: each one is made to happen here."""

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.cli import main
from im2colnet.parallel import processes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/guides/troubleshooting.md"

#: what makes each message, by its heading on the page
CASES = {}


def case(heading):
    """Keep a function that makes the message of an entry."""

    def keep(function):
        assert heading not in CASES
        CASES[heading] = function
        return function

    return keep


def entries():
    """The messages of the page, by their headings."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"^### ([^\n]*)\n\n```text\n(.*?)```", text, re.MULTILINE | re.DOTALL))


def raised(kind, function, *args, **kwargs):
    """The message of an error that a call raises, or of a warning, which pytest makes an error."""
    with pytest.raises(kind) as found:
        function(*args, **kwargs)
    return str(found.value)


def command(*arguments, code=1):
    """What a command writes to stderr."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "backends")]), COLUMNS="120")
    line = [sys.executable, "-m", "im2colnet", *map(str, arguments)]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def settings(tmp_path, monkeypatch, nothing_started):
    """An empty folder, nothing started, and what a case changes is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IM2COLNET_BACKEND", raising=False)
    with ic.num_threads(1):
        yield monkeypatch


def small(*layers, classes=3, channels=1):
    """A network for images of 8 × 8 pixels."""
    return ic.Sequential(
        [ic.Conv2d(channels, 4, 3, padding=1), *layers, ic.ReLU(), ic.Flatten(), ic.Linear(256, classes)]
    )


def drawn(n=12, channels=1, classes=3):
    """Images and labels."""
    rng = np.random.default_rng(0)
    return rng.random((n, channels, 8, 8), "float32"), np.arange(n) % classes


def without(settings, *modules):
    """Have an import fail as it does where a package is not installed."""
    for name in [*sys.modules]:
        if name.split(".")[0] in modules:
            settings.delitem(sys.modules, name)
    for name in modules:
        settings.setitem(sys.modules, name, None)


def photos(*classes, count=5):
    """Make a folder of pictures."""
    Image = pytest.importorskip("PIL.Image")
    for name in classes:
        Path("photos", name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8)).save(Path("photos", name, f"{number}.png"))


# ------------------------------------------------------------------ installing


@case("to read pictures, install Pillow")
def _(settings):
    photos("cat", "dog")
    without(settings, "PIL")
    return raised(ic.DataError, ic.datasets.from_folder, "photos")


@case("to draw a history, install Matplotlib")
def _(settings):
    without(settings, "matplotlib")
    settings.delitem(sys.modules, "im2colnet.show.plots", raising=False)
    trainer = ic.Trainer(small())
    trainer.fit(drawn(), epochs=1, progress=False)
    return raised(Exception, trainer.history.plot)


@case("im2colnet.sklearn needs scikit-learn")
def _(settings):
    without(settings, "sklearn")
    settings.delitem(sys.modules, "im2colnet.sklearn", raising=False)
    return raised(Exception, __import__, "im2colnet.sklearn")


@case("ONNX files need the package onnx")
def _(settings):
    without(settings, "onnx")
    Path("net.onnx").write_bytes(b"")
    return raised(Exception, ic.onnx.load, "net.onnx")


@case("the backend 'numba' cannot start")
def _(settings):
    without(settings, "numba", "im2colnet_numba")
    settings.delitem(sys.modules, "im2colnet_numba")
    return raised(Exception, ic.get_backend, "numba")


@case("the backend 'cupy' cannot start")
def _(settings):
    without(settings, "cupy", "im2colnet_cupy")
    settings.delitem(sys.modules, "im2colnet_cupy")
    return raised(Exception, ic.get_backend, "cupy")


@case("there is no backend")
def _(settings):
    return raised(ic.BackendError, ic.get_backend, "cuda")


# ------------------------------------------------------------------ data


@case("unknown data set")
def _(settings):
    return command("train", "--data", "photos")


@case("the files of a data set were not found")
def _(settings):
    return command("train", "--data", "cifar-10", "--folder", ".")


@case("has pictures but no folder with pictures")
def _(settings):
    photos(".")
    return raised(ic.DataError, ic.datasets.from_folder, "photos")


@case("file cannot be read and is left out")
def _(settings):
    photos("cat", "dog")
    Path("photos/cat/broken.png").write_bytes(b"no picture")
    return raised(ic.InputWarning, ic.datasets.from_folder, "photos")


@case("has only one class")
def _(settings):
    photos("cat")
    return raised(ic.DataError, ic.datasets.from_folder, "photos")


@case("cannot be read as an .npz file")
def _(settings):
    np.savez("mine.npz", pictures=np.zeros((4, 8, 8)))
    return command("train", "--data", "mine.npz")


@case("the network was trained on another scale")
def _(settings):
    net = small()
    images, labels = drawn()
    ic.Trainer(net).fit((images * 2 - 1, labels), epochs=1, progress=False)
    return raised(ic.DataError, net.predict, (images * 255).astype("uint8"))


@case("images are floating-point numbers and reach")
def _(settings):
    images, labels = drawn()
    return raised(ic.InputWarning, ic.Trainer(small()).fit, (images * 255, labels), epochs=1, progress=False)


@case("image of the data holds NaN or infinity")
def _(settings):
    images, labels = drawn()
    images[3, 0, 2, 2] = np.nan
    return raised(ic.NonFiniteError, ic.Trainer(small()).fit, (images, labels), 1, progress=False)


@case("labels must have the shape (N,)")
def _(settings):
    images, labels = drawn()
    return raised(Exception, ic.Trainer(small()).fit, (images, labels[:-1]), 1, progress=False)


@case("labels must be 0 to 2 for 3 network outputs")
def _(settings):
    images, labels = drawn()
    return raised(Exception, ic.Trainer(small()).fit, (images, labels + 1), 1, progress=False)


@case("labels must be integers")
def _(settings):
    images, labels = drawn()
    return raised(Exception, ic.Trainer(small()).fit, (images, labels + 0.5), 1, progress=False)


@case("is a masked array")
def _(settings):
    images, labels = drawn()
    return raised(Exception, ic.Trainer(small()).fit, (np.ma.masked_less(images, 0.1), labels), 1, progress=False)


# ------------------------------------------------------------------ shapes


@case("expected images (N, C, H, W)")
def _(settings):
    return raised(ic.ShapeError, small().init(0).predict, drawn()[0][:, 0])


@case("expected input channels")
def _(settings):
    net = small(channels=3)
    return raised(ic.ShapeError, net.init(0).predict, np.zeros((4, 8, 8, 3), "float32"))


@case("expected input features")
def _(settings):
    net = ic.Sequential([ic.Conv2d(1, 4, 3), ic.Flatten(), ic.Linear(256, 3)])
    return raised(ic.ShapeError, net.init(0).predict, drawn()[0])


@case("Flatten() is missing")
def _(settings):
    net = ic.Sequential([ic.Conv2d(1, 4, 3), ic.Linear(144, 3)])
    return raised(ic.ShapeError, net.init(0).predict, drawn()[0])


@case("the network gives images")
def _(settings):
    net = ic.Sequential([ic.Conv2d(1, 3, 3, padding=1)])
    return raised(ic.ShapeError, ic.Trainer(net).fit, drawn(), 1, progress=False)


@case("no output is left")
def _(settings):
    net = ic.Sequential([ic.MaxPool2d(4), ic.Conv2d(1, 4, 5)])
    return raised(ic.ShapeError, net.init(0).predict, drawn()[0])


@case("must be float32, float64 or float16")
def _(settings):
    return raised(ic.DTypeError, F.conv2d, np.zeros((1, 1, 8, 8), int), np.zeros((1, 1, 3, 3)))


@case("convert one of them")
def _(settings):
    return raised(ic.DTypeError, F.conv2d, np.zeros((1, 1, 8, 8)), np.zeros((1, 1, 3, 3), "float32"))


@case("input has channels, but weight expects")
def _(settings):
    return raised(ic.ShapeError, F.conv2d, np.zeros((1, 3, 8, 8)), np.zeros((4, 1, 3, 3)))


@case("the network has no parameters yet")
def _(settings):
    return raised(Exception, small().predict, drawn()[0])


# ------------------------------------------------------------------ training


@case("the last batch of an epoch is too small")
def _(settings):
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 8), ic.BatchNorm1d(8), ic.Linear(8, 3)])
    return raised(ic.ShapeError, ic.Trainer(net).fit, drawn(13), 1, 4, progress=False)


@case("the loss is nan")
def _(settings):
    images, labels = drawn()
    trainer = ic.Trainer(small(), optimizer=ic.SGD(1e30))

    def train():
        for _ in range(5):
            trainer.step(images, labels)

    return raised(ic.NonFiniteError, train)


@case("mean or variance of a channel over the batch is infinite or NaN")
def _(settings):
    images, labels = drawn()
    return raised(ic.NonFiniteError, ic.Trainer(small(ic.BatchNorm2d(4))).step, images * 1e30, labels)


@case("all parameters of the network are frozen")
def _(settings):
    net = small().init(0)
    net.freeze("*")
    return raised(ic.ShapeError, ic.Trainer(net).step, *drawn())


@case("give images and labels as a pair")
def _(settings):
    return raised(ic.ShapeError, ic.Trainer(small()).fit, *drawn())


@case("needs its length")
def _(settings):
    return raised(ic.ShapeError, ic.Trainer(small(), optimizer=ic.SGD(ic.Cosine(0.1))).step, *drawn())


@case("the learning rate continues at")
def _(settings):
    trainer = ic.Trainer(small(), optimizer=ic.SGD(ic.Cosine(0.01)))
    trainer.fit(drawn(), epochs=2, progress=False)
    return raised(ic.TrainingWarning, trainer.fit, drawn(), epochs=4, progress=False)


@case("the optimizer cannot be replaced")
def _(settings):
    trainer = ic.Trainer(small(), optimizer=ic.SGD(0.01))
    trainer.step(*drawn())
    return raised(ic.FrozenError, setattr, trainer, "optimizer", ic.Adam())


@case("the network was initialized again")
def _(settings):
    net = small()
    trainer = ic.Trainer(net)
    trainer.step(*drawn())
    net.init(seed=1)
    return raised(ic.ShapeError, trainer.step, *drawn())


@case("needs validation data")
def _(settings):
    return raised(
        ic.ShapeError, ic.Trainer(small()).fit, drawn(), 1, progress=False, callbacks=[ic.callbacks.EarlyStopping()]
    )


@case("there is no memory for an array")
def _(settings):
    net = ic.Sequential([ic.Conv2d(1, 64, 3, padding=1)])
    return raised(ic.OutOfMemoryError, net.init(0).predict, np.broadcast_to(np.float32(0), (2**22, 1, 256, 256)))


class Counting(ic.Layer):
    """Keeps a number in itself."""

    calls = 0

    def forward(self, x, ctx):
        self.calls += 1
        return x

    def backward(self, dy, ctx):
        return dy


@case("its state changes while it works")
def _(settings):
    images, labels = drawn(256)
    with ic.num_threads(2):
        trainer = ic.Trainer(small(Counting()), shard=16)

        def train():
            for _ in range(5):
                trainer.step(images, labels)

        return raised(ic.WorkerWarning, train)


# ------------------------------------------------------------------ checkpoints


@case("the state belongs to another network")
def _(settings):
    return raised(ic.CheckpointError, small().init(0).load_state_dict, small(classes=4).init(0).state_dict())


@case("it is damaged or no checkpoint")
def _(settings):
    trainer = ic.Trainer(small())
    trainer.step(*drawn())
    trainer.save("mine.safetensors")
    whole = Path("mine.safetensors").read_bytes()
    Path("mine.safetensors").write_bytes(whole[:-50])
    return raised(ic.CheckpointError, ic.Trainer.load, "mine.safetensors")


@case("unknown here: define or import that class first")
def _(settings):
    made = type("Blur", (Counting,), {"__module__": "elsewhere"})
    trainer = ic.Trainer(small(made()))
    with warnings.catch_warnings(action="ignore"):
        trainer.step(*drawn())
    trainer.save("mine.safetensors")
    del trainer, made
    import gc

    gc.collect()
    return raised(ic.CheckpointError, ic.Trainer.load, "mine.safetensors")


@case("a file of torch.save, a pickle")
def _(settings):
    Path("model.pt").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    return raised(ic.CheckpointError, ic.load_weights, "model.pt")


@case("its description has changed since it was written")
def _(settings):
    trainer = ic.Trainer(small())
    trainer.step(*drawn())
    trainer.save("mine.safetensors")
    content = Path("mine.safetensors").read_bytes()
    Path("mine.safetensors").write_bytes(content.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    return raised(ic.CheckpointError, ic.Trainer.load, "mine.safetensors")


@case("is not overwritten")
def _(settings):
    trainer = ic.Trainer(small())
    trainer.fit(drawn(), epochs=1, progress=False, directory="run")
    return raised(ic.CheckpointError, ic.Trainer(small()).fit, drawn(), 1, progress=False, directory="run")


# ------------------------------------------------------------------ backends and workers


@case("the network has its parameters on another backend")
def _(settings):
    pytest.importorskip("numba")
    net = small().init(backend="numpy")
    return raised(ic.BackendError, ic.Trainer, net, backend="numba")


@case("must be an array of a backend")
def _(settings):
    return raised(ic.BackendError, F.relu, [1.0, 2.0])


@case("its array module does not suit")
def _(settings):
    import types

    class Half(ic.Backend):
        name = "half"
        xp = types.SimpleNamespace(ndarray=np.ndarray, empty=np.empty)

    return raised(ic.BackendError, ic.get_backend, Half())


@case("the backend computes in float32, not in 'float16'")
def _(settings):
    return raised(ic.BackendError, ic.Trainer, small(), precision="float16")


class Killing(ic.Layer):
    """Ends the worker that computes it."""

    stateless = True
    at = None

    def forward(self, x, ctx):
        if self.at and os.getpid() != self.at and x.shape[-1] == 16:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    def backward(self, dy, ctx):
        return dy


@case("worker was killed by signal 9")
def _(settings):
    if not processes.available():
        pytest.skip("workers are processes on Linux on x86-64")
    settings.setattr(Killing, "at", os.getpid())
    images, labels = drawn(256)
    with ic.num_threads(2):
        trainer = ic.Trainer(small(Killing()), shard=16)

        def train():
            for _ in range(10):
                trainer.step(images, labels)

        return raised(ic.WorkerError, train)


# ------------------------------------------------------------------ ranks


def rank(started, before="pass"):
    """What a process says on stderr that a launcher has started, by the variables that it sets."""
    others = ("PMI", "OMPI", "SLURM", "IM2COLNET")
    env = {name: value for name, value in os.environ.items() if not name.startswith(others)} | started
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    code = f"import sys; {before}; import im2colnet as ic; ic.Trainer(ic.Sequential([ic.Linear(2, 2)]))"
    line = [sys.executable, "-c", code]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=120, check=False).stderr


@case("mpi4py is not installed")
def _(settings):
    return rank({"PMI_SIZE": "2", "PMI_RANK": "0"}, "sys.modules['mpi4py'] = None")


@case("mpi4py finds no library of MPI")
def _(settings):
    Path("mpi4py").mkdir()
    Path("mpi4py/__init__.py").write_text("import types\nrc = types.SimpleNamespace(initialize=True)\n")
    Path("mpi4py/MPI.py").write_text("raise RuntimeError('cannot load MPI library')\n")
    return rank({"PMI_SIZE": "2", "PMI_RANK": "0"}, "sys.path.insert(0, '.')")


@case("srun has started tasks without MPI")
def _(settings):
    return rank({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"})


@case("IM2COLNET_RANK_TIMEOUT must be a number of seconds")
def _(settings):
    pytest.importorskip("mpi4py")
    return rank({"IM2COLNET_RANKS": "mpi", "IM2COLNET_RANK_TIMEOUT": "ten"})


# ------------------------------------------------------------------ ONNX


@case("has an operator that im2colnet lacks")
def _(settings):
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    graph = h.make_graph(
        [h.make_node("NonZero", ["x"], ["y"], name="where")],
        "g",
        [h.make_tensor_value_info("x", 1, [1, 1, 8, 8])],
        [h.make_tensor_value_info("y", 7, [4, None])],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)]), "net.onnx")
    return raised(ic.ModelError, ic.onnx.load, "net.onnx")


@case("it is not an ONNX file")
def _(settings):
    pytest.importorskip("onnx")
    Path("net.onnx").write_bytes(b"no model")
    return raised(ic.ModelError, ic.onnx.load, "net.onnx")


@case("cannot be written as ONNX")
def _(settings):
    pytest.importorskip("onnx")
    net = small(Counting()).init(0)
    net.predict(drawn()[0])
    return raised(Exception, ic.onnx.save, net, "out.onnx")


# ------------------------------------------------------------------ command line


@case("--folder is the folder of the files of --data")
def _(settings):
    return command("train", "--folder", "photos", code=2)


@case("unrecognized arguments")
def _(settings):
    return command("train", "--epoch-count", "3", code=2)


@case("there is no such file")
def _(settings):
    trainer = ic.Trainer(small())
    trainer.fit(drawn(), 1, progress=False)
    trainer.save("mine.safetensors")
    return command("predict", "mine.safetensors", "missing.png")


@case("cannot read runs/digits")
def _(settings):
    return command("evaluate", "runs/digits")


@case("is the folder of another run")
def _(settings):
    assert main(["train", "--epochs", "1", "--model", "notebook", "--out", "runs/a", "--json"]) == 0
    return command("train", "--epochs", "1", "--model", "notebook", "--out", "runs/a")


def test_every_message_of_the_page_is_made_here():
    assert sorted(entries()) == sorted(CASES)


@pytest.mark.parametrize("heading", CASES)
def test_the_message_is_the_one_of_the_page(settings, heading):
    """But for what differs from case to case, which is … on the page, and for blanks."""
    said = " ".join(CASES[heading](settings).split())
    shown = " ".join(entries()[heading].split())
    assert len(shown.replace("…", "")) > 20
    parts = [re.escape(part) for part in shown.split("…")]
    assert re.search(".+?".join(parts), said), said
