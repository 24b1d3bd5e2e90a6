"""The life of a maildrop over POP3. `uidl` prints the unique identifiers; `life` goes through everything."""

import poplib
import sys

from house import *


def pop():
    client = poplib.POP3_SSL(HOST, port("POP3S"), context=CONTEXT, timeout=30)
    client.user(BRIAN)
    client.pass_(PASSWORD)
    return client


def uidls(client):
    return [line.decode().split(" ")[1] for line in client.uidl()[1]]


def subject(client, number):
    lines = client.top(number, 0)[1]
    return [line for line in lines if line.startswith(b"Subject: ")][0][9:].decode()


if sys.argv[1] == "uidl":
    client = pop()
    print("\n".join(uidls(client)))
    client.quit()
    sys.exit()

# STLS: nothing secret before TLS (R57).
client = poplib.POP3(HOST, port("POP3"), timeout=30)
assert client.getwelcome().startswith(b"+OK"), client.getwelcome()
before = client.capa()
assert "STLS" in before and "USER" not in before and "SASL" not in before, before
try:
    client.user(BRIAN)
    raise SystemExit("USER was taken in the clear")
except poplib.error_proto as error:
    assert "-ERR [AUTH] Plaintext authentication disallowed" in str(error), error
client.stls(context=CONTEXT)
inside = client.capa()
for name in ["TOP", "UIDL", "RESP-CODES", "PIPELINING", "AUTH-RESP-CODE", "USER", "SASL"]:
    assert name in inside, (name, inside)
same(inside["SASL"], ["PLAIN", "LOGIN"])
assert "STLS" not in inside, inside
try:
    client.user(BRIAN)
    client.pass_("wrong")
    raise SystemExit("a wrong password was taken")
except poplib.error_proto as error:
    assert "-ERR [AUTH]" in str(error), error
client.user(BRIAN)
client.pass_(PASSWORD)
client.quit()

client = pop()
count, octets = client.stat()
same(count, 6)
sizes = [int(line.split(b" ")[1]) for line in client.list()[1]]
same(sum(sizes), octets)
ids = uidls(client)
same(len(set(ids)), 6)
same(client.list(2), b"+OK 2 %d" % sizes[1])
same(client.uidl(2), f"+OK 2 {ids[1]}".encode())
# Lines arrive with dots taken off; sizes are those of the message.
answer, lines, size = client.retr(2)
same(size, sizes[1])
assert b".dot" in lines and b"..dot" not in lines, lines
same(sum(len(line) + 2 for line in lines), size)
# TOP: the header section, the empty line, and so many lines of the body.
top = client.top(2, 1)[1]
same(top, lines[: lines.index(b"") + 2])
same(client.top(2, 0)[1], lines[: lines.index(b"") + 1])
same(client.top(2, 100000)[1], lines)

# R60: what arrives during the session is not there for it.
deliver(BRIAN, "late")
same(client.stat()[0], 6)
client.dele(2)
same(client.stat(), (5, octets - sizes[1]))
for refused in (lambda: client.retr(2), lambda: client.dele(2), lambda: client.list(2), lambda: client.retr(7), lambda: client.retr(0)):
    try:
        refused()
        raise SystemExit("a message that is not there was given")
    except poplib.error_proto as error:
        assert str(error).startswith("b'-ERR"), error
client.rset()
same(client.stat(), (6, octets))
# R58: DELE, and the connection breaks: nothing is deleted.
client.dele(1)
client.dele(2)
client.sock.shutdown(2)
client.close()

client = pop()
same(client.stat()[0], 7)
same(uidls(client)[:6], ids)
# DELE and QUIT: gone for good.
same(subject(client, 2), "one")
client.dele(2)
client.quit()
client = pop()
same(client.stat()[0], 6)
same(uidls(client)[:5], ids[:1] + ids[2:])
client.noop()
client.quit()
# Two sessions at once: each keeps its own picture; what one deletes is an error to the other, and no harm.
first, second = pop(), pop()
same((first.stat()[0], second.stat()[0]), (6, 6))
deliver(BRIAN, "for-two")
first.dele(6)
first.dele(5)
first.quit()
same(second.stat()[0], 6)
same(subject(second, 1), "Welcome to pillarbox")
second.dele(6)
second.quit()
client = pop()
same([subject(client, number) for number in range(1, 6)], ["Welcome to pillarbox", "two", "three", "same", "for-two"])
client.quit()
# Gone in IMAP as well.
reader = imap()
same(ok(reader.select("INBOX")), [b"5"])
