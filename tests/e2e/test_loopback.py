"""In CI the suite runs where there is no network but loopback: whatever passes there reaches for nothing else."""

from __future__ import annotations

import errno
import os
import socket

import pytest

# Set by `.ci/run` where it could make such a network.
CLOSED = "LOOPBACK_ONLY" in os.environ
# Addresses set aside for documentation: routable, and nobody's.
ELSEWHERE = [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")]


def refusal(family: socket.AddressFamily, address: str, port: int) -> int:
    """The error of a connection, 0 where there is none."""
    with socket.socket(family) as line:
        line.settimeout(10)
        return line.connect_ex((address, port))


@pytest.mark.skipif(not CLOSED, reason="the network is open here")
def test_nothing_but_loopback_can_be_reached() -> None:
    for family, address in ELSEWHERE:
        assert refusal(family, address, 443) in {errno.ENETUNREACH, errno.EADDRNOTAVAIL}, address
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.org", 443)
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


def test_loopback_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert refusal(socket.AF_INET, "127.0.0.1", port) == 0
    assert refusal(socket.AF_INET, "127.0.0.1", port) == errno.ECONNREFUSED
