"""A host that does not answer is told at once; one that answers is left to whoever fetches."""

import socket
import time

import pytest

import unmask
from unmask.errors import UserError
from unmask.runtime.network import why_unreachable
from unmask.weights import timm_models


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxy of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_host_that_answers_is_reachable_also_as_a_proxy(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert why_unreachable(f"http://127.0.0.1:{port}/file") == ""
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert why_unreachable("https://nowhere.invalid/file") == ""
    assert "127.0.0.1: " in why_unreachable("https://nowhere.invalid/file")  # of the proxy, which is gone


def test_no_answer_takes_as_long_as_the_patience(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *address, timeout: time.sleep(5))
    start = time.monotonic()
    assert why_unreachable("https://slow.example", patience=0.05) == "slow.example: no answer within 0.05 seconds"
    assert time.monotonic() - start < 2


def test_weights_that_cannot_be_fetched_are_told_of_at_once(monkeypatch, tmp_path):
    tried = []

    def refuse(address, timeout):
        raise OSError("Name or service not known")

    def create(name, pretrained=False):
        tried.append(name)
        raise ConnectionResetError("slow line")

    monkeypatch.setattr(timm_models, "cached", lambda name: None)
    monkeypatch.setattr(timm_models, "create_encoder", create)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(UserError, match=r"huggingface\.co: Name or service not known"):
        unmask.load("timm:vit_tiny_patch16_224")
    assert tried == []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(socket, "create_connection", lambda *address, timeout: server.dup())
        with pytest.raises(UserError, match="timm could not fetch its weights: slow line"):  # it is tried, and fails
            unmask.load("timm:vit_tiny_patch16_224")
    assert len(tried) == 1
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(timm_models, "cached", lambda name: tmp_path / "here")
    with pytest.raises(UserError, match="slow line"):  # what lies here needs no network
        unmask.load("timm:vit_tiny_patch16_224")
