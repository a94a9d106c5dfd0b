"""What is left out unless git tracks it or `.rentrollignore` asks for it: made by tools, rarely meant, often large.

Names of whole parts of a path, of folders and files alike; and every folder with a `pyvenv.cfg`, whatever its name.
"""

VERSION_CONTROL = frozenset((b".git", b".hg", b".svn", b".bzr", b".jj", b"_darcs", b"CVS"))
ENVIRONMENTS = frozenset((b".venv", b"venv", b".direnv"))
PACKAGES = frozenset((b"node_modules",))
CACHES = frozenset(
    (
        *(b"__pycache__", b".mypy_cache", b".pytest_cache", b".ruff_cache", b".hypothesis", b".tox", b".nox"),
        *(b".ipynb_checkpoints", b".cache", b".gradle", b".parcel-cache", b".turbo", b".DS_Store"),
    )
)
OURS = b".rentroll-"
"""How the names of files begin that a copy of ours has not finished."""
EXCLUDED = VERSION_CONTROL | ENVIRONMENTS | PACKAGES | CACHES
VENV_MARK = b"pyvenv.cfg"


def excludes(name: bytes) -> bool:
    """Whether a file or a folder is left out by its name."""
    return name in EXCLUDED or name.startswith(OURS)


def excluded_part(path: bytes) -> bytes | None:
    """The path up to the first part that a name excludes; None where none does. A folder may end in `/`."""
    parts = path.split(b"/")
    if EXCLUDED.isdisjoint(parts) and OURS not in path:
        return None
    first = next((i for i, part in enumerate(parts) if excludes(part)), None)
    return None if first is None else b"/".join(parts[: first + 1])


def environments(paths: list[bytes]) -> tuple[bytes, ...]:
    """The virtual environments of whatever name among these files: their folders, each ending in `/`."""
    mark = b"/" + VENV_MARK
    return tuple(path.removesuffix(VENV_MARK) for path in paths if path.endswith(mark))


def reason(part: bytes) -> str:
    """Why a part of a path is excluded, for people; an empty one stands for a virtual environment by its mark."""
    if part in VERSION_CONTROL:
        return "version control"
    if part.startswith(OURS):
        return "an unfinished copy of ours"
    if part in PACKAGES:
        return "installed packages"
    return "cache" if part in CACHES else "virtual environment"
