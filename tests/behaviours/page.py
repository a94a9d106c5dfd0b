"""The page of behaviours as Markdown: `python -m tests.behaviours.page docs/behaviours.md`.

A test compares the file with what this makes, so that it is never stale.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.behaviours.catalogue import Area, Behaviour, areas
from tests.behaviours.held import held

TESTS = Path(__file__).parents[1]
MOST_NAMED = 3
"""How many tests a row names; the others are counted."""
HEAD = """# Behaviours

Made from `tests/behaviours` and the tests' markers by `make docs`; do not edit.

What a careful client of fal Compute has to hold: what may cost money, touch somebody else's box or leak a secret, and
what a user sees. Comments name a behaviour by its id, as in `CRE-08`; a test names what it holds in its marker,
`@pytest.mark.holds("CRE-08")`, or in the name of one of its cases. Ids that begin with `W` are weaknesses that such
clients are known to have, `HOLE` and `PEER` what their users met and told of; each says what rentroll does instead.
The last column names tests as `folder/file::name`, without `test_`. A test fails while an id has neither a test nor a
reason why there can be none. Rules by number are those of `docs/architecture.md`.
"""


def page() -> str:
    """The whole document."""
    holders = held(TESTS)
    return "\n".join([HEAD, *(line for area in areas() for line in _section(area, holders))])


def _section(area: Area, holders: dict[str, list[str]]) -> Iterator[str]:
    has_sources = any(behaviour.sources for behaviour in area.behaviours)
    yield f"## {area.name}: {area.title}\n"
    yield f"| id | behaviour |{' told at |' if has_sources else ''} held by |"
    yield f"|---|---|{'---|' if has_sources else ''}---|"
    for behaviour in area.behaviours:
        told_at = f" {_links(behaviour.sources)} |" if has_sources else ""
        yield f"| {behaviour.id} | {behaviour.says} |{told_at} {_where(behaviour, holders.get(behaviour.id, []))} |"
    yield ""


def _links(sources: Sequence[str]) -> str:
    return "<br>".join(f"<{source}>" for source in sources)


def _where(behaviour: Behaviour, tests: Sequence[str]) -> str:
    if behaviour.why_not is not None:
        return f"No test: {behaviour.why_not}"
    if not tests:
        return "nothing yet"
    more = len(tests) - MOST_NAMED
    named = [f"`{name}`" for name in tests[:MOST_NAMED]]
    return "<br>".join([*named, f"and {more} more"] if more > 0 else named)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
