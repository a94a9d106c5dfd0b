"""What happens to the world by itself, at whatever boundary."""

from collections.abc import Sequence
from contextlib import suppress

from providers.emulator.registry import NoCapacity
from providers.emulator.serve import ACCOUNT
from tests.simulation.steps import (
    AnswerWithOther,
    ForeignComes,
    ForeignGoes,
    NewKey,
    PutFault,
    Refuse,
    RevokeOld,
    SetWall,
    Step,
    Suspend,
    Vanish,
)
from tests.simulation.world import SimulatedWorld


def happen(world: SimulatedWorld, step: Step) -> None:
    """Lets it happen. What has no object here changes nothing: a shortened run may lack it."""
    cloud = world.cloud
    living = [box.id for box in world.boxes()]
    match step:
        case PutFault(fault):
            cloud.add_fault(fault)
        case AnswerWithOther():
            if cloud.first_foreign is not None:
                cloud.answer_with_other(cloud.first_foreign)
        case Refuse(calls):
            cloud.refuse(calls)
        case ForeignComes():
            with suppress(NoCapacity):
                _come(world, step)
        case ForeignGoes(which):
            # The first one stays: its id may be what a create is answered with.
            _go(world, which, [box for box in living if box in cloud.foreign[1:]])
        case Vanish(which):
            _go(world, which, [box for box in living if box not in cloud.foreign])
        case NewKey(billing):
            cloud.new_key(billing=billing)
        case RevokeOld():
            cloud.revoke_old()
        case SetWall(seconds):
            world.time.put_wall(seconds)
        case Suspend(seconds):
            world.time.suspend(seconds)
        case _:
            raise AssertionError(f"{step} is nothing that happens to the world")


def _come(world: SimulatedWorld, step: ForeignComes) -> None:
    box = world.cloud.state.add_instance(
        ACCOUNT,
        world.cloud.now(),
        instance_type="gpu_8x_h100_sxm5" if step.eight else "gpu_1x_h100_sxm5",
        public_key=f"ssh-ed25519 stranger{len(world.cloud.foreign)}",
        ready=False,
        ssh_policy=step.policy,
    )
    if not step.lives:
        world.cloud.state.force_status(box, "provisioning")
    world.cloud.foreign.append(box)


def _go(world: SimulatedWorld, which: int, boxes: Sequence[str]) -> None:
    if boxes:
        world.cloud.state.remove_instance(boxes[which % len(boxes)], world.cloud.now())
