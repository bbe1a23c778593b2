"""Common groups of parameters."""

from __future__ import annotations

from typing import Any

__all__ = ["decay_weights_only"]


def decay_weights_only(net: Any) -> dict[str, dict[str, Any]]:
    """Return parameter groups without weight decay for biases and for the weights of normalization layers.

    A bias, or the scale of a normalization layer, has one number for each channel; weight decay would only move it away
    from the value that suits the data (He et al. 2019, arXiv:1812.01187, section 3.1).

    Parameters
    ----------
    net : Network
        The network whose parameters are grouped.

    Returns
    -------
    dict of str to dict
        The argument ``groups`` of a :class:`~im2colnet.Trainer`, with all parameters that have one axis or belong to a
        normalization layer.

    Examples
    --------
    >>> net = ic.Sequential([ic.Conv2d(1, 8, 3), ic.BatchNorm2d(8)])
    >>> groups = ic.optim.decay_weights_only(net)
    >>> [*groups]
    ['0.bias', '1.weight', '1.bias']
    >>> sgd = ic.SGD(0.1, weight_decay=5e-4)
    >>> trainer = ic.Trainer(net, optimizer=sgd, groups=groups)
    """
    return {
        f"{node.name}.{key}": {"weight_decay": 0.0}
        for node in net.graph.nodes
        for key, parameter in node.layer.parameters().items()
        if len(parameter.shape) <= 1 or parameter.precise
    }
