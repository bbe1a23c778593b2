"""The model of many ranks: its formulas in cases that are known otherwise, and the page that shows its tables."""

import json
import runpy
from itertools import pairwise
from math import sqrt
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import ROOT

import im2colnet as ic
from benchmarks import scaling
from benchmarks.scaling import LINKS, Link, Machine, Work

WAYS = ("doubled", "gathered", "added_by_all", "small_sum", "halved", "exchanged", "direct", "by_halves", "large_sum")
OTHERS = ("ring", "whole_tree")
#: round numbers, for calculations by hand: 10 s a message and 1 s a byte
SLOW = Link("slow", alpha=10.0, beta=1.0, gap=3.0, source="")
MACHINE = Machine("by hand", {"lenet5-b256": 2.0}, add=0.5, call=4.0, barrier=7.0, shard_sums=0.25)
FREE = Machine("additions and calls cost nothing", {}, 0.0, 0.0, 0.0, 0.0)


def test_milliseconds_have_no_exponent():
    assert [scaling.milliseconds(time) for time in (0.00123, 0.0123, 0.0994, 0.0999, 1.234)] == [
        "1.2",
        "12",
        "99",
        "100",
        "1234",
    ]


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("way", [*WAYS, *OTHERS])
def test_one_rank_sends_nothing(way, link):
    assert getattr(scaling, way)(1e6, 1, link, MACHINE) == 0


@pytest.mark.parametrize("way", [*WAYS, *OTHERS])
def test_more_bytes_cost_more_and_more_ranks_do_not_cost_less(way):
    cost = getattr(scaling, way)
    sizes = [cost(n, 8, SLOW, MACHINE) for n in (0, 8, 800, 80_000)]
    assert all(a < b for a, b in pairwise(sizes))
    ranks = [cost(8000, 1 << k, SLOW, MACHINE) for k in range(10)]
    assert all(a < b for a, b in pairwise(ranks))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("doubled", 2 * (10 + 8 + 4 + 4)),  # twice: a message, its 8 bytes, its calls, the addition of 8 bytes
        ("gathered", 4 + 2 * 10 + 3 * 8),
        ("added_by_all", 4 + 2 * 10 + 3 * 8 + 3 * 4),
        ("small_sum", 2 * (10 + 8 + 4 + 4)),
        ("halved", (10 + 4 + 4 + 2) + (10 + 4 + 2 + 1)),  # 4 bytes and 2 bytes, each added
        ("exchanged", 4 + 10 + 3 * 3 + 6 + 3),
        ("by_halves", 20 + 17 + (4 + 2 * 10 + 6)),  # then the parts of 2 bytes are gathered
        ("direct", 32 + (4 + 2 * 10 + 6)),
        ("large_sum", 37 + 30),
        ("ring", 3 * (10 + 2 + 1) + 3 * (10 + 2)),  # three rounds with 2 bytes that are added, three without
        ("whole_tree", 2 * (10 + 8 + 4) + 2 * (10 + 8)),  # up with additions, down without
    ],
)
def test_eight_bytes_on_four_ranks_by_hand(way, expected):
    assert getattr(scaling, way)(8, 4, SLOW, MACHINE) == pytest.approx(expected)


@pytest.mark.parametrize("R", [2, 3, 5, 8, 64, 100])
@pytest.mark.parametrize("way", ["direct", "by_halves"])
def test_the_fixed_tree_has_the_volume_of_a_ring(way, R):
    only_bytes = Link("", 0.0, 1.0, 0.0, "")
    expected = scaling.ring(1000, R, only_bytes, FREE)
    assert getattr(scaling, way)(1000, R, only_bytes, FREE) == pytest.approx(expected) == 2 * (R - 1) / R * 1000


@pytest.mark.parametrize("R", [8, 64, 512])
@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_the_fixed_tree_is_no_slower_than_a_ring_and_faster_than_whole_vectors(link, R):
    for n in (1e4, 1e6, 1e8):
        tree = scaling.large_sum(n, R, link, FREE)
        assert tree <= scaling.ring(n, R, link, FREE)
        assert tree < scaling.whole_tree(n, R, link, FREE)


def test_a_rank_sends_the_parts_of_a_large_vector_one_by_one():
    large = 4 << 20
    assert [scaling.messages(n, 8) for n in (8, large)] == [3, 7]
    found = scaling.by_halves(large, 8, SLOW, MACHINE)
    assert found == pytest.approx(7 * (10 + 4) + 7 * (10 + 4) + 7 / 8 * large * (1 + 0.5 + 1))


def test_ranks_that_are_no_power_of_two_gather():
    assert scaling.small_sum(8, 6, SLOW, MACHINE) == scaling.added_by_all(8, 6, SLOW, MACHINE)
    assert scaling.large_sum(8, 6, SLOW, MACHINE) == scaling.direct(8, 6, SLOW, MACHINE)


# Steps --------------------------------------------------------------------------------------------------------------
def test_a_step_by_hand():
    joins = Work(gradients=8, summed=(8,), gathered=(2,))
    found = scaling.step("lenet5-b256", joins, 4, 3, SLOW, MACHINE)
    shards = scaling.CORES  # 3 images a core are one shard
    gathered = 4 + 2 * 10 + 3 * shards * 2
    assert found == pytest.approx((6, 67, (52 + 7) + (gathered + 3 * shards * 0.25 + 7)))
    assert found.efficiency == pytest.approx(6 / sum(found))


def test_one_rank_has_an_efficiency_of_1():
    joins = Work(gradients=1000, summed=(8, 16), gathered=(2,))
    assert scaling.step("lenet5-b256", joins, 1, 64, SLOW, MACHINE).efficiency == 1


@pytest.mark.parametrize("net", ["lenet5-b256", "resnet20-b64"])
@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_more_ranks_are_less_efficient(net, link):
    machine = MACHINE._replace(image={net: 1e-3}, add=1e-10, call=1e-6, barrier=1e-5, shard_sums=1e-7)
    joins = scaling.work(net)
    found = [scaling.step(net, joins, R, 32, link, machine).efficiency for R in (1, 2, 8, 64, 512)]
    assert all(1 >= a > b > 0 for a, b in pairwise(found))


def test_what_is_joined_is_that_of_the_network():
    """ResNet-20: 19 batch norms with 7 of 16, 6 of 32 and 6 of 64 channels, two float64 of each; a loss and metrics."""
    found, net = scaling.work("resnet20-b64"), ic.models.resnet20().init(0)
    assert found.gradients == 4 * sum(array.size for array in net.parameters().values())
    channels = [node.layer.num_features for node in net.graph.nodes if isinstance(node.layer, ic.BatchNorm2d)]
    assert len(channels) == 19
    assert sorted(found.gathered) == sorted(16 * C for C in channels)
    assert sum(found.summed) >= sum(found.gathered)
    assert scaling.work("lenet5-b256").gathered == ()


def test_waiting_for_the_slowest():
    """The largest of many normal numbers, drawn."""
    drawn = np.random.default_rng(0).normal(1, 0.02, (2000, 1024)).max(1).mean() - 1
    assert scaling.jitter(1024, 1, 1) == pytest.approx(drawn, rel=0.2)
    assert scaling.jitter(1024, 1, 4) == pytest.approx(scaling.jitter(1024, 4, 4) / 2)
    assert scaling.jitter(1, 1, 1) == 0
    assert scaling.jitter(16, 39, 39) / scaling.jitter(16, 1, 39) == pytest.approx(sqrt(39))


def test_what_is_measured_is_a_time():
    for time in (scaling.of_adding(), scaling.of_call(), scaling.of_shard_sums(16, 4)):
        assert 0 < time < 1e-2


def test_a_barrier_is_measured():
    if not ic.parallel.processes.available():
        pytest.skip("workers are no processes here")
    assert 0 < scaling.of_barrier() < 1


# The command and the page -------------------------------------------------------------------------------------------
def test_the_command_prints_the_tables_of_a_machine_that_was_measured(tmp_path, capsys):
    path = tmp_path / "out.json"
    assert scaling.main(["--machine", str(ROOT / "docs" / "scaling.json"), "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert all(title in out for title in scaling.TITLES.values())
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["tables"].keys() == scaling.TITLES.keys()
    assert scaling.load(path) == scaling.load(ROOT / "docs" / "scaling.json")


@pytest.mark.parametrize("text", [None, "", "{}", '{"machine": {"name": "half of it"}}'])
def test_a_file_that_is_no_machine_is_told(text, tmp_path, capsys):
    path = tmp_path / "machine.json"
    if text is not None:
        path.write_text(text)
    assert scaling.main(["--machine", str(path)]) == 1
    assert str(path) in capsys.readouterr().err


@pytest.fixture(scope="module")
def of_the_page():
    return runpy.run_path(str(ROOT / "docs" / "scaling.py"))


@pytest.fixture(scope="module")
def figures():
    return json.loads((ROOT / "docs" / "scaling.json").read_text(encoding="utf-8"))


def test_the_page_has_the_tables_of_the_program(of_the_page, figures):
    written = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert written == of_the_page["page"](written, figures), "python docs/scaling.py writes them anew"
    for name in (*scaling.TITLES, "steps", "joins"):
        assert f"<!-- table: {name} -->\n| " in written


def test_the_picture_is_that_of_the_program(of_the_page, figures):
    written = (ROOT / "docs" / "scaling.svg").read_text(encoding="utf-8")
    assert written == of_the_page["picture"](figures), "python docs/scaling.py draws it anew"
    root = ElementTree.fromstring(written)
    assert len(root.findall(".//{*}polyline")) == 2 * len(figures["machine"]["image"])
    assert "prefers-color-scheme: dark" in written
