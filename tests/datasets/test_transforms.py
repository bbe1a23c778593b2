"""Transforms of images: each beside naive loops, whose random numbers are made by Python's whole numbers."""

import math
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet import transforms as T
from im2colnet.datasets.transforms.draws import output
from im2colnet.datasets.transforms.mixing import Mixing, beta

TORCHVISION = np.load(Path(__file__).parents[1] / "reference/torchvision_transforms.npz")
N = 12
KEYS = T.keys(3, 5, np.arange(100, 100 + N), 2)
RNG = np.random.default_rng(0)
PICTURES = {
    "colour": RNG.integers(0, 256, (N, 3, 9, 13), dtype=np.uint8),
    "grey": RNG.integers(0, 256, (N, 1, 8, 8), dtype=np.uint8),
    "floats": RNG.random((N, 2, 10, 6)),
    "single": RNG.random((N, 3, 7, 7), dtype=np.float32),
}
ALL = [
    T.RandomCrop(padding=3, fill=1),
    T.RandomCrop((5, 4)),
    T.RandomHorizontalFlip(),
    T.RandomVerticalFlip(0.3),
    T.RandomAffine(30, (0.2, 0.1), (0.7, 1.4), 15, fill=1),
    T.ColorJitter(0.4, (0.3, 1.9), 0.5),
    T.RandomErasing(0.8, value=1),
    T.RandomChoice([T.RandomHorizontalFlip(1.0), T.RandomErasing(1.0)]),
]


# Random numbers


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def child(key, i):
    return mix((key + 0x9E3779B97F4A7C15 * (i + 1)) % 2**64)


def drawn(key, count):
    """The first random numbers of a key."""
    return [(child(int(key), i) >> 11) / 2**53 for i in range(count)]


def test_it_is_splitmix64():
    """Its published outputs for the seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert output(np.array([1234567], np.uint64), np.arange(4, dtype=np.uint64)).tolist() == published


def test_keys_are_a_tree_of_generators():
    for seed, words in ((0, [0]), (7, [7]), (2**64 + 5, [5, 1]), (2**200, [0, 0, 0, 256])):
        key = 0
        for word in (*words, 4, 2):
            key = child(key, word)
        assert T.keys(seed, 4, [9, 0], 2).tolist() == [child(key, 9), child(key, 0)]
    assert T.uniform(KEYS, 3).tolist() == [drawn(key, 3) for key in KEYS]


def test_committed_numbers():
    assert T.keys(0, 0, [0, 1]).tolist() == [0x2130748AAAC80268, 0x0CC78FB979CE5090]
    assert T.uniform(T.keys(7, 3, [5]), 2).tolist() == [[0.4069171176238038, 0.4629506498444895]]


def test_keys_differ():
    found = [T.keys(s, e, np.arange(50), p) for s in range(3) for e in range(3) for p in range(3)]
    assert len(set(np.concatenate(found).tolist())) == 27 * 50
    numbers = T.uniform(np.concatenate(found), 8)
    assert abs(numbers.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(numbers.T) - np.eye(8)).max() < 0.1


# Each transform beside loops


def naive_crop(image, key, size, padding, pixel):
    """``pixel(channel, row, column)`` is the value at any place, also outside of the image."""
    C, H, W = image.shape
    height, width = size or (H, W)
    u, v = drawn(key, 2)
    top, left = int(u * (H + 2 * padding - height + 1)), int(v * (W + 2 * padding - width + 1))
    return [
        [[pixel(c, top + i - padding, left + j - padding) for j in range(width)] for i in range(height)]
        for c in range(C)
    ]


def mirrored(i, n, mode):
    if mode == "edge":
        return min(max(i, 0), n - 1)
    if mode == "reflect":
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i
    return -i - 1 if i < 0 else 2 * n - 1 - i if i >= n else i


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize(("size", "padding"), [(None, 4), (6, 0), ((5, 6), 2)])
def test_crop(picture, mode, size, padding):
    images = PICTURES[picture]
    found = T.RandomCrop(size, padding, 1, mode)(images, KEYS)
    for image, key, result in zip(images, KEYS, found, strict=True):
        _, H, W = image.shape

        def pixel(c, i, j, image=image, H=H, W=W):
            if mode == "constant":
                return image[c, i, j] if 0 <= i < H and 0 <= j < W else 1
            return image[c, mirrored(i, H, mode), mirrored(j, W, mode)]

        assert result.tolist() == naive_crop(
            image, key, (size, size) if isinstance(size, int) else size, padding, pixel
        )


@pytest.mark.parametrize("picture", PICTURES)
def test_flips(picture):
    images = PICTURES[picture]
    across, along = T.RandomHorizontalFlip(0.4)(images, KEYS), T.RandomVerticalFlip(0.4)(images, KEYS)
    flipped = 0
    for image, key, one, other in zip(images, KEYS, across, along, strict=True):
        flip = drawn(key, 1)[0] < 0.4
        flipped += flip
        assert one.tolist() == [[row[::-1] if flip else row for row in plane] for plane in image.tolist()]
        assert other.tolist() == [plane[::-1] if flip else plane for plane in image.tolist()]
    assert 0 < flipped < N


def naive_affine(image, angle, shear, right, down, factor, fill):
    """Bilinear interpolation, pixel by pixel, in an image that goes on as ``fill``."""
    C, H, W = image.shape
    forward = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = factor * forward @ np.array([[1, -math.tan(shear)], [0, 1]])
    back, found = np.linalg.inv(forward), np.empty((C, H, W))
    for i in range(H):
        for j in range(W):
            x, y = back @ [j - (W - 1) / 2 - right, i - (H - 1) / 2 - down] + [(W - 1) / 2, (H - 1) / 2]
            left, top = math.floor(x), math.floor(y)
            for c in range(C):
                found[c, i, j] = sum(
                    (1 - abs(x - q)) * (1 - abs(y - p)) * (image[c, p, q] if 0 <= p < H and 0 <= q < W else fill[c])
                    for p in (top, top + 1)
                    for q in (left, left + 1)
                )
    return found


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(
    "arguments",
    [{"degrees": 0}, {"degrees": 40}, {"degrees": (10, 80), "translate": (0.4, 0.2), "scale": (0.5, 2), "shear": 20}],
)
def test_affine(picture, arguments):
    images = PICTURES[picture]
    C, H, W = images.shape[1:]
    fill = tuple(range(1, C + 1))
    found = T.RandomAffine(**arguments, fill=fill)(images, KEYS).astype(np.float64)
    low, high = d if isinstance(d := arguments["degrees"], tuple) else (-d, d)
    across, along = arguments.get("translate", (0, 0))
    least, most = arguments.get("scale", (1, 1))
    shears = arguments.get("shear", 0)
    for image, key, result in zip(images, KEYS, found, strict=True):
        u = drawn(key, 5)
        wanted = naive_affine(
            image.astype(np.float64),
            math.radians(low + (high - low) * u[0]),
            math.radians(shears * (2 * u[4] - 1)),
            round((2 * u[1] - 1) * across * W),
            round((2 * u[2] - 1) * along * H),
            least + (most - least) * u[3],
            fill,
        )
        if images.dtype == np.uint8:
            assert np.abs(result - wanted).max() < 0.501  # rounded
        else:
            assert np.abs(result - wanted).max() < 1e-5


@pytest.mark.parametrize("picture", PICTURES)
def test_color_jitter(picture):
    images, white = PICTURES[picture], 255 if PICTURES[picture].dtype == np.uint8 else 1
    found = T.ColorJitter(0.6, (0.5, 2), 1.5)(images, KEYS).astype(np.float64)
    for image, key, result in zip(images, KEYS, found, strict=True):
        pixels, u = image.astype(np.float64), drawn(key, 3)
        weights = [0.2989, 0.587, 0.114] if len(image) == 3 else [1 / len(image)] * len(image)
        pixels = np.clip((0.4 + 1.2 * u[0]) * pixels, 0, white)
        factor, grey = 0.5 + 1.5 * u[1], sum(w * plane for w, plane in zip(weights, pixels, strict=True))
        pixels = np.clip(factor * pixels + (1 - factor) * grey.mean(), 0, white)
        factor, grey = 2.5 * u[2], sum(w * plane for w, plane in zip(weights, pixels, strict=True))
        pixels = np.clip(factor * pixels + (1 - factor) * grey, 0, white)
        assert np.abs(result - pixels).max() < (0.501 if white == 255 else 1e-6)


@pytest.mark.parametrize("picture", PICTURES)
def test_erasing(picture):
    images = PICTURES[picture]
    C, H, W = images.shape[1:]
    value = tuple(range(2, C + 2))
    found, erased = T.RandomErasing(0.7, (0.1, 0.9), (0.2, 4), value)(images, KEYS), 0
    for image, key, result in zip(images, KEYS, found, strict=True):
        u, wanted = drawn(key, 23), image.copy()
        for attempt in range(10):  # as torchvision's loop
            area = H * W * (0.1 + 0.8 * u[3 + attempt])
            ratio = math.exp(math.log(0.2) + (math.log(4) - math.log(0.2)) * u[13 + attempt])
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < H and w < W and u[0] < 0.7:
                top, left = int(u[1] * (H - h + 1)), int(u[2] * (W - w + 1))
                wanted[:, top : top + h, left : left + w] = np.reshape(value, (C, 1, 1))
                erased += 1
            if h < H and w < W:
                break
        assert (result == wanted).all()
    assert erased


def test_an_image_that_no_rectangle_fits_into_stays():
    images = PICTURES["grey"]
    assert (T.RandomErasing(1.0, scale=(1, 1), ratio=(1, 1))(images) == images).all()


# torchvision's values, which are committed


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_affine_is_torchvision_s(kind):
    images = TORCHVISION["images"] if kind == "uint8" else TORCHVISION["images"] / 255
    angle, shear, right, down, factor = TORCHVISION["affine_arguments"].T
    for i, (a, s, f) in enumerate(zip(angle, shear, factor, strict=True)):
        H, W = images.shape[2:]
        # in the range of a translation there is only one whole number of pixels other than 0, of each sign
        moves = abs(right[i]) / W + 1e-9, abs(down[i]) / H + 1e-9
        keys = T.keys(0, 0, np.arange(4000))
        u = T.uniform(keys, 3)
        moved = np.rint((2 * u[:, 1:] - 1) * np.array(moves) * [W, H])
        key = keys[np.flatnonzero((moved == [right[i], down[i]]).all(axis=1))[:1]]
        found = T.RandomAffine((a, a), moves, (f, f), (s, s))(images[i : i + 1], key)[0]
        difference = np.abs(found.astype(np.float64) - TORCHVISION[f"affine_{kind}"][i])
        assert difference.max() <= (1 if kind == "uint8" else 1e-5)
        assert kind != "uint8" or (difference > 0).mean() < 0.01


@pytest.mark.parametrize("factor", [0.4, 1.7])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_color_jitter_is_torchvision_s(name, factor):
    images, jitter = TORCHVISION["images"], T.ColorJitter(**{name: (factor, factor)})
    assert np.abs(jitter(images / 255) - TORCHVISION[f"{name}_{factor}_float"]).max() < 1e-6
    # torchvision cuts off fractions
    assert np.abs(jitter(images).astype(int) - TORCHVISION[f"{name}_{factor}_uint8"]).max() <= 1


# Mixing


def mixed(transform, images, labels, classes=3, seed=4, epoch=6, batch_size=5, **options):
    data = ic.Dataset(images, labels, classes=tuple("abcdefgh"[:classes]) if labels.dtype.kind in "iu" else ())
    loader = ic.Loader(data, batch_size, seed=seed, shuffle=False, transform=transform, **options)
    return (np.concatenate(arrays) for arrays in zip(*loader.epoch(epoch), strict=True))


@pytest.mark.parametrize("picture", PICTURES)
def test_mixup(picture):
    images, labels = PICTURES[picture], np.arange(N) % 3
    flip = T.RandomHorizontalFlip()
    found, shares = mixed([flip, T.MixUp(1.0)], images, labels)
    flipped = flip(images, T.keys(4, 6, np.arange(N), 0))
    assert shares.dtype == np.float32
    for i, key in enumerate(T.keys(4, 6, np.arange(N), 1)):
        u = drawn(key, 2)
        j, share = (i + 1 + int(u[0] * (N - 1))) % N, round(u[1] * 2**16) / 2**16  # Beta(1, 1) is uniform
        wanted = share * flipped[i].astype(np.float64) + (1 - share) * flipped[j].astype(np.float64)
        assert j != i
        assert np.abs(found[i].astype(np.float64) - wanted).max() < (0.501 if images.dtype == np.uint8 else 1e-6)
        assert np.allclose(shares[i], share * np.eye(3)[i % 3] + (1 - share) * np.eye(3)[j % 3], atol=1e-4)


def test_cutmix():
    images, labels = PICTURES["colour"], np.arange(N) % 3
    _, H, W = images.shape[1:]
    found, shares = mixed(T.CutMix(1.0), images, labels)
    for i, key in enumerate(T.keys(4, 6, np.arange(N), 0)):
        u = drawn(key, 4)
        j, side = (i + 1 + int(u[0] * (N - 1))) % N, math.sqrt(1 - round(u[1] * 2**16) / 2**16) / 2
        centre, half, wanted, area = (int(u[2] * H), int(u[3] * W)), (int(side * H), int(side * W)), images[i].copy(), 0
        for p in range(H):
            for q in range(W):
                if all(c - h <= at < c + h for c, h, at in zip(centre, half, (p, q), strict=True)):
                    wanted[:, p, q] = images[j, :, p, q]
                    area += 1 / (H * W)
        assert (found[i] == wanted).all()
        assert np.allclose(shares[i], (1 - area) * np.eye(3)[i % 3] + area * np.eye(3)[j % 3], atol=1e-6)


def test_choice_gives_each_sample_to_one():
    images, labels = PICTURES["colour"], np.arange(N) % 3
    found, _ = mixed([T.RandomChoice([T.MixUp(1.0), T.CutMix(1.0)])], images, labels)
    which = [int(2 * drawn(key, 1)[0]) for key in T.keys(4, 6, np.arange(N), 0)]
    assert {*which} == {0, 1}
    pasted = [sum((found[i] == each).all(axis=0).mean() for each in images) > 0.9 for i in range(N)]
    assert [*map(bool, which)] == pasted


@pytest.mark.parametrize(
    ("alpha", "distribution"),
    [
        (0.5, lambda x: 2 / math.pi * math.asin(math.sqrt(x))),
        (1, lambda x: x),
        (2, lambda x: 3 * x**2 - 2 * x**3),
        (4, lambda x: sum(math.comb(7, k) * x**k * (1 - x) ** (7 - k) for k in range(4, 8))),
    ],
)
def test_shares_are_of_a_beta_distribution(alpha, distribution):
    u = (np.arange(2000) + 0.5) / 2000
    assert np.abs([distribution(x) for x in beta(alpha, u)] - u).max() < (0.003 if alpha < 1 else 1e-4)


@pytest.mark.parametrize("alpha", [1e-9, 0.01, 0.2, 3, 50, 1e4, 1e12])
def test_shares_have_mean_and_deviation_of_a_beta_distribution(alpha):
    found = beta(alpha, (np.arange(20000) + 0.5) / 20000)
    assert abs(found.mean() - 0.5) < 1e-6
    assert abs(found.std() - 0.5 / math.sqrt(2 * alpha + 1)) < 2e-4


def test_mixed_targets_are_numbers():
    images, labels = PICTURES["floats"], np.random.default_rng(1).random((N, 2))
    _, found = mixed(T.MixUp(1.0), images, labels)
    for i, key in enumerate(T.keys(4, 6, np.arange(N), 0)):
        u = drawn(key, 2)
        j, share = (i + 1 + int(u[0] * (N - 1))) % N, round(u[1] * 2**16) / 2**16
        assert np.allclose(found[i], share * labels[i] + (1 - share) * labels[j])


def test_mixup_is_for_features_too():
    found, shares = mixed(T.MixUp(1.0), np.random.default_rng(1).random((N, 5)), np.arange(N) % 3)
    assert found.shape == (N, 5)
    assert np.allclose(shares.sum(axis=1), 1)


def test_a_single_sample_is_mixed_with_itself():
    images, shares = mixed(T.MixUp(1.0), PICTURES["grey"][:1], np.array([1]))
    assert (images == PICTURES["grey"][:1]).all()
    assert shares.tolist() == [[0, 1, 0]]


# What all have in common


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_each_image_depends_on_its_key_alone(transform, picture):
    images = PICTURES[picture]
    before, found = images.copy(), transform(images, KEYS)
    assert found.dtype == images.dtype
    assert (images == before).all()
    some = np.array([7, 2, 11])
    assert (transform(images[some], KEYS[some]) == found[some]).all()
    for i in range(N):
        assert (transform(images[i : i + 1], KEYS[i : i + 1])[0] == found[i]).all()
    for other in (np.asfortranarray(images), np.repeat(images, 2, axis=3)[..., ::2]):
        assert (transform(other, KEYS) == found).all()


def test_large_images_are_warped_in_bands():
    """A large image, and many small ones, are interpolated in several parts, which fit together."""
    image = np.linspace(0, 1, 400 * 300).reshape(1, 1, 400, 300)
    transform = T.RandomAffine((90, 90))
    assert np.abs(transform(image)[0, 0][60:340, 10:290] - np.rot90(image[0, 0], -1)[10:290, 60:340]).max() < 1e-6
    many = np.random.default_rng(0).random((300, 1, 20, 20))
    assert np.abs(transform(many) - np.rot90(many, -1, (2, 3))).max() < 1e-6


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 12])
def test_a_sample_is_the_same_in_any_batch(shuffle, batch_size):
    images = PICTURES["colour"]
    data = ic.Dataset(images, np.arange(N))
    chain = [*ALL[2:], T.MixUp(0.4), T.RandomCrop(padding=2), T.CutMix()]
    found = np.empty(images.shape, np.uint8)
    soft = np.empty((N, N), np.float32)
    plain = ic.Loader(data, batch_size, 3, shuffle)
    for (_, places), (batch, labels) in zip(
        plain.epoch(2), ic.Loader(data, batch_size, 3, shuffle, transform=chain).epoch(2, reuse=True), strict=True
    ):
        found[places], soft[places] = batch, labels
    whole, wanted = next(ic.Loader(data, N, 3, False, transform=chain).epoch(2))
    assert (found == whole).all()
    assert (soft == wanted).all()


def test_epochs_differ():
    data = ic.Dataset(PICTURES["colour"], np.arange(N))
    loader = ic.Loader(data, N, shuffle=False, transform=T.RandomCrop(padding=4))
    one, other = (next(loader.epoch(epoch))[0] for epoch in (0, 1))
    assert (one != other).any()


class Noise(T.Transform):
    """Adds noise: a transform of one's own."""

    moves_pixels = False

    def __init__(self, deviation):
        self.deviation = deviation

    def transform(self, images, keys):
        noise = T.uniform(keys, images[0].size).reshape(images.shape) - 0.5
        return (images + self.deviation * noise).astype(images.dtype)


def test_one_s_own():
    images = PICTURES["floats"]
    assert repr(Noise(0.5)) == "Noise(0.5)"
    assert Noise(0.5) == Noise(0.5) != Noise(0.25)
    assert np.abs(Noise(0.5)(images, KEYS) - images).max() < 0.25
    features, _ = mixed(Noise(0.5), images.reshape(N, -1), np.arange(N) % 3)
    assert (features != images.reshape(N, -1)).any()


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandomCrop(), "RandomCrop changes nothing without size or padding"),
        (lambda: T.RandomCrop(padding=-1), "RandomCrop: padding must be"),
        (lambda: T.RandomCrop(size=(3, 0)), "RandomCrop: each of size must be"),
        (lambda: T.RandomCrop(size=2.5), "RandomCrop: size must be"),
        (lambda: T.RandomCrop(padding=1, fill=math.nan), "RandomCrop: fill must be a finite number"),
        (lambda: T.RandomCrop(padding=1, padding_mode="wrap"), "RandomCrop: padding_mode must be 'constant' or"),
        (lambda: T.RandomHorizontalFlip(1.5), "RandomHorizontalFlip: p must be a number from 0 to 1"),
        (lambda: T.RandomVerticalFlip("x"), "RandomVerticalFlip: p must be a number"),
        (lambda: T.RandomAffine("much"), "RandomAffine: degrees must be a finite number"),
        (lambda: T.RandomAffine(1e308), "RandomAffine: degrees must be a number from 0 to 360"),
        (lambda: T.RandomAffine((5, -5)), "RandomAffine: degrees must be a pair .lowest, highest."),
        (lambda: T.RandomAffine(5, translate=0.1), "RandomAffine: translate must be a pair"),
        (lambda: T.RandomAffine(5, translate=(2, 0)), "RandomAffine: translate must be a number from 0 to 1"),
        (
            lambda: T.RandomAffine(5, scale=(0, 1)),
            "RandomAffine: scale must be a pair .* from 0.001 to 1000",
        ),
        (lambda: T.RandomAffine(5, shear=90), "RandomAffine: shear must be between -90 and 90"),
        (lambda: T.ColorJitter(brightness=-1), "ColorJitter: brightness must be a number from 0 to 999"),
        (lambda: T.ColorJitter(contrast=(2, 1)), "ColorJitter: contrast must be a pair"),
        (lambda: T.ColorJitter(saturation=math.inf), "ColorJitter: saturation must be a finite number"),
        (lambda: T.RandomErasing(scale=(0.1, 2)), "RandomErasing: scale must be a pair .* from 0 to 1"),
        (lambda: T.RandomErasing(ratio=(0, 1)), "RandomErasing: ratio must be a pair .lowest, highest. from 0.001"),
        (lambda: T.RandomErasing(value="random"), "RandomErasing: value must be a finite number"),
        (lambda: T.MixUp(0), "MixUp: alpha must be more than 0"),
        (lambda: T.CutMix(True), "CutMix: alpha must be a number"),
        (lambda: T.RandomChoice([]), "RandomChoice: transforms must be a list"),
        (lambda: T.RandomChoice([T.MixUp]), "RandomChoice: transforms must be a list"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ic.ShapeError, match=message):
        make()


@pytest.mark.parametrize(
    ("transform", "images", "error", "message"),
    [
        (T.RandomCrop(padding=1), "features", ic.ShapeError, r"RandomCrop is for images \(N, C, H, W\), got .*\(12, 5"),
        (T.RandomCrop(20), "grey", ic.ShapeError, "RandomCrop: size 20×20 is larger than the images, which are 8×8"),
        (T.RandomCrop(padding=8, padding_mode="reflect"), "grey", ic.ShapeError, "RandomCrop: padding=8 is too large"),
        (
            T.RandomCrop(padding=1, fill=0.5),
            "grey",
            ic.DTypeError,
            "RandomCrop: fill must be whole numbers",
        ),
        (T.RandomErasing(value=(1, 2)), "grey", ic.ShapeError, "RandomErasing: value has 2 numbers, .* 1 channel"),
        (
            T.RandomErasing(value=1e300),
            "single",
            ic.DTypeError,
            "RandomErasing: value is too large for images",
        ),
        (T.ColorJitter(0.5), "standardised", ic.DataError, "ColorJitter is for uint8 images or numbers from 0 to 1"),
        (T.MixUp(), "grey", ic.ShapeError, "MixUp mixes the samples of a data set"),
        (T.Transform(), "grey", NotImplementedError, "Transform must define transform"),
    ],
)
def test_images_that_do_not_suit(transform, images, error, message):
    kinds = PICTURES | {"features": np.zeros((12, 5)), "standardised": PICTURES["floats"] * 4 - 2}
    with pytest.raises(error, match=message):
        transform(kinds[images])


def test_a_mixture_that_is_not_defined():
    data = ic.Dataset(PICTURES["grey"], np.arange(N))
    with pytest.raises(NotImplementedError, match="Mixing must define mix"):
        ic.Loader(data, 4, transform=Mixing())


def test_refused_lists():
    data = ic.Dataset(PICTURES["grey"], np.arange(N))
    for given in ("crop", [T.RandomCrop], [lambda images, keys: images]):
        with pytest.raises(ic.ShapeError, match="transform must be a list of transforms such as"):
            ic.Loader(data, 4, transform=given)


def test_pixels_with_labels_are_not_moved():
    images = PICTURES["grey"]
    data = ic.Dataset(images, images[:, 0].astype(np.int64))
    with pytest.raises(ic.ShapeError, match="RandomHorizontalFlip moves pixels, but not labels, and labels of shape"):
        ic.Loader(data, 4, transform=T.RandomHorizontalFlip())
    next(ic.Loader(data, 4, transform=T.ColorJitter(0.1)).epoch(0))
    with pytest.raises(ic.DTypeError, match="MixUp mixes one class of each image"):
        ic.Loader(data, 4, transform=T.MixUp())
