"""Optimizers with settings that suit most networks, by their names on the command line."""

from im2colnet.optim.adam import Adam, AdamW
from im2colnet.optim.adaptive import Adagrad, RMSprop
from im2colnet.optim.base import Optimizer
from im2colnet.optim.sgd import SGD

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.02, momentum=0.9),
    "adam": Adam(),
    "adamw": AdamW(),
    "rmsprop": RMSprop(1e-3),
    "adagrad": Adagrad(),
}
