"""What is awaited, or entered with ``async with``: one way to say both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Closing(Protocol):
    """Something with an end that takes its time."""

    async def close(self) -> None:
        """End it."""


T = TypeVar("T", bound=Closing)


class Opening(Generic[T]):
    """``await`` it for the thing itself, which the caller then closes; or ``async with`` it, which does."""

    def __init__(self, opening: Coroutine[Any, Any, T]) -> None:
        self._opening = opening
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._opening.__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._opening
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        assert self._opened is not None
        await self._opened.close()
