"""Limits of time and memory within which hostile files are refused, and an image to hide among them."""

import io
import os
import resource
import time
from contextlib import contextmanager

from PIL import Image

SECONDS, MEGABYTES = 5, 900  # of processor time, and of memory beyond what is in use; one case may take no more


@contextmanager
def little():
    """Fails where the body takes more than a little time, and makes memory errors of more than a little memory."""
    status = open("/proc/self/statm").read().split()
    used = int(status[0]) * os.sysconf("SC_PAGE_SIZE")
    before, began = resource.getrlimit(resource.RLIMIT_AS), time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (used + (MEGABYTES << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - began < SECONDS


def png(size=(8, 8)):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, "PNG")
    return file.getvalue()
