"""Commands sent together with STARTTLS or STLS, in the clear, must never be executed inside TLS (V3)."""

import socket

from house import *


def line(sock):
    data = b""
    while not data.endswith(b"\n"):
        octet = sock.recv(1)
        if not octet:
            return data
        data += octet
    return data


def attack(service, before, request, injected, asked, wanted, forbidden):
    """Sends `request` and `injected` in one segment, goes on inside TLS with `asked`."""
    sock = socket.create_connection((HOST, port(service)), timeout=10)
    greeting = line(sock)
    for command, last in before:
        sock.sendall(command)
        while not line(sock).startswith(last):
            pass
    sock.sendall(request + injected)
    answer = line(sock)
    try:
        inside = CONTEXT.wrap_socket(sock)
        inside.sendall(asked)
        heard = b""
        while wanted not in heard:
            data = inside.recv(4096)
            if not data:
                break
            heard += data
    except (OSError, ssl.SSLError) as error:
        # The server hung up: nothing was obeyed.
        print(f"{service}: refused after {answer!r}: {error}")
        return
    print(f"{service}: {greeting!r} {answer!r} then {heard!r}")
    assert heard, "the server closed"
    assert forbidden not in heard, heard
    same(heard.split(b" ")[0].split(b"-")[0], wanted.split(b" ")[0].split(b"-")[0])


import ssl

ehlo = [(b"EHLO a\r\n", b"250 ")]
for service in ("MX", "SUBMISSION"):
    attack(service, ehlo, b"STARTTLS\r\n", b"NOOP\r\nRSET\r\n", b"QUIT\r\n", b"221 ", b"250")
    attack(service, ehlo, b"STARTTLS\r\n", b"EHLO inj", b"QUIT\r\n", b"221 ", b"250")
attack("IMAP", [], b"a STARTTLS\r\n", b"b NOOP\r\n", b"c LOGOUT\r\n", b"* BYE", b"b OK")
attack("POP3", [], b"STLS\r\n", b"CAPA\r\n", b"QUIT\r\n", b"+OK", b"TOP")
