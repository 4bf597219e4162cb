"""Ports for servers that a test starts as processes of their own."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

__all__ = ["free_port", "free_ports"]


def free_ports(count: int) -> list[int]:
    """Ports that nobody else takes before the server does: below those that the system gives to
    connections, and of each worker of the tests its own.
    """
    first = 10_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    free: list[int] = []
    for port in random.sample(range(first, first + 1_000), 1_000):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            break
    return free


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
