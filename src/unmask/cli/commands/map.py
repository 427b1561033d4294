"""The command `map`: open the encoder, index the images, project them to two dimensions, write page, image, table."""

from pathlib import Path, PurePosixPath

import numpy as np

from unmask.cli.continue_run import own_file
from unmask.cli.options.map import Map
from unmask.cli.outputs import choose_place, say_replaced
from unmask.cli.subject import open_subject
from unmask.cli.verb import verb
from unmask.data.source import open_source
from unmask.errors import UserError
from unmask.plain import texts
from unmask.runtime.progress import doing, make_console, make_say, stage
from unmask.tasks.retrieval.atlas import Atlas, draw_atlas, write_page, write_places
from unmask.tasks.retrieval.index import index_folder
from unmask.tasks.retrieval.projection import choose, project

__all__ = ["map"]


@verb(Map)
def map(options: Map) -> Path:
    """Writes the page, the image and the table of coordinates; returns the page's path.

    Bad images are named and left out. Raises UserError for UMAP if it is not installed, DataError if no image can be
    used.
    """
    console = make_console()
    out = choose_place(options.run, options.out, "map.html", beside=(".png", ".csv"))
    table, image = out.with_suffix(".csv"), out.with_suffix(".png")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file that ends in .html")
    choose(options.method, options.most)  # refuses before the slow part
    own_file(out, "map", texts(options.data))
    say_replaced([out, image, table], console)
    subject = open_subject(options.run, options, "knn", console)
    source, say = open_source(texts(options.data), subject.encoder.modality), make_say(console)
    folder = index_folder(options.index, options.run, out.parent, texts(options.data), subject.pooling)
    index = subject.index(folder, source)
    count = min(options.most, len(index.numbers))
    rows = np.linspace(0, len(index.numbers) - 1, count).round().astype(int).tolist()
    if count < len(index.numbers):
        say(f"{count:,} of {source.modality.many(len(index.numbers))} are on the map, spread over the data (--most)")
    method, why = choose(options.method, count)
    with stage(console, f"placing {source.modality.many(count)} by {method}"):
        xy = project(index.features[rows], method, options.seed)
    items = [source.items[index.numbers[row]] for row in rows]
    facts = {
        "label": [item.label or "" for item in items],
        "split": [item.split or "" for item in items],
        "folder": [str(PurePosixPath(item.name).parent) for item in items],
    }
    named = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}[method]
    where = ", ".join(Path(place).name or place for place in texts(options.data))
    features = f"the {subject.pooling} features of {Path(options.run).name}"
    note = f"{source.modality.many(count)} of {where}, placed by {named} ({why}) from {features}"
    thumbs = [index.thumb(row) for row in rows]
    atlas = Atlas([item.name for item in items], xy, facts, thumbs, f"Map of {where}", note)
    doing("drawing the map")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_places(atlas, table)
    draw_atlas(atlas, image)
    write_page(atlas, out)
    say(note)
    say(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB), {image}, {table}")
    return out
