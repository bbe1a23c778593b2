"""The pictures: curves of a training, and the roofline of a step."""

import pytest

from im2colnet.show.plots import save_roofline

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("flops", [1e6, 0])
def test_a_roofline_of_short_passes(folder, flops):
    """A step that had to wait took far longer than its passes; and layers may have nothing to multiply."""
    one = {"seconds": 1e-5, "flops": flops, "bytes": 1e5}
    layers = [{"name": "0", "forward": one, "backward": one}]
    save_roofline({"gemm": 1e10, "copy": 1e10, "seconds": 0.1, "layers": layers}, "roofline.png")
    assert (folder / "roofline.png").read_bytes().startswith(b"\x89PNG")
