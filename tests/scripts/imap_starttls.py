"""The port with STARTTLS: nothing secret before TLS."""

import imaplib

from house import *

client = imaplib.IMAP4(HOST, port("IMAP"), timeout=30)
capabilities = ok(client.capability())[0].decode().split()
assert "STARTTLS" in capabilities and "LOGINDISABLED" in capabilities, capabilities
assert not any(name.startswith("AUTH=") for name in capabilities), capabilities
# R49: a password that was sent all the same is refused, and the user is told.
untagged, tagged = raw(client, f"LOGIN {BRIAN} {PASSWORD}")
assert tagged.startswith("NO [PRIVACYREQUIRED]"), tagged
assert any("[ALERT]" in line for line in untagged), untagged
untagged, tagged = raw(client, "AUTHENTICATE PLAIN AGEAYgBj")
assert tagged.startswith("NO [PRIVACYREQUIRED]"), tagged
untagged, tagged = raw(client, "SELECT INBOX")
assert tagged.startswith("BAD") or tagged.startswith("NO"), tagged

client.starttls(ssl_context=CONTEXT)
capabilities = [name.upper() for name in client.capabilities]
assert "STARTTLS" not in capabilities and "LOGINDISABLED" not in capabilities, capabilities
assert "AUTH=PLAIN" in capabilities, capabilities
ok(client.login(BRIAN, PASSWORD))
same(ok(client.select("INBOX")), [b"1"])
untagged, tagged = raw(client, "STARTTLS")
assert tagged.startswith("BAD"), tagged
client.logout()
