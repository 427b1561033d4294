"""Keeps in memory what is otherwise decoded whenever it is used, such as the frames of clips, if all of it fits."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from unmask.data.codecs.image import BadImage
from unmask.runtime.cores import in_order

MOST = 2**32  # bytes: to decode more before a run begins would take minutes


@runtime_checkable
class Unread(Protocol):
    """A content that is decoded when it is used."""

    @property
    def held_bytes(self) -> int:
        """What `held` takes."""
        ...

    def held(self) -> Any:
        """The same content, decoded. Raises BadImage or OSError."""
        ...


def hold(
    contents: Mapping[int, Any], room: int, progress: Callable[[int, int], None] | None = None
) -> dict[int, Any] | None:
    """The same contents, all of one kind, decoded; None where they are no `Unread` ones, or take more bytes than `room`
    or `MOST`. One that turns out damaged stays as it is: whoever uses it finds out."""
    if not isinstance(next(iter(contents.values()), None), Unread):
        return None
    if sum(content.held_bytes for content in contents.values()) > min(MOST, room):
        return None

    def decoded(content: Unread) -> Any:
        try:
            return content.held()
        except (BadImage, OSError):
            return content

    held: dict[int, Any] = {}
    for index, content in zip(contents, in_order(decoded, contents.values())):
        held[index] = content
        if progress is not None:
            progress(len(held), len(contents))
    return held
