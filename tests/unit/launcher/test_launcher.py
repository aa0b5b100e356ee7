"""The launcher's parts that need no process."""

import ast
import socket
import stat
import sys
from pathlib import Path

import pytest

from launcher import configuration, demo
from launcher.valkey import Valkey

ROOT = Path(__file__).parents[3]
#: Grammar that Pythons older than 3.8 cannot read.
NEW_GRAMMAR = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match, ast.AsyncFunctionDef, ast.arg, ast.TryStar)


def test_run_py_can_be_read_by_old_pythons():
    tree = ast.parse((ROOT / "run.py").read_text())
    assert [node for node in ast.walk(tree) if isinstance(node, NEW_GRAMMAR)] == []


def test_run_py_checks_python_before_it_imports_the_launcher():
    body = ast.parse((ROOT / "run.py").read_text()).body
    check = next(number for number, node in enumerate(body) if isinstance(node, ast.If))
    first = next(number for number, node in enumerate(body) if isinstance(node, ast.ImportFrom))
    assert check < first


@pytest.mark.parametrize("path", sorted((ROOT / "launcher").glob("*.py")), ids=lambda path: path.name)
def test_the_launcher_imports_the_standard_library_only(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported <= sys.stdlib_module_names | {"launcher"}


def test_a_taken_port_gives_way_to_the_next_free_one_and_says_so(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        chosen = configuration.choose_port("The shop", str(wanted), not_these={wanted + 1})
    assert chosen > wanted + 1
    assert capsys.readouterr().out == f"Port {wanted} is taken: The shop answers on {chosen}.\n"


@pytest.mark.parametrize("port", ["", "0", "65536", "http", "-1", "80.5"])
def test_what_is_no_port_stops_the_start(port):
    with pytest.raises(SystemExit, match="a port is a whole number"):
        configuration.choose_port("The shop", port, not_these=set())


def test_env_files_are_read_as_the_settings_read_them(tmp_path):
    file = tmp_path / "env"
    file.write_text("# A comment\nA=1\nexport B='two words'\nC=\"x=y\"\nD=\n  not this\n")
    assert configuration.read_env(file) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_a_start_keeps_the_secrets_of_the_last_one_and_shows_them_to_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration, "RUN_ENV", tmp_path / "var" / "run.env")
    monkeypatch.setattr(configuration, "ROOT", tmp_path)
    for name in ("SECRET_KEY", "FLOWER_BASIC_AUTH"):
        monkeypatch.delenv(name, raising=False)
    first = configuration.compose("redis://one")
    second = configuration.compose("redis://two")
    assert (first["SECRET_KEY"], first["FLOWER_BASIC_AUTH"]) == (second["SECRET_KEY"], second["FLOWER_BASIC_AUTH"])
    assert second["REDIS_URL"] == "redis://two"
    assert configuration.read_env(configuration.RUN_ENV) == second
    assert stat.S_IMODE(configuration.RUN_ENV.stat().st_mode) == 0o600


def test_what_was_given_is_passed_on_to_other_terminals(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration, "RUN_ENV", tmp_path / "run.env")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:pa$$@db/shop")
    configuration.compose("redis://one")
    assert configuration.read_env(configuration.RUN_ENV)["DATABASE_URL"] == "postgres://user:pa$$@db/shop"


def test_valkey_keeps_its_port_and_password_to_itself_and_over_starts(tmp_path):
    first, second = Valkey(tmp_path), Valkey(tmp_path)
    assert first.url == second.url
    assert stat.S_IMODE((tmp_path / "valkey.conf").stat().st_mode) == 0o600
    assert first.password not in " ".join(first.command)


def test_valkey_takes_another_port_if_its_own_is_taken(tmp_path):
    first = Valkey(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.port))
        taken.listen()
        assert Valkey(tmp_path).port != first.port


def test_the_demo_tells_once_of_a_task_that_fails_while_it_waits_for_it(capsys):
    failing = {"task": "t", "status": "pending", "last_error": "RuntimeError: not today"}
    expected = [{"task": name, "status": "succeeded", "last_error": ""} for name in demo.EXPECTED]
    answers = [[failing], [failing, *expected], [{**failing, "status": "dead"}, *expected]]

    class Shop:
        def call(self, method, path):
            return {"results": answers.pop(0)}

    assert len(demo.wait_for_tasks(Shop(), 7, pause=lambda seconds: None)) == 4
    assert capsys.readouterr().out == "t failed and will be retried: RuntimeError: not today\n"
