"""Two GPUs, as the stand-in for CuPy has them: all of a backend's work is on its own, and the user's stays current."""

import sys
import threading
import warnings
from inspect import getattr_static, isfunction

import numpy as np
import pytest
import strict_cupy
from helpers import assert_same_bits
from test_gpu import batch, small

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.reports import doctor
from im2colnet.reports import profile as profiling
from im2colnet.window import make_window


@pytest.fixture
def two(nothing_started, monkeypatch):
    """A machine with two GPUs: the backend's classes by module."""
    made = strict_cupy.cupy_modules(strict_cupy.module(devices=2))
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(strict_cupy.ndarray, "__module__", "cupy")
    yield made
    assert strict_cupy.current() == 0  # the user's


@pytest.fixture
def places(monkeypatch):
    """The devices on which an array was made."""
    found, init = set(), strict_cupy.ndarray.__init__

    def noted(self, *args):
        init(self, *args)
        found.add(self.device.id)

    monkeypatch.setattr(strict_cupy.ndarray, "__init__", noted)
    return found


def trained_and_resumed(backend, tmp_path=None, precision=None, optimizer=None):
    """Train, evaluate, predict, and where there is a folder save and go on: what came out."""
    net = small(backend)
    trainer = ic.Trainer(net, optimizer=optimizer or ic.SGD(0.05, 0.9, nesterov=True), precision=precision, seed=1)
    losses = [trainer.step(*batch(seed=seed, dtype=kind)) for seed, kind in enumerate(("uint8", "float32"))]
    losses += trainer.fit(batch(10, seed=5), epochs=2, batch_size=4, validation=batch(6, seed=6))["loss"]
    if tmp_path is not None:
        trainer.save(tmp_path / "half.safetensors")
        trainer = ic.Trainer.load(tmp_path / "half.safetensors", backend=backend)
        trainer.net.load_state_dict(trainer.net.state_dict())
        losses.append(trainer.step(*batch(seed=7)))
    images = trainer.net.backend.asarray(batch(seed=8)[0])
    losses.append(trainer.evaluate(batch(seed=9))["loss"])
    return losses, trainer.net.backend.to_numpy(trainer.net.predict(images)), trainer.net.state_dict()


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [(None, None), (None, ic.Adam(0.01)), ("float16", None), ("tf32", ic.AdamW(0.01))],
)
def test_the_second_device_computes_what_the_first_does_and_nothing_is_on_the_first(
    places, tmp_path, precision, optimizer
):
    found = trained_and_resumed("cupy:1", tmp_path, precision, optimizer)
    assert places == {1}
    expected = trained_and_resumed("cupy", tmp_path, precision, optimizer)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    assert_same_bits(found[2], expected[2])


@pytest.mark.usefixtures("two")
def test_an_optimiser_a_layer_and_a_loss_of_one_s_own_work_on_the_second_device(places):
    class Sign(ic.SGD):
        def update(self, p, g, state, lr, t, work, xp):
            xp.multiply(g, g.dtype.type(lr), out=work[: p.size])
            p -= work[: p.size]

    class Twice(ic.Layer):
        def forward(self, x, ctx):
            return ctx.xp.multiply(x, 2, out=ctx.y)

        def backward(self, dy, ctx):
            return dy * 2

    class Loss(ic.CrossEntropyLoss):
        def __call__(self, logits, labels, scale, metrics, dlogits, backend):
            super().__call__(logits, labels, scale, metrics, dlogits, backend)
            metrics[0] = metrics[0] * 2

    net = ic.Sequential([ic.Flatten(), Twice(), ic.Linear(432, 4)]).init(0, backend="cupy:1")
    trainer = ic.Trainer(net, loss=Loss(), optimizer=Sign(0.001))
    assert trainer.step(*batch()) > trainer.step(*batch())
    assert places == {1}


@pytest.mark.usefixtures("two")
def test_every_kernel_and_every_report_works_on_the_second_device(places):
    backend = ic.get_backend("cupy:1")
    assert max(error for _, error in doctor.errors(backend)) < 2e-5
    profiling.peaks(backend, "float32")
    assert places == {1}
    assert backend.free_bytes() == 2 << 30  # the second's, not the first's
    assert backend.peak_bytes() == 4 << 20
    assert "2.0 of 2.0 GiB free" in backend.versions()["GPU"]
    assert repr(backend) == "<CupyBackend 'cupy:1'>"


def test_all_public_methods_run_on_the_device(two):
    """Also those that the base class has, and a subclass changes."""
    seen = []

    class Mine(two["im2colnet_cupy"].CupyBackend):
        def activation(self, x, kind, out=None, scratch=None):
            seen.append(strict_cupy.current())
            return super().activation(x, kind, out, scratch)

        def of_my_own(self):
            seen.append(strict_cupy.current())
            raise KeyError

    mine = Mine("1")
    mine.activation(mine.asarray(np.ones(3)), "relu")
    with pytest.raises(KeyError):
        mine.of_my_own()
    assert strict_cupy.current() == 0
    with strict_cupy.Device(1):
        mine.activation(mine.asarray(np.ones(3)), "relu")
        assert strict_cupy.current() == 1
    assert seen == [1, 1, 1]
    elsewhere = two["im2colnet_cupy.device"].ELSEWHERE
    for name in set(dir(ic.Backend)) - elsewhere:
        method = getattr_static(Mine, name)
        assert name.startswith("_") or not isfunction(method) or hasattr(method, "__wrapped__"), name


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("how", ["nothing chosen", "the first chosen", "the second chosen", "the second is current"])
def test_functions_run_where_their_arrays_are(places, how):
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(s) for s in ((2, 4, 7, 6), (6, 2, 3, 3), (6,), (2, 6, 7, 6)))
    conv = {"padding": 1, "groups": 2}

    def results(to):
        X, W, B, DY = map(to, (x, w, b, dy))
        pooled, indices = F.max_pool2d(X, 3, 2, 1, return_indices=True)
        return [
            F.conv2d(X, W, B, **conv),
            F.conv2d_input(x.shape, W, DY, **conv),
            F.conv2d_weight(X, w.shape, DY, **conv),
            pooled,
            indices,
            F.max_pool2d_input(X, pooled, 3, 2, 1),
            F.avg_pool2d(X, 2),
            F.avg_pool2d_input(x.shape, F.avg_pool2d(X, 2), 2),
            F.fold(F.unfold(X, 3), (7, 6), 3),
        ]

    expected = results(lambda a: a)
    with strict_cupy.Device(1):
        arrays = {id(a): strict_cupy.ndarray(a.copy()) for a in (x, w, b, dy)}
    if how == "the second is current":
        with strict_cupy.Device(1):
            found = results(lambda a: arrays[id(a)])
    elif how == "nothing chosen":
        found = results(lambda a: arrays[id(a)])
    else:
        with ic.use_backend("cupy" if "first" in how else "cupy:1"):
            found = results(lambda a: arrays[id(a)])
    assert places == {1}
    for result, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(result.get(), exact, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("two")
def test_arrays_of_two_devices_are_refused_naming_both():
    first, second = ic.get_backend("cupy"), ic.get_backend("cupy:1")
    x, w = first.asarray(np.ones((1, 1, 5, 5))), second.asarray(np.ones((1, 1, 3, 3)))
    with pytest.raises(
        ic.BackendError, match=r"input is an array of the backend 'cupy' but weight one of 'cupy:1'.*bring them"
    ):
        F.conv2d(x, w)
    assert F.conv2d(x, first.asarray(w)).device.id == 0  # as the message says
    with pytest.raises(ic.BackendError, match="bring it there"):
        first.max_pool2d(w, make_window(1, 1, 0))
    with pytest.raises(ic.BackendError, match=r"'cupy:0'.*of 'cupy:1'.*get_backend\('cupy:1'\)"):
        second.activation_grad(x, x, "relu")
    net, images = small(first), second.asarray(batch(dtype="float32")[0])
    for use in net.predict, lambda images: ic.Trainer(net).step(images, batch()[1]):
        with pytest.raises(ic.BackendError, match=r"images are arrays of 'cupy:1', but the network lives on 'cupy'"):
            use(images)
    assert net.predict(first.asarray(images)).device.id == 0


@pytest.mark.usefixtures("two")
def test_devices_work_side_by_side_and_in_threads(tmp_path):
    expected, found = trained_and_resumed("cupy"), {}

    def work(name):
        with strict_cupy.Device(int(name != "cupy")):  # each thread of the user's has another one, and keeps it
            found[name] = trained_and_resumed("cupy:1" if name == "cupy" else "cupy")
            assert strict_cupy.current() == int(name != "cupy")

    threads = [threading.Thread(target=work, args=[name]) for name in ("cupy", "cupy:1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.keys() == {"cupy", "cupy:1"}
    for losses, outputs, state in found.values():
        assert losses == expected[0]
        np.testing.assert_array_equal(outputs, expected[1])
        assert_same_bits(state, expected[2])
    # steps by turns
    trainers = [ic.Trainer(small(name), seed=3) for name in ("cupy", "cupy:1")]
    for seed in range(3):
        assert len({trainer.step(*batch(seed=seed)) for trainer in trainers}) == 1


@pytest.mark.usefixtures("two")
def test_a_batch_that_is_fetched_arrives_on_its_device():
    backend, arrived = ic.get_backend("cupy:1"), []
    for value in range(3):
        arrived.append(backend.prefetch(np.full((2, 2), value, "float32"))())
        assert (arrived[-1].get() == value).all()
    assert {array.device.id for array in arrived} == {1}
    assert backend.prefetch(arrived[0])() is arrived[0]


def rank_of_machine(cupy, monkeypatch, rank, size):
    """Make this process a rank of an MPI job, of ``size`` on this machine."""
    monkeypatch.setattr(cupy, "local_rank", lambda: rank)
    monkeypatch.setattr(cupy, "local_size", lambda: size)


@pytest.mark.parametrize(("rank", "size", "device"), [(0, 1, 0), (0, 2, 0), (1, 2, 1)])
def test_a_rank_takes_the_gpu_of_its_number(two, places, monkeypatch, rank, size, device):
    rank_of_machine(two["im2colnet_cupy"], monkeypatch, rank, size)
    trained_and_resumed("cupy")
    assert places == {device}
    assert ic.get_backend("cupy").full_name == "cupy"  # the same on every rank
    places.clear()
    ic.get_backend("cupy:0").empty((2,), "float32")  # who names a device gets it
    assert places == {0}


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_more_ranks_than_gpus_share_them_and_the_first_warns(two, monkeypatch, rank):
    cupy = two["im2colnet_cupy"]
    rank_of_machine(cupy, monkeypatch, rank, 3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert cupy.CupyBackend().empty((2,), "float32").device.id == rank % 2
    assert [str(one.message) for one in said] == [
        "3 ranks on this machine share 2 GPUs: one rank for each GPU is faster (mpiexec -n 2 on one machine)"
    ] * (not rank)


@pytest.mark.parametrize("visible", [None, "3"])
def test_a_launcher_may_show_each_rank_a_gpu_of_its_own(two, monkeypatch, visible):
    cupy = two["im2colnet_cupy"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(cupy.cp.cuda.runtime, "getDeviceCount", lambda: 1)
    rank_of_machine(cupy, monkeypatch, 0, 2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cupy.CupyBackend()
    assert len(said) == (visible is None)
    rank_of_machine(cupy, monkeypatch, 1, 2)
    assert cupy.CupyBackend().empty((2,), "float32").device.id == 0
