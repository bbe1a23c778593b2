"""Pictures of an explanation: what they show is marked, whatever the layer and its size."""

import io
import time

import numpy as np
import pytest
from helpers import explained, layer_examples
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.show.explain_plots import PARTS, lowered_rows, number_text, parts_of

pytest.importorskip("matplotlib")

KINDS = [
    ic.Conv2d(4, 5, 3, stride=(2, 1), padding=((2, 0), (1, 3)), dilation=(1, 2)),
    ic.Conv2d(4, 8, 3, padding="same", groups=4),
    ic.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"),
    ic.Conv2d(4, 4, 2, stride=3, dilation=2, bias=False),
    ic.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    ic.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    ic.AdaptiveAvgPool2d((5, 3)),
    ic.GlobalAvgPool2d(),
    ic.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
]


def titles(figure):
    """All titles in a figure."""
    found = [axes.get_title("left") for axes in figure.axes]
    return [*found, *(part.get_suptitle() for part in figure.subfigs)]


@pytest.mark.parametrize(("case", "layer", "shapes"), layer_examples(most=1))
def test_every_layer_is_drawn(case, layer, shapes):
    e = explained(layer, *shapes, domain=case.domain)
    figure = e.plot()
    assert len(figure.subfigs) == len([part for part in parts_of(e) if part != "rows"])
    for part in parts_of(e):
        e.plot(part)


@pytest.mark.parametrize("layer", KINDS, ids=repr)
def test_windows_of_every_kind_are_drawn_at_every_corner(layer):
    e = explained(layer, (4, 9, 8))
    OH, OW = e.window.output_size
    for position in {(0, 0), (OH - 1, OW - 1), (0, OW - 1)}:
        for part in parts_of(e):
            e.plot(part, position, channel=len(e.output) - 1).canvas.draw()


def test_the_texts_of_a_convolution_tell_its_numbers():
    net = ic.Sequential([ic.Conv2d(1, 1, 2), ic.Flatten(), ic.Linear(9, 1)]).init(0, "float64")
    ones = {"2.weight": np.ones((1, 9)), "2.bias": [0.0]}
    net.load_state_dict({"0.weight": np.array([[[[1.0, 2], [3, -1]]]]), "0.bias": [7.0], **ones})
    e = ic.explain(net, 0, np.arange(16.0).reshape(4, 4))
    found = titles(e.plot(position=(1, 1)))
    assert "the lowered matrix, 4×9: column 4 is the window" in found
    assert "one number of the product: the sum of the 4 products = 34 + bias 7 → 41" in found
    assert any(text.startswith("the way back of output 0 = 369: wᵀ") for text in found)
    texts = [text.get_text() for text in e.plot("product", (1, 1)).axes[2].texts]
    assert texts[:4] == ["5", "12", "27", "-10"]


def test_the_marked_rows_of_the_library_s_layout_are_the_window_of_an_output_row():
    for layer in KINDS[:4]:
        e = explained(layer, (4, 9, 8))
        (KH, KW), (OH, OW) = e.window.kernel_size, e.window.output_size
        for channel, r in np.ndindex(len(e.output), OH):
            L, _ = lowered_rows(e, channel)
            rows = L[[r * e.window.stride[0] + i * e.window.dilation[0] for i in range(KH)]]
            per = len(e.output) // e.window.groups
            weight = e.weight[channel // per, channel % per].reshape(-1, KH, KW).transpose(1, 2, 0)
            found = weight.ravel() @ rows.reshape(-1, OW) + (0 if e.bias is None else e.bias[channel])
            assert_allclose(found, e.output[channel, r], rtol=1e-10, atol=1e-12)


def test_a_large_layer_is_drawn_in_part_and_quickly():
    layers = [ic.Conv2d(3, 512, 3, stride=2, padding=1), ic.Conv2d(512, 16, 3, padding=1)]
    net = ic.Sequential([*layers, ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(16, 10)]).init()
    image = np.random.default_rng(0).integers(0, 256, (3, 96, 112), dtype=np.uint8)
    for layer in 0, 1:
        e = ic.explain(net, layer, image)
        start = time.process_time()
        figure = e.plot()
        figure.savefig(io.BytesIO(), format="png")
        assert time.process_time() - start < 20
        assert "columns" not in vars(e)  # 4,608 x 2,688 numbers
        assert any("rows" in text and " of 96" in text for text in titles(figure)) == (layer == 0)
        assert any(f"rows 0-63 of {len(e.columns_at(0, [0]))}" in text for text in titles(figure)) == (layer == 1)


def test_the_name_of_a_class_is_no_formula():
    e = explained(KINDS[0], (4, 9, 8))
    e.score = e.score._replace(name="class $\\frac$\a")
    figure = e.plot("gradient")
    figure.canvas.draw()
    assert any(text.startswith(r"the way back of class $\frac$\x07 = ") for text in titles(figure))


def test_parts_that_a_layer_has_not_are_named():
    e = explained(ic.ReLU(), (4, 6, 5))
    with pytest.raises(ic.ShapeError, match="has no part 'columns': there are 'input', 'product', 'gradient'"):
        e.plot("columns")
    with pytest.raises(ic.ShapeError, match=f"part must be one of {', '.join(PARTS)}, got 'colums'"):
        e.plot("colums")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures_are_written_the_same_each_time(tmp_path, ending, start):
    e = explained(KINDS[0], (4, 9, 8))
    files = [tmp_path / f"{i}.{ending}" for i in range(2)]
    for file in files:
        e.save(file, "columns", (1, 2), 3)
    assert files[0].read_bytes().startswith(start)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert e.plot("columns")._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="viz"):
        explained(ic.ReLU(), (4, 6, 5)).plot()


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, -2, 300], ["1", "-2", "300"]),
        ([0.5, -0.001, 2], ["0.50", "0.00", "2.00"]),
        ([50.26, 1], ["50.3", "1.0"]),
        ([1e-5, 2e-5], ["1.0e-05", "2.0e-05"]),
        ([12345.5, 1], ["1.2e+04", "1.0e+00"]),
        ([-np.inf, 1], ["-∞", "1"]),
    ],
)
def test_numbers_are_written_alike(values, texts):
    write = number_text(np.array(values, float))
    assert [write(value) for value in values] == texts
