"""What the scripts share: ports from the environment, connections, and assertions that say what they saw."""

import imaplib
import os
import smtplib
import ssl
import time

HOST = "127.0.0.1"
BRIAN = "brian@example.net"
NOT_BRIAN = "notbrian@example.net"
PASSWORD = os.environ["PASSWORD"]

CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


def port(name):
    return int(os.environ[name])


def imap(account=BRIAN):
    client = imaplib.IMAP4_SSL(HOST, port("IMAPS"), ssl_context=CONTEXT, timeout=30)
    client.login(account, PASSWORD)
    return client


def ok(answer):
    """The data of an OK; anything else ends the script."""
    kind, data = answer
    assert kind == "OK", answer
    return data


def no(answer, code):
    kind, data = answer
    assert kind == "NO", answer
    assert code.encode() in data[0], answer


def same(seen, wanted):
    assert seen == wanted, f"saw {seen!r}, wanted {wanted!r}"


def raw(client, line):
    """Sends a command as it is; gives the untagged lines and the tagged one. After a BYE there is no tagged one."""
    tag = client._new_tag()
    client.send(tag + b" " + line.encode() + b"\r\n")
    untagged = []
    while True:
        answer = client.readline()
        if not answer and untagged and untagged[-1].startswith("* BYE"):
            return untagged, ""
        assert answer, "the server closed the connection"
        if answer.startswith(tag + b" "):
            return untagged, answer[len(tag) + 1 :].strip().decode()
        untagged.append(answer.strip().decode())


def deliver(to, subject, body="body"):
    with smtplib.SMTP(HOST, port("MX"), local_hostname="client.example.org", timeout=30) as client:
        client.sendmail("you@example.org", [to], f"Subject: {subject}\r\nFrom: you@example.org\r\n\r\n{body}\r\n")
    return time.monotonic()
