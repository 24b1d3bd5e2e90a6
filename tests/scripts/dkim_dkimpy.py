"""Verifies DKIM signatures with dkimpy, without DNS.

Usage: dkim_dkimpy.py KEYS LIST
KEYS: a file of lines `record-name text`, the key records there are.
LIST: a file of names of messages, one a line; each message has as many of our signatures on top as there are keys.
Every signature must be good, and none when an octet of the body or of a signed field is another.
"""

import re
import sys

import dkim

keys_file, list_file = sys.argv[1:]
KEYS = dict(line.rstrip("\n").split(" ", 1) for line in open(keys_file, encoding="ascii"))
# An altered message is tried once in so many.
ALTERED_EVERY = 20


def answer(name, timeout=5):
    return KEYS.get(name.decode("ascii").rstrip("."), "").encode("ascii")


def verified(message, index):
    """Whether the signature is good, and what it was made with."""
    try:
        checked = dkim.DKIM(message)
        good = checked.verify(idx=index, dnsfunc=answer)
        return good, checked.signature_fields.get(b"a", b"").decode()
    except dkim.DKIMException as error:
        return False, str(error)


def alterations(message):
    header, body = message.split(b"\r\n\r\n", 1)
    if re.search(rb"[a-z]", body):
        yield header + b"\r\n\r\n" + re.sub(rb"[a-z]", b"#", body, count=1)
    yield re.sub(rb"(?mi)^from:", b"From: x", message, count=1)
    yield b"From: somebody@else.example\r\n" + message


failures = []
good = {}
names = open(list_file, encoding="utf-8").read().split("\n")
for number, name in enumerate(names):
    with open(name, "rb") as file:
        message = file.read()
    for index in range(len(KEYS)):
        is_good, what = verified(message, index)
        if is_good:
            good[what] = good.get(what, 0) + 1
        else:
            failures.append(f"{name}: signature {index}: {what}")
        if number % ALTERED_EVERY == 0:
            for altered in alterations(message):
                if verified(altered, index)[0]:
                    failures.append(f"{name}: signature {index} is good over an altered message")

print(f"good={sum(good.values())}", *(f"{what}: {count}" for what, count in sorted(good.items())))
for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)
