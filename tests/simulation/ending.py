"""The end of a run: nothing goes wrong any more, the owning key is back, and `watch` does the rest."""

from collections.abc import Callable

from ledger.domain.claim import Claim, attention, moment
from ledger.domain.errors import RentrollError
from tests.flows.world import Program
from tests.simulation.commands import a_pass, binding_of
from tests.simulation.story import Story
from tests.simulation.witness import Witness
from tests.simulation.world import PRIVATE, SimulatedWorld

MINUTE_S = 60
FIRST_PASSES = 5
LATER_S = 150
TWO_HOURS_S = 7200
MOST_PASSES = 200
SUSPECTS_S = (600, 1800, 3600)
"""How long after everything else a late box of a lease that is over is still looked for."""
LONGEST_WAIT_S = 4 * 3600
CROSSINGS_MAX = 3000


class Ending:
    """The passes until nothing of ours is left, and what has to hold then."""

    def __init__(self, world: SimulatedWorld, witness: Witness, told: list[str], tell: Callable[[str], None]) -> None:
        self._world = world
        self._witness = witness
        self._told = told
        self._tell = tell
        self._programs: dict[str, Program] = {}

    def bring_about(self) -> None:
        """Passes, and the judgement."""
        self._tell("the end: everything is in order again")
        self._world.cloud.restore()
        self._world.time.put_wall(0)
        self._catch_up()
        began_ms = self._world.time.elapsed_ms
        for number in range(MOST_PASSES):
            self._pass()
            over_s = (self._world.time.elapsed_ms - began_ms) / 1000
            if self._is_done() or (over_s > TWO_HOURS_S and not self._unexcused()) or over_s > 3 * TWO_HOURS_S:
                break
            self._world.time.wait(self._pause_s(number))
        if any(claim.suspect for claim in self._claims()):
            for later_s in SUSPECTS_S:
                self._world.time.wait(later_s)
                self._pass()
        self._judge()

    def _catch_up(self) -> None:
        """A clock that was ahead has left facts from the future; nothing is believed before they are past."""
        newest = max((row.recorded_at for row in self._world.reader.rows()), default=None)
        if newest is not None:
            self._world.time.wait(max(0.0, (moment(newest) - self._world.clock.now()).total_seconds()) + 1)

    def _pass(self) -> None:
        program = self._program()
        try:
            for done in a_pass(self._world, program, waits=True):
                if done.error is not None:
                    self._told.append(str(done.error))
                self._tell(f"{done.action.action} {done.action.slug}: {done.result} {done.error or ''}")
        except RentrollError as failure:
            self._tell(f"the pass failed: {failure}")
        self._witness.look()

    def _program(self) -> Program:
        """A process with the key that owns what is open."""
        claims = [claim for claim in self._claims() if claim.is_open] or [c for c in self._claims() if c.suspect]
        wanted = claims[0].credential_binding if claims else None
        for key in self._world.cloud.keys:
            if key not in self._programs or len(self._programs[key].boundaries.crossed) > CROSSINGS_MAX:
                self._programs[key] = self._world.program(key=key)
            if wanted is not None and binding_of(self._programs[key], key) == wanted:
                return self._programs[key]
        return self._programs[self._world.cloud.keys[-1]]

    def _claims(self) -> list[Claim]:
        return self._world.reader.claims(include_released=True)

    def _is_done(self) -> bool:
        return not any(claim.is_open for claim in self._claims()) and not self._living() and self._is_spool_empty()

    def _pause_s(self, number: int) -> float:
        """A pass a minute at first; as long as only boxes in their time are there, until the first one's is over."""
        claims = [claim for claim in self._claims() if claim.is_open]
        if claims and all(c.phase in ("ready", "provisioning") and not c.suspect and not c.stop_reason for c in claims):
            now = self._world.clock.now()
            until_s = min((moment(claim.expires_at) - now).total_seconds() for claim in claims)
            return min(max(float(MINUTE_S), until_s), LONGEST_WAIT_S)
        return MINUTE_S if number < FIRST_PASSES else LATER_S

    def _living(self) -> list[tuple[str, Story]]:
        ours = {story.public_key: story for story in self._witness.stories.leases.values()}
        return [(box.id, ours[box.public_key]) for box in self._world.boxes() if box.public_key in ours]

    def _is_spool_empty(self) -> bool:
        folder = self._world.spool_folder
        return not folder.exists() or not any(folder.iterdir())

    def _unexcused(self) -> list[Claim]:
        """The open leases that evidence could have settled."""
        return [claim for claim in self._claims() if claim.is_open and not self._is_beyond_proof(claim)]

    def _is_beyond_proof(self, claim: Claim) -> bool:
        """Whether a box that could be its own says nothing, and a person is told so."""
        story = self._witness.stories.leases[claim.lease_id]
        mute = [
            box
            for box in self._world.boxes()
            if box.id in self._world.cloud.foreign
            and box.id not in story.ids_before
            and (box.ssh_policy in ("every-key", "anybody") or box.ip is None)
        ]
        return claim.phase == "in-doubt" and bool(mute) and attention(claim, self._world.clock.now()) is not None

    def _judge(self) -> None:
        note = self._witness.note
        for claim in self._unexcused():
            note("ends", f"{claim.lease_id} is {claim.phase} for ever")
        excused = {claim.lease_id for claim in self._claims() if claim.is_open}
        for box, story in self._living():
            if story.lease_id not in excused:
                note("ends", f"{box} of {story.lease_id} runs for ever")
        is_late = any(story.is_late for story in self._witness.stories.leases.values())
        if not self._is_spool_empty() and not is_late:
            note("ends", "an id waits in the spool for ever")
        for claim in self._claims():
            if not claim.is_open and claim.lease_id in self._world.key_folders():
                note("ends", f"the key of {claim.lease_id} is kept for ever")
        for problem in self._world.verification().problems:
            note("projection", str(problem))
        self._keep_secrets()

    def _keep_secrets(self) -> None:
        """Rule 8: no key of the account, and no private key, in any fact, line or error."""
        written = [f"{row.actor} {row.payload}" for row in self._world.reader.rows()]
        everything = "\n".join([*written, *self._told])
        secrets = [part for key in (*self._world.cloud.keys, self._world.cloud.stranger) for part in key.split(":")[1:]]
        for secret in (*secrets, PRIVATE):
            if secret in everything:
                self._witness.note("secret", "a key is in the ledger, in what was told or in an error")
