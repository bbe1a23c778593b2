"""Workflows that cannot be run here can be read, and have what they are to do, word for word."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = "python -m pip install -e '.[docs]' && python -m sphinx -W docs docs/_build"


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_can_be_read(path):
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", True, "jobs"} <= workflow.keys()  # YAML reads the key `on` as true
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert step.keys() <= {"env", "id", "if", "name", "run", "shell", "uses", "with"}
    assert {need for job in workflow["jobs"].values() for need in [job.get("needs")] if isinstance(need, str)} <= {
        *workflow["jobs"]
    }


def test_the_site_is_built_and_published_by_the_command_of_the_pages():
    yaml = pytest.importorskip("yaml")
    text = (ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert SITE in [step.get("run") for step in jobs["build"]["steps"]]
    assert jobs["build"]["steps"][0]["with"] == {"fetch-depth": 0}
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    used = [step["uses"].partition("@")[0] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used[-3:] == ["actions/configure-pages", "actions/upload-pages-artifact", "actions/deploy-pages"]
    assert "never run" in text
