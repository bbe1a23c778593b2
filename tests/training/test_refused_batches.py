"""What cannot be trained on or predicted is refused by what is wrong with it, and nothing is changed."""

import numpy as np
import pytest
from helpers import assert_same_bits, everything, normal
from small_networks import GOOD, LABELS, plain, with_both

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def bad_pixel(value, n=9):
    x = normal(n, 3, 8, 8, dtype="float32")
    x[n - 1, 2, 7, 7] = value
    return x


BAD_BATCHES = {
    "no images": (GOOD[:0], LABELS[:0], ic.ShapeError, ["empty", "(0, 3, 8, 8)"]),
    "one image without its batch": (GOOD[0], LABELS[:1], ic.ShapeError, ["(N, channels, height, width)", "(3, 8, 8)"]),
    "no channels": (GOOD[:, 0], LABELS, ic.ShapeError, ["(9, 8, 8)", "images[:, None]"]),
    "features": (GOOD.reshape(9, -1), LABELS, ic.ShapeError, ["(N, channels, height, width)", "(9, 192)"]),
    "channels": (GOOD[:, :2], LABELS, ic.ShapeError, ["layer '0'", "Conv2d", "expected 3 input channels, got 2"]),
    "size": (GOOD[..., :4], LABELS, ic.ShapeError, ["layer", "Linear", "features"]),
    "letters": (np.full((9, 3, 8, 8), "a"), LABELS, ic.DTypeError, ["images must be uint8", "<U1"]),
    "complex": (GOOD.astype("complex64"), LABELS, ic.DTypeError, ["images must be uint8", "complex64"]),
    "too few labels": (GOOD, LABELS[:8], ic.ShapeError, ["labels must have shape (9,)", "(8,)"]),
    "one-hot labels": (GOOD, np.eye(4, dtype=int)[LABELS], ic.ShapeError, ["labels must have shape (9,)", "(9, 4)"]),
    "a label too large": (GOOD, LABELS + 1, ic.ShapeError, ["labels must be 0 to 3", "1 to 4"]),
    "a negative label": (GOOD, LABELS - 1, ic.ShapeError, ["labels must be 0 to 3", "-1 to 2"]),
    "float labels": (GOOD, LABELS.astype(float), ic.DTypeError, ["labels must be integers", "float64"]),
    "boolean labels": (GOOD, LABELS > 0, ic.DTypeError, ["labels must be integers", "bool"]),
    "labels of text": (GOOD, list("abcdabcda"), ic.DTypeError, ["labels must be integers"]),
    "NaN": (bad_pixel(np.nan), LABELS, ic.NonFiniteError, ["image 8 of the batch holds NaN or infinity"]),
    "infinity": (bad_pixel(np.inf), LABELS, ic.NonFiniteError, ["image 8 of the batch holds NaN or infinity"]),
    "minus infinity": (bad_pixel(-np.inf), LABELS, ic.NonFiniteError, ["image 8 of the batch holds NaN or infinity"]),
    "too large for float32": (bad_pixel(0).astype("f8") * 1e300, LABELS, ic.NonFiniteError, ["NaN or infinity"]),
    "no loss": (np.sign(GOOD) * np.float32(3e38), LABELS, ic.NonFiniteError, ["unchanged", "learning rate"]),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [plain, with_both])
@pytest.mark.parametrize("name", BAD_BATCHES)
def test_an_error_in_a_step_changes_nothing(name, make, threads):
    """Neither parameters nor optimiser nor running statistics; and training goes on as if it had not been."""
    ic.set_num_threads(threads)
    images, labels, kind, texts = BAD_BATCHES[name]
    trainer, other = (ic.Trainer(make().init(0), optimizer=ic.Adam(0.01), shard=4) for _ in range(2))
    for teacher in (trainer, other):
        teacher.step(GOOD, LABELS)
    before = everything(trainer)
    with pytest.raises(kind) as error:
        trainer.step(images, labels)
    for text in texts:
        assert text in str(error.value)
    assert_same_bits(everything(trainer), before)
    assert trainer.step(GOOD, LABELS) == other.step(GOOD, LABELS)
    assert_same_bits(everything(trainer), everything(other))


@pytest.mark.parametrize("make", [plain, with_both])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_learning_rate_that_is_too_high(make, threads):
    ic.set_num_threads(threads)
    trainer = ic.Trainer(make().init(0), optimizer=ic.SGD(1e30, momentum=0.9), shard=4)
    states = []

    def train():
        while len(states) < 50:
            states.append(everything(trainer))
            trainer.step(GOOD, LABELS)

    with pytest.raises(ic.NonFiniteError, match=r"(the loss is (nan|inf)|is infinite or NaN).*lower learning rate"):
        train()
    assert len(states) > 1
    assert_same_bits(everything(trainer), states[-1])


def test_a_batch_norm_needs_two_values_per_channel():
    net = ic.Sequential([ic.Conv2d(3, 4, 8), ic.BatchNorm2d(4), ic.Flatten(), ic.Linear(4, 2)])
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1, 0.9))
    before = everything(trainer)
    with pytest.raises(ic.ShapeError) as error:
        trainer.step(GOOD[:1], [0])
    for text in ("layer '1'", "BatchNorm2d", "more than one value per channel", "larger batch"):
        assert text in str(error.value)
    assert_same_bits(everything(trainer), before)
    trainer.step(GOOD[:2], [0, 1])


ONLY_TRAINING = "no loss", "no images"


@pytest.mark.parametrize("name", [name for name in BAD_BATCHES if "label" not in name and name not in ONLY_TRAINING])
def test_the_same_errors_in_prediction(name):
    net, (images, _, kind, texts) = plain().init(0), BAD_BATCHES[name]
    net.predict(GOOD)
    with pytest.raises(kind) as error:
        net.predict(images)
    for text in texts:
        assert text in str(error.value)
