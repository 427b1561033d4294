"""Clouds and meshes: every format written by hand from its specification, odd spellings, damage."""

import io
import pickle
import struct

import laspy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import points_on_surface, read_points
from unmask.data.codecs.signature import HEAD, points_format

CHANCE = np.random.default_rng(0)
POINTS = CHANCE.normal(size=(40, 3)).astype(np.float32)
COLOURS = CHANCE.integers(0, 256, (40, 3), dtype=np.uint8)
NORMALS = (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(CHANCE.normal(size=(40, 3)))
LABELS = CHANCE.integers(0, 4, 40)
CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TYPES = {"float": "f", "double": "d", "uchar": "B", "ushort": "H", "int": "i"}


def ply(columns, rows, faces=(), order="ascii", ending="\n", index="vertex_indices"):
    """columns: PLY's type and name of each."""
    lines = ["ply", f"format {order} 1.0", "comment made by hand", f"element vertex {len(rows)}"]
    lines += [f"property {kind} {name}" for kind, name in columns]
    if faces:
        lines += [f"element face {len(faces)}", f"property list uchar int {index}", "property uchar flags"]
    head = ending.join([*lines, "end_header", ""]).encode()
    if order == "ascii":
        body = [" ".join(f"{value:.9g}" for value in row) for row in rows]
        body += [" ".join(map(str, [len(face), *face, 7])) for face in faces]
        return head + ending.join(body).encode() + b"\n"
    mark = "<" if "little" in order else ">"
    form = mark + "".join(TYPES[kind] for kind, _ in columns)
    whole = [kind not in ("float", "double") for kind, _ in columns]
    body = [struct.pack(form, *(int(v) if w else float(v) for v, w in zip(row, whole))) for row in rows]
    body += [struct.pack(f"{mark}B{len(face)}iB", len(face), *face, 7) for face in faces]
    return head + b"".join(body)


@settings(max_examples=30, deadline=None)
@given(
    order=st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]),
    kind=st.sampled_from(["float", "double"]),
    shuffled=st.permutations(range(7)),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_ply_of_any_order_and_columns_is_read(order, kind, shuffled, ending):
    columns = [(kind, "x"), (kind, "y"), (kind, "z"), ("uchar", "red"), ("uchar", "green"), ("uchar", "blue")]
    columns = [*columns, ("int", "scalar_Label")]
    rows = np.concatenate([POINTS, COLOURS, LABELS[:, None]], 1)
    data = ply([columns[n] for n in shuffled], rows[:, shuffled], [(0, 1, 2)], order, ending)
    cloud = read_points(data)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.features["colours"], (COLOURS / 255).astype(np.float32))
    np.testing.assert_array_equal(cloud.labels, LABELS)
    assert cloud.faces.tolist() == [[0, 1, 2]]
    assert (cloud.format, cloud.bits, cloud.size, cloud.channels) == ("PLY", 32 if kind == "float" else 64, (40,), 3)


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("faces", [SIDES, [*SIDES, (0, 1, 2)], [(0, 1), *SIDES]])
def test_faces_of_any_number_of_corners_become_triangles(order, faces):
    xyz = [("float", "x"), ("float", "y"), ("float", "z")]
    mesh = read_points(ply(xyz, CUBE, faces, order, index="vertex_index"))
    assert mesh.faces.tolist()[:2] == [[0, 1, 3], [0, 3, 2]]
    assert len(mesh.faces) == 12 + (faces[-1] == (0, 1, 2))
    truncated = ply(xyz, CUBE, faces, order)[:-4]
    with pytest.raises(BadImage, match="truncated"):
        read_points(truncated)


def obj(vertices=CUBE, faces=SIDES, form="{}", more=""):
    lines = ["# a cube", "mtllib cube.mtl", more, *("v " + " ".join(f"{n:.9g}" for n in row) for row in vertices)]
    lines += ["vn 0 0 1", "usemtl red", *("f " + " ".join(form.format(n + 1) for n in face) for face in faces)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("form", ["{}", "{}/{}", "{0}//1", "{0}/{0}/1"])
def test_obj_is_read_with_any_corners(form):
    mesh = read_points(obj(form=form.replace("{}/{}", "{0}/{0}")))
    np.testing.assert_array_equal(mesh.points, CUBE)
    assert len(mesh.faces) == 12
    assert ("normals" in mesh.features) == form.endswith("/1")
    assert mesh.format == "OBJ"


def test_odd_obj_is_understood():
    back = obj(faces=[]) + b"\nf -8 -7 \\\n -6\ng other\nl 1 2\n"
    assert read_points(back).faces.tolist() == [[0, 1, 2]]
    coloured = read_points(obj(np.concatenate([CUBE, CUBE[:, ::-1]], 1)))
    np.testing.assert_array_equal(coloured.features["colours"], CUBE[:, ::-1])
    for broken in (obj(faces=[(0, 1, 99)]), obj(faces=[(-20, 1, 2)]), b"v 1 2\nv 1 2\n", b"v 1 2 x\nv 1 2 3\n"):
        with pytest.raises(BadImage, match="damaged"):
            read_points(broken)


@pytest.mark.parametrize("start", ["OFF\n8 6 0\n", "OFF8 6 0\n", "OFF 8 6 0\n", "# cube\nOFF\n\n8 6 0\n"])
def test_off_is_read_with_its_counts_on_either_line(start):
    body = "\n".join(" ".join(map(str, row)) for row in CUBE.tolist())
    faces = "\n".join(f"4 {' '.join(map(str, side))} 0.5 0.5 0.5" for side in SIDES)
    mesh = read_points(f"{start}{body}\n{faces}\n".encode())
    np.testing.assert_array_equal(mesh.points, CUBE)
    assert (len(mesh.faces), mesh.format) == (12, "OFF")
    with pytest.raises(BadImage, match="truncated"):
        read_points(f"{start}{body}\n{faces[: len(faces) // 2]}".encode())


def test_off_with_colours_or_normals_of_vertices():
    rows = "\n".join(" ".join(map(str, [*a, *b])) for a, b in zip(POINTS, COLOURS))
    coloured = read_points(f"COFF\n40 0 0\n{rows}".encode())
    np.testing.assert_allclose(coloured.features["colours"], COLOURS / 255, rtol=1e-6)
    rows = "\n".join(" ".join(map(str, [*a, *b])) for a, b in zip(POINTS, NORMALS))
    np.testing.assert_allclose(read_points(f"NOFF\n40 0 0\n{rows}".encode()).features["normals"], NORMALS, rtol=1e-5)
    for other in ("4OFF\n1 0 0\n1 2 3 4", "OFF BINARY\n", "nOFF\n"):
        with pytest.raises(BadImage, match="OFF"):
            read_points(other.encode())


def text(*columns, mark=" ", head=""):
    rows = np.concatenate([np.asarray(c, np.float64).reshape(len(POINTS), -1) for c in columns], 1)
    return (head + "\n".join(mark.join(f"{n:.9g}" for n in row) for row in rows) + "\n").encode()


@pytest.mark.parametrize("mark", [" ", ",", "; ", "\t", ", "])
@pytest.mark.parametrize("head", ["", "# made by hand\n", "40\n", "//X Y Z\n"])
def test_text_is_read_whatever_lies_between_its_numbers(mark, head):
    cloud = read_points(text(POINTS, mark=mark, head=head))
    np.testing.assert_allclose(cloud.points, POINTS, rtol=1e-6)
    assert (cloud.features, cloud.labels, cloud.faces, cloud.format) == ({}, None, None, "XYZ")


def test_columns_without_names_are_told_by_their_values_and_it_is_said():
    intensity = CHANCE.uniform(3, 900, 40)
    for columns, names in [
        ((COLOURS,), {"colours"}), ((NORMALS,), {"normals"}), ((NORMALS, LABELS), {"normals", "label"}),
        ((intensity, COLOURS), {"intensity", "colours"}), ((COLOURS, NORMALS, LABELS), {"colours", "normals", "label"}),
        ((intensity,), {"intensity"}), ((LABELS,), {"label"}), ((COLOURS / 255,), {"colours"}),
        ((intensity, intensity, LABELS), {"intensity", "column 5", "label"}),
    ]:  # fmt: skip
        for cloud in (read_points(text(POINTS, *columns)), read_points(np.column_stack([POINTS, *columns]))):
            assert {*cloud.features, *(["label"] if cloud.labels is not None else [])} == names
            assert any("columns without names" in note for note in cloud.notes)
    named = read_points(text(POINTS, intensity, LABELS, head="X,Y,Z,Reflectance,Class\n", mark=","))
    np.testing.assert_allclose(named.features["intensity"][:, 0], intensity, rtol=1e-6)
    np.testing.assert_array_equal(named.labels, LABELS)
    behind = read_points(text(COLOURS, POINTS, head="//R G B X Y Z\n"))
    np.testing.assert_allclose(behind.points, POINTS, rtol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [0, 3, 7, 8])
def test_las_is_read_with_its_scales_colours_and_classes(tmp_path, packed, version):
    header = laspy.LasHeader(point_format=version, version="1.4")
    header.offsets, header.scales = [500000, 4e6, 100], [0.001] * 3
    header.add_extra_dim(laspy.ExtraBytesParams("height", "f8"))
    las = laspy.LasData(header)
    places = CHANCE.uniform(0, 100, (50, 3)) + [500000, 4e6, 100]
    las.x, las.y, las.z = places.T
    las.intensity, las.height = np.arange(50), np.arange(50) / 2
    if version >= 3:
        las.red, las.green, las.blue = np.arange(50) * 1000, np.zeros(50), np.full(50, 65535)
    file = io.BytesIO()
    las.write(file, do_compress=packed)
    (tmp_path / "tile").write_bytes(file.getvalue())
    for source in (file.getvalue(), str(tmp_path / "tile")):
        cloud = read_points(source)
        np.testing.assert_allclose(cloud.points.double().numpy() + cloud.offset, places, atol=1e-3)
        assert cloud.format == ("LAZ" if packed else "LAS")
        assert cloud.labels is None  # never classified
        np.testing.assert_array_equal(cloud.features["intensity"][:, 0], np.arange(50))
        np.testing.assert_array_equal(cloud.features["height"][:, 0], np.arange(50) / 2)
        if version >= 3:
            np.testing.assert_allclose(cloud.features["colours"][:, 0], np.arange(50) / 65.535, rtol=1e-6)
    las.classification = LABELS[:40].tolist() + [6] * 10
    file = io.BytesIO()
    las.write(file, do_compress=packed)
    assert read_points(file.getvalue()).labels.tolist()[-1] == 6
    for cut in (100, len(file.getvalue()) - 20):
        with pytest.raises(BadImage, match=r"truncated|damaged"):
            read_points(file.getvalue()[:cut])


def test_arrays_are_clouds_with_what_lies_beside_them(tmp_path):
    np.savez(tmp_path / "a.npz", points=POINTS, colors=COLOURS, normals=NORMALS, labels=LABELS, curvature=LABELS / 2)
    cloud = read_points(str(tmp_path / "a.npz"))
    assert {*cloud.features} == {"colours", "normals", "curvature"}
    np.testing.assert_array_equal(cloud.labels, LABELS)
    np.save(tmp_path / "a.npy", POINTS.astype(np.float16))
    assert read_points(str(tmp_path / "a.npy")).bits == 16
    np.testing.assert_array_equal(read_points(POINTS.T).points, POINTS)
    fields = np.zeros(5, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("label", "u1")])
    assert read_points(fields).labels.tolist() == [0] * 5
    for array, reason in [
        (np.zeros((5, 2)), "x, y and z"), (np.zeros((2, 5, 3)), "n x 3"), (np.array([["a"] * 3] * 3), "real numbers"),
        (np.zeros((1, 3)), "two at least"), (np.full((9, 3), np.nan), "two at least"),
        (np.array([[1e300] * 3, [-1e300] * 3, [0.0] * 3]), "float32"),
    ]:  # fmt: skip
        with pytest.raises(BadImage, match=reason):
            read_points(array)


def test_points_that_are_not_finite_are_left_out_with_what_belongs_to_them():
    points = POINTS.copy()
    points[3, 1], points[7, 0] = np.nan, np.inf
    cloud = read_points(np.column_stack([points, LABELS]))
    np.testing.assert_array_equal(cloud.points, np.delete(POINTS, [3, 7], 0))
    np.testing.assert_array_equal(cloud.labels, np.delete(LABELS, [3, 7]))
    assert "2 points left out, not finite" in cloud.notes
    vertices = np.concatenate([[[np.nan] * 3], CUBE])
    mesh = read_points(obj(vertices, [(0, 1, 2), *(tuple(n + 1 for n in side) for side in SIDES)]))
    np.testing.assert_array_equal(mesh.points, CUBE)
    assert mesh.faces.tolist() == read_points(obj()).faces.tolist()


def test_a_cloud_far_from_0_keeps_its_details():
    places = POINTS.astype(np.float64) / 100 + [412345.5, 5_432_100.25, 0]
    cloud = read_points(places)
    np.testing.assert_allclose(cloud.points.double().numpy() + cloud.offset, places, atol=1e-8)
    assert any("taken from the coordinates" in note for note in cloud.notes)
    assert read_points(POINTS + 5).offset == (0, 0, 0)
    assert pickle.loads(pickle.dumps(cloud)).offset == cloud.offset


def test_clouds_of_too_many_points_are_thinned_and_it_is_said(monkeypatch):
    monkeypatch.setattr("unmask.data.codecs.points.MAX_POINTS", 15)
    cloud = read_points(np.column_stack([POINTS, LABELS]))
    np.testing.assert_array_equal(cloud.points, POINTS[::3])
    np.testing.assert_array_equal(cloud.labels, LABELS[::3])
    assert "one in 3 of 40 points" in cloud.notes
    monkeypatch.setattr("unmask.data.codecs.points.CHUNK", 7)
    las = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
    las.x, las.y, las.z = np.arange(40), np.arange(40), np.arange(40)
    file = io.BytesIO()
    las.write(file)
    np.testing.assert_allclose(read_points(file.getvalue()).points[:, 0], np.arange(0, 40, 3), atol=0.01)


def test_a_mesh_is_sampled_on_its_surface_with_its_features():
    mesh = read_points(
        ply([("float", n) for n in ("x", "y", "z", "red", "green", "blue")], np.hstack([CUBE, CUBE]), SIDES)
    )
    sample = points_on_surface(mesh, 500, torch.Generator().manual_seed(0))
    again = points_on_surface(mesh, 500, torch.Generator().manual_seed(0))
    assert torch.equal(sample.points, again.points)
    on_side = (sample.points == 0) | (sample.points == 1)
    assert bool(on_side.any(1).all())
    torch.testing.assert_close(sample.features["colours"], sample.points)  # a vertex's colour is its place
    assert (sample.size, sample.faces) == ((500,), None)
    assert "500 points sampled on the surface of 12 faces" in sample.notes
    with pytest.raises(BadImage, match="no faces"):
        points_on_surface(sample, 5, torch.Generator())
    flat = read_points(obj(np.zeros((8, 3))))
    with pytest.raises(BadImage, match="no area"):
        points_on_surface(flat, 5, torch.Generator())


def test_what_is_no_cloud_is_refused_with_a_reason():
    xyz = [("float", "x"), ("float", "y"), ("float", "z")]
    whole = ply(xyz, POINTS, order="binary_little_endian")
    for data, reason in [
        (b"", "empty"), (whole[:-1], "truncated"), (whole[:60], "does not end"),
        (b"hello world\nof text\n", "not points"), (whole.replace(b"vertex 40", b"vertex 99999999999"), "truncated"),
        (whole.replace(b"float x", b"flaot x"), "damaged"), (whole.replace(b"vertex 40", b"vertex -4"), "damaged"),
        (whole.replace(b"float y", b"float x"), "damaged"), (whole.replace(b" x\n", b" u\n"), "no coordinates"),
        (ply(xyz, POINTS[:1]), "two at least"), (ply(xyz, CUBE, [(0, 1, 99)]), "not there"),
        (ply(xyz, POINTS)[:-300], "truncated"), (b"1 2 3\n4 5\n", "columns"), (b"1 2\n3 4\n", "x, y and z"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not points"), (b"LASF" + bytes(400), "damaged"),
        (b"# only words\n", "no points"),
    ]:  # fmt: skip
        with pytest.raises(BadImage, match=reason):
            read_points(data)


def test_kinds_are_told_by_the_first_bytes_and_only_text_of_numbers_by_its_name():
    xyz = [("float", "x"), ("float", "y"), ("float", "z")]
    for data, name, kind in [
        (ply(xyz, POINTS), "a", "PLY"), (ply(xyz, POINTS, ending="\r\n"), "a", "PLY"),
        (b"LASF" + bytes(400), "a", "LAS"),
        (b"# hi\nOFF\n1 2 3", "a", "OFF"), (b"OFF490 518 0\n", "a", "OFF"), (obj(), "a", "OBJ"),
        (b"# comment\n" * 90, "a.obj", "OBJ"), (b"# comment\n" * 90, "a", None), (text(POINTS), "a.xyz", "XYZ"),
        (text(POINTS), "a", None), (text(POINTS, mark=","), "a.txt", "XYZ"), (text(POINTS, mark=","), "a.csv", None),
        (text(POINTS, head="40\n"), "a.PTS", "XYZ"), (b"0 0.5 0.5 0.25 0.25\n3 0.1 0.2 0.3 0.4\n", "a.txt", None),
        (b"a list of names\nb.jpg\n", "a.txt", None), (b"a.jpg 3\nb.jpg 4\n", "a.txt", None), (b"", "a.txt", None),
        (b"10.0.0.1 1.2.3 4\n", "a.txt", None), (b"ply is a word\n", "a", None), (b"GIF89a\0", "a", None),
        (b"very 1 2 3\n", "a", None), (b"1 2 3\n4 5 6\n", "a.txt", "XYZ"),
    ]:  # fmt: skip
        assert points_format(data[:HEAD], name) == kind, (data[:40], name)
