"""Random graphs of operators give what onnx's interpreter gives, whatever is joined, moved and left out."""

import warnings

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_files import model, node

import im2colnet as ic

#: numbers of a sample that a value may have
LARGEST = 2000


class Graph:
    """A graph that grows by random operators, and the shape of a sample of each of its values."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.arrays = [], {}
        self.shapes = {"x": tuple(self.rng.choice([1, 2, 3, 4, 6], self.rng.integers(2, 4)).tolist())}
        while len(self.shapes) < 10:
            self.grow()

    def pick(self, *among):
        return among[self.rng.integers(len(among))]

    def constant(self, array):
        name = f"c{len(self.arrays)}"
        self.arrays[name] = np.asarray(array)
        return name

    def numbers(self, *shape):
        return self.constant(self.rng.uniform(0.5, 1.5, shape).astype("float32"))

    def grow(self):
        x = self.pick(*[*self.shapes][-3:])
        shape, y = self.shapes[x], f"v{len(self.shapes)}"
        step = self.pick(*STEPS, transpose, transpose, arithmetic)
        made = step(self, x, y, shape)
        if made is not None and np.prod(made[1]) <= LARGEST:
            self.nodes.append(made[0])
            self.shapes[y] = tuple(int(n) for n in made[1])


def transpose(g, x, y, shape):
    perm = (g.rng.permutation(len(shape)) + 1).tolist()
    return node("Transpose", x, y, perm=[0, *perm]), [shape[i - 1] for i in perm]


def function(g, x, y, shape):
    return node(g.pick("Relu", "Sigmoid", "Identity", "Tanh"), x, y), shape


def arithmetic(g, x, y, shape):
    sizes = [g.pick(n, 1) for n in shape]
    reads = f"{x} {g.numbers(*g.pick(sizes, sizes[-1:], [], [1, *sizes]))}"
    op = g.pick("Add", "Sub", "Mul", "Div", "Max")
    return node(op, reads if op == "Div" or g.pick(0, 1) else " ".join(reversed(reads.split())), y), shape


def two(g, x, y, shape):
    other = g.pick(*(name for name, others in g.shapes.items() if others == shape))
    return node(g.pick("Add", "Mul", "Sub", "Min"), f"{x} {other}", y), shape


def concat(g, x, y, shape):
    axis = g.rng.integers(len(shape))
    other = g.pick(*(name for name, others in g.shapes.items() if others == shape))
    return node("Concat", f"{x} {other}", y, axis=int(axis) + 1), [n * (1 + (i == axis)) for i, n in enumerate(shape)]


def reshape(g, x, y, shape):
    left, sizes = int(np.prod(shape)), []
    for _ in range(g.rng.integers(4)):
        sizes.append(g.pick(*(n for n in range(1, left + 1) if left % n == 0)))
        left //= sizes[-1]
    sizes.append(left)
    return node("Reshape", f"{x} {g.constant(np.array([g.pick(0, -1), *sizes]))}", y), sizes


def pad(g, x, y, shape):
    before, behind = ([g.pick(0, 0, 1) for _ in shape] for _ in range(2))
    sides = g.constant(np.array([0, *before, 0, *behind]))
    return node("Pad", f"{x} {sides}", y), np.add(shape, before) + behind


def convolution(g, x, y, shape):
    if len(shape) != 3:
        return None
    filters = g.pick(1, 3, 4)
    return node("Conv", f"{x} {g.numbers(filters, shape[0], 3, 3)}", y, pads=[1] * 4), (filters, *shape[1:])


def softmax(g, x, y, shape):
    return node("Softmax", x, y, axis=int(g.rng.integers(len(shape))) + 1), shape


def mean(g, x, y, shape):
    axes = sorted(g.rng.permutation(len(shape))[: g.rng.integers(1, len(shape) + 1)].tolist())
    keep = len(axes) == len(shape) or g.pick(0, 1)
    made = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
    return node("ReduceMean", x, y, axes=[axis + 1 for axis in axes], keepdims=int(keep)), made


def part(g, x, y, shape):
    axis = int(g.rng.integers(len(shape)))
    start = int(g.rng.integers(shape[axis]))
    reads = " ".join(g.constant(np.array([n])) for n in (start, shape[axis], axis + 1))
    return node("Slice", f"{x} {reads}", y), [n - start * (i == axis) for i, n in enumerate(shape)]


def prelu(g, x, y, shape):
    return node("PRelu", f"{x} {g.numbers(*(g.pick(n, 1) for n in shape))}", y), shape


STEPS = [function, arithmetic, two, concat, reshape, pad, convolution, softmax, mean, part, prelu]


@pytest.mark.parametrize("seed", range(60))
def test_a_random_graph(seed):
    graph = Graph(seed)
    sample, outputs = graph.shapes["x"], list(dict.fromkeys([[*graph.shapes][-1], graph.pick(*[*graph.shapes][1:])]))
    made = model(graph.nodes, {"x": ("N", *sample)}, outputs=outputs, arrays=graph.arrays)
    images = graph.rng.standard_normal((2, *sample)).astype("float32")
    expected = ReferenceEvaluator(made).run(None, {"x": images})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        net = ic.onnx.load(made)
    if any("channels last" in str(warning.message) for warning in said):
        images = np.moveaxis(images, -1, 1)
    found = net.predict(images)
    for a, b in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max())


def test_outputs_that_are_the_input_or_each_other():
    nodes = [node("Transpose", "x", "a", perm=[0, 2, 1]), node("Transpose", "a", "y", perm=[0, 2, 1])]
    nodes += [node("Identity", "y", "z"), node("Softmax", "z", "p", axis=1)]
    images = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    y, z, _ = ic.onnx.load(model(nodes, {"x": ("N", 3, 4)}, outputs=("y", "z", "p"))).predict(images)
    np.testing.assert_array_equal(y, images)
    np.testing.assert_array_equal(z, images)


def test_one_value_is_the_scores_of_one_output_alone():
    nodes = [node("Relu", "x", "s"), node("Softmax", "s", "p", axis=1)]
    net = ic.onnx.load(model(nodes, {"x": ("N", 3)}, outputs=("s", "p")))
    assert net.scores is None
