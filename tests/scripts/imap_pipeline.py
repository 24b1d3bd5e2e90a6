"""A thousand commands sent at once by each of three sessions; the end is what a simple model says (V61)."""

import random
import threading

from house import *

MESSAGES = 60
FLAGS = [r"\Seen", r"\Flagged", r"\Answered", "$Label1", "$Label2"]

owner = imap()
for number in range(MESSAGES):
    ok(owner.append("Archive", "", None, f"Subject: m{number}\r\n\r\nbody\r\n".encode()))


def session(number, model):
    """Changes only every third message, so that the model needs no order between sessions."""
    choose = random.Random(number)
    mine = list(range(number + 1, MESSAGES + 1, 3))
    client = imap()
    ok(client.select("Archive"))
    commands = []
    for _ in range(1000):
        uid = choose.choice(mine)
        flag = choose.choice(FLAGS)
        kind = choose.randrange(8)
        if kind < 3:
            commands.append(f"UID STORE {uid} +FLAGS ({flag})")
            model[uid].add(flag)
        elif kind < 5:
            commands.append(f"UID STORE {uid} -FLAGS.SILENT ({flag})")
            model[uid].discard(flag)
        elif kind == 5:
            commands.append(f"UID FETCH {uid} (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        elif kind == 6:
            commands.append("UID SEARCH FLAGGED")
        elif len(mine) > 8:
            mine.remove(uid)
            del model[uid]
            commands.append(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
            commands.append(f"UID EXPUNGE {uid}" if choose.random() < 0.5 else f"UID MOVE {uid} Trash")
        else:
            commands.append("NOOP")
    text = "".join(f"p{index} {command}\r\n" for index, command in enumerate(commands)).encode()
    # Everything first, answers afterwards: a TLS socket of Python bears no second thread. The answers fit the sockets' buffers.
    client.send(text)
    for index, command in enumerate(commands):
        while True:
            line = client.readline()
            assert line, f"session {number} was closed at {command}"
            if line.startswith(b"p"):
                assert line.startswith(f"p{index} OK".encode()), (command, line)
                break
    client.logout()


models = [{uid: set() for uid in range(number + 1, MESSAGES + 1, 3)} for number in range(3)]
failures = []


def guarded(number):
    try:
        session(number, models[number])
    except BaseException as error:
        failures.append(f"session {number}: {error!r}")


threads = [threading.Thread(target=guarded, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures

wanted = {uid: flags for model in models for uid, flags in model.items()}
ok(owner.select("Archive", readonly=True))
untagged, tagged = raw(owner, "UID FETCH 1:* (FLAGS)")
seen = {}
for line in untagged:
    if "FETCH" in line:
        uid = int(line.split("UID ")[1].split(" ")[0].rstrip(")"))
        seen[uid] = set(line.split("FLAGS (")[1].split(")")[0].split()) - {r"\Recent"}
same(seen, wanted)
# The messages that were moved are whole, and usage is the sum of what is there.
root, quota = ok(owner.getquotaroot("INBOX"))
used = int(quota[0].split(b"STORAGE ")[1].split()[0])
octets = 0
for mailbox in ("INBOX", "Archive", "Trash"):
    count = int(ok(owner.select(mailbox, readonly=True))[0])
    if count:
        untagged, tagged = raw(owner, "FETCH 1:* (RFC822.SIZE)")
        octets += sum(int(line.split("RFC822.SIZE ")[1].split(")")[0]) for line in untagged if "RFC822.SIZE" in line)
assert used in (octets // 1024, -(-octets // 1024)), (used, octets)
