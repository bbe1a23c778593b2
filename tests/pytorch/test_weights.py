"""Files of weights, from PyTorch and to it, and a module of PyTorch that is ported line by line."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic

REFERENCE = Path(__file__).parents[1] / "reference"
#: of a number of this precision, the part that rounding may change
ROUNDING = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8}


class Block(ic.Network):
    def __init__(self, channels):
        self.conv = ic.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = ic.BatchNorm2d(channels)
        self.relu = ic.ReLU()

    def define(self, x):
        return self.relu(self.bn(self.conv(x)) + x)


class Small(ic.Network):
    """The module of tests/reference/make_torch_weights.py."""

    def __init__(self):
        self.stem = ic.Conv2d(3, 4, 3, stride=2)
        self.blocks = [Block(4), Block(4)]
        self.pool = ic.AdaptiveAvgPool2d(1)
        self.flatten = ic.Flatten()
        self.fc = ic.Linear(4, 2)

    def define(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.flatten(self.pool(x)))


def of_torch(precision):
    return REFERENCE / f"torch_weights_{precision}.safetensors"


@pytest.mark.parametrize("precision", ROUNDING)
def test_a_ported_module_computes_what_pytorch_s_does(precision):
    net, values = Small(), np.load(REFERENCE / "torch_weights.npz")
    report = net.load_state_dict(ic.load_weights(of_torch(precision)))
    assert not report.missing
    assert not report.unexpected
    np.testing.assert_allclose(net.predict(values["images"]), values[precision], rtol=0, atol=2e-6)


def test_halves_are_read_exactly():
    exact = ic.load_weights(of_torch("float32"))
    assert exact["blocks.0.bn.num_batches_tracked"].shape == ()
    for precision, rounding in ROUNDING.items():
        found = ic.load_weights(of_torch(precision))
        assert found.keys() == exact.keys()
        for name, array in found.items():
            np.testing.assert_allclose(array.astype("float64"), exact[name], rtol=rounding, atol=1e-8)
    assert found["fc.weight"].dtype == "float32"
    assert not (found["fc.weight"].view("u4") & 0xFFFF).any()  # the upper halves, nothing else


def test_what_is_written_is_read(tmp_path):
    net, path = Small().init(seed=3), tmp_path / "small.safetensors"
    ic.save_weights(net.state_dict(), path)
    found = ic.load_weights(path)
    assert [*sorted(found)] == [*sorted(net.state_dict())]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(found[name], array)
    first = path.read_bytes()
    ic.save_weights(net.state_dict(), path)
    assert path.read_bytes() == first
    ic.save_weights({"n": np.array(3), "t": normal(3, 2).T}, path)
    assert ic.load_weights(path)["n"].shape == ()
    assert ic.load_weights(path)["t"].shape == (2, 3)


def test_a_state_is_asked_for_where_a_network_is_given(tmp_path):
    with pytest.raises(ic.CheckpointError, match="got a Small: give its state_dict"):
        ic.save_weights(Small(), tmp_path / "x.safetensors")
    assert not [*tmp_path.iterdir()]


def test_arrays_of_all_kinds_are_written_and_others_refused(tmp_path):
    bfloat16, path = pytest.importorskip("ml_dtypes").bfloat16, tmp_path / "x.safetensors"
    given = {
        "half": np.array([1.5, 2], "float16"),
        "bfloat16": np.array([1.5, -2], bfloat16),
        "list": [[1, 2], [3, 4]],
        "objects": np.array([1, 2.5], object),
        "long": np.array([1.5], np.longdouble),
        "swapped": np.array([1.5, 3], ">f4"),
        "truth": np.array([True, False]),
    }
    ic.save_weights(given, path)
    found = ic.load_weights(path)
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], np.asarray(array).astype(found[name].dtype))
    before = path.read_bytes()
    for wrong in (np.array(["a"]), np.array([1j]), np.ma.masked_equal([1, 2], 1)):
        with pytest.raises(ic.CheckpointError, match=r"^fc "):
            ic.save_weights({"fc": wrong}, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("start", [b"PK\x03\x04" + bytes(30), b"\x80\x02}q\x00." + bytes(20)])
def test_a_pickle_is_refused_with_the_line_that_converts_it(tmp_path, start):
    path = tmp_path / "model.pt"
    path.write_bytes(start)
    with pytest.raises(ic.CheckpointError) as error:
        ic.load_weights(path)
    assert "a pickle, and reading a pickle runs code from the file" in str(error.value)
    assert f"safetensors.torch.save_file(torch.load({str(path)!r}, weights_only=True)" in str(error.value)
    assert f"{str(tmp_path / 'model.safetensors')!r})" in str(error.value)
    with pytest.raises(ic.CheckpointError, match="a pickle"):
        ic.Trainer.load(path)


def test_what_is_no_file_of_weights(tmp_path):
    with pytest.raises(ic.CheckpointError, match="there is no such file"):
        ic.load_weights(tmp_path / "none.safetensors")
    with pytest.raises(ic.CheckpointError, match="is a folder"):
        ic.load_weights(tmp_path)
    path = tmp_path / "x.safetensors"
    trainer = ic.Trainer(Small(), seed=0)
    trainer.save(path)
    with pytest.raises(
        ic.CheckpointError, match=r"is a checkpoint: its weights are ic.Trainer.load\(.*\).net.state_dict"
    ):
        ic.load_weights(path)
    ic.save_weights(trainer.net.state_dict(), path)
    with pytest.raises(ic.CheckpointError, match=r"load weights alone by net.load_state_dict"):
        ic.Trainer.load(path)


def damaged(whole):
    """Files that are cut off, or whose header has changed."""
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    for part in (0, 7, 8, 40, len(whole) - 1):
        yield whole[:part]
    yield (1 << 62).to_bytes(8, "little") + whole[8:]
    for change in ({"dtype": "F8_E4M3"}, {"shape": [-1]}, {"shape": [1 << 62]}, {"data_offsets": [0, 1 << 40]}):
        changed = json.dumps(header | {"fc.weight": header["fc.weight"] | change}).encode()
        yield len(changed).to_bytes(8, "little") + changed + whole[8 + size :]


@pytest.mark.parametrize("precision", ROUNDING)
def test_damaged_files_are_refused(tmp_path, precision):
    path = tmp_path / "x.safetensors"
    for content in damaged(of_torch(precision).read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ic.CheckpointError, match=r"x\.safetensors"):
            ic.load_weights(path)
