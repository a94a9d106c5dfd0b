"""The agent's place on a box: the line that starts it, and how its sources get there.

`<root>/.rentroll/agent-<digest of the sources>/` holds them as this side has them, compiled; another release of ours
has another folder. It is made beside and renamed into place, so that two clients may do so at once.
"""

import os
from functools import cache
from hashlib import sha256

from ledger.domain.ports import Place
from providers.agent import jsontext

NOT_INSTALLED = 97
NO_PYTHON = 96
"""Exit codes of the line that starts the agent, and of the one that installs it."""

_PYTHON = 'p=/usr/bin/python3; [ -x "$p" ] || p=$(command -v python3) || exit 96'
_INSTALL = """
import os, sys
if sys.version_info < (3, 8):
    sys.exit(96)
import json, py_compile, shutil, tempfile
root, name, size = sys.argv[1:]
try:
    files = json.loads(sys.stdin.buffer.read(int(size)))
    os.umask(0o077)
    folder = os.path.join(root, ".rentroll")
    os.makedirs(folder, exist_ok=True)
    new = tempfile.mkdtemp(prefix="agent-new-", dir=folder)
    try:
        for path, text in files.items():
            path = os.path.join(new, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            py_compile.compile(path, doraise=True)
        try:
            os.rename(new, os.path.join(folder, name))
        except OSError:
            if not os.path.isdir(os.path.join(folder, name)):
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
except OSError as error:
    sys.exit("%s: %s" % (error.filename or folder, error.strerror))
"""


@cache
def sources() -> dict[str, str]:
    """The agent's files by their paths in its folder."""
    folder = os.path.dirname(jsontext.__file__)  # noqa: PTH120
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))  # noqa: PTH208
    files = {"providers/__init__.py": ""}
    for name in names:
        with open(f"{folder}/{name}", encoding="utf-8") as file:  # noqa: PTH123
            files[f"providers/agent/{name}"] = file.read()
    return files


@cache
def folder_name() -> str:
    """The name of the folder on the box for just these sources."""
    digest = sha256()
    for path, text in sources().items():
        digest.update(f"{path}\0{len(text)}\0{text}".encode())
    return f"agent-{digest.hexdigest()[:16]}"


def start_line(place: Place) -> str:
    """What a login shell, whichever it is, runs to start the agent; exits 97 where it has to be installed first."""
    entry = f"{_quoted(place.root)}/.rentroll/{folder_name()}/providers/agent/start.py"
    workspace, state = quoted_folders(place)
    return _for_sh(f'e={entry}; [ -f "$e" ] || exit 97; {_PYTHON}; exec "$p" -IS "$e" {workspace} {state}')


def quoted_folders(place: Place) -> tuple[str, str]:
    """The agent's WORKSPACE and STATE, quoted for sh."""
    root, lease = _quoted(place.root), _quote(place.lease_id)
    return f"{root}/{lease}", f"{root}/.rentroll/{lease}"


def install_line(place: Place) -> tuple[str, bytes]:
    """What installs the agent, and what has to be written to its stdin."""
    files = jsontext.encode(sources())
    arguments = f"{_quoted(place.root)} {folder_name()} {len(files)}"
    return _for_sh(f'{_PYTHON}; exec "$p" -IS -c {_quote(_INSTALL)} {arguments}'), files


def _quoted(root: str) -> str:
    root = root.rstrip("/")
    if root == "~" or root.startswith("~/"):
        return f'"$HOME"{_quote(root[1:])}' if root[1:] else '"$HOME"'
    return _quote(root)


def _quote(text: str) -> str:
    """As `shlex.quote`, whose import alone takes longer than all of this."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _for_sh(script: str) -> str:
    return f"exec sh -c {_quote(script)}"
