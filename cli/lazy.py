"""A stand-in for `inspect`, which click imports but hardly ever uses and which is a quarter of click's cost.

The stand-in loads the real module when one of its names is first asked for. The standard library's LazyLoader does
not serve here: a second `import` statement of the same module already loads it (CPython 3.11 reads `__spec__`).
"""

import importlib
import sys
from types import ModuleType
from typing import Any

DEFERRED = "inspect"


class _Deferred(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(DEFERRED) is self:
            del sys.modules[DEFERRED]
        return getattr(importlib.import_module(DEFERRED), attribute)


def defer_inspect() -> None:
    """Lets `import inspect` cost nothing until one of its names is used."""
    if DEFERRED not in sys.modules:
        sys.modules[DEFERRED] = _Deferred(DEFERRED)
