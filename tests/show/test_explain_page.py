"""The interactive page of an explanation in a real browser: what lights up, beside naive loops over the window."""

import json
import re
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from browser import Browser, need

import im2colnet as ic
from im2colnet.testing.cases import LAYERS
from im2colnet.testing.inputs import input_shape_of, network_of

#: chromium reports a colour with its share of opacity, of 255, in the middle of a cell that is lit
LIT = 40
PAINTED = """
const over = document.querySelector(`#${arguments[0]} canvas + canvas`), copy = document.createElement("canvas");
[copy.width, copy.height] = [over.width, over.height];
const pen = copy.getContext("2d", {willReadFrequently: true});
pen.drawImage(over, 0, 0);
const rows = Number(over.dataset.rows), columns = Number(over.dataset.columns), found = [];
const all = pen.getImageData(0, 0, over.width, over.height);
for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
  const x = Math.floor((c + 0.5) * over.width / columns), y = Math.floor((r + 0.5) * over.height / rows);
  if (all.data[4 * (y * over.width + x) + 3] > arguments[1]) found.push([r, c]);
}
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    need("selenium", "chromium", "chromedriver")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.driver.quit()


class Page:
    """A page in the browser: it hovers, and tells what is lit."""

    def __init__(self, browser, folder, explained, **options):
        self.browser, self.driver, self.folder = browser, browser.driver, folder
        explained.save(folder / "page.html", **{"channel": 0} | options)
        self.driver.get(f"file://{folder}/page.html")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.browser.read_logs(f"file://{self.folder}")
        if error[0] is None:
            elsewhere, complaints = [*self.browser.elsewhere], [*self.browser.complaints]
        self.browser.forget()
        if error[0] is None:
            assert elsewhere == []
            assert complaints == []

    def element(self, id_):
        return self.driver.find_element("css selector", f"#{id_}")

    def canvas(self, grid):
        return self.driver.find_element("css selector", f"#{grid} canvas + canvas")

    def hover(self, grid, row, column):
        """Move the mouse to the middle of a cell, by its row and column in the grid."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.canvas(grid)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        rows, columns = (int(canvas.get_attribute(f"data-{name}")) for name in ("rows", "columns"))
        size = canvas.size
        x, y = (column + 0.5) * size["width"] / columns, (row + 0.5) * size["height"] / rows
        move = ActionChains(self.driver, duration=0)
        move.move_to_element_with_offset(canvas, int(x - size["width"] / 2), int(y - size["height"] / 2)).perform()

    def hover_pixel(self, row, column):
        """Move to a place of the image, which may lie in the padding."""
        top, left = self.driver.execute_script("return [ring.top + top0, ring.left + left0]")
        self.hover("image", row - top, column - left)

    def lit(self, grid, near=False):
        found = self.canvas(grid).get_attribute("data-near" if near else "data-lit")
        return sorted(map(tuple, json.loads(found)))

    def painted(self, grid):
        return sorted(map(tuple, self.driver.execute_script(PAINTED, grid, LIT)))

    def said(self):
        return self.element("said").text.replace("−", "-")

    def number(self, pattern):
        """The number after a word in what is said."""
        return float(re.search(rf"{pattern}:? (-?[\d.]+(?:e-?\d+)?)(?:[;,: ]|$)", self.said())[1])

    def choose(self, name, value):
        from selenium.webdriver.support.ui import Select

        Select(self.element(name)).select_by_index(value)

    def backward(self):
        self.element("backward").click()


def window_of(layer, r, c):
    """The pixels that the window of an output reads, tap by tap, by the definition."""
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, getattr(layer, "dilation", (1, 1))
    (top, _), (left, _) = layer.padding
    return [(r * sh - top + i * dh, c * sw - left + j * dw) for i, j in product(range(kh), range(kw))]


def plain(layer, size):
    """A layer's window in pairs, whatever the layer keeps it as."""
    window = layer.window
    return SimpleNamespace(
        kernel_size=window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        padding=window.padding,
        out=window.output_size(size),
    )


CONVOLUTIONS = {
    "padding": (ic.Conv2d(1, 4, 3, padding=1), (1, 5, 6)),
    "none": (ic.Conv2d(2, 3, (2, 3)), (2, 5, 6)),
    "stride and dilation": (ic.Conv2d(2, 4, 3, stride=2, dilation=2, padding=((1, 2), (3, 0))), (2, 9, 8)),
    "groups": (ic.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 5)),
    "depthwise": (ic.Conv2d(3, 3, 2, groups=3, stride=(1, 2)), (3, 4, 6)),
}


def explained(layer, shape, seed=0):
    features = int(np.prod(layer.output_shape((*shape[1:2], shape[0], shape[2], 1))))
    net = ic.Sequential([layer, ic.Tanh(), ic.Flatten(), ic.Linear(features, 3)]).init(seed, "float64")
    image = np.random.default_rng(seed).standard_normal(shape)
    return net, image, ic.explain(net, 0, image)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_pixel_lights_its_entries_and_outputs(browser, tmp_path, name):
    layer, shape = CONVOLUTIONS[name]
    _, image, e = explained(layer, shape)
    at = plain(layer, shape[1:])
    (OH, OW), taps = at.out, at.kernel_size[0] * at.kernel_size[1]
    with Page(browser, tmp_path, e) as page:
        for channel, (h, w) in ((0, (0, 0)), (shape[0] - 1, (3, 4)), (0, (2, 1))):
            if shape[0] > 1:
                page.choose("channel", channel)
            page.hover_pixel(h, w)
            per = shape[0] // layer.groups
            expected = [
                (channel % per * taps + k, r * OW + c)
                for r, c in product(range(OH), range(OW))
                for k, place in enumerate(window_of(at, r, c))
                if place == (h, w)
            ]
            assert page.lit("matrix") == sorted(expected)
            assert page.painted("matrix") == sorted(expected)
            outputs = sorted({divmod(p, OW) for _, p in expected})
            assert page.lit("map") == page.painted("map") == outputs
            assert page.lit("image") == [(h, w)]
            often = {0: "by no window", 1: "once"}.get(len(expected), f"{len(expected)} times")
            assert f"pixel ({h}, {w}) of channel {channel}" in page.said()
            assert f"read {often}" in page.said()
            assert page.number("value") == pytest.approx(image[channel, h, w], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_an_output_lights_its_window_its_column_and_its_row_of_the_weight(browser, tmp_path, name):
    layer, shape = CONVOLUTIONS[name]
    net, image, e = explained(layer, shape)
    at, weight = plain(layer, shape[1:]), net.parameters()["0.weight"]
    (OH, OW), per = at.out, shape[0] // layer.groups
    with Page(browser, tmp_path, e) as page:
        for f, (r, c) in product((0, len(weight) - 1), {(0, 0), (OH - 1, OW - 1)}):
            page.choose("filter", f)
            page.hover("map", r, c)
            window = window_of(at, r, c)
            assert page.lit("image") == sorted(window)
            rows = range(weight[0].size)
            assert page.lit("matrix") == page.painted("matrix") == [(k, r * OW + c) for k in rows]
            assert page.lit("strip") == page.painted("strip") == [(k, 0) for k in rows]
            assert page.lit("map") == page.painted("map") == [(r, c)]
            first = f // (len(weight) // layer.groups) * per
            value = net.parameters()["0.bias"][f]
            for channel, (h, w) in product(range(per), window):
                if 0 <= h < shape[1] and 0 <= w < shape[2]:
                    k = window.index((h, w))
                    value += weight[f, channel].ravel()[k] * image[first + channel, h, w]
            assert page.number("value") == pytest.approx(value, rel=1e-3, abs=1e-4)
            assert f"output ({r}, {c}) of filter {f}: window rows" in page.said()
            assert f"column {r * OW + c} of the matrix" in page.said()
            terms = page.driver.find_elements("css selector", "#terms tr")
            assert len(terms) == len(rows) + 2  # and the bias and the sum
            numbers = [float(term.text.split()[-1].replace("−", "-")) for term in terms]
            assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=2e-3)
            assert numbers[-1] == pytest.approx(value, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_way_back_adds_a_column_to_its_pixels(browser, tmp_path, name):
    layer, shape = CONVOLUTIONS[name]
    net, image, e = explained(layer, shape)
    at, weight = plain(layer, shape[1:]), net.parameters()["0.weight"]
    (OH, OW), per, taps = at.out, shape[0] // layer.groups, at.kernel_size[0] * at.kernel_size[1]
    slopes = net.input_gradient(image[None], np.eye(3)[[e.score.place[0]]])[0]
    with Page(browser, tmp_path, e) as page:
        page.backward()
        k, p = weight[0].size - 1, OH * OW - 1
        page.choose("channel", per - 1) if shape[0] > 1 else None
        page.hover("matrix", k, p)
        window = window_of(at, *divmod(p, OW))
        assert page.lit("image") == [window[k % taps]]
        assert page.lit("image", near=True) == sorted(window)
        assert page.lit("matrix") == page.painted("matrix") == [(k, p)]
        assert page.lit("matrix", near=True) == [(row, p) for row in range(weight[0].size)]
        filters = len(weight) // layer.groups
        entry = sum(weight[f].ravel()[k] * e.doutput[f].ravel()[p] for f in range(filters))
        assert page.number(f"row {k}, column {p} of the gradient of the matrix") == pytest.approx(entry, rel=1e-3)
        h, w = 2, 3
        page.hover_pixel(h, w)
        assert page.number("gradient of pixel .*?:") == pytest.approx(slopes[per - 1, h, w], rel=1e-3, abs=1e-6)
        entries = [
            ((per - 1) * taps + tap, r * OW + c)
            for r, c in product(range(OH), range(OW))
            for tap, place in enumerate(window_of(at, r, c))
            if place == (h, w)
        ]
        assert page.lit("matrix") == sorted(entries)


@pytest.mark.parametrize("layer", [ic.MaxPool2d(3, 2, padding=1), ic.AvgPool2d(2), ic.AvgPool2d(3, 2, padding=1)])
def test_pooling(browser, tmp_path, layer):
    shape = (2, 6, 7)
    _, image, e = explained(layer, shape)
    at = plain(layer, shape[1:])
    OW = at.out[1]
    with Page(browser, tmp_path, e) as page:
        page.choose("channel", 1)
        for r, c in (0, 0), (1, 2):
            page.hover("map", r, c)
            window = window_of(at, r, c)
            inside = [(h, w) for h, w in window if 0 <= h < 6 and 0 <= w < 7]
            values = [image[1, h, w] for h, w in inside]
            if isinstance(layer, ic.MaxPool2d):
                best = inside[int(np.argmax(values))]
                assert page.lit("image") == [best]
                assert page.lit("image", near=True) == sorted(window)
                assert page.lit("matrix") == page.painted("matrix") == [(window.index(best), r * OW + c)]
                assert page.number("the maximum") == pytest.approx(max(values), rel=1e-3)
                assert f"pixel ({best[0]}, {best[1]})" in page.said()
            else:
                assert page.lit("image") == sorted(window)
                assert page.number("value") == pytest.approx(sum(values) / len(window), rel=1e-3)
        page.backward()
        page.hover_pixel(2, 3)
        assert page.number("gradient of pixel .*?:") == pytest.approx(e.dinputs[0][1, 2, 3], rel=1e-3, abs=1e-6)


def test_windows_of_different_sizes_have_no_padding(browser, tmp_path):
    _, image, e = explained(ic.AdaptiveAvgPool2d((2, 3)), (1, 5, 7))
    with Page(browser, tmp_path, e) as page:
        page.hover("map", 1, 1)
        assert page.lit("image") == sorted(product(range(2, 5), range(2, 5)))
        assert page.number("value") == pytest.approx(image[0, 2:5, 2:5].mean(), rel=1e-3)


def test_padding_that_repeats_pixels(browser, tmp_path):
    _, image, e = explained(ic.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), (1, 4, 5))
    with Page(browser, tmp_path, e) as page:
        page.hover_pixel(1, 1)  # at the corner it is read again, as the padding
        wide = np.pad(np.arange(20).reshape(4, 5), 1, mode="reflect")
        expected = [
            (3 * i + j, 5 * r + c)
            for r, c, i, j in product(range(4), range(5), range(3), range(3))
            if wide[r + i, c + j] == 6
        ]
        assert page.lit("matrix") == sorted(expected)
        page.hover_pixel(-1, -1)
        assert page.number("value") == pytest.approx(image[0, 1, 1], rel=1e-3)


def test_a_linear_layer(browser, tmp_path):
    net = ic.Sequential([ic.Flatten(), ic.Linear(12, 4)]).init(0, "float64")
    image = np.random.default_rng(0).standard_normal((1, 3, 4))
    with Page(browser, tmp_path, ic.explain(net, 1, image)) as page:
        page.hover("map", 0, 2)
        assert page.number("value") == pytest.approx(net.predict(image[None])[0, 2], rel=1e-3)
        assert page.lit("map") == [(0, 2)]
        page.hover("image", 0, 7)
        assert page.lit("matrix") == [(7, 0)]
        assert page.number("input 7, value") == pytest.approx(image.ravel()[7], rel=1e-3)


@pytest.mark.parametrize("layers", [[ic.ReLU()], [ic.BatchNorm2d(3)], [ic.GroupNorm(3, 3)], [ic.Upsample(2)]])
def test_layers_without_a_lowered_matrix_show_input_and_output(browser, tmp_path, layers):
    net = ic.Sequential([*layers, ic.AdaptiveAvgPool2d(1), ic.Flatten()]).init(0, "float64")
    image = np.random.default_rng(0).standard_normal((3, 4, 5))
    e = ic.explain(net, 0, image)
    with Page(browser, tmp_path, e) as page:
        page.choose("channel", 1)
        page.hover("image", 2, 3)
        assert page.number(r"input \(2, 3\) of channel 1") == pytest.approx(image[1, 2, 3], rel=1e-3)
        page.hover("map", 1, 2)
        assert page.number(r"output \(1, 2\) of channel 1") == pytest.approx(e.output[1, 1, 2], rel=1e-3, abs=1e-6)
        page.backward()
        page.hover("image", 2, 3)
        assert page.number(r"gradient of input \(2, 3\) of channel 1") == pytest.approx(
            e.dinputs[0][1, 2, 3], rel=1e-3, abs=1e-6
        )


@pytest.mark.parametrize("layer", [ic.Add(), ic.Concat(), ic.Mul()], ids=repr)
def test_several_inputs_of_one_size(browser, tmp_path, layer):
    layers = {"one": ic.Conv2d(1, 2, 3, padding=1), "two": (ic.Conv2d(1, 2, 3, padding=1), "input")}
    layers |= {"join": (layer, "one", "two"), "end": ic.AdaptiveAvgPool2d(1), "flat": ic.Flatten()}
    net = ic.Net(layers).init(0, "float64")
    e = ic.explain(net, "join", np.random.default_rng(0).standard_normal((1, 4, 5)))
    with Page(browser, tmp_path, e) as page:
        page.choose("channel", 3)
        page.hover("image", 2, 4)
        assert page.number(r"input \(2, 4\) of channel 1 of input 1") == pytest.approx(e.inputs[1][1, 2, 4], rel=1e-3)
        out = 3 if isinstance(layer, ic.Concat) else 1
        assert page.number(rf"output \(2, 4\) of channel {out}") == pytest.approx(e.output[out, 2, 4], rel=1e-3)
        assert page.lit("map") == [(2, 4)]
        page.backward()
        assert page.number(r"gradient of input \(2, 4\) of channel 1 of input 1") == pytest.approx(
            e.dinputs[1][1, 2, 4], rel=1e-3, abs=1e-6
        )


def test_features_lie_in_rows(browser, tmp_path):
    net = ic.Sequential([ic.Flatten(), ic.Linear(12, 40), ic.Tanh(), ic.Linear(40, 3)]).init(0, "float64")
    e = ic.explain(net, 2, np.random.default_rng(0).standard_normal((1, 3, 4)))
    with Page(browser, tmp_path, e, channel=35) as page:
        assert page.number("output 35") == pytest.approx(e.output[35], rel=1e-3)
        page.hover("map", 1, 7)
        assert page.number("output 39") == pytest.approx(e.output[39], rel=1e-3)
        assert page.number("input 39") == pytest.approx(e.inputs[0][39], rel=1e-3)
        before = page.said()
        page.hover("map", 1, 20)  # after the last
        assert page.said() == before


@pytest.mark.parametrize("layer", [ic.Conv2d(1, 2, 2, bias=False), ic.ConvTranspose2d(1, 2, 2, bias=False)])
def test_without_a_bias_none_is_told(browser, tmp_path, layer):
    net = ic.Sequential([layer, ic.AdaptiveAvgPool2d(1), ic.Flatten()]).init(0, "float64")
    e = ic.explain(net, 0, np.random.default_rng(0).standard_normal((1, 4, 5)))
    with Page(browser, tmp_path, e) as page:
        page.hover("image" if isinstance(layer, ic.ConvTranspose2d) else "map", 1, 2)
        assert page.number(r"(?:output \(1, 2\) of channel 0|value)") == pytest.approx(e.output[0, 1, 2], rel=1e-3)
        assert "bias" not in page.said()


@pytest.mark.parametrize("channel", [0, 3])
def test_a_transposed_convolution_is_the_way_back_of_a_convolution(browser, tmp_path, channel):
    layer, shape, stride, top = ic.ConvTranspose2d(6, 4, 3, stride=2, padding=1, groups=2), (6, 3, 4), 2, 1
    net = ic.Sequential([layer, ic.Tanh(), ic.Flatten(), ic.Linear(4 * 5 * 7, 3)]).init(0, "float64")
    image = np.random.default_rng(0).standard_normal(shape)
    e, weight = ic.explain(net, 0, image), net.parameters()["0.weight"]
    group = channel // 2
    with Page(browser, tmp_path, e, channel=channel, position=(1, 2)) as page:
        # forward: every pixel of the input is multiplied with a kernel, which is added to the output
        assert page.lit("map") == [(1, 2)]
        assert page.lit("image") == [(h, w) for h in (1, 2, 3) for w in (3, 4, 5)]
        h, w = 2, 3
        page.hover_pixel(h, w)
        entries, value = [], net.parameters()["0.bias"][channel]
        for r, c, i, j in product(range(3), range(4), range(3), range(3)):
            if (r * stride - top + i, c * stride - top + j) == (h, w):
                entries.append((channel % 2 * 9 + 3 * i + j, r * 4 + c))
                for x in range(3 * group, 3 * group + 3):
                    value += image[x, r, c] * weight[x, channel % 2, i, j]
        assert page.lit("matrix") == page.painted("matrix") == sorted(entries)
        assert page.number(rf"output \({h}, {w}\) of channel {channel}:") == pytest.approx(value, rel=1e-3)
        assert value == pytest.approx(e.output[channel, h, w])
        k, p = entries[0]
        page.hover("matrix", k, p)
        entry = sum(
            image[x].ravel()[p] * weight[x, channel % 2].ravel()[k % 9] for x in range(3 * group, 3 * group + 3)
        )
        assert page.number(f"row {k}, column {p} of the matrix:") == pytest.approx(entry, rel=1e-3)
        # backward: a window of the output's gradient times the kernel is the gradient of a pixel of the input
        page.backward()
        page.choose("filter", 3 * group)
        page.hover("map", 1, 1)
        assert page.number(r"gradient of input \(1, 1\) of .*?value") == pytest.approx(
            e.dinputs[0][3 * group, 1, 1], rel=1e-3
        )
        page.hover_pixel(h, w)
        assert page.number("gradient of output .*?value") == pytest.approx(e.doutput[channel, h, w], rel=1e-3, abs=1e-6)
        assert page.lit("matrix") == sorted(entries)


def test_arrow_keys_move_and_the_focus_is_seen(browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    _, _, e = explained(*CONVOLUTIONS["padding"])
    with Page(browser, tmp_path, e, position=(1, 1)) as page:

        def press(*keys):
            ActionChains(page.driver, duration=0).send_keys(*keys).perform()

        for _ in range(10):
            press(Keys.TAB)
            if page.driver.switch_to.active_element == page.canvas("map"):
                break
        focused = page.canvas("map")
        assert page.driver.switch_to.active_element == focused
        assert focused.value_of_css_property("outline-style") == "solid"
        assert page.lit("map") == [(1, 1)]
        press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
        assert page.lit("map") == [(2, 2)]
        assert page.said().startswith("output (2, 2) of filter 0: window rows 1 to 3, columns 1 to 3")
        press(Keys.END)
        assert page.lit("map") == [(2, 5)]
        press(Keys.ARROW_RIGHT)
        assert page.lit("map") == [(2, 5)]
        assert "of 9 in the padding)" in page.said()
        assert page.element("said").get_attribute("aria-live") == "polite"
        assert focused.get_attribute("aria-label") == "The output of filter 0, 5 rows, 6 columns"


def test_both_themes_and_a_phone(browser, tmp_path):
    _, _, e = explained(*CONVOLUTIONS["padding"])
    seen = {}
    with Page(browser, tmp_path, e) as page:
        try:
            for theme in "light", "dark":
                page.driver.execute_cdp_cmd(
                    "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
                )
                page.browser.until("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")
                page.hover("map", 2, 2)
                style = "getComputedStyle(document.body)"
                seen[theme] = page.driver.execute_script(
                    f"return [{style}.color, {style}.backgroundColor, inks().lit,"
                    " document.querySelector('#map canvas').toDataURL()]"
                )
                brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen[theme][:2]]
                assert abs(brightness[0] - brightness[1]) > 400
            assert all(light != dark for light, dark in zip(seen["light"], seen["dark"], strict=True))
            page.driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
            )
            page.driver.refresh()
            assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360
            page.hover("map", 1, 1)
            assert page.lit("map") == page.painted("map") == [(1, 1)]
        finally:
            page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


LARGE = {
    "deep": (ic.Conv2d(64, 96, 3, padding=1), (64, 40, 40), (20, 31), 95),
    "wide": (ic.Conv2d(3, 16, 7, stride=2, padding=3), (3, 224, 224), (50, 60), 0),
    "in groups": (ic.Conv2d(256, 512, 3, padding=1, groups=2), (256, 14, 14), (0, 13), 300),
    "in many groups": (ic.Conv2d(96, 192, 5, padding=2, groups=32), (96, 28, 28), (14, 13), 100),
    "depthwise": (ic.Conv2d(512, 512, 3, padding=1, groups=512), (512, 14, 14), (7, 7), 200),
    "pooling": (ic.MaxPool2d(2), (64, 112, 112), (55, 0), 63),
}


@pytest.mark.parametrize("name", LARGE)
def test_of_a_large_layer_the_page_has_a_part(browser, tmp_path, name):
    layer, shape, position, channel = LARGE[name]
    net = ic.Sequential([layer, ic.AdaptiveAvgPool2d(1), ic.Flatten()]).init(0)
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    e = ic.explain(net, 0, image)
    groups = getattr(layer, "groups", shape[0])
    first = channel * groups // len(e.output) * (shape[0] // groups)
    with Page(browser, tmp_path, e, position=position, channel=channel) as page:
        assert (tmp_path / "page.html").stat().st_size < 2_000_000
        assert "The page shows" in page.driver.find_element("css selector", ".note").text
        assert page.lit("map") == [position]
        at = plain(layer, shape[1:])
        window = window_of(at, *position)
        value = e.output[channel][position]
        if isinstance(layer, ic.MaxPool2d):
            assert page.lit("image", near=True) == sorted(window)
            assert page.number("the maximum") == pytest.approx(value, rel=1e-3)
        else:
            assert page.lit("image") == sorted(window)
            assert page.number(f"of filter {channel}: .*?value") == pytest.approx(value, rel=1e-3)
        page.backward()
        h, w = window[len(window) // 2]
        page.hover_pixel(h, w)
        assert f"of channel {first}" in page.said()
        expected = e.dinputs[0][first, h, w]
        assert page.number("gradient of pixel .*?:") == pytest.approx(expected, rel=1e-3, abs=1e-7)


EVERYTHING = """
const said = () => document.getElementById("said").textContent, found = [said()];
for (const way of ["backward", "forward"]) {
  document.getElementById(way).click();
  found.push(said());
  for (const grid of grids.filter((grid) => !grid.hidden))
    for (const [r, c] of [[0, 0], [grid.rows - 1, grid.columns - 1]]) {
      grid.pick(r, c);
      found.push(said());
    }
}
return found;
"""


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: type(case.examples[0][0]).__name__)
def test_every_layer_has_a_page(browser, tmp_path, case):
    layer, *shapes = case.examples[-1]
    net = network_of(layer, *shapes).init(0, "float64")
    image = case.domain(np.random.default_rng(0).standard_normal((1, *input_shape_of(*shapes))))[0]
    name = next(node.name for node in net.graph.nodes if repr(node.layer) == repr(layer))
    with Page(browser, tmp_path, ic.explain(net, name, image)) as page:
        for words in page.driver.execute_script(EVERYTHING):
            assert words
            assert not re.search("NaN|undefined|Infinity", words)


# ---------------------------------------------------------------------- without a browser


def test_names_are_shown_and_never_obeyed(tmp_path):
    train = ic.datasets.Dataset(
        np.zeros((4, 1, 6, 6), np.uint8), np.arange(4) % 2, classes=["</script><script>alert(1)</script>", "&<b>"]
    )
    net = ic.Sequential([ic.Conv2d(1, 2, 3), ic.Flatten(), ic.Linear(32, 2)])
    ic.Trainer(net, seed=0).fit(train, epochs=1, batch_size=2)
    ic.explain(net, 0, train.images[0], output=0).save(tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert source.count("<script") == source.count("</script>") == 2
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in source


def test_the_policy_allows_the_page_s_own_script_and_style_alone(tmp_path):
    _, _, e = explained(*CONVOLUTIONS["padding"])
    e.save(tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)[1]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == parts["base-uri"] == parts["form-action"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", parts["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", parts["style-src"])
    assert not re.search(r"(?:src|href|action)=|url\(|@import|\son\w+=", source.split('id="facts"')[0])
