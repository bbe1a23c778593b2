"""The text of an explanation: an example that was worked by hand, and the width that it keeps to."""

import numpy as np
import pytest
from helpers import explained, layer_examples, normal

import im2colnet as ic
from im2colnet.show.explain_text import numbers

EXAMPLES = layer_examples(most=4)

#: the windows of [[1, 2, 3], [4, 5, 6], [7, 8, 9]] by [[1, 2], [3, -1]] give 12, 17, 27, 32, and the score is
#: 12 - 17 + 2·27; so the gradient of the output is [[1, -1], [2, 0]], and that of the pixel 4, to take one, is
#: 2·1 of the window below it and 1·3 of the one above
BY_HAND = """\
layer    0: Conv2d(1, 1, 2, bias=False)
formula  y = w · im2col(x)
input    1×3×3
windows  2×2 of 2×2, stride 1
columns  4×4: one for each window
pixels   each is read by 1 to 4 windows
output   1×2×2
work     32 FLOPs, 4 parameters
score    output 0 = 49

the input: the window of output (1, 0) in brackets
   0  1  2
0  1  2  3
1 [4][5] 6
2 [7][8] 9

the product: column 2 of the lowered matrix, the window, times filter 0, row 0
of the weight, is output (0, 1, 0)
k    tap (i, j)  pixel   x   w  x · w
─────────────────────────────────────
0    (0, 0)      (1, 0)  4   1      4
1    (0, 1)      (1, 1)  5   2     10
2    (1, 0)      (2, 0)  7   3     21
3    (1, 1)      (2, 1)  8  -1     -8
─────────────────────────────────────
sum                                27

4·1 + 5·2 + 7·3 + 8·(-1) = 27

the way back: the gradient of the score by output (0, 1, 0) is 2; wᵀ times the
gradients of all filters at this position is the column's gradient, and col2im
adds up the gradients of all windows that read a pixel
k  pixel   of the column  of the pixel  windows
───────────────────────────────────────────────
0  (1, 0)              2             5        2
1  (1, 1)              4             0        4
2  (2, 0)              6             6        1
3  (2, 1)             -2            -2        2"""


def by_hand():
    net = ic.Sequential([ic.Conv2d(1, 1, 2, bias=False), ic.Flatten(), ic.Linear(4, 1, bias=False)])
    net.init(0, "float64")
    net.load_state_dict({"0.weight": [[[[1, 2], [3, -1]]]], "2.weight": [[1, -1, 2, 0]]})
    return ic.explain(net, 0, np.arange(1.0, 10).reshape(3, 3))


def test_an_example_worked_by_hand():
    assert by_hand().text(80) == BY_HAND


def test_str_is_the_text_and_a_notebook_shows_it():
    e = by_hand()
    assert str(e) == e.text(100)
    assert "4·1 + 5·2 + 7·3 + 8·(-1) = 27" in e._repr_html_()
    assert repr(e) == "<Explanation of layer '0', Conv2d(1, 1, 2, bias=False): output 0 = 49>"


def test_the_window_is_coloured_where_that_is_wanted():
    coloured = by_hand().text(80, color=True)
    assert "\x1b[1;38;5;208m[4]\x1b[0m" in coloured
    for code in "\x1b[1;38;5;208m", "\x1b[0m":
        coloured = coloured.replace(code, "")
    assert coloured == BY_HAND


@pytest.mark.parametrize("width", [100, 60])
@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_every_layer_has_a_text_that_keeps_to_the_width(case, layer, shapes, width):
    e = explained(layer, *shapes, domain=case.domain)
    text = e.text(width)
    assert text.startswith(f"layer    {e.layer}: ")
    assert max(map(len, text.split("\n"))) <= width
    assert "nan" not in text.lower() or np.isnan(e.output).any()


def test_a_large_image_is_shown_around_the_window():
    net = ic.Sequential([ic.Conv2d(3, 2, 3), ic.GlobalAvgPool2d(), ic.Flatten()]).init()
    e = ic.explain(net, 0, np.random.default_rng(0).integers(0, 256, (3, 50, 60), dtype=np.uint8))
    text = e.text(80, (40, 50), 1)
    assert "rows 32 to 49 of 50, columns" in text.replace("\n", " ")
    assert "more" in text  # 27 products, of which 12 are shown
    assert text.count("[") == 9


def test_what_is_read_where_there_is_padding():
    net = ic.Sequential([ic.MaxPool2d(3, stride=2, padding=1), ic.Flatten()]).init()
    text = ic.explain(net, 0, normal(1, 4, 4)).text(80, (0, 0))
    assert text.count("padding") == 2 + 2 * 5  # in the layer and its windows, and of five taps in two tables
    assert "-inf" not in text


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, -2, 30000], ["1", "-2", "30000"]),
        ([0.5, -0.0001], ["0.500", "0.000"]),
        ([50.256, 1], ["50.26", "1.00"]),
        ([1e-5, 0], ["1.00e-05", "0.00e+00"]),
        ([np.nan, 1], ["nan", "1"]),
        ([], []),
    ],
)
def test_numbers_of_one_form(values, texts):
    assert numbers(values) == texts
