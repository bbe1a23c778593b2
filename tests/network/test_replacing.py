"""A new layer in the place of another, and the entries of a state that fit."""

import copy

import numpy as np
import pytest
from helpers import assert_same_bits, normal
from small_networks import plain, with_batch_norm

import im2colnet as ic


class Block(ic.Network):
    """Layers as attributes, in a list and in a dict."""

    def __init__(self, channels=4):
        self.stem = ic.Conv2d(3, channels, 3, padding=1)
        self.several = [ic.Conv2d(channels, channels, 1), ic.ReLU()]
        self.named = {"pool": ic.GlobalAvgPool2d(), "flat": ic.Flatten()}
        self.inner = ic.Sequential([ic.Linear(channels, 6), ic.ReLU()])
        self.fc = ic.Linear(6, 3)

    def define(self, x):
        x = self.several[1](self.several[0](self.stem(x)))
        return self.fc(self.inner(self.named["flat"](self.named["pool"](x))))


def by_names():
    return ic.Net({"conv": ic.Conv2d(3, 4, 3), "flat": ic.Flatten(), "fc": (ic.Linear(144, 4), "flat")})


@pytest.mark.parametrize(
    ("make", "name", "layer"),
    [
        (plain, "6", lambda: ic.Linear(64, 9)),
        (with_batch_norm, "3.body.2", lambda: ic.SiLU()),
        (with_batch_norm, "3.body", lambda: ic.Sequential([ic.Conv2d(6, 6, 1)])),
        (by_names, "fc", lambda: ic.Linear(144, 9)),
        (Block, "fc", lambda: ic.Sequential([ic.Linear(6, 5), ic.ReLU(), ic.Linear(5, 9)])),
        (Block, "several.0", lambda: ic.Conv2d(4, 4, 3, padding=1)),
        (Block, "named.pool", lambda: ic.AdaptiveMaxPool2d(1)),
        (Block, "inner.0", lambda: ic.Linear(4, 6, bias=False)),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_a_layer_is_replaced(make, name, layer, tmp_path):
    """All others keep their values; a copy and a checkpoint have the new layer, and train on."""
    net = make().init(0)
    net.predict(normal(2, 3, 8, 8))
    before = net.state_dict()
    assert net.replace(name, new := layer()) is net
    after = net.state_dict()
    assert all(
        array.tobytes() == before[key].tobytes() for key, array in after.items() if not key.startswith(f"{name}.")
    )
    assert {key for key in after if key.startswith(f"{name}.")} == {
        f"{name}.{key}" for key in (new.state_shapes() if isinstance(new, ic.Network) else new.parameters())
    }
    x, labels = normal(8, 3, 8, 8, dtype="float32"), np.arange(8) % 3
    trainer = ic.Trainer(net)
    trainer.step(x, labels)
    trainer.save(tmp_path / "x.safetensors")
    loaded, copied = ic.Trainer.load(tmp_path / "x.safetensors"), copy.deepcopy(trainer)
    for other in (loaded, copied):
        assert repr(other.net) == repr(net)
        assert_same_bits(other.net.predict(x), net.predict(x))
        other.step(x, labels)
    assert_same_bits(loaded.net.state_dict(), copied.net.state_dict())


def test_before_there_are_parameters():
    net = Block()
    assert len(net.graph.nodes) == 8
    net.replace("fc", ic.Linear(6, 4)).replace("fc", ic.Linear(6, 5))
    assert net.init(0).predict(normal(2, 3, 8, 8)).shape == (2, 5)


def test_what_is_replaced_twice_is_stored_once(tmp_path):
    net = Block().init(0)
    net.replace("fc", ic.Sequential([ic.Linear(6, 5), ic.Linear(5, 5)]))
    net.replace("fc.1", ic.Linear(5, 4))
    net.replace("stem", ic.Conv2d(3, 4, 1))
    net.replace("stem", ic.Conv2d(3, 4, 5, padding=2))
    ic.Trainer(net).save(tmp_path / "x.safetensors")
    loaded = ic.Trainer.load(tmp_path / "x.safetensors").net
    assert_same_bits(loaded.state_dict(), net.state_dict())
    assert [*loaded.replaced] == ["fc", "fc.1", "stem"]


def test_the_seed_draws_the_new_layer():
    nets = [plain().init(0).replace("6", ic.Linear(64, 9), seed=seed) for seed in (0, 0, 1)]
    weights = [net.state_dict()["6.weight"] for net in nets]
    assert_same_bits(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_others_stay_frozen_the_new_layer_learns():
    net = plain().init(0)
    net.freeze()
    net.replace("6", ic.Linear(64, 9))
    assert net.frozen == ("0.weight", "0.bias", "3.weight", "3.bias")
    assert net.graph.nodes[-1].frozen == frozenset()


def test_a_trainer_of_the_network_before_says_so():
    net = plain().init(0)
    trainer = ic.Trainer(net)
    net.replace("6", ic.Linear(64, 9))
    with pytest.raises(ic.ShapeError, match="make a new Trainer"):
        trainer.step(normal(4, 3, 8, 8), np.arange(4))


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("head", ic.Linear(6, 2), r"the network has no layer 'head'; there are: stem, several.0"),
        ("inner.7", ic.Linear(6, 2), r"no layer 'inner.7'; names like it are: inner.1, inner.0"),
        ("fc", ic.Linear(7, 2), r"expected 7 input features, got 6"),
        ("fc", "linear", r"layer must be a layer such as ic.Linear\(512, 10\), got 'linear'"),
        (4, ic.Linear(6, 2), r'name must be text, such as "fc" or "4", got 4'),
        ("fc.weight", ic.Linear(7, 2), r"no layer 'fc.weight'; there are: stem"),
    ],
)
def test_what_does_not_fit_changes_nothing(name, layer, message):
    net = Block().init(0)
    x = normal(2, 3, 8, 8)
    net.freeze("stem.*")
    expected, frozen = net.predict(x), net.frozen
    with pytest.raises(ic.ShapeError, match=message):
        net.replace(name, layer)
    assert_same_bits(net.predict(x), expected)
    assert net.frozen == frozen
    ic.Trainer(net).step(x, np.arange(2))


def test_a_layer_of_the_network_does_not_fit():
    net = Block().init(0)
    with pytest.raises(ic.ShapeError, match="already in the network"):
        net.replace("several.1", net.stem)
    net.check_unchanged()


# ---------------------------------------------------------------------- states that fit in part


def test_a_report_of_what_was_loaded():
    old, new = Block().init(0), Block().init(1)
    new.replace("fc", ic.Linear(6, 5))
    state = old.state_dict() | {"more.weight": np.ones(3)}
    del state["stem.bias"]
    before = new.state_dict()
    report = new.load_state_dict(state, strict=False)
    assert report.missing == ("stem.bias",)
    assert report.unexpected == ("more.weight",)
    assert report.mismatched == {"fc.weight": ((3, 6), (5, 6)), "fc.bias": ((3,), (5,))}
    assert report.loaded == ("stem.weight", "several.0.weight", "several.0.bias", "inner.0.weight", "inner.0.bias")
    for name, value in new.state_dict().items():
        assert_same_bits(value, state[name] if name in report.loaded else before[name])
    assert str(report) == (
        "5 of 8 entries of the network loaded\n"
        "missing in the state, kept as they were:\n  stem.bias\n"
        "not in the network, left out:\n  more.weight\n"
        "of another shape, kept as they were:\n  fc.weight (3, 6), the network's is (5, 6)\n"
        "  fc.bias (3,), the network's is (5,)"
    )


def test_a_state_that_fits_gives_a_short_report():
    net = Block().init(0)
    for strict in (True, False):
        report = net.load_state_dict(net.state_dict(), strict=strict)
        assert str(report) == "8 of 8 entries of the network loaded"


def test_long_lists_are_cut():
    net = ic.models.resnet18(classes=3, input_size=8)
    report = net.load_state_dict({"fc.bias": np.zeros(3)}, strict=False)
    assert len(report.missing) > 50
    assert len(str(report).splitlines()) == 23
    assert f"... and {len(report.missing) - 20} more" in str(report)


@pytest.mark.parametrize("strict", [True, False])
def test_a_state_of_which_nothing_fits_is_an_error(strict):
    net = Block()
    state = {f"module.{name}": value for name, value in Block().init(0).state_dict().items()}
    with pytest.raises(ic.CheckpointError, match=r"module.stem.weight"):
        net.load_state_dict(state, strict=strict)
    assert not net.initialized


def test_an_entry_that_is_no_array_is_an_error_also_in_part():
    net = Block().init(0)
    before = net.state_dict()
    with pytest.raises(ic.CheckpointError, match=r"fc\.bias"):
        net.load_state_dict({"stem.bias": np.ones(4), "fc.bias": ["a"]}, strict=False)
    assert_same_bits(net.state_dict(), before)


def test_the_normalisation_and_the_inputs_stay():
    net = Block().init(0)
    net.normalization = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    net.inputs = ic.datasets.Inputs.of(normal(4, 3, 8, 8))
    known = net.normalization, net.inputs
    net.replace("inner.0", ic.Linear(4, 6))
    assert (net.normalization, net.inputs) == known
    expected = net.predict(x := normal(2, 3, 8, 8))
    net.normalization = None
    assert not np.array_equal(net.predict(x), expected)


def test_a_new_last_layer_has_names_of_classes_of_its_own(tmp_path):
    """Without a warning, and in the checkpoint."""
    images, labels = normal(8, 3, 8, 8), np.arange(8) % 2
    net = Block().init(0)
    ic.Trainer(net).fit(ic.datasets.Dataset(images, labels, classes=("cat", "dog")), epochs=1, progress=False)
    net.replace("stem", ic.Conv2d(3, 4, 1))
    assert net.inputs.classes == ("cat", "dog")
    net.replace("fc", ic.Linear(6, 2))
    assert net.inputs.classes == ()
    trainer = ic.Trainer(net)
    trainer.fit(ic.datasets.Dataset(images, labels, classes=("car", "bus")), epochs=1, progress=False)
    trainer.save(tmp_path / "x.safetensors")
    assert ic.Trainer.load(tmp_path / "x.safetensors").net.inputs.classes == ("car", "bus")
    with pytest.raises(ic.DataError, match=r"scale"):
        ic.Trainer(net).fit(ic.datasets.Dataset(1e4 * images, labels, classes=("car", "bus")), 1, progress=False)
