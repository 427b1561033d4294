"""Which places are streams of shards, and what is said of wrong ones."""

import pytest
from support.shardmaking import QUICK, parquet, png, shards, tar

from unmask.data.shards.stream import is_stream, open_stream
from unmask.data.source import open_source
from unmask.errors import UserError


def test_what_is_a_stream_and_what_is_not(tmp_path, photos):
    place = shards(tmp_path / "s", [2, 2])
    assert is_stream([place, f"{tmp_path}/s", f"{tmp_path}/s/*.tar", "s3://b/x.tar", "hf:user/name"])
    assert not is_stream([f"{tmp_path}/s/s-00.tar", str(photos), "demo", "nowhere"])
    assert len(open_source(f"{tmp_path}/s/s-00.tar").items) == 2  # one local tar is read in any order
    tar(photos / "backup.tar", [])
    assert not is_stream(photos)
    deep = tmp_path / "deep" / "2019" / "01" / "02" / "03"
    deep.mkdir(parents=True)
    tar(tmp_path / "deep" / "backup.tar", [])
    (deep / "a.png").write_bytes(png(0))
    assert not is_stream(tmp_path / "deep")
    with pytest.raises(UserError, match="cannot be mixed"):
        is_stream([place, str(photos)])


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s-{00..03}.tar", r"2 of 4 shards are not there, e\.g\. .*s-02\.tar, did you mean '.*s-01\.tar'\?"),
        ("s-{00..01.tar", r"braces of .* do not match; write train-\{000000\.\.000147\}\.tar"),
        ("s-{00-01}.tar", r"braces that are no range or list"),
        ("s-{0..99999999}.tar", r"names more than 1,000,000 shards"),
        ("t/{00..01}.tar", r"there is no .*/t; check the name"),
        ("x-*.tar", r"no shards in .*x-\*\.tar"),
        ("{s-00,s-00}.tar", r"names some shards twice"),
        ("{s-00.tar,p.parquet}", r"shards of several kinds, parquet and webdataset"),
        ("foo://b/{0..9}.tar", r"Protocol not known: foo"),
        ("gs://b/{0..9}.tar", r"needs a package that is not installed .*pip install"),
    ],
)
def test_wrong_places_are_one_clear_line(tmp_path, place, words, capsys):
    shards(tmp_path, [1, 1])
    parquet(tmp_path / "p.parquet", range(1))
    if place.startswith("gs"):
        pytest.importorskip("fsspec")
        try:
            import gcsfs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("gcsfs is there")
    with pytest.raises(UserError, match=words) as caught:
        open_stream(place if "://" in place else f"{tmp_path}/{place}", QUICK)
    assert "\n" not in str(caught.value)
