"""The catalogue of behaviours is whole, every one of them is held by a test, and its page says by which."""

import re
from pathlib import Path

import pytest

from tests.behaviours.catalogue import areas, behaviours
from tests.behaviours.held import ID, held
from tests.behaviours.page import page

CHECKOUT = Path(__file__).resolve().parents[2]
CODE = ("ledger", "providers", "cli", "migrations", "tests")
SIZES = {
    "API": 24, "CFG": 19, "CRE": 37, "RDY": 13, "RBK": 17, "KEEP": 8, "REL": 15, "DEL": 18, "CLN": 27, "LST": 13,
    "CRD": 8, "LCK": 15, "SSH": 5, "TCH": 6, "DOC": 3, "SMK": 16, "W": 42, "HOLE": 12, "PEER": 49,
}  # fmt: skip
"""How many behaviours each area has, so that none is lost: 244 scenarios, 42 weaknesses, 12 holes, 49 complaints."""
Held = dict[str, list[str]]


@pytest.fixture(scope="module")
def holders() -> Held:
    return held(CHECKOUT / "tests")


def in_lines(ids: list[str]) -> str:
    """What is missing, readably: an id and its sentence a line."""
    known = behaviours()
    return "\n".join(f"{name}  {known[name].says}" for name in ids)


def test_the_catalogue_is_whole() -> None:
    ids = [(area.name, [behaviour.id for behaviour in area.behaviours]) for area in areas()]
    assert ids == [(name, [f"{name}-{number:02}" for number in range(1, size + 1)]) for name, size in SIZES.items()]


def test_every_behaviour_is_one_sentence() -> None:
    """Of which a table can be made."""
    said = [text for each in behaviours().values() for text in (each.says, each.why_not) if text is not None]
    assert [text for text in said if not re.fullmatch(r"(?:[A-Z`]|fal).*[^. ]\.", text) or "|" in text] == []


def test_every_complaint_names_where_it_was_told() -> None:
    sources = {name: each.sources for name, each in behaviours().items() if name.startswith("PEER-")}
    assert [name for name, urls in sources.items() if not urls] == []
    assert [url for urls in sources.values() for url in urls if not url.startswith("https://")] == []


def test_every_behaviour_has_a_test_or_a_reason_why_there_is_none(holders: Held) -> None:
    missing = [name for name, each in behaviours().items() if name not in holders and each.why_not is None]
    assert missing == [], f"{len(missing)} behaviours are held by no test:\n{in_lines(missing)}"


def test_what_cannot_happen_has_no_test(holders: Held) -> None:
    assert {name: holders[name] for name, each in behaviours().items() if each.why_not and name in holders} == {}


def test_no_test_names_an_unknown_behaviour(holders: Held) -> None:
    assert {name: holders[name] for name in holders.keys() - behaviours().keys()} == {}


def test_every_behaviour_that_the_code_names_is_known() -> None:
    known = behaviours().keys()
    named = {
        (name, path.relative_to(CHECKOUT).as_posix())
        for folder in CODE
        for path in (CHECKOUT / folder).rglob("*.py")
        for name in ID.findall(path.read_text(encoding="utf-8"))
    }
    assert {(name, path) for name, path in named if name not in known} == set()


def test_the_page_is_what_the_catalogue_and_the_tests_say() -> None:
    """Stale? `make docs` writes it anew."""
    assert (CHECKOUT / "docs" / "behaviours.md").read_text(encoding="utf-8") == page()


def test_a_test_is_found_by_its_marker_its_cases_and_the_tables_that_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "test_it.py").write_text(
        'pytestmark = [slow, pytest.mark.holds("W-01")]\n'
        'RULES: list = [pytest.param(1, id="one (W-02)"), pytest.param(2, id="W-03: two", marks=MARK)]\n'
        'MARK = pytest.mark.holds("W-04")\n'
        '@pytest.mark.holds("W-05", "W-06")\n'
        '@pytest.mark.parametrize("number", [*RULES])\n'
        "def test_all_of_it(number): 'W-07'\n"
        "def test_nothing_of_it(): pass\n"
        "def no_test(): pass\n"
    )
    assert held(tmp_path) == {
        "W-01": ["flows/it::all_of_it", "flows/it::nothing_of_it"],
        **{f"W-0{number}": ["flows/it::all_of_it"] for number in range(2, 7)},
    }
    assert ID.findall("W-08 LST-03..05 a-W-09 CRE-100 inst-01") == ["W-08", "LST-03", "W-09"]
