"""The life of mailboxes and messages over IMAP4rev1."""

import imaplib
import re
import time

from house import *

client = imap()
assert "IMAP4REV1" in client.capabilities or "IMAP4rev1" in client.capabilities, client.capabilities

# R50: wrong passwords get the response code of RFC 5530.
stranger = imaplib.IMAP4_SSL(HOST, port("IMAPS"), ssl_context=CONTEXT, timeout=30)
try:
    stranger.login(BRIAN, "wrong")
    raise SystemExit("a wrong password was taken")
except imaplib.IMAP4.error as error:
    assert "[AUTHENTICATIONFAILED]" in str(error), error
# The same connection may try again, with AUTHENTICATE.
ok(stranger.authenticate("PLAIN", lambda _: f"\0{BRIAN}\0{PASSWORD}".encode()))
stranger.logout()
# R35: names are folded to lower case.
folded = imaplib.IMAP4_SSL(HOST, port("IMAPS"), ssl_context=CONTEXT, timeout=30)
ok(folded.login("Brian@Example.NET", PASSWORD))
folded.logout()

# Mailboxes: hierarchy, international names, subscription, rename, delete.
ok(client.create("Work"))
ok(client.create("Work/2024"))
ok(client.create('"Entw&APw-rfe"'))
no(client.create("Work"), "[ALREADYEXISTS]")
no(client.select("Nowhere"), "[NONEXISTENT]")
names = [line.decode() for line in ok(client.list())]
for name in ["INBOX", "Work", "Work/2024", "Entw&APw-rfe"]:
    assert any(re.search(rf'"?{re.escape(name)}"?$', line) for line in names), (name, names)
same([re.search(r"\(.*HasChildren.*\)", line) is not None for line in names if line.endswith(("Work", '"Work"'))], [True])
ok(client.subscribe("Work/2024"))
subscribed = [line.decode() for line in ok(client.lsub('""', "*"))]
assert any("Work/2024" in line for line in subscribed), subscribed
top = [line.decode() for line in ok(client.list('""', "%"))]
assert not any("Work/2024" in line for line in top), top
ok(client.rename("Work", "Office"))
names = [line.decode() for line in ok(client.list())]
assert any("Office/2024" in line for line in names) and not any("Work/2024" in line for line in names), names
ok(client.delete("Office/2024"))
ok(client.delete("Office"))
same(ok(client.list('""', "Office*")), [None])

# APPEND with flags and date, and what is read back.
TEXT = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\nTo: Brian <brian@example.net>, other@example.org\r\n"
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\nMessage-ID: <life@example.org>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\nprologue\r\n--b\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nHello body\r\n--b\r\nContent-Type: image/png; name=\"x.png\"\r\n"
    b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"x.png\"\r\n\r\nAAAA\r\n--b--\r\n"
)
when = time.strptime("2020-02-29 12:00:00", "%Y-%m-%d %H:%M:%S")
answer = ok(client.append("Drafts", r"(\Seen \Draft $Label1)", '"29-Feb-2020 12:00:00 +0100"', TEXT))
appended = re.search(rb"\[APPENDUID (\d+) (\d+)\]", answer[0])
assert appended, answer
same(ok(client.select("Drafts")), [b"1"])
same(client.untagged_responses.get("UIDVALIDITY"), [appended[1]])
uid = appended[2].decode()
data = ok(client.uid("FETCH", uid, "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))
line = b" ".join(part if isinstance(part, bytes) else b"".join(part) for part in data).decode()
assert f"RFC822.SIZE {len(TEXT)}" in line, line
assert 'INTERNALDATE "29-Feb-2020 12:00:00 +0100"' in line, line
for flag in [r"\Seen", r"\Draft", "$Label1"]:
    assert flag in line, (flag, line)
assert '"Mon, 7 Feb 1994 21:52:25 -0800" "=?iso-8859-1?q?Gr=FC=DFe?="' in line, line
assert '(("=?utf-8?q?J=C3=BCrgen?=" NIL "juergen" "example.org"))' in line, line
assert '(("Brian" NIL "brian" "example.net")(NIL NIL "other" "example.org"))' in line, line
assert '"<life@example.org>"' in line, line
assert '("TEXT" "PLAIN" ("CHARSET" "utf-8")' in line.replace("text", "TEXT").replace("plain", "PLAIN").replace("charset", "CHARSET"), line
assert '("ATTACHMENT" ("FILENAME" "x.png"))' in line.upper().replace("X.PNG", "x.png"), line


def section(name):
    return ok(client.uid("FETCH", uid, f"(BODY.PEEK[{name}])"))[0][1]


same(section(""), TEXT)
same(section("1"), b"Hello body")
same(section("2"), b"AAAA")
same(section("2.MIME"), TEXT.split(b"--b\r\n")[2].split(b"\r\n\r\n")[0] + b"\r\n\r\n")
same(section("HEADER"), TEXT.split(b"\r\n\r\n")[0] + b"\r\n\r\n")
same(section("TEXT"), TEXT.split(b"\r\n\r\n", 1)[1])
same(section("HEADER.FIELDS (SUBJECT)"), b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n\r\n")
kept = section("HEADER.FIELDS.NOT (SUBJECT)")
assert b"Subject:" not in kept and kept.startswith(b"From:") and kept.endswith(b"\r\n\r\n"), kept
same(ok(client.uid("FETCH", uid, "(BODY.PEEK[]<6.10>)"))[0][1], TEXT[6:16])
same(ok(client.uid("FETCH", uid, "(RFC822.HEADER)"))[0][1], TEXT.split(b"\r\n\r\n")[0] + b"\r\n\r\n")

# SEARCH.
for number in range(1, 6):
    ok(client.append("Drafts", "", None, f"Subject: n{number}\r\nFrom: x@example.org\r\n\r\nneedle{number} hay\r\n".encode()))
search = lambda *keys: ok(client.search(None, *keys))[0].decode().split()
same(search("ALL"), ["1", "2", "3", "4", "5", "6"])
same(search("SUBJECT", "n3"), ["4"])
same(search("BODY", '"needle5 hay"'), ["6"])
same(search("TEXT", '"x@example.org"'), ["2", "3", "4", "5", "6"])
same(search("KEYWORD", "$Label1"), ["1"])
same(search("UNSEEN", "NOT", "SUBJECT", "n1"), ["3", "4", "5", "6"])
same(search("OR", "SUBJECT", "n1", "SUBJECT", "n2"), ["2", "3"])
same(search("SINCE", "28-Feb-2020", "BEFORE", "2-Mar-2020"), ["1"])
same(search("SENTON", "7-Feb-1994"), ["1"])
same(search("LARGER", "300"), ["1"])
same(search("2:4", "BODY", "hay"), ["2", "3", "4"])
same(search("HEADER", "Message-ID", '"life@"'), ["1"])
client.literal = "Grüße".encode()
same(ok(client.search("UTF-8", "SUBJECT"))[0].split(), [b"1"])
same([number.decode() for number in ok(client.uid("SEARCH", "SUBJECT n5"))[0].split()], [str(int(uid) + 5)])

# STORE, COPY, EXPUNGE.
ok(client.store("2:3", "+FLAGS", r"(\Flagged important)"))
same(search("FLAGGED"), ["2", "3"])
ok(client.store("2", "-FLAGS", r"(\Flagged)"))
ok(client.store("3", "FLAGS", r"(\Answered)"))
same(search("FLAGGED"), [])
same(search("ANSWERED"), ["3"])
same(search("KEYWORD", "important"), ["2"])
copied = ok(client.copy("4:5", "Archive"))
assert b"[COPYUID " in copied[0], copied
ok(client.store("1,6", "+FLAGS.SILENT", r"(\Deleted)"))
same(ok(client.expunge()), [b"1", b"5"])
same(search("ALL"), ["1", "2", "3", "4"])
same(ok(client.select("Archive")), [b"2"])
same(ok(client.status("Archive", "(MESSAGES UIDNEXT UNSEEN RECENT UIDVALIDITY)"))[0].split(b" ")[1:3], [b"(MESSAGES", b"2"])

# EXAMINE changes nothing; CLOSE expunges; UNSELECT does not.
ok(client.select("Archive", readonly=True))
assert client.store("1", "+FLAGS", r"(\Seen)")[0] in ("NO", "BAD")
ok(client.select("Archive"))
ok(client.store("1", "+FLAGS.SILENT", r"(\Deleted)"))
ok(client.unselect())
same(ok(client.select("Archive")), [b"2"])
ok(client.close())
same(ok(client.select("Archive")), [b"1"])
# FETCH of BODY[] marks a message seen, BODY.PEEK[] does not.
same(search("SEEN"), [])
ok(client.fetch("1", "(BODY.PEEK[])"))
same(search("SEEN"), [])
ok(client.fetch("1", "(BODY[TEXT])"))
same(search("SEEN"), ["1"])

# A bad command hurts nobody.
untagged, tagged = raw(client, "FROBNICATE now")
assert tagged.startswith("BAD"), tagged
untagged, tagged = raw(client, "FETCH 1 (NOSUCHITEM)")
assert tagged.startswith("BAD"), tagged
untagged, tagged = raw(client, "NOOP")
assert tagged.startswith("OK"), tagged
kind, data = client.logout()
same(kind, "BYE")
