"""Imports some libraries without the modules that they name but that we hardly ever use: a third of their cost.

While one of them is imported, stand-ins take the place of those modules; afterwards they are known only inside it,
and whoever else imports such a module gets the real one. What a stand-in has no answer for it takes from the real
module when it is first asked. `docs/performance.md` has the figures.
"""

import os
import sys
from _thread import _local as local  # what `threading.local` is
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


def trim_imports() -> None:
    """From now on the libraries of `_ANSWERS` are imported so."""
    if _Trimmer not in sys.meta_path:
        sys.meta_path.insert(0, _Trimmer)


class _Trimmer:
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _ANSWERS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _TrimmingLoader(name, spec.loader.path)
        return spec


class _TrimmingLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        modules: dict[str, Any] = sys.modules
        stand_ins: dict[str, Any] = {
            name: answers if answers is None else _StandIn(name, answers)
            for name, answers in _ANSWERS[self.name].items()
            if name not in modules
        }
        modules.update(stand_ins)  # None makes the import of a module fail
        try:
            super().exec_module(module)
        finally:
            for name, stand_in in stand_ins.items():
                if modules.get(name, self) is stand_in:
                    del modules[name]
        if "uuid" in stand_ins:
            del stand_ins["uuid"].UUID  # a substitute will do to define click.UUID, not to use it


class _StandIn(ModuleType):
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


def _quote_from_bytes(text: bytes) -> str:
    return str(import_module("urllib.parse").quote_from_bytes(text))


_ANSWERS: dict[str, dict[str, dict[str, Any] | None]] = {
    "click": {
        "inspect": {"cleandoc": _cleandoc},
        # click has no translations, and to look for one on each message costs more than to parse the command line.
        "gettext": {"gettext": _gettext, "ngettext": _ngettext},
        "threading": {"local": local},
        "uuid": {"UUID": str},
    },
    "msgspec": {
        "msgspec.inspect": {},
        # Only uuid asks for it, for the name of the system.
        "platform": {"system": _system},
        "textwrap": {},
        # It then takes the same names from typing.
        "typing_extensions": None,
    },
    # Its command line, with rich, pygments and click.
    "httpx": {"httpx._main": None},
    # For file URLs.
    "pathlib": {"urllib.parse": {"quote_from_bytes": _quote_from_bytes}},
    # For `Match exec` in OpenSSH's configuration, which is not read here.
    "paramiko": {"invoke": None},
}
