"""The commands by name: their module, and the line that `--help` shows without importing it."""

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a command lives, what it does in one line, and whether it only reads rows that are stored."""

    module: str
    summary: str
    only_reads: bool = False


COMMANDS: dict[str, Entry] = {
    "warmup": Entry("warmup", "Lease a box and wait until it is ready."),
    "run": Entry("run", "Lease or reuse a box, run a command on it, give it back."),
    "ssh": Entry("ssh", "Open a session on a box, or run one command there."),
    "cp": Entry("cp", "Copy files and folders to a box or from it."),
    "forward": Entry("forward", "Forward ports of a box to this machine."),
    "ssh-config": Entry("ssh_config", "Name the ready boxes for plain ssh, rsync and editors."),
    "sync": Entry("sync", "Copy the working tree to a box."),
    "sync-plan": Entry("sync_plan", "Show what would be copied, and why."),
    "runs": Entry("runs", "Show what was run, its logs, what still runs; stop it."),
    "list": Entry("list", "Show the open leases, from the ledger alone.", only_reads=True),
    "status": Entry("status", "Show one lease, from the ledger alone.", only_reads=True),
    "touch": Entry("touch", "Renew a lease's idle time, or change its limits."),
    "stop": Entry("stop", "Delete the box, confirm that it is gone, release the lease."),
    "recover": Entry("recover", "Finish what a crash or a fault left open."),
    "cleanup": Entry("cleanup", "Recover, and delete what has expired."),
    "watch": Entry("watch", "Clean up every interval, until stopped."),
    "audit": Entry("audit", "Compare what the account has with what the ledger says."),
    "events": Entry("events", "Show the log.", only_reads=True),
    "verify": Entry("verify", "Check the hash chain and the claims against the log."),
    "rotate": Entry("rotate", "Bind the leases of the old API key to the new one."),
    "doctor": Entry("doctor", "Check the set-up, without changing anything."),
    "providers": Entry("providers", "Show the providers and what they can do.", only_reads=True),
    "types": Entry("types", "Show the instance types and their rates."),
    "config": Entry("config", "Show the effective settings and where each came from."),
    "emulator": Entry("emulator", "Serve the offline fal."),
    "demo": Entry("demo", "The whole story in one command, offline."),
    "live-smoke": Entry("live_smoke", "Prove a whole lease against the real fal; off unless allowed."),
    "completion": Entry("completion", "Print a shell's completion script.", only_reads=True),
}

LATER = (
    "cost", "explain", "ledger", "reconcile", "report",
)  # fmt: skip
"""Commands of the contract that a later release brings: refused, never ignored."""
