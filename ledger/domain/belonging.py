"""Whose a lease is: the repository that leased it, known by its origin and its root commit; the path is a hint."""

from ledger.domain.events import Repository

DEFAULT_PORTS = {"ssh": "22", "https": "443", "http": "80", "git": "9418"}


def is_same(one: Repository, other: Repository) -> bool:
    """Whether two looks saw one repository.

    Both origins and both root commits have to agree. Where one of the two is not known on both sides the other one
    decides, and the path where neither is.
    """
    same_origin = _agree(_place(one.origin), _place(other.origin))
    same_root = _agree(one.root_commit, other.root_commit)
    if same_origin is None and same_root is None:
        return one.path == other.path
    return same_origin is not False and same_root is not False


def in_words(repository: Repository) -> str:
    """A repository as people know it: its origin, or its path."""
    return repository.origin or repository.path or f"the one of root commit {repository.root_commit}"


def _agree(one: str | None, other: str | None) -> bool | None:
    return None if one is None or other is None else one == other


def _place(origin: str | None) -> str | None:
    """What an origin names, however it is spelled (git-clone(1)): `git@host:a/b.git` is `https://host/a/b`."""
    if origin is None:
        return None
    scheme, separator, rest = origin.partition("://")
    if separator:
        host, _, path = rest.partition("/")
        host = host.rpartition("@")[2].lower().removesuffix(f":{DEFAULT_PORTS.get(scheme.lower(), '')}")
        if scheme.lower() == "file":
            host = ""
    else:
        host, colon, path = origin.partition(":")
        if not colon or "/" in host:  # a path, of this machine
            return origin.rstrip("/").removesuffix(".git")
        host = host.rpartition("@")[2].lower()
    return f"{host}/{path.strip('/').removesuffix('.git')}"
