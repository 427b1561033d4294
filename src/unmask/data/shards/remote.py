"""Reads remote files from beginning to end through fsspec, and reopens connections at the byte where they broke."""

import contextlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt

from unmask.errors import DataError, UserError
from unmask.version import install_line

BLOCK = 4 << 20  # bytes asked for at a time: what is held of a remote file, however large it is
_PASSING = (408, 425, 429)  # HTTP statuses below 500 after which it is worth to ask again
Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long to retry when a connection breaks. Waits double, with random jitter of up to a half, so that the many
    readers of a cluster do not return all at once."""

    tries: int = 8  # in a row without a byte; then the run stops
    first: float = 1.0  # seconds before the second try
    most: float = 60.0  # seconds between tries at the most
    silence: float = 60.0  # seconds without a byte after which a connection counts as broken

    def wait(self, tried: int) -> float:
        """Seconds to wait after so many tries."""
        return min(self.most, self.first * 2 ** (tried - 1)) * random.uniform(0.5, 1.5)

    def get(self, act: Callable[[], Result], place: str) -> Result:
        """The result of `act`, retried on transient errors. Raises DataError or UserError in one line."""
        retrying = Retrying(
            stop=stop_after_attempt(self.tries),
            wait=lambda state: self.wait(state.attempt_number),
            retry=retry_if_exception(lambda error: not isinstance(error, UserError) and not lasting(error)),
            reraise=True,
        )
        try:
            return retrying(act)
        except UserError:
            raise
        except Exception as error:  # every store has exceptions of its own
            if lasting(error):
                raise explained(error, place) from error
            seconds = retrying.statistics["delay_since_first_attempt"]
            raise DataError(
                f"{place} cannot be read: {self.tries} tries in {seconds:.0f} s failed, the last with {said(error)}."
                " Is the server up? The same command goes on from the last checkpoint"
            ) from error


class Shaky(io.RawIOBase):
    """A file over an unreliable connection: after a break it is reopened at the same byte."""

    def __init__(self, place: str, patience: Patience):
        self.place, self.patience = place, patience
        self.at, self.size, self.file = 0, None, None
        self.whole = False  # the server sends files only from their beginning
        patience.get(self._open, place)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.size is not None

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        if start is None:
            raise io.UnsupportedOperation(f"the size of {self.place} is not known")
        self.at = start + offset
        return self.at

    def readinto(self, buffer: Any) -> int:
        data = self.patience.get(lambda: self._some(len(buffer)), self.place)
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._let_go()
        super().close()

    def _some(self, length: int) -> bytes:
        if self.size is not None and self.at >= self.size:
            return b""
        try:
            if self.file is None:
                self._open()
            assert self.file is not None
            if self.file.tell() != self.at:
                self._go_to(self.at)
            data = self.file.read(length)
            if not data and self.size is not None:
                raise ConnectionError(f"the connection ended at byte {self.at:,} of {self.size:,}")
            return data
        except Exception as error:
            self.whole = self.whole or (isinstance(error, ValueError) and "range requests" in str(error))
            self._let_go()
            raise

    def _open(self) -> None:
        fs, path = reach(self.place, self.patience)
        how = {"block_size": 0} if self.whole else {"block_size": BLOCK, "cache_type": "readahead"}
        self.file = fs.open(path, "rb", **how)
        self.size = getattr(self.file, "size", None) if self.size is None else self.size

    def _go_to(self, byte: int) -> None:
        assert self.file is not None
        try:
            self.file.seek(byte)
        except (ValueError, OSError, NotImplementedError):  # a server that sends files only from the beginning
            if self.file.tell() > byte:
                self._let_go()
                self._open()
            while (left := byte - self.file.tell()) > 0:
                if not self.file.read(min(left, BLOCK)):
                    raise ConnectionError(f"the connection ended before byte {byte:,}") from None

    def _let_go(self) -> None:
        if self.file is not None:
            with contextlib.suppress(Exception):  # it is broken already
                self.file.close()
        self.file = None


def open_shard(place: str, patience: Patience | None = None) -> io.BufferedReader:
    """Opens a file, local or remote. A read returns as many bytes as requested, or the rest."""
    if is_remote(place):
        return io.BufferedReader(Shaky(place, patience or Patience()), BLOCK // 4)
    try:
        return open(place, "rb")
    except OSError as error:
        raise explained(error, place) from error


def is_remote(place: str) -> bool:
    """True for what fsspec has to reach: s3://..., https://..., also filecache::s3://..."""
    return "://" in place


def reach(place: str, patience: Patience | None = None) -> tuple[Any, str]:
    """The file system of a place and its path there. fsspec keeps one per process, and makes a new one after a fork."""
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if place.startswith(("http://", "https://")):
        import aiohttp

        silence = (patience or Patience()).silence
        limit = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        own = conf.get("http", {}).get("client_kwargs", {})
        options["client_kwargs"] = {"timeout": limit} | own
    return url_to_fs(place, **options)


def lasting(error: BaseException) -> bool:
    """True for errors that a retry cannot fix."""
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError"):
        return True
    status = _status(error)
    if status is not None:
        return status < 500 and status not in _PASSING
    return isinstance(
        error, (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, TypeError, KeyError)
    ) or (type(error) is ValueError and "rotocol" in str(error))


def explained(error: BaseException, place: str) -> UserError:
    """One line that says what to do about an error of a store."""
    status, kind = _status(error), type(error).__name__
    if isinstance(error, ImportError):
        scheme = place.partition(":")[0]
        packages = {"s3": ("s3fs",), "gs": ("gcsfs",), "gcs": ("gcsfs",), "hf": ("huggingface-hub",)}
        line = install_line(*packages.get(scheme, ("fsspec[http]",)))
        return UserError(f"{place} needs a package that is not installed ({error}): {line}")
    if type(error) is ValueError and "rotocol" in str(error):
        return UserError(f"{place}: {error}. Common ones are s3://, gs://, https://, hf:// (docs/streams.md)")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return DataError(f"there is no {place}; check the name of the server or bucket, the folder and the file")
    if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in kind:
        anonymous = """; for a public bucket: export FSSPEC_S3='{"anon": true}'""" if "s3://" in place else ""
        return DataError(
            f"{place} may not be read ({said(error)}). Give the credentials as the store's own tools take them"
            f" (docs/streams.md){anonymous}"
        )
    return DataError(f"{place} cannot be read: {said(error)}")


def said(error: BaseException) -> str:
    """An error's text in one line, with its kind where it says little."""
    status = _status(error)
    if status is not None:
        return f"HTTP status {status}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status", None)  # aiohttp
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)  # what the hub's client raises
    return status if isinstance(status, int) and status >= 400 else None
