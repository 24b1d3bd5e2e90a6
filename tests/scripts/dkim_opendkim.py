"""Verifies DKIM signatures with OpenDKIM's library, without DNS.

Usage: dkim_opendkim.py KEYS LIST
KEYS: a file of lines `record-name text`, the key records there are.
LIST: a file of names of messages, one a line; each message has as many of our signatures on top as there are keys.
Every signature must be good, and none when an octet of the body or of a signed field is another. Messages whose From: has
no address are not judged, because OpenDKIM does not judge them.

The program `opendkim -t` does not do: it passes fields on as the milter protocol does, which keeps no white space before
a value, and it wants an address in From:.
"""

import ctypes
import re
import sys

# Of <opendkim/dkim.h>.
STAT_OK, STAT_SYNTAX = 0, 5
OP_SETOPT, OPTS_QUERYMETHOD, OPTS_QUERYINFO = 1, 6, 7
QUERY_FILE = 1
SIGFLAG_PASSED, SIGBH_MATCH = 0x04, 0
# An altered message is tried once in so many.
ALTERED_EVERY = 20

lib = ctypes.CDLL("libopendkim.so.11")
lib.dkim_init.restype = ctypes.c_void_p
lib.dkim_init.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
lib.dkim_options.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
lib.dkim_verify.restype = ctypes.c_void_p
lib.dkim_verify.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
lib.dkim_header.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
lib.dkim_eoh.argtypes = [ctypes.c_void_p]
lib.dkim_body.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
lib.dkim_eom.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
lib.dkim_getsiglist.argtypes = [
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)),
    ctypes.POINTER(ctypes.c_int),
]
lib.dkim_sig_process.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
lib.dkim_sig_getflags.restype = ctypes.c_uint
lib.dkim_sig_getflags.argtypes = [ctypes.c_void_p]
lib.dkim_sig_getbh.argtypes = [ctypes.c_void_p]
lib.dkim_sig_geterror.argtypes = [ctypes.c_void_p]
lib.dkim_sig_geterrorstr.restype = ctypes.c_char_p
lib.dkim_sig_geterrorstr.argtypes = [ctypes.c_int]
lib.dkim_free.argtypes = [ctypes.c_void_p]

keys_file, list_file = sys.argv[1:]
KEYS = sum(1 for _ in open(keys_file, encoding="ascii"))
handle = lib.dkim_init(None, None)
method = ctypes.c_int(QUERY_FILE)
info = ctypes.create_string_buffer(keys_file.encode(), len(keys_file) + 1)
assert lib.dkim_options(handle, OP_SETOPT, OPTS_QUERYMETHOD, ctypes.byref(method), ctypes.sizeof(method)) == STAT_OK
assert lib.dkim_options(handle, OP_SETOPT, OPTS_QUERYINFO, info, len(keys_file)) == STAT_OK


def parts(message):
    """The header without its last line end, and the body; a message may end with its header."""
    header, _, body = message.partition(b"\r\n\r\n")
    return header.removesuffix(b"\r\n"), body


def verdicts(message):
    """For each of our signatures `None` when it is good, or what is wrong; nothing where it cannot be judged."""
    header, body = parts(message)
    status = ctypes.c_int(0)
    dkim = lib.dkim_verify(handle, b"test", None, ctypes.byref(status))
    assert dkim, status.value
    try:
        for field in re.split(rb"\r\n(?![ \t])", header):
            got = lib.dkim_header(dkim, field, len(field))
            if got != STAT_OK:
                return [f"dkim_header gives {got} for {field[:80]!r}"] * KEYS
        got = lib.dkim_eoh(dkim)
        if got == STAT_SYNTAX and not re.search(rb"(?mi)^from:.*@", header):
            return []
        if got != STAT_OK:
            return [f"dkim_eoh gives {got}"] * KEYS
        if body:
            got = lib.dkim_body(dkim, body, len(body))
            if got != STAT_OK:
                return [f"dkim_body gives {got}"] * KEYS
        lib.dkim_eom(dkim, None)
        signatures = ctypes.POINTER(ctypes.c_void_p)()
        count = ctypes.c_int(0)
        got = lib.dkim_getsiglist(dkim, ctypes.byref(signatures), ctypes.byref(count))
        if got != STAT_OK or count.value < KEYS:
            return [f"dkim_getsiglist gives {got} and {count.value} signatures"] * KEYS
        return [verdict(dkim, signatures[index]) for index in range(KEYS)]
    finally:
        lib.dkim_free(dkim)


def verdict(dkim, signature):
    lib.dkim_sig_process(dkim, signature)
    passed = lib.dkim_sig_getflags(signature) & SIGFLAG_PASSED
    if passed and lib.dkim_sig_getbh(signature) == SIGBH_MATCH:
        return None
    return (lib.dkim_sig_geterrorstr(lib.dkim_sig_geterror(signature)) or b"not passed").decode()


def alterations(message):
    header, body = parts(message)
    if re.search(rb"[a-z]", body):
        yield header + b"\r\n\r\n" + re.sub(rb"[a-z]", b"#", body, count=1)
    yield re.sub(rb"(?mi)^from:", b"From: x", message, count=1)
    yield b"From: somebody@else.example\r\n" + message


failures = []
good = 0
names = open(list_file, encoding="utf-8").read().split("\n")
for number, name in enumerate(names):
    with open(name, "rb") as file:
        message = file.read()
    for index, wrong in enumerate(verdicts(message)):
        if wrong is None:
            good += 1
        else:
            failures.append(f"{name}: signature {index}: {wrong}")
    if number % ALTERED_EVERY == 0:
        for altered in alterations(message):
            if None in verdicts(altered):
                failures.append(f"{name}: a signature is good over an altered message")

print(f"good={good}")
for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)
