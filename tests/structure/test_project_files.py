"""What is not Python and stands beside it: the version in its places, the notes of a release, templates of issues."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import im2colnet as ic

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def notes(version):
    command = [sys.executable, ROOT / ".ci" / "release_notes.py", version]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_the_version_has_one_place_and_the_citation_agrees():
    about = tomllib.loads(text("pyproject.toml"))
    assert "version" in about["project"]["dynamic"]
    assert about["tool"]["hatch"]["version"]["path"] == "im2colnet/version.py"
    assert re.search("^version: (.+)$", text("CITATION.cff"), re.MULTILINE)[1] == ic.__version__
    assert about["project"]["urls"]["Source"] in text("CITATION.cff")


def test_the_notes_of_a_release_are_its_section_of_the_changelog():
    done = notes(ic.__version__)
    if f"\n## {ic.__version__} (" not in text("CHANGELOG.md"):  # it is not released yet
        assert done.returncode == 1
        assert "CHANGELOG.md has 0 sections" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert "### Added" in done.stdout
    assert "## " not in re.sub("^### .*$", "", done.stdout, flags=re.MULTILINE)
    source = tomllib.loads(text("pyproject.toml"))["project"]["urls"]["Source"]
    assert f"({source}/blob/v{ic.__version__}/docs/upgrade.md)" in done.stdout
    assert re.findall(r"\]\((?!https://)", done.stdout) == []
    assert f"from 0.1 to {ic.__version__[:3]}" in text("docs/upgrade.md").lower()


def test_a_version_that_is_not_that_of_the_files_has_no_notes():
    done = notes("9.9.9")
    assert done.returncode == 1
    assert f"im2colnet/version.py has the version {ic.__version__}, not 9.9.9" in done.stderr


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_of_issues_ask_for_the_doctor(path):
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = {field["id"]: field["attributes"] for field in form["body"]}
    assert "im2colnet doctor" in fields["doctor"]["label"]
    assert all(field["type"] == "textarea" for field in form["body"])
