"""Splitting a data set into a training set and a test set."""

from __future__ import annotations

from im2colnet.datasets.dataset import Dataset
from im2colnet.errors import ShapeError
from im2colnet.host import np

#: the fraction of a data set that is held out as the test set, if the data set has no test set
_TEST_FRACTION = 0.2
#: the seed for the choice of these images
_TEST_SEED = 0


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the same fraction of each class. Of N labels, `round(fraction · N)` are held out.

    Of a class with n samples, the whole part of `fraction · n` is held out; the classes with the largest remainders
    give one more sample (on equal remainders, the smaller label). At least one sample of each class stays, so with many
    small classes fewer than `round(fraction · N)` samples may be held out. The choice depends on `seed` only.

    Parameters
    ----------
    labels : array, (N,)
        The class of each sample.
    fraction : float
        The fraction to hold out, between 0 and 1.
    seed : int
        The seed of the choice, not negative.

    Returns
    -------
    train_index, test_index : arrays of integers
        The indices of the samples that stay, and of the samples that are held out, in ascending order.

    Raises
    ------
    ShapeError
        If `labels` is not one-dimensional or `fraction` not between 0 and 1.

    Examples
    --------
    >>> labels = np.array([0] * 10 + [1] * 5)
    >>> train, test = ic.datasets.stratified_split(labels, 0.2, seed=0)
    >>> test, labels[test]
    (array([ 2,  3, 11]), array([0, 0, 1]))
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ShapeError(f"labels must have the shape (N,), got {labels.shape}")
    if not 0 < fraction < 1:
        raise ShapeError(f"the fraction to hold out must be between 0 and 1, got {fraction}")
    # Raw bits, because NumPy promises never to change them; its permutations may change with a version.
    return chosen(labels, fraction, np.random.PCG64(seed).random_raw(len(labels)))


def chosen(labels: np.ndarray, fraction: float, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the same fraction of each class as :func:`stratified_split`: the samples with the smallest keys."""
    _, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    share = np.round(fraction * counts, 9)  # so that no rounding error of the product decides
    held_out = np.minimum(np.floor(share).astype(np.intp), counts - 1)
    missing = round(fraction * len(labels)) - int(held_out.sum())
    able = np.flatnonzero(held_out < counts - 1)
    held_out[able[np.argsort((held_out - share)[able], kind="stable")[:missing]]] += 1
    order = np.lexsort((keys, group))  # by class, in the order of the keys within
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each within its class
    test = place < np.repeat(held_out, counts)
    return np.sort(order[~test]), np.sort(order[test])


def _split(dataset: Dataset) -> tuple[Dataset, Dataset]:
    groups = dataset.labels if dataset.classes else np.zeros(len(dataset), np.intp)  # targets are one group
    train, test = stratified_split(groups, _TEST_FRACTION, _TEST_SEED)
    return dataset[train], dataset[test]
