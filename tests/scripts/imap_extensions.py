"""Extensions: UIDPLUS, MOVE, CONDSTORE, ESEARCH, QUOTA, SPECIAL-USE, LIST-STATUS, ID, ENABLE, NAMESPACE, LITERAL+."""

import re

from house import *

client = imap()
capabilities = ok(client.capability())[0].decode().split()
for name in ["UIDPLUS", "MOVE", "CONDSTORE", "ESEARCH", "QUOTA", "SPECIAL-USE", "LIST-STATUS", "ID", "ENABLE", "NAMESPACE"]:
    assert name in capabilities, (name, capabilities)
assert not any(name.startswith("AUTH=") or name == "STARTTLS" for name in capabilities), capabilities

# LITERAL+, APPENDUID.
for number in range(1, 6):
    text = f"Subject: n{number}\r\n\r\nbody {number}\r\n".encode()
    tag = client._new_tag()
    client.send(tag + f" APPEND Archive {{{len(text)}+}}\r\n".encode() + text + b"\r\n")
    answer = client.readline()
    assert answer.startswith(tag + b" OK [APPENDUID "), answer
    same(answer.split(b" ")[4].rstrip(b"]"), str(number).encode())
same(ok(client.select("Archive")), [b"5"])

# UIDPLUS: UID EXPUNGE takes only what is named.
ok(client.store("1:2", "+FLAGS.SILENT", r"(\Deleted)"))
untagged, tagged = raw(client, "UID EXPUNGE 2")
same(untagged, ["* 2 EXPUNGE"])
same(ok(client.uid("SEARCH", "ALL")), [b"1 3 4 5"])
ok(client.store("1", "-FLAGS.SILENT", r"(\Deleted)"))

# MOVE: COPYUID, then EXPUNGE; afterwards it is there and not here.
untagged, tagged = raw(client, "UID MOVE 3:4 Trash")
assert any(re.match(r"\* OK \[COPYUID \d+ 3:4 1:2\]", line) for line in untagged), untagged
same([line for line in untagged if line.endswith("EXPUNGE")], ["* 2 EXPUNGE", "* 2 EXPUNGE"])
assert tagged.startswith("OK"), tagged
same(ok(client.uid("SEARCH", "ALL")), [b"1 5"])
assert b"MESSAGES 2" in ok(client.status("Trash", "(MESSAGES)"))[0]

# ESEARCH.
untagged, tagged = raw(client, "UID SEARCH RETURN (MIN MAX COUNT ALL) ALL")
line = [line for line in untagged if line.startswith("* ESEARCH")][0]
for part in ["UID", "MIN 1", "MAX 5", "COUNT 2", "ALL 1,5"]:
    assert part in line, line
untagged, tagged = raw(client, "SEARCH RETURN () SUBJECT n5")
assert any("ALL 2" in line for line in untagged), untagged

# CONDSTORE.
untagged, tagged = raw(client, "SELECT Archive (CONDSTORE)")
before = int(re.search(r"HIGHESTMODSEQ (\d+)", " ".join(untagged))[1])
untagged, tagged = raw(client, r"UID STORE 5 +FLAGS (\Flagged)")
modseq = int(re.search(r"MODSEQ \((\d+)\)", " ".join(untagged))[1])
assert modseq > before, (modseq, before)
untagged, tagged = raw(client, f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before})")
same(len([line for line in untagged if "FETCH" in line]), 1)
untagged, tagged = raw(client, f"UID STORE 1,5 (UNCHANGEDSINCE {before}) +FLAGS (\\Seen)")
assert "[MODIFIED 5]" in tagged, (untagged, tagged)
same(ok(client.uid("SEARCH", "SEEN")), [b"1"])
untagged, tagged = raw(client, f"UID SEARCH MODSEQ {modseq}")
assert any(re.match(r"\* SEARCH 1 5 \(MODSEQ \d+\)", line) for line in untagged), untagged
assert "HIGHESTMODSEQ" in ok(client.status("Archive", "(HIGHESTMODSEQ)"))[0].decode()

# QUOTA (R55, R77).
root, quota = ok(client.getquotaroot("INBOX"))
assert b'"User Quota"' in root[0], root
assert re.search(rb'"User Quota" \(STORAGE \d+ 1048576', quota[0]), quota
assert re.search(rb"STORAGE \d+ 1048576", ok(client.getquota('"User Quota"'))[0])

# SPECIAL-USE and LIST-STATUS.
untagged, tagged = raw(client, 'LIST (SPECIAL-USE) "" "*"')
uses = " ".join(untagged)
for use in [r"\Sent", r"\Drafts", r"\Trash", r"\Junk", r"\Archive"]:
    assert use in uses, (use, uses)
untagged, tagged = raw(client, 'LIST "" "%" RETURN (STATUS (MESSAGES UIDNEXT) SPECIAL-USE)')
assert any(re.match(r'\* STATUS "?Trash"? \(MESSAGES 2 UIDNEXT 3\)', line) for line in untagged), untagged

# NAMESPACE, ID, ENABLE.
assert b'(("" "/")) NIL NIL' in ok(client.namespace())[0]
untagged, tagged = raw(client, 'ID ("name" "test")')
assert any(line.startswith("* ID ") for line in untagged) and tagged.startswith("OK"), (untagged, tagged)
untagged, tagged = raw(imap(), "ENABLE CONDSTORE NOSUCHTHING")
same(untagged, ["* ENABLED CONDSTORE"])

# R94 for APPEND: what is too large is refused before it is sent.
untagged, tagged = "", ""
tag = client._new_tag()
client.send(tag + b" APPEND Archive {51200001}\r\n")
answer = client.readline()
assert answer.startswith(tag + b" NO [TOOBIG]"), answer
assert raw(client, "NOOP")[1].startswith("OK")
client.logout()
