"""Training with transforms: which labels the loss gets, and that nothing but the seed decides what is drawn."""

import numpy as np
import pytest
from helpers import CtrlC, assert_same_bits, batches, everything, timeless, workers

import im2colnet as ic
from im2colnet import transforms as T

batch = batches((3, 8, 8), classes=4, n=30, pixels=True)
CHAIN = [T.RandomCrop(padding=2), T.RandomHorizontalFlip(), T.RandomAffine(10), T.MixUp(0.4)]


def trainer(loss=None, classes=4):
    net = ic.Sequential(
        [ic.Conv2d(3, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), ic.GlobalAvgPool2d(), ic.Flatten(),
         ic.Linear(4, classes)]
    )  # fmt: skip
    return ic.Trainer(net.init(0), loss=loss, optimizer=ic.SGD(0.1, momentum=0.9), seed=3)


@pytest.mark.parametrize("at", [2, 4, 5])
def test_an_interrupted_training_goes_on_with_the_same_bits(at, tmp_path):
    whole = trainer()
    whole.fit(batch(), 3, 8, augment=CHAIN)
    stopped = trainer()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(batch(), 3, 8, augment=CHAIN, directory=tmp_path, callbacks=[CtrlC(at)], progress=False)
    loaded = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    assert loaded.augment == tuple(CHAIN)
    for again in (stopped, loaded):
        again.fit(batch(), 3, 8)  # the transforms are those of before
        assert timeless(again.history) == timeless(whole.history)
        assert_same_bits(again.net.state_dict(), whole.net.state_dict())


def test_with_all_that_a_training_keeps(tmp_path):
    """Averaged weights, gradients that are added up and clipped, a normalisation, and a choice of mixtures."""

    def fit(trainer, *more, **options):
        callbacks = [ic.callbacks.EMA(0.9), *more]
        trainer.fit(batch(), 3, 8, validation=batch(seed=1), callbacks=callbacks, progress=False, **options)

    def make():
        return ic.Trainer(trainer().net, optimizer=ic.SGD(0.1, momentum=0.9), accumulate=3, clip_norm=0.5)

    options = {"augment": [*CHAIN[:3], T.RandomChoice([T.MixUp(0.4), T.CutMix()])], "normalize": True}
    whole = make()
    fit(whole, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), CtrlC(6), directory=tmp_path, **options)
    loaded = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    fit(loaded)
    assert timeless(loaded.history) == timeless(whole.history)
    assert_same_bits(loaded.net.state_dict(), whole.net.state_dict())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_workers_do_not_change_a_bit(kind):
    results = []
    for number in (1, 2):
        with workers(number, kind):
            one = trainer()
            one.fit(batch(), 3, 10, augment=CHAIN)
            results.append(one.net.state_dict())
    assert_same_bits(*results)


def test_without_transforms_nothing_changes():
    plain, none = trainer(), trainer()
    plain.fit(batch(), 2, 8)
    none.fit(batch(), 2, 8, augment=[])
    assert_same_bits(everything(none), everything(plain))
    changed = trainer()
    changed.fit(batch(), 2, 8, augment=T.RandomHorizontalFlip())
    assert (changed.net.state_dict()["0.weight"] != plain.net.state_dict()["0.weight"]).any()


@pytest.mark.parametrize("classes", [4, 7], ids=["as many classes", "more classes than the data"])
def test_what_a_step_gets(classes):
    """The loss of an epoch is that of the batches which a loader with the same seed gives."""
    images, labels = batch()
    data = ic.Dataset(images, labels, classes=tuple("abcd"))
    one, other = trainer(classes=classes), trainer(classes=classes)
    history = one.fit(data, 1, 8, augment=CHAIN)
    losses = []
    for some, shares in ic.Loader(data, 8, seed=3, transform=CHAIN).epoch(0):
        losses.append(other.step(some, np.pad(shares, [(0, 0), (0, classes - 4)])) * len(some))
    assert history["loss"] == [pytest.approx(sum(losses) / 30, rel=1e-12)]
    assert_same_bits(one.net.state_dict(), other.net.state_dict())


def test_accuracy_counts_the_larger_share():
    rng = np.random.default_rng(0)
    outputs, shares = rng.standard_normal((50, 4)), rng.dirichlet([1, 1, 1, 1], 50)
    found = ic.CrossEntropyLoss().measure(outputs, shares)
    assert found["accuracy"] == (outputs.argmax(1) == shares.argmax(1)).mean()
    log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    assert found["loss"] == pytest.approx(-(shares * log_p).sum(1).mean())


def test_losses_without_shares_say_so():
    with pytest.raises(ic.DTypeError, match=r"MixUp makes shares .*, which FocalLoss.. .*CrossEntropyLoss"):
        trainer(ic.FocalLoss()).fit(batch(), 1, augment=CHAIN)
    trainer(ic.FocalLoss()).fit(batch(), 1, augment=CHAIN[:3])


def test_labels_are_checked_before_they_are_mixed():
    images, _ = batch()
    with pytest.raises(ic.ShapeError, match="labels must be 0 to 3"):
        trainer().fit((images, np.arange(30)), 1, augment=CHAIN)


def test_a_network_for_the_size_of_the_crop():
    net = ic.Sequential([ic.Flatten(), ic.Linear(3 * 6 * 6, 4)]).init(0)
    images, labels = batch()
    one = ic.Trainer(net)
    one.fit((images, labels), 1, 8, validation=(images[:, :, :6, :6], labels), augment=T.RandomCrop(6))
    assert one.net.input_shape == (3, 6, 6)
    with pytest.raises(ic.ShapeError):
        ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(3 * 6 * 6, 4)]).init(0)).fit((images, labels), 1)


def test_other_transforms_within_an_epoch_begin_it_again(tmp_path):
    one = trainer()
    with pytest.raises(KeyboardInterrupt):
        one.fit(batch(), 2, 8, augment=CHAIN, callbacks=[CtrlC(2)], progress=False)
    with pytest.warns(ic.TrainingWarning, match="epoch 1 begins again: .* other transforms"):
        one.fit(batch(), 2, 8, augment=CHAIN[:2])
    fresh = trainer()
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(batch(), 2, 8, augment=CHAIN, callbacks=[CtrlC(2)], progress=False)
    fresh.fit(batch(), 2, 8, augment=[*CHAIN])  # equal ones are no others
    assert fresh.augment == tuple(CHAIN)


class Darker(T.Transform):
    """A transform of one's own, which a checkpoint names."""

    moves_pixels = False

    def __init__(self, most):
        self.most = most

    def transform(self, images, keys):
        factor = 1 - self.most * T.uniform(keys, 1).reshape(-1, 1, 1, 1)
        return (images * factor).astype(images.dtype)


def test_checkpoints_hold_transforms(tmp_path):
    chain = [
        T.RandomCrop((8, 8), 2, (1, 2, 3), "constant"),
        T.RandomVerticalFlip(0.25),
        T.RandomAffine(10, (0.1, 0.2), (0.8, 1.2), (-5, 5), 7),
        T.ColorJitter(0.1, (0.5, 1.5), 0.3),
        T.RandomErasing(0.5, (0.1, 0.2), (0.5, 2), (1, 2, 3)),
        Darker(0.5),
        T.RandomChoice([T.MixUp(0.2), T.CutMix(1.0)]),
    ]
    one = trainer()
    one.fit(batch(), 1, 8, augment=chain)
    one.save(tmp_path / "x.safetensors")
    loaded = ic.Trainer.load(tmp_path / "x.safetensors")
    assert loaded.augment == tuple(chain)
    one.fit(batch(), 2, 8)
    loaded.fit(batch(), 2, 8)
    assert_same_bits(loaded.net.state_dict(), one.net.state_dict())
    one.fit(batch(), 3, 8, augment=[])
    assert one.augment == ()


def test_wrong_lists_are_refused():
    for given in ("crop", T.RandomCrop, [T.MixUp], [np.flip]):
        with pytest.raises(ic.ShapeError, match="augment must be a list of transforms such as"):
            trainer().fit(batch(), 1, augment=given)
