"""Modules of PyTorch as networks, beside PyTorch: outputs, gradients, names; skipped where it is not installed.

What they show without PyTorch is in test_tracing.py and test_weights.py.
"""

import copy
import re
import warnings

import numpy as np
import pytest

import im2colnet as ic

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional

IMAGES, SEQUENCES, FEATURES = (4, 8, 6), (4, 12), (10,)


class Written(nn.Module):
    """A module whose forward is a function of itself and its input, with some layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def drawn(module):
    """Give a module parameters and statistics that are not those it begins with."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            draw = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(draw + 0.5 if name.endswith(("var", "norm.weight")) else draw - 0.4)
    return module


def compare(module, shape, n=3):
    """Compare a module's output, and the gradients of its parameters, with those of the network; return the network."""
    if not isinstance(module, (nn.Sequential, Written)):
        module = nn.Sequential(module if [*module.parameters()] else nn.Sequential(nn.Conv2d(4, 4, 1), module))
    module = drawn(module.double())
    net = ic.torch.from_module(module, shape)
    assert net.dtype == "float64"
    x = torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    made = net.predict(x.numpy())
    expected = copy.deepcopy(module).eval()(x.clone())
    close(made, expected)
    assert net.state_dict().keys() == {k for k in module.state_dict() if not k.endswith("batches_tracked")}
    if not isinstance(expected, tuple) and net.parameters():
        y = module.train()(x.clone())
        if y.ndim == 2:
            labels = torch.arange(n) % y.shape[1]
            loss, targets = F.cross_entropy(y, labels), labels
        else:
            targets = torch.zeros_like(y)
            loss = F.mse_loss(y, targets)
        loss.backward()
        trainer = ic.Trainer(net, loss=ic.CrossEntropyLoss() if y.ndim == 2 else ic.MSELoss())
        gradients = trainer.gradients(x.numpy(), targets.numpy())
        most = max(p.grad.abs().max() for p in module.parameters())
        for name, p in module.named_parameters():
            np.testing.assert_allclose(gradients[name], p.grad.numpy(), rtol=0, atol=1e-7 * most, err_msg=name)
    return net


def close(made, expected):
    if isinstance(expected, tuple):
        for one, other in zip(made, expected, strict=True):
            close(one, other)
    else:
        assert made.shape == expected.shape
        np.testing.assert_allclose(made, expected.detach(), rtol=0, atol=1e-10 * float(expected.detach().abs().max()))


ACTIVATIONS = [
    nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(1.5), nn.CELU(0.7), nn.SELU(), nn.GELU(), nn.Tanh(),
    nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Hardtanh(-0.2, 0.3), nn.LogSigmoid(), nn.Softplus(2.0),
    nn.Softsign(), nn.Threshold(0.1, -0.2), nn.PReLU(4), nn.Softmax(2), nn.LogSoftmax(1), nn.GLU(1), nn.Identity(),
]  # fmt: skip


@pytest.mark.parametrize("module", ACTIVATIONS, ids=repr)
def test_activations(module):
    compare(nn.Sequential(nn.Conv2d(4, 4, 3), module), IMAGES)


@pytest.mark.parametrize("module", [nn.Hardswish(), nn.Hardsigmoid()], ids=repr)
def test_activations_whose_gradients_pytorch_rounds_to_float32(module):
    compare(module, IMAGES)


OF_IMAGES = [
    nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), groups=2),
    nn.Conv2d(4, 6, 3, padding="same", bias=False),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="circular"),
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.MaxPool2d((2, 3), dilation=2)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.AvgPool2d(2, divisor_override=3)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d((3, 5)), nn.AdaptiveMaxPool2d(2)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.Sigmoid(), nn.LPPool2d(2, 2)),
    nn.Sequential(nn.BatchNorm2d(4, eps=0.01), nn.Conv2d(4, 3, 1)),
    nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 3, 1)),
    nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 3, 1)),
    nn.GroupNorm(2, 4),
    nn.GroupNorm(4, 4, affine=False),
    nn.InstanceNorm2d(4, affine=True),
    nn.LayerNorm((4, 8, 6)),
    nn.LayerNorm(6, elementwise_affine=False),
    nn.RMSNorm((8, 6)),
    nn.LocalResponseNorm(3),
    nn.Sequential(nn.Conv2d(4, 8, 1), nn.PixelShuffle(2), nn.Upsample(scale_factor=2)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample((9, 11), mode="bilinear", align_corners=True)),
    nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=1.5, mode="bicubic"), nn.PixelUnshuffle(3)),
    nn.Sequential(nn.ReflectionPad2d(2), nn.ReplicationPad2d(1), nn.CircularPad2d((1, 0, 2, 0)), nn.Conv2d(4, 2, 1)),
    nn.Sequential(nn.ZeroPad2d((1, 2, 3, 0)), nn.ConstantPad2d(1, 0.5), nn.Conv2d(4, 2, 1)),
    nn.Sequential(nn.ChannelShuffle(2), nn.Unflatten(1, (2, 2)), nn.Flatten(2), nn.Flatten(), nn.Linear(192, 3)),
]


@pytest.mark.parametrize("module", OF_IMAGES, ids=lambda module: re.sub(r"\s+", " ", repr(module))[:80])
def test_layers_of_images(module):
    compare(module, IMAGES)


OF_SEQUENCES = [
    nn.Sequential(nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(2)),
    nn.Sequential(nn.ConvTranspose1d(4, 6, 3, 2), nn.AvgPool1d(2), nn.AdaptiveMaxPool1d(1), nn.Flatten()),
    nn.Sequential(nn.ReflectionPad1d(2), nn.ConstantPad1d((1, 0), 0.5), nn.Conv1d(4, 3, 3, padding_mode="replicate")),
]


@pytest.mark.parametrize("module", OF_SEQUENCES, ids=range(3))
def test_layers_of_sequences(module):
    compare(module, SEQUENCES)


def test_layers_of_features():
    compare(nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3, bias=False)), FEATURES)


def in_place(m, x):
    y = m.conv(x)
    z = y
    y += 1
    z.mul_(2)
    return y * z


def parts(m, x):
    x = m.conv(x)
    a, b = x.chunk(2, dim=1)
    c, d, e = torch.split(x, [1, 2, 1], 1)
    return torch.cat([a * b, c + e, d[:, :1], x[:, -1:, :, :]], dim=1)


def shuffled(m, x):
    x = m.conv(x)
    n, c, h, w = x.shape
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
    return F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)


def arithmetic(m, x):
    x = m.conv(x)
    x = 1 - x * 0.5 + torch.sub(x, x * x, alpha=0.3) / 2 - (x / (2 + x * x)) ** 2
    return torch.add(x, -x.mean((2, 3), keepdim=True), alpha=2).flatten(1)


def clamped(m, x):
    x = m.conv(x)
    x = torch.squeeze(torch.unsqueeze(input=x, dim=1), dim=1)
    limits = torch.clamp(x, -0.2, 0.3), x.clamp(min=0), x.clamp(min=0, max=6), x.clamp(max=0.1), F.hardtanh(x)
    return sum(limits).permute(0, 2, 3, 1).contiguous()


def resized(m, x):
    x = F.interpolate(m.conv(x.to(memory_format=torch.channels_last)), scale_factor=2, mode="nearest").to(x.dtype)
    x = F.pad(F.pad(x, (1, 2)), (1, 0, 2, 1), mode="replicate")
    return F.max_pool2d(x, 2) + F.avg_pool2d(x, [2, 2]).expand(-1, 4, -1, -1)


def joined(m, x):
    a, b, c, d = m.conv(x).unbind(1)
    y = F.normalize(torch.stack([a, b, c * 2, d], dim=1), dim=1)
    y = y.sum(dim=(2, 3)) + y.amax(axis=(2, 3)) - torch.amin(y, (2, 3))
    return F.softmin(F.tanhshrink(y) * y.abs().add(1).rsqrt(), 1)[:, None]


def attention(m, x):
    x = m.conv(x).flatten(2).mT
    q, k = m.norm(x), x.transpose(-2, -1)
    y = (q @ k / k.shape[1] ** 0.5).softmax(-1) @ x
    return F.scaled_dot_product_attention(x, y, q) / (x.norm(p=2, dim=(1, 2), keepdim=True) + 1e-6)


def of_extremes(m, x):
    x = m.conv(x)
    y = torch.cat([torch.max(x, 1)[0].unsqueeze(1), x.min(dim=1, keepdim=True).values], 1)
    return y * torch.max(x[:, :1], x[:, 1:2]).minimum(x[:, 2:3])


def repeated(m, x):
    x = m.conv(x)
    y = x.mean((2, 3), keepdim=True)
    return x * torch.sigmoid(y).expand_as(x) - y.expand(-1, -1, 8, -1) * torch.addcmul(x, x, y, value=0.5)


OF_FUNCTIONS = [in_place, parts, shuffled, arithmetic, clamped, resized, joined, of_extremes, repeated]


@pytest.mark.parametrize("function", OF_FUNCTIONS)
def test_functions(function):
    compare(Written(function, conv=nn.Conv2d(4, 4, 3, padding=1)), IMAGES)


def test_a_vector_of_zeros_is_normalised_without_nan():
    net = ic.torch.from_module(Written(lambda m, x: F.normalize(F.relu(m.conv(x))), conv=nn.Conv2d(4, 4, 1)), IMAGES)
    gradients = ic.Trainer(net, loss=ic.MSELoss()).gradients(np.zeros((2, *IMAGES), "float32"), np.ones((2, *IMAGES)))
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_attention():
    compare(Written(attention, conv=nn.Conv2d(4, 4, 3, padding=1), norm=nn.LayerNorm(4)), IMAGES)


def test_modules_of_torch_fx_and_of_a_wrapper():
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    compare(Written(lambda m, x: m.inner(x), inner=torch.fx.symbolic_trace(module)), IMAGES)
    assert "module.0.weight" in ic.torch.from_module(nn.DataParallel(module), IMAGES).parameters()


def test_layers_have_their_modules_names_whatever_functions_are_called():
    def function(m, x):
        m.kept = x + 1
        x = torch.cat([m.kept, m.kept], 1)[:, :4]
        return m.cat(m.add(x))

    module = Written(function, add=nn.Conv2d(4, 4, 1), cat=nn.Sequential(nn.Conv2d(4, 4, 1)))
    assert [*ic.torch.from_module(module, IMAGES).parameters()] == [
        "add.weight",
        "add.bias",
        "cat.0.weight",
        "cat.0.bias",
    ]
    assert not hasattr(module, "kept")  # the module is as it was


def test_several_outputs():
    compare(Written(lambda m, x: (m.conv(x), x, m.conv(x) if x is None else -x), conv=nn.Conv2d(4, 4, 1)), IMAGES)
    module = Written(lambda m, x: {"y": m.conv(x), "more": [x, x]}, conv=nn.Conv2d(4, 4, 1))
    assert ic.torch.from_module(module, IMAGES).outputs == ["conv", "output", "output_2"]


def test_the_state_moves_both_ways_as_it_is():
    module = drawn(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None), nn.Flatten()))
    module[2].num_batches_tracked.fill_(5)
    net = ic.torch.from_module(module, IMAGES)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, module.state_dict()[name])
    changed = copy.deepcopy(module)
    drawn(changed.half())
    report = net.load_state_dict(changed.state_dict())
    assert not report.missing
    assert not report.unexpected
    module.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    x = torch.rand(2, *IMAGES)
    np.testing.assert_allclose(net.predict(x), module.eval()(x).detach(), rtol=0, atol=1e-5)


def test_files_are_read_by_both(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    module, path = drawn(nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3))), tmp_path / "x.safetensors"
    save_file(module.bfloat16().state_dict(), path)
    net = ic.torch.from_module(copy.deepcopy(module).float(), IMAGES)
    net.load_state_dict(ic.load_weights(path))
    ic.save_weights(net.state_dict(), path)
    other = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3))
    other.load_state_dict(pytest.importorskip("safetensors.torch").load_file(path), strict=True)
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.float(), module.state_dict()[name].float())


def test_the_mode_of_the_module_makes_no_difference_and_stays():
    module = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Dropout2d(0.2), nn.Dropout(0))
    described = [repr(ic.torch.from_module(module.train(mode), IMAGES)) for mode in (True, False)]
    assert described[0] == described[1]
    assert "Dropout(p=0.3)" in described[0]
    assert "Dropout2d(p=0.2)" in described[0]
    assert all(m.training is False for m in module.modules())
    assert module(torch.zeros(1, *IMAGES)).requires_grad  # and it is PyTorch's again


def test_dropout_of_functions():
    def function(m, x):
        x = F.dropout(x, 0.3, training=m.training)
        return F.dropout(x, 0.4, False)

    net = ic.torch.from_module(Written(function), IMAGES)
    assert [repr(layer) for layer in net.children().values()] == ["Dropout(p=0.3)"]
    with pytest.raises(ic.ModelError, match=r"it drops numbers in evaluation too: give it training=self.training"):
        ic.torch.from_module(Written(lambda m, x: F.dropout(x)), IMAGES)


class DropPath(nn.Module):
    """As it stands in many repositories."""

    def __init__(self, drop_prob, inner=None):
        super().__init__()
        self.drop_prob, self.inner = drop_prob, inner

    def forward(self, x):
        x = x if self.inner is None else self.inner(x)
        if self.drop_prob == 0.0 or not self.training:
            return x
        raise AssertionError("it is not traced in training mode")


def test_stochastic_depth():
    net = ic.torch.from_module(nn.Sequential(DropPath(0.2), DropPath(0.0)), IMAGES)
    assert [repr(layer) for layer in net.children().values()] == ["StochasticDepth(p=0.2)"]
    with pytest.warns(ic.InputWarning, match="these check whether they are in training mode"):
        net = ic.torch.from_module(nn.Sequential(DropPath(0.2, nn.Tanh())), IMAGES)
    assert [*net.children()] == ["0.inner"]


def test_what_a_module_does_only_in_training_is_said():
    def function(m, x):
        return m.conv(x * 2 if m.training else x)

    with pytest.warns(ic.InputWarning, match=r"these check whether they are in training mode, .*: Written"):
        net = ic.torch.from_module(Written(function, conv=nn.Conv2d(4, 2, 1)).train(), IMAGES)
    assert len(net) == 1


def test_what_is_frozen_stays_frozen():
    module = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    module[0].requires_grad_(False)
    module[2].bias.requires_grad_(False)
    module[1].eval()
    statistics = ("1.running_mean", "1.running_var")
    assert ic.torch.from_module(module, IMAGES).frozen == ("0.weight", "0.bias", *statistics, "2.bias")
    assert ic.torch.from_module(module.eval(), IMAGES).frozen == ("0.weight", "0.bias", "2.bias")


def test_what_is_computed_without_gradients_is_frozen():
    def function(m, x):
        with torch.no_grad():
            x = m.first(x)
        return m.second(x)

    module = Written(function, first=nn.Conv2d(4, 4, 1), second=nn.Conv2d(4, 4, 1))
    assert ic.torch.from_module(module, IMAGES).frozen == ("first.weight", "first.bias")

    def between(m, x):
        x = m.second(x)
        with torch.no_grad():
            return m.first(x)

    module.function = between
    with pytest.raises(ic.ModelError, match=r"torch.no_grad stops the gradient before it reaches 'second'"):
        ic.torch.from_module(module, IMAGES)


def test_a_tensor_that_a_function_returns_unchanged_is_known_to_be_the_same():
    def function(m, x):
        x = m.conv(x)
        y = x.float()
        y += 1
        return x * y

    with pytest.raises(ic.ModelError, match="changed in place through a view of it"):
        ic.torch.from_module(Written(function, conv=nn.Conv2d(4, 4, 1)), IMAGES)


def test_a_softmax_at_the_end_is_left_out_for_the_loss():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.Softmax(dim=-1))
    net = ic.torch.from_module(module, IMAGES)
    assert net.scores == ["1"]
    x = torch.rand(2, *IMAGES)
    np.testing.assert_allclose(net.predict(x), module(x).detach(), atol=1e-6)
    np.testing.assert_allclose(net.predict(x, scores=True), module[:2](x).detach(), atol=1e-6)


def test_constants_are_state():
    def function(m, x):
        return m.conv((x - m.mean) / m.std) * torch.full((3, 1, 1), 2.0) * m.scale.reshape(1, -1, 1, 1)

    module = Written(function, conv=nn.Conv2d(4, 3, 1))
    for name, n in (("mean", 4), ("std", 4)):
        module.register_buffer(name, torch.rand(1, n, 1, 1) + 0.5)
    module.scale = nn.Parameter(torch.rand(3))
    with pytest.warns(ic.InputWarning) as caught:
        net = ic.torch.from_module(module, IMAGES)
    said = "\n".join(str(each.message) for each in caught)
    assert "constants of the network, which training does not change: scale" in said
    assert "mean is sub.constant, std is div.constant, scale is mul_2.constant" in said
    assert [*net.parameters()] == ["conv.weight", "conv.bias"]
    x = torch.rand(2, *IMAGES)
    np.testing.assert_allclose(net.predict(x), module(x).detach(), atol=1e-6)


def test_what_has_no_part_is_said():
    module = Written(
        lambda m, x: (m.unused(x.mean((2, 3))), m.conv(x))[1], conv=nn.Conv2d(4, 2, 1), unused=nn.Linear(4, 2)
    )
    module.unused.requires_grad_(False)
    with pytest.warns(ic.InputWarning, match=r"not used for the output, .*: unused.weight, unused.bias"):
        net = ic.torch.from_module(module, IMAGES)
    net.load_state_dict(module.state_dict(), strict=False)
    assert net.frozen == ()


class OfTwo(nn.Module):
    def forward(self, image, mask):
        return image * mask


def lacking(m, x):
    x = torch.roll(m.conv(x), 1, 2)
    x, _ = m.lstm(x.flatten(2))
    x = m.attention(x, x, x)[0]
    return m.fc(x.cumsum(1).sort(1)[0].flatten(1))


def test_all_that_is_lacking_is_named_at_once():
    module = Written(
        lacking,
        conv=nn.Conv2d(4, 4, 1),
        lstm=nn.LSTM(48, 5, batch_first=True),
        attention=nn.MultiheadAttention(5, 1, batch_first=True),
        fc=nn.Linear(7, 2),
    )
    with pytest.raises(ic.ModelError) as error:
        ic.torch.from_module(module, IMAGES)
    said = str(error.value)
    assert said.startswith("Written has 5 operations that im2colnet lacks: roll ('Written', test_modules.py line ")
    assert re.search(r"LSTM \('lstm', .*MultiheadAttention \('attention', .*cumsum \(.*sort \(", said)
    assert "linear in 'fc'" in said  # 20 features are given where 7 are expected
    assert "7 input features, got 20" in said


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (OfTwo(), r"forward of OfTwo takes \(image, mask\): a network has one input"),
        (Written(lambda m, x: m.conv(m.conv(x)), conv=nn.Conv2d(4, 4, 1)), "'conv.weight' is shared with the layer"),
        (Written(lambda m, x: x if x.sum((1, 2, 3)) > 0 else -x), "depends on the numbers of a tensor"),
        (Written(lambda m, x: torch.zeros(x.size(0), 3)), "the tracing ended at test_modules.py line"),
        (Written(lambda m, x: m.oops(x)), "AttributeError: 'Written' object has no attribute 'oops'"),
        (Written(lambda m, x: m.w @ m.conv(x), conv=nn.Conv2d(4, 4, 1), w=nn.Parameter(torch.eye(8))), "on the right"),
        (Written(lambda m, x: x.__setitem__((slice(None), 0), 1)), "it writes into a part of a tensor"),
        (Written(lambda m, x: x[:, :1].expand(-1, 4, -1, -1).sum(1)), "a tensor from expand, which is only"),
        (Written(lambda m, x: x[:, :1].expand_as(x) + x[:, :1]), "a tensor from expand, which is only"),
        (Written(lambda m, x: x.to(torch.int64)), "it converts values of the network to torch.int64"),
        (Written(lambda m, x: x.chunk(0, 1)), "chunk in 'Written', .*: ZeroDivisionError"),
        (Written(lambda m, x: x.max(1)), "an output depends on the indices of maxima or minima"),
        (Written(lambda m, x: torch.ones(2)), "it must return tensors that depend on its input"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "a network does not compute indices of maxima"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 1)), "its weight is computed from parameters"),
        (torch.zeros(3), "module must be a torch.nn.Module"),
    ],
    ids=range(16),
)
def test_what_is_refused(module, reason):
    with pytest.raises(ic.ModelError, match=reason):
        ic.torch.from_module(module, IMAGES)
    if isinstance(module, nn.Module):
        assert all(m.training is True for m in module.modules())


def test_a_compiled_module_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.raises(ic.ModelError, match="was compiled by TorchScript"):
        ic.torch.from_module(module, IMAGES)
    with pytest.raises(ic.ModelError, match=r"was compiled by torch.compile: give .* module\._orig_mod"):
        ic.torch.from_module(Written(None, _orig_mod=nn.ReLU()), IMAGES)


@pytest.mark.parametrize("shape", [5, (), ("a", 3, 3), (4, 0, 3)])
def test_what_is_no_shape_of_a_sample(shape):
    with pytest.raises(ic.Im2colnetError, match="input_shape must be"):
        ic.torch.from_module(nn.Sequential(nn.ReLU()), shape)


def test_a_network_of_a_module_trains_is_saved_and_loaded(tmp_path):
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(192, 2))
    trainer = ic.Trainer(ic.torch.from_module(module, IMAGES), optimizer=ic.SGD(0.1))
    x, labels = np.random.default_rng(0).random((6, *IMAGES), "float32"), np.arange(6) % 2
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(3):
        loss = F.cross_entropy(module(torch.tensor(x)), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert trainer.step(x, labels) == pytest.approx(loss.item(), rel=1e-4)
    np.testing.assert_allclose(trainer.net.predict(x), module.eval()(torch.tensor(x)).detach(), atol=1e-3)
    trainer.save(tmp_path / "x.safetensors")
    loaded = ic.Trainer.load(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(loaded.net.predict(x), trainer.net.predict(x))
