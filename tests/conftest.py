"""What tests of several folders share."""

import pytest

from im2colnet import plan


@pytest.fixture
def shards_of_32(monkeypatch):
    """By default the batches of small networks would be one shard, which leaves nothing for a second worker."""
    monkeypatch.setattr(plan, "MOST", 1)
    monkeypatch.setattr(plan, "LEAST", 1)
