"""Which classes maps of labels have: those that a file names, or the numbers that are in the maps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unmask.data.annotations.legend import VOID, Legend
from unmask.data.annotations.survey import MANY, Survey
from unmask.data.labels import some
from unmask.errors import DataError


@dataclass(frozen=True)
class Words:
    """What people call samples, their maps and what has a class."""

    sample: str = "image"
    maps: str = "masks"
    one: str = "one mask"
    its: str = "its mask has"
    noted: str = "masks"  # what notes are about
    unit: str = "pixel"
    ground: bool = True  # 0 and 1 alone are the background and an object

    @property
    def both(self) -> str:
        return f"{self.sample}s and {self.maps}"


def find_classes(
    legend: Legend, void_classes: Sequence[str], looked: Survey, words: Words, say: Callable[[str], Any]
) -> tuple[list[int], list[str], set[int]]:
    """Numbers and names of the classes, and the numbers that are void. Without names, the numbers found are classes.

    Raises DataError for masks whose edges are blended, which have numbers that are no classes.
    """
    void = legend.void(void_classes)
    if not legend.names:
        _undo_blending(looked, say)
    seen = looked.seen(looked.numbers)
    if VOID in seen & void and not void_classes and seen != {0, VOID}:
        share = _share(looked, looked.numbers, VOID)
        of = f"{share:.1%} of the {words.unit}s"
        say(f"255 is void, neither learnt nor judged: {of}; --void none takes it for a class")
    if legend.names:
        numbers = [number for number in sorted(legend.names) if number not in void]
        return numbers, [legend.names[number] for number in numbers], void
    if not seen:  # every mask is bad, which is said next
        return [], [], void
    two = words.ground and seen in ({0, VOID}, {0, 1})
    if two and not seen & (void - {VOID}) and (not void_classes or VOID not in seen):
        say(f"no file names the classes; masks are {' and '.join(map(str, sorted(seen)))}: background and object")
        return sorted(seen), ["background", "object"], void - seen
    numbers = sorted(seen - void)
    listed = some(list(map(str, numbers)), 8)
    say(f"no file names the classes: the numbers in the {words.maps} are taken for them ({listed})")
    once = [str(n) for n in numbers if sum(n in mask_numbers for mask_numbers in looked.numbers.values()) == 1]
    if once and len(looked.numbers) > 4:
        say(f"numbers that occur in {words.one} alone: {some(once, 8)}; are they meant? A classes.json would tell")
    return numbers, [str(number) for number in numbers], void


def require_classes(
    classes: Sequence[str], looked: Survey, good: Sequence[int], void: set[int], words: Words, where: str
) -> None:
    """Raises DataError for fewer classes than can be told apart, and for more than a map holds."""
    if len(classes) < 2:
        only = f"{classes[0]} alone" if classes else "none, only void"
        share = _share(looked, good, VOID) if VOID in void else 0
        more = f"; 255 is void, in {share:.0%} of the {words.unit}s: --void none takes it for a class" if share else ""
        raise DataError(f"two classes or more can be told apart; the {words.maps} of {where} have {only}{more}")
    if len(classes) > VOID:
        raise DataError(f"at most {VOID} classes can be learnt here; {where} has {len(classes)}")


def _share(looked: Survey, indices: Iterable[int], number: int) -> float:
    """Of all pixels, those that have a number."""
    of_number, others = looked.counts(indices, [number]).tolist()
    return of_number / max(1, of_number + others)


def _undo_blending(looked: Survey, say: Callable[[str], Any]) -> None:
    """Masks of two values that were smoothed as they were resized or saved have others at edges: the nearer counts."""
    seen = looked.seen(looked.numbers)
    edges, ends = sorted(seen - looked.solid), sorted(seen & looked.solid)
    between = [number for number in edges if ends and ends[0] < number < ends[-1]]
    if len(between) < MANY:
        return
    if len(ends) != 2:
        raise DataError(
            f"{len(between)} numbers are in the masks at edges alone ({some(list(map(str, between)), 4)}), between"
            f" {some(list(map(str, ends)), 6)}: edges were blended when the masks were resized or saved. Save them as"
            " PNG without smoothing"
        )
    low, high = ends
    looked.merge({number: low if number - low < high - number else high for number in between})
    say(f"masks are {low} and {high} with blended edges, {len(between)} numbers between: each counts as the nearer one")


def table_of(numbers: Sequence[int], looked: Survey) -> UInt8[np.ndarray, "n"]:
    """Place number + 1 holds the class of a number; place 0 is for pixels of surely none."""
    table = np.full(max(looked.largest, *numbers) + 2, VOID, dtype=np.uint8)
    table[np.array(numbers) + 1] = np.arange(len(numbers))
    for number, other in looked.merged.items():
        table[number + 1] = table[other + 1]
    return table
