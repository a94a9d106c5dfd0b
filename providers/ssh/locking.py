"""Taking a workspace's lock, over a new channel to the agent, which then holds it."""

from collections.abc import Callable
from typing import Any

from ledger.domain.ports import Holder, Place, WorkspaceBusy
from providers.ssh.agent_session import ANSWER_S, AgentSession, open_session
from providers.ssh.channel import Opener


def take_lock(
    opener: Opener,
    place: Place,
    holder: Holder,
    *,
    wait_s: float,
    waiting: Callable[[Holder], None],
    meanwhile: Callable[[], None],
) -> tuple[AgentSession, int]:
    """A channel that holds the workspace's lock, and its token. Raises WorkspaceBusy after `wait_s` seconds.

    `meanwhile` is done while the box starts: that is time which is waited for otherwise.
    """

    def first(new: AgentSession) -> None:
        new.send({"op": "lock", "holder": _told(holder), "wait_ms": round(wait_s * 1000)})
        meanwhile()

    session = open_session(opener, place, first=first)
    try:
        told = session.hear("waiting", "locked", "busy", timeout_s=ANSWER_S)
        if told["is"] == "waiting":
            waiting(_holder(told["holder"]))
            told = session.hear("locked", "busy", timeout_s=wait_s + ANSWER_S)
        if told["is"] == "busy":
            held = _holder(told["holder"])
            raise WorkspaceBusy(
                f"{session.where}: the workspace is in use ({held.purpose} of process {held.pid} on {held.host}"
                f"{f', {held.run_id}' if held.run_id else ''}), and was so for {wait_s:g} s.",
                holder=held,
                lease_id=place.lease_id,
            )
        return session, told["token"]
    except BaseException:
        session.close()
        raise


def _told(holder: Holder) -> dict[str, Any]:
    return {"run": holder.run_id, "host": holder.host, "pid": holder.pid, "purpose": holder.purpose}


def _holder(told: dict[str, Any]) -> Holder:
    """Who the box says; what it has not been told yet is empty."""
    return Holder(
        run_id=told.get("run"), host=told.get("host", "?"), pid=told.get("pid", 0), purpose=told.get("purpose", "?")
    )
