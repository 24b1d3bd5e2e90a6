"""Hundreds of TLS connections, each for another name, each breaking off in the middle of a login."""

import socket
import sys

from house import *

for number in range(300):
    sock = socket.create_connection((HOST, port("SUBMISSIONS")), timeout=30)
    name = f"name-{sys.argv[1]}-{number}-" + "x" * 40 + ".example.net"
    inside = CONTEXT.wrap_socket(sock, server_hostname=name)
    inside.recv(1000)
    inside.sendall(b"EHLO a\r\n")
    inside.recv(1000)
    inside.sendall(b"AUTH LOGIN\r\n")
    inside.recv(1000)
    inside.sendall(b"QUFB" * 100)
    inside.close()
