"""Shapes and arguments that do not fit are refused by the name of the layer."""

import pytest
from helpers import normal

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")

X = normal(2, 3, 6, 6, dtype="float32")


def inner(layer):
    return ic.Sequential([ic.ReLU(), ic.Residual(ic.Sequential([ic.Conv2d(3, 3, 1), layer])), ic.Flatten()])


@pytest.mark.parametrize(
    ("layer", "texts"),
    [
        (ic.Conv2d(4, 3, 3), ["expected 4 input channels, got 3", "(2, 3, 6, 6)"]),
        (ic.Conv2d(3, 3, 7), ["height", "input 6", "kernel 7"]),
        (ic.ConvTranspose2d(4, 3, 3), ["expected 4 input channels, got 3", "(2, 3, 6, 6)"]),
        (ic.ConvTranspose2d(3, 3, 2, padding=4), ["height", "(input 6 - 1) * stride 1", "padding 4+4", "= -1"]),
        (ic.BatchNorm2d(5), ["expected 5 channels, got 3"]),
        (ic.GroupNorm(2, 4), ["expected 4 channels, got 3", "(2, 3, 6, 6)"]),
        (ic.InstanceNorm2d(4), ["expected 4 channels, got 3", "(2, 3, 6, 6)"]),
        (ic.LayerNorm((3, 6, 5)), ["expected input of shape (N, *, 3, 6, 5)", "(2, 3, 6, 6)"]),
        (ic.RMSNorm(5), ["expected input of shape (N, *, 5)", "(2, 3, 6, 6)"]),
        (ic.MaxPool2d(7), ["height", "kernel 7"]),
        (ic.AvgPool2d((1, 8)), ["width", "kernel 8"]),
        (ic.ZeroPadShortcut(2, 4), ["expected 2 input channels, got 3"]),
        (ic.Linear(3, 2), ["expected features (N, 3)", "(2, 3, 6, 6)", "Flatten()"]),
        (ic.ReflectionPad2d((0, 0, 6, 1)), ["padding (6, 1) along the height must be less than the input's 6"]),
        (ic.CircularPad2d(7), ["padding (7, 7) along the height must be at most the input's 6"]),
        (ic.CircularPad2d((-2, 5, 0, 0)), ["padding (-2, 5) along the width must be at most the input's 4"]),
        (
            ic.ZeroPad2d((0, 0, -4, -2)),
            ["padding (-4, -2) along the height leaves nothing of the input,", "6 long"],
        ),
        (ic.Conv2d(3, 3, 3, padding=6, padding_mode="reflect"), ["padding (6, 6) along the height must be less"]),
        (ic.Unflatten(1, (2, 2)), ["the axis dim=1 has 3 numbers, which do not fit (2, 2): input shape (2, 3, 6, 6)"]),
        (ic.Softmax(4), ["dim=4 is not an axis of a value of shape (2, 3, 6, 6)"]),
        (ic.LogSoftmax(-4), ["dim=-4 is the batch axis of a value of shape (2, 3, 6, 6)"]),
        (ic.GLU(1), ["the axis dim=1 must have an even length, got 3: input shape (2, 3, 6, 6)"]),
        (ic.PReLU(2), ["num_parameters must be 1 or the number of channels, got 2 and 3"]),
        (ic.Resize(scale_factor=0.1), ["scale_factor=0.1 leaves no pixel", "(6, 6)"]),
        (ic.Upsample((0.1, 2)), ["scale_factor=(0.1, 2) leaves no pixel", "(6, 6)"]),
        (ic.PixelUnshuffle(4), ["downscale_factor=4 must divide height and width", "(2, 3, 6, 6)"]),
        (ic.Pad(((0, 0), (1, 1))), ["padding=((0, 0), (1, 1)) is for samples of 2 axes", "(2, 3, 6, 6)"]),
        (
            ic.Pad(((-1, -2), (0, 0), (0, 0))),
            ["padding (-1, -2) along the axis dim=1 leaves nothing of the input, which is 3 long"],
        ),
        (
            ic.Pad(((0, 3), (0, 0), (0, 0)), "reflect"),
            ["(0, 3) along the axis dim=1 must be less than"],
        ),
        (ic.PixelShuffle(2), ["multiple of upscale_factor² = 4, got 3", "(2, 3, 6, 6)"]),
        (ic.ChannelShuffle(2), ["groups must divide the channels, got 2 and 3"]),
        (ic.Reshape((5, -1)), ["a sample has 108 numbers, which do not fit (5, -1): input shape (2, 3, 6, 6)"]),
        (ic.Permute((0, 2, 1)), ["dims=(0, 2, 1) is for values of 3 axes with the batch, got 4"]),
        (ic.Transpose(1, 4), ["dim=4 is not an axis of a value of shape (2, 3, 6, 6)"]),
        (ic.Transpose(-4, 1), ["dim=-4 is the batch axis of a value of shape (2, 3, 6, 6)"]),
        (ic.Slice(1, 3), ["nothing is left of the axis dim=1: input shape (2, 3, 6, 6)"]),
        (ic.Slice(5), ["dim=5 is not an axis of a value of shape (2, 3, 6, 6)"]),
        (ic.WithConstant("sub", (2, 1, 1)), ["(2, 3, 6, 6) - (1, 2, 1, 1) do not fit: axes must be equal, or 1"]),
        (ic.WithConstant("pow", (3, 1, 1, 1)), ["(3, 1, 1, 1) has more axes than a sample", "(2, 3, 6, 6)"]),
        (ic.Mean((1, -3)), ["dim=(1, -3) names an axis twice: input shape (2, 3, 6, 6)"]),
        (ic.Mean((1, 2, 3)), ["removes all axes of a sample: give keepdim=True; input shape (2, 3, 6, 6)"]),
    ],
    ids=lambda value: repr(value) if isinstance(value, ic.Layer) else "",
)
@pytest.mark.parametrize("training", [True, False])
def test_shape_errors_name_the_layer(layer, texts, training):
    net = inner(layer).init(0)
    with pytest.raises(ic.ShapeError) as error:
        ic.Trainer(net).step(X, [0, 0]) if training else net.predict(X)
    for text in ("layer '1.body.1'", repr(layer), type(layer).__name__, *texts):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("layers", "texts"),
    [
        ([ic.Flatten(), ic.Conv2d(3, 3, 3)], ["'1'", "Conv2d", "expected images (N, C, H, W)", "(2, 108)"]),
        ([ic.Flatten(), ic.MaxPool2d(2)], ["'1'", "MaxPool2d", "expected images"]),
        ([ic.Flatten(), ic.BatchNorm2d(2)], ["'1'", "BatchNorm2d", "expected images"]),
        ([ic.Flatten(), ic.BatchNorm1d(2)], ["'1'", "BatchNorm1d", "expected 2 channels, got 108"]),
        ([ic.Conv2d(3, 2, 1), ic.BatchNorm1d(2)], ["BatchNorm1d", "(N, 2, L)", "(2, 2, 6, 6)", "BatchNorm2d"]),
        ([ic.Flatten(), ic.InstanceNorm2d(2)], ["'1'", "InstanceNorm2d", "expected images"]),
        ([ic.Flatten(), ic.LocalResponseNorm(2)], ["'1'", "LocalResponseNorm", "expected images"]),
        ([ic.GlobalAvgPool2d(), ic.InstanceNorm2d(3)], ["'1'", "more than one pixel", "(2, 3, 1, 1)"]),
        ([ic.Flatten(), ic.LayerNorm((1, 2, 108))], ["'1'", "LayerNorm", "(N, *, 1, 2, 108)", "(2, 108)"]),
        ([ic.Flatten(), ic.AdaptiveAvgPool2d(1)], ["'1'", "AdaptiveAvgPool2d", "expected images"]),
        ([ic.Flatten(), ic.AdaptiveMaxPool2d(2)], ["'1'", "AdaptiveMaxPool2d", "expected images"]),
        ([ic.Flatten(), ic.PixelShuffle(2)], ["'1'", "PixelShuffle", "expected images"]),
        ([ic.Flatten(), ic.ChannelShuffle(2)], ["'1'", "ChannelShuffle", "expected images"]),
        ([ic.Flatten(), ic.Dropout2d()], ["'1'", "Dropout2d", "expected images"]),
        ([ic.Flatten(), ic.ZeroPad2d(1)], ["'1'", "ZeroPad2d", "expected images"]),
        ([ic.Flatten(), ic.ReflectionPad2d(1)], ["'1'", "ReflectionPad2d", "expected images"]),
        ([ic.Flatten(), ic.GlobalAvgPool2d()], ["'1'", "GlobalAvgPool2d", "expected images"]),
        ([ic.Flatten(), ic.ZeroPadShortcut(2, 2)], ["'1'", "ZeroPadShortcut", "expected images"]),
        ([ic.Reshape((3, 36)), ic.Linear(6, 2)], ["'1'", "expected features (N, 6), or (N, ..., 6)", "(2, 3, 36)"]),
        ([ic.Flatten(), ic.Linear(100, 2)], ["'1'", "Linear", "expected 100 input features, got 108"]),
        ([ic.Residual(ic.Conv2d(3, 4, 1))], ["'0.add'", "must agree", "(2, 4, 6, 6)", "(2, 3, 6, 6)"]),
        ([ic.Residual(ic.Conv2d(3, 4, 1), ic.Conv2d(3, 4, 1, 2))], ["'0.add'", "(2, 4, 6, 6)", "(2, 4, 3, 3)"]),
        ([ic.Residual(ic.Flatten())], ["'0.add'", "(2, 108)", "(2, 3, 6, 6)"]),
    ],
)
def test_rank_and_branch_errors_name_the_layer(layers, texts):
    with pytest.raises(ic.ShapeError) as error:
        ic.Sequential(layers).init(0).predict(X)
    for text in texts:
        assert text in str(error.value)


def test_a_loss_needs_class_scores():
    with pytest.raises(ic.ShapeError, match=r"class scores \(N, classes\).*Flatten"):
        ic.Trainer(ic.Sequential([ic.Conv2d(3, 2, 3)])).step(X, [0, 1])


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: ic.Conv2d(0, 1, 3), "in_channels must be a positive integer, got 0"),
        (lambda: ic.Conv2d(1, 1.5, 3), "out_channels must be a positive integer, got 1.5"),
        (lambda: ic.Conv2d(4, 6, 3, groups=3), "groups=3 for 4 and 6"),
        (lambda: ic.Conv2d(4, 6, 0), "kernel_size"),
        (lambda: ic.Conv2d(4, 6, 3, stride=0), "stride"),
        (lambda: ic.Conv2d(4, 6, 3, padding="both"), "padding"),
        (lambda: ic.Conv2d(4, 6, 3, dilation=(1, 0)), "dilation"),
        (lambda: ic.Conv2d(4, 6, 3, stride=2, padding="same"), "stride 1"),
        (lambda: ic.ConvTranspose2d(0, 1, 3), "in_channels must be a positive integer, got 0"),
        (lambda: ic.ConvTranspose2d(4, 6, 3, groups=4), "groups=4 for 4 and 6"),
        (lambda: ic.ConvTranspose2d(4, 6, 0), "kernel_size"),
        (lambda: ic.ConvTranspose2d(4, 6, 3, 2, "same"), "stride 1"),
        (lambda: ic.ConvTranspose2d(4, 6, 3, dilation=0), "dilation"),
        (lambda: ic.ConvTranspose2d(4, 6, 3, 2, output_padding=-1), "output_padding must be an integer or a pair"),
        (
            lambda: ic.ConvTranspose2d(4, 6, 3, (3, 2), output_padding=2),
            "output_padding 2 along the width must be less than the stride 2 or the dilation 1",
        ),
        (lambda: ic.Linear(True, 2), "in_features"),
        (lambda: ic.Linear(2, -1), "out_features"),
        (
            lambda: ic.MaxPool2d(2, padding=2),
            "(2, 2) along the height must be less than the window, which is 2",
        ),
        (lambda: ic.AvgPool1d(3, padding=((0, 3),)), "padding (0, 3) along the length must be less than the window"),
        (
            lambda: ic.Pad((1, 2)),
            "padding must be (before, after) for each axis of a sample, such as",
        ),
        (lambda: ic.Pad(((0, 0.5),)), "got ((0, 0.5),)"),
        (lambda: ic.Pad(((0, 1),), "edge"), "mode must be 'constant' or 'reflect' or 'replicate' or 'circular'"),
        (lambda: ic.Pad(((0, 1),), value="1"), "value must be a number"),
        (lambda: ic.PixelUnshuffle(0), "downscale_factor must be a positive integer"),
        (lambda: ic.Amax(()), "dim must name an axis"),
        (lambda: ic.AvgPool2d(2, stride=-1), "stride"),
        (lambda: ic.Upsample(2, size=8), "give scale_factor or size, not both: got 2 and 8"),
        (lambda: ic.Upsample(0.0), "scale_factor must be more than 0"),
        (lambda: ic.Upsample("2"), "scale_factor must be a number of at least 0; got '2'"),
        (lambda: ic.Upsample(float("inf")), "scale_factor must be a number of at least 0; got inf"),
        (lambda: ic.Upsample((1, 2, 3)), "scale_factor must be a number or two, (height, width), got (1, 2, 3)"),
        (
            lambda: ic.Upsample(2, recompute_scale_factor=2),
            "recompute_scale_factor must be None or True or False, got 2",
        ),
        (lambda: ic.Upsample(size=2, recompute_scale_factor=True), "is for scale_factor, not for size"),
        (lambda: ic.Upsample(mode="cubic"), "mode must be 'nearest' or 'bilinear' or 'bicubic', got 'cubic'"),
        (lambda: ic.Upsample(align_corners=True), 'align_corners is for mode="bilinear" and "bicubic" alone'),
        (lambda: ic.Resize(), "give size or scale_factor, got neither"),
        (lambda: ic.Resize(2, mode="bilinear"), "mode must be 'nearest' or 'linear' or 'cubic', got 'bilinear'"),
        (lambda: ic.Resize(2, coordinates="half"), "coordinates must be 'half_pixel' or 'pytorch_half_pixel'"),
        (lambda: ic.Resize(2, rounding="up"), "rounding must be 'round_prefer_floor'"),
        (lambda: ic.Resize(2, cubic_coeff_a="-1"), "cubic_coeff_a must be a finite number"),
        (lambda: ic.Resize(2, antialias="no"), "antialias must be True or False, got 'no'"),
        (lambda: ic.AdaptiveAvgPool2d(0), "output_size must be a positive integer, or a pair of them"),
        (lambda: ic.AdaptiveAvgPool2d((2, 3, 4)), "output_size"),
        (lambda: ic.AdaptiveMaxPool2d((2, -1)), "None leaves an axis as it is, got (2, -1)"),
        (lambda: ic.PixelShuffle(0), "upscale_factor must be a positive integer"),
        (lambda: ic.ChannelShuffle(1.5), "groups must be a positive integer"),
        (lambda: ic.Softmax(0), "dim=0 is the batch axis, and a layer must not mix samples"),
        (lambda: ic.LogSoftmax(None), "dim must be an axis, such as 1 for the channels or features; got None"),
        (lambda: ic.GLU(0.5), "dim must be an integer, such as 1 for the channels; got 0.5"),
        (lambda: ic.PReLU(0), "num_parameters must be a positive integer"),
        (lambda: ic.PReLU(init="small"), "init"),
        (lambda: ic.Dropout2d(1.5), "p must be a number of at least 0 and less than 1; got 1.5"),
        (lambda: ic.AvgPool2d(2, divisor_override=0), "divisor_override must be a positive integer, got 0"),
        (lambda: ic.AvgPool2d(2, dilation=0), "dilation must be an integer or a pair of integers of at least 1, got 0"),
        (lambda: ic.LPPool2d(0, 2), "norm_type must be more than 0"),
        (lambda: ic.LPPool2d("2", 2), "norm_type must be a number"),
        (lambda: ic.ZeroPad2d("1"), "padding must be an integer, or four of them"),
        (lambda: ic.ConstantPad2d(1, None), "value must be a number of at least -inf; got None"),
        (lambda: ic.CircularPad2d(1.5), "padding must be an integer, or four of them"),
        (lambda: ic.Conv2d(3, 4, 3, padding_mode="mirror"), "padding_mode must be 'zeros' or 'reflect' or"),
        (lambda: ic.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "padding_mode must be 'zeros', got 'reflect'"),
        (lambda: ic.ReflectionPad2d((1, 2)), "(left, right, top, bottom), got (1, 2)"),
        (lambda: ic.ReplicationPad2d(0.5), "padding must be"),
        (lambda: ic.Unflatten(0, (2, 3)), "dim=0 is the batch axis, and a layer must not mix samples"),
        (lambda: ic.Unflatten(1, (-1, -1)), "one of which may be -1, got 1 and (-1, -1)"),
        (lambda: ic.Unflatten(1, 6), "the positive lengths of the new axes"),
        (
            lambda: ic.Reshape(()),
            "lengths of a sample's axes, one of which may be -1, got ()",
        ),
        (lambda: ic.Reshape((2, -1, -1)), "shape must be the positive lengths"),
        (lambda: ic.Reshape(7), "got 7"),
        (lambda: ic.Permute((1, 0)), "dims must name every axis once, first the batch, such as (0, 2, 3, 1)"),
        (lambda: ic.Permute((0, 1, 1)), "dims must name every axis once"),
        (lambda: ic.Permute(2), "got 2"),
        (lambda: ic.Transpose(0, 1), "dim=0 is the batch axis, and a layer must not mix samples"),
        (lambda: ic.Transpose(1, 0.5), "dim must be an integer"),
        (lambda: ic.Slice(0, 1), "dim=0 is the batch axis, and a layer must not mix samples"),
        (lambda: ic.Slice(1, 0.5), "start, stop and step must be integers, and step not 0, got (0.5, None, 1)"),
        (lambda: ic.Slice(1, step=0), "start, stop and step must be integers, and step not 0, got (None, None, 0)"),
        (lambda: ic.Concat(0), "dim=0 is the batch axis, and a layer must not mix samples"),
        (lambda: ic.WithConstant("plus"), "operation must be 'add' or 'sub' or 'mul'"),
        (
            lambda: ic.WithConstant("add", 3),
            "shape must be the lengths of a sample's axes, such as (C, 1, 1)",
        ),
        (lambda: ic.WithConstant("add", (3, 0)), "or None, got (3, 0)"),
        (lambda: ic.WithConstant("add", value="1"), "value must be a number"),
        (lambda: ic.WithConstant("add", reverse=2), "reverse must be True or False, got 2"),
        (lambda: ic.Mean(0), "dim=0 is the batch axis, and a layer must not mix samples"),
        (lambda: ic.Mean(()), "dim must name an axis"),
        (lambda: ic.Mean(1, keepdim="yes"), "keepdim must be True or False, got 'yes'"),
        (lambda: ic.StochasticDepth(1), "p must be a number of at least 0 and less than 1; got 1"),
        (lambda: ic.StochasticDepth(0.5, "rows"), "mode must be 'row' or 'batch', got 'rows'"),
        (lambda: ic.BatchNorm2d(0), "num_features"),
        (lambda: ic.GroupNorm(0, 4), "num_groups must be a positive integer, got 0"),
        (lambda: ic.GroupNorm(2, 2.5), "num_channels must be a positive integer, got 2.5"),
        (lambda: ic.GroupNorm(3, 4), "num_groups must divide num_channels, got num_groups=3 for 4"),
        (lambda: ic.GroupNorm(2, 4, eps=-1.0), "eps must be a number of at least 0; got -1.0"),
        (lambda: ic.GroupNorm(2, 4, affine="no"), "affine must be True or False, got 'no'"),
        (lambda: ic.BatchNorm2d(3, momentum="none"), "momentum must be a number of at least 0, or None; got 'none'"),
        (lambda: ic.BatchNorm1d(3, track_running_stats=2), "track_running_stats must be True or False, got 2"),
        (lambda: ic.InstanceNorm2d(0), "num_features"),
        (lambda: ic.InstanceNorm2d(3, momentum=-1), "momentum must be a number of at least 0, or None; got -1"),
        (lambda: ic.InstanceNorm2d(3, track_running_stats="no"), "track_running_stats must be True or False, got 'no'"),
        (lambda: ic.InstanceNorm2d(3, affine=2), "affine must be True or False, got 2"),
        (lambda: ic.InstanceNorm2d(3, bias="no"), "bias must be True or False, got 'no'"),
        (lambda: ic.BatchNorm2d(3, affine="no"), "affine must be True or False, got 'no'"),
        (lambda: ic.BatchNorm1d(3, bias=None), "bias must be True or False, got None"),
        (lambda: ic.GroupNorm(1, 4, bias=2), "bias must be True or False, got 2"),
        (lambda: ic.LayerNorm(()), "normalized_shape must be a positive integer or several, got ()"),
        (lambda: ic.LayerNorm((3, 0)), "normalized_shape must be a positive integer, got 0"),
        (lambda: ic.LayerNorm("3"), "normalized_shape must be a positive integer, got '3'"),
        (lambda: ic.LayerNorm(3, eps="small"), "eps must be a number"),
        (lambda: ic.LayerNorm(3, bias=2), "bias must be True or False, got 2"),
        (lambda: ic.RMSNorm(3, eps=-1), "eps must be a number of at least 0, or None; got -1"),
        (lambda: ic.RMSNorm(3, elementwise_affine=None), "elementwise_affine must be True or False"),
        (lambda: ic.LocalResponseNorm(0), "size must be a positive integer, got 0"),
        (lambda: ic.LocalResponseNorm(3, beta=-1), "beta must be a number of at least 0; got -1"),
        (lambda: ic.Dropout(1.0), "p must be a number of at least 0 and less than 1; got 1.0"),
        (lambda: ic.Dropout(-0.1), "p must be"),
        (lambda: ic.Dropout(float("nan")), "p must be"),
        (lambda: ic.ZeroPadShortcut(3, 2), "out_channels must be an integer of at least 3, got 2"),
        (lambda: ic.ZeroPadShortcut(3, 4, 0), "stride"),
        (lambda: ic.Sequential([]), "at least one layer"),
        (lambda: ic.Sequential([ic.ReLU(), ic.ReLU]), "layer 1 must be a layer"),
        (lambda: ic.Sequential([ic.ReLU(), "ReLU"]), "layer 1 must be a layer"),
    ],
)
def test_bad_arguments(layer, text):
    with pytest.raises(ic.ShapeError) as error:
        layer()
    assert text in str(error.value)


def test_a_layer_cannot_be_in_a_network_twice():
    layer = ic.Conv2d(3, 3, 1)
    with pytest.raises(ic.ShapeError, match=r"layer '2' \(Conv2d.*is already in the network"):
        ic.Sequential([layer, ic.ReLU(), layer]).init(0)
