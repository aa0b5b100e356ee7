"""The virtual environment: when it is made, when it is filled, and what is said."""

import importlib.util
import sys

import pytest

from launcher import environment


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder of its own, without a virtual environment."""
    for name, path in (
        ("ROOT", tmp_path),
        ("LOGS", tmp_path / "log"),
        ("VENV", tmp_path / ".venv"),
        ("PYTHON", tmp_path / ".venv" / "bin" / "python"),
    ):
        monkeypatch.setattr(environment, name, path)
    (tmp_path / "requirements.txt").write_text("")
    return tmp_path


def test_what_is_installed_already_is_not_installed_again(project, monkeypatch):
    installed = []
    monkeypatch.setattr(environment, "install", installed.append)
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(sys.executable)
    environment.ensure("requirements.txt")
    environment.ensure("requirements.txt")
    (project / "requirements.txt").write_text("# Something changed.\n")
    environment.ensure("requirements.txt")
    assert installed == ["requirements.txt", "requirements.txt"]


def test_an_installation_that_failed_is_tried_again(project, monkeypatch):
    def fail(_):
        raise SystemExit("No network.")

    monkeypatch.setattr(environment, "has_pip", lambda: True)
    monkeypatch.setattr(environment, "install", fail)
    for _ in range(2):
        with pytest.raises(SystemExit, match="No network"):
            environment.ensure("requirements.txt")


@pytest.mark.parametrize(
    ("working", "used"),
    [
        (("pip", "uv"), ["pip requirements-uv.txt", "uv requirements.txt"]),
        (("pip",), ["pip requirements-uv.txt", "uv requirements.txt", "pip requirements.txt"]),
    ],
)
def test_pip_installs_where_uv_cannot(project, monkeypatch, working, used):
    asked = []

    def run(installer, requirements, record, line):
        asked.append(f"{installer[1]} {requirements}")
        return installer[1] in working

    monkeypatch.setattr(environment, "run", run)
    (project / "log").mkdir()
    environment.install("requirements.txt")
    assert asked == used


def test_an_installation_that_nothing_can_do_shows_its_last_lines(project, monkeypatch):
    monkeypatch.setattr(environment, "run", lambda installer, requirements, record, line: record.write(b"No host.") < 0)
    (project / "log").mkdir()
    with pytest.raises(SystemExit, match=r"(?s)No host.*Installing requirements.txt failed"):
        environment.install("requirements.txt")


def test_a_python_without_venv_is_told_what_to_install(project, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(SystemExit, match="sudo apt install python3-venv"):
        environment.ensure("requirements.txt")


def test_a_link_to_an_environment_that_is_gone_is_not_written_through(project):
    (project / "elsewhere").mkdir()
    (project / ".venv").symlink_to(project / "elsewhere")
    with pytest.raises(SystemExit, match="Remove the link"):
        environment.ensure("requirements.txt")
    assert list((project / "elsewhere").iterdir()) == []


def test_progress_tells_what_is_fetched_and_then_what_has_arrived(project):
    (project / "requirements.txt").write_text("a==1 \\\n    --hash=x\nb-c==2\ncolor==3 ; sys_platform == 'win32'\n")
    progress = environment.Progress("requirements.txt")
    progress.heard("Ignoring color: markers do not match\nCollecting a==1 (from -r requirements.txt (line 1))\n")
    assert progress.text() == "Fetching 1/2 a ..."
    progress.heard("Processing ./b_c-2-py3-none-any.whl\nInstalling collected packages: a, b-c\n")
    (project / ".venv" / "lib" / "python3.11" / "site-packages" / "a-1.dist-info").mkdir(parents=True)
    assert progress.text() == "Installing 1/2 packages ..."


def test_progress_counts_what_uv_unpacks(project):
    (project / "requirements.txt").write_text("a==1\nb==2\n")
    progress = environment.Progress("requirements.txt")
    progress.heard("Resolved 2 packages in 9ms\nPrepared 2 packages in 8ms\n")
    assert progress.text() == "Installing 0/2 packages ..."
