"""``im2colnet plan`` and ``im2colnet summary``."""

import json

import pytest

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("command", ["plan", "summary"])
def test_reports_of_a_network(run, trained, command):
    for arguments, name, shape in [
        ((), "resnet20", [1, 8, 8]),
        (("--model", "lenet5"), "lenet5", [1, 28, 28]),
        (("--model", "vgg8", "--data", "digits"), "vgg8", [1, 8, 8]),
        (("--model", "resnet18", "--input-shape", "3,64,64"), "resnet18", [3, 64, 64]),
        (("--checkpoint", trained), str(trained), [1, 8, 8]),
        (("--checkpoint", trained.parent), str(trained), [1, 8, 8]),
    ]:
        report = json.loads(run(command, *arguments, "--json")[0])
        assert report["network"] == name
        assert report["input_shape"][-3:] == shape
        text, _ = run(command, *arguments)
        assert text.startswith(f"{name}: ")


def test_summary_counts_parameters(run):
    assert json.loads(run("summary", "--model", "lenet5", "--json")[0])["parameters"] == 61_706
    sizes = [
        json.loads(run("summary", "--model", "mobilenet", *width, "--json")[0])["parameters"]
        for width in ((), ("--width", "0.5"))
    ]
    assert sizes[1] < sizes[0] / 3


def test_plan_depends_on_batch_and_optimizer(run, trained):
    def total(*arguments):
        return json.loads(run("plan", *arguments, "--threads", "1", "--json")[0])["training"]["total"]

    assert total("--model", "lenet5", "--shard", "4") < total("--model", "lenet5", "--shard", "32")
    assert total("--model", "vgg8", "--optimizer", "sgd") < total("--model", "vgg8", "--optimizer", "adam")
    assert total("--model", "resnet20", "--batch-size", "32") < total("--model", "resnet20", "--batch-size", "64")
    assert total("--checkpoint", trained) == total("--checkpoint", trained, "--optimizer", "adamw")  # it was adam
    assert total("--checkpoint", trained) > total("--checkpoint", trained, "--optimizer", "sgd")


def test_plan_tells_which_algorithm_and_why(run):
    arguments = "plan", "--model", "mobilenet", "--batch-size", "32", "--input-shape", "3,32,32"
    found = json.loads(run(*arguments, "--json")[0])["algorithms"]
    layers = ic.models.mobilenet().children().items()
    assert list(found) == [name for name, layer in layers if isinstance(layer, ic.Conv2d)]
    assert found["3"]["training"] == {"name": "depthwise", "why": "a channel to a group"}
    assert "NormalizedConv2d" not in str(found)
    lines = run(*arguments)[0].splitlines()
    assert next(line for line in lines if line.startswith("0 ")).split()[-2:] == ["rows", "rows"]
    assert {"rows: the general one", "depthwise: a channel to a group"} <= {*lines}
    one = json.loads(run("plan", "--model", "resnet18", "--batch-size", "1", "--json")[0])["algorithms"]
    assert {row["inference"]["name"] for row in one.values()} == {"rows", "im2col"}


def test_a_model_for_other_images(run):
    assert "input_size must be at least 12" in run("summary", "--model", "lenet5", "--data", "digits", code=1)[1]
    assert "(1, 128, 4, 6)" in run("summary", "--model", "vgg8", "--input-shape", "3,32,48")[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "--batch-size", "2147483647"),
        ("plan", "--input-shape", "3,100000,100000"),
        ("plan", "--model", "mobilenet", "--input-shape", "3,2147483647,2147483647"),
    ],
)
def test_numbers_that_are_too_large_to_plan_for(run, arguments):
    assert "than can be planned" in run(*arguments, code=1)[1]


def test_large_numbers_that_can_be_planned(run):
    report = json.loads(run("plan", "--batch-size", "1000000", "--json")[0])
    assert sum(report["training"]["shards"]) == 1_000_000
    assert json.loads(run("plan", "--input-shape", "3,4000,4000", "--json")[0])["training"]["total"] > 1e9
