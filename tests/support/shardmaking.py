"""Makes small shards, and serves them over connections that break on purpose. Shared by the tests of streams."""

import contextlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from support.photos import photo
from unmask.data.shards.remote import Patience

QUICK = Patience(tries=4, first=0.01, silence=0.5)


def png(seed, height=20, width=24):
    file = io.BytesIO()
    Image.fromarray(photo(seed, height, width)).save(file, "PNG")
    return file.getvalue()


def tar(path, members):
    """members: pairs of a name and its content."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def shards(folder, counts, first=0):
    """`s-00.tar` and on, with so many samples each; every sample has a class and a text."""
    folder.mkdir(exist_ok=True)
    number = 0
    for shard, count in enumerate(counts, first):
        members = []
        for _ in range(count):
            members += [(f"{number:05d}.png", png(number)), (f"{number:05d}.cls", str(number % 3).encode())]
            members += [(f"{number:05d}.json", json.dumps({"caption": f"image {number}"}).encode())]
            number += 1
        tar(folder / f"s-{shard:02d}.tar", members)
    return f"{folder}/s-{{{first:02d}..{first + len(counts) - 1:02d}}}.tar"


class Rude(BaseHTTPRequestHandler):
    """Serves files of `server.folder`; `server.faults` says what to do to the next requests for content."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content, total = path.read_bytes(), path.stat().st_size
        asked, status = self.headers.get("Range"), 200
        if asked and self.server.ranges:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            content, status = content[int(start) : int(end or total) + 1], 206
        fault = self.server.faults.pop(0) if self.command == "GET" and self.server.faults else None
        self.server.log.append((self.command, self.path, asked, fault))
        if fault == "refuse":
            self.close_connection = True
            return self.connection.close()
        if fault == "busy":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(content) - 1}/{total}")
        self.end_headers()
        if self.command == "HEAD":
            return None
        with contextlib.suppress(OSError):
            if fault in ("cut", "stall"):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                if fault == "stall":
                    self.server.over.wait(5)
                self.close_connection = True
                return self.connection.close()
            self.wfile.write(content)
        return None

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(folder, faults=(), ranges=True):
    """An HTTP server of `folder`: its address and itself."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rude)
    server.daemon_threads = True
    server.folder, server.faults, server.ranges, server.log = folder, list(faults), ranges, []
    server.over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


def seen(stream):
    return [(name, sample.data, sample.label, sample.columns) for name, sample in stream]


def parquet(path, numbers, group=7, features=None, images=None):
    images = images or [{"bytes": png(i), "path": f"{i}.png"} for i in numbers]
    table = pa.table({"img": images, "label": [i % 2 for i in numbers], "words": [f"w{i}" for i in numbers]})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
