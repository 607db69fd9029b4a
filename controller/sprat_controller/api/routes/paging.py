"""How a list is asked for page by page."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query

MAX_PAGE: Final = 1000
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
AfterPosition = Annotated[int, Query(ge=0, le=(1 << 63) - 1)]
AfterName = Annotated[str, Query(max_length=200)]
