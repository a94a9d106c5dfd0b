"""docs/lifecycle.md says what the code does."""

import re
from pathlib import Path

import pytest

from ledger.domain import diagram
from ledger.domain.events import LeaseEvent
from ledger.domain.refusals import REFUSALS
from ledger.domain.state import Phase

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_the_page_is_what_the_code_says() -> None:
    """Stale? `python -m ledger.domain.diagram docs/lifecycle.md` writes it anew."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == diagram.rewritten(page)


def test_the_exploration_meets_every_event_and_every_refusal() -> None:
    """So that no row of the page is empty and no rule is out of reach."""
    lifecycle = diagram.explore()
    assert {move.type for move in lifecycle.moves} == {kind.TYPE for kind in LeaseEvent.__args__}
    assert {refusal.name for refusal in lifecycle.refusals} == set(REFUSALS)


def test_every_phase_is_told_in_its_own_words() -> None:
    """The prose has one paragraph a phase, in order, each with what a crash in it leaves."""
    prose = PAGE.read_text(encoding="utf-8")
    told = re.findall(r"^\*\*([a-z-]+)\.\*\*(?:.+\n)+?\*A crash here\*", prose, re.MULTILINE)
    assert told == [str(phase) for phase in Phase]


def test_a_page_is_rewritten_in_place(tmp_path: Path) -> None:
    """The command restores a spoilt block and leaves the words around it alone."""
    fresh = PAGE.read_text(encoding="utf-8")
    page = tmp_path / "lifecycle.md"
    page.write_text(fresh.replace("create-sent", "spoilt"), encoding="utf-8")
    diagram.main(page)
    assert page.read_text(encoding="utf-8") == fresh


def test_a_page_without_its_markers_is_refused() -> None:
    """Nothing is written where it is not clear where."""
    with pytest.raises(ValueError, match="no block marked <!-- generated: diagram -->"):
        diagram.rewritten("# The lifecycle of a lease\n")
