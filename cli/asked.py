"""What the flags of `run` ask of a job: what it is, its variables, and what is fetched afterwards."""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ledger.domain.errors import UsageFailure

LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
DIGITS = frozenset("0123456789")
SCRIPT_MAX_BYTES = 512 * 1024
"""It travels in one piece."""
QUOTES = ("'", '"')
NOTHING_BEGUN = "nothing was begun"


class Asked(NamedTuple):
    """One job as it was asked for. `kind` is argv, shell or script; `script` the bytes of its file."""

    kind: str
    command: tuple[str, ...]
    script: bytes | None


class Download(NamedTuple):
    """One file or folder to fetch: its name on the box, and here; None is its own name in the present folder."""

    remote: bytes
    local: bytes | None


def asked_of(words: tuple[str, ...], *, shell: bool, script: str | None) -> Asked:
    """What is to run. Raises `UsageFailure` where that is nothing, or two things."""
    if script is not None:
        if words or shell:
            raise UsageFailure("--script is the whole command", hint="leave --shell and the words after -- out")
        return Asked("script", (script,), _script(script))
    if not words:
        raise UsageFailure("no command to run", hint="rentroll run -- CMD…, or --script FILE, or --sync-only")
    return Asked("shell" if shell else "argv", words, None)


def _script(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            script = file.read(SCRIPT_MAX_BYTES + 1)
    except OSError as failure:
        raise UsageFailure(f"cannot read the script {path}: {(failure.strerror or '').lower()}") from None
    if not script.strip():
        raise UsageFailure(f"the script {path} is empty")
    if len(script) > SCRIPT_MAX_BYTES:
        raise UsageFailure(
            f"the script {path} is longer than {SCRIPT_MAX_BYTES} bytes", hint="sync it, and run it there"
        )
    return script


def variables(names: Iterable[str], file: str | None, ours: Callable[[str], str | None]) -> dict[str, str]:
    """The variables of a job: those of `--env-file`, then the values that ours have for `--env`, which win.

    `ours` gives the value of one of our own variables. Raises `UsageFailure`, which never shows a value.
    """
    found = {} if file is None else read_env_file(file)
    for name in names:
        _require_name(name, f"--env {name.partition('=')[0]}")
        value = ours(name)
        if value is None:
            raise UsageFailure(f"--env {name}: there is no variable {name} here", hint="export it first")
        found[name] = value
    return found


def read_env_file(path: str) -> dict[str, str]:
    """The variables of a file of `KEY=VALUE` lines.

    Empty lines and those that begin with `#` are skipped, an `export` before the name as well. The value is all that
    stands behind the first `=`, without the blanks around it; one pair of quotes around the whole of it is taken off.
    Nothing in it is expanded or unescaped, and the last line of a name counts.
    """
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            text = file.read()
    except OSError as failure:
        raise UsageFailure(f"cannot read {path}: {(failure.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise UsageFailure(f"{path} is not UTF-8") from None
    return dict(_variable(line, f"{path}, line {number}") for number, line in _lines(text))


def _lines(text: str) -> Iterable[tuple[int, str]]:
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _variable(line: str, where: str) -> tuple[str, str]:
    name, separator, value = line.partition("=")
    name = name.strip()
    if name.startswith(("export ", "export\t")):
        name = name.removeprefix("export").strip()
    if not separator:
        raise UsageFailure(f"{where}: no = in it", hint="each line is KEY=VALUE")
    _require_name(name, where)
    value = value.strip()
    if "\0" in value:
        raise UsageFailure(f"{where}: a variable cannot hold a zero byte")
    if len(value) > 1 and value[0] in QUOTES and value[-1] == value[0]:
        value = value[1:-1]
    return name, value


def _require_name(name: str, where: str) -> None:
    if not name or name[0] in DIGITS or not set(name) <= LETTERS | DIGITS:
        raise UsageFailure(f"{where}: not the name of a variable", hint="letters, digits and _, and no digit first")


def downloads(texts: Iterable[str]) -> list[Download]:
    """What `--download REMOTE[=LOCAL]` asks for, each time. Raises `UsageFailure` where it would have no place here."""
    found = []
    made: list[str] = []
    for text in texts:
        remote, separator, local = text.partition("=")
        if not remote or (separator and not local):
            raise UsageFailure(f"--download {text}: write it as REMOTE or REMOTE=LOCAL")
        made.append(_place_of(remote, local, made))
        found.append(Download(os.fsencode(remote), os.fsencode(local) if separator else None))
    return found


def _place_of(remote: str, local: str, made: list[str]) -> str:
    """What a download is to be here. Below what an earlier one has `made` there is nothing to look at yet."""
    at = os.path.normpath(local or ".")
    if os.path.isdir(at):  # noqa: PTH112 - pathlib is not needed to run
        at, folder = os.path.normpath(f"{at}/{remote.rstrip('/').rpartition('/')[2]}"), at
    else:
        folder = os.path.dirname(at) or "."  # noqa: PTH120
    if not any(f"{folder}/".startswith(f"{before}/") for before in made):
        _require_folder(folder, "--download")
    return at


def require_file(path: str, flag: str) -> None:
    """Refuses a name as which no file can be written here: the command's end is too late for that."""
    if not path or os.path.isdir(path):  # noqa: PTH112 - pathlib is not needed to run
        raise UsageFailure(f"{flag}: {path or 'nothing'} is not the name of a file", hint=NOTHING_BEGUN)
    if os.path.exists(path):  # noqa: PTH110
        _require_writable(path, flag)
    else:
        _require_folder(os.path.dirname(path) or ".", flag)  # noqa: PTH120


def _require_folder(folder: str, flag: str) -> None:
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UsageFailure(f"{flag}: there is no folder {folder} here", hint=f"make it first; {NOTHING_BEGUN}")
    _require_writable(folder, flag)


def _require_writable(path: str, flag: str) -> None:
    if not os.access(path, os.W_OK):
        raise UsageFailure(f"{flag}: {path} cannot be written", hint=NOTHING_BEGUN)


def shown(command: tuple[str, ...], kind: str) -> str:
    """A command for people, on one line."""
    import shlex

    return " ".join((" ".join(command) if kind == "shell" else shlex.join(command)).split())
