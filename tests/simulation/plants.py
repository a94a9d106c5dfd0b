"""Bugs, each put into the real code on purpose, and the kind of trouble in which it shows."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from ledger.domain import acquiring, ending, windows
from ledger.domain import lease as lease_module
from ledger.domain.errors import RentrollError
from ledger.domain.events import CandidateTried, InstanceIdBound, Released
from ledger.domain.ports import Instance, LeaseLock, Probe
from ledger.domain.state import Lease, Outcome, Phase
from ledger.flows import acquire, create, prove, release, stop
from ledger.flows.book import Book, Entry
from ledger.flows.services import Services
from providers.emulator.faults import Defer, DropAfter, DropBefore, IgnoreDelete
from providers.emulator.messages import Call
from tests.simulation.profiles import EffectOf, Menu
from tests.simulation.steps import Die, ForeignComes, GiveWay, Hang, NewKey, PutFault, Start

Patch = pytest.MonkeyPatch
HOUR_MS = 3_600_000


class Plant(NamedTuple):
    """A bug: how it is planted, the rule that it breaks, and a menu in which it shows within `seeds` runs."""

    name: str
    plant: Callable[[Patch], None]
    rule: str
    menu: Menu
    seeds: int = 30


def _bound_late(patch: Patch) -> None:
    bind = create._bind

    def late(services: Services, lease: Lease, number: int, instance: Instance) -> str | None:
        for _ in range(3):
            with suppress(RentrollError):
                services.provider.get(instance.id)
            services.clock.sleep(1)
        return bind(services, lease, number, instance)

    patch.setattr(create, "_bind", late)


def _replayed_past_the_window(patch: Patch) -> None:
    patch.setattr(windows, "WINDOW_MS", HOUR_MS)
    patch.setattr(create, "WINDOW_MS", HOUR_MS)


def _any_key_believed(patch: Patch) -> None:
    def anybody(_services: Services, lease: Lease, **_: Any) -> Lease:
        return lease

    patch.setattr(release, "own_account", anybody)
    patch.setattr(stop, "own_account", anybody)
    patch.setattr(ending, "require_owning_key", lambda *_: None)


def _never_sent_again(patch: Patch) -> None:
    patch.setattr(release, "_settled", lambda *_: False)


def _released_unconfirmed(patch: Patch) -> None:
    """What was accepted counts as gone: the slug is free, and whether the box is nobody asks."""

    def end_of(lease: Lease) -> Outcome | None:
        if lease.delete_result != "accepted":
            return ending.end_of(lease)
        return Outcome.COMPLETED if lease.ready_at is not None else Outcome.ROLLED_BACK

    def released(lease: Lease, fact: Released, now: Any) -> bool:
        return lease.phase is not Phase.RELEASED if lease.delete_result == "accepted" else judge(lease, fact, now)

    judge = ending.released
    patch.setattr(release, "end_of", end_of)
    patch.setattr(lease_module, "released", released)
    patch.setattr(release, "_confirm", lambda _services, lease, *_: replace(lease, confirmed_at=lease.recorded_at))


def _unlocked_early(patch: Patch) -> None:
    create_box = create.create_box

    def unlocking(services: Services, lease: Lease, lock: LeaseLock, *, stop_at_s: float) -> Lease:
        made = create_box(services, lease, lock, stop_at_s=stop_at_s)
        lock.release()
        return made

    patch.setattr(acquire, "create_box", unlocking)


def _honeypot_adopted(patch: Patch) -> None:
    together = prove._together

    def gullible(probes: Any) -> Probe:
        probe = together(probes)
        return Probe(verdict="accepted", host_key=probe.host_key, detail="") if probe.verdict == "unproven" else probe

    patch.setattr(prove, "_together", gullible)


def _late_id_dropped(patch: Patch) -> None:
    bind = Book.bind

    def of_holder(self: Book, lease_id: str, fact: InstanceIdBound, *, because: CandidateTried | None = None) -> Entry:
        lease = self.load(lease_id)
        if fact.evidence == "create-answer" and lease.acquirer != fact.acquirer:
            return Entry(lease, appended=False)
        return bind(self, lease_id, fact, because=because)

    patch.setattr(Book, "bind", of_holder)


def _replayed_in_flight(patch: Patch) -> None:
    patch.setattr(windows, "IN_FLIGHT_MS", 0)


def _delete_unannounced(patch: Patch) -> None:
    patch.setattr(release, "_announce", lambda _services, lease, *_: (lease, True))


def _replayed_under_another_key(patch: Patch) -> None:
    patch.setattr(acquiring, "_require_same_request", lambda *_: None)


def _key_told(patch: Patch) -> None:
    def in_words(services: Any, _wanted: object) -> str:
        return str(services.provider.client._headers["Authorization"])

    patch.setattr(acquire, "_in_words", in_words)


Faults = Mapping[Call, tuple[EffectOf, ...]]
ACQUIRE_STOP = (("acquire", "stop"), (1, 2))
RECOVERING = (("acquire", "recover", "cleanup", "watch"), (2, 3, 2, 1))
LOST: Faults = {"create": (lambda _: (DropAfter(),), lambda _: (DropBefore(),))}
LATE: Faults = {"create": (lambda _: (Defer(40),), lambda _: (Defer(65),))}
IGNORED: Faults = {"delete": (lambda _: (IgnoreDelete(),),)}

PLANTS = (
    Plant(
        "id bound after the readiness wait",
        _bound_late,
        "id first",
        Menu("quiet", {GiveWay: 1}),
        seeds=2,
    ),
    Plant(
        "replay past the window",
        _replayed_past_the_window,
        "window",
        Menu(
            "held up",
            {PutFault: 1, Hang: 2},
            rate=0.2,
            eventful=0.8,
            faults=LOST,
            calls=("create",),
            hangs_s=(400, 550),
        ),
    ),
    Plant(
        "404 believed under another key",
        _any_key_believed,
        "released",
        Menu("strangers", {GiveWay: 1}, commands=ACQUIRE_STOP, keys=(1, 0, 3), commands_between=(3, 6)),
    ),
    Plant(
        "accepted delete never sent again",
        _never_sent_again,
        "ends",
        Menu("ignored", {PutFault: 1}, eventful=0.7, faults=IGNORED, calls=("delete",), commands=ACQUIRE_STOP),
    ),
    Plant(
        "slug freed before confirmation",
        _released_unconfirmed,
        "released",
        Menu("ignored", {PutFault: 1}, eventful=0.7, faults=IGNORED, calls=("delete",), commands=ACQUIRE_STOP),
    ),
    Plant(
        "lock not held through ready",
        _unlocked_early,
        "fenced",
        Menu("crowd", {GiveWay: 1, Start: 4}, rate=0.3, commands=RECOVERING, commands_between=(4, 8)),
    ),
    Plant(
        "a box that accepts every key adopted",
        _honeypot_adopted,
        "foreign",
        Menu("honeypots", {ForeignComes: 2, Die: 2}, rate=0.3, commands=RECOVERING, policies=(0, 0, 1, 1), lively=1.0),
    ),
    Plant(
        "an id learnt by a fenced holder dropped",
        _late_id_dropped,
        "id first",
        Menu("hung", {Hang: 2, Start: 2}, rate=0.2, commands=RECOVERING, hangs_s=(1200, 1500), commands_between=(4, 8)),
    ),
    Plant(
        "replay while the first POST may still run",
        _replayed_in_flight,
        "in flight",
        Menu("slow", {PutFault: 1}, eventful=0.8, faults=LATE, calls=("create",)),
    ),
    Plant(
        "a DELETE that was not announced",
        _delete_unannounced,
        "announced",
        Menu("quiet", {GiveWay: 1}, commands=ACQUIRE_STOP, commands_between=(3, 6)),
    ),
    Plant(
        "replay under another key",
        _replayed_under_another_key,
        "key",
        Menu(
            "rotated",
            {Die: 2, NewKey: 2, ForeignComes: 2, PutFault: 3},
            eventful=0.8,
            commands=(("acquire", "recover"), (1, 3)),
            commands_between=(3, 6),
            pauses_s=(100, 150),
            lively=0.0,
            faults=LOST,
            calls=("create",),
        ),
    ),
    Plant("the key told", _key_told, "secret", Menu("quiet", {GiveWay: 1})),
)
