"""Ports for what is about to start: nobody listens there, and no outgoing connection is given one meanwhile."""

import socket

import pytest

from graph import free_ports


def test_they_are_different_and_nobody_listens_there() -> None:
    ports = free_ports.free_ports(50)
    assert len(set(ports)) == 50
    for port in ports:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_none_is_one_that_the_system_gives_to_outgoing_connections() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as told:
        lowest = int(told.read().split()[0])
    assert max(free_ports.free_ports(50)) < lowest


def test_one_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(free_ports, "_PORTS", range(port, port + 1))
        with pytest.raises(OSError, match="no 1 ports are free"):
            free_ports.free_port()


def test_the_last_one_there_is_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports.free_port()
    monkeypatch.setattr(free_ports, "_PORTS", range(port, port + 1))
    assert free_ports.free_port() == port
