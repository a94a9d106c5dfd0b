"""The wheel is the checkout: every module of ours, the migrations inside `ledger`, and nothing else."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from cli.main import VERSION

CHECKOUT = Path(__file__).resolve().parents[2]
TOP_LEVEL = ("cli", "ledger", "providers")
DATA = ("*.py", "py.typed", "*.mako")
BUILD_LIMIT_S = 120


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a wheel that is built from a copy: what an earlier build left in the checkout must not get in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*TOP_LEVEL, "migrations"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('../dist')"],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (built,) = (folder / "dist").iterdir()
    with ZipFile(built) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def in_checkout() -> dict[str, bytes]:
    """Every file that is to be installed, by its name in the wheel."""
    homes = {name: name for name in TOP_LEVEL} | {"migrations": "ledger/_migrations"}
    return {
        f"{home}/{path.relative_to(CHECKOUT / folder).as_posix()}": path.read_bytes()
        for folder, home in homes.items()
        for pattern in DATA
        for path in (CHECKOUT / folder).rglob(pattern)
    }


def test_the_wheel_holds_exactly_the_files_of_the_checkout(wheel: dict[str, bytes]) -> None:
    installed = {name: content for name, content in wheel.items() if ".dist-info/" not in name}
    assert sorted(installed) == sorted(in_checkout())
    assert installed == in_checkout()


def test_the_wheel_brings_the_command_and_the_licence(wheel: dict[str, bytes], project: dict[str, Any]) -> None:
    meta = f"rentroll-{project['project']['version']}.dist-info"
    assert wheel[f"{meta}/entry_points.txt"].decode().split() == ["[console_scripts]", "rentroll", "=", "cli.main:main"]
    assert wheel[f"{meta}/licenses/LICENSE"] == (CHECKOUT / "LICENSE").read_bytes()


def test_the_list_of_packages_names_every_folder_with_modules(project: dict[str, Any]) -> None:
    folders = {Path(name).parent.as_posix().replace("/", ".") for name in in_checkout() if name.endswith(".py")}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_no_other_installed_distribution_has_a_top_level_package_of_our_name() -> None:
    owners = packages_distributions()
    others = {name: sorted(set(owners.get(name, ())) - {"rentroll"}) for name in TOP_LEVEL}
    assert others == {"cli": [], "ledger": [], "providers": []}


def test_the_program_says_the_version_of_the_project(project: dict[str, Any]) -> None:
    assert project["project"]["version"] == VERSION


@pytest.mark.skipif(shutil.which("make") is None, reason="runs make")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"SSL_CERT_FILE": "/own.pem"}, "/own.pem"),
        ({"SSL_CERT_FILE": "/own.pem", "PIP_CERT": "/pips.pem"}, "/pips.pem"),
    ],
)
def test_make_tells_pip_of_a_private_authority(tmp_path: Path, given: dict[str, str], expected: str) -> None:
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    for name in (*TOP_LEVEL, "migrations"):
        (tmp_path / name).mkdir()
    pip = tmp_path / ".venv" / "tools" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\nprintf %s "$PIP_CERT" > cert\n')
    pip.chmod(0o700)
    environment = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "PIP_CERT")}
    subprocess.run(
        ["make", "--silent", "PYTHON=true", ".venv/tools/bin/uv"],
        cwd=tmp_path,
        env=environment | given,
        timeout=BUILD_LIMIT_S,
        check=True,
    )
    assert (tmp_path / "cert").read_text() == expected
