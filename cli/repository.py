"""Which repository we stand in, read from git's own files (gitrepository-layout(5)): a process costs more than that.

git itself is asked for the root commit, once a commit, and where the files are not what is understood here.
"""

import os
from typing import NamedTuple

from ledger.domain.events import Repository

GIT_TIMEOUT_S = 5
UNDERSTOOD = ("0", "1")
"""Versions of a repository's format that are read here; `extensions` of the second ones are git's own to read."""
HASH_LENGTHS = (40, 64)
LINKS_MAX = 5


class Code(NamedTuple):
    """A repository and the commit that is checked out in it; None where there is none yet."""

    repository: Repository
    commit: str | None


def here(cache_folder: str | None = None) -> Code | None:
    """The repository of the present folder; None outside one.

    Its root commit is not known without git, without a commit, and in a shallow clone. `cache_folder` remembers the
    root commits of the commits that were checked out.
    """
    try:
        folder = os.getcwd()  # noqa: PTH109 - pathlib is not needed here
    except OSError:  # somebody has deleted it under us
        return None
    if "GIT_DIR" in os.environ or "GIT_WORK_TREE" in os.environ:
        return _asked()
    found = _found_from(folder)
    if found is None:
        return None
    top, git_dir, common = found
    config = _read(f"{common}/config")
    head = _head(git_dir, common)
    origin = None if config is None else _origin(config)
    if config is None or origin is None or head is None:
        return _asked()
    commit = head or None
    is_shallow = os.path.exists(f"{common}/shallow")  # noqa: PTH110
    root = None if commit is None or is_shallow else _root_commit(commit, cache_folder)
    return Code(
        Repository(origin=_without_credentials(origin or None), root_commit=root, path=_text(os.fsencode(top))), commit
    )


def is_dirty() -> bool | None:
    """Whether the working tree differs from the commit, files that are new and not ignored included; None unknown."""
    told = _git("status", "--porcelain", "--no-renames", "-z", strip=False)
    return None if told is None else bool(told)


def _found_from(folder: str) -> tuple[str, str, str] | None:
    """The working tree that a folder is in, its git folder, and the one that its linked working trees share."""
    while True:
        candidate = f"{folder}/.git" if folder != "/" else "/.git"
        if os.path.exists(f"{candidate}/HEAD"):  # noqa: PTH110
            return folder, candidate, candidate
        if os.path.isfile(candidate):  # noqa: PTH113
            pointed = (_read(candidate) or "").strip()
            if pointed.startswith("gitdir: "):
                git_dir = os.path.join(folder, pointed.removeprefix("gitdir: "))  # noqa: PTH118
                shared = (_read(f"{git_dir}/commondir") or ".").strip()
                return folder, git_dir, os.path.join(git_dir, shared)  # noqa: PTH118
        parent = os.path.dirname(folder)  # noqa: PTH120
        if parent == folder:
            return None
        folder = parent


def _head(git_dir: str, common: str) -> str | None:
    """The commit of HEAD; empty where there is none yet, None where only git can tell."""
    name = "HEAD"
    for _ in range(LINKS_MAX):
        text = _read(f"{git_dir}/{name}") or _read(f"{common}/{name}")
        if text is None:
            return _packed(common, name)
        text = text.strip()
        if not text.startswith("ref: "):
            return text if _is_hash(text) else None
        name = text.removeprefix("ref: ")
        if name == "refs/heads/.invalid":  # what stands there in a repository whose references are in another format
            return None
    return None


def _packed(common: str, name: str) -> str | None:
    for line in (_read(f"{common}/packed-refs") or "").splitlines():
        commit, _, reference = line.partition(" ")
        if reference == name:
            return commit if _is_hash(commit) else None
    return ""


def _is_hash(text: str) -> bool:
    return len(text) in HASH_LENGTHS and all(digit in "0123456789abcdef" for digit in text)


def _origin(config: str) -> str | None:
    """The URL of `origin` in a repository's configuration; empty where it has none, None where only git can tell."""
    section, url = "", ""
    for raw in config.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
            if line.startswith(("[include", "[extensions", "[url")) or not line.endswith("]"):
                return None
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        if name.lower() == "repositoryformatversion" and value not in UNDERSTOOD:
            return None
        if section == '[remote "origin"]' and name.lower() == "url":
            if any(mark in value for mark in '"\\#;') or url:
                return None
            url = value
    return url


def _root_commit(commit: str, cache_folder: str | None) -> str | None:
    """The oldest root commit behind a commit, from the cache or from git, which walks the whole history for it."""
    path = f"{cache_folder}/{commit}" if cache_folder is not None else None
    known = _read(path) if path is not None else None
    if known is not None and _is_hash(known):
        return known
    roots = _git("rev-list", "--max-parents=0", commit)
    root = roots.splitlines()[-1] if roots else None
    if path is not None and root is not None:
        _remember(path, root)
    return root


def _remember(path: str, root: str) -> None:
    """Best effort: what is not remembered is asked again. The file is whole or not there."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(root)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError:
        pass


def _asked() -> Code | None:
    """The same from git alone."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None:
        return None
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD")
    is_shallow = _git("rev-parse", "--is-shallow-repository") == "true"
    root = None if commit is None or is_shallow else _root_commit(commit, None)
    origin = _without_credentials(_git("config", "--get", "remote.origin.url"))
    return Code(Repository(origin=origin, root_commit=root, path=top), commit)


def _read(path: str) -> str | None:
    """A small file of git's as text, which may hold any bytes; None where it is not there."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return _text(file.read())
    except OSError:
        return None


def _text(name: bytes) -> str:
    """A folder may have any bytes for a name, and the ledger holds text."""
    return name.decode("utf-8", "backslashreplace")


def _git(*arguments: str, strip: bool = True) -> str | None:
    import subprocess

    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
            timeout=GIT_TIMEOUT_S,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return done.stdout.strip() or None if strip else done.stdout


def _without_credentials(url: str | None) -> str | None:
    """An origin may carry a token; the ledger keeps none."""
    if url is None or "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
