"""A process that is forked predicts like its parent, whose threads it does not have."""

import os

import pytest
from helpers import batches, normal, predicts_in_a_fork
from small_networks import plain

import im2colnet as ic

batch = batches((1, 8, 8), classes=2, n=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("one_thread", "shards_of_32")
def test_a_forked_process_has_workers_of_its_own():
    ic.set_num_threads(3)
    net = plain().init(0)
    images = normal(100, 3, 8, 8, dtype="float32")
    expected = net.predict(images)  # now the parent's workers have started
    assert predicts_in_a_fork(net, images, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_process_forked_during_a_prediction_can_predict():
    net, images = ic.models.notebook().init(0), batch()[0]
    expected = net.predict(images)
    with net.inference().alone():  # as another thread would hold it
        assert predicts_in_a_fork(net, images, expected)
