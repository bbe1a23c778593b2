"""The check of a layer of one's own: the library's layers pass it, and each planted fault is found."""

import itertools

import numpy as np
import pytest
from helpers import assert_same_bits

import im2colnet as ic
from im2colnet.layers import Add, Needs
from im2colnet.testing.check_layer import check_layer

IMAGES = (4, 6, 5)
RANDOM, COUNTER, SOMETIMES = np.random.default_rng(0), itertools.count(1), itertools.cycle([True, False, False])
NETWORKS = [
    (ic.Residual(ic.Sequential([ic.Conv2d(4, 4, 1), ic.BatchNorm2d(4)])), IMAGES),
    (ic.models.notebook(), (1, 8, 8)),
]


@pytest.mark.parametrize(("layer", "shape"), NETWORKS, ids=["Residual", "notebook"])
def test_each_layer_of_a_network_is_checked(layer, shape):
    check_layer(layer, shape)


class Swish(ic.Layer):
    """As in the guide."""

    def forward(self, x, ctx):
        ctx.gate = 1 / (1 + ctx.xp.exp(-x))
        return x * ctx.gate

    def backward(self, dy, ctx):
        return dy * ctx.gate * (1 + ctx.x * (1 - ctx.gate))


class Scale(ic.Layer):
    """As in the guide."""

    def parameters(self):
        return {"weight": ic.Parameter((4,), value=1.0)}

    def forward(self, x, ctx):
        return x * ctx.params["weight"][:, None, None]

    def backward(self, dy, ctx):
        ctx.grads["weight"][...] = (dy * ctx.x).sum(axis=(0, 2, 3))
        return dy * ctx.params["weight"][:, None, None]


class Crop(ic.Layer):
    """As in the guide."""

    def output_shape(self, x):
        H, C, W, N = x
        return H - 2, C, W - 2, N

    def forward(self, x, ctx):
        return x[1:-1, :, 1:-1]

    def backward(self, dy, ctx):
        dx = ctx.xp.zeros_like(ctx.x)
        dx[1:-1, :, 1:-1] = dy
        return dx


class Centre(ic.Layer):
    """Less the batch's mean."""

    batch_sums = 1

    def shard_sums(self, x, ctx):
        ctx.sums[0] = x.sum(axis=(0, 2, 3))

    def _mean(self, x, ctx):
        return (ctx.sums[0] / (ctx.samples * x.shape[0] * x.shape[2]))[:, None, None]

    def forward(self, x, ctx):
        return x - self._mean(x, ctx) if ctx.training else x

    def shard_grad_sums(self, dy, ctx):
        ctx.sums[0] = dy.sum(axis=(0, 2, 3))

    def backward(self, dy, ctx):
        return dy - self._mean(dy, ctx)


class Counted(ic.Layer):
    """One that knows the sum of each channel over all batches."""

    step_sums = 1

    def state(self):
        return {"total": ic.Parameter((4,))}

    def forward(self, x, ctx):
        if ctx.training:
            ctx.step_sums[0] = x.sum(axis=(0, 2, 3))
        return x * 2

    def backward(self, dy, ctx):
        return dy * 2

    def finish_step(self, ctx):
        ctx.buffers["total"] += ctx.step_sums[0]


class Kept(ic.Layer):
    """One that has only a parameter that it does not use: it writes no gradient of it."""

    def parameters(self):
        return {"unused": ic.Parameter((3,))}

    def forward(self, x, ctx):
        return x * 2

    def backward(self, dy, ctx):
        return dy * 2


@pytest.mark.parametrize(
    "layer", [Swish(), Scale(), Crop(), Centre(), Counted(), Kept()], ids=lambda layer: type(layer).__name__
)
def test_layers_of_one_s_own_pass(layer):
    check_layer(layer, IMAGES)


# Planted faults -----------------------------------------------------------------------------------------------------
def planted(base, text, **methods):
    name = f"Faulty{base.__name__}{next(COUNTER)}"  # a checkpoint finds a class by its name
    return pytest.param(type(name, (base,), methods), text, id=text)


def writes_means(self, x, ctx):
    if ctx.training:
        ctx.step_sums[0] = x.mean(axis=(0, 2, 3))
    return x * 2


def in_place(self, x, ctx):
    x *= 2
    return x


def no_bias(self, dy, ctx):
    ctx.grads["weight"][...] = (dy * ctx.x).sum(axis=(0, 2, 3)) * 1.001
    return dy * ctx.params["weight"][:, None, None]


def adds(self, dy, ctx):
    ctx.grads["weight"][...] += (dy * ctx.x).sum(axis=(0, 2, 3))
    return dy * ctx.params["weight"][:, None, None]


def writes_half(self, dy, ctx):
    ctx.grads["weight"][:2] = (dy * ctx.x).sum(axis=(0, 2, 3))[:2]
    return dy * ctx.params["weight"][:, None, None]


def clips_dy(self, dy, ctx):
    gradient = dy * ctx.gate * (1 + ctx.x * (1 - ctx.gate))
    dy[dy > 1] = 1
    return gradient


def scales_parameters(self, x, ctx):
    ctx.params["weight"] *= 0.5
    return x * ctx.params["weight"][:, None, None]


def half_of_y(self, x, ctx):
    ctx.y[: len(x) // 2] = x[: len(x) // 2]
    return ctx.y


def alone_when_evaluated(self, x, ctx):
    return x * 2 if ctx.training else x - x.mean(axis=(0, 2, 3), keepdims=True)


def alone(self, x, ctx):
    return x - x.mean(axis=(0, 2, 3), keepdims=True) if ctx.training else x


def changes_state(self, x, ctx):
    ctx.buffers["seen"] += 1
    return x * 1


def prepared_once(self, x, ctx):
    doubled = x * 2
    return [lambda: ctx.y.__setitem__(..., doubled)]


def unprepared(self, x, ctx):
    return [lambda: ctx.xp.multiply(x, 3, out=ctx.y)]


class Twice(ic.Layer):
    """Of prepared calls, over its input."""

    def needs(self, x, y, dtype, backend, training):
        return Needs(input=False, output=False, inplace=True)

    def prepare_forward(self, x, ctx):
        return [lambda: ctx.xp.multiply(x, 2, out=ctx.y)]

    def prepare_backward(self, dy, ctx):
        return [lambda: ctx.xp.multiply(dy, 2, out=ctx.dx)]


def says(**needs):
    return lambda self, x, y, dtype, backend, training: Needs(**needs)


FAULTS = [
    planted(Swish, "forward changes its input in place", forward=in_place),
    planted(Swish, "the gradient of the input is wrong.*differences of forward say", backward=lambda self, dy, ctx: dy),
    planted(Scale, "the gradient of the parameter 'weight' is wrong", backward=no_bias),
    planted(Scale, r"backward does not write the same ctx.grads\['weight'\].*adds to the array", backward=adds),
    planted(
        Scale, r"backward does not write the same ctx.grads\['weight'\].*a part of it unwritten", backward=writes_half
    ),
    planted(
        Kept,
        "the gradient of the parameter 'unused' is wrong",
        forward=lambda self, x, ctx: x * 2 + ctx.params["unused"].sum(),
    ),
    planted(Swish, "backward changes dy in place", backward=clips_dy),
    planted(Scale, "forward changes 'weight' in place", forward=scales_parameters),
    planted(
        Kept,
        "forward changes 'seen' in place; change state in finish_step",
        forward=changes_state,
        state=lambda self: {"seen": ic.Parameter((1,))},
    ),
    planted(
        Kept,
        "finish_step makes the state 'seen' infinite or NaN",
        state=lambda self: {"seen": ic.Parameter((1,))},
        finish_step=lambda self, ctx: ctx.buffers["seen"].fill(np.inf),
    ),
    planted(Swish, "forward gives NaN or infinity", forward=half_of_y),
    planted(Swish, "forward returns NoneType, expected an array", forward=lambda self, x, ctx: None),
    planted(Crop, r"forward returns \(6, 4, 5, 3\), expected", forward=lambda self, x, ctx: x),
    planted(Crop, r"output_shape gives .* for an input of 3 samples", output_shape=lambda self, x: x[:3]),
    planted(Crop, "output_shape gives", output_shape=lambda self, x: (*x[:3], 9)),
    planted(Crop, "backward returns", backward=lambda self, dy, ctx: dy),
    planted(Swish, "forward does not give the same result", forward=lambda self, x, ctx: x * RANDOM.random()),
    planted(Swish, "backward does not give the same gradient", backward=lambda self, dy, ctx: dy * RANDOM.random()),
    planted(Kept, "in evaluation mode: forward lets a sample depend", forward=alone_when_evaluated),
    planted(
        Swish,
        "in training mode: forward lets a sample depend",
        forward=alone,
        backward=lambda self, dy, ctx: dy - dy.mean(axis=(0, 2, 3), keepdims=True),
    ),
    planted(Centre, "depends on how the batch is divided into shards", forward=alone),
    planted(
        Centre,
        "gradients depend on how the batch is divided",
        backward=lambda self, dy, ctx: dy - dy.mean(axis=(0, 2, 3), keepdims=True),
    ),
    planted(Counted, "forward must write the sums over its shard.s samples to all", forward=lambda self, x, ctx: x * 2),
    planted(Counted, "the sums for finish_step depend on how the batch is divided", forward=writes_means),
    planted(
        Twice, "calls that prepare_forward returns give another result than forward", prepare_forward=prepared_once
    ),
    planted(
        Twice,
        "calls that prepare_forward returns give another result",
        prepare_forward=unprepared,
        forward=lambda self, x, ctx: ctx.xp.multiply(x, 2, out=ctx.y),
    ),
    planted(
        Twice,
        "calls that prepare_backward returns give another result than backward",
        prepare_backward=lambda self, dy, ctx: [lambda d=dy * 2: ctx.dx.__setitem__(..., d)],
    ),
    planted(
        Twice,
        "needs says inplace, but the output is different",
        forward=lambda self, x, ctx: (ctx.y.fill(0), ctx.xp.add(x * 1, x, out=ctx.y))[1],
    ),
    planted(
        Twice,
        "if dx shares its memory with dy",
        backward=lambda self, dy, ctx: (ctx.dx.fill(0), ctx.xp.add(dy, dy, out=ctx.dx))[1],
    ),
    planted(Swish, "backward gives NaN or infinity.*input=False", needs=says(input=False)),
    planted(Swish, "needs says gradient_passes|gradient of the input is wrong", needs=says(gradient_passes=True)),
    planted(Crop, "needs says view, but an output", needs=says(view=True)),
    planted(Crop, "needs says gradient_passes, but the output's shape", needs=says(gradient_passes=True)),
]


# What shows only in a run -------------------------------------------------------------------------------------------
class Plain(ic.Layer):
    """Twice its input, with what a planned layer has."""

    def needs(self, x, y, dtype, backend, training):
        return Needs(input=False, output=False, **self.more(x, dtype))

    def more(self, x, dtype):
        return {}

    def forward(self, x, ctx):
        return ctx.xp.multiply(x, 2, out=ctx.y)

    def backward(self, dy, ctx):
        return ctx.xp.multiply(dy, 2, out=ctx.dx)


def over_x(self, dy, ctx):
    ctx.x[...] = dy
    return ctx.xp.multiply(dy, 2, out=ctx.dx)


def over_y(self, dy, ctx):
    ctx.y[...] = dy
    return ctx.xp.multiply(dy, 2, out=ctx.dx)


def keeps_scratch(self, x, ctx):
    (ctx.kept,) = ctx.scratch["mine"]
    ctx.kept[...] = 2
    return ctx.xp.multiply(x, 2, out=ctx.y)


def in_the_layer(self, x, ctx):
    self.gate = 1 / (1 + ctx.xp.exp(-x))
    return x * self.gate


def of_the_layer(self, dy, ctx):
    return dy * self.gate[..., : dy.shape[-1]] * (1 + ctx.x * (1 - self.gate[..., : dy.shape[-1]]))


def by_threads(self, x, ctx):
    return x * (2 + 1e-12 * ic.get_num_threads())


def of_its_share(self, dy, ctx):
    ctx.grads["weight"][...] = (dy * ctx.x).sum(axis=(0, 2, 3)) * (ctx.x.shape[-1] / ctx.samples)
    return dy * ctx.params["weight"][:, None, None]


def learns_in_secret(self, ctx):
    self.factor = getattr(self, "factor", 1.0) / 2


def takes(*names, **kept):
    """Return a constructor with these arguments that keeps other attributes."""
    body = "".join(f"    self.{name} = {value}\n" for name, value in kept.items()) or "    pass\n"
    made = {}
    exec(f"def __init__(self, {', '.join(names)}):\n{body}", made)
    return made["__init__"]


def without_scratch(self, x, ctx):
    return ctx.backend.activation.prepare(x, "silu", out=ctx.y)


FAULTS += [
    planted(Plain, r"backward writes to ctx.x, whose memory other layers use", backward=over_x),
    planted(Plain, r"backward writes to ctx.y, whose memory other layers use", backward=over_y),
    planted(
        Plain,
        "scratch before it has written it, or scratch of forward",
        more=lambda self, x, dtype: {"forward": {"mine": [(x, dtype)]}},
        forward=keeps_scratch,
        backward=lambda self, dy, ctx: ctx.xp.multiply(dy, ctx.kept, out=ctx.dx),
    ),
    planted(
        Plain,
        "needs asks for 'mask' to be saved.*remove it from needs",
        more=lambda self, x, dtype: {"saved": {"mask": (x, dtype)}},
    ),
    planted(
        Twice,
        r"prepare_forward allocates Spec\(.*\), which grows with the batch size and is not part of the memory plan",
        needs=says(output=False),
        prepare_forward=without_scratch,
        prepare_backward=lambda self, dy, ctx: [lambda: ctx.dx.__setitem__(..., silu_slope(ctx.x) * dy)],
    ),
    planted(
        Swish,
        "backward depends on which shard forward was called for last",
        forward=in_the_layer,
        backward=of_the_layer,
    ),
    planted(
        Plain,
        r"needs\(training=.*\) of .* is Needs\(.* in a second call. The memory plan uses it once",
        more=lambda self, x, dtype: {"inplace": next(SOMETIMES)},
    ),
    planted(
        Scale,
        "weight: a parameter and a state of .* have the same name.*give the state another",
        state=lambda self: {"weight": ic.Parameter((4,))},
    ),
    planted(
        Counted,
        "has stateless = True, but a step changes factor: .* Keep it in ctx",
        stateless=True,
        finish_step=learns_in_secret,
    ),
    planted(
        Kept,
        "differs in a second training with the same seed: .* kept from step to step must be in state",
        finish_step=learns_in_secret,
        forward=lambda self, x, ctx: x * getattr(self, "factor", 1.0),
        backward=lambda self, dy, ctx: dy * getattr(self, "factor", 1.0),
    ),
    planted(
        Kept,
        "differs between 2 workers and 1 worker, .* forward must keep values for backward in ctx",
        forward=by_threads,
    ),
    planted(
        Scale, "depends on how the batch is divided into shards: it is off by .* must be a sum", backward=of_its_share
    ),
    planted(
        Plain, "cannot be stored in a checkpoint: .* must keep its arguments as attributes: p", __init__=takes("p=2")
    ),
    planted(Plain, "cannot be stored in a checkpoint: .*, which is code", __init__=takes("p=len", p="p")),
    planted(
        Plain,
        "a checkpoint would load it as .* with the arguments p=8, not p=4: the constructor must store",
        __init__=takes("p=2", p="2 * p"),
    ),
    planted(
        Kept,
        "is different after a checkpoint was loaded: values that the layer learns",
        __new__=lambda cls: numbered(cls),
        forward=lambda self, x, ctx: x * self.number,
        backward=lambda self, dy, ctx: dy * self.number,
    ),
    planted(
        Plain,
        "behind a convolution and before ReLU its prediction is off by .* epilogue, absorb",
        epilogue=lambda self, training: "relu",
    ),
    planted(Plain, "behind a convolution and before ReLU its prediction is off by", fuses=True),
    planted(
        Plain,
        "the prediction of one image is off by .* if two workers share its rows: band must return",
        band=lambda self, rows, x: (self, slice(0, rows.stop - rows.start)),
    ),
]


def numbered(cls):
    """Return a layer that is told from all others by a number that its arguments do not have."""
    made = object.__new__(cls)
    made.number = next(COUNTER)
    return made


def silu_slope(x):
    s = 1 / (1 + np.exp(-x))
    return s * (1 + x * (1 - s))


@pytest.mark.parametrize(("faulty", "text"), FAULTS)
def test_each_fault_is_found(faulty, text):
    with pytest.raises(ic.LayerError, match=f"(?s){text}") as error:
        check_layer(faulty(), IMAGES)
    assert isinstance(error.value, AssertionError)
    assert type(faulty()).__name__ in str(error.value)


def test_what_is_no_layer_or_shape_is_refused():
    for layer, shape, batch in [
        (ic.ReLU, (3,), 3),
        (ic.ReLU(), (), 3),
        (ic.ReLU(), (3,), 1),
        (ic.Conv2d(3, 4, 3), IMAGES, 3),
    ]:
        with pytest.raises(ic.ShapeError):
            check_layer(layer, shape, batch)


def test_what_the_layer_s_own_code_raises_names_the_layer():
    class Fails(Swish):
        def backward(self, dy, ctx):
            raise KeyError("nothing of that name")

    with pytest.raises(KeyError) as error:
        check_layer(Fails(), IMAGES)
    assert error.value.__notes__ == ["in Fails(), input [(4, 6, 5)], in training mode"]


def test_a_class_that_was_defined_again_is_told():
    older, _ = (type("Again", (Swish,), {}) for _ in range(2))
    with pytest.raises(ic.LayerError, match="a layer of another class with the same name, which was defined later"):
        check_layer(older(), IMAGES)


def test_workers_are_as_they_were_afterwards():
    before = ic.get_workers(), ic.get_num_threads()
    check_layer(Swish(), IMAGES)
    with pytest.raises(ic.LayerError):
        check_layer(type("Broken", (Swish,), {"__init__": takes("p=2")})(), IMAGES)
    assert (ic.get_workers(), ic.get_num_threads()) == before


def test_a_layer_of_several_inputs_and_one_that_draws_numbers_pass():
    check_layer(ic.layers.Concat(), [(2, 3, 3), (1, 3, 3)])
    check_layer(ic.Dropout(0.5), (6,))


def test_a_network_of_several_outputs_passes():
    check_layer(ic.Net({"a": ic.Linear(4, 3), "b": (ic.Linear(4, 2), "input")}, outputs=["a", "b"]), (4,))


def test_a_layer_that_takes_positive_numbers_gets_no_others():
    def root(self, x, ctx):
        assert x.min() > 0
        return ctx.xp.sqrt(x)

    kind = type("Root", (ic.Layer,), {"forward": root, "backward": lambda self, dy, ctx: dy / (2 * ctx.y)})
    check_layer(kind(), (3, 4, 4), domain=np.exp)


def test_without_a_network_the_rest_is_checked():
    broken = type("Unkept", (Plain,), {"__init__": takes("p=2")})
    check_layer(broken(), IMAGES, in_network=False)
    with pytest.raises(ic.LayerError, match="cannot be stored"):
        check_layer(broken(), IMAGES)


def test_it_is_reached_from_the_package():
    assert ic.testing.check_layer is check_layer


# What a plan refuses ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("says_it", ["view", "gradient_passes"])
def test_a_layer_that_says_so_and_changes_the_shape_is_refused(says_it, training):
    faulty = type("Faulty", (Crop,), {"needs": says(**{says_it: True})})
    net = ic.Sequential([ic.Conv2d(1, 2, 1), faulty(), ic.Flatten(), ic.Linear(2 * 4 * 4, 2)]).init(0)
    x, trainer = np.zeros((2, 1, 6, 6)), ic.Trainer(net)
    call = (lambda: trainer.step(x, np.zeros(2, int))) if training else (lambda: net.predict(x))
    with pytest.raises(ic.ShapeError, match=rf"layer '1', Faulty\(\): needs says {says_it}, but"):
        call()
    with pytest.raises(ic.ShapeError, match=says_it):
        net.plan(2, (1, 6, 6), training=training)


def test_a_layer_that_changes_the_number_of_samples_is_refused():
    faulty = type("Faulty", (Crop,), {"output_shape": lambda self, x: (*x[:3], 2 * x[3])})
    net = ic.Sequential([faulty()]).init(0)
    with pytest.raises(ic.ShapeError, match="has 6 samples for 3"):
        net.plan(3, (1, 6, 6))


class Inner(ic.Network):
    """Gives what its first layer makes, or something else, and adds a second."""

    def __init__(self, gives):
        self.gives, self.first, self.second = gives, ic.Linear(3, 3), ic.Linear(3, 3)

    def children(self):
        return {"first": self.first, "second": self.second}

    def build(self, graph, name, x):
        a = graph.add(self.first, "first", x)
        b = graph.add(self.second, "second", a)
        return {"inner": a, "last": b, "input": x, "nothing": None, "beyond": 7, "text": "b"}[self.gives]


def test_what_build_returns_is_the_output_or_an_error():
    x = np.ones((2, 3), "f4")
    assert Inner("last").init(0).predict(x).shape == (2, 3)
    with pytest.raises(ic.ShapeError, match=r"nothing reads the output of layer 'second', Linear\(3, 3\)"):
        Inner("inner").init(0)
    for gives in ("input", "nothing", "beyond", "text"):
        with pytest.raises(ic.ShapeError, match=r"Inner.build must return the value of one of its layers"):
            Inner(gives).init(0)
        with pytest.raises(ic.ShapeError):
            ic.Sequential([Inner(gives), ic.Linear(3, 2)]).init(0).predict(x)
    assert_same_bits(ic.Sequential([Inner("last")]).init(0).predict(x), Inner("last").init(0).predict(x))
    assert isinstance(Add(), ic.Layer)
