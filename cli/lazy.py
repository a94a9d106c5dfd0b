"""Imports click without the modules of the standard library that it names but hardly ever uses: a third of its cost.

While click is imported, stand-ins take the place of `inspect`, `uuid` and `gettext`; afterwards they are known only
inside click, and whoever else imports such a module gets the real one. What a stand-in has no answer for it takes from
the real module when it is first asked. `docs/performance.md` has the figures.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def import_click() -> None:
    """Makes sure that click is imported, cheaply. For the start of the process, while it has one thread."""
    if "click" in sys.modules:
        return
    stand_ins = {name: _StandIn(name, answers) for name, answers in _ANSWERS.items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        import_module("click")
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
    if "uuid" in stand_ins:
        del stand_ins["uuid"].UUID  # a substitute will do to define click.UUID, not to use it


class _StandIn(ModuleType):
    """Answers from a few names of its own, and from the real module otherwise."""

    UUID: Any

    def __init__(self, name: str, answers: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(answers)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            # `from x import y` asks every module for its `__path__`.
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), attribute)


def _cleandoc(doc: str) -> str:
    """`inspect.cleandoc`: every option's help goes through it, one line each."""
    if "\n" not in doc and "\t" not in doc:
        return doc.lstrip(" ")
    return str(import_module("inspect").cleandoc(doc))


def _gettext(message: str) -> str:
    return message


def _ngettext(singular: str, plural: str, number: int) -> str:
    return singular if number == 1 else plural


_ANSWERS: dict[str, dict[str, Any]] = {
    "inspect": {"cleandoc": _cleandoc},
    # click has no translations, and to look for one on each message costs more than to parse the command line.
    "gettext": {"gettext": _gettext, "ngettext": _ngettext},
    "uuid": {"UUID": str},
}
