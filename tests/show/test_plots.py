"""The pictures: curves of a training, and the roofline of a step."""

import pytest
from starting import finish

import im2colnet as ic
from im2colnet.show.plots import save_curves, save_roofline

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("flops", [1e6, 0])
def test_a_roofline_of_short_passes(folder, flops):
    """A step that had to wait took far longer than its passes; and layers may have nothing to multiply."""
    one = {"seconds": 1e-5, "flops": flops, "bytes": 1e5}
    layers = [{"name": "0", "forward": one, "backward": one}]
    save_roofline({"gemm": 1e10, "copy": 1e10, "seconds": 0.1, "layers": layers}, "roofline.png")
    assert (folder / "roofline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("epochs", [1, 2, 60])
@pytest.mark.parametrize("validation", [True, False])
def test_curves(folder, epochs, validation):
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
    with pytest.raises(ic.ShapeError, match="the history is empty"):
        save_curves(ic.History(), "curves.png")
    with pytest.raises(ic.CheckpointError, match="cannot write no/folder"):
        save_curves(ic.History([{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]), "no/folder/curves.png")


def test_curves_choose_no_window_system():
    script = (
        "import sys; from im2colnet.show.plots import save_curves\n"
        "save_curves([{'epoch': 1, 'loss': 1.0, 'accuracy': 0.5}], 'curves.png')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert finish(script=script).stdout == "False\n"
