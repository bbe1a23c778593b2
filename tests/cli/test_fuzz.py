"""A few hundred of the cases of ``tests/fuzz_cli.py``, which tries the command line with mutations."""

import os

import fuzz_cli
import pytest

from im2colnet import cli


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for variable in fuzz_cli.VARIABLES:
        if variable.startswith("IM2COLNET_"):
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return fuzz_cli.Bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("kind", list(fuzz_cli.Bench.KINDS))
def test_the_command_line_never_shows_a_traceback(bench, kind):
    outcomes = [bench.case(kind, 0, number) for number in range(40)]
    assert [outcome for outcome in outcomes if outcome.failure] == []
    codes = {outcome.output.partition(",")[0] for outcome in outcomes}
    assert len(codes) > 1 or kind in ("checkpoints", "descriptions")  # some do what they should, some are refused


def test_a_case_can_be_repeated(bench, capsys):
    before = dict(os.environ)
    first, second = (bench.case("run.json", 3, 5) for _ in range(2))
    assert first.argv == second.argv
    assert os.environ == before


def test_what_it_takes_for_a_failure(bench, monkeypatch):
    def fails(*arguments):
        raise TypeError("nobody thought of it")

    monkeypatch.setattr("im2colnet.cli.commands.backends.list_backends", fails)
    outcome = fuzz_cli.attempt(["backends"])
    assert outcome.failure == "an error that nobody had thought of"
    assert "TypeError: nobody thought of it" in outcome.output
    monkeypatch.setattr(cli, "main", lambda argv: 3)
    assert fuzz_cli.attempt(["backends"]).failure == "exit code 3"
    monkeypatch.setattr(cli, "main", fails)
    assert "TypeError" in fuzz_cli.attempt(["backends"]).failure
