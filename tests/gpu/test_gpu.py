"""The CuPy backend: what `bash tests/gpu/on_a_gpu.sh` shows on a machine with a GPU."""

import json

import numpy as np
import pytest
from helpers import assert_same_bits, batches

import im2colnet as ic
import im2colnet.functional as F
from im2colnet import cli
from im2colnet.backend import registry
from im2colnet.reports import doctor

TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "float16": 3e-3, "bfloat16": 2e-2}
HALF = ["float16", "bfloat16"]


def can(precision):
    """Skip where what a precision needs is not installed."""
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")


def small(backend, dtype="float32"):
    """A network of every kind of layer."""
    net = ic.Sequential(
        [
            ic.Conv2d(3, 8, 3, padding=1),
            ic.BatchNorm2d(8),
            ic.ReLU(),
            ic.Residual(ic.Sequential([ic.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), ic.BatchNorm2d(8)])),
            ic.Conv2d(8, 16, 3, stride=2, padding=1, groups=2),
            ic.ReLU(),
            ic.MaxPool2d(2),
            ic.Dropout(0.2),
            ic.ZeroPadShortcut(16, 20),
            ic.AvgPool2d(2, ceil_mode=True),
            ic.Conv2d(20, 12, 1),
            ic.GlobalAvgPool2d(),
            ic.Flatten(),
            ic.Linear(12, 10),
            ic.ReLU(),
            ic.Linear(10, 4),
        ]
    )
    return net.init(0, dtype, backend)


batch = batches((3, 12, 12), classes=4, n=8, pixels=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_kernel_agrees_with_float64(gpu, dtype):
    can(dtype)
    if dtype in HALF:
        gpu = gpu.with_precision(dtype)
    found = dict(doctor.errors(gpu, dtype))
    assert len(found) > 15
    assert {name: error for name, error in found.items() if error > TOLERANCE[dtype]} == {}


@pytest.mark.parametrize(("model", "size", "channels"), [("lenet5", 20, 1), ("resnet20", 8, 3), ("vgg8", 8, 3)])
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [("float32", 2, 1e-3), ("float64", 5, 1e-8)])
def test_training_follows_the_cpu_s(gpu, model, size, channels, dtype, steps, tolerance):
    draw = batches((channels, size, size), classes=4, n=6, pixels=True)

    def losses(backend):
        net = ic.models.make(model, 4, channels, size).init(0, dtype, backend)
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.01, momentum=0.9, weight_decay=1e-3))
        return [trainer.step(*draw(seed=seed)) for seed in range(steps)]

    assert losses(gpu) == pytest.approx(losses("numpy"), rel=tolerance)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("optimizer", [ic.SGD(0.05, 0.9, nesterov=True), ic.Adam(0.01), ic.AdamW(0.01)])
def test_every_layer_and_optimiser_follows_the_cpu_s(gpu, kind, optimizer):
    def train(backend):
        trainer = ic.Trainer(small(backend, "float64"), optimizer=optimizer, shard=4)
        losses = [trainer.step(*batch(8, seed=seed, dtype=kind)) for seed in range(3)]
        evaluation = trainer.evaluate(batch(8, seed=9, dtype=kind))
        return [*losses, evaluation["loss"]], trainer.net.predict(batch(5, seed=7, dtype=kind)[0])

    (found, outputs), (expected, exact) = train(gpu), train("numpy")
    assert found == pytest.approx(expected, rel=1e-7)
    assert isinstance(outputs, np.ndarray)
    np.testing.assert_allclose(outputs, exact, rtol=1e-7, atol=1e-9)


def test_the_same_bits_every_time(gpu):
    def train():
        trainer = ic.Trainer(small(gpu), optimizer=ic.Adam(0.01), seed=3)
        return [trainer.step(*batch(seed=seed)) for seed in range(3)], trainer.net.state_dict()

    (losses, state), (again, other) = train(), train()
    assert losses == again
    assert_same_bits(other, state)


def test_a_checkpoint_goes_to_the_cpu_and_back(gpu, tmp_path):
    trainer = ic.Trainer(small(gpu), optimizer=ic.SGD(0.05, 0.9), seed=1)
    for seed in range(2):
        trainer.step(*batch(seed=seed))
    trainer.save(tmp_path / "gpu")
    on_cpu = ic.Trainer.load(tmp_path / "gpu", backend="numpy")
    assert_same_bits(on_cpu.net.state_dict(), trainer.net.state_dict())
    on_cpu.save(tmp_path / "cpu")
    back = ic.Trainer.load(tmp_path / "cpu", backend=gpu)
    assert_same_bits(back.net.state_dict(), trainer.net.state_dict())
    loss = trainer.step(*batch(seed=5))
    assert back.step(*batch(seed=5)) == loss
    assert on_cpu.step(*batch(seed=5)) == pytest.approx(loss, rel=1e-4)


def test_functions_on_arrays_of_the_device(gpu):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 6, 9, 8), (4, 3, 3, 3), (4,)))
    dy = rng.standard_normal((2, 4, 5, 4))
    how = {"stride": 2, "padding": 1, "groups": 2}
    on = gpu.asarray

    def checks(to):
        y = F.conv2d(to(x), to(w), to(b), **how)
        pooled, indices = F.max_pool2d(to(x), 3, 2, 1, return_indices=True)
        columns = F.unfold(to(x), 3, padding=1)
        return [
            y,
            F.conv2d_input(x.shape, to(w), to(dy), **how),
            F.conv2d_weight(to(x), w.shape, to(dy), **how),
            pooled,
            indices,
            F.max_pool2d_input(to(x), to(pooled_gradient), 3, 2, 1),
            F.avg_pool2d(to(x), 2, ceil_mode=True),
            columns,
            F.fold(columns, (9, 8), 3, padding=1),
        ]

    pooled_gradient = rng.standard_normal((2, 6, 5, 4))
    expected = checks(lambda a: a)
    with ic.use_backend(gpu):
        found = checks(lambda a: on(a) if isinstance(a, np.ndarray) else a)
        assert all(map(gpu.owns, found))
    for result, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(gpu.to_numpy(result), exact, rtol=1e-10, atol=1e-12)


def test_images_of_the_device_give_outputs_of_the_device(gpu):
    net, (images, _) = small(gpu), batch(dtype="float32")
    outputs = net.predict(gpu.asarray(images))
    assert gpu.owns(outputs)
    assert_same_bits(gpu.to_numpy(outputs), net.predict(images))


def test_a_step_brings_only_its_loss_to_the_host(gpu, monkeypatch):
    trainer, brought = ic.Trainer(small(gpu)), []
    trainer.step(*batch())
    to_numpy = type(gpu).to_numpy

    def counted(self, array):
        brought.append(array.size)
        return to_numpy(self, array)

    monkeypatch.setattr(type(gpu), "to_numpy", counted)
    trainer.step(*batch())
    assert brought == [2]  # loss and right predictions


def test_the_next_batch_is_fetched_while_the_last_is_computed(gpu, monkeypatch):
    """And is another one: three epochs with a smaller last batch are the CPU's."""
    events = []
    stage, read = type(gpu).prefetch, type(gpu).to_numpy
    monkeypatch.setattr(type(gpu), "prefetch", lambda self, a: events.append("stage") or stage(self, a))
    monkeypatch.setattr(type(gpu), "to_numpy", lambda self, a: events.append("read") or read(self, a))

    def fit(backend):
        images, labels = batch(22)
        trainer = ic.Trainer(small(backend, "float64"), optimizer=ic.SGD(0.01, 0.9), seed=2, shard=8)
        return trainer.fit((images, labels), epochs=3, batch_size=8)["loss"]

    expected = fit("numpy")
    assert events == []
    assert fit(gpu) == pytest.approx(expected, rel=1e-6)
    # each batch is staged before the loss of the one before is read
    assert [e for e in events if e in ("stage", "read")][:6] == ["stage", "stage", "read", "stage", "read", "read"]


def test_images_that_are_not_finite_are_found(gpu):
    trainer, (images, labels) = ic.Trainer(small(gpu)), batch(dtype="float32")
    images[3, 1, 2, 2] = np.nan
    before = trainer.net.state_dict()
    with pytest.raises(ic.NonFiniteError, match="image 3 of the batch"):
        trainer.step(images, labels)
    assert_same_bits(trainer.net.state_dict(), before)


def test_images_that_are_too_large_for_float16_are_found(gpu):
    trainer, (images, labels) = ic.Trainer(small(gpu), precision="float16"), batch(dtype="float32")
    images[2, 0, 1, 1] = 70_000
    with pytest.raises(ic.NonFiniteError, match=r"image 2 .* or infinity, or numbers too large for float16"):
        trainer.step(images, labels)


def test_arrays_of_host_and_device_do_not_mix(gpu):
    x, w = np.ones((1, 1, 3, 3)), gpu.asarray(np.ones((1, 1, 2, 2)))
    with ic.use_backend(gpu), pytest.raises(ic.BackendError, match="bring them to one backend"):
        F.conv2d(x, w)


# In 16 bits ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_mixed_precision_follows_float32(gpu, precision, tolerance, kind):
    can(precision)

    def train(backend, precision=None):
        net = small(backend)
        net.layers[7].p = 0.0  # masks of another type would be of other numbers
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.02, 0.9), precision=precision)
        losses = [trainer.step(*batch(16, seed=seed, dtype=kind)) for seed in range(4)]
        evaluation = trainer.evaluate(batch(8, seed=9, dtype=kind))
        return [*losses, evaluation["loss"]], trainer.net

    (found, net), (expected, exact) = train(gpu, precision), train("numpy")
    assert found == pytest.approx(expected, rel=tolerance)
    assert all(p.dtype.name == "float32" for p in net.parameters().values())
    images = batch(5, seed=7, dtype=kind)[0]
    outputs = net.predict(images)
    assert outputs.dtype == "float32"
    np.testing.assert_allclose(outputs, exact.predict(images), atol=5 * tolerance)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 2e-4), ("tf32", 5e-3), ("float16", 5e-3), ("bfloat16", 4e-2)]
)
@pytest.mark.parametrize("kind", ["numbers", "images"])
def test_a_mean_squared_error_follows_the_cpu_s(gpu, precision, tolerance, kind):
    can(precision)
    images, labels = batch(16, dtype="float32")
    targets = images[:, :1] - 0.5 if kind == "images" else np.eye(4)[labels]

    def train(backend, precision=None):
        last = [ic.Conv2d(8, 1, 1)] if kind == "images" else [ic.Flatten(), ic.Linear(8 * 144, 4)]
        net = ic.Sequential([ic.Conv2d(3, 8, 3, padding=1), ic.BatchNorm2d(8), ic.ReLU(), *last])
        trainer = ic.Trainer(net.init(0, backend=backend), ic.MSELoss(), ic.SGD(0.02, 0.9), 0, None, 6, precision)
        losses = [trainer.step(images, targets) for _ in range(4)]
        losses.append(trainer.evaluate((images, targets))["loss"])
        with ic.use_backend(backend):
            return [*losses, trainer.step(net.backend.asarray(images), net.backend.asarray(targets))]

    assert train(gpu, precision) == pytest.approx(train("numpy"), rel=tolerance)


def test_dropout_in_16_bits_draws_the_masks_of_float32(gpu):
    def kept(precision):
        net = ic.Sequential([ic.Flatten(), ic.Dropout(0.3), ic.Linear(3 * 144, 4)]).init(0, backend=gpu)
        trainer = ic.Trainer(net, optimizer=ic.SGD(1.0), precision=precision)
        trainer.step(np.ones((1, 3, 12, 12), "float32"), [1])
        changed = net.state_dict()["2.weight"] != ic.Sequential(net.layers).init(0).state_dict()["2.weight"]
        return changed.any(axis=0)

    expected = kept("float32")
    assert 0.6 < expected.mean() < 0.8
    assert (kept("float16") == expected).all()


def test_a_step_that_overflows_changes_nothing_but_the_scale(gpu):
    trainer = ic.Trainer(small(gpu), optimizer=ic.SGD(0.01, 0.9), precision="float16")
    trainer.step(*batch())
    scale = trainer.loss_scale
    scale.value, before = 2.0**40, [trainer.net.state_dict(), gpu.to_numpy(trainer.optimizer_state["velocity"])]
    loss = trainer.step(*batch(seed=1))
    assert np.isfinite(loss)
    learned = {name for name in before[0] if "running" not in name}
    for name in learned:
        np.testing.assert_array_equal(trainer.net.state_dict()[name], before[0][name])
    np.testing.assert_array_equal(gpu.to_numpy(trainer.optimizer_state["velocity"]), before[1])
    assert (scale.value, scale.steps, trainer.steps) == (2.0**39, 0, 2)
    for seed in range(40):
        trainer.step(*batch(seed=seed))
    assert 2.0**10 < scale.value < 2.0**39
    assert not np.array_equal(trainer.net.state_dict()["0.weight"], before[0]["0.weight"])


def test_the_scale_grows_when_nothing_overflows():
    from im2colnet.training.state import LossScale

    scale = LossScale()
    for _ in range(1999):
        scale.update(False)
    assert scale.value == 2.0**16
    scale.update(False)
    assert (scale.value, scale.steps) == (2.0**17, 0)


def test_a_gradient_that_always_overflows_is_an_error(gpu):
    class Explodes(ic.CrossEntropyLoss):
        def __call__(self, logits, labels, scale, metrics, dlogits, backend):
            super().__call__(logits, labels, scale, metrics, dlogits, backend)
            if dlogits is not None:
                dlogits[...] = np.inf

    trainer = ic.Trainer(small(gpu), loss=Explodes(), precision="float16")
    before = trainer.net.state_dict()["0.weight"]
    for _ in range(16):
        trainer.step(*batch())
    with pytest.raises(ic.NonFiniteError, match=r'overflows in float16 however.*precision="bfloat16"'):
        trainer.step(*batch())
    np.testing.assert_array_equal(trainer.net.state_dict()["0.weight"], before)


def test_the_norm_is_that_of_the_gradient_without_its_scale(gpu):
    norms = []
    for precision in ("float32", "float16"):
        trainer = ic.Trainer(small(gpu), precision=precision, clip_norm=0.01, accumulate=2)
        for seed in range(2):
            trainer.step(*batch(seed=seed))
        norms.append(trainer.gradient_norm)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_a_batch_whose_gradient_overflows_is_left_out_of_the_mean(gpu):
    class Sometimes(ic.CrossEntropyLoss):
        factor = 1.0

        def __call__(self, logits, labels, scale, metrics, dlogits, backend):
            super().__call__(logits, labels, scale, metrics, dlogits, backend)
            if dlogits is not None:
                dlogits[...] *= self.factor

    def trained(factors, accumulate):
        loss = Sometimes()
        net = ic.Sequential([ic.Flatten(), ic.Linear(432, 4)]).init(0, backend=gpu)
        trainer = ic.Trainer(net, loss, ic.SGD(0.1), precision="float16", accumulate=accumulate)
        trainer.loss_scale.value = 2.0**10
        for seed, factor in enumerate(factors):
            loss.factor = factor
            if factor:
                trainer.step(*batch(seed=seed))
        return trainer

    alone, several = trained([1, 0, 1], 2), trained([1, np.inf, 1], 3)
    assert (alone.updates, several.updates) == (1, 1)
    assert several.loss_scale.value == 2.0**9
    for name, found in several.net.state_dict().items():
        np.testing.assert_allclose(found, alone.net.state_dict()[name], rtol=1e-3, atol=1e-6)
    nothing = trained([np.inf, np.inf], 2)
    assert nothing.updates == 1
    assert_same_bits(nothing.net.state_dict(), ic.Sequential([ic.Flatten(), ic.Linear(432, 4)]).init(0).state_dict())


def test_a_checkpoint_keeps_precision_and_scale(gpu, tmp_path):
    trainer = ic.Trainer(small(gpu), optimizer=ic.SGD(0.02, 0.9), precision="float16")
    trainer.step(*batch())
    trainer.loss_scale.value = 2.0**12
    trainer.save(tmp_path / "half")
    again = ic.Trainer.load(tmp_path / "half", backend=gpu)
    assert again.net.precision == "float16"
    assert again.loss_scale == trainer.loss_scale
    assert again.step(*batch(seed=1)) == trainer.step(*batch(seed=1))
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
    on_cpu = ic.Trainer.load(tmp_path / "half", backend="numpy")
    assert on_cpu.net.precision == "float32"
    on_cpu.step(*batch(seed=1))


def test_the_precision_can_change(gpu):
    trainer, used = ic.Trainer(small(gpu), precision="tf32"), []
    for name in ("tf32", "float32", "float16"):
        trainer.net.precision = name  # also when a trainer is at work
        trainer.step(*batch())
        trainer.net.predict(batch()[0])
        used += [(run.backend.tf32, run.dtype) for run in (trainer.engine, trainer.net.inference())]
    assert used == [(True, "float32")] * 2 + [(False, "float32")] * 2 + [(False, "float16")] * 2


def test_precisions_that_there_are_not(gpu):
    with pytest.raises(ic.BackendError, match="'numpy' computes in float32, not in 'float16'"):
        ic.Trainer(small("numpy"), precision="float16")
    with pytest.raises(ic.BackendError, match="computes in float32 or tf32 or float16 or bfloat16, not in 'int8'"):
        ic.Trainer(small(gpu), precision="int8")
    with pytest.raises(ic.DTypeError, match="for networks of float32, not of float64"):
        ic.Trainer(small(gpu, "float64"), precision="float16")


# The command line ---------------------------------------------------------------------------------------------------
@pytest.fixture
def chosen(gpu, monkeypatch):
    """The backend is what the environment variable names."""
    monkeypatch.setitem(registry.started, "cupy", gpu)
    monkeypatch.setenv("IM2COLNET_BACKEND", "cupy")
    return gpu


@pytest.mark.usefixtures("chosen")
def test_the_command_line_trains_and_goes_on_on_the_cpu(tmp_path, capsys):
    arguments = ["--model", "notebook", "--epochs", "2", "--batch-size", "64", "--out", str(tmp_path / "run"), "--json"]
    assert cli.main(["train", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["test"]["accuracy"] > 0.5
    checkpoint = str(tmp_path / "run" / "checkpoint.safetensors")
    assert cli.main(["evaluate", checkpoint, "--backend", "numpy", "--json"]) == 0
    there = json.loads(capsys.readouterr().out)
    assert there["accuracy"] == pytest.approx(report["test"]["accuracy"], abs=0.01)


@pytest.mark.usefixtures("chosen")
def test_the_command_line_trains_in_16_bits(tmp_path, capsys):
    arguments = ["train", "--model", "notebook", "--epochs", "1", "--out", str(tmp_path / "run"), "--json"]
    assert cli.main([*arguments, "--precision", "float16", "--backend", "cupy"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["test"]["accuracy"] > 0.3
    assert report["precision"] == "float16"
    assert report["peak_memory"] > 1 << 20
    assert cli.main([*arguments, "--precision", "float16", "--backend", "numpy"]) == 1
    assert "computes in float32, not in 'float16'" in capsys.readouterr().err
    assert cli.main(["plan", "--model", "lenet5"]) == 0


@pytest.mark.usefixtures("chosen")
def test_the_doctor(capsys, monkeypatch, request):
    if request.node.callspec.params["gpu"] == "stand-in":  # it takes a minute for the steps, which tell nothing there
        monkeypatch.setattr(doctor, "step_seconds", lambda backend, steps, batch: 1.0)
    assert cli.main(["doctor"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"backend", "GPU", "CUDA", "precision", "correct", "speed"} <= lines.keys()
    assert lines["correct"].startswith("yes")


def test_the_doctor_finds_a_kernel_that_is_wrong(chosen, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "step_seconds", lambda backend, steps, batch: 1.0)  # not by the wrong product
    matmul = type(chosen).matmul
    monkeypatch.setattr(type(chosen), "matmul", lambda self, a, b, out=None: matmul(self, a, b, out) * 1.001)
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["correct"]
    assert [name for name, error in report["errors"].items() if error > report["tolerance"]] == ["matrix product"]
