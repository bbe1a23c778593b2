"""The oracles, the functions and the layers give what PyTorch gives: one table of its cases, one row for each group.

A row is a function of a case's configuration and arrays that returns results by the names of PyTorch's values; words
after a name tell results apart that must be the same. (The backends' kernels meet these cases in tests/backend.)
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import Probe, Projection, strided, trained_loss, updates
from numpy.testing import assert_allclose

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.testing import oracles
from im2colnet.testing.cases import State
from im2colnet.testing.inputs import network_of
from im2colnet.testing.networks import case_of
from reference.torch_values import cases, groups

#: the padding of the cases that PyTorch itself refuses, so their image was padded first
MORE_THAN_HALF = ((0, 1), (2, 1))
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-11}, "float32": {"rtol": 1e-4, "atol": 1e-4}}


# The oracles ---------------------------------------------------------------------------------------------------------
def named(results, *names):
    return dict(zip(names, results, strict=True))


def oracle_conv2d(config, a):
    return {
        "y": oracles.conv2d(a["x"], a["w"], a["b"], **config),
        "dx": oracles.conv2d_input(a["x"].shape, a["w"], a["dy"], **config),
        "dw": oracles.conv2d_weight(a["x"], a["w"].shape, a["dy"], **config),
        "db": oracles.conv2d_bias(a["dy"]),
    }


def oracle_conv_transpose2d(config, a):
    gradients = oracles.conv_transpose2d_grad(a["x"], a["w"], a["dy"], **config)
    return named((oracles.conv_transpose2d(a["x"], a["w"], a["b"], **config), *gradients), "y", "dx", "dw", "db")


def oracle_padding_mode(config, a):
    layer = layer_of_padding_mode(a, config)
    case, state = case_of(SimpleNamespace(layer=layer, name="")), State({"weight": a["w"], "bias": a["b"]})
    (dx,), gradients = case.backward(layer, state, a["dy"], a["x"])
    return {"y": case.forward(layer, state, a["x"]), "dx": dx, "dw": gradients["weight"], "db": gradients["bias"]}


def layer_of_padding_mode(a, config):
    """The convolution of images or of sequences."""
    return (ic.Conv2d if a["x"].ndim == 4 else ic.Conv1d)(a["x"].shape[1], len(a["w"]), **config)


def oracle_conv1d(config, a):
    gradients = oracles.conv1d_grad(a["x"], a["w"], a["dy"], **config)
    return named((oracles.conv1d(a["x"], a["w"], a["b"], **config), *gradients), "y", "dx", "dw", "db")


def oracle_conv_transpose1d(config, a):
    gradients = oracles.conv_transpose1d_grad(a["x"], a["w"], a["dy"], **config)
    return named((oracles.conv_transpose1d(a["x"], a["w"], a["b"], **config), *gradients), "y", "dx", "dw", "db")


def oracle_max_pool2d(config, a):
    y, indices = oracles.max_pool2d(a["x"], **config, return_indices=True)
    return {"y": y, "indices": indices, "dx": oracles.max_pool2d_grad(a["x"], a["dy"], **config)}


def oracle_of(forward, backward):
    """The row of a function of one array."""
    return lambda config, a: {"y": forward(a["x"], **config), "dx": backward(a["x"], a["dy"], **config)}


def oracle_of_two(forward, backward):
    """The row of a function of two arrays."""
    return lambda config, a: {
        "y": forward(a["x"], a["other"]),
        **named(backward(a["x"], a["other"], a["dy"]), "dx", "dother"),
    }


def oracle_moving(move):
    """The row of a function that only moves numbers."""
    return lambda config, a: {
        "y": move(a["x"], **config),
        "dx": oracles.moved_grad(a["x"], a["dy"], partial(move, **config)),
    }


def oracle_batch_norm_training(config, a):
    found = {name: [] for name in ("y", "dx", "dw", "db")}
    statistics = [(a["running_mean"][0], a["running_var"][0])]
    for t, (x, dy) in enumerate(zip(a["x"], a["dy"], strict=True), start=1):
        momentum = {"momentum": config["momentum"] or 1 / t}  # without one it is the mean of the batches so far
        y, *running = oracles.batch_norm(x, *statistics[-1], a["weight"], a["bias"], True, **config | momentum)
        statistics.append(running)
        gradients = oracles.batch_norm_grad(x, dy, *running, a["weight"], training=True, eps=config["eps"])
        for name, value in named((y, *gradients), *found).items():
            found[name].append(value)
    return found | named(zip(*statistics, strict=True), "running_mean", "running_var")


def oracle_instance_norm_training(config, a):
    found = {name: [] for name in ("y", "dx", "dw", "db")}
    statistics = [(a["running_mean"][0], a["running_var"][0])]
    for x, dy in zip(a["x"], a["dy"], strict=True):
        y = oracles.instance_norm(x, a["weight"], a["bias"], config["eps"])
        statistics.append(oracles.instance_norm_running(x, *statistics[-1], config["momentum"] or 0))
        gradients = oracles.instance_norm_grad(x, dy, a["weight"], config["eps"])
        for name, value in named((y, *gradients), *found).items():
            found[name].append(value)
    return found | named(zip(*statistics, strict=True), "running_mean", "running_var")


def oracle_batch_norm_eval(config, a):
    x, weight, mean, var = a["x"], a["weight"], a["running_mean"], a["running_var"]
    y, mean_after, var_after = oracles.batch_norm(x, mean, var, weight, a["bias"], **config)
    gradients = oracles.batch_norm_grad(x, a["dy"], mean, var, weight, eps=config["eps"])
    return named((y, *gradients, mean_after, var_after), "y", "dx", "dw", "db", "running_mean", "running_var")


def oracle_batch_norm_of_batch(config, a):
    zeros, ones = np.zeros(a["x"].shape[1]), np.ones(a["x"].shape[1])
    config = {"eps": config["eps"], "training": True}
    y, *_ = oracles.batch_norm(a["x"], zeros, ones, a["weight"], a.get("bias", zeros), **config)
    dx, dw, db = oracles.batch_norm_grad(a["x"], a["dy"], zeros, ones, a["weight"], **config)
    return {"y": y, "dx": dx, "dw": dw} | ({"db": db} if "bias" in a else {})


def layer_batch_norm_of_batch(config, a):
    state, found = {name: a[name] for name in ("weight", "bias") if name in a}, {}
    for shard in None, 1:
        layer = batch_norm_of(a["x"], {**config, "track_running_stats": False})
        found |= in_a_net(layer, a, f"in shards of {shard}", shard, **state)
    return found


def oracle_within_sample(forward, backward, parameters=("weight", "bias")):
    """The row of a layer that normalises within a sample; its parameters are those that the case has."""

    def row(config, a):
        config = dict(config)
        for name in ("affine", "elementwise_affine", "bias", "num_channels", "num_features"):
            config.pop(name, None)
        if isinstance(config.get("normalized_shape"), int):
            config["normalized_shape"] = [config["normalized_shape"]]
        own = {name: a.get(name) for name in parameters}
        dx, *gradients = backward(a["x"], a["dy"], **config, weight=own["weight"])
        found = {"y": forward(a["x"], **config, **own), "dx": dx}
        return found | {f"d{name[0]}": g for name, g in zip(parameters, gradients, strict=True) if name in a}

    return row


def oracle_linear(config, a):
    gradients = oracles.linear_grad(a["x"], a["w"], a["dy"])
    return named((oracles.linear(a["x"], a["w"], a["b"]), *gradients), "y", "dx", "dw", "db")


LOSS_ORACLES = {
    "CrossEntropyLoss": oracles.cross_entropy,
    "NLLLoss": oracles.nll,
    "BCEWithLogitsLoss": oracles.bce_with_logits,
    "L1Loss": oracles.l1,
    "SmoothL1Loss": oracles.smooth_l1,
    "HuberLoss": oracles.huber,
}


def oracle_loss(config, a):
    config = dict(config)
    return {"loss": LOSS_ORACLES[config.pop("name")](a["output"], a["targets"], **config)}


def oracle_cross_entropy(config, a):
    problem = a["logits"], a["labels"]
    found = oracles.cross_entropy(*problem, **config), oracles.cross_entropy_grad(*problem, **config)
    return named((*found, oracles.softmax(a["logits"])), "loss", "dlogits", "probabilities")


def oracle_mse(config, a):
    problem = a["output"], a["targets"]
    return {"loss": oracles.mse(*problem, **config), "doutput": oracles.mse_grad(*problem, **config)}


def oracle_optimizer(config, a):
    settings = dict(config)
    step, p, state, steps = getattr(oracles, f"{settings.pop('name').lower()}_step"), a["initial"], (), []
    for t, g in enumerate(a["gradients"], start=1):
        p, state = step(p, g, state, t, **settings)
        steps.append(p)
    return {"parameters": steps}


ORACLES = {
    "conv2d": oracle_conv2d,
    "conv_transpose2d": oracle_conv_transpose2d,
    "conv1d": oracle_conv1d,
    "padding_mode": oracle_padding_mode,
    "conv_transpose1d": oracle_conv_transpose1d,
    "unfold": lambda config, a: {
        "cols": oracles.unfold(a["x"], **config),
        "folded": oracles.fold(a["dcols"], a["x"].shape[2:], **config),
    },
    "max_pool2d": oracle_max_pool2d,
    "avg_pool2d": oracle_of(oracles.avg_pool2d, lambda x, dy, **config: oracles.avg_pool2d_grad(x.shape, dy, **config)),
    "lp_pool2d": oracle_of(oracles.lp_pool2d, oracles.lp_pool2d_grad),
    "adaptive_avg_pool2d": oracle_of(oracles.adaptive_avg_pool2d, oracles.adaptive_avg_pool2d_grad),
    "adaptive_max_pool2d": oracle_of(oracles.adaptive_max_pool2d, oracles.adaptive_max_pool2d_grad),
    "max_pool1d": oracle_of(oracles.max_pool1d, oracles.max_pool1d_grad),
    "avg_pool1d": oracle_of(oracles.avg_pool1d, oracles.avg_pool1d_grad),
    "adaptive_avg_pool1d": oracle_of(oracles.adaptive_avg_pool1d, oracles.adaptive_avg_pool1d_grad),
    "adaptive_max_pool1d": oracle_of(oracles.adaptive_max_pool1d, oracles.adaptive_max_pool1d_grad),
    "upsample": oracle_of(oracles.upsample, oracles.upsample_grad),
    "pixel_shuffle": oracle_of(oracles.pixel_shuffle, oracles.pixel_shuffle_grad),
    "channel_shuffle": oracle_of(oracles.channel_shuffle, oracles.channel_shuffle_grad),
    "unflatten": oracle_of(oracles.unflatten, oracles.unflatten_grad),
    "reshape": oracle_moving(oracles.reshape),
    "permute": oracle_moving(oracles.permute),
    "transpose": oracle_moving(oracles.transpose),
    "slice": oracle_moving(oracles.part),
    "mean": oracle_of(oracles.mean, oracles.mean_grad),
    "sum": oracle_of(oracles.total, oracles.total_grad),
    "amax": oracle_of(oracles.amax, oracles.amax_grad),
    "amin": oracle_of(oracles.amin, oracles.amin_grad),
    "pixel_unshuffle": oracle_moving(oracles.pixel_unshuffle),
    "exp": oracle_of(oracles.exp, oracles.exp_grad),
    "abs": oracle_of(oracles.absolute, oracles.absolute_grad),
    "square": oracle_of(oracles.square, oracles.square_grad),
    "erf": oracle_of(oracles.erf, oracles.erf_grad),
    "sin": oracle_of(oracles.sin, oracles.sin_grad),
    "cos": oracle_of(oracles.cos, oracles.cos_grad),
    "sub": oracle_of_two(oracles.sub, oracles.sub_grad),
    "div": oracle_of_two(oracles.div, oracles.div_grad),
    "power": oracle_of_two(oracles.power, oracles.power_grad),
    "maximum": oracle_of_two(oracles.maximum, oracles.maximum_grad),
    "minimum": oracle_of_two(oracles.minimum, oracles.minimum_grad),
    "matmul": oracle_of_two(oracles.matmul, oracles.matmul_grad),
    "zero_pad2d": oracle_of(oracles.zero_pad2d, oracles.zero_pad2d_grad),
    "reflection_pad2d": oracle_of(oracles.reflection_pad2d, oracles.reflection_pad2d_grad),
    "circular_pad2d": oracle_of(oracles.circular_pad2d, oracles.circular_pad2d_grad),
    "constant_pad2d": oracle_of(oracles.constant_pad2d, oracles.constant_pad2d_grad),
    "replication_pad2d": oracle_of(oracles.replication_pad2d, oracles.replication_pad2d_grad),
    "relu": oracle_of(oracles.relu, oracles.relu_grad),
    "leaky_relu": oracle_of(oracles.leaky_relu, oracles.leaky_relu_grad),
    "sigmoid": oracle_of(oracles.sigmoid, oracles.sigmoid_grad),
    "tanh": oracle_of(oracles.tanh, oracles.tanh_grad),
    "silu": oracle_of(oracles.silu, oracles.silu_grad),
    "elu": oracle_of(oracles.elu, oracles.elu_grad),
    "selu": oracle_of(oracles.selu, oracles.selu_grad),
    "celu": oracle_of(oracles.celu, oracles.celu_grad),
    "mish": oracle_of(oracles.mish, oracles.mish_grad),
    "softplus": oracle_of(oracles.softplus, oracles.softplus_grad),
    "softsign": oracle_of(oracles.softsign, oracles.softsign_grad),
    "log_sigmoid": oracle_of(oracles.log_sigmoid, oracles.log_sigmoid_grad),
    "hardtanh": oracle_of(oracles.hardtanh, oracles.hardtanh_grad),
    "relu6": oracle_of(oracles.relu6, oracles.relu6_grad),
    "hardsigmoid": oracle_of(oracles.hardsigmoid, oracles.hardsigmoid_grad),
    "hardswish": oracle_of(oracles.hardswish, oracles.hardswish_grad),
    "threshold": oracle_of(oracles.threshold, oracles.threshold_grad),
    "gelu": oracle_of(oracles.gelu, oracles.gelu_grad),
    "gelu_tanh": oracle_of(oracles.gelu_tanh, oracles.gelu_tanh_grad),
    "softmax_along": oracle_of(oracles.softmax_along, oracles.softmax_along_grad),
    "log_softmax_along": oracle_of(oracles.log_softmax_along, oracles.log_softmax_along_grad),
    "glu": oracle_of(oracles.glu, oracles.glu_grad),
    "prelu": lambda config, a: named(
        (oracles.prelu(a["x"], a["w"]), *oracles.prelu_grad(a["x"], a["dy"], a["w"])), "y", "dx", "dw"
    ),
    "linear": oracle_linear,
    "batch_norm_training": oracle_batch_norm_training,
    "batch_norm_eval": oracle_batch_norm_eval,
    "batch_norm_of_batch": oracle_batch_norm_of_batch,
    "instance_norm_training": oracle_instance_norm_training,
    "instance_norm_eval": oracle_batch_norm_eval,  # the same, of the running statistics
    "group_norm": oracle_within_sample(oracles.group_norm, oracles.group_norm_grad),
    "instance_norm2d": oracle_within_sample(oracles.instance_norm, oracles.instance_norm_grad),
    "layer_norm": oracle_within_sample(oracles.layer_norm, oracles.layer_norm_grad),
    "rms_norm": oracle_within_sample(oracles.rms_norm, oracles.rms_norm_grad, ("weight",)),
    "local_response_norm": oracle_of(oracles.local_response_norm, oracles.local_response_norm_grad),
    "cross_entropy": oracle_cross_entropy,
    "mse_loss": oracle_mse,
    "loss": oracle_loss,
    "optimizer": oracle_optimizer,
}


# The functions on plain arrays ---------------------------------------------------------------------------------------
def function_conv2d(config, a):
    x, w, b, dy = a["x"], a["w"], a["b"], a["dy"]
    return {
        "y": F.conv2d(x, w, b, **config),
        "y without bias": F.conv2d(x, w, **config) + b[:, None, None],
        "dx": F.conv2d_input(x.shape, w, dy, **config),
        "dw": F.conv2d_weight(x, w.shape, dy, **config),
    }


def padded(config, x, fill):
    """The image, padded where the function refuses to do it, and the part of it that is the original one."""
    if config["padding"] != MORE_THAN_HALF:
        return config, x, (...,)
    x = np.pad(x, ((0, 0), (0, 0), *MORE_THAN_HALF), constant_values=fill)
    return {**config, "padding": 0}, x, (..., slice(0, -1), slice(2, -1))


def function_max_pool2d(config, a):
    config, x, original = padded(config, a["x"], -np.inf)
    y, indices = F.max_pool2d(x, **config, return_indices=True)
    found = {"y": y, "y alone": F.max_pool2d(x, **config), "dx": F.max_pool2d_input(x, a["dy"], **config)[original]}
    return found | ({"indices": indices} if original == (...,) else {})


def function_avg_pool2d(config, a):
    config, x, original = padded(config, a["x"], 0)
    return {"y": F.avg_pool2d(x, **config), "dx": F.avg_pool2d_input(x.shape, a["dy"], **config)[original]}


def function_by_name(config, a):
    """Of a case that names its function; it gets arrays by the names of its arguments, and may change copies alone."""
    config = dict(config)
    name = config.pop("function")
    given = {name: np.array(value) for name, value in a.items() if name not in ("y", "at") and " after" not in name}
    y = getattr(F, name)(**given, **config)
    found = dict(zip(("y", "at"), y, strict=False)) if isinstance(y, tuple) else {"y": y}
    return found | {f"{name} after": given[name] for name in given.keys() & {"running_mean", "running_var"}}


#: functions that have the names of their layers' groups
NAMESAKES = ["relu", "leaky_relu", "sigmoid", "tanh", "silu", "elu", "selu", "celu", "gelu", "mish", "softplus"]
NAMESAKES += ["softsign", "hardtanh", "relu6", "hardsigmoid", "hardswish", "threshold", "glu", "local_response_norm"]
NAMESAKES += ["max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "lp_pool2d"]
NAMESAKES += ["adaptive_avg_pool2d", "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle"]
NAMESAKES += ["channel_shuffle"]


def function_of(function):
    """The row of a function of one array."""
    return lambda config, a: {"y": function(a["x"], **config)}


def padded_on_each_side(x, padding, mode):
    return F.pad(x, [padding] * 4 if isinstance(padding, int) else padding, mode)


def function_within_sample(function, *arguments):
    """The row of a function that normalises within a sample."""

    def row(config, a):
        given = {name: config[name] for name in (*arguments, "eps") if name in config}
        return {"y": function(a["x"], **given, **{name: a[name] for name in ("weight", "bias") if name in a})}

    return row


def function_norm_training(function, config, a):
    found = {name: [] for name in ("y", "running_mean", "running_var")}
    running = [a["running_mean"][0].copy(), a["running_var"][0].copy()]
    found["running_mean"].append(running[0].copy())
    found["running_var"].append(running[1].copy())
    for x in a["x"]:
        y = function(x, *running, a["weight"], a["bias"], True, **config)
        for values, value in zip(found.values(), (y, *running), strict=True):
            values.append(value.copy())
    return found


LOSS_FUNCTIONS = {
    "CrossEntropyLoss": F.cross_entropy,
    "NLLLoss": F.nll_loss,
    "BCEWithLogitsLoss": F.binary_cross_entropy_with_logits,
    "L1Loss": F.l1_loss,
    "SmoothL1Loss": F.smooth_l1_loss,
    "HuberLoss": F.huber_loss,
}


def function_loss(config, a):
    config = dict(config)
    name, output = config.pop("name"), a["output"]
    for weight in config.keys() & {"weight", "pos_weight"}:
        config[weight] = np.array(config[weight], output.dtype)
        if name == "BCEWithLogitsLoss" and output.ndim > 2:
            config[weight] = config[weight][:, None, None]
    return {"loss": LOSS_FUNCTIONS[name](output, a["targets"], **config)}


FUNCTIONS = {
    "conv2d": function_conv2d,
    "conv_transpose2d": lambda config, a: {
        "y": F.conv_transpose2d(a["x"], a["w"], a["b"], **config),
        "y without bias": F.conv_transpose2d(a["x"], a["w"], **config) + a["b"][:, None, None],
    },
    "unfold": lambda config, a: {
        "cols": F.unfold(a["x"], **config),
        "folded": F.fold(a["dcols"], a["x"].shape[2:], **config),
    },
    **{
        name: lambda config, a, function=function: {
            "y": function(a["x"], a["w"], a["b"], **config),
            "y without bias": function(a["x"], a["w"], **config) + a["b"][:, None],
        }
        for name, function in {"conv1d": F.conv1d, "conv_transpose1d": F.conv_transpose1d}.items()
    },
    "max_pool2d": function_max_pool2d,
    "avg_pool2d": function_avg_pool2d,
    "functional": function_by_name,
    **{name: function_of(getattr(F, name)) for name in NAMESAKES},
    "gelu_tanh": function_of(partial(F.gelu, approximate="tanh")),
    "log_sigmoid": function_of(F.logsigmoid),
    "softmax_along": function_of(F.softmax),
    "log_softmax_along": function_of(F.log_softmax),
    "upsample": function_of(F.interpolate),
    "zero_pad2d": function_of(partial(padded_on_each_side, mode="constant")),
    "reflection_pad2d": function_of(partial(padded_on_each_side, mode="reflect")),
    "replication_pad2d": function_of(partial(padded_on_each_side, mode="replicate")),
    "circular_pad2d": function_of(partial(padded_on_each_side, mode="circular")),
    "prelu": lambda config, a: {"y": F.prelu(a["x"], a["w"])},
    "linear": lambda config, a: {"y": F.linear(a["x"], a["w"], a["b"])},
    "batch_norm_training": partial(function_norm_training, F.batch_norm),
    "instance_norm_training": partial(function_norm_training, F.instance_norm),
    "instance_norm_eval": lambda config, a: {
        "y": F.instance_norm(a["x"], a["running_mean"], a["running_var"], a["weight"], a["bias"], False, **config)
    },
    "batch_norm_eval": lambda config, a: {
        "y": F.batch_norm(a["x"], a["running_mean"], a["running_var"], a["weight"], a["bias"], **config)
    },
    "group_norm": function_within_sample(F.group_norm, "num_groups"),
    "instance_norm2d": function_within_sample(F.instance_norm),
    "layer_norm": function_within_sample(F.layer_norm, "normalized_shape"),
    "rms_norm": function_within_sample(F.rms_norm, "normalized_shape"),
    "cross_entropy": lambda config, a: {"loss": F.cross_entropy(a["logits"], a["labels"], **config)},
    "mse_loss": lambda config, a: {"loss": F.mse_loss(a["output"], a["targets"], **config)},
    "loss": function_loss,
}


# Layers, losses and optimisers, each in a network that is trained ---------------------------------------------------
def in_a_net(layer, a, how="", shard=None, **state):
    """What a layer gives in training and in evaluation; ``how`` goes behind the results' names."""
    probe = Probe([layer], a["x"], a["dy"], {f"1.{name}": value for name, value in state.items()}, shard)
    result = probe.step()
    assert result.gradients.keys() == {f"1.{name}" for name in state}
    net = ic.Sequential([layer]).init(0, a["x"].dtype.name)
    for name, value in state.items():
        net.parameters()[f"0.{name}"][...] = value
    found = {"y": result.y, "dx": result.dx, "y in evaluation": net.predict(a["x"])}
    found |= {f"d{name[0]}": result.gradients[f"1.{name}"] for name in state}
    return {f"{name} {how}".rstrip(): value for name, value in found.items()}


def layer_of(make):
    """The row of a layer without parameters."""
    return lambda config, a: in_a_net(make(**config), a)


def layer_of_two(make):
    """The row of a layer of two values, which are parts of the features that a network is given."""

    def row(config, a):
        values, samples = (a["x"], a["other"]), len(a["x"])
        x = np.concatenate([value.reshape(samples, -1) for value in values], axis=1)
        net = network_of(make(), *(value.shape[1:] for value in values))
        found = in_a_net(net, {"x": x, "dy": a["dy"]})
        dx, dother = np.split(found.pop("dx"), [values[0].size // samples], axis=1)
        return found | {"dx": dx.reshape(values[0].shape), "dother": dother.reshape(values[1].shape)}

    return row


def layer_with_parameters(make, channels):
    """The row of a layer with a weight and a bias: as it is, made of its own configuration, and without a bias."""

    def row(config, a):
        w, b = a["w"], a["b"]
        layer = make(a, config)
        found = in_a_net(layer, a, weight=w, bias=b)
        found |= in_a_net(type(layer)(**layer.config()), a, "in shards of one", shard=1, weight=w, bias=b)
        without = in_a_net(make(a, {**config, "bias": False}), a, "without bias", weight=w)
        return found | {key: value + channels(b) if key.startswith("y") else value for key, value in without.items()}

    return row


def batch_norm_of(x, config):
    """Batch norm for a batch of this shape."""
    return (ic.BatchNorm2d if x.ndim == 4 else ic.BatchNorm1d)(x.shape[1], **config)


def instance_norm_of(x, config):
    """Instance norm for a batch of this shape, with running statistics."""
    return ic.InstanceNorm2d(x.shape[1], affine=True, track_running_stats=True, **config)


def layer_channel_norm_training(norm_of, config, a):
    """Three batches one after another; whatever the shards, the statistics are those of the whole batch."""
    found = {}
    for shard in (None, 1, 2):
        state = {"1.weight": a["weight"], "1.bias": a["bias"]}
        probe = Probe([norm_of(a["x"][0], config)], a["x"][0], a["dy"][0], state, shard)
        results, states = [], [probe.net.state_dict()]
        for x, dy in zip(a["x"], a["dy"], strict=True):
            probe.loss = Projection(dy.reshape(len(dy), -1))
            results.append(probe.step(x))
            states.append(probe.net.state_dict())
        of = {
            "y": [one.y for one in results],
            "dx": [one.dx for one in results],
            "dw": [one.gradients["1.weight"] for one in results],
            "db": [one.gradients["1.bias"] for one in results],
            "running_mean": [one["1.running_mean"] for one in states],
            "running_var": [one["1.running_var"] for one in states],
        }
        found |= {f"{name} in shards of {shard}": value for name, value in of.items()}
    return found


def layer_channel_norm_eval(norm_of, config, a):
    net = ic.Sequential([norm_of(a["x"], config)]).init(0, a["x"].dtype.name)
    net.load_state_dict({f"0.{name}": a[name] for name in ("weight", "bias", "running_mean", "running_var")})
    y, state = net.predict(a["x"]), net.state_dict()
    return {"y": y, "running_mean": state["0.running_mean"], "running_var": state["0.running_var"]}


def layer_within_sample(kind):
    """The row of a layer that normalises within a sample: as it is, made of its own configuration, and in shards."""

    def row(config, a):
        layer, state = kind(**config), {name: a[name] for name in ("weight", "bias") if name in a}
        found = in_a_net(layer, a, **state)
        return found | in_a_net(type(layer)(**layer.config()), a, "in shards of one", shard=1, **state)

    return row


def loss_cross_entropy(config, a):
    times, found = len(a["labels"]) if config["reduction"] == "sum" else 1, {}
    for shard in (32, 2):
        loss, dlogits = trained_loss(ic.CrossEntropyLoss(), a["logits"], a["labels"], shard)
        found |= {f"loss in shards of {shard}": loss * times, f"dlogits in shards of {shard}": dlogits * times}
    return found


def loss_mse(config, a):
    times, found = a["output"].size if config["reduction"] == "sum" else 1, {}
    for shard in (32, 2):
        loss, doutput = trained_loss(ic.MSELoss(), a["output"], a["targets"], shard)
        found |= {f"loss in shards of {shard}": loss * times, f"doutput in shards of {shard}": doutput * times}
    return found


def any_loss(config, a):
    config, found = dict(config), {}
    kind = getattr(ic, config.pop("name"))
    for shard in (32, 2):
        loss, doutput = trained_loss(kind(**config), a["output"], a["targets"], shard)
        found |= {f"loss in shards of {shard}": loss, f"doutput in shards of {shard}": doutput}
    return found


def update_optimizer(config, a):
    settings = {key: value for key, value in config.items() if key != "name"}
    return {"parameters": updates(getattr(ic, config["name"])(**settings), a["initial"], a["gradients"])}


LAYERS = {
    "conv2d": layer_with_parameters(
        lambda a, config: ic.Conv2d(a["x"].shape[1], len(a["w"]), a["w"].shape[2:], **config),
        channels=lambda b: b[:, None, None],
    ),
    "conv_transpose2d": layer_with_parameters(
        lambda a, config: ic.ConvTranspose2d(a["x"].shape[1], len(a["b"]), a["w"].shape[2:], **config),
        channels=lambda b: b[:, None, None],
    ),
    "padding_mode": lambda config, a: layer_with_parameters(
        layer_of_padding_mode, channels=lambda b: b.reshape(-1, *[1] * (a["x"].ndim - 2))
    )(config, a),
    "conv1d": layer_with_parameters(
        lambda a, config: ic.Conv1d(a["x"].shape[1], len(a["w"]), a["w"].shape[2], **config),
        channels=lambda b: b[:, None],
    ),
    "conv_transpose1d": layer_with_parameters(
        lambda a, config: ic.ConvTranspose1d(a["x"].shape[1], len(a["b"]), a["w"].shape[2], **config),
        channels=lambda b: b[:, None],
    ),
    "max_pool2d": layer_of(ic.MaxPool2d),
    "avg_pool2d": layer_of(ic.AvgPool2d),
    "lp_pool2d": layer_of(ic.LPPool2d),
    "adaptive_avg_pool2d": layer_of(ic.AdaptiveAvgPool2d),
    "adaptive_max_pool2d": layer_of(ic.AdaptiveMaxPool2d),
    "max_pool1d": layer_of(ic.MaxPool1d),
    "avg_pool1d": layer_of(ic.AvgPool1d),
    "adaptive_avg_pool1d": layer_of(ic.AdaptiveAvgPool1d),
    "adaptive_max_pool1d": layer_of(ic.AdaptiveMaxPool1d),
    "upsample": layer_of(ic.Upsample),
    "pixel_shuffle": layer_of(ic.PixelShuffle),
    "channel_shuffle": layer_of(ic.ChannelShuffle),
    "unflatten": layer_of(ic.Unflatten),
    "reshape": layer_of(ic.Reshape),
    "permute": layer_of(ic.Permute),
    "transpose": layer_of(ic.Transpose),
    "slice": layer_of(ic.Slice),
    "mean": layer_of(ic.Mean),
    "sum": layer_of(ic.Sum),
    "amax": layer_of(ic.Amax),
    "amin": layer_of(ic.Amin),
    "pixel_unshuffle": layer_of(ic.PixelUnshuffle),
    "exp": layer_of(ic.Exp),
    "abs": layer_of(ic.Abs),
    "square": layer_of(ic.Square),
    "erf": layer_of(ic.Erf),
    "sin": layer_of(ic.Sin),
    "cos": layer_of(ic.Cos),
    "sub": layer_of_two(ic.Sub),
    "div": layer_of_two(ic.Div),
    "power": layer_of_two(ic.Pow),
    "maximum": layer_of_two(ic.Maximum),
    "minimum": layer_of_two(ic.Minimum),
    "matmul": layer_of_two(ic.MatMul),
    "zero_pad2d": layer_of(ic.ZeroPad2d),
    "reflection_pad2d": layer_of(ic.ReflectionPad2d),
    "circular_pad2d": layer_of(ic.CircularPad2d),
    "constant_pad2d": layer_of(ic.ConstantPad2d),
    "replication_pad2d": layer_of(ic.ReplicationPad2d),
    "relu": layer_of(ic.ReLU),
    "leaky_relu": layer_of(ic.LeakyReLU),
    "sigmoid": layer_of(ic.Sigmoid),
    "tanh": layer_of(ic.Tanh),
    "silu": layer_of(ic.SiLU),
    "elu": layer_of(ic.ELU),
    "selu": layer_of(ic.SELU),
    "celu": layer_of(ic.CELU),
    "mish": layer_of(ic.Mish),
    "softplus": layer_of(ic.Softplus),
    "softsign": layer_of(ic.Softsign),
    "log_sigmoid": layer_of(ic.LogSigmoid),
    "hardtanh": layer_of(ic.Hardtanh),
    "relu6": layer_of(ic.ReLU6),
    "hardsigmoid": layer_of(ic.Hardsigmoid),
    "hardswish": layer_of(ic.Hardswish),
    "threshold": layer_of(ic.Threshold),
    "gelu": layer_of(ic.GELU),
    "gelu_tanh": layer_of(partial(ic.GELU, "tanh")),
    "softmax_along": layer_of(ic.Softmax),
    "log_softmax_along": layer_of(ic.LogSoftmax),
    "glu": layer_of(ic.GLU),
    "prelu": lambda config, a: (
        in_a_net(ic.PReLU(**config), a, weight=a["w"])
        | in_a_net(ic.PReLU(**config), a, "in shards of one", shard=1, weight=a["w"])
    ),
    "linear": layer_with_parameters(lambda a, config: ic.Linear(*a["w"].shape[::-1], **config), channels=lambda b: b),
    "batch_norm_training": partial(layer_channel_norm_training, batch_norm_of),
    "batch_norm_eval": partial(layer_channel_norm_eval, batch_norm_of),
    "instance_norm_training": partial(layer_channel_norm_training, instance_norm_of),
    "instance_norm_eval": partial(layer_channel_norm_eval, instance_norm_of),
    "batch_norm_of_batch": layer_batch_norm_of_batch,
    "group_norm": layer_within_sample(ic.GroupNorm),
    "instance_norm2d": layer_within_sample(ic.InstanceNorm2d),
    "layer_norm": layer_within_sample(ic.LayerNorm),
    "rms_norm": layer_within_sample(ic.RMSNorm),
    "local_response_norm": layer_within_sample(ic.LocalResponseNorm),
    "cross_entropy": loss_cross_entropy,
    "mse_loss": loss_mse,
    "loss": any_loss,
    "optimizer": update_optimizer,
}


# The test ------------------------------------------------------------------------------------------------------------
WAYS = [
    ("oracles", ORACLES, "float64"),
    ("functions", FUNCTIONS, "float64"),
    ("functions", FUNCTIONS, "float32"),
    ("layers", LAYERS, "float64"),
    ("layers", LAYERS, "float32"),
]


def refused(table, config):
    """Functions have no momentum of None, as PyTorch's."""
    return table is FUNCTIONS and config.get("momentum", 0) is None


ROWS = [
    pytest.param(row, dtype, config, arrays, id=f"{way}-{dtype}-{group}-{case}")
    for way, table, dtype in WAYS
    for group, row in table.items()
    for case, (config, arrays) in cases(group).items()
    if not refused(table, config)
]


def test_every_group_has_its_oracle():
    """But functions that no layer has, whole networks (test_reference.py), initial values (tests/models), schedules."""
    assert sorted(ORACLES) == sorted(set(groups()) - {"functional", "net", "initialisation", "schedule", "training"})


@pytest.mark.parametrize(("row", "dtype", "config", "arrays"), ROWS)
def test_pytorch_gives_the_same(row, dtype, config, arrays):
    given = {  # read-only, so that whoever changes an input fails
        name: strided(value.astype(dtype), "contiguous") if value.dtype.kind == "f" else value
        for name, value in arrays.items()
    }
    found = row(config, given)
    assert found
    for name, value in found.items():
        value, expected = np.asarray(value), arrays[name if name in arrays else name.partition(" ")[0]]
        assert value.shape == expected.shape, name
        if expected.dtype.kind == "i":
            assert (value == expected).all(), name
            continue
        assert value.dtype == dtype, name
        assert_allclose(value, expected, **TOLERANCE[dtype], err_msg=name)


@pytest.mark.parametrize("group", ["max_pool2d", "avg_pool2d"])
def test_functions_refuse_more_padding_than_half_a_window(group):
    config, arrays = cases(group)["padded on each side"]
    with pytest.raises(ic.ShapeError, match="more than half"):
        getattr(F, group)(arrays["x"], **config)
