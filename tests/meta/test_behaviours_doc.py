"""The ids of behaviours that the code names are explained in `docs/behaviours.md`."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([A-Z]+-\d\d) \| \S.*\. \|$", re.MULTILINE)
FOLDERS = ("ledger", "providers", "cli", "migrations", "tests")


def test_every_behaviour_that_the_code_names_is_on_the_page_once() -> None:
    explained = ROW.findall((CHECKOUT / "docs" / "behaviours.md").read_text(encoding="utf-8"))
    assert sorted(set(explained)) == sorted(explained)
    areas = "|".join({name.partition("-")[0] for name in explained})
    named = {
        (name, path.relative_to(CHECKOUT).as_posix())
        for folder in FOLDERS
        for path in (CHECKOUT / folder).rglob("*.py")
        for name in re.findall(rf"\b(?:{areas})-\d\d\b", path.read_text(encoding="utf-8"))
    }
    assert sorted((name, path) for name, path in named if name not in explained) == []
