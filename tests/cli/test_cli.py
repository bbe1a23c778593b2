"""The command line: what it prints and leaves, its exit codes, going on after Ctrl-C, and what errors look like."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.backend import registry
from im2colnet.cli import main
from im2colnet.cli.command_line import command_names
from im2colnet.cli.recipes import RECIPES
from im2colnet.show.display import Progress
from im2colnet.show.plots import save_curves
from im2colnet.show.progress import LiveDisplay, PlainDisplay, duration, make_display
from im2colnet.training import checkpoint
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")
ROOT = Path(__file__).parents[2]
FAST = ("train", "--model", "notebook", "--threads", "1")  # a training of some milliseconds an epoch


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The checkpoint of a short training."""
    out = tmp_path_factory.mktemp("trained")
    assert main([*FAST, "--epochs", "3", "--out", str(out), "--json"]) == 0
    return str(out / "checkpoint.safetensors")


def process(*arguments, script=None, **options):
    """Start the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends")))}
    environment |= options.pop("variables", {})
    what = ["-c", script] if script else ["-m", "im2colnet"]
    return subprocess.Popen(
        [sys.executable, *what, *map(str, arguments)],
        env=environment,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def tensors(path):
    return checkpoint.read(path)[0]


def equal(a, b):
    """Whether two checkpoints hold the same tensors, bit for bit."""
    a, b = tensors(a), tensors(b)
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


# Help and wrong usage ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", command_names())
def test_help(run, command):
    out, _ = run(command, "--help")
    assert out.startswith(f"usage: im2colnet {command} ")
    assert f"  im2colnet {command}" in out[out.index("examples:") :]
    assert "--json" in out


def test_help_lists_the_commands_and_the_exit_codes(run):
    out, _ = run("--help")
    listed = re.findall("^    ([a-z]+) ", out, re.MULTILINE)
    assert listed == ["train", "evaluate", "predict", "plan", "summary", "profile", "doctor", "backends"]
    assert sorted(listed) == command_names()
    assert "exit codes" in out


def test_every_model_has_a_recipe():
    assert RECIPES.keys() == ic.models.MODELS.keys()


def test_version(run):
    assert run("--version") == (f"im2colnet {ic.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "COMMAND"),
        ("trian", "invalid choice: 'trian'"),
        ("train --epochs 0", "--epochs: must be a whole number of at least 1, got '0'"),
        ("train --epochs 1.5", "--epochs: must be a whole number of at least 1, got '1.5'"),
        ("train --batch-size -1", "--batch-size"),
        ("train --threads 0", "--threads"),
        ("train --lr 0", "--lr: must be a number above 0, got '0'"),
        ("train --lr nan", "--lr"),
        ("train --lr inf", "--lr"),
        ("train --momentum 1", "--momentum"),
        ("train --weight-decay -0.1", "--weight-decay"),
        ("train --warmup -1", "--warmup"),
        ("train --seed -1", "--seed"),
        ("train --width 5", "--width"),
        ("train --model alexnet", "invalid choice: 'alexnet'"),
        ("train --optimizer lbfgs", "invalid choice: 'lbfgs'"),
        ("train --schedule step", "invalid choice: 'step'"),
        ("train --width 0.5 --model vgg8", "--width is only for mobilenet"),
        ("train --momentum 0.5 --optimizer adam", "--momentum is only for sgd"),
        ("evaluate", "CHECKPOINT"),
        ("predict somewhere", "FILE"),
        ("plan --input-shape 3,32", "three sizes such as 3,32,32"),
        ("plan --input-shape 3,32,0", "three sizes"),
        ("summary --checkpoint c --model vgg8", "leave out --model"),
        ("backends --threads 2", "--threads"),
    ],
)
def test_wrong_usage(run, folder, arguments, message):
    _, err = run(*arguments.split(), code=2)
    assert message in err
    assert not list(folder.iterdir())


# train -------------------------------------------------------------------------------------------------------------
def test_train_leaves_a_run_folder(run, folder):
    out, err = run(*FAST, "--epochs", "2")
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "data     digits, 1,438 training and 359 test images of 1×8×8"
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert "folder   runs/digits-notebook-1" in lines
    made = folder / "runs" / "digits-notebook-1"
    drawn = ["curves.png"] if find_spec("matplotlib") else []
    assert sorted(f.name for f in made.iterdir()) == ["checkpoint.safetensors", *drawn, "metrics.jsonl", "run.json"]
    metrics = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in metrics] == [1, 2]
    assert f"test     loss {metrics[1]['validation_loss']:.4f}" in out
    assert all((made / name).read_bytes().startswith(b"\x89PNG") for name in drawn)


def test_train_reports_json(run):
    out, err = run(*FAST, "--epochs", "2", "--seed", "3", "--optimizer", "sgd", "--lr", "0.1", "--json")
    report = json.loads(out)
    assert "epoch 2/2" in err
    assert report["model"] == "notebook"
    assert report["parameters"] == 20 + 18 * 10 + 10
    assert report["seed"] == 3
    assert report["optimizer"]["type"] == "SGD"
    assert report["optimizer"]["arguments"]["lr"]["arguments"]["lr"] == 0.1
    assert (report["backend"], report["threads"], report["workers"]) == ("numpy", 1, "1 worker")
    last = report["history"][-1]
    assert report["test"] == {"loss": last["validation_loss"], "accuracy": last["validation_accuracy"]}
    assert report["seconds"] == pytest.approx(sum(record["seconds"] for record in report["history"]))
    trainer = Trainer.load(report["checkpoint"])
    assert trainer.evaluate(ic.datasets.load("digits")[1]) == pytest.approx(report["test"])


def test_the_default_learns_the_digits(run):
    out, _ = run("train", "--epochs", "4", "--json")
    report = json.loads(out)
    assert report["model"] == "resnet20"
    assert report["test"]["accuracy"] > 0.95


def test_new_run_folders_take_the_lowest_free_number(run, folder):
    for number in (1, 3):
        (folder / "runs" / f"digits-notebook-{number}").mkdir(parents=True)
    out, _ = run(*FAST, "--epochs", "1", "--json")
    assert json.loads(out)["folder"] == str(Path("runs", "digits-notebook-2"))


def test_the_same_seed_gives_the_same_network(run, folder):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(*FAST, "--epochs", "1", "--seed", seed, "--out", out)
    a, b, c = (folder / out / "checkpoint.safetensors" for out in "abc")
    assert equal(a, b)
    assert not equal(a, c)


def test_train_on_a_file_of_ones_own(run, folder):
    train, _ = ic.datasets.load("digits")
    np.savez(folder / "mine.npz", images=train.images[:200, 0], labels=train.labels[:200] % 3)
    out, _ = run(*FAST, "--data", "mine.npz", "--epochs", "1", "--json")
    report = json.loads(out)
    assert report["folder"] == str(Path("runs", "mine-notebook-1"))
    os.chdir("runs")  # the run knows its data from any working directory
    out, _ = run("evaluate", "mine-notebook-1/checkpoint.safetensors", "--json")
    assert json.loads(out)["images"] == 40
    assert [row["class"] for row in json.loads(out)["classes"]] == ["0", "1", "2"]


def test_train_on_another_backend(run, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "plugin"))
    monkeypatch.setitem(registry.BUILT_IN, "demo", "im2colnet_demo:DemoBackend")
    out, _ = run(*FAST, "--epochs", "1", "--backend", "demo", "--json")
    assert json.loads(out)["backend"] == "demo"
    monkeypatch.setenv("IM2COLNET_BACKEND", "demo")
    out, _ = run("evaluate", json.loads(out)["checkpoint"], "--json")
    assert json.loads(out)["backend"] == "demo"


def test_threads_are_as_before_afterwards(run):
    before = ic.get_num_threads()
    run("plan", "--model", "lenet5", "--threads", before + 3)
    assert ic.get_num_threads() == before


def test_without_rich_and_matplotlib(run, monkeypatch):
    for module in ("rich", "matplotlib", "im2colnet.show.plots"):
        monkeypatch.setitem(sys.modules, module, None)
    out, _ = run(*FAST, "--epochs", "1")
    assert "epoch 1/1  loss " in out
    assert out.count("pip install matplotlib (the extra viz") == 1
    out, _ = run(*FAST, "--epochs", "1", "--json")
    assert json.loads(out)["curves"] is None


def test_no_run_folder_is_overwritten(run, trained):
    before = Path(trained).read_bytes()
    _, err = run(*FAST, "--out", Path(trained).parent, code=1)
    assert "is the folder of another run" in err
    assert Path(trained).read_bytes() == before


def test_diverging_before_a_checkpoint(run, folder):
    _, err = run(*FAST, "--optimizer", "sgd", "--lr", "1e30", "--out", "run", code=1)
    assert "lower learning rate" in err
    assert err.endswith("there is no checkpoint yet\n")


def test_diverging_after_a_checkpoint(run, folder, monkeypatch):
    fit = Trainer.fit

    def diverge(self, train, epochs, *arguments):
        fit(self, train, 1, *arguments)
        raise ic.NonFiniteError("the loss is nan")

    monkeypatch.setattr(Trainer, "fit", diverge)
    _, err = run(*FAST, "--out", "run", code=1)
    assert err.endswith(f"the loss is nan; the last good checkpoint stays: {Path('run/checkpoint.safetensors')}\n")
    assert Trainer.load("run/checkpoint.safetensors").epoch == 1


# Going on ----------------------------------------------------------------------------------------------------------
#: main() with a display that sends its own process Ctrl-C after a number of steps: 45 are an epoch
INTERRUPT = """
import os, signal, sys
from im2colnet.cli import main
from im2colnet.cli.commands import train
from im2colnet.show.progress import PlainDisplay

class Interrupting(PlainDisplay):
    steps = 0
    def step(self, progress):
        self.steps += 1
        if self.steps == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)    # it may be ignored where the tests run
train.make_display = Interrupting
sys.exit(main(sys.argv[2:]))
"""
needs_sigint = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")


@needs_sigint
@pytest.mark.parametrize("steps", [20, 45, 77])
def test_going_on_after_ctrl_c_is_exact(run, folder, steps):
    """Within the first epoch, at its end, and within the second: as if there had been no interruption."""
    run(*FAST, "--epochs", "3", "--seed", "5", "--out", "whole")
    child = process(steps, *FAST, "--epochs", "3", "--seed", "5", "--out", "run", script=INTERRUPT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert out.count("epoch") == steps // 45
    assert "Traceback" not in err
    command = shlex.split(err.splitlines()[-1])
    assert command[:4] == ["im2colnet", "train", "--resume", str(Path("run/checkpoint.safetensors"))]
    assert not equal("whole/checkpoint.safetensors", "run/checkpoint.safetensors")
    run(*command[1:])
    assert equal("whole/checkpoint.safetensors", "run/checkpoint.safetensors")
    whole, resumed = (Trainer.load(f"{out}/checkpoint.safetensors").history for out in ("whole", "run"))
    for key in ("loss", "accuracy", "validation_loss", "validation_accuracy", "lr"):
        assert whole[key] == resumed[key]


@needs_sigint
def test_ctrl_c_from_outside(folder):
    script = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from im2colnet.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    with process(*FAST, "--epochs", "100000", "--out", "a run", "--json", script=script) as child:
        for line in child.stderr:
            if line.startswith("epoch"):
                break
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    checkpoint_file = str(Path("a run/checkpoint.safetensors"))
    assert shlex.split(err.splitlines()[-1]) == [
        "im2colnet",
        "train",
        "--resume",
        checkpoint_file,
        "--data",
        "digits",
        "--epochs",
        "100000",
        "--threads",
        "1",
    ]
    assert Trainer.load(checkpoint_file).epoch >= 1


def test_ctrl_c_before_there_is_a_checkpoint(run, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", interrupt)
    assert run(*FAST, code=130)[1] == "\ninterrupted before there was a checkpoint\n"
    monkeypatch.setattr(ic.datasets, "load", interrupt)
    assert run(*FAST, code=130)[1] == "im2colnet: interrupted\n"


def test_more_epochs(run, folder):
    run(*FAST, "--epochs", "1", "--schedule", "constant", "--out", "run")
    out, _ = run("train", "--resume", "run/checkpoint.safetensors", "--epochs", "3", "--json")
    report = json.loads(out)
    assert report["epochs"] == 3
    assert report["folder"] == "run"
    run(*FAST, "--epochs", "3", "--schedule", "constant", "--out", "whole")
    assert equal("whole/checkpoint.safetensors", "run/checkpoint.safetensors")


def test_nothing_left_to_do(run, folder, trained):
    for file in Path(trained).parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    before = (folder / "run.json").read_text()
    out, _ = run("train", "--resume", "checkpoint.safetensors", "--epochs", "2", "--out", "other")
    assert "already done: 3 epochs;" in out
    assert "for 3 epochs" in out
    assert (folder / "run.json").read_text() == before
    assert not (folder / "other").exists()


def test_a_training_that_was_begun_in_python(run, folder):
    train, test = ic.datasets.load("digits")
    trainer = ic.Trainer(ic.models.notebook(classes=10), optimizer=ic.Adam())
    trainer.fit(train, epochs=1, batch_size=100)
    trainer.save("mine.safetensors")
    given = ("--data", "digits", "--batch-size", "100", "--epochs")
    out, err = run("train", "--resume", "mine.safetensors", *given, "1", "--json")
    report = json.loads(out)
    assert "already done: 1 epoch;" in err
    assert report["test"] == pytest.approx(trainer.evaluate(test))
    assert report["checkpoint"] is report["metrics"] is None
    out, _ = run("train", "--resume", "mine.safetensors", *given, "2", "--json")
    assert [len(record) for record in json.loads(out)["history"]] == [6, 8]


def test_resume_into_another_folder(run, folder, trained):
    before = Path(trained).read_bytes()
    run("train", "--resume", trained, "--epochs", "4", "--out", "other")
    assert Path(trained).read_bytes() == before
    assert Trainer.load("other/checkpoint.safetensors").epoch == 4


def test_resume_has_its_own_settings(run, trained):
    _, err = run("train", "--resume", trained, "--lr", "0.1", "--weight-decay", "0", "--width", "1", code=2)
    assert "leave out --lr, --weight-decay, --width" in err


def test_resume_another_network(run, trained):
    _, err = run("train", "--resume", trained, "--model", "vgg8", code=1)
    assert "the state belongs to another network" in err
    assert "0.weight has shape (2, 1, 3, 3), this network's has (32, 1, 3, 3)" in err


def test_resume_with_other_images(run, folder, trained):
    train, _ = ic.datasets.load("digits")
    np.savez(folder / "other.npz", images=train.images[::-1], labels=train.labels[::-1])
    _, err = run("train", "--resume", trained, "--data", "other.npz", code=1)
    assert "was trained on other images than those of other" in err


def test_resume_a_checkpoint_without_its_run(run, folder, trained):
    (folder / "lone.safetensors").write_bytes(Path(trained).read_bytes())
    _, err = run("train", "--resume", "lone.safetensors", code=2)
    assert "give --data, --epochs and --batch-size" in err
    out, _ = run(
        "train", "--resume", "lone.safetensors", "--data", "digits", "--epochs", "4", "--batch-size", "32", "--json"
    )
    assert json.loads(out)["folder"] == str(Path("runs/digits-network-1"))


# evaluate ----------------------------------------------------------------------------------------------------------
def test_evaluate(run, trained):
    trainer, (_, test) = Trainer.load(trained), ic.datasets.load("digits")
    expected = trainer.evaluate(test)
    guesses = trainer.net.predict(test.images).argmax(axis=1)
    out, err = run("evaluate", trained, "--json")
    report = json.loads(out)
    assert err == ""
    assert report["loss"] == pytest.approx(expected["loss"])
    assert report["accuracy"] == expected["accuracy"]
    for label, row in enumerate(report["classes"]):
        mine = guesses[test.labels == label]
        assert (row["images"], row["correct"]) == (len(mine), (mine == label).sum())
        wrong = mine[mine != label]
        if len(wrong):
            assert row["times"] == (wrong == int(row["mistaken_for"])).sum() == np.bincount(wrong).max()
        else:
            assert row["mistaken_for"] is None
    out, _ = run("evaluate", trained, "--data", "digits")
    assert f"accuracy {expected['accuracy']:.2%}" in out
    assert len(out.splitlines()) == 5 + 10


def test_evaluate_other_images(run, folder, trained):
    np.savez(folder / "large.npz", images=np.zeros((20, 9, 9), np.uint8), labels=np.arange(20) % 2)
    _, err = run("evaluate", trained, "--data", "large.npz", code=1)
    assert "takes images of 1×8×8, those of large are 1×9×9" in err
    np.savez(folder / "many.npz", images=np.zeros((60, 8, 8), np.uint8), labels=np.arange(60) % 12)
    _, err = run("evaluate", trained, "--data", "many.npz", code=1)
    assert "10 classes" in err
    assert "12" in err


def test_evaluate_fewer_classes(run, folder, trained):
    train, _ = ic.datasets.load("digits")
    np.savez(folder / "few.npz", images=train.images[:100], labels=np.zeros(100, int))
    report = json.loads(run("evaluate", trained, "--data", "few.npz", "--json")[0])
    assert len(report["classes"]) == 1
    assert report["classes"][0]["mistaken_for"] in set("123456789")


def test_evaluate_asks_for_the_data(run, folder, trained):
    (folder / "lone.safetensors").write_bytes(Path(trained).read_bytes())
    assert "give --data" in run("evaluate", "lone.safetensors", code=2)[1]


# predict -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def digits():
    return ic.datasets.load("digits")[1].images


def test_predict_files_of_every_shape(run, folder, trained, digits):
    logits = Trainer.load(trained).net.predict(digits[:3]).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.save("nchw.npy", digits[:3])
    np.save("nhw.npy", digits[:3, 0])
    np.save("float.npy", digits[:3, 0] / 255)
    np.savez("images.npz", images=digits[:3])
    for file in ("nchw.npy", "nhw.npy", "float.npy", "images.npz"):
        out, _ = run("predict", trained, file, "--json", "--out", "p.npy")
        predictions = json.loads(out)["predictions"]
        assert [(row["file"], row["index"]) for row in predictions] == [(file, 0), (file, 1), (file, 2)]
        np.testing.assert_allclose(np.load("p.npy"), expected, rtol=1e-4)
        for row, probabilities in zip(predictions, expected, strict=True):
            best = np.argsort(-probabilities)[:3]
            assert [guess["label"] for guess in row["top"]] == best.tolist()
            assert (row["class"], row["label"]) == (str(best[0]), best[0])
            assert row["probability"] == pytest.approx(probabilities.max(), rel=1e-4)
    np.save("chw.npy", digits[0])
    np.save("hw.npy", digits[0, 0])
    run("predict", trained, "chw.npy", "hw.npy", "nhw.npy", "--out", "p.npy")
    np.testing.assert_allclose(np.load("p.npy"), expected[[0, 0, 0, 1, 2]], rtol=1e-4)


def test_predict_prints_a_table(run, folder, trained, digits):
    np.save("several.npy", digits[:2])
    np.save("one.npy", digits[2])
    out, _ = run("predict", trained, "several.npy", "one.npy")
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["several.npy[0]", "several.npy[1]", "one.npy"]


@pytest.mark.parametrize("change", ["as it is", "colour", "16 bits", "larger", "rotated by its tag", "palette"])
def test_predict_pictures(run, folder, trained, digits, change):
    image = pytest.importorskip("PIL.Image")
    np.save("plain.npy", digits[7])
    expected = json.loads(run("predict", trained, "plain.npy", "--json")[0])["predictions"][0]
    picture = image.fromarray(digits[7, 0])
    tag = picture.getexif()
    if change == "colour":
        picture = picture.convert("RGB")
    elif change == "16 bits":
        picture = image.fromarray(digits[7, 0].astype(np.uint16) * 257)
    elif change == "larger":
        picture = picture.resize((32, 32), image.Resampling.NEAREST)
    elif change == "palette":
        picture = picture.convert("P")
    elif change == "rotated by its tag":
        picture = image.fromarray(np.rot90(digits[7, 0]).copy())
        tag[0x0112] = 6  # shown turned by 90° clockwise
    picture.save("picture.png", exif=tag)
    found = json.loads(run("predict", trained, "picture.png", "--json")[0])["predictions"][0]
    assert found["top"] == expected["top"]


def test_predict_a_photograph_in_colour(run, folder):
    image = pytest.importorskip("PIL.Image")
    net = ic.models.vgg8(classes=3)
    Trainer(net).save("vgg8.safetensors")
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    image.fromarray(rgb).save("rgb.png")
    np.save("rgb.npy", rgb.transpose(2, 0, 1))
    run("predict", "vgg8.safetensors", "rgb.png", "rgb.npy", "--out", "p.npy")
    a, b = np.load("p.npy")
    np.testing.assert_array_equal(a, b)


def test_predict_names_the_classes(run, folder, trained, digits):
    np.save("one.npy", digits[0])
    names = [f"the {number}" for number in range(10)]
    information = json.loads(Path(trained).with_name("run.json").read_text())
    (folder / "checkpoint.safetensors").write_bytes(Path(trained).read_bytes())
    (folder / "run.json").write_text(json.dumps(information | {"classes": names}))
    report = json.loads(run("predict", "checkpoint.safetensors", "one.npy", "--json")[0])
    assert report["classes"] == names
    assert report["predictions"][0]["class"].startswith("the ")
    np.savez("two.npz", images=digits[:20], labels=np.arange(20) % 2)
    _, err = run("predict", "checkpoint.safetensors", "one.npy", "--data", "two.npz", code=1)
    assert "two.npz has 2 classes, the network 10" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npy", None, "there is no such file"),
        ("empty.npy", b"", "cannot be read"),
        ("cut.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "cannot be read"),
        ("noise.npz", b"PK\x03\x04noise", "cannot be read"),
        ("text.png", b"no picture", "cannot be read as a picture"),
        ("shape.npy", np.zeros((2, 3, 8, 8), np.uint8), "of the shape (2, 3, 8, 8); the network takes (N, 1, 8, 8)"),
        ("large.npy", np.zeros((9, 9), np.uint8), "shape (9, 9)"),
        ("text.npy", np.full((8, 8), "a"), "holds <U1"),
        ("objects.npy", np.full((8, 8), None), "cannot be read"),
        ("nan.npy", np.full((8, 8), np.nan, np.float32), "NaN"),
        ("none.npy", np.zeros((0, 1, 8, 8), np.uint8), "empty"),
    ],
)
def test_predict_bad_files(run, folder, trained, name, content, message):
    if name.endswith(".png"):
        pytest.importorskip("PIL.Image")
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif content is not None:
        np.save(name, content, allow_pickle=True)
    _, err = run("predict", trained, name, "--out", "p.npy", code=1)
    assert name in err or name in ("nan.npy", "none.npy")
    assert message in err
    assert not (folder / "p.npy").exists()


def test_predict_says_which_array_an_npz_lacks(run, folder, trained):
    np.savez("mine.npz", pictures=np.zeros(3))
    assert "should have the array images, but has pictures" in run("predict", trained, "mine.npz", code=1)[1]


def test_predict_without_pillow(run, folder, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    (folder / "a.png").write_bytes(b"")
    assert "pip install Pillow (the extra images" in run("predict", trained, "a.png", code=1)[1]


# plan and summary --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["plan", "summary"])
def test_reports_of_a_network(run, trained, command):
    for arguments, name, shape in [
        ((), "resnet20", [1, 8, 8]),
        (("--model", "lenet5"), "lenet5", [1, 28, 28]),
        (("--model", "vgg8", "--data", "digits"), "vgg8", [1, 8, 8]),
        (("--model", "resnet18", "--input-shape", "3,64,64"), "resnet18", [3, 64, 64]),
        (("--checkpoint", trained), trained, [1, 8, 8]),
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
    assert "'" in run("summary", "--model", "vgg8", "--input-shape", "3,32,48", code=1)[1]


# doctor ------------------------------------------------------------------------------------------------------------
def test_doctor(run):
    lines = dict(line.split(maxsplit=1) for line in run("doctor")[0].splitlines())
    assert lines["numpy"] == np.__version__
    assert lines["correct"].startswith("yes: ")
    assert "ms for a training step of resnet20 with 64 images" in lines["speed"]


# profile -----------------------------------------------------------------------------------------------------------
def test_profile_tells_what_every_layer_takes(run, folder):
    report = json.loads(
        run(
            "profile", "--model", "resnet20", "--input-shape", "3,16,16", "--batch-size", "16", "--steps", "2", "--json"
        )[0]
    )
    assert report["batch"] == sum(report["shards"]) == 16
    layers = {row["name"]: row for row in report["layers"]}
    assert list(layers) == [node.name for node in ic.models.resnet20().graph.nodes]
    assert [layers[name]["algorithm"] for name in ("0", "11.body.3", "1")] == ["rows", "winograd", ""]
    taken = sum(row[kind]["seconds"] for row in report["layers"] for kind in ("forward", "backward"))
    assert 0.3 * report["seconds"] < taken + report["loss_seconds"] < 1.2 * report["seconds"]
    flops = 2 * 3 * 9 * 16 * 16 * 16 * 16
    assert layers["0"]["forward"]["flops"] == flops
    assert layers["0"]["backward"]["flops"] == flops, "images want no gradient"
    assert layers["3.body.0"]["backward"]["flops"] == 2 * layers["3.body.0"]["forward"]["flops"]
    assert layers["23"]["forward"]["bytes"] == 4 * (16 * 64 + 16 * 10 + 650)
    assert report["gemm"] > 1e8
    assert report["copy"] > 1e7
    assert os.listdir(".") == []


def test_profile_as_a_table_and_a_picture(run, folder, trained):
    before = Path(trained).read_bytes()
    threads = ic.get_num_threads()
    drawn = ["--picture", "roofline.png"] if find_spec("matplotlib") else []
    text, _ = run("profile", "--checkpoint", trained, "--batch", "8", "--steps", "1", *drawn)
    head, names, *rows = text.splitlines()
    assert "a training step of 8 images on one core, in 1 shard of up to 8" in head
    assert names.split()[:4] == ["layer", "algorithm", "forward", "backward"]
    assert [row.split()[0] for row in rows[-4:] if set(row) != {"─"}] == ["loss", "rest", "step"]
    if drawn:
        picture = Path("roofline.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000
    assert Path(trained).read_bytes() == before
    assert ic.get_num_threads() == threads


def test_profile_says_at_once_what_a_picture_needs(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("im2colnet.reports.profile.profile", None)  # not after the work
    _, err = run("profile", "--model", "notebook", "--picture", "roofline.png", code=1)
    assert "pip install matplotlib (the extra viz" in err
    assert "Traceback" not in err
    assert os.listdir(".") == []


# backends ----------------------------------------------------------------------------------------------------------
def test_backends(run, monkeypatch):
    monkeypatch.setitem(registry.BUILT_IN, "broken", "no_such_module:Backend")
    report = json.loads(run("backends", "--json")[0])
    assert (report["selected"], report["selected_by"]) == ("numpy", "default")
    broken, cupy, numpy = report["backends"]
    assert cupy["name"] == "cupy"
    assert cupy["available"] or "pip install 'cupy-cuda12x[ctk]'" in cupy["reason"] or "GPU" in cupy["reason"]
    assert numpy == {"name": "numpy", "source": "built-in", "available": True, "reason": "", "selected": True}
    assert (broken["name"], broken["available"], broken["selected"]) == ("broken", False, False)
    assert "no_such_module" in broken["reason"]
    monkeypatch.setenv("IM2COLNET_BACKEND", "broken:1")
    report = json.loads(run("backends", "--json")[0])
    assert (report["selected"], report["selected_by"]) == ("broken:1", "environment")
    assert report["backends"][0]["selected"]
    assert "selected: broken:1 (by the environment variable IM2COLNET_BACKEND)\n" in run("backends")[0]
    report = json.loads(run("backends", "--backend", "numpy", "--json")[0])
    assert (report["selected"], report["selected_by"]) == ("numpy", "argument")


def test_backends_when_the_selected_one_does_not_exist(run, monkeypatch):
    monkeypatch.setenv("IM2COLNET_BACKEND", "nonsense")
    assert run("backends")[0].endswith("but there is no such backend\n")


# Errors ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["train", "plan", "evaluate CHECKPOINT", "predict CHECKPOINT x.npy"])
def test_unknown_backend(run, trained, monkeypatch, command):
    arguments = [trained if argument == "CHECKPOINT" else argument for argument in command.split()]
    _, err = run(*arguments, "--backend", "nonsense", code=1)
    assert "there is no backend 'nonsense'; there are: " in err
    assert "numpy" in err
    monkeypatch.setenv("IM2COLNET_BACKEND", "nonsense")
    assert run(*arguments, code=1)[1] == err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nonsense", "unknown data set 'nonsense': known are 'digits'"),
        ("missing.npz", "missing.npz: there is no such file"),
        ("damaged.npz", "cannot be read"),
        ("mnist", "the files of mnist were not found"),
    ],
)
def test_bad_data(run, folder, trained, data, message):
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04")
    for command in (("train",), ("evaluate", trained)):
        assert message in run(*command, "--data", data, "--folder", folder, code=1)[1]
    assert not Path("runs").exists()


def test_images_that_are_not_square(run, folder):
    np.savez("wide.npz", images=np.zeros((20, 8, 9), np.uint8), labels=np.arange(20) % 2)
    assert "take square images, those of wide are 8×9" in run("train", "--data", "wide.npz", code=1)[1]


def damage(content, how):
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].decode()
    if how == "description":
        header = header.replace('\\"Adam\\"', '\\"Nada\\"')
    if how == "state":
        header = header.replace('\\"partial\\"', '\\"partly\\"')
    if how == "json":
        header = header.replace('{\\"format\\"', '(\\"format\\"')
    if how == "format":
        header = header.replace('\\"format\\": 1', '\\"format\\": 9')
    changed = header.encode()
    return {
        "missing": None,
        "empty": b"",
        "truncated": content[:-50],
        "beginning": content[:100],
        "text": b"a text\n" * 100,
        "header": content[:20] + b"\0" * 20 + content[40:],
    }.get(how, len(changed).to_bytes(8, "little") + changed + content[8 + size :])


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "truncated",
        "beginning",
        "text",
        "header",
        "description",
        "state",
        "json",
        "format",
        "a folder",
    ],
)
def test_damaged_checkpoints(run, folder, trained, how):
    path = folder / "c.safetensors"
    content = damage(Path(trained).read_bytes(), how)
    assert content != Path(trained).read_bytes() or how == "a folder"
    if how == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    np.save("x.npy", np.zeros((8, 8), np.uint8))
    for command in (
        ("train", "--resume", path),
        ("evaluate", path),
        ("predict", path, "x.npy"),
        ("plan", "--checkpoint", path),
        ("summary", "--checkpoint", path),
    ):
        assert "c.safetensors" in run(*command, code=1)[1]


def test_damaged_run_file(run, folder, trained):
    (folder / "checkpoint.safetensors").write_bytes(Path(trained).read_bytes())
    for content in ("{", "[]", '{"data": 1}'):
        (folder / "run.json").write_text(content)
        assert "cannot read run.json" in run("evaluate", "checkpoint.safetensors", code=1)[1]


def test_nowhere_to_write(run, folder, trained, digits):
    (folder / "file").write_text("no folder")
    assert "cannot make the run folder: file" in run(*FAST, "--out", "file", code=1)[1]
    assert "cannot make the run folder: file" in run(*FAST, "--out", "file/below", code=1)[1]
    np.save("x.npy", digits[0])
    for out in ("file/p.npy", "no/such/folder/p.npy"):
        assert f"cannot write {out}" in run("predict", trained, "x.npy", "--out", out, code=1)[1]
    (folder / "runs").write_text("no folder")
    assert "cannot make the run folder: runs" in run(*FAST, code=1)[1]


# The output --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_early(folder, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        for command in ("summary", "train --model notebook", "--help"):
            child = process(*command.split(), stdout=writing, variables={"PYTHONUNBUFFERED": unbuffered})
            _, err = child.communicate(timeout=60)
            assert err == ""
            assert child.returncode == 1 or command == "--help"  # where argparse ignores it
    finally:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(folder):
    with open("/dev/full", "w") as full:
        child = process("summary", stdout=full)
        assert child.communicate(timeout=60)[1].startswith("im2colnet: error: cannot write the output: ")
    assert child.returncode == 1


def test_a_terminal_without_unicode(folder):
    child = process("plan", variables={"PYTHONIOENCODING": "ascii"})
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert "parameters" in out


def test_import_loads_no_plotting_and_no_terminal_library(folder):
    script = (
        "import sys\nfrom im2colnet.cli.command_line import make_parser\nmake_parser()\n"
        "print(*{'rich', 'matplotlib', 'PIL', 'safetensors'} & set(sys.modules))"
    )
    assert process(script=script).communicate(timeout=60)[0] == "\n"


# The display -------------------------------------------------------------------------------------------------------
class Terminal(io.StringIO):
    def isatty(self):
        return True


RECORD = {
    "epoch": 3,
    "loss": 0.5,
    "accuracy": 0.75,
    "validation_loss": 0.25,
    "validation_accuracy": 1.0,
    "lr": 0.1,
    "seconds": 61.0,
    "images_per_second": 12_345.6,
}


def test_display_suits_the_stream(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert type(make_display(io.StringIO(), 3)) is PlainDisplay
    assert type(make_display(Terminal(), 3)) is LiveDisplay
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_display(Terminal(), 3)) is PlainDisplay
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setitem(sys.modules, "rich", None)
    assert type(make_display(Terminal(), 3)) is PlainDisplay


def test_plain_display():
    stream = io.StringIO()
    with PlainDisplay(stream, 10) as display:
        display.step(Progress(3, 10, 1, 5, 0.5, {"accuracy": 0.75}, 100.0, 7.0))
        display.epoch(RECORD)
        display.epoch({key: value for key, value in RECORD.items() if "validation" not in key})
    begin, test, end = (
        "epoch  3/10  loss 0.5000  accuracy  75.00%",
        "test loss 0.2500  test accuracy 100.00%",
        "12,346 images/s  1 min 01 s",
    )
    assert stream.getvalue().splitlines() == [f"{begin}  {test}  {end}", f"{begin}  {end}"]


def test_live_display(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream, now = Terminal(), [0.0]
    monkeypatch.setattr("im2colnet.show.progress.time.monotonic", lambda: now[0])
    with LiveDisplay(stream, 10) as display:
        for batch in range(1, 301):  # a step takes 10 ms
            now[0] += 0.01
            display.step(Progress(3, 10, batch, 300, 0.5, {"accuracy": 0.75}, 12_345.6, 7.0))
        assert 25 <= stream.getvalue().count("loss 0.5000  75.0%  12,346/s") <= 31  # ten a second
        display.epoch(RECORD)
        display.epoch(RECORD)
    assert "\x1b[" in stream.getvalue()
    lines = [line.split("\x1b[2K")[-1].strip() for line in stream.getvalue().splitlines()]
    assert sum("test accuracy" in line for line in lines) == 1
    assert lines.count("3/10    0.5000    75.00%     0.2500        100.00%    12,346  1 min 01 s") == 2


def test_live_display_without_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with LiveDisplay(stream, 10) as display:
        display.step(Progress(3, 10, 1, 5, 0.5, {"accuracy": 0.75}, 100.0, 7.0))
    assert "\x1b[36m" not in stream.getvalue()
    assert "loss 0.5000" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (7.44, "7.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


# The curves --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("epochs", [1, 2, 60])
@pytest.mark.parametrize("validation", [True, False])
def test_curves(folder, epochs, validation):
    pytest.importorskip("matplotlib")
    history = ic.History(
        {"epoch": i + 1, "loss": 2 * 0.9**i, "accuracy": 1 - 0.9**i}
        | ({"validation_loss": 0.0, "validation_accuracy": 0.5} if validation else {})
        for i in range(epochs)
    )
    save_curves(history, "curves.png")
    picture = (folder / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1350, 540)
    assert [file.name for file in folder.iterdir()] == ["curves.png"]


def test_curves_that_cannot_be_drawn(folder):
    pytest.importorskip("matplotlib")
    with pytest.raises(ic.ShapeError, match="the history is empty"):
        save_curves(ic.History(), "curves.png")
    with pytest.raises(ic.CheckpointError, match="cannot write no/folder"):
        save_curves(ic.History([RECORD]), "no/folder/curves.png")


def test_curves_choose_no_window_system():
    pytest.importorskip("matplotlib")
    script = (
        "import sys; from im2colnet.show.plots import save_curves\n"
        "save_curves([{'epoch': 1, 'loss': 1.0, 'accuracy': 0.5}], 'curves.png')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert process(script=script).communicate(timeout=120)[0] == "False\n"
