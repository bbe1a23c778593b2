"""The numbers of an explanation, beside naive loops and finite differences."""

import json
from itertools import pairwise

import numpy as np
import pytest
from helpers import explained, layer_examples, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing import cases

EXAMPLES = layer_examples()


def images(array):
    """A value as an image (C, H, W)."""
    return array if array.ndim == 3 else array.reshape(len(array), 1, -1)


def read(x, layer, c, r, w, i, j):
    """The pixel of channel c that tap (i, j) of the window at (r, w) reads, and its index; loops of the definition."""
    C, H, W = x.shape
    window = layer.window
    (top, bottom), (left, right) = window.padding
    mode = getattr(layer, "padding_mode", "zeros")
    if mode != "zeros":
        (top, bottom), (left, right) = layer.border.sides
    h = r * window.stride[0] + i * window.dilation[0] - top
    v = w * window.stride[1] + j * window.dilation[1] - left
    if mode == "circular":
        h, v = h % H, v % W
    elif mode == "replicate":
        h, v = min(max(h, 0), H - 1), min(max(v, 0), W - 1)
    elif mode == "reflect":
        h, v = (abs(n) if n < size else 2 * (size - 1) - n for n, size in ((h, H), (v, W)))
    if 0 <= h < H and 0 <= v < W:
        return x[c, h, v], h * W + v
    return None, -1


CONVOLUTIONS = [p for p in EXAMPLES if isinstance(p.values[1], ic.Conv2d)]
POOLINGS = [p for p in EXAMPLES if isinstance(p.values[1], (ic.MaxPool2d, ic.AvgPool2d))]


@pytest.mark.parametrize(("case", "layer", "shapes"), CONVOLUTIONS)
def test_a_convolution_is_a_product_with_the_lowered_matrix(case, layer, shapes, every_backend):
    e = explained(layer, *shapes, backend=every_backend)
    x, y, dy = images(e.inputs[0]), images(e.output), images(e.doutput)
    (KH, KW), (OH, OW), G = e.window.kernel_size, e.window.output_size, layer.groups
    C, F = len(x) // G, len(y) // G
    dx, weight = np.zeros_like(x), e.parameters["weight"].reshape(G * F, C, KH, KW)
    dweight = np.zeros_like(weight)
    for r, w in np.ndindex(OH, OW):
        p = r * OW + w
        for g, f in np.ndindex(G, F):
            total = 0.0 if e.bias is None else e.bias[g * F + f]
            for c, i, j in np.ndindex(C, KH, KW):
                value, source = read(x, layer, g * C + c, r, w, i, j)
                k = (c * KH + i) * KW + j
                assert e.sources[i * KW + j, p] == source
                assert e.columns[g, k, p] == (value or 0.0)
                assert e.weight[g, f, k] == weight[g * F + f, c, i, j]
                total += e.weight[g, f, k] * (value or 0.0)
                if source >= 0:
                    dx[g * C + c].flat[source] += weight[g * F + f, c, i, j] * dy[g * F + f, r, w]
                    dweight[g * F + f, c, i, j] += value * dy[g * F + f, r, w]
            assert_allclose(y[g * F + f, r, w], total, rtol=1e-10, atol=1e-12)
    assert_allclose(images(e.dinputs[0]), dx, rtol=1e-10, atol=1e-12)
    assert_allclose(e.fold(e.dcolumns), dx, rtol=1e-10, atol=1e-12)
    assert_allclose(e.gradients["weight"].reshape(weight.shape), dweight, rtol=1e-10, atol=1e-12)
    if e.bias is not None:
        assert_allclose(e.gradients["bias"], dy.sum(axis=(1, 2)), rtol=1e-10, atol=1e-12)
    assert_allclose(e.reads.sum(), (e.sources >= 0).sum())


@pytest.mark.parametrize(("case", "layer", "shapes"), POOLINGS)
def test_a_pooling_is_a_number_of_each_column(case, layer, shapes):
    e = explained(layer, *shapes)
    x, y, dy = images(e.inputs[0]), images(e.output), images(e.doutput)
    (KH, KW), (OH, OW) = e.window.kernel_size, e.window.output_size
    dx = np.zeros_like(x)
    for r, w in np.ndindex(OH, OW):
        p = r * OW + w
        for c in range(len(x)):
            seen = {}
            for i, j in np.ndindex(KH, KW):
                value, source = read(x, layer, c, r, w, i, j)
                assert e.sources[i * KW + j, p] == source
                if source >= 0:
                    seen[i * KW + j] = value, source
                    assert e.columns[c, i * KW + j, p] == value
            if not seen:
                continue
            if e.picked is not None:
                best = max(seen, key=lambda k: (seen[k][0], -k))
                assert e.picked[c, p] == best
                assert y[c, r, w] == seen[best][0]
                dx[c].flat[seen[best][1]] += dy[c, r, w]
            else:
                assert_allclose(y[c, r, w], sum(v for v, _ in seen.values()) / e.divisors[p], rtol=1e-10, atol=1e-12)
                for _, source in seen.values():
                    dx[c].flat[source] += dy[c, r, w] / e.divisors[p]
    assert_allclose(images(e.dinputs[0]), dx, rtol=1e-10, atol=1e-12)
    assert_allclose(e.fold(e.dcolumns), dx, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("case", "layer", "shapes"), [p for p in EXAMPLES if isinstance(p.values[1], ic.ConvTranspose2d)]
)
def test_a_transposed_convolution_adds_its_columns_to_the_output(case, layer, shapes):
    e = explained(layer, *shapes)
    bias = 0 if e.bias is None else e.bias[:, None, None]
    assert e.kind == "transposed convolution"
    assert_allclose(e.fold(e.columns) + bias, images(e.output), rtol=1e-10, atol=1e-12)
    dx = np.einsum("gck,gkp->gcp", e.weight, e.dcolumns)
    assert_allclose(dx.reshape(e.dinputs[0].shape), e.dinputs[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_every_layer_has_its_numbers(case, layer, shapes):
    e = explained(layer, *shapes, domain=case.domain)
    state = cases.State(e.parameters | e.state)
    expected = case.forward(layer, state, *(x[None] for x in e.inputs))
    if expected is not None:
        assert_allclose(e.output, expected[0], rtol=1e-9, atol=1e-11)
    assert [dx.shape for dx in e.dinputs] == [x.shape for x in e.inputs]
    assert e.doutput.shape == e.output.shape
    assert {name: array.shape for name, array in e.gradients.items()} == {
        name: array.shape for name, array in e.parameters.items()
    }
    assert e.title in repr(layer)
    assert e.formula
    assert e.kind in [
        "convolution",
        "transposed convolution",
        "pooling",
        "linear",
        "elementwise",
        "normalization",
        "shape",
        "merging",
        "other",
    ]
    json.dumps(e.facts(), allow_nan=False)
    if e.window is not None and e.kind == "pooling":
        assert_allclose(e.fold(e.dcolumns), images(e.dinputs[0]), rtol=1e-9, atol=1e-11)


def small():
    """A network with a batch norm whose statistics are its own."""
    layers = [ic.Conv2d(2, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2)]
    net = ic.Sequential([*layers, ic.Dropout(0.5), ic.Flatten(), ic.Linear(24, 3)]).init(0, "float64")
    state = net.state_dict()
    state["1.running_mean"], state["1.running_var"] = normal(4), abs(normal(4)) + 0.5
    net.load_state_dict(state)
    return net


IMAGE = normal(2, 6, 4, seed=5)


def test_the_gradient_of_a_parameter_is_a_difference_of_the_score():
    net, step = small(), 1e-6
    for name in net.state_dict():
        layer, _, key = name.rpartition(".")
        found = ic.explain(net, layer, IMAGE, output=1)
        if key not in found.gradients:
            continue
        for place in list(np.ndindex(found.gradients[key].shape))[:6]:
            values = []
            for change in step, -step:
                state = net.state_dict()
                state[name][place] += change
                other = small()
                other.load_state_dict(state)
                values.append(other.predict(IMAGE[None])[0, 1])
            expected = (values[0] - values[1]) / (2 * step)
            assert_allclose(found.gradients[key][place], expected, rtol=1e-5, atol=1e-8, err_msg=name)


def test_what_a_layer_gives_is_what_the_next_one_gets():
    net = small()
    all_of_them = [ic.explain(net, i, IMAGE, output=2) for i in range(len(net))]
    assert_allclose(all_of_them[0].inputs[0], IMAGE)
    for one, following in pairwise(all_of_them):
        assert_allclose(following.inputs[0], one.output)
        assert_allclose(following.dinputs[0], one.doutput)
    assert_allclose(all_of_them[-1].output, net.predict(IMAGE[None])[0], rtol=1e-12)
    assert_allclose(all_of_them[-1].doutput, [0, 0, 1])
    assert_allclose(all_of_them[0].dinputs[0], net.input_gradient(IMAGE[None], np.eye(3)[2:])[0], rtol=1e-9)


def test_an_input_that_other_layers_read_has_the_gradient_by_way_of_this_layer():
    layers = {"stem": ic.Conv2d(2, 4, 3, padding=1), "conv": (ic.Conv2d(4, 4, 3, padding=1), "stem")}
    net = ic.Net({**layers, "sum": (ic.Add(), "conv", "stem"), "flat": (ic.Flatten(), "sum")}).init(0, "float64")
    conv, stem, added = (ic.explain(net, name, IMAGE, output=30) for name in ("conv", "stem", "sum"))
    assert_allclose(conv.fold(conv.dcolumns), conv.dinputs[0], rtol=1e-10, atol=1e-14)
    assert_allclose(stem.doutput, conv.dinputs[0] + added.dinputs[1], rtol=1e-10, atol=1e-14)
    assert_allclose(stem.dinputs[0], net.input_gradient(IMAGE[None], np.eye(96)[30:31])[0], rtol=1e-9, atol=1e-14)


def test_a_batch_norm_is_explained_by_itself_though_inference_folds_it_into_the_convolution():
    net = small()
    conv, norm = ic.explain(net, "0", IMAGE), ic.explain(net, "1", IMAGE)
    assert_allclose(conv.output, net.features(IMAGE[None], "0")[0], rtol=1e-12)
    mean, var = norm.state["running_mean"][:, None, None], norm.state["running_var"][:, None, None]
    assert_allclose(norm.output, (conv.output - mean) / np.sqrt(var + 1e-5), rtol=1e-10)
    assert_allclose(norm.dinputs[0], norm.doutput / np.sqrt(var + 1e-5), rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_col2im_is_the_adjoint_of_im2col(data):
    """<im2col(x), c> = <x, col2im(c)>, for windows of any kind."""
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    sides = st.tuples(st.integers(0, 2), st.integers(0, 2))
    layer = ic.Conv2d(
        2 * (groups := data.draw(st.integers(1, 2))),
        2 * groups,
        kernel,
        stride=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=(data.draw(sides), data.draw(sides)),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        groups=groups,
    )
    size = data.draw(st.tuples(st.integers(5, 8), st.integers(5, 8)))
    e = explained(layer, (2 * groups, *size))
    columns = normal(*e.columns.shape, seed=3)
    assert_allclose((e.columns * columns).sum(), (e.inputs[0] * e.fold(columns)).sum(), rtol=1e-9, atol=1e-9)
    assert_allclose(e.fold(e.dcolumns), e.dinputs[0], rtol=1e-9, atol=1e-12)
    assert np.array_equal(e.reads, e.fold(np.ones_like(e.columns))[0])


# ---------------------------------------------------------------------- which layer, image and score


def test_uint8_images_are_scaled_and_normalised_as_for_predict():
    net = small()
    net.normalization = (0.4, 0.5), (0.2, 0.3)
    image = np.arange(48, dtype=np.uint8).reshape(2, 6, 4)
    e = ic.explain(net, "0", image)
    expected = (image / 255 - np.array([0.4, 0.5])[:, None, None]) / np.array([0.2, 0.3])[:, None, None]
    assert_allclose(e.inputs[0], expected, rtol=1e-12)
    assert_allclose(ic.explain(net, "6", image).output, net.predict(image[None])[0], rtol=1e-9)


def test_a_layer_is_named_in_several_ways():
    net = small()
    assert [ic.explain(net, which, IMAGE).layer for which in ("0", 0, net[0], -7, np.int64(0))] == ["0"] * 5


def test_an_image_of_one_channel_needs_no_axis_for_it():
    net = ic.Sequential([ic.Conv2d(1, 2, 3), ic.Flatten(), ic.Linear(8, 2)]).init(0, "float64")
    image = normal(4, 4)
    assert_allclose(ic.explain(net, 0, image).output, ic.explain(net, 0, image[None]).output)
    net.predict(image[None, None])  # from now on its shape is known
    assert_allclose(ic.explain(net, 0, image).output, ic.explain(net, 0, image[None, None]).output)


def test_the_score_is_the_largest_by_default():
    net = small()
    scores = net.predict(IMAGE[None])[0]
    e = ic.explain(net, 0, IMAGE)
    assert e.score.place == (scores.argmax(),)
    assert_allclose(e.score.value, scores.max(), rtol=1e-12)
    assert ic.explain(net, 0, IMAGE, output=2).score.name == "class 2"


def test_classes_have_their_names():
    train, _ = ic.datasets.load("digits")
    named = ic.Dataset(train.images[:64], train.labels[:64], classes=tuple(f"digit{i}" for i in range(10)))
    net = ic.models.notebook(classes=10)
    ic.Trainer(net, seed=0).fit(named, epochs=1, batch_size=32)
    assert ic.explain(net, 0, train.images[0], output="digit3").score.place == (3,)
    assert ic.explain(net, 0, train.images[0], output=3).score.name == "class digit3"
    with pytest.raises(ic.ShapeError, match="no class 'digit33'; names like it are: digit3"):
        ic.explain(net, 0, train.images[0], output="digit33")


def test_several_outputs_and_outputs_that_are_images():
    layers = {"stem": ic.Conv2d(2, 4, 3), "map": (ic.Conv2d(4, 2, 1), "stem"), "flat": (ic.Flatten(), "stem")}
    net = ic.Net(layers, outputs=["map", "flat"]).init(0, "float64")
    maps, flat = net.predict(IMAGE[None])
    assert_allclose(ic.explain(net, "stem", IMAGE).score.value, maps.max(), rtol=1e-12)
    assert ic.explain(net, "stem", IMAGE, output=(1, 2, 0)).score.name == "output (1, 2, 0) of map"
    assert_allclose(ic.explain(net, "stem", IMAGE, output=1).score.value, maps[0, 1].max(), rtol=1e-12)
    e = ic.explain(net, "stem", IMAGE, output=("flat", 7))
    assert_allclose(e.score.value, flat[0, 7], rtol=1e-12)
    assert_allclose(e.doutput.ravel(), np.arange(flat.shape[1]) == 7)
    unread = ic.explain(net, "map", IMAGE, output=("flat", 7))
    assert not unread.doutput.any()
    assert not unread.gradients["weight"].any()
    with pytest.raises(ic.ShapeError, match="no output 'maps'; names like it are: map"):
        ic.explain(net, "stem", IMAGE, output=("maps", 1))


def test_layers_after_the_scores_are_explained_too():
    layers = {"fc": ic.Linear(4, 3), "p": (ic.Softmax(1), "fc")}
    net = ic.Net(layers, outputs=["p"], scores=["fc"]).init(0, "float64")
    image = normal(4)
    assert_allclose(ic.explain(net, "fc", image).score.value, net.predict(image[None], scores=True).max(), rtol=1e-12)
    e = ic.explain(net, "p", image, output=0)
    assert_allclose(e.score.value, net.predict(image[None])[0, 0], rtol=1e-12)


class Doubled(ic.Conv2d):
    """A convolution that gives twice what it says."""

    def forward(self, x, ctx):
        return 2 * super().forward(x, ctx)

    def backward(self, dy, ctx):
        return super().backward(2 * dy, ctx)


def test_a_class_that_defines_its_own_forward_pass_is_no_convolution():
    net = ic.Sequential([Doubled(2, 3, 3), ic.Flatten(), ic.Linear(24, 2)]).init(0, "float64")
    e = ic.explain(net, 0, IMAGE)
    assert (e.kind, e.window, e.columns, e.formula) == (
        "other",
        None,
        None,
        "A convolution that gives twice what it says",
    )
    with pytest.raises(ic.ShapeError, match="has no window"):
        e.fold(np.zeros(3))


@pytest.mark.parametrize(
    ("layer", "image", "options", "message"),
    [
        ("conv", IMAGE, {}, r"no layer 'conv'; there are: 0, 1"),
        ("62", IMAGE, {}, r"no layer '62'; names like it are: 6"),
        (7, IMAGE, {}, "has 7 layers, from 0 to 6"),
        (ic.ReLU(), IMAGE, {}, "is not a layer of the network"),
        (None, IMAGE, {}, "name of a layer"),
        ("0", IMAGE[:1], {}, "2 input channels"),
        ("0", normal(2, 2, 6, 4), {}, "expected"),
        ("0", IMAGE > 0, {}, "must be uint8"),
        ("0", IMAGE * np.nan, {}, "NaN"),
        ("0", IMAGE, {"output": 3}, r"outside of the network's output, of shape \(3,\)"),
        ("0", IMAGE, {"output": (0, 1)}, "outside"),
        ("0", IMAGE, {"output": "cat"}, "no class 'cat': the names of the classes are not known"),
        ("0", IMAGE, {"backend": "nothing"}, "nothing"),
    ],
)
def test_what_is_not_there_is_said(layer, image, options, message):
    with pytest.raises(ic.Im2colnetError, match=message):
        ic.explain(small(), layer, image, **options)


def test_what_is_no_network_or_has_no_parameters_is_refused():
    with pytest.raises(ic.ShapeError, match="takes a network"):
        ic.explain(ic.ReLU(), 0, IMAGE)
    with pytest.raises(ic.ShapeError, match="no parameters yet"):
        ic.explain(ic.Sequential([ic.Conv2d(1, 2, 3)]), 0, IMAGE)
    net = ic.Sequential([ic.Residual(ic.Sequential([ic.Conv2d(2, 2, 1), ic.ReLU()]))]).init()
    with pytest.raises(ic.ShapeError, match=r"network of 3 layers: name one of them, such as '0\.body"):
        ic.explain(net, 0, IMAGE)


def test_positions_and_channels_that_are_not_there_are_refused():
    e = ic.explain(small(), 0, IMAGE)
    assert abs(e.doutput[1][e.position(channel=1)]) == abs(e.doutput[1]).max() > 0
    assert e.position((5, 3)) == (5, 3)
    with pytest.raises(ic.ShapeError, match=r"position \(6, 0\) is outside of the 6×4 positions"):
        e.position((6, 0))
    with pytest.raises(ic.ShapeError, match="channel 4 is outside of the 4 channels"):
        e.channel(4)


def test_the_network_is_as_it_was():
    net = small()
    before, output = net.state_dict(), net.predict(IMAGE[None])
    ic.explain(net, 0, IMAGE)
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
    assert np.array_equal(net.predict(IMAGE[None]), output)


def test_numbers_that_are_not_finite_are_shown_as_such(tmp_path):
    net = small()
    net.load_state_dict(net.state_dict() | {"0.weight": np.full((4, 2, 3, 3), np.nan)})
    e = ic.explain(net, 0, IMAGE)
    assert "nan" in str(e)
    e.save(tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["score"]["value"] is None


@pytest.mark.parametrize(
    ("layer", "shape"), [(ic.Conv2d(64, 1, 8), (64, 27, 27)), (ic.ConvTranspose2d(1, 64, 8), (1, 20, 20))], ids=repr
)
def test_a_lowered_matrix_of_more_than_a_million_numbers_is_not_among_the_facts(layer, shape):
    e = explained(layer, shape)
    assert e.columns.size > 1_000_000
    facts = e.facts()
    assert [facts[name] for name in ("columns", "sources", "dcolumns", "picked")] == [None] * 4


def test_saving_by_the_end_of_the_name(tmp_path):
    e = ic.explain(small(), 3, IMAGE)
    e.save(tmp_path / "e.json")
    facts = json.loads((tmp_path / "e.json").read_text())
    assert facts["kind"] == "pooling"
    assert facts["window"]["kernel_size"] == [2, 2]
    assert_allclose(facts["output"], e.output)
    with pytest.raises(ic.ShapeError, match=r"must end with one of \.html, \.svg"):
        e.save(tmp_path / "e.pdf")
