"""Stop signals, for real: held back, never lost, the stop command first, and the DELETE within two seconds."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.clock import SystemClock
from cli.interrupts import SignalInterrupts
from ledger.domain.errors import Interrupted, ProviderFailure
from providers.emulator.machines import Settings
from providers.emulator.messages import Request
from providers.emulator.serve import Emulator

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
SHIELDED = """
import signal
from cli.interrupts import SignalInterrupts
interrupts = SignalInterrupts()
interrupts.install()
interrupts.stop_command = "rentroll stop gpu-box"
with interrupts.shielded():
    for number in {numbers}:
        signal.raise_signal(number)
    print("still working", flush=True)
"""


@pytest.fixture
def interrupts() -> Iterator[SignalInterrupts]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = SignalInterrupts()
    made.install()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def python(code: str, **options: object) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_names_the_stop_command_and_then_ends_the_work(
    interrupts: SignalInterrupts, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    """On SIGTERM the stop command is printed first."""
    interrupts.stop_command = "rentroll stop gpu-box"

    with pytest.raises(Interrupted) as interrupted:
        signal.raise_signal(number)

    assert (interrupted.value.signal_number, interrupted.value.left) == (number, None)
    assert capfd.readouterr().err == (
        "\nrentroll: giving back (once more to leave at once); to finish by hand: rentroll stop gpu-box\n"
    )


@pytest.mark.usefixtures("interrupts")
def test_the_moment_of_the_first_signal_is_known_inside_a_shield_too() -> None:
    """By the clock that was given."""
    times_s = iter([7.5, 99.0])
    made = SignalInterrupts(lambda: next(times_s))
    made.install()
    seen = [made.asked_at_s]

    def work() -> None:
        with made.shielded():
            signal.raise_signal(signal.SIGTERM)
            seen.append(made.asked_at_s)

    with pytest.raises(Interrupted):
        work()

    assert (seen, made.asked_at_s) == ([None, 7.5], 7.5)


@pytest.mark.holds("RBK-15", "W-17")
def test_a_signal_in_a_shield_arrives_when_the_outermost_one_ends(interrupts: SignalInterrupts) -> None:
    done: list[str] = []

    def work() -> None:
        with interrupts.shielded():
            with interrupts.shielded():
                signal.raise_signal(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("outside")

    with pytest.raises(Interrupted):
        work()

    assert done == ["inner", "outer"]


def test_a_failure_in_a_shield_is_what_the_interrupt_has_left(interrupts: SignalInterrupts) -> None:
    """The exit is that of the signal; what happened and the state are told."""
    failure = ProviderFailure("the box may still bill", lease_id="rl_1")

    with pytest.raises(Interrupted) as interrupted:
        _fail(interrupts, failure)

    assert (interrupted.value.left, interrupted.value.lease_id) == ("the box may still bill", "rl_1")
    assert interrupted.value.__cause__ is failure


def test_a_signal_that_a_bug_overtook_is_raised_at_the_next_shield(interrupts: SignalInterrupts) -> None:
    """The bug is told first; the wish to stop is not forgotten."""
    with pytest.raises(ZeroDivisionError):
        _fail(interrupts, ZeroDivisionError())

    with pytest.raises(Interrupted), interrupts.shielded():
        pass


def test_a_second_signal_ends_the_process_at_once() -> None:
    """Also inside a shield; exit 128 and the signal."""
    process = python(SHIELDED.format(numbers=[signal.SIGINT.value, signal.SIGTERM.value]), stderr=subprocess.PIPE)

    out, err = process.communicate(timeout=LIMIT_S)

    assert (process.returncode, out) == (143, "")
    assert err.splitlines()[-1] == (
        "rentroll: left at once: the ledger knows what is open; to finish by hand: rentroll stop gpu-box"
    )


def test_a_terminal_that_is_gone_does_not_stop_the_give_back() -> None:
    """The reader of stderr has gone: the signal is still an interrupt, not a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    process = python(SHIELDED.format(numbers=[signal.SIGTERM.value]), stderr=writing)
    os.close(writing)

    out, _ = process.communicate(timeout=LIMIT_S)

    assert out == "still working\n"


@pytest.mark.holds("RBK-15")
def test_the_delete_leaves_within_two_seconds_of_sigterm(tmp_path: Path) -> None:
    """A real process that waits for a box which never becomes ready; exit 143, all given back."""
    polled, deleted = threading.Event(), threading.Event()
    moments: dict[str, float] = {}

    def observe(request: Request) -> None:
        if request.method == "GET" and "/instances/" in request.target:
            polled.set()
        if request.method == "DELETE":
            moments.setdefault("delete", time.monotonic())
            deleted.set()

    (tmp_path / "boxes").mkdir()
    settings = Settings(boot_s=3_600.0)
    clock = SystemClock("test")
    with Emulator(tmp_path / "boxes", started_at=clock.now(), settings=settings, observer=observe) as emulator:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "RENTROLL_STATE_DIR": str(tmp_path / "state"),
            "RENTROLL_FAL_POLL_INTERVAL": "0.2",
            **emulator.environment(),
        }
        command = [sys.executable, "-c", "import sys; from cli.main import main; sys.exit(main())", "warmup"]
        with subprocess.Popen(
            [*command, "--slug", "gpu-box"], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as process:
            if not polled.wait(LIMIT_S):
                process.kill()
                pytest.fail(process.communicate()[1])
            asked_s = time.monotonic()
            process.terminate()
            assert deleted.wait(LIMIT_S)
            _, err = process.communicate(timeout=LIMIT_S)
        running = [box for box in emulator.instances() if box.deleted_at is None]

    assert moments["delete"] - asked_s < 2
    assert (process.returncode, running, list((tmp_path / "state/keys").iterdir())) == (143, [], [])
    lines = err.splitlines()
    told = _index(lines, lambda line: line.endswith("to finish by hand: rentroll stop gpu-box"))
    assert told < _index(lines, lambda line: "deleting" in line) < _index(lines, lambda line: "released" in line)


def _fail(interrupts: SignalInterrupts, failure: Exception) -> None:
    """Fails in a shield in which a signal has arrived."""
    with interrupts.shielded():
        signal.raise_signal(signal.SIGINT)
        raise failure


def _index(lines: list[str], matches: Callable[[str], bool]) -> int:
    return next(number for number, line in enumerate(lines) if matches(line))
