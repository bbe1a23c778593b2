"""Arguments that nobody can use are named where they are given."""

import pytest

import im2colnet as ic


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
