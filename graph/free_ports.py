"""Ports of loopback for servers that are about to start here.

Not one that the system gives to port 0: it gives the same ones to outgoing connections, of which Ray opens dozens
between the choice and the bind. Seen once: HAProxy's "Address already in use", and a service that did not start.
"""

import random
import socket

_PORTS = range(20_000, 30_000)
"""Above Ray's workers (10,002 to 19,999 unless told otherwise), below Serve's replicas behind HAProxy (from 30,000) and
below what systems give to outgoing connections (from 32,768 on Linux, ip(7))."""


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on just now.

    Raises:
        OSError: There are not so many.
    """
    ports: list[int] = []
    # Without a seed: two services that start at once must not try the same ones.
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"no {count} ports are free from {_PORTS.start} to {_PORTS.stop - 1}; stop what listens there")


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
