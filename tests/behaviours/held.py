"""Which tests hold which behaviours, read from the text of the tests.

A test holds the ids in its marker, `@pytest.mark.holds("CRE-08")`, and those in the names of its parameters, as in
`id="an answered id is bound (CRE-03)"`; also where marker or parameters stand in a table that its decorators name.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.behaviours.catalogue import areas

ID = re.compile(rf"\b(?:{'|'.join(area.name for area in areas())})-\d\d\b")


class Holder(NamedTuple):
    """A test by its short name, `flows/create::an_answered_id_is_bound`, and the ids that it says it holds."""

    name: str
    ids: frozenset[str]


def holders(folder: Path) -> Iterator[Holder]:
    """Every test below a folder. Raises `ValueError` for a marker whose ids are not written out."""
    for path in sorted(folder.rglob("test_*.py")):
        file = path.relative_to(folder).with_suffix("").as_posix().replace("test_", "", 1)
        module = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        named = dict(_assignments(module))
        of_all = _ids(named["pytestmark"], named) if "pytestmark" in named else set()
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                ids = of_all.union(*(_ids(decorator, named) for decorator in node.decorator_list))
                yield Holder(f"{file}::{node.name.removeprefix('test_')}", frozenset(ids))


def held(folder: Path) -> dict[str, list[str]]:
    """The names of the tests that hold each id, in order."""
    found: dict[str, list[str]] = {}
    for holder in holders(folder):
        for name in holder.ids:
            found.setdefault(name, []).append(holder.name)
    return found


def _assignments(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names that a module gives to values, outside of functions."""
    for node in module.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _ids(expression: ast.expr, named: dict[str, ast.expr]) -> set[str]:
    """The ids in a decorator, and in the values that it names."""
    found: set[str] = set()
    for node in ast.walk(expression):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "holds":
                found.update(map(_written_out, node.args))
            for keyword in node.keywords:
                if keyword.arg == "id" and isinstance(keyword.value, ast.Constant):
                    found.update(ID.findall(str(keyword.value.value)))
        elif isinstance(node, ast.Name) and node.id in named:
            found |= _ids(named[node.id], {name: value for name, value in named.items() if name != node.id})
    return found


def _written_out(argument: ast.expr) -> str:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    raise ValueError(f"a behaviour is named by its id, written out: {ast.unparse(argument)}")
