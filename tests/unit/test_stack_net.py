import socket

from hl_platform.stack.net import FREE_PORTS, LOOPBACK, free_port, is_taken


def test_a_free_port_is_never_handed_out_twice_nor_one_of_outgoing_connections():
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(FREE_PORTS)


def test_a_port_that_somebody_listens_on_is_taken():
    port = free_port()
    with socket.socket() as server:
        server.bind((LOOPBACK, port))
        server.listen()
        assert is_taken(port)
    assert not is_taken(port)
