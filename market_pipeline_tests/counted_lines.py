"""Lines are counted with few interruptions: a plugin of pytest for `make lines`.

slipcover takes its probes out of all lines that were run once one of them was met fifty times. It
looks at every function of the package to do so, and CPython optimises each of those once more: a
fifth of what a process of the tests took. A probe that is met again takes next to nothing.
"""

from __future__ import annotations

from slipcover import pytest_plugin

_MEETINGS = 5_000

# In a worker; its threshold is no option. This runs before anything of the package is imported.
if pytest_plugin._slipcover_instance is not None:
    pytest_plugin._slipcover_instance.d_miss_threshold = _MEETINGS
