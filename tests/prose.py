"""
Checks the texts that people read against the project's style: ``make prose``, or ``python -m tests.prose [FILE...]``.

proselint does the matching, with its own checks of English and with the project's list, ``.ci/phrases.toml``,
which also names the files. Of a page it reads everything but code, of a template everything but tags, of a Python
file the strings and comments.
"""

import fnmatch
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__ as checks_of_english
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check
from proselint.registry.checks.engine import Fancy, Fast, RegexOptions
from proselint.registry.checks.types import ExistenceSimple
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parent.parent
STYLE = tomllib.loads((ROOT / ".ci/phrases.toml").read_text())

# Not prose: in a page, in a template, in a string or comment of the code.
_IN_PAGES = re.compile(r"^```.*?^```|<!--.*?-->|`[^`\n]+`|\]\([^)\s]+\)|https?://\S+", re.DOTALL | re.MULTILINE)
_IN_TEMPLATES = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|<style.*?</style>|<script.*?</script>|<[^>]*>", re.DOTALL)
_IN_CODE = re.compile(r"``[^`]+``|`[^`\n]+`|https?://\S+")
_QUOTES = re.compile(r"""^[a-zA-Z]*("{3}|'{3}|"|')|("{3}|'{3}|"|')$|^#""")


def without(pattern: re.Pattern[str], text: str) -> str:
    """``text`` with a mark in the place of each match. No line moves."""
    return pattern.sub(lambda found: "¤" + "\n" * found[0].count("\n"), text)


def texts_of_code(source: str) -> str:
    """The strings and comments of a Python file, each on its line."""
    lines = [""] * (source.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.STRING, tokenize.COMMENT}:
            for number, line in enumerate(_QUOTES.sub("", token.string).split("\n"), token.start[0] - 1):
                lines[number] += f" {line.strip()}"
    return without(_IN_CODE, "\n".join(lines))


def prose_of(path: Path) -> str:
    """What a person reads in the file, each word on its line."""
    text = path.read_text()
    match path.suffix:
        case ".py":
            return texts_of_code(text)
        case ".md":
            return without(_IN_PAGES, text)
        case _:
            return without(_IN_TEMPLATES, text)


def checks() -> Iterator[Check]:
    """The project's list as checks of proselint."""
    for group, list_of_phrases in STYLE["phrases"].items():
        for pattern, instead in list_of_phrases.items():
            options = RegexOptions(case_insensitive=True)
            yield Check(
                check_type=ExistenceSimple(pattern=rf"\b(?:{pattern})".replace(" ", r"\s+")),
                engine=Fancy(options) if "(?!" in pattern or "(?<" in pattern else Fast(options),  # RE2 looks nowhere.
                path=f"phrases.{group}",
                message="'{}': write " + instead,
            )


def complaints(name: str, text: str) -> list[str]:
    """What is wrong with the prose of one file, one line each."""
    if not text.strip():
        return []
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(checks_of_english)
        registry.register_many(tuple(checks()))
    config: Config = {"max_errors": 1000, "checks": {**DEFAULT["checks"], **STYLE["english"], "phrases": True}}
    page = LintFile(name, text)
    page.quote_bounds = ()  # proselint spares quotations; quotation marks in code and tables are none.
    return [
        f"{name}:{found.pos[0]}: {' '.join(found.check_result.message.split())} ({found.check_result.check_path})"
        for found in page.lint(config)
    ]


def files() -> list[str]:
    """The files that are checked."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    def matches(name: str, patterns: list[str]) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    listed = STYLE["files"]
    return [
        name for name in tracked.split("\0") if matches(name, listed["read"]) and not matches(name, listed["but_not"])
    ]


def main(names: list[str]) -> int:
    found = [line for name in (names or files()) for line in complaints(name, prose_of(ROOT / name))]
    print("\n".join(found) or "No complaints.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
