"""SIGTERM and SIGINT of real programs while their create is at fal's door: held back once, at once the second time."""

import signal

import pytest

from providers.emulator.serve import Emulator
from tests.cli.leftovers import booted
from tests.cli.running import Rentroll, finish
from tests.kills.door import Door
from tests.kills.left import GONE, MADE, WARMUP, Left, left, process_of, wait_for_call, wait_for_line

SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


@pytest.mark.holds("W-17")
@SIGNALS
def test_a_first_signal_waits_for_the_creates_answer_and_the_box_is_rolled_back(
    emulator: Emulator, door: Door, number: signal.Signals, code: int
) -> None:
    with process_of(*WARMUP) as process:
        with door.held("create") as post:
            post.arrived()
            process.send_signal(number)
            wait_for_line(process, "giving back (once more to leave at once); to finish by hand: rentroll stop job")
        ran = finish(process)
    assert (ran.code, left(emulator)) == (
        code,
        Left(
            [
                "create-requested",
                "create-sent",
                "instance-id-bound",
                "rollback",
                "delete-requested",
                "delete-accepted",
                "deletion-confirmed",
                "released",
            ],
            [MADE, GONE],
            0,
        ),
    )


@SIGNALS
def test_a_second_signal_leaves_at_once_and_the_ledger_knows_what_may_have_been_made(
    rentroll: Rentroll, emulator: Emulator, door: Door, number: signal.Signals, code: int
) -> None:
    with door.held("create") as post:
        with process_of(*WARMUP) as process:
            post.arrived()
            process.send_signal(number)
            wait_for_line(process, "giving back")
            process.send_signal(number)
            ran = finish(process)
        assert (ran.code, left(emulator)) == (code, Left(["create-requested", "create-sent"], [], 0))
    wait_for_call(emulator, MADE)
    booted(emulator)

    recovered = rentroll("recover", "--json")

    assert (recovered.code, left(emulator)) == (
        0,
        Left(
            [
                "create-requested",
                "create-sent",
                "acquire-fenced",
                "candidate-tried",
                "instance-id-bound",
                "delete-requested",
                "delete-accepted",
                "deletion-confirmed",
                "released",
            ],
            [MADE, GONE],
            0,
        ),
    )
