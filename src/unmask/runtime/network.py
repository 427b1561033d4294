"""Whether a host answers at all, so that nobody waits for retries where there is no network."""

import socket
import threading
import urllib.request
from urllib.parse import urlsplit

PATIENCE = 8.0  # seconds for a name to be looked up and a connection to be made; a slow line takes one or two
PORTS = {"http": 80, "https": 443}


def why_unreachable(address: str, patience: float = PATIENCE) -> str:
    """What keeps a connection to the host of an address, or to the proxy that leads there, from being made; "" where
    it is made. Nothing is sent."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    proxy = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(parts.scheme, "")
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    problems = [f"no answer within {patience:g} seconds"]  # until there is one

    def connect() -> None:
        try:
            port = parts.port or PORTS.get(parts.scheme, 443)
            socket.create_connection((parts.hostname or "", port), timeout=patience).close()
            problems[0] = ""
        except (OSError, ValueError) as error:
            problems[0] = str(error) or type(error).__name__

    attempt = threading.Thread(target=connect, daemon=True)  # looking up a name has no time limit of its own
    attempt.start()
    attempt.join(patience)
    return problems[0] and f"{parts.hostname or address}: {problems[0]}"
