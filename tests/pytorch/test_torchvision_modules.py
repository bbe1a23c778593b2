"""torchvision's own modules as networks; skipped where PyTorch or torchvision is not installed."""

import warnings

import numpy as np
import pytest
from reference.seeded import images, parameter

import im2colnet as ic

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def import_torchvision():
    """Return torchvision's models; its compiled part, which they do not need, may not fit PyTorch."""
    original = torch.library.register_fake
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.library.register_fake = lambda *args, **kwargs: lambda function: function
            from torchvision import models
    except ImportError:
        pytest.skip("torchvision is not installed", allow_module_level=True)
    finally:
        torch.library.register_fake = original
    return models


models = import_torchvision()
torch.set_num_threads(1)

#: the smallest of each kind
NAMES = [
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
]
NAMES += ["shufflenet_v2_x0_5", "squeezenet1_1"]
SIZE = 48


def module_of(name):
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    module = getattr(models, name)(num_classes=5, **options)
    for key, tensor in module.state_dict().items():
        if tensor.ndim:
            tensor.copy_(torch.from_numpy(parameter(key, tuple(tensor.shape))))
    for each in module.modules():
        if type(each).__name__ in ("Dropout", "StochasticDepth"):
            each.p = 0.0  # what they draw differs
    return module


def network_of(module):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="GoogLeNet: these check whether they are in training mode")
        return ic.torch.from_module(module, (3, SIZE, SIZE))


@pytest.mark.parametrize("name", NAMES)
def test_names_and_outputs(name):
    module = module_of(name)
    net, x = network_of(module), images(SIZE)
    assert [*net.state_dict()] == [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    expected = module.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_gradients(name):
    """Of batch norms that keep their statistics, since few images make those of the batch a chaotic function."""
    module, x, labels = module_of(name).double(), images(SIZE).astype("float64"), np.array([1, 4])
    for each in module.modules():
        each.train(not isinstance(each, torch.nn.BatchNorm2d))
    trainer = ic.Trainer(network_of(module))
    torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
    gradients = trainer.gradients(x, labels)
    assert gradients.keys() == {key for key, _ in module.named_parameters()}
    most = max(float(p.grad.abs().max()) for p in module.parameters())
    for key, p in module.named_parameters():  # PyTorch has the sixth of Hardswish in float32
        np.testing.assert_allclose(gradients[key], p.grad, rtol=0, atol=1e-6 * most, err_msg=key)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x1_0"])
def test_states_of_the_ready_models_move_both_ways_as_files(name, tmp_path):
    """im2colnet's own models have torchvision's names: files of one are loaded by the other, strictly."""
    files = pytest.importorskip("safetensors.torch")
    module, path = module_of(name), tmp_path / "x.safetensors"
    files.save_file(module.state_dict(), path)
    net = ic.models.make(name, 5, 3, 224)
    net.load_state_dict(ic.load_weights(path))
    net.input_shape = None  # it is asked for smaller images than it was made for
    expected = module.eval()(torch.from_numpy(images(SIZE))).detach().numpy()
    np.testing.assert_allclose(net.predict(images(SIZE)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    ic.save_weights(net.init(seed=1).state_dict(), path)
    module.load_state_dict(files.load_file(path), strict=True)
    expected = module.eval()(torch.from_numpy(images(SIZE))).detach().numpy()
    np.testing.assert_allclose(net.predict(images(SIZE)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
