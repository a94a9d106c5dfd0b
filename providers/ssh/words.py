"""What the system's `ssh` says of a connection that failed (at its log level DEBUG1, in English), as our failure."""

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint

_REACHED = (
    ("session", "Authenticated to "),
    ("authentication", "SSH2_MSG_NEWKEYS received"),
    ("host-key", "Connection established."),
)
"""By which words the stages before it were passed; the last stage first."""
_CHANGED = ("REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known for")
_HINTS = {
    "authentication": "A box may need a moment after its start until it knows the key; otherwise check the login name.",
    "session": "What was begun on the box goes on there.",
}
_DID = {
    "tcp": "no TCP connection",
    "host-key": "no host key",
    "authentication": "not let in with the lease's key",
    "session": "the connection was lost",
}


def failure_of(endpoint: Endpoint, words: str) -> SshFailure:
    """The failure with its stage: `tcp`, `host-key`, `authentication`, `session`."""
    where = f"{endpoint.host}:{endpoint.port}"
    if any(sign in words for sign in _CHANGED):
        return _changed(endpoint)
    stage = next((stage for stage, sign in _REACHED if sign in words), "tcp")
    return SshFailure(f"{where}: {_DID[stage]}: {last_words(words)}.", stage=stage, hint=_HINTS.get(stage))


def last_words(words: str) -> str:
    """The last line that ssh, and not its log, has said."""
    said = [
        line.strip() for line in words.splitlines() if line.strip() and not line.startswith(("debug", "Authenticated "))
    ]
    noise = ("OpenSSH_", "Transferred: ", "Bytes per second: ", "Warning: Permanently added")
    last = next((line for line in reversed(said) if not line.startswith(noise)), "no answer in time")
    return last.rpartition(": ")[2].rstrip(".").lower()


def _changed(endpoint: Endpoint) -> SshFailure:
    from providers.ssh.hostkeys import HostKeyChanged, fingerprint

    try:
        recorded = fingerprint(endpoint.host_key or "")
    except ValueError:
        recorded = "another one"
    return HostKeyChanged(
        f"{endpoint.host}:{endpoint.port}: the host key has changed; {recorded} was recorded.",
        stage="host-key",
        hint=(
            "Another machine may answer at this address now, so nothing was sent to it. If you know that the box"
            " was reinstalled, give it back and lease another one."
        ),
    )
