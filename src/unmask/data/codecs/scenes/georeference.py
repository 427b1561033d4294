"""Where a scene lies: its transform and coordinate system, of its windows too, and how large its pixels are."""

import math
from dataclasses import dataclass, replace
from typing import Any

EARTH = 6_371_008.8  # metres, the mean radius
Range = tuple[int, int]  # first and end


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where a scene lies, so that what is predicted for it can be written into the same place."""

    size: tuple[int, int]  # rows, columns
    transform: tuple[float, ...] | None = (
        None  # 6: column, row, 1 to x; column, row, 1 to y. None where it is not known
    )
    wkt: str = ""  # the coordinate system
    metres: tuple[float, float] | None = None  # from row to row, column to column, at the centre; None: not known
    gcps: tuple[tuple[float, float, float, float, float], ...] = ()  # row, column, x, y, z, where no transform is given
    rpcs: tuple[tuple[str, str], ...] = ()  # a camera's rational polynomials

    @property
    def columns(self) -> dict[str, str]:
        """Centre, bounds and coordinate system, as a table has them; nothing where it is not known."""
        if self.transform is None:
            return {}
        a, b, c, d, e, f = self.transform
        rows, columns = self.size
        corners = [(a * x + b * y + c, d * x + e * y + f) for x in (0, columns) for y in (0, rows)]
        (left, bottom), (right, top) = (tuple(map(pick, zip(*corners))) for pick in (min, max))
        x, y = a * columns / 2 + b * rows / 2 + c, d * columns / 2 + e * rows / 2 + f
        numbers = {"x": x, "y": y, "left": left, "bottom": bottom, "right": right, "top": top}
        return {name: f"{number:.10g}" for name, number in numbers.items()} | {"crs": self.system}

    @property
    def system(self) -> str:
        """Of its coordinates, EPSG:32614 where it has such a number, else as WKT; "" where it is not known."""
        if not self.wkt:
            return ""
        from rasterio.crs import CRS

        authority = CRS.from_wkt(self.wkt).to_authority()
        return ":".join(authority) if authority else self.wkt

    def window(self, rows: Range, columns: Range) -> "Georeference":
        """Of a part of the scene. Points on the ground and cameras go with the whole only."""
        moved = self.transform and _chained(self.transform, (1, 0, columns[0], 0, 1, rows[0]))
        size = (rows[1] - rows[0], columns[1] - columns[0])
        return replace(self, size=size, transform=moved, gcps=(), rpcs=())

    def at_size(self, size: tuple[int, int]) -> "Georeference":
        """Of the same place in another number of rows and columns."""
        down, across = (old / new for old, new in zip(self.size, size))
        scaled = self.transform and _chained(self.transform, (across, 0, 0, 0, down, 0))
        metres = self.metres and (self.metres[0] * down, self.metres[1] * across)
        gcps = tuple((row / down, column / across, *place) for row, column, *place in self.gcps)
        return replace(self, size=size, transform=scaled, metres=metres, gcps=gcps, rpcs=())


def georeference_of(file: Any) -> Georeference:
    """Of a file that rasterio has opened."""
    size = (int(file.height), int(file.width))
    points, system = file.gcps
    gcps = tuple((float(p.row), float(p.col), float(p.x), float(p.y), float(p.z or 0)) for p in points)
    is_placed = not file.transform.is_identity
    transform = tuple(map(float, file.transform[:6])) if is_placed else None
    crs = file.crs or (system if gcps else None)
    rpcs = tuple(sorted(file.rpcs.to_gdal().items())) if file.rpcs else ()
    metres = _metres(transform, crs, size) if transform and crs else None
    return Georeference(size, transform, crs.to_wkt() if crs else "", metres, () if is_placed else gcps, rpcs)


def _metres(transform: tuple[float, ...], crs: Any, size: tuple[int, int]) -> tuple[float, float] | None:
    """How far it is from row to row and from column to column; None for systems without a length."""
    (a, b, _, d, e, f), (rows, columns) = transform, size
    if crs.is_geographic:
        latitude = d * columns / 2 + e * rows / 2 + f
        degree = math.radians(1) * EARTH
        across = degree * max(0.0, math.cos(math.radians(latitude)))
        down, right = math.hypot(b * across, e * degree), math.hypot(a * across, d * degree)
    else:
        try:
            unit = float(crs.linear_units_factor[1])
        except Exception:  # rasterio raises its own for systems without a unit
            return None
        down, right = unit * math.hypot(b, e), unit * math.hypot(a, d)
    return (down, right) if min(down, right) > 0 else None


def _chained(first: tuple[float, ...], second: tuple[float, ...]) -> tuple[float, ...]:
    """The transform that does the second, then the first."""
    a, b, c, d, e, f = first
    k, m, n, p, q, r = second
    return (a * k + b * p, a * m + b * q, a * n + b * r + c, d * k + e * p, d * m + e * q, d * n + e * r + f)
