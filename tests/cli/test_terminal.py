"""What a person sees: a live line on a terminal, tables within 80 columns, whole seconds."""

import os
import pty
import re
from typing import Any

import pytest

from providers.emulator.faults import Delay, Fault
from providers.emulator.serve import Emulator
from tests.cli.running import Rentroll, spawn

SECONDS = re.compile(r"\d\d:\d\d:\d\d\.\d")


def on_a_terminal(*words: str) -> tuple[int, str]:
    """Runs with stderr on a pseudo-terminal; gives the code and all that was written to it."""
    ours, theirs = pty.openpty()
    with spawn(words, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how Linux says that the other side has closed
            pass
        os.close(ours)
        return process.wait(30), seen.decode()


@pytest.mark.holds("PEER-47")
def test_the_boot_is_one_live_line_with_stage_seconds_and_money(emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="get", effects=(Delay(seconds=0.8),)))
    code, seen = on_a_terminal("--no-color", "warmup", "--slug", "box")
    assert code == 0, seen
    assert re.search(r"  bound inst_\w+ · \d+s · \$0\.00", seen)
    assert "\x1b[2K" in seen
    assert "\x1b[3" not in seen
    assert re.search(r"rentroll: box: ready \(inst_\w+\) rl_\w+", seen)


@pytest.mark.holds("REL-15")
def test_without_a_terminal_progress_is_plain_lines(rentroll: Rentroll) -> None:
    lines = rentroll("warmup", "--slug", "box").err.splitlines()
    assert all(line.startswith("rentroll: box: ") for line in lines)
    assert [line.split()[2] for line in lines if "booting" not in line] == ["requested", "creating", "bound", "ready"]
    assert "\x1b" not in "".join(lines)


def test_tables_fit_80_columns_with_the_longest_slug(rentroll: Rentroll) -> None:
    slug = "a" * 41
    rentroll("warmup", "--slug", slug, "--type", "gpu_8x_h100_sxm5", "--ttl", "100d")
    for words in (("list",), ("cleanup", "--dry-run"), ("types",), ("providers",), ("events",)):
        ran = rentroll(*words)
        assert ran.code == 0
        assert max(map(len, ran.out.splitlines())) <= 80
    assert rentroll("list").out.splitlines()[1].endswith("$0.00")


def test_times_for_people_are_whole_seconds(rentroll: Rentroll, box: Any) -> None:
    said = [rentroll(*words).out for words in (("status", "box"), ("touch", "box"), ("events",), ("list",))]
    said.append(rentroll("warmup", "--slug", "other").out)
    assert [text for text in said if SECONDS.search(text)] == []


@pytest.mark.holds("PEER-25")
def test_a_warm_box_says_that_nobody_watches_it_and_how_to_end_it(rentroll: Rentroll) -> None:
    first, *until, last = rentroll("warmup", "--slug", "box").out.splitlines()
    assert re.fullmatch(r"box is ready: ubuntu@127\.0\.\d\.\d+:\d+ \(inst_\w+\)", first)
    told = r"nobody watches this ledger: until \S+Z nobody will stop this box by itself, and then only whoever types "
    assert re.fullmatch(told + "`rentroll cleanup`", " ".join(map(str.strip, until)))
    assert last == "  rentroll stop box"


def test_the_status_of_a_released_lease_tells_what_it_cost_and_no_provider_status(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    lines = rentroll("status", box["lease_id"]).out.splitlines()
    assert [line.split()[0] for line in lines] == ["lease", "phase", "box", "ssh", "created", "released", "cost"]
    assert lines[1] == "phase     released (completed)"
    assert re.fullmatch(r"cost      \$0\.\d\d at \$3\.00/h \(settings: environment\)", lines[-1])


def test_an_empty_list_says_so(rentroll: Rentroll) -> None:
    assert rentroll("list").out == "no open leases\n"
    assert rentroll("list", "--all").out == "no leases\n"
