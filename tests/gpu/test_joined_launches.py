"""What a training step launches: gradients that one kernel makes are no launch of their own."""

from collections import Counter

import pytest
from helpers import batches

import im2colnet as ic

draw = batches((3, 8, 8), classes=4, n=4, pixels=True)


@pytest.fixture
def launched(gpu, monkeypatch):
    """The launches of the backend's own kernels, by name."""
    cuda, counts = type(gpu).batch_norm_grad_sums.function.__globals__["cuda"], Counter()
    compiled = cuda.kernel

    def counting(file, name, *how):
        function = compiled(file, name, *how)

        def launch(*arguments):
            counts[name] += 1
            function(*arguments)

        return launch

    monkeypatch.setattr(cuda, "kernel", counting)
    monkeypatch.setenv("IM2COLNET_CUDA_GRAPHS", "0")
    return counts


def test_gradients_that_are_joined_are_launched_once(gpu, launched):
    body = [ic.Conv2d(4, 4, 3, padding=1, bias=False), ic.BatchNorm2d(4), ic.ReLU()]
    body += [ic.Conv2d(4, 4, 3, padding=1, bias=False), ic.BatchNorm2d(4)]
    layers = [ic.Conv2d(3, 4, 3, padding=1, bias=False), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2)]
    layers += [ic.Residual(ic.Sequential(body)), ic.ReLU(), ic.Flatten(), ic.Linear(64, 4)]
    net = ic.Sequential(layers).init(0, backend=gpu)
    trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.1), seed=1)
    trainer.step(*draw(seed=0))
    launched.clear()
    trainer.step(*draw(seed=1))
    assert launched["slope_sums"] == 2  # of the batch norms that ReLU follows
    assert launched["activation_grad"] == 1  # after the sum of the residual block
    assert (launched["max_pool_grad_at"], launched["max_pool_grad"]) == (1, 0)
