"""The oracles themselves: the naive loops against PyTorch's values, the notebook against finite differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from im2colnet.testing import oracles
from reference import notebook
from reference.torch_values import every_case


def assert_close(actual, expected, rtol=1e-10, atol=1e-12):
    assert actual.dtype == np.float64
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=rtol, atol=atol)


# Naive loops against PyTorch ----------------------------------------------------------------------------------------
def test_conv2d_same_needs_stride_1():
    with pytest.raises(ValueError, match="stride 1"):
        oracles.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), stride=2, padding="same")


@pytest.mark.parametrize("padding", ["valid", "same", ((0, 2), (1, 0))])
def test_unfold_and_fold_are_adjoint_for_every_padding(padding):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, 6))
    cols = oracles.unfold(x, (3, 2), padding=padding)
    other = rng.standard_normal(cols.shape)
    assert_allclose(np.vdot(cols, other), np.vdot(x, oracles.fold(other, (5, 6), (3, 2), padding=padding)), rtol=1e-12)


def net_layers(state, x, training):
    """Forward through the small net of make_torch_values.py; new running statistics go into ``state``."""

    def conv(name, x):
        return oracles.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def norm(name, x):
        names = [f"{name}.{part}" for part in ("running_mean", "running_var", "weight", "bias")]
        y, state[names[0]], state[names[1]] = oracles.batch_norm(x, *(state[part] for part in names), training)
        return y

    stem = norm("1", conv("0", x))
    pooled = oracles.max_pool2d(oracles.relu(stem), 2)
    inner = norm("4.body.1", conv("4.body.0", pooled))
    added = norm("4.body.4", conv("4.body.3", oracles.relu(inner))) + pooled
    flat = oracles.relu(added).reshape(len(x), -1)
    logits = oracles.linear(flat, state["7.weight"], state["7.bias"])
    return {"stem": stem, "pooled": pooled, "inner": inner, "added": added, "flat": flat, "logits": logits}


def net_gradients(state, x, labels, values):
    """Gradients of the mean cross-entropy with respect to every parameter, by name."""
    gradients = {}

    def conv(name, x, dy):
        weight = state[f"{name}.weight"]
        gradients[f"{name}.weight"] = oracles.conv2d_weight(x, weight.shape, dy, padding=1)
        gradients[f"{name}.bias"] = oracles.conv2d_bias(dy)
        return oracles.conv2d_input(x.shape, weight, dy, padding=1)

    def norm(name, conv_name, x, dy):
        """The convolution's output was not kept: it is computed again."""
        before = oracles.conv2d(x, state[f"{conv_name}.weight"], state[f"{conv_name}.bias"], padding=1)
        dx, dw, db = oracles.batch_norm_grad(before, dy, None, None, state[f"{name}.weight"], training=True)
        gradients[f"{name}.weight"], gradients[f"{name}.bias"] = dw, db
        return conv(conv_name, x, dx)

    dlogits = oracles.cross_entropy_grad(values["logits"], labels)
    dflat, gradients["7.weight"], gradients["7.bias"] = oracles.linear_grad(values["flat"], state["7.weight"], dlogits)
    dadded = oracles.relu_grad(values["added"], dflat.reshape(values["added"].shape))
    dinner = oracles.relu_grad(values["inner"], norm("4.body.4", "4.body.3", oracles.relu(values["inner"]), dadded))
    dpooled = dadded + norm("4.body.1", "4.body.0", values["pooled"], dinner)
    dstem = oracles.relu_grad(values["stem"], oracles.max_pool2d_grad(oracles.relu(values["stem"]), dpooled, 2))
    norm("1", "0", x, dstem)
    return gradients


@every_case("net")
def test_net(config, arrays):
    images, labels = arrays["images"], arrays["labels"]
    state = {name.removeprefix("initial/"): value for name, value in arrays.items() if name.startswith("initial/")}
    velocity = {}
    for step, expected_loss in enumerate(arrays["losses"]):
        values = net_layers(state, images, training=True)
        gradients = net_gradients(state, images, labels, values)
        assert_allclose(oracles.cross_entropy(values["logits"], labels), expected_loss, rtol=1e-9)
        if step == 0:
            assert_close(values["logits"], arrays["logits"])
            for name, gradient in gradients.items():
                assert_close(gradient, arrays[f"gradient/{name}"])
        for name, gradient in gradients.items():
            kept = velocity.get(name, ())
            state[name], velocity[name] = oracles.sgd_step(state[name], gradient, kept, step + 1, **config)
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            assert_close(value, arrays[f"final/{name}"], rtol=1e-8, atol=1e-10)
    logits = net_layers(state, images, training=False)["logits"]
    assert_close(logits, arrays["eval_logits"], rtol=1e-8, atol=1e-10)


@every_case("initialisation")
def test_initialisation(config, arrays):
    """PyTorch's default is uniform within 1 / sqrt(fan_in), for weight and bias."""
    bound = config["fan_in"] ** -0.5
    assert_allclose(config["bound"], bound)
    for name in ("weight", "bias"):
        assert 0.999 * bound < config[name]["absolute_maximum"] <= bound * (1 + 1e-6)
        assert_allclose(config[name]["std"], bound / np.sqrt(3), rtol=0.01)


# The notebook -------------------------------------------------------------------------------------------------------
def notebook_problem(seed, images=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((images, 8, 8)), rng.integers(0, 2, images), notebook.random_parameters(rng)


def central_difference(function, array, step=1e-6):
    """Gradient of ``function()`` with respect to ``array``, which is changed in place and put back."""
    gradient = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = function()
        array[place] = value - step
        below = function()
        array[place] = value
        gradient[place] = (above - below) / (2 * step)
    return gradient


@pytest.mark.parametrize("label", [0, 1])
def test_notebook_gradients_against_central_differences(label):
    (image,), _, parameters = notebook_problem(label)
    gradients = notebook.backward(notebook.forward(image, label, parameters), parameters)

    def loss():
        return notebook.forward(image, label, parameters)["loss"]

    for name, theta in parameters.items():
        assert np.any(gradients[notebook.GRADIENTS[name]] != 0)
        assert_close(gradients[notebook.GRADIENTS[name]], central_difference(loss, theta), rtol=1e-6, atol=1e-8)
    assert_close(gradients["dimage"], central_difference(loss, image), rtol=1e-6, atol=1e-8)


def test_notebook_intermediates_against_naive_loops():
    (image,), (label,), parameters = notebook_problem(2)
    values = notebook.forward(image, label, parameters)
    gradients = notebook.backward(values, parameters, ties="first")
    x, w = image[None, None], parameters["filters"][:, None]

    conv = oracles.conv2d(x, w, parameters["bias"])
    relu = oracles.relu(conv)
    pooled = oracles.max_pool2d(relu, 2)
    flat = pooled.reshape(1, -1)
    logits = oracles.linear(flat, parameters["W"].T, parameters["b"])
    dlogits = oracles.cross_entropy_grad(logits, [label])
    dflat, dW, db = oracles.linear_grad(flat, parameters["W"].T, dlogits)
    dpooled = dflat.reshape(pooled.shape)
    drelu = oracles.max_pool2d_grad(relu, dpooled, 2)
    dconv = oracles.relu_grad(conv, drelu)

    for name, expected in {"conv": conv, "relu": relu, "pooled": pooled, "flat": flat, "logits": logits}.items():
        assert_close(values[name], expected[0])
    assert_close(values["probabilities"], oracles.softmax(logits)[0])
    assert_close(values["loss"], oracles.cross_entropy(logits, [label]))
    expected = {"dlogits": dlogits, "dflat": dflat, "dpooled": dpooled, "drelu": drelu, "dconv": dconv}
    for name, value in expected.items():
        assert_close(gradients[name], value[0])
    assert_close(gradients["dW"], dW.T)
    assert_close(gradients["db"], db)
    assert_close(gradients["dfilters"], oracles.conv2d_weight(x, w.shape, dconv)[:, 0])
    assert_close(gradients["dbias"], oracles.conv2d_bias(dconv))
    assert_close(gradients["dimage"], oracles.conv2d_input(x.shape, w, dconv)[0, 0])


def test_notebook_gives_the_gradient_to_all_equal_maxima():
    (image,), _, parameters = notebook_problem(3)
    image[:] = 1.0  # every window holds four equal numbers
    parameters["bias"][:] = 10.0
    values = notebook.forward(image, 0, parameters)
    everywhere = notebook.backward(values, parameters)
    first = notebook.backward(values, parameters, ties="first")
    assert_array_equal(everywhere["drelu"], np.kron(everywhere["dpooled"], np.ones((2, 2))))
    assert_array_equal(first["drelu"], np.kron(first["dpooled"], [[1.0, 0.0], [0.0, 0.0]]))
    assert_close(everywhere["dbias"], 4 * first["dbias"])


def test_notebook_ties_at_zero_do_not_reach_the_convolution():
    """A window without positive numbers is all zeros after ReLU, whose mask then stops the gradient of each."""
    (image,), _, parameters = notebook_problem(4)
    parameters["bias"][:] = -1.0
    values = notebook.forward(image, 0, parameters)
    everywhere = notebook.backward(values, parameters)
    first = notebook.backward(values, parameters, ties="first")
    assert np.any(everywhere["drelu"] != first["drelu"])
    assert_array_equal(everywhere["dconv"], first["dconv"])


def test_notebook_update_lowers_the_loss():
    (image,), (label,), parameters = notebook_problem(5)
    values = notebook.forward(image, label, parameters)
    gradients = notebook.backward(values, parameters)
    updated = notebook.update(parameters, gradients)
    assert_array_equal(updated["W"], parameters["W"] - 0.01 * gradients["dW"])
    assert_array_equal(updated["filters"], parameters["filters"] - 0.01 * gradients["dfilters"])
    assert notebook.forward(image, label, updated)["loss"] < values["loss"]


def test_notebook_batch_is_the_mean_of_its_images():
    images, labels, parameters = notebook_problem(6, images=5)
    loss, gradients = notebook.batch(images, labels, parameters)
    values = [notebook.forward(image, label, parameters) for image, label in zip(images, labels, strict=True)]
    backward = [notebook.backward(value, parameters) for value in values]
    assert_allclose(loss, np.mean([value["loss"] for value in values]), rtol=1e-12)
    assert sorted(gradients) == sorted(notebook.GRADIENTS.values())
    for name, gradient in gradients.items():
        assert_close(gradient, np.mean([each[name] for each in backward], axis=0))
    updated = notebook.update(parameters, gradients)
    assert {name: theta.shape for name, theta in updated.items()} == notebook.SHAPES


def test_notebook_batch_gradient_against_central_differences():
    images, labels, parameters = notebook_problem(7, images=2)
    _, gradients = notebook.batch(images, labels, parameters)
    numeric = central_difference(lambda: notebook.batch(images, labels, parameters)[0], parameters["bias"])
    assert_close(gradients["dbias"], numeric, rtol=1e-6, atol=1e-8)
