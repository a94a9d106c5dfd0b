"""The summary of one run for a CI system: a JUnit file with one test case."""

from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

NOT_XML = frozenset(map(chr, (*range(0xD800, 0xE000), 0xFFFE, 0xFFFF)))
"""Of what is no control character, what XML 1.0 cannot hold."""


class Case(NamedTuple):
    """One run. `failure` is how the command failed, `error` what of ours did; both None where all is well."""

    name: str
    seconds: float
    failure: str | None = None
    error: str | None = None


def document(case: Case) -> str:
    """The file's text."""
    failed, erred = int(case.failure is not None), int(case.error is not None)
    inner = "".join(
        f"<{tag} message={quoteattr(_clean(told))}>{escape(_clean(told))}</{tag}>"
        for tag, told in (("failure", case.failure), ("error", case.error))
        if told is not None
    )
    time = f'time="{case.seconds:.3f}"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name="rentroll" tests="1" failures="{failed}" errors="{erred}" {time}>'
        f'<testcase classname="rentroll.run" name={quoteattr(_clean(case.name))} {time}>{inner}</testcase>'
        "</testsuite>\n"
    )


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(c if c in "\t\n" or (c >= " " and c not in NOT_XML) else "?" for c in text)
