"""Batch norm of numbers far from 0, against exact arithmetic: no large squares may be subtracted from each other."""

from fractions import Fraction

import numpy as np
import pytest
import strict_cupy
from helpers import Probe, assert_same_bits, normal, rows
from numpy.testing import assert_allclose

import im2colnet as ic

#: (mean, standard deviation) of a channel
FAR = [(1e6, 1.0), (1e8, 1.0), (-1e8, 1e-3), (1e12, 100.0), (1.0, 1e-8), (0.0, 1e-150), (3e7, 0.0)]


def exactly(values):
    """Sum, mean and sum of squares about the mean of some numbers, rounded only at the end."""
    exact = [Fraction(float(v)) for v in values.ravel()]
    mean = sum(exact) / len(exact)
    return float(sum(exact)), mean, float(sum((v - mean) ** 2 for v in exact))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("mean", "std"), FAR)
def test_sums_are_exact(backend, mean, std, dtype):
    x = (mean + std * normal(4, 2, 3, 5)).astype(dtype)
    x[:, 1, 0] = mean  # the first row is not like the others
    sums = backend.batch_norm_sums(rows(x), out=np.empty((2, 2)))
    dy, given = normal(4, 2, 3, 5, seed=1, dtype=dtype), np.empty(2)
    for c in range(2):
        total, at, spread = exactly(x[:, c])
        assert_allclose(sums[:, c], [total, spread], rtol=1e-13 if dtype == "float64" else 1e-6, atol=0)
        given[c] = at
    found = backend.batch_norm_grad_sums(rows(x), given, rows(dy), out=np.empty((2, 2)))
    for c in range(2):
        pairs = [
            (Fraction(float(v)) - Fraction(given[c]), Fraction(float(d)))
            for v, d in zip(x[:, c].ravel(), dy[:, c].ravel(), strict=True)
        ]
        scale = float(sum(abs(v * d) for v, d in pairs))
        rounding = 1e-14 if dtype == "float64" else 1e-5
        assert abs(found[1, c] - float(sum(v * d for v, d in pairs))) <= rounding * scale + 1e-300
        assert abs(found[0, c] - float(sum(d for _, d in pairs))) <= 1e-5


def normalised(x, eps=1e-5):
    """``(x - mean) / √(var + eps)`` and the factor, of the longest floating-point numbers."""
    x = x.astype(np.longdouble)
    centred = x - x.mean((0, 2, 3), keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + eps)
    return centred * inverse, inverse


@pytest.mark.parametrize("shard", [None, 3, 1])
@pytest.mark.parametrize(("mean", "std"), [(1e6, 1.0), (1e8, 1.0), (1e8, 1e-2), (5.0, 0.0)])
def test_a_layer_in_float64(mean, std, shard):
    """Output and gradients, however the batch is divided: 7 samples, of which 3 make shards of 2 and 3."""
    x = mean + std * normal(7, 2, 4, 3)
    if std:
        x += np.arange(7)[:, None, None, None]  # the shards' means differ
    probe = Probe([ic.BatchNorm2d(2)], x, state={"1.weight": np.ones(2), "1.bias": np.zeros(2)}, shard=shard)
    result = probe.step()
    y, inverse = normalised(x)
    dy = probe.dy.astype(np.longdouble)
    of_weight = (dy * y).sum((0, 2, 3))
    n = x[:, 0].size
    dx = inverse * (dy - dy.mean((0, 2, 3), keepdims=True) - y * of_weight[:, None, None] / n)
    rounding = 4e-16 * (1 + mean * float(inverse.max()))
    assert np.abs(result.y - y).max() <= rounding
    assert np.abs(result.dx - dx).max() <= rounding * 10 * float(inverse.max())
    assert_allclose(result.gradients["1.weight"], of_weight.astype(float), rtol=1e-12, atol=rounding * n)


@pytest.mark.parametrize(("dtype", "mean"), [("float32", 3e5), ("float64", 1e8)])
def test_running_statistics_far_from_zero_and_any_number_of_workers(dtype, mean):
    x = (mean + normal(30, 2, 4, 4) + np.arange(30)[:, None, None, None]).astype(dtype)
    found = []
    before = ic.get_num_threads()
    try:
        for workers in (1, 2, 5):
            ic.set_num_threads(workers)
            net = ic.Sequential([ic.BatchNorm2d(2, momentum=1.0), ic.Flatten(), ic.Linear(32, 2)]).init(0, dtype)
            ic.Trainer(net, optimizer=ic.SGD(1e-30), shard=4).step(x, np.arange(30) % 2)
            found.append(net.state_dict())
    finally:
        ic.set_num_threads(before)
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])
    exact = x.astype(np.longdouble)
    assert_allclose(found[0]["0.running_mean"], exact.mean((0, 2, 3)).astype(float), rtol=1e-7)
    rtol = 1e-6 if dtype == "float32" else 1e-8  # a sum of numbers of 1e8 is exact to 1e-16 of it
    assert_allclose(found[0]["0.running_var"], exact.var((0, 2, 3), ddof=1).astype(float), rtol=rtol)


def test_float64_trains_far_from_zero_as_near_it():
    """Batch norm takes a constant away: the loss must be what it is without."""
    x, labels = normal(64, 1, 6, 6), np.arange(64) % 3
    x[labels == 1, 0, :3] += 1
    losses = []
    for offset in (0.0, 2.0**26):  # of which every sum is exact to 1e-8
        net = ic.Sequential([ic.BatchNorm2d(1), ic.Flatten(), ic.Linear(36, 3)]).init(0, "float64")
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.1))
        losses.append([trainer.step(x + offset, labels) for _ in range(8)])
    assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert losses[0][-1] < losses[0][0]


# What is not finite -------------------------------------------------------------------------------------------------
def spoiled(dtype="float32"):
    """A network with batch norm, its trainer, and images of which one has a pixel that is too large to be squared."""
    layers = [ic.Conv2d(1, 4, 3), ic.BatchNorm2d(4), ic.ReLU(), ic.Flatten(), ic.Linear(4 * 36, 2)]
    trainer = ic.Trainer(ic.Sequential(layers).init(0, dtype), shard=4)
    x, labels = normal(16, 1, 8, 8, dtype=dtype), np.arange(16) % 2
    bad = x.copy()
    bad[5, 0, 3, 3] = 1e20 if dtype == "float32" else 1e200
    return trainer, x, bad, labels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_that_would_spoil_the_statistics_changes_nothing(dtype, workers):
    trainer, x, bad, labels = spoiled(dtype)
    before = ic.get_num_threads()
    try:
        ic.set_num_threads(workers)
        trainer.step(x, labels)
        state = trainer.net.state_dict()
        for _ in range(4):  # on threads, and on processes
            with pytest.raises(ic.NonFiniteError, match=r"layer '1', BatchNorm2d\(4\): mean or variance.*too large"):
                trainer.step(bad, labels)
            assert_same_bits(trainer.net.state_dict(), state)
        trainer.step(x, labels)
    finally:
        ic.set_num_threads(before)
    assert all(np.isfinite(a).all() for a in trainer.net.state_dict().values())


@pytest.mark.filterwarnings("ignore::im2colnet.errors.InputWarning")
def test_fit_stops_before_it_writes_state_that_is_not_finite(tmp_path):
    """Of a layer of one's own, which looks at nothing."""

    class Largest(ic.Layer):
        def state(self):
            return {"largest": ic.Parameter((1,))}

        def forward(self, x, ctx):
            ctx.largest = abs(x).max()
            return x

        def backward(self, dy, ctx):
            return dy

        def finish_step(self, ctx):
            ctx.buffers["largest"][...] = ctx.largest if ctx.largest < 1e3 else np.inf

    data = ic.Dataset(normal(8, 3, 1, 1, dtype="float32"), np.arange(8) % 2)
    trainer = ic.Trainer(
        ic.Sequential([ic.Flatten(), ic.Linear(3, 3), Largest(), ic.Linear(3, 2)]), optimizer=ic.SGD(1e-9)
    )
    trainer.fit(data, 1, 4, directory=tmp_path)
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    trainer.net.inputs = None  # or it would be said that the scale is another
    with pytest.raises(ic.NonFiniteError, match=r"2\.largest has become infinite or NaN"):
        trainer.fit(ic.Dataset(data.images * np.float32(1e6), data.labels), 2, 4, directory=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept


@pytest.mark.parametrize("given", [(), ("weight",), ("bias",), ("weight", "bias")], ids=str)
def test_a_weight_or_a_bias_alone(every_backend, given):
    x, arrays = normal(5, 3, 4), {name: normal(3, seed=seed) for seed, name in enumerate(given, 1)}
    of = {"weight": np.ones(3), "bias": np.zeros(3)} | arrays
    mean, inverse = x.mean((0, 2)), 1 / np.sqrt(x.var((0, 2)) + 1e-5)
    to = every_backend.asarray
    sums = to(np.stack([20 * mean, 20 * x.var((0, 2))]))
    weight, bias = (to(arrays[name]) if name in arrays else None for name in ("weight", "bias"))
    found = every_backend.batch_norm_statistics(sums, 20, 1e-5, weight, bias)
    assert_allclose(every_backend.to_numpy(found.scale), inverse * of["weight"])
    assert_allclose(every_backend.to_numpy(found.shift), of["bias"] - mean * inverse * of["weight"], atol=1e-14)
    with ic.use_backend(every_backend):
        y = ic.functional.batch_norm(to(x), None, None, weight, bias, training=True)
    normed = (x - mean[:, None]) * inverse[:, None]
    assert_allclose(every_backend.to_numpy(y), normed * of["weight"][:, None] + of["bias"][:, None], atol=1e-12)


@pytest.mark.filterwarnings("ignore::im2colnet.errors.InputWarning")
def test_the_other_backends_see_it_at_the_end_of_an_epoch():
    """A GPU is not waited for in each step."""
    backend = strict_cupy.cupy_backend()
    net = ic.Sequential([ic.BatchNorm2d(1), ic.Flatten(), ic.Linear(16, 2)]).init(0, backend=backend)
    x = normal(8, 1, 4, 4, dtype="float32")
    x[0, 0, 0, 0] = 1e25
    with pytest.raises(ic.NonFiniteError, match=r"0\.running_var has become infinite or NaN"):
        ic.Trainer(net, optimizer=ic.SGD(1e-9)).fit((x, np.arange(8) % 2), 1, 8)
