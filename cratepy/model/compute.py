"""Arrow's compute functions by their names, loaded when the first of them is used.

``from cratepy.model import compute as pc`` instead of ``import pyarrow.compute as pc``: that module makes a documented Python
function for each of three hundred kernels, a tenth of a second and 10 MiB that a node without tables has no use for. A name
that was looked up once is an ordinary attribute of this module afterwards. Any thread may be the first.
"""

from __future__ import annotations

from typing import Any


def load() -> None:
    """Load them now, on a worker thread, so that no statement has to."""
    import pyarrow.compute

    assert pyarrow.compute.call_function


def __getattr__(name: str) -> Any:
    import pyarrow.compute

    found = globals()[name] = getattr(pyarrow.compute, name)
    return found
