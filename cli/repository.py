"""Which repository we stand in, as git knows it."""

import os
import subprocess

from ledger.domain.events import Repository

GIT_TIMEOUT_S = 5


def here() -> Repository | None:
    """The repository of the present folder: its origin and root commit; None outside one or without git."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None:
        return None
    roots = _git("rev-list", "--max-parents=0", "HEAD")
    return Repository(
        origin=_without_credentials(_git("remote", "get-url", "origin")),
        root_commit=roots.splitlines()[-1] if roots else None,
        path=top,
    )


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",  # a folder may have any bytes for a name, and the ledger holds text
            check=False,
            timeout=GIT_TIMEOUT_S,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _without_credentials(url: str | None) -> str | None:
    """An origin may carry a token; the ledger keeps none."""
    if url is None or "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
