"""How the work on a batch is divided: into shards of samples, and for one shard into bands of an image's rows."""

from __future__ import annotations

from im2colnet.checks import frozen


@frozen
class Division:
    """Sizes that decide how a backend's work is divided.

    Sums are grouped by shards and bands, so results depend on these sizes in their last bits, and on nothing of the
    machine. Those of inference on processes decide only who does the work.
    """

    #: a shard of more than 32 samples holds at most this many numbers in all layers together, which fit a cache
    shard_max_numbers: int = 1 << 20
    #: a shard of fewer than 8 samples is made larger until it holds this many: calls would take longer than the work
    shard_min_numbers: int = 1 << 18
    #: bands of rows that a layer of inference is divided into, where one shard is all
    bands: int = 2
    #: FLOPs of a layer, its written outputs included, from which on it is divided into bands
    band_min_flops: int = 50_000_000
    #: FLOPs that writing one output counts for
    flops_per_output: int = 100
    #: steps or predictions of one batch size that run on threads before processes are forked for it
    steps_before_fork: int = 3
    #: bytes of a batch, at most, that is copied to where other processes see it
    max_copied_bytes: int = 1 << 26

    def shard_size(self, batch: int, numbers: int) -> int:
        """Return how many samples a shard should have, if one sample makes this many numbers in all layers together.

        That is half of the batch, so that there is work for two; but not more than fit into the cache, or 32, and not
        so few that the calls take longer than the work.
        """
        most, least = max(32, self.shard_max_numbers // numbers), max(8, self.shard_min_numbers // numbers)
        return max(least, min(most, -(-batch // 2)))


def shard_sizes(batch: int, shard: int) -> list[int]:
    """Divide a batch into the fewest shards of at most ``shard`` samples, as equal as can be."""
    count = -(-batch // shard)
    return [batch * (i + 1) // count - batch * i // count for i in range(count)]
