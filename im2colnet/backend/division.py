"""How the work on a batch is divided: into shards of samples, and for one shard into bands of an image's rows."""

from __future__ import annotations

from im2colnet.checks import frozen


@frozen
class Division:
    """Sizes that decide how a backend's work is divided.

    Sums are grouped by shards and bands, so results depend on these sizes in their last bits, and on nothing of the
    machine. Those of inference on processes decide only who does the work.

    Parameters
    ----------
    shard_max_numbers : int
        A shard of more than 32 samples holds at most this many numbers in all layers together, which fit a cache.
    shard_min_numbers : int
        A shard of fewer than 8 samples is made larger until it holds this many: calls would take longer than the work.
    bands : int
        Bands of rows that a layer of inference is divided into, where one shard is all.
    band_min_flops : int
        FLOPs of a layer, its written outputs included, from which on it is divided into bands.
    flops_per_output : int
        FLOPs that writing one output counts for.
    steps_before_fork : int
        Steps or predictions of one batch size that run on threads before processes are forked for it.
    max_copied_bytes : int
        Bytes of a batch, at most, that is copied to where other processes see it.
    """

    shard_max_numbers: int = 1 << 20
    shard_min_numbers: int = 1 << 18
    bands: int = 2
    band_min_flops: int = 50_000_000
    flops_per_output: int = 100
    steps_before_fork: int = 3
    max_copied_bytes: int = 1 << 26

    def shard_size(self, batch: int, numbers: int) -> int:
        """Return how many samples a shard should have.

        That is half of the batch, so that there is work for two; but not more than fit into the cache, or 32, and not
        so few that the calls take longer than the work.

        Parameters
        ----------
        batch : int
            The number of samples.
        numbers : int
            How many numbers one sample makes in all layers together.

        Returns
        -------
        int
            At least 1.
        """
        most, least = max(32, self.shard_max_numbers // numbers), max(8, self.shard_min_numbers // numbers)
        return max(least, min(most, -(-batch // 2)))


def shard_sizes(batch: int, shard: int) -> list[int]:
    """Divide a batch into the fewest shards, as equal as can be.

    Parameters
    ----------
    batch : int
        The number of samples.
    shard : int
        The largest number of samples of a shard.

    Returns
    -------
    list of int
        The number of samples of each shard.
    """
    count = -(-batch // shard)
    return [batch * (i + 1) // count - batch * i // count for i in range(count)]
