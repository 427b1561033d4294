"""Words to search for: which queries are words, their vectors, and how they are shown among images."""

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from unmask.data.places import are_words
from unmask.data.source import Source
from unmask.errors import UserError
from unmask.runs.text import TextModel, has_text, open_text
from unmask.tasks.retrieval.index import Index
from unmask.tasks.retrieval.queries import SHOWN, Hit, Query, find_hits

LETTERS = 18  # in a line of a drawn query


def told_apart(queries: Sequence[str]) -> tuple[list[str], list[str]]:
    """Queries that are words, and those that name images. Raises UserError for one of blanks."""
    if any(not query.strip() for query in queries):
        raise UserError("--query is empty: give words, in quotes, or the path of an image")
    words = [query for query in queries if are_words(query)]
    return words, [query for query in queries if query not in words]


def open_words(run: str | Path, words: Sequence[str], say: Callable[[str], object]) -> TextModel:
    """What a run knows of words, of which those that are cut are said. Raises UserError for a run that knows none."""
    if not has_text(Path(run)):
        remedy = "an encoder that was trained on captions compares images with words"
        raise UserError(
            f"{words[0]!r} is no file, and {run} knows no words: {remedy} (unmask pretrain DATA --method siglip; see"
            " docs/text.md)"
        )
    model = open_text(Path(run))
    for line in model.cut(list(words)):
        say(line)
    return model


def find_words(
    words: Sequence[str], model: TextModel, index: Index, source: Source, top: int, device: str
) -> tuple[list[Query], list[Hit]]:
    """The queries, and for each the images that it fits best. The index holds features of the pooling that the words
    were learnt with."""
    with torch.no_grad():
        images = model.words.of_images(torch.from_numpy(np.asarray(index.features, np.float32))).numpy()
    queries = [Query(text, b"", b"", drawn(text), torch.empty(0)) for text in words]
    return queries, find_hits(queries, model.of_texts(list(words)).numpy(), images, index, source, top, device)


def drawn(text: str) -> bytes:
    """The words as a picture that stands among images: a JPEG."""
    picture = Image.new("RGB", (SHOWN, SHOWN), (238, 238, 238))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=20)
    lines = textwrap.wrap(text, LETTERS)[:8]
    draw.multiline_text((SHOWN / 2, SHOWN / 2), "\n".join(lines), (40, 40, 40), font, anchor="mm", align="center")
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
