"""Opens labelled data of any kind, and writes or changes the files of a test."""

import json

from PIL import Image


def opened(kind, *places, **options):
    said = []
    return kind([str(p) for p in places], max_side=64, say=said.append, **options), "\n".join(map(str, said))


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def change(path, make):
    table = json.loads(path.read_text())
    make(table)
    path.write_text(json.dumps(table))
