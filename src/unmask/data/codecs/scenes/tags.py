"""Names of bands and the time of a scene, from the tags of a file that rasterio has opened, or from its name."""

import re
from contextlib import suppress
from datetime import datetime
from typing import Any

TIMES = """acquisition_date acquisitiondatetime acquisition_datetime datetime sensing_time date_acquired acquired
start_datetime product_start_time start_time timestamp time date tifftag_datetime nitf_idatim""".split()
_DATE = re.compile(r"(\d{4})[-:/]?(\d\d)[-:/]?(\d\d)(?:[T _]?(\d\d):?(\d\d)(?::?(\d\d))?)?")
_NAMED = re.compile(r"(?<!\d)((?:19|20)\d\d)-?(\d\d)-?(\d\d)(?:[T_ -]?(\d\d)[:-]?(\d\d)(?:[:-]?(\d\d))?)?(?!\d)")
NAMES = ("name", "bandname", "band_name", "band", "description", "long_name")  # tags of a band, in this order


def names_of(file: Any, bands: tuple[int, ...]) -> tuple[str, ...]:
    """Each band's description, or its tag of a name or a wavelength, or its colour, or "band 3"."""
    names = []
    for band in bands:
        tags = {key.lower(): value for key, value in file.tags(band).items()}
        name = file.descriptions[band - 1] or next((tags[key] for key in NAMES if tags.get(key)), None)
        if name is None and tags.get("wavelength"):
            name = f"{tags['wavelength']} {tags.get('wavelength_units', tags.get('wavelength_unit', ''))}".strip()
        if name is None:
            colour = file.colorinterp[band - 1].name
            name = colour if len(bands) > 1 and colour in ("red", "green", "blue", "nir") else f"band {band}"
        names.append(" ".join(str(name).split()))
    return tuple(names)


def time_of(file: Any) -> datetime | None:
    """When a scene was taken, as its tags have it, without a time zone; when the file was made, where only that is
    said."""
    tags = {key.lower(): value for space in (None, "IMAGERY") for key, value in file.tags(ns=space).items()}
    tags = {**{key.lower(): value for key, value in file.tags(1).items()}, **tags}
    for key in TIMES:
        match = _DATE.search(str(tags.get(key, "")))
        if match:
            try:
                return datetime(*(int(part) for part in match.groups(default="0")))  # type: ignore[arg-type]
            except ValueError:  # no such day
                continue
    return None


def time_in_name(name: str) -> datetime | None:
    """The day, and the time if it is there, that a file's name gives: 20230517T103021 or 2023-05-17."""
    for match in _NAMED.finditer(name):
        with suppress(ValueError):  # no such day
            return datetime(*(int(part) for part in match.groups(default="0")))  # type: ignore[arg-type]
    return None
