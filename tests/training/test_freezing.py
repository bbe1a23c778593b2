"""Parameters that are frozen: what is not computed, what stays as it is, and what is the same as without."""

import copy
import pickle

import numpy as np
import pytest
from helpers import Stop, assert_close, assert_same_bits, everything, normal, workers
from small_networks import plain, with_batch_norm, with_both

import im2colnet as ic
from im2colnet.reports import memory, profile

pytestmark = pytest.mark.usefixtures("one_thread")

#: one layer of each kind that leaves out gradients, and the shape of a sample
LAYERS = {
    "conv2d": (lambda: ic.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    "reflected": (lambda: ic.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 6, 6)),
    "strided": (lambda: ic.Conv2d(3, 4, 3, 2), (3, 7, 7)),
    "depthwise": (lambda: ic.Conv2d(4, 4, 3, groups=4), (4, 6, 6)),
    "conv1d": (lambda: ic.Conv1d(3, 4, 3), (3, 9)),
    "transposed": (lambda: ic.ConvTranspose2d(3, 4, 3, 2), (3, 4, 4)),
    "transposed, dilated": (lambda: ic.ConvTranspose2d(3, 4, 3, 1, output_padding=1, dilation=2), (3, 4, 4)),
    "transposed1d": (lambda: ic.ConvTranspose1d(3, 4, 3, 2), (3, 5)),
    "linear": (lambda: ic.Linear(5, 4), (5,)),
    "linear, of each row": (lambda: ic.Linear(5, 4), (3, 2, 5)),
    "prelu": (lambda: ic.PReLU(3), (3, 6, 6)),
    "batch norm": (lambda: ic.BatchNorm2d(3), (3, 6, 6)),
    "batch norm of features": (lambda: ic.BatchNorm1d(5), (5,)),
    "group norm": (lambda: ic.GroupNorm(2, 4), (4, 6, 6)),
    "instance norm": (lambda: ic.InstanceNorm2d(3, affine=True), (3, 6, 6)),
    "layer norm": (lambda: ic.LayerNorm((3, 6, 6)), (3, 6, 6)),
    "rms norm": (lambda: ic.RMSNorm(5), (5,)),
}


def batch(n=12, seed=0, dtype="float32"):
    return normal(n, 3, 8, 8, seed=seed, dtype=dtype), np.arange(n) % 4


def steps(plan):
    return [(step.kind, step.node) for stage in plan.stages for step in stage.steps]


def test_every_layer_that_leaves_out_gradients_is_here():
    made = {type(make()) for make, _ in LAYERS.values()}
    public = [getattr(ic, name) for name in ic.__all__ if isinstance(getattr(ic, name), type)]
    layers = [kind for kind in public if issubclass(kind, ic.Layer) and not issubclass(kind, ic.Network)]
    assert {kind for kind in layers if kind.skips_frozen} == made
    assert {kind for kind in layers if kind.parameters is not ic.Layer.parameters} == made


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (kind, keys)
        for kind, (make, _) in LAYERS.items()
        for keys in (("weight",), ("bias",), ("weight", "bias"))
        if make().parameters().keys() & {*keys}
    ],
)
def test_a_frozen_layer_gives_the_same_gradients(kind, keys, every_backend):
    """The layer below it, and its parameters that learn, get the gradients that they get when nothing is frozen."""
    make, shape = LAYERS[kind]
    frozen = [f"1.{key}" for key in keys if key in make().parameters()]
    below = {1: lambda n: ic.BatchNorm1d(n), 2: ic.BatchNorm1d, 3: ic.BatchNorm2d}[len(shape)](shape[0])

    def step(freeze, threads=1):
        net = ic.Sequential([copy.deepcopy(below), make(), ic.Flatten()]).init(3, "float64", every_backend)
        x = normal(6, *shape)
        target = np.zeros_like(net.predict(x))
        trainer = ic.Trainer(net, ic.MSELoss(), ic.SGD(1.0), shard=2)
        before = net.state_dict()
        if freeze:
            net.freeze(*freeze)
        with ic.num_threads(threads):
            loss = trainer.step(x, target)
        return loss, before, net.state_dict()

    loss, before, expected = step(())
    for threads in (1, 2):
        found_loss, _, found = step(frozen, threads)
        assert found_loss == pytest.approx(loss, rel=1e-12)
        for name, value in found.items():
            if name in frozen:
                assert_same_bits(value, before[name])
                assert not np.array_equal(value, expected[name])
            else:
                assert_close(value, expected[name], atol=1e-12)


def test_a_frozen_layer_calls_no_kernel_of_its_gradients(monkeypatch):
    from im2colnet_numpy import NumpyBackend

    class Refusing(NumpyBackend):
        name = "refusing"

        def conv2d_weight_grad(self, *args, **options):
            raise AssertionError("the gradient of a frozen weight")

        def conv2d_grads(self, *args, **options):
            raise AssertionError("the gradient of a frozen weight")

        def sum_samples(self, *args, **options):
            raise AssertionError("the gradient of a frozen bias")

    layers = [ic.BatchNorm2d(3), ic.Conv2d(3, 4, 3), ic.ReLU(), ic.ConvTranspose2d(4, 4, 3), ic.GlobalAvgPool2d()]
    net = ic.Sequential([*layers, ic.Flatten()]).init(0, backend=Refusing())
    net.freeze("1.*", "3.*")
    ic.Trainer(net, shard=4).step(*batch())


def test_the_plan_shrinks():
    net = with_batch_norm()
    whole = net.plan(8, (3, 8, 8))
    net.freeze("[0-4].*")
    head = net.plan(8, (3, 8, 8))
    net.freeze("[0-4].*", statistics=True)
    settled = net.plan(8, (3, 8, 8))
    last = len(net.graph.nodes) - 1
    assert [step for step in steps(head) if step[0] in ("backward", "grad_sums")] == [("backward", last)]
    assert ("backward", 0) in steps(whole)
    assert len(whole.stages) == 7
    assert len(head.stages) == 4
    assert len(settled.stages) == 1
    activations = [plan.memory()["activations"] for plan in (whole, head, settled)]
    assert activations[0] > activations[1] >= activations[2]
    last_flops = 2 * 8 * 6 * 4 + 8 * 4
    report = memory.plan(net, (3, 8, 8), 8, ic.SGD(0.1))
    assert report["flops_step"] == report["flops_forward"] + last_flops
    net.unfreeze()
    assert steps(net.plan(8, (3, 8, 8))) == steps(whole)
    report = memory.plan(net, (3, 8, 8), 8, ic.SGD(0.1))
    assert 2.5 * report["flops_forward"] < report["flops_step"] < 3 * report["flops_forward"]


def test_the_profile_of_a_frozen_network():
    net = plain().init(0)
    net.freeze("0.*", "3.weight")
    layers = profile.profile(net, (3, 8, 8), 4, ic.SGD(0.1), steps=1)["layers"]
    share = [layer["backward"]["flops"] / layer["forward"]["flops"] for layer in layers if layer["forward"]["flops"]]
    assert share == [0, 0, 0, 1, 1, 2]


def test_backward_ends_at_the_lowest_layer_that_learns():
    net = plain()
    net.freeze("0.*")
    found = steps(net.plan(8, (3, 8, 8)))
    assert ("backward", 3) in found
    assert ("backward", 2) not in found
    net.unfreeze("0.bias")
    assert ("backward", 0) in steps(net.plan(8, (3, 8, 8)))


@pytest.mark.parametrize("optimizer", [ic.SGD(0.1, 0.9, weight_decay=0.5), ic.AdamW(0.1), ic.Adagrad(0.1)])
def test_nothing_of_a_frozen_parameter_changes(optimizer):
    """Neither by weight decay nor by momentum, and its optimiser's state is as it was."""
    net = plain().init(0)
    trainer = ic.Trainer(net, optimizer=optimizer)
    for _ in range(2):
        trainer.step(*batch())
    net.freeze("3.*")
    before = everything(trainer)
    trainer.step(*batch())
    after = everything(trainer)
    node = next(node for node in net.graph.nodes if node.name == "3")
    of_layer = slice(node.offsets["weight"], node.offsets["bias"] + 4)
    for name in before:
        if name.startswith("slot"):
            assert_same_bits(after[name][of_layer], before[name][of_layer])
            assert not np.array_equal(after[name], before[name])
        elif name.startswith("3."):
            assert_same_bits(after[name], before[name])
        else:
            assert not np.array_equal(after[name], before[name])


def test_batch_norms_learn_statistics_unless_these_are_frozen():
    net = with_batch_norm().init(0)
    trainer = ic.Trainer(net)
    trainer.step(*batch())
    net.freeze("1.*")
    assert net.frozen == ("1.weight", "1.bias")
    before = net.state_dict()
    trainer.step(*batch(seed=1))
    assert not np.array_equal(net.state_dict()["1.running_mean"], before["1.running_mean"])
    net.freeze("1.running_var", statistics=True)
    assert net.frozen == ("1.weight", "1.bias", "1.running_mean", "1.running_var")
    before = net.state_dict()
    trainer.step(*batch(seed=1))
    for name in net.frozen:
        assert_same_bits(net.state_dict()[name], before[name])
    assert not np.array_equal(net.state_dict()["3.body.1.running_mean"], before["3.body.1.running_mean"])
    net.unfreeze("1.*")
    assert net.frozen == ()


def test_with_frozen_statistics_training_computes_what_prediction_does(every_backend):
    net = with_batch_norm().init(0, "float64", every_backend)
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1), shard=3)
    trainer.step(*batch(dtype="float64"))
    net.freeze(statistics=True)
    net.unfreeze("7.*")
    x, labels = batch(dtype="float64")
    expected = trainer.evaluate((x, labels))["loss"]
    assert trainer.step(x, labels) == pytest.approx(expected, rel=1e-12)
    assert trainer.step(x[:1], labels[:1])  # of one sample, which has no statistics of its own


def test_an_instance_norm_with_frozen_statistics_is_a_batch_norm_with_frozen_statistics(every_backend):
    def trained(kind, frozen):
        norm = kind(3, affine=True, track_running_stats=True)
        net = ic.Sequential([ic.Conv2d(3, 3, 1), norm, ic.Flatten(), ic.Linear(192, 4)]).init(
            0, "float64", every_backend
        )
        statistics = {"1.running_mean": np.array([0.5, 0, -1]), "1.running_var": np.array([2, 0.5, 1])}
        net.load_state_dict(net.state_dict() | statistics)
        net.freeze("1.running*", *frozen, statistics=True)
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.1, 0.9), shard=5)
        for seed in range(3):
            trainer.step(*batch(seed=seed, dtype="float64"))
        return net.state_dict()

    for frozen in ([], ["1.*"], ["0.*", "1.bias"]):
        assert_same_bits(trained(ic.InstanceNorm2d, frozen), trained(ic.BatchNorm2d, frozen))


def test_a_last_batch_of_one_image_is_large_enough_for_frozen_statistics():
    net = ic.Sequential([ic.Flatten(), ic.BatchNorm1d(192), ic.Linear(192, 4)]).init(0)
    with pytest.raises(ic.ShapeError, match="too small"):
        ic.Trainer(net).fit(batch(5), epochs=1, batch_size=4)
    net.freeze("1.*", statistics=True)
    ic.Trainer(net).fit(batch(5), epochs=1, batch_size=4)


def test_the_eps_of_a_frozen_norm_may_change():
    """Its copy, which runs, is made anew."""
    losses = []
    for freeze in (False, True):
        net = with_batch_norm().init(0)
        trainer = ic.Trainer(net, optimizer=ic.SGD(0.0))
        if freeze:
            net.freeze("1.*", "3.body.1.weight")
        trainer.step(*batch())
        net.layers[1].eps = 2.0
        losses.append(trainer.step(*batch()))
    assert losses[0] == losses[1]


def test_gradual_unfreezing_goes_on_with_the_same_bits(tmp_path):
    """For any workers, and from a checkpoint at any place: the parameters that learn change after every fourth step."""
    groups = ["[0-2].*"], ["[0-2].*", "3.body.0.*"], ["1.weight"], []

    def outcome(number, kind="threads", stop=None):
        trainer = ic.Trainer(with_batch_norm().init(1), None, ic.Adam(0.02), 3, shard=3, accumulate=3)
        with workers(number, kind):
            for step in range(16):
                if step % 4 == 0:
                    trainer.net.unfreeze()
                    if groups[step // 4]:
                        trainer.net.freeze(*groups[step // 4], statistics=step == 4)
                if step == stop:
                    trainer.save(tmp_path / "x.safetensors")
                    trainer = ic.Trainer.load(tmp_path / "x.safetensors")
                trainer.step(*batch(seed=step))
        return everything(trainer)

    one = outcome(1)
    for number, kind in ((2, "threads"), (3, "threads"), (2, "auto")):
        assert_same_bits(outcome(number, kind), one)
    for stop in range(0, 16, 3):
        assert_same_bits(outcome(1, stop=stop), one)


def test_a_layer_that_freezes_in_the_middle_of_a_group_begins_with_nothing():
    """What was added up for it in an earlier group is not in the next update."""
    trainers = [ic.Trainer(plain().init(0, "float64"), None, ic.SGD(1.0), accumulate=2) for _ in range(2)]
    for trainer in trainers:
        trainer.step(*batch(seed=0, dtype="float64"))
        trainer.step(*batch(seed=1, dtype="float64"))
    first, second = trainers
    first.net.freeze("0.*")
    first.step(*batch(seed=2, dtype="float64"))
    first.net.unfreeze()
    first.step(*batch(seed=3, dtype="float64"))
    before = second.net.state_dict()
    second.accumulate = 1
    second.step(*batch(seed=3, dtype="float64"))
    half = (before["0.weight"] + second.net.state_dict()["0.weight"]) / 2
    assert_close(first.net.state_dict()["0.weight"], half)


def test_everything_frozen_is_an_error():
    net = plain().init(0)
    net.freeze()
    with pytest.raises(ic.ShapeError, match=r"all parameters of the network are frozen.*net.unfreeze"):
        ic.Trainer(net).step(*batch())
    net.unfreeze("6.bias")
    ic.Trainer(net).step(*batch())


def test_layers_of_a_users_own_write_gradients_that_are_not_used():
    class Scale(ic.Layer):
        seen = 0

        def parameters(self):
            return {"factor": ic.layers.Parameter((3,), value=1.0)}

        def forward(self, x, ctx):
            return x * ctx.params["factor"][:, None, None]

        def backward(self, dy, ctx):
            self.seen += 1
            ctx.grads["factor"][...] = (dy * ctx.x).sum((0, 2, 3))
            return dy * ctx.params["factor"][:, None, None]

    scale = Scale()
    net = ic.Sequential([ic.Conv2d(3, 3, 1), scale, ic.Flatten(), ic.Linear(192, 4)]).init(0)
    trainer, norms = ic.Trainer(net, optimizer=ic.SGD(0.0), clip_norm=1e9), []
    for patterns in ([], ["1.*"], ["0.*", "1.*"]):
        if patterns:
            net.freeze(*patterns)
        scale.seen = 0
        trainer.step(*batch())
        assert (scale.seen > 0) == (len(patterns) < 2)  # nothing below it learns in the end
        norms.append(trainer.gradient_norm)
    assert norms[0] > norms[1] > norms[2]
    trainer.optimizer = ic.SGD(0.1, weight_decay=0.5)
    trainer.step(*batch())
    assert_same_bits(net.state_dict()["1.factor"], np.ones(3, "float32"))


def test_a_subclass_that_computes_its_own_gradients_is_not_copied():
    class Own(ic.Linear):
        stateless = True

        def backward(self, dy, ctx):
            ctx.grads["weight"][...] = dy @ ctx.x.T
            ctx.grads["bias"][...] = dy.sum(1)
            return ctx.params["weight"].T @ dy

        def prepare_backward(self, dy, ctx):
            raise NotImplementedError

    net = ic.Sequential([ic.Flatten(), ic.Linear(192, 4), Own(4, 4)]).init(0)
    net.freeze("2.*")
    before = net.state_dict()
    ic.Trainer(net).step(*batch())
    assert_same_bits(net.state_dict()["2.weight"], before["2.weight"])
    assert not np.array_equal(net.state_dict()["1.weight"], before["1.weight"])


def test_statistics_of_a_norm_of_ones_own():
    """A subclass is frozen too if it says that it keeps no state; else it would go on with the batch's statistics."""

    class Silent(ic.BatchNorm2d):
        pass

    class Own(ic.BatchNorm2d):
        stateless = True

    for norm, works in ((Own(4), True), (Silent(4), False)):
        net = ic.Sequential([ic.Conv2d(3, 4, 3), norm, ic.GlobalAvgPool2d(), ic.Flatten()]).init(0)
        net.freeze("1.*")
        trainer = ic.Trainer(net)
        trainer.step(*batch())
        net.freeze("1.*", statistics=True)
        before = net.state_dict()
        if works:
            trainer.step(*batch())
            assert_same_bits(net.state_dict()["1.running_mean"], before["1.running_mean"])
        else:
            with pytest.raises(ic.ShapeError, match=r"layer '1', Silent.*stateless = True"):
                trainer.step(*batch())


def test_the_summary_counts_what_is_frozen():
    net = with_batch_norm()
    assert "frozen" not in net.summary((3, 8, 8))
    net.freeze("0.*", "1.*", statistics=True)
    assert f"180 of {net.graph.size:,} parameters frozen" in net.summary((3, 8, 8))


# ---------------------------------------------------------------------- names, copies, checkpoints


def test_patterns():
    net = with_both()
    net.freeze("*.bias", "0.weight")
    assert net.frozen == ("0.weight", "0.bias", "2.bias", "5.bias")
    net.unfreeze("0.*")
    assert net.frozen == ("2.bias", "5.bias")
    net.freeze()
    assert len(net.frozen) == 6
    net.freeze(statistics=True)
    assert len(net.frozen) == 8
    net.init(1)
    assert len(net.frozen) == 8
    net.unfreeze()
    assert net.frozen == ()


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["features.*"], r"the pattern 'features.\*' matches no name; there are: 0.weight, 0.bias"),
        (["0.wieght"], r"names like it are: 0.weight"),
        (["2.running_mean"], r"matches no name"),
        ([3], r'the pattern must be a pattern of names such as "features.\*", got 3'),
        ([["0.*"]], r"must be a pattern of names"),
    ],
)
def test_patterns_without_a_name_are_errors(patterns, message):
    net = with_both()
    net.freeze("0.*")
    with pytest.raises(ic.ShapeError, match=message):
        net.freeze("5.*", *patterns)
    assert net.frozen == ("0.weight", "0.bias")
    with pytest.raises(ic.FrozenError, match=r"net\.freeze"):
        net.frozen = ("0.bias",)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "checkpoint", "checkpoint into a network"])
def test_copies_are_frozen_too(way, tmp_path):
    net = with_batch_norm().init(0)
    net.freeze("1.*", statistics=True)
    if way == "deepcopy":
        other = copy.deepcopy(net)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(net))
    else:
        ic.Trainer(net).save(tmp_path / "x.safetensors")
        given = with_batch_norm() if way == "checkpoint into a network" else None
        other = ic.Trainer.load(tmp_path / "x.safetensors", given).net
    assert other.frozen == net.frozen
    assert steps(other.plan(4, (3, 8, 8))) == steps(net.plan(4, (3, 8, 8)))
    other.unfreeze()
    assert len(net.frozen) == 4


# ---------------------------------------------------------------------- callbacks


class Unfreezing(ic.Callback):
    """Lets one more layer learn after each epoch."""

    def start(self, trainer):
        self.trainer = trainer

    def epoch(self, record):
        self.trainer.net.unfreeze(["7.*", "3.body.3.*", "3.*", "*"][int(record["epoch"])])


def test_a_callback_unfreezes_layer_by_layer(tmp_path):
    """And goes on with the same bits from within an epoch, with averaged weights and gradients that are added up."""

    def trainer():
        net = with_batch_norm().init(0)
        net.freeze(statistics=True)
        net.unfreeze("7.*")
        return ic.Trainer(net, None, ic.Adam(0.01), 1, accumulate=2, clip_norm=0.5)

    def fit(trainer, *more):
        ema = ic.callbacks.EMA(0.9)
        data = batch(20)
        trainer.fit(data, 3, 8, data, callbacks=[Unfreezing(), ema, *more], progress=False)
        return trainer

    whole = fit(trainer())
    assert whole.net.frozen == ()
    assert (whole.steps, whole.updates) == (9, 6)
    stopped = fit(trainer(), Stop(5))
    assert (stopped.steps, stopped.updates) == (5, 3)
    stopped.save(tmp_path / "x.safetensors")
    assert_same_bits(everything(fit(ic.Trainer.load(tmp_path / "x.safetensors"))), everything(whole))


def test_measured_statistics_are_those_that_are_not_frozen():
    """By SWA, whose last step measures the statistics for the averaged weights."""
    net = with_batch_norm().init(0)
    net.freeze("1.*", statistics=True)
    before = net.state_dict()
    data = batch(20)
    ic.Trainer(net).fit(data, 2, 10, data, callbacks=[ic.callbacks.SWA(1)], progress=False)
    after = net.state_dict()
    assert_same_bits(after["1.running_mean"], before["1.running_mean"])
    assert not np.array_equal(after["3.body.1.running_mean"], before["3.body.1.running_mean"])


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_interrupted_with_everything_at_once(steps, tmp_path):
    """Augmentation, normalisation, accumulation, clipping, groups, frozen layers, averages, and two workers."""

    def trainer():
        net = with_both().init(0)
        net.freeze("0.*")
        settings = {"accumulate": 3, "clip_norm": 0.5, "groups": ic.optim.decay_weights_only(net)}
        return ic.Trainer(net, None, ic.AdamW(ic.Cosine(0.01)), 1, shard=4, **settings)

    augment = [ic.transforms.RandomCrop(8, padding=1), ic.transforms.RandomHorizontalFlip(), ic.transforms.MixUp(0.2)]

    def fit(trainer, *more):
        callbacks = [ic.callbacks.EMA(0.9), *more]
        data = batch(20)
        trainer.fit(data, 2, 5, data, callbacks=callbacks, augment=augment, normalize=True, progress=False)
        return trainer

    with ic.num_threads(2):
        stopped = fit(trainer(), Stop(steps))
        assert stopped.steps == steps
        stopped.save(tmp_path / "x.safetensors")
        found = fit(ic.Trainer.load(tmp_path / "x.safetensors"))
    assert (found.steps, found.updates) == (8, 4)
    assert_same_bits(everything(found), everything(fit(trainer())))
