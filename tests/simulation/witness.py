"""The rules that never bend, checked after every step: what is asked of fal against what the ledger said before."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import unquote

from ledger.domain.claim import Claim
from providers.emulator.machines import InstanceView
from providers.emulator.messages import Request
from tests.simulation.fal import STRAY_S
from tests.simulation.steps import Setup
from tests.simulation.story import Post, Stories, Story
from tests.simulation.world import SimulatedWorld

WINDOW = timedelta(minutes=9)
FLIGHT = timedelta(seconds=70)
"""As the design says, not by the program's own constants, which may be what is wrong: 90 s from the announcement of a
POST, which may be 20 s before it leaves."""


class Violation(NamedTuple):
    """A rule that does not hold, by its name, and how."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


class Witness:
    """Sees every request arrive and every fact that is appended; keeps the first violation.

    `owed` are the leases whose box's id a program was given, by the program's label; `acquirers` the programs that
    lease, by the lease. `sender` gives the label of the program that runs.
    """

    def __init__(self, setup: Setup, sender: Callable[[], str | None]) -> None:
        self.violation: Violation | None = None
        self.stories = Stories()
        self._setup = setup
        self._sender = sender
        self._deletes: Counter[str] = Counter()
        self._asked: dict[str, str] = {}
        self.owed: dict[str, Story] = {}
        self.acquirers: dict[str, str] = {}

    def enter(self, world: SimulatedWorld) -> None:
        self._world = world

    def note(self, rule: str, text: str) -> None:
        """Keeps a violation, the first one."""
        if self.violation is None:
            self.violation = Violation(rule, text)

    def arrives(self, request: Request, is_stray: bool) -> None:
        """A request comes to fal; it is not handled yet."""
        if request.method == "POST":
            self._read()
            self._post(request, is_stray=is_stray)
        elif request.method == "DELETE":
            self._read()
            self._delete(unquote(request.target.rpartition("/")[2]), is_stray=is_stray)

    def look(self) -> None:
        """Everything that has to hold after a step."""
        self._read()
        claims = self._world.reader.claims(include_released=True)
        self._unique(claims)
        made = [box for box in self._world.cloud.instances() if box.public_key in self._ours()]
        self._one_box(made)
        for story in self.stories.ended:
            self._gone(story, made)
        self.stories.ended.clear()
        for box in made:
            if box.deleted_at is None:
                self._known(box, claims)

    def owe(self, label: str) -> None:
        """A program has just been given the id of a lease's own box: it owes its record."""
        story = self.stories.leases.get(self._asked.get(label, ""))
        if story is not None and self._world.cloud.answered.get(story.lease_id) in self._boxes_of(story):
            self.owed[label] = story

    def is_recorded(self, story: Story) -> bool:
        """Whether the id that was answered to the newest attempt is in the ledger, or in the spool."""
        return story.results[-1] != "open" or story.bound is not None or story.lease_id in self._spooled()

    def _boxes_of(self, story: Story) -> list[str]:
        return [box.id for box in self._world.cloud.instances() if box.public_key == story.public_key]

    def _read(self) -> None:
        for row in self._world.reader.rows(after=self.stories.position):
            self.stories.read(row)
        for rule, text in self.stories.wrong:
            self.note(rule, text)
        for box in self._world.cloud.foreign:
            if box in self.stories.holders:
                self.note("foreign", f"{box} is somebody else's, and bound to {self.stories.holders[box]}")

    def _post(self, request: Request, *, is_stray: bool) -> None:
        lease_id = request.headers.get("idempotency-key", "")
        story = self.stories.leases.get(lease_id)
        if story is None or len(story.posts) >= len(story.results):
            self.note("announced", f"a POST of {lease_id} that no create-sent announced")
            return
        if not is_stray:
            self._asked[self._sender() or ""] = lease_id
        story.is_late = story.is_late or self._world.cloud.is_late_send
        sent_at = self._world.cloud.now() - timedelta(seconds=STRAY_S if is_stray else 0)
        key = request.headers.get("authorization", "")
        if story.key not in (None, key):
            self.note("key", f"a POST of {lease_id} under another key than its first one")
        story.key = key
        for before in story.posts if not story.is_late else ():
            self._apart(story, before, sent_at)
        story.posts.append(Post(len(story.results), sent_at))

    def _apart(self, story: Story, before: Post, sent_at: datetime) -> None:
        after_s = sent_at - before.sent_at
        if story.results[before.attempt - 1] in ("open", "unanswered") and abs(after_s) < FLIGHT:
            self.note("in flight", f"a POST of {story.lease_id} {after_s} after one that has no answer")
        if before is story.posts[0] and after_s >= WINDOW:
            self.note("window", f"a POST of {story.lease_id} {after_s} after its first one")

    def _delete(self, box: str, *, is_stray: bool) -> None:
        self._deletes[box] += 1
        if box in self._world.cloud.foreign:
            self.note("foreign", f"a DELETE of {box}, which is somebody else's")
        if self._deletes[box] > self.stories.announced[box] and not self._was_given(box, is_stray=is_stray):
            self.note("announced", f"a DELETE of {box} that no delete-requested announced")

    def _was_given(self, box: str, *, is_stray: bool) -> bool:
        """The one exception: by the process that was given the id in a 201 and could not append it."""
        lease_id = next((one for one, given in self._world.cloud.answered.items() if given == box), None)
        return lease_id is not None and (is_stray or self._asked.get(self._sender() or "") == lease_id)

    def _ours(self) -> dict[str, Story]:
        return {story.public_key: story for story in self.stories.leases.values() if story.twin_of is None}

    def _unique(self, claims: list[Claim]) -> None:
        slugs = Counter(claim.slug for claim in claims if claim.is_open)
        for slug, number in slugs.items():
            if number > 1:
                self.note("unique", f"{number} open leases are called {slug}")

    def _one_box(self, made: list[InstanceView]) -> None:
        ours = self._ours()
        for key, number in Counter(box.public_key or "" for box in made).items():
            if number > 1 and not self._setup.forgetful and not ours[key].is_late:
                self.note("one box", f"{number} boxes were made for {ours[key].lease_id}")

    def _known(self, box: InstanceView, claims: list[Claim]) -> None:
        """A living box of ours is bound to an open lease, or is looked for."""
        story = self._ours()[box.public_key or ""]
        holder = next((claim for claim in claims if claim.instance_id == box.id), None)
        if holder is not None and (holder.is_open or self._setup.lying or holder.outcome == "written-off"):
            return
        claim = next(claim for claim in claims if claim.lease_id == story.lease_id)
        if claim.phase == "in-doubt" or claim.suspect or box.id in self._spooled():
            return
        self.note("known", f"{box.id} of {story.lease_id} ({claim.phase}, {claim.outcome}) runs and nobody knows it")

    def _gone(self, story: Story, made: list[InstanceView]) -> None:
        living = [box.id for box in made if box.id == story.bound and box.deleted_at is None]
        if living and not self._setup.lying and story.outcome not in (None, "written-off"):
            self.note("released", f"{story.lease_id} is released ({story.outcome}) and {living[0]} runs")

    def _spooled(self) -> str:
        folder = self._world.spool_folder
        if not folder.exists():
            return ""
        return "".join(f"{path.name} {path.read_text()}" for path in folder.glob("*.json"))
