"""The gradient on its way to the parameters: clipped, added up over batches, for groups of parameters, and frozen."""

import copy
import json
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, everything, normal, workers
from reference.torch_values import cases, every_case
from safetensors.numpy import save_file
from small_networks import plain, with_batch_norm, with_both

import im2colnet as ic
from im2colnet.optim import decay_weights_only
from im2colnet.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIMIZERS = [
    ic.SGD(0.1, momentum=0.9, weight_decay=0.1),
    ic.Adam(0.02, weight_decay=0.1, amsgrad=True),
    ic.AdamW(0.02),
    ic.RMSprop(0.01, momentum=0.5, centered=True, weight_decay=0.1),
    ic.Adagrad(0.05, weight_decay=0.1),
]


@dataclass(frozen=True)
class Whole(ic.Optimizer):
    """Makes steps of one length, so it must see the whole gradient of its parameters."""

    lr: float
    decay: float = 0.0

    def state_slots(self):
        return ("steps",)

    def update(self, p, g, state, lr, t, work, xp):
        p -= lr * g / np.sqrt((g * g).sum()) + self.decay * p
        state["steps"] += t


def batch(n=12, seed=0, dtype="float32"):
    return normal(n, 3, 8, 8, seed=seed, dtype=dtype), np.arange(n) % 4


def trained(trainer, steps, first=0):
    """Everything that training has changed after some steps, each on a batch of its own."""
    for step in range(first, first + steps):
        trainer.step(*batch(seed=step))
    return everything(trainer)


# ---------------------------------------------------------------------- beside PyTorch


@every_case("training")
def test_as_pytorch_trains(config, arrays, every_backend):
    layers = [ic.Conv2d(2, 4, 3, padding=1, bias=False), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2), ic.Flatten()]
    net = ic.Sequential([*layers, ic.Linear(16, 3)]).init(dtype="float64", backend=every_backend)
    initial = {name.removeprefix("initial/"): a for name, a in arrays.items() if name.startswith("initial/")}
    net.load_state_dict(initial)
    trainer = ic.Trainer(
        net,
        optimizer=getattr(ic, config["optimizer"])(**config["settings"]),
        shard=4,
        clip_norm=config["clip_norm"] or 1e30,
        clip_value=config["clip_value"],
        accumulate=config["accumulate"],
        groups=config["groups"],
    )
    norms = []
    for i, (images, labels) in enumerate(zip(arrays["images"].astype("float64"), arrays["labels"], strict=True)):
        for patterns in (config["frozen"] or {}).get(str(i), ()):
            net.unfreeze()
            if patterns != "none":
                net.freeze(patterns, statistics=config["statistics"])
        trainer.step(images, labels)
        norms += [trainer.gradient_norm] * (trainer.updates > len(norms))
    assert_close(norms, arrays["norms"], rtol=1e-9)
    final = {name.removeprefix("final/"): a for name, a in arrays.items() if name.startswith("final/")}
    for name, found in net.state_dict().items():
        assert_close(found, final[name], rtol=1e-9, atol=1e-10)


def test_pytorch_has_clipped():
    """So that the cases above can fail: without it the result is another."""
    for name in ("clipped by norm", "accumulated"):
        config, arrays = cases("training")[name]
        assert (arrays["norms"] > config["clip_norm"]).any()


# ---------------------------------------------------------------------- the same bits for any workers


@pytest.mark.parametrize("make", [plain, with_batch_norm])
def test_workers_do_not_change_a_bit(make):
    """Also where they are processes, and where more parameters than one chunk are frozen for some steps."""

    def outcome(number, kind):
        net = make().init(1)
        first, *_, last = [name.rpartition(".")[0] for name in net.parameters()]
        groups = decay_weights_only(net) | {f"{last}.*": {"lr": 0.1}}
        settings = {"clip_norm": 0.3, "clip_value": 0.1, "accumulate": 2, "groups": groups}
        trainer = ic.Trainer(net, None, ic.Adam(0.01, weight_decay=0.1), 5, shard=2, **settings)
        found = {}
        with workers(number, kind):
            for step in range(14):
                if step == 4:
                    net.freeze(f"{first}.*")
                if step == 9:
                    net.unfreeze()
                trainer.step(*batch(seed=step))
                found[f"norm {step}"] = np.float64(trainer.gradient_norm or 0)
        assert trainer.updates == 7
        assert (number == 1) == trainer.workers.startswith("1")
        return found | everything(trainer) | {"workers": np.array("processes" in trainer.workers)}

    one = outcome(1, "threads")
    assert_same_bits(outcome(2, "threads"), one)
    assert_same_bits(outcome(3, "threads"), one)
    processes = outcome(2, "auto")
    if processes.pop("workers"):
        one.pop("workers")
    assert_same_bits(processes, one)


def test_the_norm_is_of_all_chunks():
    """A network of several chunks, some of them frozen, against one sum."""
    net = ic.Sequential([ic.Flatten(), ic.Linear(192, 300), ic.ReLU(), ic.Linear(300, 4)]).init(0)
    assert net.flat.size > 3 * net.backend.update_chunk
    x, labels = batch()

    def gradient(frozen=()):
        net.unfreeze()
        if frozen:
            net.freeze(*frozen)
        trainer, before = ic.Trainer(net, optimizer=ic.SGD(1.0), clip_norm=1e9), net.state_dict()
        trainer.step(x, labels)
        change = np.concatenate([(before[name] - after).ravel() for name, after in net.state_dict().items()])
        net.load_state_dict(before)
        return change.astype("float64"), trainer.gradient_norm

    whole, norm = gradient()
    assert norm == pytest.approx(np.sqrt((whole**2).sum()), rel=1e-4)
    bias, norm = gradient(["1.weight", "3.*"])
    assert norm == pytest.approx(np.sqrt((bias**2).sum()), rel=1e-4)
    assert (bias != 0).sum() <= 300


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_a_norm_that_is_clipped_is_the_norm(norm):
    net = plain().init(0, "float64")
    before, trainer = net.state_dict(), ic.Trainer(net, optimizer=ic.SGD(1.0), clip_norm=norm)
    trainer.step(*batch(dtype="float64"))
    length = np.sqrt(sum(((before[name] - after) ** 2).sum() for name, after in net.state_dict().items()))
    assert length == pytest.approx(min(norm, trainer.gradient_norm), rel=1e-3)


def test_a_gradient_that_is_not_finite_changes_nothing():
    class Broken(ic.ReLU):
        stateless = True
        factor = 1.0

        def backward(self, dy, ctx):
            return dy * self.factor

        def prepare_backward(self, dy, ctx):
            raise NotImplementedError

    layer = Broken()
    net = ic.Sequential([ic.Conv2d(3, 4, 3), ic.BatchNorm2d(4), layer, ic.Flatten(), ic.Linear(144, 4)])
    trainer = ic.Trainer(net, shard=4, clip_norm=1.0, accumulate=2)
    for threads in (1, 2):
        with ic.num_threads(threads):
            trainer.step(*batch())
            before = everything(trainer)
            layer.factor = np.inf
            with pytest.raises(ic.NonFiniteError, match=r"gradient holds NaN or infinity.*parameters are unchanged"):
                trainer.step(*batch())
            assert_same_bits(everything(trainer), before)
            layer.factor = 1.0
            trainer.step(*batch())  # what was added up before is forgotten
            trainer.step(*batch())
            trainer.net.check_finite()


@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "accumulate"])
@pytest.mark.parametrize("value", [0, -1, "1", np.nan, True])
def test_wrong_numbers_are_named(name, value):
    with pytest.raises(ic.ShapeError, match=name):
        ic.Trainer(plain(), **{name: value})
    trainer = ic.Trainer(plain())
    with pytest.raises(ic.ShapeError, match=name):
        setattr(trainer, name, value)


# ---------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("sizes", [(8, 8, 8), (10, 3, 5), (1, 20)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_batches_that_are_added_up_are_one_batch(sizes, optimizer):
    x, labels = normal(sum(sizes), 3, 8, 8), np.arange(sum(sizes)) % 4
    apart, together = (ic.Trainer(plain().init(0, "float64"), optimizer=optimizer) for _ in range(2))
    apart.accumulate = len(sizes)
    for _ in range(3):
        together.step(x, labels)
        start = 0
        for n in sizes:
            apart.step(x[start : start + n], labels[start : start + n])
            start += n
    assert (apart.steps, apart.updates, together.updates) == (3 * len(sizes), 3, 3)
    for name, found in apart.net.state_dict().items():
        assert_close(found, together.net.state_dict()[name], rtol=1e-9, atol=1e-12)


def test_labels_that_do_not_count_have_no_weight():
    """The mean is over the pixels that count, as that of one large batch is."""
    x = normal(6, 1, 4, 4)
    labels = (x[:, 0] > 0).astype(int)
    labels[:4, 1:] = 255
    nets = [ic.Sequential([ic.Conv2d(1, 2, 3, padding=1)]).init(0, "float64") for _ in range(2)]
    apart, together = (ic.Trainer(n, ic.CrossEntropyLoss(ignore_index=255), ic.SGD(1.0)) for n in nets)
    apart.accumulate = 2
    together.step(x, labels)
    apart.step(x[:4], labels[:4])
    apart.step(x[4:], labels[4:])
    assert_close(apart.net.state_dict()["0.weight"], together.net.state_dict()["0.weight"])


def test_nothing_changes_within_a_group():
    trainer = ic.Trainer(plain(), accumulate=3)
    before = trainer.net.state_dict()
    for steps in range(1, 7):
        trainer.step(*batch(seed=steps))
        assert trainer.updates == steps // 3
        if steps < 3:
            assert_same_bits(trainer.net.state_dict(), before)


def test_the_last_update_of_an_epoch_has_fewer_batches():
    """Five batches by threes: those of the last update are two, the second of them smaller."""
    x, labels = batch(19)
    rates = ic.Cosine(0.1)
    trainer = ic.Trainer(plain().init(0), optimizer=ic.SGD(rates), accumulate=3)
    history = trainer.fit((x, labels), epochs=2, batch_size=4)
    assert trainer.steps == 10
    assert trainer.updates == 4
    assert history["lr"] == pytest.approx([rates(4, 10), rates(9, 10)])

    one = ic.Trainer(plain().init(0), optimizer=ic.SGD(rates), accumulate=3)
    shuffled = ic.Loader(ic.datasets.Dataset(x, labels), 4, seed=0)
    for epoch in range(2):
        batches = list(shuffled.epoch(epoch))
        for group in (batches[:3], batches[3:]):
            together = np.concatenate([x for x, _ in group]), np.concatenate([labels for _, labels in group])
            step = 5 * epoch + (2 if group is not batches[3:] and len(group) == 3 else 4)
            one.accumulate, one.optimizer = 1, ic.SGD(rates(step, 10))
            one.step(*together)
    for name, found in trainer.net.state_dict().items():
        assert_close(found, one.net.state_dict()[name], "float32", rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", range(1, 7))
def test_going_on_within_a_group(steps, tmp_path):
    """From a file, a copy, and with the gradient so far: the same bits as undisturbed."""

    def trainer():
        net = with_both().init(2)
        return ic.Trainer(net, None, ic.Adam(0.01), 3, accumulate=3, clip_norm=0.5, groups=decay_weights_only(net))

    whole = trained(trainer(), 8)
    first = trainer()
    trained(first, steps)
    first.save(tmp_path / "one.safetensors")
    copied = copy.deepcopy(first)
    again = ic.Trainer.load(tmp_path / "one.safetensors")
    again.save(tmp_path / "two.safetensors")
    (tensors, information), (same, known) = (checkpoint.read(tmp_path / f"{n}.safetensors") for n in ("one", "two"))
    assert information == known
    assert_same_bits(same, tensors)
    for other in (again, copied, first):
        assert (other.accumulate, other.clip_norm, other.groups) == (3, 0.5, decay_weights_only(other.net))
        assert_same_bits(trained(other, 8 - steps, steps), whole)


def test_an_epoch_that_begins_again_forgets_what_was_added_up():
    class Stop(Exception):
        pass

    class Stopping:
        def step(self, progress):
            if progress.batch == 2:
                raise Stop

        def epoch(self, record):
            pass

    data = batch(16)
    trainer = ic.Trainer(plain().init(0), accumulate=3)
    with pytest.raises(Stop):
        trainer.fit(data, epochs=1, batch_size=2, display=Stopping())
    with pytest.warns(ic.TrainingWarning, match="begins again"):
        trainer.fit(data, epochs=1, batch_size=8)
    fresh = ic.Trainer(plain().init(0), accumulate=3)
    fresh.fit(data, epochs=1, batch_size=8)
    assert_same_bits(trainer.net.state_dict(), fresh.net.state_dict())


def test_the_number_of_batches_may_change():
    trainer = ic.Trainer(plain(), accumulate=4)
    trained(trainer, 2)
    trainer.accumulate = 1
    trained(trainer, 1)
    assert trainer.updates == 1
    trained(trainer, 1)
    assert trainer.updates == 2


# ---------------------------------------------------------------------- groups


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_groups_are_optimizers_of_their_own(optimizer):
    """Against one trainer for each of the rules, whose other parameters do not learn."""
    rates = ic.Constant(0.03, 2)
    net = with_batch_norm().init(1, "float64")
    last = [*net.parameters()][-1].rpartition(".")[0]
    groups = {"*.bias": {"weight_decay": 0.0}, f"{last}.*": {"lr": rates}}
    trainer = ic.Trainer(net, None, optimizer, groups=groups)
    before = net.state_dict()
    trainer.step(*batch(dtype="float64"))
    found = net.state_dict()
    given = vars(optimizer)
    for decays, own_rate in ((True, False), (False, False), (True, True), (False, True)):
        fields = ({} if decays else {"weight_decay": 0.0}) | ({"lr": rates} if own_rate else {})
        alone = ic.Trainer(with_batch_norm().init(1, "float64"), None, type(optimizer)(**given | fields))
        alone.step(*batch(dtype="float64"))
        for name, expected in alone.net.state_dict().items():
            if name.endswith(".bias") != decays and name.startswith(f"{last}.") == own_rate:
                assert_close(found[name], expected)
    assert not np.array_equal(found[f"{last}.bias"], before[f"{last}.bias"])


def test_of_several_patterns_the_last_holds():
    groups = {"*": {"lr": 0.5, "momentum": 0.5}, "0.*": {"lr": 0.25}, "*.bias": {"lr": 0.0}}
    net = plain().init(0)
    before, trainer = net.state_dict(), ic.Trainer(net, None, ic.SGD(0.1), groups=groups)
    trainer.step(*batch())
    moved = {name: before[name] - after for name, after in net.state_dict().items()}
    assert not moved["0.bias"].any()
    other = ic.Trainer(plain().init(0), None, ic.SGD(1.0))
    other.step(*batch())
    for name, share in (("0.weight", 0.25), ("3.weight", 0.5)):
        whole = before[name] - other.net.state_dict()[name]
        assert_close(moved[name], share * whole, "float32", rtol=1e-3, atol=1e-6)


def test_groups_change_between_steps():
    trainer = ic.Trainer(plain().init(0), None, ic.SGD(0.1, momentum=0.9))
    trained(trainer, 2)
    before = trainer.net.state_dict()
    trainer.groups = {"*.weight": {"lr": 0.0}}
    trained(trainer, 1, 2)
    after = trainer.net.state_dict()
    assert {name for name in after if not np.array_equal(after[name], before[name])} == {
        name for name in after if name.endswith(".bias")
    }
    with pytest.raises(ic.FrozenError, match="cannot be replaced"):
        trainer.optimizer = ic.Adam(0.1)
    trainer.optimizer = ic.SGD(0.2, momentum=0.5)
    assert trainer.groups == {"*.weight": {"lr": 0.0}}
    with pytest.raises(ic.ShapeError, match="nesterov"):
        trainer.groups = {"*.weight": {"nesterov": True, "momentum": 0.0}}
    assert trainer.groups == {"*.weight": {"lr": 0.0}}


def test_groups_that_need_another_state_are_refused_after_a_step():
    trainer = ic.Trainer(plain().init(0), None, ic.SGD(0.1))
    trained(trainer, 1)
    with pytest.raises(
        ic.FrozenError, match=r"groups cannot be replaced after 1 step: .* is empty, .* with these groups is velocity"
    ):
        trainer.groups = {"*.weight": {"momentum": 0.9}}
    assert trainer.groups == {}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"0.wieght": {"lr": 1}}, r"'0.wieght' matches no name; names like it are: 0.weight"),
        ({"features.*": {"lr": 1}}, r"matches no name; there are: 0.weight, 0.bias"),
        ({"0.weight": {"learning_rate": 1}}, r"'learning_rate' for 0.weight, which SGD does not have; it has: lr, mom"),
        ({"0.weight": {"lr": -1}}, r"for 0.weight: lr must be a number of at least 0"),
        ({"0.weight": 3}, r"groups must be a dict of name patterns"),
        (["0.weight"], r"groups must be a dict of name patterns"),
        ({3: {"lr": 1}}, r"must be a pattern of names"),
    ],
)
def test_wrong_groups_are_named(groups, message):
    with pytest.raises(ic.ShapeError, match=message):
        ic.Trainer(plain(), None, ic.SGD(0.1), groups=groups)


@pytest.mark.parametrize("frozen", [[], ["3.weight"]])
def test_an_optimizer_that_sees_everything_sees_its_group(frozen):
    groups = {"*.bias": {"lr": 0.5, "decay": 0.25}}
    net = plain().init(0, "float64")
    if frozen:
        net.freeze(*frozen)
    trainer = ic.Trainer(net, None, Whole(0.25), groups=groups, shard=4)
    for threads in (1, 2, 2):
        before = net.state_dict()
        with ic.num_threads(threads):
            trainer.step(*batch(dtype="float64"))
        after = net.state_dict()
        weights = [before[n] - after[n] for n in after if n.endswith("weight")]
        biases = [0.75 * before[n] - after[n] for n in after if n.endswith("bias")]
        assert sum((x**2).sum() for x in weights) == pytest.approx(0.25**2)
        assert sum((x**2).sum() for x in biases) == pytest.approx(0.5**2)
        for name in frozen:
            assert_same_bits(after[name], before[name])


def test_a_schedule_in_a_group_is_in_the_checkpoint(tmp_path):
    groups = {"0.*": {"lr": ic.Cosine(0.1, steps=9)}, "*.bias": {"betas": (0.5, 0.9), "eps": np.float32(0.5)}}
    trainer = ic.Trainer(plain().init(0), None, ic.Adam(0.01), groups=groups)
    trained(trainer, 3)
    trainer.save(tmp_path / "x.safetensors")
    loaded = ic.Trainer.load(tmp_path / "x.safetensors")
    assert loaded.groups == trainer.groups
    assert_same_bits(trained(loaded, 3, 3), trained(trainer, 3, 3))


def test_no_decay_on_biases_and_norms():
    net = ic.Sequential(
        [ic.Conv2d(1, 2, 3), ic.LayerNorm((2, 6, 6)), ic.PReLU(), ic.BatchNorm2d(2), ic.Flatten(), ic.Linear(72, 2)]
    )
    assert {*decay_weights_only(net)} == {
        name for name in net.init(0).parameters() if name not in ("0.weight", "5.weight")
    }


def test_one_rule_is_one_call_for_each_chunk():
    """Without groups nothing is cut smaller; neighbours of one rule are updated together."""

    class Counting(ic.SGD):
        elementwise = True
        calls = 0

        def update(self, p, g, state, lr, t, work, xp):
            type(self).calls += 1
            super().update(p, g, state, lr, t, work, xp)

    def calls(**options):
        Counting.calls = 0
        net = plain().init(0)
        assert net.flat.size < net.backend.update_chunk
        ic.Trainer(net, None, Counting(0.1), **options).step(*batch())
        return Counting.calls

    assert calls() == 1
    assert calls(groups={"*": {"lr": 0.2}}) == 1
    assert calls(groups={"6.*": {"lr": 0.2}}) == 2


# ---------------------------------------------------------------------- checkpoints


def rewritten(trainer, folder, change):
    """The path of a trainer's checkpoint with another description, and without its checksums."""
    path = folder / "rewritten.safetensors"
    trainer.save(path)
    tensors, information = checkpoint.read(path)
    del information["crc32"]
    change(information)
    save_file(tensors, path, {checkpoint.DESCRIPTION: json.dumps(information)})
    return path


def test_a_checkpoint_without_these_settings_loads(tmp_path):
    """As those of older versions are: every step was an update."""

    def older(information):
        for name in ("clip_norm", "clip_value", "accumulate", "groups", "frozen"):
            del information[name]
        for name in ("updates", "missed", "held", "held_steps"):
            del information["state"][name]

    trainer = ic.Trainer(plain().init(0), None, ic.Adam(0.01))
    trained(trainer, 3)
    loaded = ic.Trainer.load(rewritten(trainer, tmp_path, older))
    assert (loaded.updates, loaded.accumulate, loaded.clip_norm, loaded.groups) == (3, 1, None, {})
    assert_same_bits(trained(loaded, 2, 3), trained(trainer, 2, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accumulate": 0}, "accumulate must be"),
        ({"clip_norm": "much"}, "clip_norm must be a finite number or null"),
        ({"clip_value": -1.0}, "clip_value must be"),
        ({"frozen": ["nothing"]}, 'frozen has "nothing", which is not in the network'),
        ({"groups": {"dict": [["x.*", {"dict": []}]]}}, "matches no name"),
        ({"groups": 3}, "groups must be a dict"),
    ],
)
def test_damaged_settings_are_named(change, message, tmp_path):
    path = rewritten(ic.Trainer(plain().init(0)), tmp_path, lambda information: information.update(change))
    with pytest.raises(ic.CheckpointError, match=message):
        ic.Trainer.load(path)
