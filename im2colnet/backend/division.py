"""How the work on a batch is divided: into shards of samples, and for one shard into bands of an image's rows."""

from __future__ import annotations

from im2colnet.checks import frozen


@frozen
class Division:
    """Sizes that decide how a backend's work is divided.

    Sums are grouped by shards and bands, so the last bits of results depend on these sizes. They do not depend on the
    machine. The sizes for inference on processes only decide which worker does the work.

    Parameters
    ----------
    shard_max_numbers : int
        A shard of more than 32 samples has at most this many numbers in all layers together, so that they fit into
        the cache.
    shard_min_numbers : int
        A shard has at least 8 samples, and at least this many numbers in all layers together: otherwise the calls would
        take longer than the work. A smaller batch is a single shard.
    bands : int
        The number of bands of rows that a layer is divided into, in inference with a single shard.
    band_min_flops : int
        A layer is divided into bands only if it has at least this many FLOPs, its written outputs included.
    flops_per_output : int
        The number of FLOPs that writing one output counts as.
    steps_before_fork : int
        Processes are forked for a batch size at its step or prediction with this number, counted from 1. Earlier steps
        of this batch size run on threads.
    max_copied_bytes : int
        A batch of at most this many bytes is copied to memory that other processes see.
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

        It is half of the batch, so that there is work for two workers. It is at most 32, or the number of samples that
        fit into the cache if that is larger. It is at least 8, and not so small that the calls take longer than the
        work.

        Parameters
        ----------
        batch : int
            The number of samples.
        numbers : int
            The number of numbers that one sample makes in all layers together.

        Returns
        -------
        int
            At least 1.
        """
        most, least = max(32, self.shard_max_numbers // numbers), max(8, self.shard_min_numbers // numbers)
        return max(least, min(most, -(-batch // 2)))


def shard_sizes(batch: int, shard: int) -> list[int]:
    """Divide a batch into as few shards as possible, of nearly equal size.

    Parameters
    ----------
    batch : int
        The number of samples.
    shard : int
        The largest number of samples in a shard.

    Returns
    -------
    list of int
        The number of samples of each shard.
    """
    count = -(-batch // shard)
    return [batch * (i + 1) // count - batch * i // count for i in range(count)]
