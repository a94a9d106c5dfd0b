"""The agent runs on the box's own Python, from 3.8 on, with nothing but its standard library, and starts at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import providers.agent
from tests.agent.client import PYTHON

FOLDER = Path(providers.agent.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
SLOW = {"asyncio", "base64", "contextlib", "enum", "hashlib", "inspect", "json", "logging", "pathlib", "re", "shutil"}
SLOW |= {"selectors", "signal", "socket", "struct", "subprocess", "tempfile", "threading", "typing"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_file_of_the_agent_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_file_of_the_agent_imports_anything_but_the_agent_and_the_standard_library(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    allowed = {name for name in imported if name == "providers.agent" or name.startswith("providers.agent.")}
    assert {name.partition(".")[0] for name in imported - allowed} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_annotations_are_never_evaluated(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    annotations = [node.annotation for each in functions for node in ast.walk(each.args) if isinstance(node, ast.arg)]
    annotations += [each.returns for each in functions]
    future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    inside = [each for node in annotations if node is not None for each in ast.walk(node)]
    assert future or not any(isinstance(each, ast.Subscript | ast.BinOp) for each in inside)


def test_nothing_that_is_slow_to_import_is_imported_on_the_way_to_a_job() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(FOLDER.parents[1])!r})
import providers.agent.main, providers.agent.lock, providers.agent.job
print(*sys.modules)
"""
    loaded = subprocess.run([PYTHON, "-IS", "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert SLOW & set(loaded) == set()
    assert "providers.agent.supervise" in loaded
