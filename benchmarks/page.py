"""Writes the records of benchmarks/results into docs/performance.md, between its marks: python benchmarks/page.py

A mark is a pair of comments, `<!-- record NAME -->` and `<!-- end -->`; what stands between them is replaced by the
table and image of that record, or by how to make it. `<!-- record * -->` takes all that have no mark of their own.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from records import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
MARK = re.compile(r"<!-- record (\S+)(?: (.*?))? -->\n.*?<!-- end -->", re.S)


def render(text: str, results: Path = RESULTS) -> str:
    """The page with today's records in it."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    named = {name for name, _ in MARK.findall(text)}
    rest = [name for name in records if name not in named]

    def fill(match: re.Match[str]) -> str:
        name, command = match[1], match[2]
        if name == "*":
            body = "\n\n".join(show(other, records[other], results) for other in rest) or "None."
        elif name in records:
            body = show(name, records[name], results)
        else:
            body = f"Not run yet. To run it: `{command}`"
        head = f"<!-- record {name}{f' {command}' if command else ''} -->"
        return f"{head}\n{body}\n<!-- end -->"

    return MARK.sub(fill, text)


def show(name: str, record: dict[str, Any], results: Path) -> str:
    """A record as Markdown: its own table as text, since it is aligned, and its image."""
    parts = []
    text = results / f"{name}.txt"
    if text.exists():
        parts.append(f"```text\n{text.read_text().strip()}\n```")
    elif "shares" in record:
        parts.append(_shares(record))
    else:
        parts.append(f"See [{name}.json](../benchmarks/results/{name}.json).")
    if (results / f"{name}.png").exists():
        parts.append(f"![{record.get('title', name)}](../benchmarks/results/{name}.png)")
    return "\n\n".join(parts)


def _shares(record: dict[str, Any]) -> str:
    lines = [f"{record['title']} ({record['milliseconds']:.0f} ms, {record['threads']} threads):", ""]
    lines += ["| kind of work | share |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {kind} | {share:.1%} |" for kind, share in record["shares"].items())])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    page = parser().parse_args().page
    page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written: {page.name}", file=sys.stderr)


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    out.mkdir(parents=True, exist_ok=True)
    yield ["--page", str(shutil.copy(PAGE, out / PAGE.name)), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
