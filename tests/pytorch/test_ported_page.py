"""The module of docs/guides/pytorch.md and the network beside it give the same, and take each other's weights."""

import re

import numpy as np
import pages
import pytest

torch = pytest.importorskip("torch")
PAGE = "docs/guides/pytorch.md"


@pytest.fixture(scope="module")
def ported():
    """What the page's programs have made."""
    return pages.blocks.run_programs(pages.programs(PAGE, cells=True), PAGE)


@pytest.fixture(scope="module")
def module(ported):
    """The page's module of PyTorch with the weights of the page's file."""
    (source,) = re.findall(
        r"```text\n(import torch\n.*?)```", (pages.ROOT / PAGE).read_text(encoding="utf-8"), re.DOTALL
    )
    names = {"__name__": "module"}
    exec(compile(source, PAGE, "exec"), names)
    module = names["Classifier"]().eval()
    state = {name: torch.from_numpy(np.array(value)) for name, value in ported["state"].items()}
    module.load_state_dict(state)
    return module


def test_the_page_s_network_gives_what_pytorch_s_module_gives(ported, module):
    images = ported["images"]
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    for net in (ported["net"], ported["by_names"]):
        np.testing.assert_allclose(net.predict(images), expected, rtol=1e-5, atol=1e-6)


def test_the_weights_go_back(ported, module):
    state = {name: torch.from_numpy(value) for name, value in ported["net"].state_dict().items()}
    module.load_state_dict(state)  # strict: that num_batches_tracked is missing is no error
