"""What layers say of themselves: their call, and the operations that they take."""

import pytest

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def test_reprs_are_the_calls_that_make_them():
    layers = [
        ic.Conv2d(3, 4, (3, 2), padding=((1, 0), (2, 2))),
        ic.ConvTranspose2d(2, 3, 2, 2),
        ic.MaxPool2d(2),
        ic.BatchNorm2d(3, affine=False),
    ]
    for layer in [*layers, ic.Dropout(0.1), ic.ReLU(), ic.ZeroPadShortcut(3, 4, 2), ic.AvgPool2d(3), ic.Linear(2, 3)]:
        again = eval(repr(layer), vars(ic))
        assert type(again) is type(layer)
        assert again.config() == layer.config()


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (ic.Conv2d(3, 4, 3), (6, 3, 6, 2), 2 * 27 * (4 * 4 * 4 * 2) + 128),
        (ic.Conv2d(4, 4, 3, groups=4, bias=False, padding=1), (6, 4, 6, 1), 2 * 9 * 4 * 36),
        (ic.ConvTranspose2d(3, 4, 2, 2, padding=1), (6, 3, 5, 2), 2 * 16 * (6 * 3 * 5 * 2) + 10 * 4 * 8 * 2),
        (ic.ConvTranspose2d(4, 8, 3, groups=4, bias=False), (6, 4, 6, 1), 2 * 18 * 4 * 36),
        (ic.Linear(10, 5), (10, 3), 3 * (2 * 10 * 5 + 5)),
        (ic.MaxPool2d(2), (4, 1, 4, 1), 4 * 3),
        (ic.AvgPool2d(2), (4, 1, 4, 1), 4 * 4),
        (ic.Flatten(), (4, 1, 4, 1), 0),
    ],
)
def test_flops(layer, shape, flops):
    assert layer.flops(shape, layer.output_shape(shape)) == flops
