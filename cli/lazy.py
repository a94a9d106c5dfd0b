"""Imports click and msgspec without the modules that they name but hardly ever use: a third of their cost.

While one of them is imported, stand-ins take the place of those modules; afterwards they are known only inside it, and
whoever else imports such a module gets the real one. What a stand-in has no answer for it takes from the real module
when it is first asked. `docs/performance.md` has the figures.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def import_lean(library: str) -> None:
    """Makes sure that click or msgspec is imported, cheaply. For the start of a process, while it has one thread."""
    if library in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    stand_ins: dict[str, Any] = {
        name: answers if answers is None else _StandIn(name, answers)
        for name, answers in _ANSWERS[library].items()
        if name not in modules
    }
    modules.update(stand_ins)  # None makes the import of a module fail
    try:
        import_module(library)
    finally:
        for name, stand_in in stand_ins.items():
            if modules.get(name, import_lean) is stand_in:
                del modules[name]
    if "uuid" in stand_ins:
        del stand_ins["uuid"].UUID  # a substitute will do to define click.UUID, not to use it


class _StandIn(ModuleType):
    """Answers from a few names of its own, and from the real module otherwise."""

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


def _system() -> str:
    return os.uname().sysname


_ANSWERS: dict[str, dict[str, dict[str, Any] | None]] = {
    "click": {
        "inspect": {"cleandoc": _cleandoc},
        # click has no translations, and to look for one on each message costs more than to parse the command line.
        "gettext": {"gettext": _gettext, "ngettext": _ngettext},
        "uuid": {"UUID": str},
    },
    "msgspec": {
        # It then takes the same names from typing.
        "typing_extensions": None,
        # uuid asks it for the system's name, which there is just that.
        "platform": {"system": _system},
        "textwrap": {},
    },
}
