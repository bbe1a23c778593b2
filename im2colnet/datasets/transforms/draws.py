"""Random numbers that are a function of their purpose, so that the order in which they are drawn does not matter.

A *key* is a number of 64 bits, and the seed of a SplitMix64 generator (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators", https://doi.org/10.1145/2660193.2660195). Output ``i`` of this generator is computed
directly, without the outputs before it: it is the key of a child, or a random number. So there is a tree of generators:

    seed -> epoch -> position of the transform -> sample -> the transform's random numbers

Only integers and one exact product are computed, so the numbers are the same on every platform, and with every version
of NumPy.
"""

from __future__ import annotations

from typing import Any

from im2colnet.checks import whole
from im2colnet.host import np

WORD = 1 << 64
#: the number that SplitMix64 adds to its state for each output: 2^64 divided by the golden ratio, odd
STEP = 0x9E3779B97F4A7C15


def output(key: np.ndarray, i: Any) -> np.ndarray:
    """Return output ``i``, from 0, of the generators that have these keys as seeds; both are arrays of uint64."""
    z = key + np.uint64(STEP) * (i + np.uint64(1))  # arrays of uint64 wrap around
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def keys(seed: int, epoch: int, samples: Any, position: int = 0) -> np.ndarray:
    """Return the key of each sample for one transform.

    Parameters
    ----------
    seed, epoch : int
        The seed and the number of the epoch, not negative.
    samples : (N,) array of int
        The places of the samples in the data set.
    position : int
        The place of the transform in the list of transforms.

    Returns
    -------
    (N,) array of uint64
        The keys: outputs of the generator SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).

    Examples
    --------
    >>> key = ic.transforms.keys(seed=0, epoch=3, samples=[0, 1])
    >>> ic.transforms.uniform(key, 2).round(3)
    array([[0.175, 0.311],
           [0.634, 0.119]])
    """
    seed, words = whole("seed", seed, least=0), []
    while seed >= WORD:
        seed, word = divmod(seed, WORD)
        words.append(word)
    words += [seed, whole("epoch", epoch, least=0) % WORD, whole("position", position, least=0)]
    key = np.zeros(1, np.uint64)
    for word in words:
        key = output(key, np.array([word], np.uint64))
    return output(key, np.asarray(samples).astype(np.uint64))


def uniform(keys: np.ndarray, count: int) -> np.ndarray:
    """Return random numbers for each key: float64, uniform in [0, 1), multiples of 2^-53.

    Parameters
    ----------
    keys : (N,) array of uint64
        The keys: the result of :func:`keys`, or the argument of :meth:`Transform.transform`.
    count : int
        The number of random numbers for each key.

    Returns
    -------
    (N, count) array of float64
        The random numbers; the same key gives the same numbers on every machine.

    Examples
    --------
    >>> key = ic.transforms.keys(seed=0, epoch=0, samples=[0, 1])
    >>> ic.transforms.uniform(key, 3).round(3)
    array([[0.471, 0.725, 0.303],
           [0.782, 0.192, 0.153]])
    """
    bits = output(keys[:, None], np.arange(count, dtype=np.uint64))
    numbers: np.ndarray = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def within(limits: tuple[float, float], uniform: np.ndarray) -> np.ndarray:
    """Return numbers that are uniform from ``limits[0]`` to ``limits[1]``, from numbers uniform in [0, 1)."""
    low, high = limits
    return low + (high - low) * uniform


def below(uniform: np.ndarray, bound: Any) -> np.ndarray:
    """Return whole numbers from 0 to ``bound`` - 1, from numbers that are uniform in [0, 1)."""
    found: np.ndarray = np.minimum(uniform * bound, np.asarray(bound) - 1).astype(np.intp)
    return found
