"""``im2colnet onnx``."""

import json

import numpy as np
import pytest
from onnx_files import external, model, node, tensors

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("folder")


def write(path, made):
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def conv(folder):
    """A file whose images have no known size."""
    arrays = {"w": np.ones((4, 3, 3, 3), "float32")}
    return write(folder / "conv.onnx", model([node("Conv", "x w", "y")], {"x": ("N", 3, None, None)}, arrays=arrays))


def test_a_good_file(run, conv):
    out, err = run("onnx", conv, "--input-shape", "3,10,12", "--batch-size", "4")
    assert err == ""
    lines = out.splitlines()
    assert lines[0].endswith("conv.onnx: opset 17, 432 B of constants")
    assert lines[1:3] == ["input   x  (N, 3, ?, ?)  float32", "output  y  (N, 4, 8, 10)"]
    assert "Conv          1  Conv1d, Conv2d" in lines
    assert "1 layer, 108 parameters, 17.3 kFLOP for a sample of (3, 10, 12)" in lines
    assert lines[-1].startswith("memory for a batch of 4: ")
    facts = json.loads(run("onnx", conv, "--input-shape", "3,10,12", "--json")[0])
    assert facts["flops"] == 2 * 27 * 4 * 8 * 10
    assert facts["memory"]["batch_size"] == 1


def test_without_the_size_of_the_images(run, conv):
    out, err = run("onnx", conv, code=1)
    assert "Conv          1" in out
    assert "give input_shape=(3, height, width), since shapes are fixed; on the command line by --input-shape" in err


def test_what_is_missing(run, folder):
    nodes = [node("LSTM", "x", "a", name="rnn"), node("NonMaxSuppression", "a", "y", name="nms")]
    path = write(folder / "a.onnx", model(nodes))
    for option in ([], ["--json"]):
        out, err = run("onnx", path, *option, code=1)
        assert "has 2 operators that im2colnet lacks: LSTM (node 'rnn', reads 'x'), NonMaxSuppression (node" in err
    assert [row["missing"] for row in json.loads(out)["operators"]] == [True, True]
    assert "LSTM                   1  missing" in run("onnx", path, code=1)[0]


def test_a_hostile_file(run, folder):
    made = model([node("Add", "x w", "y\x1b[31m")], outputs=("y\x1b[31m",), arrays={"w": external("w", "../../secret")})
    out, err = run("onnx", write(folder / "a.onnx", made), code=1)
    assert out == ""
    assert "a.onnx: tensor 'w' is kept outside of the file, at '../../secret': only files beside the model are" in err
    del made.graph.initializer[:]
    made.graph.initializer.extend(tensors({"w": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}))
    assert "output  y\\x1b[31m" in run("onnx", write(folder / "a.onnx", made))[0]
    assert "the limit is 100 B" in run("onnx", folder / "a.onnx", "--max-bytes", "100", code=1)[1]
    assert "No such file" in run("onnx", "nothing.onnx", code=1)[1]


def test_the_operators_that_are_known(run):
    out, _ = run("onnx", "--operators")
    assert "Conv                            6  Conv1d, Conv2d" in out
    assert "Computed when the file is read, if their inputs are constants or shapes: Abs, Add" in out
    rows = {row["operator"]: row for row in json.loads(run("onnx", "--operators", "--json")[0])["operators"]}
    assert rows["Gelu"]["opset"] == 20
    assert "Conv2d" in rows["Conv"]["layer"]


def test_a_checkpoint_is_written_as_an_onnx_file(run, trained, digits, folder):
    for source, more in ((trained, ()), (trained.parent, ("--opset", "17"))):
        out, err = run("onnx", source, "--out", "net.onnx", *more)
        assert err == ""
        assert out.startswith(f"net.onnx: the network of {trained}, ")
        assert out.endswith(", for batches of 1×8×8\n")
        net = ic.Trainer.load(trained).net
        images = digits[:5].astype("float32") / 255
        np.testing.assert_allclose(ic.onnx.load("net.onnx").predict(images), net.predict(images), rtol=0, atol=1e-5)
        assert json.loads(run("onnx", "net.onnx", "--json")[0])["opset"] == int((more or ("", "22"))[1])
    facts = json.loads(run("onnx", trained, "--out", "net.onnx", "--json")[0])
    assert facts["bytes"] == (folder / "net.onnx").stat().st_size
    assert "give its name too: --out network.onnx" in run("onnx", trained, code=2)[1]
    assert "opset" in run("onnx", trained, "--out", "net.onnx", "--opset", "3", code=1)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--operators", "a.onnx"),
        ("--operators", "--batch-size", "2"),
        ("a.onnx", "--input-shape", "3,0,2"),
        ("a.onnx", "--input-shape", "1,2,3,4"),
        ("a.onnx", "--input-shape", "3,x"),
        ("a.onnx", "--batch-size", "0"),
        ("a.onnx", "--opset", "17"),
        ("a.safetensors", "--out", "a.onnx", "--batch-size", "2"),
        ("a.safetensors", "--out", "a.txt"),
    ],
)
def test_wrong_usage(run, arguments):
    run("onnx", *arguments, code=2)
