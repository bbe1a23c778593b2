"""Into how many shards a batch is divided, and how equal they are."""

import pytest

from im2colnet.backend import Division, shard_sizes


@pytest.mark.parametrize(
    ("batch", "values", "shard"),
    [
        (64, 1_000, 262),  # a small network: not so few that the calls take longer than the work
        (1024, 1_000, 512),  # enough for two
        (4096, 1_000, 1048),  # not more than the cache holds
        (64, 15_000, 32),
        (256, 15_000, 69),
        (64, 500_000, 32),
        (256, 500_000, 32),
        (32, 500_000, 16),
        (16, 10**7, 8),
        (10, 10**7, 8),
        (1, 10**7, 8),
    ],
)
def test_shards_suit_the_network_and_leave_work_for_two(batch, values, shard):
    assert Division().shard_size(batch, values) == shard


@pytest.mark.parametrize("shard", [1, 2, 7, 32])
def test_shards_are_few_and_as_equal_as_can_be(shard):
    for batch in range(1, 100):
        sizes = shard_sizes(batch, shard)
        assert sum(sizes) == batch
        assert max(sizes) <= shard
        assert len(sizes) == -(-batch // shard)
        assert max(sizes) - min(sizes) <= 1
