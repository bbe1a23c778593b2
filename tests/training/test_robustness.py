"""Faults that a review found: each was wrong once."""

import os
import threading

import numpy as np
import pytest
from helpers import assert_same_bits, normal, predicts_in_a_fork
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.backend import Division
from im2colnet.network import Network
from im2colnet.parallel import Team


def batch(n=20, seed=0, shape=(1, 8, 8)):
    return normal(n, *shape, seed=seed, dtype="float32"), np.arange(n) % 2


class Frozen(ic.Layer):
    """A parameter that ``backward`` says nothing about."""

    stateless = True

    def parameters(self):
        return {"weight": ic.Parameter((1,), value=1.0)}

    def forward(self, x, ctx):
        return x * ctx.params["weight"]

    def backward(self, dy, ctx):
        return dy * ctx.params["weight"]


def test_a_gradient_that_is_not_written_is_zero_in_every_step():
    net = ic.Sequential([Frozen(), ic.Flatten(), ic.Linear(64, 2)]).init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1, weight_decay=0.1), shard=4)
    for step in range(1, 5):
        trainer.step(*batch())
        assert_allclose(net.state_dict()["0.weight"], [0.99**step], rtol=1e-12)


class Interrupted(Team):
    """Ctrl-C while the workers are being sent off."""

    armed = True

    def run(self, program):
        if self.armed and self._pool is not None:
            self.armed, submit, left = False, self._pool.submit, iter([True])

            def once(*args):
                future = submit(*args)
                if next(left, False):
                    raise KeyboardInterrupt
                return future

            self._pool.submit = once
        super().run(program)


def test_an_interrupt_while_workers_are_sent_off_leaves_a_team_that_works():
    team, met = Interrupted(3), []
    with pytest.raises(KeyboardInterrupt):
        team.run(lambda comm: comm.barrier())

    def program(comm):
        comm.barrier()
        met.append(comm.rank)

    runner = threading.Thread(target=team.run, args=(program,), daemon=True)
    runner.start()
    runner.join(20)
    assert sorted(met) == [0, 1, 2]


@pytest.mark.parametrize("attempt", range(5))
def test_the_error_is_that_of_the_first_worker_whoever_failed_first(attempt):
    def program(comm):
        raise ValueError(comm.rank)

    with pytest.raises(ValueError, match=r"^0$"):
        Team(3).run(program)


class Convolve(ic.Layer):
    """Uses the functional operators, so the backend in use."""

    stateless = True

    def __init__(self, seen):
        self.seen = seen

    def forward(self, x, ctx):
        self.seen.append(ic.get_backend())
        return x

    def backward(self, dy, ctx):
        return dy


def test_use_backend_reaches_the_workers():
    class Mine(ic.Backend):
        name, xp, threads = "mine", np, True
        division = Division(shard_max_numbers=1, shard_min_numbers=1)

    seen, mine = [], Mine()
    before = ic.get_num_threads()
    try:
        ic.set_num_threads(3)
        with ic.use_backend(mine):
            net = ic.Sequential([Convolve(seen), ic.Flatten(), ic.Linear(64, 2)]).init(0)
            net.predict(batch(100)[0])
    finally:
        ic.set_num_threads(before)
    assert len(seen) == 4
    assert set(seen) == {mine}


def test_a_generic_backend_is_not_given_threads():
    class Mine(ic.Backend):
        name, xp = "mine", np

    net = ic.models.notebook().init(0, backend=Mine())
    trainer = ic.Trainer(net)
    trainer.step(*batch(100))
    assert trainer.workers == "1 worker"


def test_evaluate_and_save_refuse_a_network_that_was_initialised_again(tmp_path):
    net = ic.models.notebook().init(0)
    trainer, data = ic.Trainer(net), batch()
    before = trainer.evaluate(data)
    net.init(1)
    assert trainer.evaluate(data) != before
    with pytest.raises(ic.ShapeError, match="make a new Trainer"):
        trainer.save(tmp_path / "a")


class Product(ic.Layer):
    def output_shape(self, x, other=None):
        return x

    def forward(self, x, ctx):
        return ctx.xs[0] * ctx.xs[1]

    def backward(self, dy, ctx):
        return dy


class Both(Network):
    """A combinator of a user's own."""

    def __init__(self, join):
        self.join = join

    def children(self):
        return {"join": self.join}

    def build(self, graph, name, x):
        a, b = ic.ReLU().build(graph, "a", x), ic.Dropout(0.1).build(graph, "b", x)
        return graph.add(self.join, "join", a, b) if self.join else a


def test_graphs_that_cannot_be_trained_are_refused():
    net = ic.Sequential([ic.Conv2d(1, 1, 1), Both(Product()), ic.Flatten(), ic.Linear(64, 2)]).init(0)
    net.predict(batch()[0])
    with pytest.raises(ic.ShapeError, match=r"'join', Product\(\): backward returned 1 gradients for 2 inputs"):
        ic.Trainer(net).step(*batch())
    with pytest.raises(ic.ShapeError, match="nothing reads the output of layer 'b'"):
        ic.Sequential([Both(None), ic.Flatten(), ic.Linear(64, 2)]).init(0).predict(batch()[0])


class Centre(ic.Layer):
    """Subtracts the mean over the batch from features: a layer that joins samples."""

    batch_sums = 1

    def shard_sums(self, x, ctx):
        ctx.sums[0] = x.sum(1)

    def forward(self, x, ctx):
        return x - (ctx.sums[0] / ctx.samples)[:, None] if ctx.training else x

    def shard_grad_sums(self, dy, ctx):
        ctx.sums[0] = dy.sum(1)

    def backward(self, dy, ctx):
        return dy - (ctx.sums[0] / ctx.samples)[:, None]


def test_a_layer_that_joins_samples_by_the_old_names_works_and_is_told_the_new_ones():
    class Number:
        couples = 1

    with pytest.warns(DeprecationWarning, match="is now called") as told:

        class Old(Number, ic.Layer):
            partial_sums, partial_grad_sums = Centre.shard_sums, Centre.shard_grad_sums
            forward, backward = Centre.forward, Centre.backward

    class Derived(Old):
        pass

    assert [str(one.message) for one in told] == [
        "Old.couples is now called batch_sums",
        "Old.partial_sums is now called shard_sums",
        "Old.partial_grad_sums is now called shard_grad_sums",
    ]
    x, losses = normal(20, 5), []
    for layer in Centre(), Old(), Derived():
        net = ic.Sequential([ic.Linear(5, 4), layer, ic.Linear(4, 3)]).init(0)
        losses.append([ic.Trainer(net, shard=3).step(x, np.arange(20) % 3) for _ in range(2)])
    assert losses[1:] == losses[:1] * 2


@pytest.mark.parametrize("shard", [3, 20])
def test_layers_on_features_may_join_samples(shard):
    x, labels = normal(20, 5), np.arange(20) % 3
    plain = ic.Sequential([ic.Linear(5, 4), ic.Linear(4, 3)]).init(0, "float64")
    net = ic.Sequential([ic.Linear(5, 4), Centre(), ic.Linear(4, 3)]).init(0, "float64")
    w, v = (net.state_dict()[k] for k in ("0.weight", "2.weight"))
    hidden = x @ w.T + net.state_dict()["0.bias"]
    logits = (hidden - hidden.mean(0)) @ v.T + net.state_dict()["2.bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    expected = -np.log((p / p.sum(1, keepdims=True))[np.arange(20), labels]).mean()
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1), shard=shard)
    assert trainer.step(x, labels) == pytest.approx(expected, rel=1e-12)
    assert_allclose(net.state_dict()["0.bias"], plain.state_dict()["0.bias"])  # a centred bias has no gradient


class Halved(ic.CrossEntropyLoss):
    """Half the loss."""

    def __call__(self, logits, labels, scale, metrics, dlogits, backend):
        super().__call__(logits, labels, scale / 2, metrics, dlogits, backend)


def test_a_checkpoint_keeps_the_loss(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(), loss=Halved())
    trainer.save(tmp_path / "a")
    assert type(ic.Trainer.load(tmp_path / "a").loss) is Halved
    with pytest.raises(ic.ShapeError, match="loss must be"):
        ic.Trainer(ic.models.notebook(), loss="cross entropy")


class Gain(ic.Layer):
    def __init__(self, gain):
        self.gain = gain

    def forward(self, x, ctx):
        return x

    def backward(self, dy, ctx):
        return dy


@pytest.mark.parametrize("gain", [np.array(0.5), np.array([1.0, 2.0])])
def test_array_arguments_are_not_stored_as_something_else(gain, tmp_path):
    trainer = ic.Trainer(ic.Sequential([Gain(gain), ic.Flatten(), ic.Linear(64, 2)]))
    with pytest.raises(ic.CheckpointError, match="cannot store"):
        trainer.save(tmp_path / "a")
    repr(trainer.net)


def test_a_layer_with_the_name_of_a_built_in_is_not_mistaken_for_it(tmp_path):
    trainer = ic.Trainer(ic.models.notebook())
    trainer.save(tmp_path / "a")
    mine = type("Conv2d", (ic.Conv2d,), {"__module__": __name__})
    assert type(ic.Trainer.load(tmp_path / "a").net.layers[0]) is ic.Conv2d
    other = ic.Trainer(ic.Sequential([mine(1, 2, 3), ic.Flatten(), ic.Linear(72, 2)]))
    other.save(tmp_path / "b")
    assert type(ic.Trainer.load(tmp_path / "b").net.layers[0]) is mine


def test_a_checkpoint_of_another_type_is_refused(tmp_path):
    ic.Trainer(ic.models.notebook()).save(tmp_path / "a")
    with pytest.raises(ic.CheckpointError, match=r"float32.*float64"):
        ic.Trainer.load(tmp_path / "a", net=ic.models.notebook().init(0, "float64"))


def test_the_input_s_shape_stays_that_of_the_model():
    net = ic.models.resnet20(in_channels=1, input_size=8).init(0)
    net.predict(np.zeros((1, 1, 20, 20), np.float32))
    assert net.input_shape == (1, 8, 8)


def test_a_state_that_cannot_be_loaded_changes_nothing():
    net = ic.models.notebook().init(0)
    before, state = net.state_dict(), ic.models.notebook().init(1).state_dict()
    state["4.bias"] = np.array(["a", "b"])
    with pytest.raises(ic.CheckpointError, match=r"4\.bias holds <U1, expected real numbers"):
        net.load_state_dict(state)
    assert_same_bits(net.state_dict(), before)


def test_fit_takes_pairs_and_refuses_before_it_starts_what_it_cannot_use():
    images, labels = batch(40)
    trainer = ic.Trainer(ic.models.notebook())
    trainer.fit((images, labels), 1, validation=(images, labels))
    for wrong, text in (
        ({"train": images}, "train must be a data set or a pair"),
        ({"train": (images, labels + 1)}, "labels must be 0 to 1"),
        ({"train": (images, labels), "validation": (images[:, :, :2, :2], labels)}, "layer '0'"),
        ({"train": (images, labels), "validation": "digits"}, "validation must be"),
    ):
        with pytest.raises(ic.Im2colnetError, match=text):
            trainer.fit(**wrong, epochs=5)
    assert trainer.epoch == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ic.Residual("x"), "body must be a layer"),
        (lambda: ic.Residual(ic.ReLU(), "x"), "shortcut must be a layer"),
        (lambda: ic.Cosine(0.1, warmup=2.7), "warmup must be"),
        (lambda: ic.Cosine(0.1, steps=2.7), "steps must be"),
        (lambda: ic.models.notebook().plan(8, threads=-1), "threads must be"),
        (lambda: ic.models.notebook().plan(8, shard=0), "shard must be"),
        (lambda: ic.get_backend(3), "named by a string"),
        (lambda: ic.models.mobilenet(width="x"), "width must be"),
        (lambda: ic.ZeroPadShortcut(2, 4.5), "out_channels must be"),
        (lambda: ic.Sequential(ic.ReLU()), "as a list"),
        (lambda: ic.models.notebook().init(0).predict([[1, 2], [3]]), "lists of equal lengths"),
    ],
)
def test_wrong_arguments_are_named(make, text):
    with pytest.raises(ic.Im2colnetError, match=text):
        make()


@pytest.mark.usefixtures("shards_of_32")
def test_scratch_and_threads_do_not_pile_up():
    trainer, before, started = ic.Trainer(ic.models.notebook()), ic.get_num_threads(), threading.active_count()
    try:
        for n in (2, 3, 4, 2, 3):
            ic.set_num_threads(n)
            trainer.step(*batch(200))
        assert threading.active_count() - started <= 4  # of the last two teams
    finally:
        ic.set_num_threads(before)


class Smooth(ic.CrossEntropyLoss):
    def __init__(self, eps=0.1):
        self.eps = eps


class Decaying(ic.Optimizer):
    def __init__(self, lr, rho=0.9):
        super().__init__(lr)
        object.__setattr__(self, "rho", rho)

    def update(self, p, g, state, lr, t, work, xp):
        p -= lr * self.rho**t * g


class Steps(ic.Constant):
    def __call__(self, step, total):
        return self.lr / (1 + step // 10)


def test_checkpoints_keep_the_arguments_of_losses_optimisers_and_schedules_of_ones_own(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(), Smooth(0.3), Decaying(Steps(0.1), rho=0.5))
    trainer.step(*batch())
    trainer.save(tmp_path / "a")
    loaded = ic.Trainer.load(tmp_path / "a")
    assert loaded.loss.eps == 0.3
    assert loaded.optimizer.rho == 0.5
    assert loaded.optimizer.lr == Steps(0.1)
    adam = type("Adam", (Decaying,), {"__module__": __name__})
    ic.Trainer(ic.models.notebook(), optimizer=adam(0.1)).save(tmp_path / "b")
    assert type(ic.Trainer.load(tmp_path / "b").optimizer) is adam


class Rebinding(Frozen):
    def backward(self, dy, ctx):
        ctx.grads["weight"] = np.ones(1)
        return dy


def test_a_gradient_that_would_be_lost_is_refused():
    with pytest.raises(TypeError, match="item assignment"):
        ic.Trainer(ic.Sequential([Rebinding(), ic.Flatten(), ic.Linear(64, 2)])).step(*batch())


def test_numpy_integers_are_integers_in_checkpoints(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(), seed=np.int64(3), shard=np.int64(8))
    trainer.fit(batch(), np.int64(1), np.int32(5), directory=tmp_path)
    assert ic.Trainer.load(tmp_path / "checkpoint.safetensors").epoch == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_process_forked_during_a_prediction_can_predict():
    net, images = ic.models.notebook().init(0), batch()[0]
    expected = net.predict(images)
    with net.inference().alone():  # as another thread would hold it
        assert predicts_in_a_fork(net, images, expected)
