"""
Edits that add the package to somebody's project, told without a line of that project.

Each names a file and what to add there: a line at its end, or an argument to a call, which is found by its name.
"""

import ast
from dataclasses import dataclass
from pathlib import Path


class EditError(Exception):
    """A file is not as an edit expects it."""


@dataclass(frozen=True)
class Line:
    """A line at the end of a file."""

    file: str
    line: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        text = path.read_text()
        path.write_text(text + ("" if not text or text.endswith("\n") else "\n") + self.line + "\n")


@dataclass(frozen=True)
class Argument:
    """An argument at the end of the only call of ``call`` in a file."""

    file: str
    call: str
    argument: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        text = path.read_text()
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and _name(node) == self.call]
        if len(calls) != 1:
            raise EditError(f"{self.file} calls {self.call} {len(calls)} times")
        [call] = calls
        lines = text.splitlines(keepends=True)
        row, column = call.end_lineno - 1, call.end_col_offset - 1
        line = lines[row].encode()
        before = "".join(lines[:row]) + line[:column].decode()
        comma = "" if before.rstrip().endswith((",", "(")) else ", "
        path.write_text(before + comma + self.argument + line[column:].decode() + "".join(lines[row + 1 :]))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", None) or getattr(call.func, "attr", "")
