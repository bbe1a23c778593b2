"""`Net(scores=...)`: a network that gives probabilities is trained on the scores before its softmax."""

import numpy as np
import pytest

import im2colnet as ic

LAYERS = {
    "body.conv": lambda: ic.Conv2d(1, 4, 3),
    "body.relu": lambda: ic.ReLU(),
    "body.norm": lambda: ic.BatchNorm2d(4),
    "flatten": lambda: ic.Flatten(),
    "body.fc": lambda: ic.Linear(4 * 6 * 6, 3),
}
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), dtype="uint8")
LABELS = np.arange(12) % 3


def plain():
    return ic.Net({name: make() for name, make in LAYERS.items()}).init(0)


def with_softmax():
    layers = {name: make() for name, make in LAYERS.items()} | {"softmax": ic.Softmax(1)}
    return ic.Net(layers, scores=["body.fc"]).init(0)


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_it_predicts_probabilities_and_gives_scores_to_the_loss():
    net, other = with_softmax(), plain()
    scores = other.predict(IMAGES)
    np.testing.assert_allclose(net.predict(IMAGES), softmax(scores), rtol=1e-5)
    np.testing.assert_array_equal(net.predict(IMAGES, scores=True), scores)
    np.testing.assert_array_equal(other.predict(IMAGES, scores=True), scores)
    loss = ic.CrossEntropyLoss()
    assert net.evaluate(IMAGES, LABELS, loss) == other.evaluate(IMAGES, LABELS, loss)


def test_it_trains_as_the_network_without_the_softmax():
    trainers = [ic.Trainer(net, optimizer=ic.SGD(0.1, 0.9), shard=4) for net in (with_softmax(), plain())]
    losses = [[trainer.step(IMAGES, LABELS) for _ in range(3)] for trainer in trainers]
    assert losses[0] == losses[1]
    for name, value in trainers[1].net.state_dict().items():
        np.testing.assert_array_equal(trainers[0].net.state_dict()[name], value)


def test_what_is_frozen_later_stays_as_it_is():
    net = with_softmax()
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1))
    trainer.step(IMAGES, LABELS)
    net.freeze("body.conv.*")
    before = net.state_dict()
    trainer.step(IMAGES, LABELS)
    changed = {name for name, value in net.state_dict().items() if not np.array_equal(value, before[name])}
    assert "body.fc.weight" in changed
    assert not changed & {"body.conv.weight", "body.conv.bias"}


def test_it_is_kept_in_checkpoints(tmp_path):
    trainer = ic.Trainer(with_softmax())
    trainer.fit((IMAGES, LABELS), epochs=1, batch_size=4, validation=(IMAGES, LABELS))
    trainer.save(tmp_path / "net.safetensors")
    again = ic.Trainer.load(tmp_path / "net.safetensors")
    assert again.net.scores == ["body.fc"]
    np.testing.assert_array_equal(again.net.predict(IMAGES), trainer.net.predict(IMAGES))
    assert again.step(IMAGES, LABELS) == trainer.step(IMAGES, LABELS)


def test_the_summary_says_it():
    assert "the loss gets the output of body.fc as scores" in with_softmax().summary((1, 8, 8))
    assert "the loss is given" not in plain().summary((1, 8, 8))


def test_the_plan_of_training_leaves_the_softmax_out():
    names = [node.name for node in with_softmax().plan(4, (1, 8, 8)).graph.nodes]
    assert names == list(LAYERS)


def test_layers_and_groups_of_layers_have_names_with_dots():
    net = with_softmax()
    assert isinstance(net["body.fc"], ic.Linear)
    assert net.features(IMAGES, "body").shape == (12, 3) if net.graph.output_of("body") else True
    net.replace("body.fc", ic.Linear(144, 3))
    assert net.predict(IMAGES).shape == (12, 3)


@pytest.mark.parametrize(
    ("layers", "how", "message"),
    [
        ({"a": ic.ReLU()}, {"scores": ["b"]}, "scores name a layer 'b'"),
        ({"a": ic.Flatten(), "b": ic.Softmax(1)}, {"scores": ["a", "b"]}, "2 names for 1 outputs"),
        ({"a": ic.Flatten(), "b": ic.Linear(64, 2)}, {"scores": ["a"]}, "layer 'b'.*comes after the scores"),
        ({"a": ic.ReLU(), "a.b": ic.ReLU()}, {}, "'a' and 'a.b'"),
    ],
)
def test_what_is_wrong_is_said(layers, how, message):
    with pytest.raises(ic.ShapeError, match=message):
        ic.Net(layers, **how).init(0)
