"""
Edits that add the package to a public project, expressed without quoting its code.

Each names a file and the change: a line appended to it, an argument added to a call, or a different module from which a
name is imported. The call and the import are found by their names.
"""

import ast
from dataclasses import dataclass
from pathlib import Path


class EditError(Exception):
    """A file does not match an edit."""


@dataclass(frozen=True)
class Line:
    """A line appended to a file."""

    file: str
    line: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        text = path.read_text()
        path.write_text(text + ("" if not text or text.endswith("\n") else "\n") + self.line + "\n")


@dataclass(frozen=True)
class Argument:
    """An argument appended to the only call of ``call`` in a file."""

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


@dataclass(frozen=True)
class From:
    """A different module from which to import ``name``, which a file imports in one line, alone or with other names."""

    file: str
    name: str
    module: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        lines = path.read_text().splitlines(keepends=True)
        imports = [
            node
            for node in ast.walk(ast.parse("".join(lines)))
            if isinstance(node, ast.ImportFrom) and self.name in [each.name for each in node.names]
        ]
        if len(imports) != 1 or imports[0].lineno != imports[0].end_lineno or imports[0].level:
            raise EditError(f"{self.file} imports {self.name} by {len(imports)} lines")
        [found] = imports
        indent = " " * found.col_offset
        others = ", ".join(ast.unparse(each) for each in found.names if each.name != self.name)
        kept = f"{indent}from {found.module} import {others}\n" if others else ""
        lines[found.lineno - 1] = f"{kept}{indent}from {self.module} import {self.name}\n"
        path.write_text("".join(lines))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", None) or getattr(call.func, "attr", "")
