"""The contract of windows: what cuts a view out of a sample."""

from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor


@runtime_checkable
class Window(Protocol):
    """Cuts what a model sees out of a sample: a random part of it for learning, the whole for judging."""

    @property
    def size(self) -> tuple[int, ...]: ...

    def __call__(self, sample: Any, generator: Generator, /) -> Tensor: ...


@runtime_checkable
class WholeWindow(Window, Protocol):
    """One that cuts without chance."""

    def __call__(self, sample: Any, generator: Generator | None = None, /) -> Tensor: ...
