"""Two sessions see each other's changes; IDLE tells without being asked (R51, R52)."""

import select
import time

from house import *

first, second = imap(), imap()
ok(first.select("INBOX"))
ok(second.select("INBOX"))

# A flag set in one shows in the other at NOOP.
ok(first.store("1", "+FLAGS", r"(\Flagged $Label1)"))
untagged, tagged = raw(second, "NOOP")
assert any(line.startswith("* 1 FETCH (") and r"\Flagged" in line for line in untagged), untagged

# A delivery shows in both.
deliver(BRIAN, "arrives")
for client in (first, second):
    untagged, tagged = raw(client, "NOOP")
    assert "* 2 EXISTS" in untagged, untagged

# An expunge is held back while FETCH by number runs, and comes at NOOP.
ok(first.store("1", "+FLAGS.SILENT", r"(\Deleted)"))
ok(first.expunge())
untagged, tagged = raw(second, "FETCH 2 (UID)")
assert not any("EXPUNGE" in line for line in untagged), untagged
untagged, tagged = raw(second, "NOOP")
assert "* 1 EXPUNGE" in untagged, untagged
untagged, tagged = raw(second, "FETCH 1 (UID)")
same(untagged, ["* 1 FETCH (UID 2)"])

# IDLE: nobody asks, and it comes at once.
tag = second._new_tag()
second.send(tag + b" IDLE\r\n")
assert second.readline().startswith(b"+ "), "no continuation"


def hears(what):
    while True:
        line = second.readline().strip()
        assert line, "the server closed the connection"
        if line == what or (what.endswith(b"*") and line.startswith(what[:-1])):
            return time.monotonic()


worst = 0
for number in range(2, 12):
    sent = deliver(BRIAN, f"idle{number}")
    worst = max(worst, hears(b"* %d EXISTS" % number) - sent)
print(f"EXISTS at most {worst * 1000:.1f} ms after the 250")
ok(first.noop())
ok(first.store("1", "+FLAGS", r"(\Seen)"))
hears(b"* 1 FETCH (*")
ok(first.store("2:3", "+FLAGS.SILENT", r"(\Deleted)"))
ok(first.expunge())
hears(b"* 2 EXPUNGE")
hears(b"* 2 EXPUNGE")
ok(first.append("INBOX", "", None, b"Subject: appended\r\n\r\nx\r\n"))
hears(b"* 10 EXISTS")
# A change elsewhere is none of this session's business.
ok(first.append("Archive", "", None, b"Subject: elsewhere\r\n\r\nx\r\n"))
readable, _, _ = select.select([second.socket()], [], [], 0.3)
assert not readable or second.sock.pending() == 0, "IDLE told of another mailbox"
second.send(b"DONE\r\n")
hears(tag + b" OK*")

# Two sessions delete at once; nobody ends with a number too many.
ok(first.store("1:*", "+FLAGS.SILENT", r"(\Deleted)"))
ok(first.expunge())
untagged, tagged = raw(second, "NOOP")
same(len([line for line in untagged if line.endswith("EXPUNGE")]), 10)
same(ok(second.search(None, "ALL")), [b""])
untagged, tagged = raw(second, "FETCH 1 (UID)")
assert not untagged and not tagged.startswith("OK"), (untagged, tagged)

# A mailbox deleted under a session does not hurt it.
ok(first.create("Gone"))
ok(second.select("Gone"))
ok(first.delete("Gone"))
untagged, tagged = raw(second, "NOOP")
assert tagged.startswith("OK") or untagged and untagged[-1].startswith("* BYE"), (untagged, tagged)
first.logout()
