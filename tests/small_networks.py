"""Small networks on images (N, 3, 8, 8) of four classes, and a batch for them."""

import numpy as np
from helpers import normal

import im2colnet as ic

GOOD, LABELS = normal(9, 3, 8, 8, dtype="float32"), np.arange(9) % 4


def conv(channels, filters):
    return ic.Conv2d(channels, filters, 3, padding=1)


def plain():
    convolutions = [conv(3, 5), ic.ReLU(), ic.MaxPool2d(2), conv(5, 4), ic.ReLU()]
    return ic.Sequential([*convolutions, ic.Flatten(), ic.Linear(64, 4)])


def with_batch_norm():
    body = ic.Sequential([conv(6, 6), ic.BatchNorm2d(6), ic.ReLU(), conv(6, 6), ic.BatchNorm2d(6)])
    stem = [conv(3, 6), ic.BatchNorm2d(6), ic.ReLU(), ic.Residual(body), ic.ReLU()]
    return ic.Sequential([*stem, ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(6, 4)])


def with_dropout():
    return ic.Sequential([conv(3, 6), ic.ReLU(), ic.Dropout(0.3), ic.Flatten(), ic.Dropout(0.2), ic.Linear(384, 4)])


def with_both():
    return ic.Sequential([conv(3, 6), ic.Dropout(0.3), ic.BatchNorm2d(6), ic.ReLU(), ic.Flatten(), ic.Linear(384, 4)])


def residual(*layers, shortcut=None):
    return ic.Residual(ic.Sequential(list(layers)), shortcut)
