"""Groups of bands, as they are written: by numbers or by names, each band in one of them."""

from collections import Counter
from collections.abc import Sequence

from unmask.errors import UserError, many

Groups = tuple[tuple[int, ...], ...]
EACH = "each"


def groups_of(groups: object, names: Sequence[str], channels: int) -> Groups:
    """Numbers of the bands of each group. names: of the bands. Raises UserError for bands that there are not, and where
    one is in no group or in several."""
    if groups == EACH:
        return tuple((band,) for band in range(channels))
    places = {name: i for i, name in enumerate(names)}
    numbered = []
    for group in require_groups(groups):
        if unknown := [band for band in group if isinstance(band, str) and band not in places]:
            have = f"they are {', '.join(names)}" if len(names) > 1 else "the files do not name any"
            raise UserError(f"groups name the band {unknown[0]!r}; {have}")
        numbered.append(tuple(places[band] if isinstance(band, str) else band for band in group))
    counts = Counter(band for group in numbered for band in group)
    if set(counts) != set(range(channels)) or max(counts.values()) > 1:
        raise UserError(
            f"groups have each of the {many(channels, 'band')} once, by numbers from 0 to {channels - 1}; got {groups}"
        )
    return tuple(numbered)


def require_groups(groups: object) -> tuple[tuple[int | str, ...], ...]:
    """Raises UserError for what is no groups."""
    if isinstance(groups, tuple | list) and groups and all(isinstance(g, tuple | list) and g for g in groups):
        if all(isinstance(band, int | str) for group in groups for band in group):
            return tuple(tuple(group) for group in groups)
    raise UserError(f"groups of bands are written ((0, 1, 2), (3, 4)), by numbers or names, or 'each'; got {groups!r}")
