"""The machines of the emulated fal: made, shown, stopped, each as of a given time. No HTTP here, no clock."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec.structs import replace

from providers.emulator.machines import InstanceView, Machine, Settings, SshPolicy, view


class NoCapacity(Exception):
    """Every address is in use."""


class Registry:
    """Every machine there ever was, in the order of creation. Ids follow from `seed` and a counter."""

    def __init__(self, settings: Settings, seed: str) -> None:
        self._settings = settings
        self._seed = seed
        self._machines: dict[str, Machine] = {}
        self._last_index = 0

    def create(
        self,
        account: str,
        instance_type: str,
        now: datetime,
        *,
        public_key: str | None,
        sector: str | None = None,
        instance_id: str | None = None,
        late_s: float = 0.0,
        ssh_policy: SshPolicy = "own-key",
        authorized_keys: str | None = None,
    ) -> Machine:
        """Makes a machine that reads show after `late_s`.

        Raises `NoCapacity` when every address is taken and `ValueError` for an id that exists.
        """
        machine = Machine(
            id=instance_id or self._next_id(),
            account=account,
            instance_type=instance_type,
            region=self._settings.region,
            sector=sector,
            public_key=public_key,
            address_index=self._free_index(now),
            created_at=now,
            ready_at=now + timedelta(seconds=self._settings.boot_s),
            visible_from=now + timedelta(seconds=late_s),
            ssh_policy=ssh_policy,
            authorized_keys=authorized_keys,
        )
        if machine.id in self._machines:
            raise ValueError(f"instance {machine.id} exists")
        self._machines[machine.id] = machine
        self._last_index = machine.address_index or 0
        return machine

    def delete(self, instance_id: str, now: datetime, linger_s: float) -> None:
        """Stops a machine for good; reads show it for `linger_s` more. A repeat changes nothing."""
        machine = self._machines[instance_id]
        if machine.deleted_at is None:
            self._machines[instance_id] = machine.deleted(now, linger_s)

    def force_status(self, instance_id: str, status: str | None) -> None:
        """Pins the status that fal reports until it is deleted; None lets it follow time again."""
        self._machines[instance_id] = replace(self._machines[instance_id], forced_status=status)

    def set_ssh_policy(self, instance_id: str, policy: SshPolicy) -> None:
        """Changes whom its SSH server lets in from now on. Raises `KeyError` for an unknown id."""
        self._machines[instance_id] = replace(self._machines[instance_id], ssh_policy=policy)

    def existing(self, instance_id: str, account: str, now: datetime) -> Machine | None:
        """The account's machine that is there, or still being deleted, whether or not reads show it."""
        machine = self._machines.get(instance_id)
        if machine is None or machine.account != account:
            return None
        return None if machine.visible_until is not None and now >= machine.visible_until else machine

    def find_shown(self, instance_id: str, account: str, at: datetime) -> Machine | None:
        """The account's machine of that id, if a read as of `at` shows it."""
        machine = self._machines.get(instance_id)
        return machine if machine and machine.account == account and machine.shown(at) else None

    def shown(self, account: str, at: datetime) -> list[Machine]:
        """What a read of the account shows as of `at`, in the order of creation."""
        return [machine for machine in self._machines.values() if machine.account == account and machine.shown(at)]

    def views(self, now: datetime) -> tuple[InstanceView, ...]:
        """Everything there ever was."""
        return tuple(view(machine, now, self._settings) for machine in self._machines.values())

    def answering_ssh(self, now: datetime) -> tuple[InstanceView, ...]:
        """The machines whose SSH server is up."""
        return tuple(view(machine, now, self._settings) for machine in self._up(now))

    def next_change(self, now: datetime) -> datetime | None:
        """When the next SSH server comes or goes, if nothing else happens; None for never."""
        moments = (
            moment
            for machine in self._machines.values()
            if machine.deleted_at is None
            for moment in machine.changes(self._settings)
        )
        return min((moment for moment in moments if moment > now), default=None)

    def _up(self, now: datetime) -> Iterator[Machine]:
        return (machine for machine in self._machines.values() if machine.answers_ssh(now, self._settings))

    def _next_id(self) -> str:
        number = len(self._machines) + 1
        return "inst_" + hashlib.sha256(f"{self._seed}:{number}".encode()).hexdigest()[:16]

    def _free_index(self, now: datetime) -> int:
        # The addresses go round, so that a new box seldom has the address of one that has just gone.
        used = {
            machine.address_index
            for machine in self._machines.values()
            if machine.visible_until is None or now < machine.visible_until
        }
        count = len(self._settings.addresses)
        for step in range(count):
            index = (self._last_index + step) % count + 1
            if index not in used:
                return index
        raise NoCapacity
