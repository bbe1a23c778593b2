"""What a network sees, beside finite differences, naive loops and a network whose answer is known."""

import numpy as np
import pytest
from helpers import normal
from numpy.testing import assert_allclose, assert_array_equal

import im2colnet as ic
from im2colnet import visualize


def network(dtype="float64", backend=None):
    layers = [ic.Conv2d(2, 4, 3, padding=1), ic.BatchNorm2d(4), ic.SiLU(), ic.AvgPool2d(2), ic.Flatten()]
    return ic.Sequential([*layers, ic.Linear(48, 5)]).init(0, dtype, backend)


def pictures(n=3, seed=0):
    return np.random.default_rng(seed).random((n, 2, 8, 6))


# ---------------------------------------------------------------------- filters and maps


def test_filters_are_a_copy_of_the_weight():
    net = network()
    found = visualize.filters(net, "0")
    assert_array_equal(found, net.parameters()["0.weight"])
    found[...] = 0
    assert np.abs(net.parameters()["0.weight"]).min() > 0
    assert_array_equal(visualize.filters(net, -6), visualize.filters(net, 0))


def test_filters_of_a_layer_in_a_network():
    net = ic.models.resnet18(classes=10).init(seed=0)
    assert_array_equal(visualize.filters(net, "layer1.0.conv1"), net.parameters()["layer1.0.conv1.weight"])


def test_feature_maps_of_one_image_and_of_several():
    net, images = network(), pictures()
    found = visualize.feature_maps(net, 0, images)
    assert_allclose(found, net.features(images, "0"))
    assert_allclose(visualize.feature_maps(net, "0", images[1]), found[1], rtol=1e-12)
    assert visualize.feature_maps(net, "5", images[1]).shape == (5,)


# ---------------------------------------------------------------------- saliency


def test_the_gradient_is_that_of_finite_differences(every_backend):
    net, images, step = network(backend=every_backend), pictures(), 1e-5
    classes = [4, 0, 2]
    expected = np.zeros(images.shape)
    for place in np.ndindex(images.shape):
        more, less = images.copy(), images.copy()
        more[place] += step
        less[place] -= step
        rise = net.predict(more) - net.predict(less)
        expected[place] = rise[place[0], classes[place[0]]] / (2 * step)
    assert_allclose(visualize.saliency(net, images, classes), np.abs(expected).max(axis=1), atol=1e-8)
    times = visualize.saliency(net, images, classes, "gradient_times_input")
    assert_allclose(times, (expected * images).sum(axis=1), atol=1e-8)
    assert_allclose(visualize.saliency(net, images[1], 0), np.abs(expected[1]).max(axis=0), atol=1e-8)


def occluded(net, image, target, patch, stride, fill):
    """The mean fall over the patches, pixel by pixel."""
    (_, H, W), (h, w), (down, across) = image.shape, patch, stride
    rows = sorted({*range(0, H - h + 1, down), H - h})
    columns = sorted({*range(0, W - w + 1, across), W - w})
    score = net.predict(image[None])[0, target]
    falls = {}
    for r in rows:
        for c in columns:
            covered = image.copy()
            for channel in range(len(image)):
                covered[channel, r : r + h, c : c + w] = image[channel].mean() if fill is None else fill
            falls[r, c] = score - net.predict(covered[None])[0, target]
    found = np.zeros((H, W))
    for i in range(H):
        for j in range(W):
            mine = [fall for (r, c), fall in falls.items() if r <= i < r + h and c <= j < c + w]
            found[i, j] = np.mean(mine) if mine else 0
    return found


@pytest.mark.parametrize(
    ("options", "patch", "stride", "fill"),
    [
        ({}, (2, 1), (1, 1), None),
        ({"patch": 3}, (3, 3), (1, 1), None),
        ({"patch": (3, 2), "stride": (3, 1), "fill": 0.5}, (3, 2), (3, 1), 0.5),
        ({"patch": 1, "stride": 3, "fill": 0}, (1, 1), (3, 3), 0),
    ],
)
def test_occlusion_is_that_of_a_naive_loop(options, patch, stride, fill):
    net, images = network(), pictures()
    found = visualize.saliency(net, images, 3, "occlusion", **options)
    for map_, image in zip(found, images, strict=True):
        assert_allclose(map_, occluded(net, image, 3, patch, stride, fill), rtol=1e-9, atol=1e-12)


def test_occlusion_in_several_batches(every_backend):
    net, image = network(backend=every_backend), pictures(1)[0]
    big = np.tile(image, (1, 2, 2))
    layers = [ic.Conv2d(2, 3, 3), ic.AdaptiveAvgPool2d(1), ic.Flatten(), ic.Linear(3, 4)]
    net = ic.Sequential(layers).init(0, "float64", every_backend)
    found = visualize.saliency(net, big, 1, "occlusion", patch=2, stride=1)  # 15 x 11 patches
    assert_allclose(found, occluded(net, big, 1, (2, 2), (1, 1), None), rtol=1e-9, atol=1e-12)


def test_by_default_the_class_of_the_largest_score():
    net, images = network(), pictures()
    classes = net.predict(images).argmax(axis=1)
    for method in "gradient", "gradient_times_input", "occlusion":
        found = visualize.saliency(net, images, method=method)
        assert_array_equal(found, visualize.saliency(net, images, classes, method))


def test_pixels_that_are_not_read_are_not_salient():
    """A score that reads one pixel alone."""
    net = ic.Sequential([ic.Flatten(), ic.Linear(12, 2)]).init(0, "float64")
    state = net.state_dict()
    state["1.weight"] = np.zeros((2, 12))
    state["1.weight"][1, 7] = -3
    net.load_state_dict(state)
    image = np.full((1, 3, 4), 0.5)
    expected = np.zeros((3, 4))
    expected[1, 3] = 3
    assert_allclose(visualize.saliency(net, image, 1), expected)
    assert_allclose(visualize.saliency(net, image, 1, "gradient_times_input"), -0.5 * expected)
    assert_allclose(visualize.saliency(net, image, 1, "occlusion", patch=1, fill=0), -0.5 * expected)


def test_uint8_images_and_names_of_classes():
    train, _ = ic.datasets.load("digits")
    net = ic.Sequential([ic.Conv2d(1, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(144, 10)])
    ic.Trainer(net, optimizer=ic.SGD(lr=0.05), seed=0).fit(train, epochs=1, batch_size=64)
    name = net.inputs.classes[7] if net.inputs.classes else 7
    found = visualize.saliency(net, train.images[0], name)
    assert_allclose(found, visualize.saliency(net, train.images[0] / np.float32(255), 7), rtol=1e-4, atol=1e-6)
    occlusion = visualize.saliency(net, train.images[0], name, "occlusion")
    assert_allclose(occlusion, visualize.saliency(net, train.images[0] / 255, 7, "occlusion"), atol=1e-5)


# ---------------------------------------------------------------------- maximize


def activation(net, layer, channel, image):
    return net.features(image[None], layer)[0, channel].mean()


def test_maximize_raises_the_activation(every_backend):
    net = network("float32", every_backend)
    for layer, channel in ("0", 1), ("2", 3), ("5", 2):
        options = {"input_shape": (2, 8, 6), "seed": 5}
        first = visualize.maximize(net, layer, channel, steps=1, lr=0, decay=0, smooth=0, **options)
        found = visualize.maximize(net, layer, channel, **options)
        assert found.dtype == np.float32
        assert found.shape == (2, 8, 6)
        assert found.min() >= 0
        assert found.max() <= 1
        assert activation(net, layer, channel, found) > activation(net, layer, channel, first) + 0.01
        assert_array_equal(found, visualize.maximize(net, layer, channel, **options))
        others = np.random.default_rng(0).random((200, 2, 8, 6), dtype=np.float32)
        best = max(activation(net, layer, channel, other) for other in others)
        assert activation(net, layer, channel, found) > best


def test_of_a_linear_score_the_pixels_reach_the_end_of_their_range_on_the_side_of_their_weight():
    net = ic.Sequential([ic.Flatten(), ic.Linear(12, 3)]).init(0, "float64")
    found = visualize.maximize(net, 1, 2, input_shape=(1, 3, 4), decay=0, smooth=0, low=-2, high=3, lr=0.3)
    weight = net.parameters()["1.weight"][2].reshape(1, 3, 4)
    large = np.abs(weight) > 0.2 * np.abs(weight).max()
    assert_allclose(found[large], np.where(weight > 0, 3, -2)[large])


def test_several_channels_are_made_at_once_and_a_position_reads_its_window_alone():
    net = network()
    options = {"input_shape": (2, 8, 6), "steps": 5}
    both = visualize.maximize(net, "0", [2, 0], **options)
    assert_allclose(both[0], visualize.maximize(net, "0", 2, **options), rtol=1e-5)
    assert_allclose(both[1], visualize.maximize(net, "0", 0, **options), rtol=1e-5)
    flat = {"decay": 0, "smooth": 0, **options}
    before = visualize.maximize(net, "0", 2, **flat | {"lr": 0})
    changed = visualize.maximize(net, "0", 2, position=(3, 2), **flat) != before
    assert changed[:, 2:5, 1:4].all()
    assert changed.sum() == 18


def test_the_range_is_that_of_the_images_of_training():
    images = 4 * np.random.default_rng(0).random((32, 1, 6, 6), dtype=np.float32) - 1
    net = ic.Sequential([ic.Conv2d(1, 3, 3), ic.Flatten(), ic.Linear(48, 2)])
    ic.Trainer(net, seed=0).fit((images, np.arange(32) % 2), epochs=1, batch_size=16)
    found = visualize.maximize(net, "0", 1, lr=0.5)
    assert found.min() < -0.5
    assert found.max() > 2.5
    assert images.min() - 1e-6 <= found.min()
    assert found.max() <= images.max() + 1e-6


# ---------------------------------------------------------------------- drawings


def test_overlay_colours_by_sign_and_strength():
    image, strength = np.full((1, 2, 2), 0.5), np.array([[0, 2], [-2, 1]])
    found = visualize.overlay(image, strength)
    assert found.shape == (3, 2, 2)
    assert_allclose(found[:, 0, 0], 0.3)  # the image alone
    red, _, blue = found
    assert red[0, 1] > blue[0, 1]
    assert blue[1, 0] > red[1, 0]
    assert blue[0, 1] < blue[1, 1] < blue[0, 0]
    assert_allclose(visualize.overlay((255 * image).astype(np.uint8), strength), found, atol=0.01)


def test_a_sheet_draws_what_it_is_given():
    pytest.importorskip("matplotlib")
    arrays = [normal(3, 4), np.ones((1, 3, 4)), np.ones((3, 3, 4)), normal(5, 3, 4), np.zeros((2, 2), np.uint8)]
    figure = visualize.sheet(arrays, [*"abcd", "a $ in a title"], columns=2)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [*"abcd", "a $ in a title"]
    assert [axes.images[0].get_array().shape for axes in drawn] == [(3, 4), (3, 4), (3, 4, 3), (3, 24), (2, 2)]
    low, high = drawn[0].images[0].get_clim()
    assert high == -low == np.abs(arrays[0]).max()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_one_scale_for_all_pictures():
    pytest.importorskip("matplotlib")
    figure = visualize.sheet(np.stack([np.ones((2, 2)), np.full((2, 2), 4.0)]), shared=True)
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(0, 4), (0, 4)]
    figure = visualize.sheet(np.stack([np.ones((2, 2)), np.full((2, 2), 4.0)]))
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(0, 1), (0, 4)]


# ---------------------------------------------------------------------- errors


def two_outputs():
    layers = {"stem": ic.Conv2d(2, 4, 3), "left": (ic.Conv2d(4, 2, 1), "stem"), "right": (ic.Conv2d(4, 3, 3), "stem")}
    return ic.Net(layers, outputs=["left", "right"]).init(0)


WRONG = [
    (lambda: visualize.filters(network(), "9"), "no layer '9'"),
    (lambda: visualize.filters(network(), 17), "the network has 6 layers, got position 17"),
    (lambda: visualize.filters(network(), 1.5), "layer must be a name or a position"),
    (lambda: visualize.feature_maps(network(), "9", pictures()), "no layer '9'"),
    (lambda: visualize.feature_maps(network(), 0, np.zeros((8, 6))), "image must be one image"),
    (lambda: visualize.feature_maps(network(), 0, np.zeros((0, 2, 8, 6))), "must contain at least one image"),
    (lambda: visualize.saliency(network(), pictures(), method="magic"), "method must be"),
    (lambda: visualize.saliency(network(), pictures(), 5), "a class from 0 to 4, got 5"),
    (lambda: visualize.saliency(network(), pictures(), "cat"), "no class 'cat'"),
    (lambda: visualize.saliency(network(), pictures(), 1.5), "number or the name of a class"),
    (lambda: visualize.saliency(network(), pictures(), [0, 1]), "2 classes for 3 images"),
    (lambda: visualize.saliency(network(), pictures(), patch=3), 'for method="occlusion"'),
    (lambda: visualize.saliency(network(), pictures(), method="occlusion", patch=7), "larger than the image, 8 x 6"),
    (lambda: visualize.saliency(two_outputs(), pictures()), "one output, this one has 2"),
    (
        lambda: visualize.saliency(ic.Sequential([ic.Conv2d(2, 3, 3)]).init(0), pictures()),
        r"\(N, classes\); this one gives \(3, 3, 6, 4\)",
    ),
    (lambda: visualize.maximize(network(), 0, 0), "give input_shape"),
    (lambda: visualize.maximize(network(), 0, 4, input_shape=(2, 8, 6)), "channel must be from 0 to 3 in layer '0'"),
    (lambda: visualize.maximize(network(), 0, 0, input_shape=(2, 8, 6), position=(9, 0)), "position must be within"),
    (lambda: visualize.maximize(network(), 0, 0, input_shape=(2, 8, 6), low=1), "low must be less than high"),
    (lambda: visualize.maximize(network(), 0, 0, input_shape=(2, 8, 6), decay=2), "between 0 and 1"),
    (lambda: visualize.overlay(np.zeros((2, 2)), np.zeros((2, 3))), "the image's height and width"),
    (lambda: visualize.sheet([]), "at least one picture"),
    (lambda: visualize.sheet([np.zeros(3)]), r"got one of shape \(3,\)"),
    (lambda: visualize.sheet([np.zeros((2, 2))], ["a", "b"]), "1 arrays, but 2 titles"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises((ic.ShapeError, ic.DTypeError), match=message):
        call()


def test_layers_without_filters_are_told_which_have_them():
    net = network()
    with pytest.raises(ic.LayerError, match="layer '5' has no filters; layers with filters: 0"):
        visualize.filters(net, "5")
