"""paramiko, as everything here imports it: without `invoke`, for which it has one use (`Match exec` in ssh_config).

We read no ssh_config, paramiko goes without where it is missing, and it is a third of the time that the import takes.
"""

import sys

_UNUSED = "invoke"

_is_hidden = _UNUSED not in sys.modules
if _is_hidden:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]  # what the import system takes for a module that is missing
try:
    import paramiko as paramiko  # type: ignore[import-untyped]
finally:
    if _is_hidden:
        del sys.modules[_UNUSED]
