"""Files beside the code that must say what the code says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_env_example_lists_every_variable_of_the_settings_and_no_other():
    settings = (ROOT / "core" / "settings.py").read_text()
    read = set(re.findall(r"""(?:env\.\w+|read_\w+|read)\(\s*(?:env\.\w+,\s*)?"([A-Z_]+)\"""", settings))
    assert read, "The settings read their variables in another way now."
    listed = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(read)


def test_the_development_requirements_pin_what_the_shop_runs_on():
    pins = {name: set((ROOT / name).read_text().splitlines()) for name in ("requirements.txt", "requirements-dev.txt")}
    runtime, development = (
        {line.rstrip(" \\") for line in pins[name] if re.match(r"\w\S*==", line)}
        for name in ("requirements.txt", "requirements-dev.txt")
    )
    assert {pin.split(" ")[0] for pin in runtime} <= {pin.split(" ")[0] for pin in development}


def test_every_requirement_is_pinned_with_its_hashes():
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-docs.txt", "requirements-uv.txt"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        entries = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert entries
        for entry in entries:
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ ", entry), f"{name}: {entry[:80]}"
            assert "--hash=sha256:" in entry, f"{name}: {entry[:80]}"


def test_every_requirement_has_a_reason():
    for name in ("requirements.in", "requirements-docs.in"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "-r"))]
        assert [line for line in lines if "  # " not in line] == []


def test_the_workflows_run_what_a_developer_runs():
    ci, release = ((ROOT / ".github" / "workflows" / f"{name}.yml").read_text() for name in ("ci", "release"))
    runs = re.findall(r"- run: (\S+(?: \S+)?)", ci)
    assert ".ci/run" in runs
    assert "make matrix" in runs
    assert "make docs" in runs
    [nox] = re.findall(r"nox==[\d.]+", release)
    assert nox in (ROOT / "Makefile").read_text()
    for version in re.findall(r'\("(3\.\d+)", ', (ROOT / "noxfile.py").read_text()):
        assert re.search(rf"^            {re.escape(version)}$", ci, re.MULTILINE), version
    for image in ("postgres", "redis", "rabbitmq"):
        [used, *others] = set(re.findall(rf"image: ({image}:\S+)", ci))
        assert others == []
        assert used in (ROOT / ".ci" / "run").read_text()


def test_what_starts_tests_names_files_that_there_are():
    workflows = (ROOT / ".github" / "workflows").glob("*.yml")
    for file in (*workflows, ROOT / "Makefile", ROOT / "noxfile.py", ROOT / ".ci" / "run"):
        for path in re.findall(r"\btests/[\w/]+\.py\b", file.read_text()):
            assert (ROOT / path).exists(), f"{file.name}: {path}"


def test_no_serializer_gives_away_fields_that_it_does_not_name():
    for path in ROOT.glob("*/serializers.py"):
        source = path.read_text()
        assert "__all__" not in source, path
        assert not re.search(r"^\s+exclude = ", source, re.MULTILINE), path


def test_the_table_of_threats_names_tests_that_there_are():
    rows = re.findall(r"^\| S\d+ .*$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    numbers = [int(row.split()[1][1:]) for row in rows]
    assert numbers == sorted(set(numbers))
    assert set(numbers) >= set(range(1, 28))
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert tests, row
        for path, name in tests:
            assert (ROOT / path).exists(), path
            assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
