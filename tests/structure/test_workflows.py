"""Workflows that cannot be run here can be read, say so, and have what they are to do, word for word."""

from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"
SITE = "python -m pip install -e '.[docs]' && python -m sphinx -W docs docs/_build"


def read(path):
    """The content of a workflow."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_can_be_read(path):
    workflow = read(path)
    assert {"name", True, "jobs"} <= workflow.keys()  # YAML reads the key `on` as true
    assert workflow["permissions"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert step.keys() <= {"env", "id", "if", "name", "run", "shell", "uses", "with"}
        assert job.get("needs") in {None, *workflow["jobs"]}
    assert "has been written and read, but never run" in path.read_text(encoding="utf-8")


def test_the_site_is_built_and_published_by_the_command_of_the_pages():
    jobs = read(WORKFLOWS / "site.yml")["jobs"]
    assert SITE in [step.get("run") for step in jobs["build"]["steps"]]
    assert jobs["build"]["steps"][0]["with"] == {"fetch-depth": 0}
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    used = [step["uses"].partition("@")[0] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used[-3:] == ["actions/configure-pages", "actions/upload-pages-artifact", "actions/deploy-pages"]


def test_a_release_is_checked_and_has_its_notes():
    jobs = read(WORKFLOWS / "release.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "python -m twine check --strict dist/*" in commands
    assert any(".ci/release_notes.py" in command for command in commands)
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
