"""The staged readiness check: TCP, host key, authentication, tools. One attempt; retrying is the caller's."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import msgspec

from ledger.domain.errors import SshFailure
from ledger.domain.ports import BoxFacts, Endpoint, RemoteCommand
from providers.ssh.connection import Connection, connect
from providers.ssh.handshake import Limits
from providers.ssh.hostkeys import HostKeyChanged, fingerprint

STAGES = ("tcp", "host-key", "authentication", "tools")
"""The stages of a check, in their order."""
REQUIRED_TOOLS = ("sh", "tar")
RECORDED_TOOLS = ("git", "rsync", "python3")

_MARK = "rentroll-tool:"
_TOOLS_LINE = (
    f"for tool in {' '.join(REQUIRED_TOOLS + RECORDED_TOOLS)}; do"
    f' if command -v "$tool" >/dev/null 2>&1; then echo "{_MARK}$tool"; fi; done'
)
_ANSWER_LIMIT_BYTES = 65_536


def check(endpoint: Endpoint, keys_root: Path, *, ports: Sequence[int] = (), limits: Limits | None = None) -> BoxFacts:
    """Tries the ports in order (the endpoint's own if none is given) and gives the facts of the first that works.

    `keys_root` is the folder of all leases' keys. Raises SshFailure with the furthest stage that was reached, the
    other ports' failures in its hint; a host key that is not the recorded one ends the check at once. When the time of
    `limits` is over no other port is begun with.
    """
    limits = limits or Limits()
    failures: list[SshFailure] = []
    for port in dict.fromkeys(ports or (endpoint.port,)):
        try:
            return _check_port(msgspec.structs.replace(endpoint, port=port), keys_root, limits)
        except HostKeyChanged:
            raise
        except SshFailure as failure:
            failures.append(failure)
        if monotonic() >= limits.end_s:
            break
    furthest = max(failures, key=lambda failure: STAGES.index(failure.stage))
    others = [failure.message for failure in failures if failure is not furthest]
    if not others:
        raise furthest
    hint = " ".join(part for part in (furthest.hint, "Also:", *others) if part)
    raise SshFailure(furthest.message, stage=furthest.stage, hint=hint) from furthest


def _check_port(endpoint: Endpoint, keys_root: Path, limits: Limits) -> BoxFacts:
    with connect(endpoint, keys_root, limits=limits) as connection:
        tools = _tools(connection, limits)
        missing = [tool for tool in REQUIRED_TOOLS if not tools[tool]]
        if missing:
            raise SshFailure(
                f"{connection.where}: the box lacks {' and '.join(missing)}.",
                stage="tools",
                hint="rentroll needs sh and tar on the box; install them, or use another image.",
            )
        return BoxFacts(
            port=endpoint.port,
            host_key=connection.host_key,
            host_key_fingerprint=fingerprint(connection.host_key),
            tools=tools,
        )


def _tools(connection: Connection, limits: Limits) -> dict[str, bool]:
    """Asks the box once which tools it has. Raises SshFailure (stage `tools`) where it does not answer."""
    answer = bytearray()

    def keep(chunk: bytes) -> None:
        answer.extend(chunk[: _ANSWER_LIMIT_BYTES - len(answer)])

    command = RemoteCommand(line=_TOOLS_LINE, stdin=None, on_stdout=keep, on_stderr=lambda _chunk: None)
    tools_s = limits.left_of(limits.tools_s)
    end_s = monotonic() + tools_s
    try:
        with connection.start(command, timeout_s=tools_s) as session:
            session.hurry()  # nothing is lost where the question is cut off, so that needs no patience
            session.wait(max(0.0, end_s - monotonic()))
    except SshFailure as failure:
        raise SshFailure(failure.message, stage="tools", hint=failure.hint) from failure
    except TimeoutError as error:
        raise SshFailure(
            f"{connection.where}: the box did not say within {tools_s:.3g} s which tools it has.", stage="tools"
        ) from error
    found = answer.decode("utf-8", "replace").split()
    return {tool: f"{_MARK}{tool}" in found for tool in REQUIRED_TOOLS + RECORDED_TOOLS}
