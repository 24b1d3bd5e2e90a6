"""Compares BODYSTRUCTURE and the parts with what Python's email package sees in the same octets.

Arguments: an account whose mailbox Archive has the messages, and a file with their names, in order. Every difference
is printed and fails the script.
"""

import email
import email.errors
import email.policy
import re
import sys

from house import *

TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|([()])|\{(\d+)\}\r\n|([^\s()"{]+)|\s+')


def parse(data):
    """A parenthesized list as nested Python lists; strings as bytes, NIL as None, numbers as int."""
    stack, place = [[]], 0
    while place < len(data):
        found = TOKEN.match(data, place)
        assert found, data[place : place + 80]
        place = found.end()
        string, bracket, literal, atom = found.groups()
        if bracket == b"(":
            stack.append([])
        elif bracket == b")":
            whole = stack.pop()
            stack[-1].append(whole)
        elif literal:
            size = int(literal)
            stack[-1].append(data[place : place + size])
            place += size
        elif string is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", string))
        elif atom is not None:
            stack[-1].append(None if atom.upper() == b"NIL" else int(atom) if atom.isdigit() else atom)
    assert len(stack) == 1, "brackets"
    return stack[0]


def ours(body):
    """(type, [children]) of a BODYSTRUCTURE."""
    if isinstance(body[0], list):
        children = [part for part in body if isinstance(part, list)]
        count = next(index for index, part in enumerate(body) if not isinstance(part, list))
        return ("multipart/" + body[count].decode().lower(), [ours(part) for part in children[:count]])
    kind = f"{body[0].decode()}/{body[1].decode()}".lower()
    if kind in ("message/rfc822", "message/global"):
        return (kind, [ours(body[8])])
    return (kind, [])


def theirs(message):
    # Where a semicolon is missing, Python keeps all of the line: `text/plain charset=us-ascii`.
    kind = message.get_content_type().lower().split()[0]
    if kind.startswith("multipart/"):
        if not message.is_multipart():
            # Its boundary never comes. BODYSTRUCTURE has no form for a multipart without parts; ours is then the text
            # that a reader sees.
            return ("text/plain", [])
        return (kind, [theirs(part) for part in message.get_payload()])
    if kind in ("message/rfc822", "message/global") and message.is_multipart():
        return (kind, [theirs(message.get_payload()[0])])
    return (kind, [])


def leaves(tree, prefix=""):
    """Section numbers of the parts of a tree that have no parts, in order."""
    kind, children = tree
    if kind.startswith("multipart/"):
        return [leaf for number, child in enumerate(children, 1) for leaf in leaves(child, f"{prefix}{number}.")]
    if kind.startswith("message/") and children:
        child = children[0]
        return leaves(child, prefix if child[0].startswith("multipart/") else f"{prefix}1.")
    return [prefix[:-1] or "1"]


def bodies(message):
    """The encoded bodies of the same parts, as Python sees them; None where it takes them further apart."""
    if message.get_content_type() == "message/delivery-status":
        return [None]
    if message.is_multipart():
        return [body for part in message.get_payload() for body in bodies(part)]
    return [str(message.get_payload()).encode("latin-1")]


def lines(octets):
    """Without differences of line ends, and without those at the end: whose they are is a matter of taste."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")


def fetch(client, number, what):
    tag = client._new_tag()
    client.send(tag + f" FETCH {number} ({what})\r\n".encode())
    data = b""
    while True:
        line = client.readline()
        assert line, "the server closed the connection"
        if line.startswith(tag):
            assert line.startswith(tag + b" OK"), line
            items = parse(data[data.index(b"(") :])[0]
            return dict(zip(items[::2], items[1::2]))
        data += line
        literal = re.search(rb"\{(\d+)\}\r\n$", line)
        if literal:
            data += client.read(int(literal[1]))


client = imap(sys.argv[1])
ok(client.select("Archive", readonly=True))
def ends_early(message):
    """Whether Python ended a header section at a line that is no field. Ours ends at the empty line (RFC 5322 §2.1)."""
    return any(
        isinstance(defect, email.errors.MissingHeaderBodySeparatorDefect) for part in message.walk() for defect in part.defects
    )


names = open(sys.argv[2]).read().split("\n")
wrong = parts = 0
for number, name in enumerate(names, 1):
    pairs = fetch(client, number, "BODYSTRUCTURE BODY.PEEK[]")
    # As Latin-1, every octet is a character and Python leaves it alone.
    message = email.message_from_string(pairs[b"BODY[]"].decode("latin-1"), policy=email.policy.compat32)
    if ends_early(message):
        continue
    mine, other = ours(pairs[b"BODYSTRUCTURE"]), theirs(message)
    if mine != other:
        wrong += 1
        print(f"{name}: other parts\n   ours   {mine}\n   python {other}")
        continue
    sections = leaves(mine)
    pairs = fetch(client, number, " ".join(f"BODY.PEEK[{section}]" for section in sections))
    for section, body in zip(sections, bodies(message), strict=True):
        parts += 1
        seen = pairs[f"BODY[{section}]".encode()] or b""
        if body is not None and lines(seen) != lines(body):
            wrong += 1
            print(f"{name}: part {section} differs\n   ours   {seen[:80]!r} {len(seen)}\n   python {body[:80]!r} {len(body)}")
print(f"{len(names)} messages, {parts} parts, {wrong} different")
sys.exit(wrong > 0)
