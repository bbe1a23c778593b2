"""The same small network in other libraries: what is installed, how long it takes to start, to train and to predict.

    python benchmarks/libraries.py --python im2colnet=VENV/bin/python --python pytorch=... --rounds 5

Each library is measured by the Python of an environment that has it and what it depends on, and nothing else, in
processes of their own, turn by turn; every library uses as many cores as it takes by itself. The network is LeNet-5 as
``ic.models.lenet5`` has it, in batches of 64 images of 28×28, trained by SGD with momentum in float32. scikit-learn has
no convolutions, so its network is fully connected with the same last layers. onnxruntime only predicts, from a file
that ``--onnx`` names (``im2colnet onnx CHECKPOINT --out FILE`` writes one).

This file imports nothing of the project, so that every environment can run it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 64  #: images of a training step
FIRST = 10  #: calls that are not counted, in which libraries compile and fork

Call = Callable[[], Any]


def im2colnet() -> tuple[Call, Call]:
    """Train by im2colnet, on the backend of IM2COLNET_BACKEND."""
    import im2colnet as ic

    images, labels = data()
    net = ic.models.lenet5()
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.01, momentum=0.9), seed=0)
    return lambda: trainer.step(images, labels), lambda: net.predict(images[:1])


def pytorch() -> tuple[Call, Call]:
    """Train by PyTorch, eagerly, as its tutorials do."""
    import torch
    from torch import nn

    images, labels = map(torch.from_numpy, data())
    body = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    net = nn.Sequential(*body, *head)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def predict() -> Any:
        with torch.inference_mode():
            return net(images[:1]).numpy()

    return step, predict


def jax() -> tuple[Call, Call]:
    """Train by JAX, compiled, with functions of its own."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    images, labels = map(jnp.asarray, data())
    shapes = [(6, 1, 5, 5), (6, 1, 1), (16, 6, 5, 5), (16, 1, 1), (400, 120), (120,), (120, 84), (84,), (84, 10), (10,)]
    rng = np.random.default_rng(0)
    state = [jnp.asarray(0.1 * rng.standard_normal(shape), "float32") for shape in shapes]
    speed = [jnp.zeros_like(p) for p in state]

    def forward(p: list[Any], x: Any) -> Any:
        for w, b, pad in ((p[0], p[1], 2), (p[2], p[3], 0)):
            x = lax.conv_general_dilated(x, w, (1, 1), [(pad, pad)] * 2) + b
            x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        x = x.reshape(len(x), -1)
        x = jax.nn.relu(x @ p[4] + p[5])
        return jax.nn.relu(x @ p[6] + p[7]) @ p[8] + p[9]

    def loss(p: list[Any], x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(forward(p, x)), y[:, None], 1).mean()

    @jax.jit
    def update(p: list[Any], v: list[Any], x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(p, x, y)
        v = [0.9 * old + g for old, g in zip(v, grads, strict=True)]
        return value, [a - 0.01 * b for a, b in zip(p, v, strict=True)], v

    def step() -> float:
        nonlocal state, speed
        value, state, speed = update(state, speed, images, labels)
        return float(value)

    compiled = jax.jit(forward)
    return step, lambda: np.asarray(compiled(state, images[:1]))


def keras() -> tuple[Call, Call]:
    """Train by Keras on JAX, by ``train_on_batch``."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from keras import layers

    images, labels = data()
    images = images.transpose(0, 2, 3, 1).copy()
    body = [layers.Conv2D(6, 5, padding="same", activation="relu"), layers.MaxPool2D()]
    body += [layers.Conv2D(16, 5, activation="relu"), layers.MaxPool2D(), layers.Flatten()]
    head = [layers.Dense(120, activation="relu"), layers.Dense(84, activation="relu"), layers.Dense(10)]
    net = keras.Sequential([layers.Input((28, 28, 1)), *body, *head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    return lambda: net.train_on_batch(images, labels), lambda: net.predict_on_batch(images[:1])


def tinygrad() -> tuple[Call, Call]:
    """Train by tinygrad, compiled by its TinyJit."""
    from tinygrad import Context, Tensor, TinyJit, nn

    class Net:
        def __init__(self) -> None:
            self.layers = [nn.Conv2d(1, 6, 5, padding=2), Tensor.relu, Tensor.max_pool2d, nn.Conv2d(6, 16, 5)]
            self.layers += [Tensor.relu, Tensor.max_pool2d, lambda x: x.flatten(1), nn.Linear(400, 120), Tensor.relu]
            self.layers += [nn.Linear(120, 84), Tensor.relu, nn.Linear(84, 10)]

        def __call__(self, x: Any) -> Any:
            return x.sequential(self.layers)

    images, labels = map(Tensor, data())
    net = Net()
    optimizer = nn.optim.SGD(nn.state.get_parameters(net), lr=0.01, momentum=0.9)

    @TinyJit
    def train(x: Any, y: Any) -> Any:
        with Context(TRAINING=1):
            optimizer.zero_grad()
            loss = net(x).sparse_categorical_crossentropy(y).backward()
            return loss.realize(*optimizer.schedule_step())

    predict = TinyJit(lambda x: net(x).realize())
    one = images[:1].contiguous().realize()
    return lambda: train(images, labels).item(), lambda: predict(one).numpy()


def scikit_learn() -> tuple[Call, Call]:
    """Train scikit-learn's fully connected network by ``partial_fit``."""
    from sklearn.neural_network import MLPClassifier

    images, labels = data()
    images = images.reshape(BATCH, -1)
    net = MLPClassifier((120, 84), solver="sgd", learning_rate_init=0.01, batch_size=BATCH, random_state=0)
    net.partial_fit(images, labels, classes=range(10))
    return lambda: net.partial_fit(images, labels), lambda: net.predict_proba(images[:1])


def onnxruntime() -> tuple[Call | None, Call]:
    """Predict by onnxruntime, from the file that LENET5_ONNX names."""
    import onnxruntime

    images, _ = data()
    session = onnxruntime.InferenceSession(os.environ["LENET5_ONNX"])
    name = session.get_inputs()[0].name
    return None, lambda: session.run(None, {name: images[:1]})


LIBRARIES = {f.__name__: f for f in (im2colnet, pytorch, jax, keras, tinygrad, scikit_learn, onnxruntime)}


def data() -> tuple[Any, Any]:
    """Return images and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.random((BATCH, 1, 28, 28), dtype="float32"), rng.integers(0, 10, BATCH)


def milliseconds(call: Call, seconds: float) -> float:
    """Return the median time of a call, of all that fit into some seconds."""
    for _ in range(FIRST):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def measure(name: str, seconds: float) -> dict[str, float]:
    """Measure a library in this process: from its import to the end of the first step, a step, a prediction."""
    import numpy  # noqa: F401 - not counted, since all but one of them have it

    began = time.perf_counter()
    step, predict = LIBRARIES[name]()
    (step or predict)()
    found = {"start_s": time.perf_counter() - began}
    if step is not None:
        found["step_ms"] = milliseconds(step, seconds)
    return found | {"predict_ms": milliseconds(predict, seconds)}


def installed(python: str) -> dict[str, Any]:
    """Return what an environment's packages take on the disk, and how many they are."""
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", script], text=True).strip())
    files = [p for p in site.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {"mb": sum(p.stat().st_size for p in files) / 1e6, "packages": len([*site.glob("*.dist-info")])}


def rounds(pythons: dict[str, str], number: int, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """Measure each library in a process of its own, turn by turn; labels may have a backend, as im2colnet/numba."""
    for _ in range(number):
        for label, python in pythons.items():
            name, _, backend = label.partition("/")
            environment = os.environ | ({"IM2COLNET_BACKEND": backend} if backend else {})
            command = [python, __file__, "--one", name, "--seconds", str(seconds)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{label}: {done.stderr}")
            yield label, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", metavar="NAME=PYTHON", help=f"of {', '.join(LIBRARIES)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each measurement (default: 2)")
    parser.add_argument("--onnx", metavar="FILE", help="LeNet-5 for onnxruntime")
    parser.add_argument("--one", choices=LIBRARIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.seconds)))
        return
    if args.onnx:
        os.environ["LENET5_ONNX"] = os.path.abspath(args.onnx)
    pythons = dict(text.split("=", 1) for text in args.python or ())
    if not pythons or not {label.partition("/")[0] for label in pythons} <= set(LIBRARIES):
        parser.error(f"give --python NAME=PYTHON, with a name of {', '.join(LIBRARIES)}")
    found: dict[str, list[dict[str, float]]] = {}
    for label, figures in rounds(pythons, args.rounds, args.seconds):
        found.setdefault(label, []).append(figures)
    print("| library | packages | installed, MB | start to the first step, s | training step, ms | one image, ms |")
    print("|---|---|---|---|---|---|")
    for label, each in found.items():
        size = installed(pythons[label])
        middle = {key: statistics.median(one[key] for one in each) for key in each[0]}
        step = f"{middle['step_ms']:.2f}" if "step_ms" in middle else "–"
        start = f"{middle['start_s']:.2f} | {step} | {middle['predict_ms']:.3f}"
        print(f"| {label} | {size['packages']} | {size['mb']:.0f} | {start} |")


if __name__ == "__main__":
    sys.exit(main())
