"""What checkpoints hold is checked: checksums, sizes before memory, descriptions of every kind, classes, folders."""

import copy
import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from helpers import assert_same_bits, everything
from safetensors.numpy import load_file, save_file

import im2colnet as ic
from im2colnet.training import checkpoint

OLD = Path(__file__).parents[1] / "reference" / "checkpoint_0_1.safetensors"  # written by version 0.1.0
IMAGES, LABELS = np.arange(20 * 64, dtype="f4").reshape(20, 1, 8, 8) % 17 / 17, np.arange(20) % 3


pytestmark = pytest.mark.usefixtures("one_thread")


def new_trainer(seed=0, filters=2):
    layers = [ic.Conv2d(1, filters, 3), ic.BatchNorm2d(filters), ic.ReLU(), ic.Dropout(0.2), ic.Flatten()]
    net = ic.Sequential([*layers, ic.Linear(36 * filters, 3)])
    return ic.Trainer(net, optimizer=ic.SGD(ic.Cosine(0.05, steps=20), momentum=0.9), seed=seed)


def header(path):
    content = Path(path).read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def write(path, info, tensors):
    """Write a file without checksums, as version 0.1 did."""
    info = {k: v for k, v in info.items() if k != "crc32"}
    save_file(tensors, path, {"im2colnet": json.dumps(info)})


# Old files and new ones ---------------------------------------------------------------------------------------------
def test_a_checkpoint_of_the_first_version_goes_on():
    trainer = ic.Trainer.load(OLD)
    assert trainer.epoch == 2
    assert [record["epoch"] for record in trainer.history] == [1, 2]
    tensors = load_file(OLD)
    assert_same_bits(trainer.net.state_dict(), {k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    found = trainer.net.predict(IMAGES[:2])  # version 0.1.0 on the day it was written
    expected = [[0.0345892, -0.34425423, -0.1397712], [-0.02478059, -0.10681266, -0.07766861]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert trainer.step(IMAGES[8:16], LABELS[8:16]) == pytest.approx(2.017866781912744, rel=1e-4)


def test_a_newer_format_is_refused_with_both_versions(tmp_path):
    info = json.loads(header(OLD)["__metadata__"]["im2colnet"])
    for version in (2, 0, -1, True, "1", None, 1.0, [1]):
        write(tmp_path / "a", {**info, "format": version, "version": "7.3"}, load_file(OLD))
        with pytest.raises(ic.CheckpointError) as error:
            ic.Trainer.load(tmp_path / "a")
        assert f"has format {json.dumps(version)}, this version reads 1; update" in str(error.value)
        assert "im2colnet 7.3 has written it" in str(error.value)


def test_entries_of_a_later_version_are_ignored(tmp_path):
    info, tensors = json.loads(header(OLD)["__metadata__"]["im2colnet"]), load_file(OLD)
    info["state"]["partial"]["more"] = info["state"]["scale"]["more"] = info["state"]["more"] = {"x": [1]}
    info["more"], info["network"]["more"] = {"x": "y"}, 3
    write(tmp_path / "a", info, tensors | {"average.0.weight": np.zeros(7, "f4")})
    assert_same_bits(everything(ic.Trainer.load(tmp_path / "a")), everything(ic.Trainer.load(OLD)))


# Checksums ----------------------------------------------------------------------------------------------------------
def test_every_flipped_bit_is_found(tmp_path):
    path, trainer = tmp_path / "a", new_trainer()
    trainer.fit((IMAGES, LABELS), 1, 10)
    trainer.save(path)
    content = path.read_bytes()
    tensors = 8 + int.from_bytes(content[:8], "little")
    rng = random.Random(0)
    places = [*range(8), *rng.sample(range(8, tensors), 400), *rng.sample(range(tensors, len(content)), 300)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ic.CheckpointError, match=f"{path}"):
            ic.Trainer.load(path)
    path.write_bytes(content)
    assert_same_bits(everything(ic.Trainer.load(path)), everything(trainer))


@pytest.mark.parametrize("what", ["bytes", "swapped", "renamed", "description", "no checksum", "other checksum"])
def test_what_the_checksums_cover(what, tmp_path):
    path = tmp_path / "a"
    new_trainer().save(path)
    metadata, tensors = header(path)["__metadata__"], load_file(path)
    if what == "bytes":
        tensors["net.5.bias"] = tensors["net.5.bias"] + np.float32(1e-7)
    elif what == "swapped":
        a, b = "net.1.running_mean", "net.1.bias"
        tensors["net.0.bias"] += 1
        save_file(tensors, path, metadata)
        tensors[a], tensors[b] = tensors[b] + 1, tensors[a]
    elif what == "renamed":
        tensors["average"] = tensors["net.0.bias"].copy()
    elif what == "description":
        metadata["im2colnet"] = metadata["im2colnet"].replace('"momentum": 0.9', '"momentum": 0.8')
    elif what == "no checksum":
        del metadata["im2colnet.crc32"]
    else:
        metadata["im2colnet.crc32"] = metadata["im2colnet.crc32"].upper() + "0"
    save_file(tensors, path, metadata)
    with pytest.raises(ic.CheckpointError, match=f"{path}.* is damaged: its (tensors|description) ha"):
        ic.Trainer.load(path)


def test_the_checksum_does_not_depend_on_how_arrays_lie_in_memory():
    array = np.arange(12, dtype="f4").reshape(3, 4)
    expected = checkpoint.checksum({"a": array})
    others = [np.asfortranarray(array), array.astype(">f4"), array.T.copy().T]
    assert [checkpoint.checksum({"a": other}) for other in others] == [expected] * 3
    different = [{"b": array}, {"a": array.T}, {"a": array.astype("f8")}, {"a": array.reshape(4, 3)}, {}]
    assert expected not in [checkpoint.checksum(tensors) for tensors in different]
    assert checkpoint.checksum({"a": np.zeros((0, 3), "f4"), "b": np.array(1.0)})


# Sizes before memory ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [12_000, 2**60, 2**31])
@pytest.mark.parametrize("given", [False, True])
def test_a_small_file_costs_little_memory(size, given, tmp_path):
    info = json.loads(header(OLD)["__metadata__"]["im2colnet"])
    layer = {"type": "Linear", "arguments": {"in_features": size, "out_features": size, "bias": True}}
    info["network"]["arguments"]["layers"] = [layer]
    info["input_shape"] = [size]
    write(tmp_path / "a", info, {"x": np.zeros(1, "f4")})
    assert (tmp_path / "a").stat().st_size < 5000
    tracemalloc.start()
    try:
        with pytest.raises(ic.CheckpointError, match=r"(?s)a: .*another network.*0\.weight is missing"):
            ic.Trainer.load(tmp_path / "a", ic.Sequential([ic.Linear(size, size)]) if given else None)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_optimiser_s_state_is_compared_before_tensors_are_read(tmp_path, monkeypatch):
    info, tensors = json.loads(header(OLD)["__metadata__"]["im2colnet"]), load_file(OLD)
    info["optimizer"] = {"type": "Adam", "arguments": {"lr": 0.1}}
    # the tensors are not those that were written, which shows when they are read
    text = json.dumps({**info, "crc32": "00000000"})
    save_file(tensors, tmp_path / "a", {"im2colnet": text, "im2colnet.crc32": f"{crc32(text.encode()):08x}"})
    monkeypatch.setattr(ic.Network, "init", None)
    with pytest.raises(ic.CheckpointError, match=r"optimizer\.mean\.0\.weight must have shape .*, it is missing"):
        ic.Trainer.load(tmp_path / "a")


def test_tensors_of_other_types(tmp_path):
    tensors = load_file(OLD)
    for kind in ("i4", "u1", "?"):
        write(
            tmp_path / "a",
            json.loads(header(OLD)["__metadata__"]["im2colnet"]),
            tensors | {"net.0.weight": tensors["net.0.weight"].astype(kind)},
        )
        with pytest.raises(ic.CheckpointError, match=r"a cannot be loaded: net\.0\.weight is of type"):
            ic.Trainer.load(tmp_path / "a")


# Descriptions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("network.arguments.layers.0.arguments.out_channels", -1, r"network\.arguments\.layers\.0: .*out_channels"),
        ("network.arguments.layers.0.arguments.out_channels", "4", r"network\.arguments\.layers\.0: .*out_channels"),
        ("network.arguments.layers.0.arguments.out_channels", 2**60, r"0\.weight has shape \(4, 1, 3, 3\)"),
        (
            "network.arguments.layers.3.arguments.body.arguments.layers.0.type",
            "Layer",
            r"network\.arguments\.layers\.3\.arguments\.body\.arguments\.layers\.0: .*'Layer' is only the base",
        ),
        ("network.type", "Network", "network: .*'Network' is only the base"),
        ("network", {"type": "ReLU", "arguments": {}}, "network must describe a Network"),
        ("optimizer.type", "Optimizer", "optimizer: .*'Optimizer' is only the base"),
        ("optimizer", {"type": "CrossEntropyLoss", "arguments": {}}, "optimizer must describe a Optimizer"),
        ("optimizer.arguments.lr", float("nan"), "optimizer: .*lr"),
        ("optimizer.arguments.lr.type", "Constant", "optimizer.arguments.lr: .*Constant does not fit"),
        ("loss", None, "loss must be an object, it is null"),
        ("state.step", -1, r"state\.step must be a whole number from 0 .*, it is -1"),
        ("state.step", 2**70, r"state\.step must be a whole number"),
        ("state.step", 1.5, r"state\.step must be a whole number"),
        ("state.epoch", True, r"state\.epoch must be a whole number .*, it is true"),
        ("state.total", "x", r"state\.total must be a whole number .* or null, it is \"x\""),
        ("state.partial.loss", float("inf"), r"state\.partial\.loss must be a finite number, it is Infinity"),
        ("state.partial.seconds", None, r"state\.partial\.seconds must be a finite number"),
        ("state.partial", [], r"state\.partial must be an object"),
        ("state.partial.batch", 99, "state contradict"),
        ("state.scale.value", 0.0, "state contradict"),
        ("history.1", 3, r"history\.1 must be an object"),
        ("history.0.loss", "x", r"history\.0\.loss must be a number"),
        ("history.0", {"epoch": 1}, r"history\.0\.loss is missing"),
        ("input_shape", [1, 8], "layer '0'"),
        ("input_shape", [1, 0, 8], "input_shape must be"),
        ("input_shape", [3, 8, 8], "layer '0'"),
        ("seed", -1, "seed"),
        ("shard", 0, "shard"),
        ("dtype", 3, "dtype must be text, it is 3"),
        ("precision", [], "precision must be text or null"),
    ],
)
def test_errors_name_the_file_and_the_place(place, value, text, tmp_path):
    info = json.loads(header(OLD)["__metadata__"]["im2colnet"])
    write(tmp_path / "a.safetensors", replaced(info, place.split("."), value), load_file(OLD))
    with pytest.raises(ic.CheckpointError, match=f"(?s){tmp_path}.a.safetensors.*{text}"):
        ic.Trainer.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("depth", [900, 100_000])
@pytest.mark.parametrize("kind", ["list", "layers"])
def test_a_description_that_is_nested(depth, kind, tmp_path):
    text = header(OLD)["__metadata__"]["im2colnet"]
    inner = ('{"type": "Sequential", "arguments": {"layers": [', "]}}") if kind == "layers" else ("[", "]")
    info = json.loads(text) | {"network": "HERE"}
    content = inner[0] * depth + '{"type": "ReLU", "arguments": {}}' + inner[1] * depth
    save_file(load_file(OLD), tmp_path / "a", {"im2colnet": json.dumps(info).replace('"HERE"', content)})
    with pytest.raises(ic.CheckpointError, match=str(tmp_path / "a")):
        ic.Trainer.load(tmp_path / "a")


DELETED = object()
VALUES = [
    None,
    True,
    0,
    1,
    -1,
    3,
    2**31,
    2**60,
    10**30,
    0.5,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "4",
    "float64",
    "same",
    [],
    [1],
    [[1, 2], [3, 4]],
    {},
    {"type": "Layer", "arguments": {}},
    {"type": "ReLU", "arguments": {}},
    {"type": "Optimizer", "arguments": {"lr": 0.1}},
    {"type": "Add", "arguments": {}},
    {"type": [], "arguments": {}},
    {"type": "Constant", "arguments": {"lr": 0.1}},
    {"type": "AdamW", "arguments": {}},
    DELETED,
]


def places(value, place=()):
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*place, key))


def replaced(root, place, value):
    root = copy.deepcopy(root)
    *parents, last = (int(key) if str(key).isdigit() else key for key in place)
    inner = root
    for key in parents:
        inner = inner[key]
    if value is DELETED:
        del inner[last]
    else:
        inner[last] = value
    return root


@pytest.mark.filterwarnings("ignore")
def test_changed_descriptions_load_and_train_or_are_refused(tmp_path):
    """A sample of the thousands of changes of one entry, and every public class in place of some other one.

    Whatever loads trains an epoch, or says why not.
    """
    path, tensors = tmp_path / "a.safetensors", load_file(OLD)
    info = json.loads(header(OLD)["__metadata__"]["im2colnet"])
    every = [place for place in places(info) if place]
    rng, counts = random.Random(0), {"refused": 0, "trained": 0}
    changes = [(rng.choice(every), rng.choice(VALUES)) for _ in range(500)]
    named = {name: getattr(ic, name) for name in ic.__all__}
    public = [name for name, value in named.items() if isinstance(value, type) and name in checkpoint.known_classes()]
    names = [*public, *(f"{named[name].__module__}.{name}" for name in public)]
    types = [place for place in every if place[-1] == "type"]
    classes = [(place, name) for name in names for place in rng.sample(types, max(1, len(types) // 4))]
    for place, value in changes + classes:
        write(path, replaced(info, place, value), tensors)
        try:
            trainer = ic.Trainer.load(path)
        except ic.CheckpointError as error:
            message = str(error)
            counts["refused"] += 1
        else:
            message = str(path)
            counts["trained"] += 1
        assert str(path) in message, (place, value)
        if message != str(path):
            continue
        try:
            trainer.fit((IMAGES, LABELS), min(trainer.epoch + 1, 10**6), 8)
            trainer.net.predict(IMAGES[:2])
        except ic.Im2colnetError:
            pass
    assert min(counts.values()) > 40, counts


# Classes ------------------------------------------------------------------------------------------------------------
CELL = """
class {name}({base}):
    def __init__(self, channels=1, factor=1.0):
        self.channels, self.factor = channels, factor
    def parameters(self):
        return {{"scale": ic.Parameter((1,), value=self.factor)}}
    def forward(self, x, ctx):
        return x * ctx.params["scale"]
    def backward(self, dy, ctx):
        ctx.grads["scale"][...] = (dy * ctx.x).sum()
        return dy * ctx.params["scale"]
    version = {version}
"""


@pytest.fixture
def module(monkeypatch):
    """Make a module, as a notebook or a file of a user's is one, and return its namespace."""

    def make(name):
        new = type(sys)(name)
        new.ic, new.ReLU = ic, ic.ReLU
        monkeypatch.setitem(sys.modules, name, new)
        return vars(new)

    return make


def run_cell(space, version=1, name="Swish", base="ic.Layer"):
    exec(CELL.format(name=name, base=base, version=version), space)
    return space[name]


def train_with(layer, path):
    trainer = ic.Trainer(ic.Sequential([layer, ic.Flatten(), ic.Linear(64, 3)]))
    trainer.step(IMAGES, LABELS)
    trainer.save(path)
    return trainer


def test_a_notebook_s_cell_may_be_run_again(module, tmp_path):
    space, kept = module("notebook_a"), []
    for version, base in enumerate(["ic.Layer", "ic.Layer", "ic.ReLU", "ic.Layer"]):
        kept.append(run_cell(space, version, base=base))
        if version == 0:
            trainer = train_with(kept[0](), tmp_path / "a")
        trainer.step(IMAGES, LABELS)
        trainer.save(tmp_path / "a")  # of the first definition, which lives on in the network
        again = ic.Trainer.load(tmp_path / "a")
        assert type(again.net.layers[0]) is kept[-1]  # of the newest
        assert again.net.layers[0].version == version
        assert_same_bits(again.net.state_dict(), trainer.net.state_dict())


def test_losses_and_optimisers_may_be_defined_again(module, tmp_path):
    space = module("notebook_b")
    cell = """
from dataclasses import dataclass
class Loss(ic.CrossEntropyLoss): pass
@dataclass(frozen=True)
class Descent(ic.SGD): pass
@dataclass(frozen=True)
class Rate(ic.Constant): pass
"""
    exec(cell, space)
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 3)])
    trainer = ic.Trainer(net, space["Loss"](), space["Descent"](space["Rate"](0.1), momentum=0.5))
    old = dict(space)
    exec(cell, space)
    trainer.step(IMAGES, LABELS)
    trainer.save(tmp_path / "a")
    again = ic.Trainer.load(tmp_path / "a")
    assert type(again.loss) is space["Loss"] is not old["Loss"]
    assert type(again.optimizer) is space["Descent"] is not old["Descent"]
    assert type(again.optimizer.lr) is space["Rate"] is not old["Rate"]
    assert again.step(IMAGES, LABELS) == trainer.step(IMAGES, LABELS)


def test_classes_of_one_name_in_two_modules(module, tmp_path):
    a, b = module("module_a"), module("module_b")
    one = run_cell(a, 1, "Ripple")
    train_with(one(), tmp_path / "alone")  # nobody else has that name yet
    two = run_cell(b, 2, "Ripple")
    for cls in (one, two):
        train_with(cls(), tmp_path / "a")
        assert type(ic.Trainer.load(tmp_path / "a").net.layers[0]) is cls
    with pytest.raises(
        ic.CheckpointError,
        match=r"alone: network\.arguments\.layers\.0: .*'Ripple', and there are several"
        r" classes of this name here \(module_a\.Ripple, module_b\.Ripple\)",
    ):
        ic.Trainer.load(tmp_path / "alone")


def test_a_class_that_moved_to_another_module_is_found(module, tmp_path):
    space = module("module_c")
    train_with(run_cell(space, 1, "Gelu")(), tmp_path / "a")
    info = header(tmp_path / "a")["__metadata__"]["im2colnet"]
    assert "module_c" not in info  # so that a script finds what a notebook has defined


def test_a_class_named_like_one_of_the_library(module, tmp_path):
    space = module("module_d")
    cls = run_cell(space, 5, "Dropout")
    trainer = train_with(cls(factor=2.0), tmp_path / "a")
    again = ic.Trainer.load(tmp_path / "a")
    assert type(again.net.layers[0]) is cls
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
    train_with(ic.Dropout(0.5), tmp_path / "b")
    assert type(ic.Trainer.load(tmp_path / "b").net.layers[0]) is ic.Dropout
    assert header(tmp_path / "b")["__metadata__"]["im2colnet"].count('"type": "Dropout"') == 1
    content = header(tmp_path / "a")["__metadata__"]["im2colnet"].replace("module_d.Dropout", "module_e.Dropout")
    write(tmp_path / "c", json.loads(content), load_file(tmp_path / "a"))
    with pytest.raises(ic.CheckpointError, match=r"'module_e\.Dropout', unknown here.*there is im2colnet"):
        ic.Trainer.load(tmp_path / "c")


def test_a_class_of_a_user_is_never_one_that_a_later_version_of_the_library_has(module, tmp_path):
    """The file was written when the library had no class of that name, so it has only the short name."""
    space = module("module_f")
    cls = run_cell(space, 3, "Fade")
    trainer = train_with(cls(factor=2.0), tmp_path / "a")
    later = type("Fade", (ic.Layer,), {"__module__": "im2colnet.layers.later", "forward": None, "backward": None})
    again = ic.Trainer.load(tmp_path / "a")
    assert type(again.net.layers[0]) is cls is not later
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
    content = header(tmp_path / "a")["__metadata__"]["im2colnet"]
    assert content.count('"foreign": true') == 1
    for name, match in (("Fled", "'Fled', unknown here"), ("ReLU", "'ReLU', unknown here")):
        write(tmp_path / "b", json.loads(content.replace('"Fade"', f'"{name}"')), load_file(tmp_path / "a"))
        with pytest.raises(ic.CheckpointError, match=match):
            ic.Trainer.load(tmp_path / "b")
    for damaged in ("1", '"yes"', "null"):
        write(
            tmp_path / "b",
            json.loads(content.replace('"foreign": true', f'"foreign": {damaged}')),
            load_file(tmp_path / "a"),
        )
        with pytest.raises(ic.CheckpointError, match=r"layers\.0\.foreign"):
            ic.Trainer.load(tmp_path / "b")


# Folders ------------------------------------------------------------------------------------------------------------
def fit(trainer, directory, epochs):
    return trainer.fit((IMAGES, LABELS), epochs, 10, directory=directory)


@pytest.mark.parametrize("other", ["same network", "another network", "damaged", "text", "old"])
def test_fit_does_not_overwrite_another_training(other, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    if other == "text":
        path.write_text("my notes")
    elif other == "old":
        path.write_bytes(OLD.read_bytes())
    else:
        fit(new_trainer(1, filters=3 if other == "another network" else 2), tmp_path, 1)
        if other == "damaged":
            path.write_bytes(path.read_bytes()[:-9])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    trainer = new_trainer()
    with pytest.raises(ic.CheckpointError, match=r"checkpoint\.safetensors is not overwritten: .*another directory"):
        fit(trainer, tmp_path, 1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert trainer.epoch == 0  # found out before, not after an epoch
    fit(trainer, tmp_path / "new", 1)
    assert ic.Trainer.load(tmp_path / "new" / "checkpoint.safetensors").epoch == 1


@pytest.mark.filterwarnings("ignore")  # that the old file's schedule goes on with more epochs
def test_fit_goes_on_in_its_folder(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trainer = new_trainer()
    fit(trainer, tmp_path, 1)
    fit(trainer, tmp_path, 2)
    trainer.save(tmp_path / "best")
    fit(trainer, tmp_path / "b", 3)
    fit(trainer, tmp_path, 3)
    os.utime(path, (0, 0))  # touched, or copied: the content counts
    fit(trainer, tmp_path, 4)
    again = ic.Trainer.load(path)
    fit(again, tmp_path, 5)
    assert ic.Trainer.load(path).epoch == 5
    path.unlink()
    fit(again, tmp_path, 6)
    path.write_bytes(OLD.read_bytes())
    old = ic.Trainer.load(path)
    fit(old, tmp_path, 3)
    assert ic.Trainer.load(path).epoch == 3


def test_two_trainings_in_one_folder(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    fit(new_trainer(), tmp_path, 1)
    one, two = ic.Trainer.load(path), ic.Trainer.load(path)
    fit(one, tmp_path, 2)
    with pytest.raises(ic.CheckpointError, match="is not overwritten"):
        fit(two, tmp_path, 2)
    fit(one, tmp_path, 3)

    class Meanwhile:
        def step(self, progress):
            if progress.epoch == 5 and progress.batch == 1:
                new_trainer(5).save(path)

        def epoch(self, record):
            pass

    with pytest.raises(ic.CheckpointError, match=r"is not overwritten: .*trainer\.save\(path\) writes it elsewhere"):
        one.fit((IMAGES, LABELS), 6, 10, directory=tmp_path, display=Meanwhile())
    assert ic.Trainer.load(path).seed == 5
    assert one.epoch == 5
    one.save(tmp_path / "rescued")
    assert ic.Trainer.load(tmp_path / "rescued").epoch == 5


# Copies -------------------------------------------------------------------------------------------------------------
def pickled(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", [pickled, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("optimizer", [ic.SGD(ic.Cosine(0.05, steps=20), momentum=0.9), ic.AdamW(0.01), ic.SGD(0.1)])
def test_a_copy_trains_on_with_the_same_bits_and_alone(method, optimizer, dtype):
    net = new_trainer().net.init(3, dtype)
    trainer = ic.Trainer(net, optimizer=optimizer, seed=7, shard=3)
    trainer.fit((IMAGES, LABELS), 1, 7, (IMAGES, LABELS))
    before, history = everything(trainer), list(trainer.history)
    again = method(trainer)
    assert again.net is not net
    for trained, other in ((again, trainer), (trainer, again)):
        unchanged = everything(other)
        trained.fit((IMAGES, LABELS), 3, 7)
        assert_same_bits(everything(other), unchanged)
    assert_same_bits(everything(again), everything(trainer))
    assert not np.array_equal(everything(again)["5.weight"], before["5.weight"])
    assert [r["loss"] for r in again.history] == [r["loss"] for r in trainer.history]
    assert list(trainer.history)[:1] == history
    assert isinstance(again.history, ic.History)


def test_a_copy_within_an_epoch_and_of_more_than_the_trainer(tmp_path):
    trainer = new_trainer()
    trainer.step(IMAGES, LABELS)
    net, again = pickled((trainer.net, trainer))
    assert again.net is net
    assert again.step(IMAGES, LABELS) == trainer.step(IMAGES, LABELS)
    assert again.evaluate((IMAGES, LABELS)) == trainer.evaluate((IMAGES, LABELS))
    again.save(tmp_path / "a")
    assert_same_bits(everything(ic.Trainer.load(tmp_path / "a")), everything(trainer))


def test_another_process_trains_on(tmp_path):
    trainer = new_trainer()
    trainer.step(IMAGES, LABELS)
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=LABELS)
    script = """
import pickle, sys, numpy as np
trainer = pickle.load(open(sys.argv[1], "rb"))
data = np.load(sys.argv[2])
print(repr(trainer.step(data["images"], data["labels"])))
"""
    (tmp_path / "trainer").write_bytes(pickle.dumps(trainer))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")])}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "trainer", tmp_path / "data.npz"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert float(done.stdout) == trainer.step(IMAGES, LABELS)


@pytest.mark.parametrize("method", [pickled, copy.deepcopy, copy.copy])
def test_copies_of_histories_and_loaders(method):
    trainer = new_trainer()
    history = trainer.fit((IMAGES, LABELS), 2, 10)
    again = method(history)
    assert isinstance(again, ic.History)
    assert again == history
    assert again["loss"] == history["loss"]
    loader = ic.Loader(ic.Dataset(IMAGES, LABELS), 6, seed=3)
    for (a, b), (c, d) in zip(method(loader).epoch(1), loader.epoch(1), strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
    for value in (trainer.net, trainer.optimizer, trainer.loss, trainer.optimizer.schedule, loader.dataset):
        assert type(method(value)) is type(value)
