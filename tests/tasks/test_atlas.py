"""The map: every image once, at its place, with its own thumbnail; the page needs nothing else, its script runs."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from support.photos import photo

import unmask
from unmask.data.codecs.decode import decode
from unmask.errors import UserError
from unmask.tasks.retrieval.atlas import CELLS, Atlas, make_sprites, write_page
from unmask.tasks.retrieval.likeness import thumbnail
from unmask.tasks.retrieval.projection import choose, project


class Page(HTMLParser):
    """Scripts, images and every address of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.inside:
            self.scripts.append(data)
            self.inside = False


def clusters(count=30):
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8, dtype=np.float32)
    return (np.repeat(centres, count, axis=0) + 0.05 * rng.normal(size=(3 * count, 8))).astype(np.float32)


def separate(xy, count=30):
    """Share of points whose nearest other belongs to their own cluster."""
    far = ((xy[:, None] - xy) ** 2).sum(-1) + 1e9 * np.eye(len(xy))
    return (far.argmin(1) // count == np.arange(len(xy)) // count).mean()


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_what_is_alike_lies_together_and_chance_is_seeded(method):
    xy = project(clusters(), method, seed=3)
    assert separate(xy) > 0.95
    assert (xy.min(), xy.max()) == (0, 1)
    np.testing.assert_array_equal(xy, project(clusters(), method, seed=3))


def test_small_data_and_methods_that_are_not_there(monkeypatch):
    for count in (1, 2, 4):
        assert choose("umap", count)[0] == "pca"
        assert np.isfinite(project(clusters()[:count], "pca")).all()
    assert [choose("auto", 100)[0], choose("auto", 10**6)[0]] == ["umap", "umap"]
    monkeypatch.setattr("unmask.tasks.retrieval.projection.find_spec", lambda name: None)
    assert [choose("auto", 100)[0], choose("auto", 10**6)[0]] == ["tsne", "pca"]
    with pytest.raises(UserError, match=r"umap-learn"):
        choose("umap", 100)


def test_umap_is_asked_as_it_wants_to_be(monkeypatch):
    """UMAP itself takes half a minute to be imported and compiled; docs/search.md has a run of it."""
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, x):
            return x[:, :2]

    fake = ModuleType("umap")
    fake.UMAP = UMAP  # pyright: ignore
    monkeypatch.setitem(sys.modules, "umap", fake)
    assert separate(project(clusters(4), "umap", seed=5), 4) > 0.9
    assert asked == {"n_neighbors": 11, "random_state": 5}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map of six images in two folders, one name of which would end a script."""
    folder = tmp_path_factory.mktemp("map")
    data = folder / "data"
    for number, name in enumerate(("a/0.png", "a/1.png", "a/2.png", "b/</script>&amp;.png", "b/4.png", "b/5 é.png")):
        path = data / name.replace("/script", "\u2215script")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(number, 40 + 10 * number, 60)).save(path)
    (data / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    model = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
    from support.small import SMALL

    run = unmask.pretrain(data, out=folder / "run", steps=1, **SMALL | {"model": model, "max_bad": 0.5}).path
    return unmask.map(run, data, out=folder / "map.html", method="pca", device="cpu"), run, data


def test_the_page_has_every_image_once_and_needs_nothing_else(made):
    page = Page(made[0].read_text(encoding="utf-8"))
    data = json.loads(page.scripts[0])
    assert sorted(data["names"]) == sorted(set(data["names"]))
    assert len(data["names"]) == len(data["x"]) == len(data["y"]) == len(data["sizes"]) / 2 == 6
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", made[0].read_text(encoding="utf-8"))
    assert [facet["name"] for facet in data["facets"]] == ["label", "folder"]
    assert data["facets"][0]["values"] == ["a", "b"]
    with open(made[0].with_suffix(".csv"), encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == data["names"]
    np.testing.assert_allclose([float(row["x"]) for row in table], data["x"], atol=1e-5)
    assert Image.open(made[0].with_suffix(".png")).width > 1500


def test_names_cannot_end_the_script(tmp_path):
    names, xy = ["</script><script>alert(1)</script>", "<!--"], np.zeros((2, 2), np.float32)
    thumbs = [thumbnail(decode(photo(seed)).pixels, 112) for seed in range(2)]
    write_page(Atlas(names, xy, {"label": ["<b>", ""]}, thumbs, "<i>", "note"), tmp_path / "map.html")
    page = Page((tmp_path / "map.html").read_text(encoding="utf-8"))
    assert json.loads(page.scripts[0])["names"] == names
    assert len(page.scripts) == 2


def test_each_thumbnail_lies_in_its_cell_and_many_are_smaller(monkeypatch):
    from unmask.tasks.retrieval import atlas

    monkeypatch.setattr(atlas, "SHEET", 250)  # two by two cells of 112
    images = [np.full((20 + 5 * i, 40, 3), 40 * i, np.uint8) for i in range(5)]
    found = make_sprites([thumbnail(decode(p).pixels, 112) for p in images])
    assert (len(found.sheets), found.columns, found.per_sheet) == (2, 2, 4)
    for i, (image, (width, height)) in enumerate(zip(images, found.sizes)):
        sheet = np.asarray(Image.open(io.BytesIO(found.sheets[i // 4])))
        row, column = divmod(i % 4, 2)
        there = sheet[row * 112 :, column * 112 :][:height, :width]
        assert there.shape[:2] == image.shape[:2]
        assert abs(float(there.mean()) - 40 * i) < 2
    monkeypatch.setattr(atlas, "CELLS", ((3, 112), *CELLS[1:]))
    assert make_sprites([thumbnail(decode(p).pixels, 112) for p in images]).cell == 72


def test_the_script_draws_finds_hides_and_zooms(made, tmp_path):
    """In node, with the few things of a browser that the script uses; a real one is not part of the tests."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node runs the page's script; it is not installed")
    page = Page(made[0].read_text(encoding="utf-8"))
    (tmp_path / "page.js").write_text(BROWSER.replace("DATA", json.dumps(page.scripts[0])) + page.scripts[1] + ACTS)
    said = json.loads(subprocess.run([node, tmp_path / "page.js"], capture_output=True, text=True, check=True).stdout)
    assert said["first"] == 6
    assert said["names"] == ["a/0.png", "label: a", " · folder: a"]
    assert said["hovered"] == list(range(6))
    assert len(set(said["level"])) == 1
    assert said["found"] == "1 of 6"
    assert said["hidden"] == 3
    assert said["legend"] == ["a", "b"]
    assert said["fixed"] < 1e-6
    assert said["scale"] == pytest.approx(2 * said["before"])


BROWSER = """
const drawn = [];
function element() {
  const pen = new Proxy({ drawImage: (...a) => drawn.push(a) }, { get: (o, k) => o[k] ?? (() => {}), set: () => true });
  const one = { style: {}, children: [], clientWidth: 800, clientHeight: 600, offsetHeight: 300, value: "",
    getContext: () => pen, append: (...c) => one.children.push(...c), addEventListener: () => {}, textContent: "",
    replaceChildren: (...c) => { one.children = c; }, setPointerCapture: () => {}, complete: true };
  return one;
}
const there = {};
const document = { getElementById: (id) => there[id] ??= element(), createElement: element,
  querySelectorAll: () => [element()] };
document.getElementById("data").textContent = DATA;
const window = { devicePixelRatio: 1 };
const queue = [];
const requestAnimationFrame = (f) => queue.push(f), addEventListener = () => {};
const Option = function (text) { this.text = text; };
const frame = () => { drawn.length = 0; queue.splice(0).forEach((f) => f()); return drawn.length; };
"""
ACTS = """
const said = { first: frame() };
said.level = data.y.map((y, i) => Math.round(screenY(i) + y * view.scale));  // upwards, as in the still image
said.hovered = data.names.map((_, i) => at(screenX(i), screenY(i)));
canvas.onpointermove({ pointerId: 1, offsetX: screenX(0), offsetY: screenY(0) });
said.names = there.words.children.map((line) => line.textContent);
look(-1);
there.find.oninput({ target: { value: " A/0.PNG" } });
said.found = there.count.textContent;
there.find.oninput({ target: { value: "" } });
frame();
there.legend.children[0].onclick();
said.hidden = frame();
said.legend = there.legend.children.map((line) => line.children[1].textContent);
said.before = view.scale;
const place = [(100 - view.left) / view.scale, (200 - view.top) / view.scale];
zoom(2, 100, 200);
said.scale = view.scale;
said.fixed = Math.hypot(place[0] * view.scale + view.left - 100, place[1] * view.scale + view.top - 200);
console.log(JSON.stringify(said));
"""
