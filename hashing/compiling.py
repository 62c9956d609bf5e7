"""Inner loops compiled by numba. Importing this imports numba, which takes a second.

What is compiled is kept beside its module, or in the user's cache folder where the module cannot
be written (numba's own rules), and is made anew in every process where neither can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` compiled on its first call, for one thread, without the interpreter's lock."""
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder to keep the result in
        return cast(Function, numba.njit(nogil=True)(function))
