"""When a `run` gives its box back: the policy of its flags (scenario REL-14)."""

from typing import NamedTuple

POLICIES = ("success", "failure", "always", "never")
AFTERWARDS = {
    None: "it stays",
    "never": "it stays",
    "always": "it is given back afterwards",
    "success": "it is given back if the command succeeds",
    "failure": "it is given back if the command fails",
}
"""What becomes of a lease that a run did not make, by the policy of --stop-after."""


class Policy(NamedTuple):
    """The flags of one run. By default it gives back what it leased; --stop-after overrides everything."""

    stop_after: str | None
    keep: bool
    keep_on_failure: bool

    def must_release(self, *, is_ours: bool, failed: bool) -> bool:
        """Whether the box goes now that the command has ended."""
        from ledger.flows.work import must_release

        return must_release(
            policy=self.stop_after,
            is_ours=is_ours,
            keep=self.keep,
            keep_on_failure=self.keep_on_failure,
            failed=failed,
        )

    def may_release(self) -> bool:
        """Whether a lease that the run makes can end with it at all."""
        return any(self.must_release(is_ours=True, failed=failed) for failed in (False, True))

    def why_it_stays(self) -> str:
        """What has kept a lease that could have ended with the run, for the log."""
        return f"run --stop-after {self.stop_after}" if self.stop_after is not None else "run --keep-on-failure"
