"""``im2colnet explain``: from an empty folder, with a run, and with images from files."""

import io
import json
import re

import numpy as np
import pytest
from starting import finish

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("folder")


def test_without_arguments_it_explains_a_convolution_of_a_digit(run):
    out, _ = run("explain")
    assert out.startswith(
        "notebook with new parameters, test image 0 of digits, of class 2\n\nlayer    0: Conv2d(1, 2, 3)"
    )
    assert "0.502·0.290 + 0.812·0.211" in out
    assert "\x1b" not in out
    facts = json.loads(run("explain", "--json")[0])
    net = ic.models.notebook(classes=10).init(seed=0)
    _, test = ic.datasets.load("digits")
    e = ic.explain(net, 0, test.images[0])
    assert facts["network"] == "notebook with new parameters"
    assert np.allclose(facts["columns"], e.columns)
    assert np.allclose(facts["dinputs"][0], e.dinputs[0])
    assert facts["score"]["name"] == e.score.name


def test_the_layers_of_the_help_s_examples_are_there(run):
    """With the model that each names, itself or by its run folder."""
    help_, _ = run("explain", "--help")
    found = re.findall(r"(?:--model |runs/\w+-)(\w+).* --layer (\S+)", help_[help_.index("examples:") :])
    assert len(found) == 3
    for model, layer in found:
        facts = json.loads(run("explain", "--model", model, "--layer", layer, "--json")[0])
        assert (facts["layer"], facts["kind"]) == (layer, "convolution")


def test_a_run_s_layers_with_its_test_images(run, trained):
    net = ic.Trainer.load(trained).net
    _, test = ic.datasets.load("digits")
    for operand in trained, trained.parent:
        facts = json.loads(run("explain", operand, "--layer", "2", "--index", "5", "--output", "3", "--json")[0])
        e = ic.explain(net, "2", test.images[5], output="3")
        assert facts["network"] == str(trained)
        assert facts["image"] == f"test image 5 of digits, of class {test.labels[5]}"
        assert (facts["kind"], facts["score"]["name"]) == ("pooling", "class 3")
        assert np.allclose(facts["output"], e.output)
    with_checkpoint = json.loads(run("explain", "--checkpoint", trained, "--json")[0])
    assert with_checkpoint["layer"] == "0"


def test_an_image_from_a_file(run, trained, folder, digits):
    np.save(folder / "some.npy", digits[:3])
    np.save(folder / "one.npy", digits[1])
    net = ic.Trainer.load(trained).net
    facts = json.loads(run("explain", trained, "some.npy", "--index", "1", "--json")[0])
    assert facts["image"] == "image 1 of some.npy"
    assert np.allclose(facts["output"], ic.explain(net, 0, digits[1]).output)
    alone = json.loads(run("explain", trained, "one.npy", "--json")[0])
    assert alone["image"] == "one.npy"
    assert alone["output"] == facts["output"]
    of_a_model = json.loads(run("explain", "one.npy", "--model", "notebook", "--json")[0])
    assert of_a_model["image"] == "one.npy"


def test_position_and_channel(run):
    out, _ = run("explain", "--position", "1,4", "--channel", "0")
    assert "the window of output (1, 4) in brackets" in out
    assert "times filter 0, row 0 of the weight, is output (0, 1, 4)" in out.replace("\n", " ")


@pytest.mark.parametrize(("ending", "start"), [("json", b"{"), ("txt", b"layer    0"), ("html", b"<!DOCTYPE html>")])
def test_files(run, folder, ending, start):
    out, _ = run("explain", "--out", f"layer.{ending}", "--position", "1,4")
    assert out.startswith(
        f"layer 0 of notebook with new parameters with test image 0 of digits, of class 2 is in layer.{ending}"
    )
    assert (folder / f"layer.{ending}").read_bytes().startswith(start)


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures(run, folder, ending, start):
    pytest.importorskip("matplotlib")
    run("explain", "--out", f"layer.{ending}")
    assert (folder / f"layer.{ending}").read_bytes().startswith(start)


def test_every_layer_of_models(run, folder):
    """Text, page and facts of each kind of layer that models have."""
    for model in "resnet20", "mobilenet":
        net = ic.models.make(model, 10, 1, 8)
        nodes = net.graph.nodes
        kinds = {type(node.layer): node.name for node in nodes}
        for name in kinds.values():
            assert f"layer    {name}: " in run("explain", "--model", model, "--layer", name)[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--layer", "conv"), 1, "the network has no layer 'conv'; there are: 0, 1"),
        (("--output", "ten"), 1, "there is no class 'ten'"),
        (("--output", "10"), 1, "outside of the network's output"),
        (("--position", "6,0"), 1, "position (6, 0) is outside of the 6×6 positions of layer '0'"),
        (("--position", "6;0"), 2, "must be a row and a column"),
        (("--channel", "2"), 1, "channel 2 is outside of the 2 channels"),
        (("--index", "1000000"), 1, "there is no image 1000000: the test images of digits has"),
        (("--out", "layer.pdf"), 2, "must end with one of .html"),
        (("missing.png",), 1, "missing.png"),
        (("a", "b", "c"), 2, "give a run and one image"),
        (("run.safetensors", "--checkpoint", "x"), 2, "named twice"),
        (("run.safetensors", "--model", "lenet5"), 2, "leave out --model"),
        (("--input-shape", "1,8,8"), 2, "which image?"),
    ],
)
def test_what_does_not_go_together(run, arguments, code, message):
    _, err = run("explain", *arguments, code=code)
    assert message in err


def test_the_terminal_s_width_and_colours(monkeypatch, run):
    """Lines fit the terminal, and colours are for terminals that want them."""

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    from im2colnet.cli import main

    def shown(**variables):
        for name in "NO_COLOR", "TERM":
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"COLUMNS": "60", "TERM": "xterm"} | variables).items():
            monkeypatch.setenv(name, value)
        stream = Terminal()
        monkeypatch.setattr("sys.stdout", stream)
        assert main(["explain"]) == 0
        return stream.getvalue()

    coloured = shown()
    assert "\x1b[1;38;5;208m" in coloured
    plain = shown(NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.split("\n"))) <= 60
    assert "\x1b" not in shown(TERM="dumb")


def test_in_a_process_of_its_own(folder):
    """As a person begins, also where the terminal knows ASCII alone."""
    done = finish("explain", variables={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.502*0.290 + 0.812*0.211" in done.stdout
