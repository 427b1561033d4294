"""Looks at the headers of parquet pages before they are unpacked: each says what its page unpacks to, up to 2 GiB.

pyarrow takes as much memory as a header claims and has no limit of its own. The headers are read from the bytes that
pass by, so that nothing is fetched twice. Layout: parquet.thrift of Apache Parquet, in Thrift's compact protocol.
"""

import io
from dataclasses import dataclass

import pyarrow.parquet as pq

from unmask.data.limits import HEADER, RATIO, Bomb, require_modest

FREE = 64 << 20  # bytes that any page may unpack to; beyond, RATIO times its packed size
VALUES, DENSITY = 1 << 24, 2000  # in a page of lists: so many are free; beyond, so many per packed byte
DEPTH = 8  # of structures in a header; real ones have 3
_PLAIN, _PACKED, _NUM_VALUES = (2,), (3,), ((5, 1), (7, 1), (8, 1))  # where they stand: numbers of fields, from outside


@dataclass
class Column:
    """A column of a row group: where its next page begins, and the beginning of a header that was cut off."""

    next: int
    end: int
    lists: bool
    held: bytes = b""


class PageGuard(io.RawIOBase):
    """A file that pyarrow reads parquet from. `watch` says which row group; then reading raises Bomb, before it is
    unpacked, for a page that unpacks to far more than it is."""

    def __init__(self, raw: io.BufferedReader):
        self.raw, self.columns, self.handed_out = raw, list[Column](), 0
        self.size = raw.seek(0, io.SEEK_END)
        raw.seek(0)

    def watch(self, file: pq.ParquetFile, group: int, names: list[str]) -> None:
        """Looks at the pages of these columns from now on."""
        self.columns = []
        facts = file.metadata.row_group(group)
        for number in range(facts.num_columns):
            column = facts.column(number)
            if column.path_in_schema.split(".")[0] in names:
                dictionary = column.dictionary_page_offset or column.data_page_offset
                begin = min(dictionary, column.data_page_offset)
                end = min(begin + column.total_compressed_size, self.size)
                self.columns.append(Column(begin, end, file.schema.column(number).max_repetition_level > 0))

    def hand_out(self, num_bytes: int) -> None:
        """Counts what was made of the pages: a value that a page holds once can be that of every row. Raises Bomb."""
        self.handed_out += num_bytes
        require_modest(self.size, self.handed_out)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.raw.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.raw.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        begin = self.raw.tell()
        content = self.raw.read(size)
        for column in self.columns:
            self._follow(column, begin, content)
        return content

    def _follow(self, column: Column, begin: int, content: bytes) -> None:
        if column.held and begin == column.next + len(column.held):
            begin, content = column.next, column.held + content
        column.held = b""
        while begin <= column.next < min(column.end, begin + len(content)):
            start = column.next - begin
            try:
                fields, length = read_header(content, start)
            except IndexError:  # goes on in the next bytes
                column.held = content[start:]
                if len(column.held) > HEADER:
                    raise Bomb(f"the header of a page has more than {HEADER:,} bytes") from None
                return
            packed = self._require_modest(fields, column)
            column.next += length + packed

    def _require_modest(self, fields: dict[tuple[int, ...], int], column: Column) -> int:
        """The packed size of a page. Raises Bomb."""
        plain, packed = fields.get(_PLAIN, 0), fields.get(_PACKED, 0)
        if packed < 0 or plain < 0 or packed > self.size:
            raise Bomb(f"a page claims to have {packed:,} bytes and to unpack to {plain:,}")
        if plain > max(FREE, RATIO * packed):
            raise Bomb(f"a page of {packed:,} bytes unpacks to {plain:,}, which no honest file does")
        values = max(fields.get(place, 0) for place in _NUM_VALUES)
        if column.lists and values > max(VALUES, DENSITY * packed):
            raise Bomb(f"a page of {packed:,} bytes has lists of {values:,} values, which no honest file does")
        return packed


def read_header(content: bytes, start: int) -> tuple[dict[tuple[int, ...], int], int]:
    """The whole numbers in a structure of Thrift's compact protocol by the numbers of their fields, from outside; and
    the structure's length in bytes. Raises IndexError where the content ends within it, Bomb where it is none."""
    reader = _Reader(content, start)
    reader.structure(())
    return reader.numbers, reader.at - start


class _Reader:
    def __init__(self, content: bytes, at: int):
        self.content, self.at, self.numbers = content, at, dict[tuple[int, ...], int]()

    def structure(self, place: tuple[int, ...]) -> None:
        if len(place) > DEPTH:
            raise Bomb("the header of a page is nested without end")
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.whole()
            self.value(head & 15, (*place, number))

    def value(self, kind: int, place: tuple[int, ...], in_list: bool = False) -> None:
        if kind in (1, 2):  # true and false: in a field the kind is the value
            self.at += in_list
        elif kind == 3:
            self.at += 1
        elif kind in (4, 5, 6):
            self.numbers[place] = self.whole()
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            length = self.unsigned()
            self.at += length
        elif kind in (9, 10):
            head = self.byte()
            for _ in range(self.unsigned() if head >> 4 == 15 else head >> 4):
                self.value(head & 15, (*place, 0), in_list=True)
                if self.at >= len(self.content):
                    raise IndexError
        elif kind == 12:
            self.structure(place)
        else:
            raise Bomb("the header of a page is damaged")

    def byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
            if shift > 63:
                raise Bomb("the header of a page is damaged")

    def whole(self) -> int:
        number = self.unsigned()
        return (number >> 1) ^ -(number & 1)
