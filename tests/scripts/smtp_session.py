"""SMTP by smtplib, from a client that is not trusted: extensions, wrong orders, sizes, parameters."""

import base64
import smtplib

from house import *


def smtp(service="MX"):
    return smtplib.SMTP(HOST, port(service), local_hostname="client.example.org", timeout=30)


def says(client, line, reply):
    code, text = client.docmd(line)
    seen = f"{code} {text.decode()}"
    assert seen.startswith(reply), f"{line}: saw {seen!r}, wanted {reply!r}"


# R100: wrong orders.
client = smtp()
says(client, "MAIL FROM:<a@example.org>", "503 5.5.1 Error: send HELO/EHLO first")
client.ehlo()
for name in ["pipelining", "size", "vrfy", "etrn", "starttls", "enhancedstatuscodes", "8bitmime", "dsn"]:
    assert client.has_extn(name), (name, client.esmtp_features)
same(client.esmtp_features["size"], "51200000")
assert not client.has_extn("auth"), client.esmtp_features
says(client, "RCPT TO:<brian@example.net>", "503 5.5.1 Error: need MAIL command")
says(client, "DATA", "503 5.5.1 Error: need ")
says(client, "FROBNICATE", "500 5.5.2 Error: command not recognized")
says(client, "MAIL FROM:<a@example.org>", "250 2.1.0 Ok")
says(client, "MAIL FROM:<a@example.org>", "503 5.5.1 Error: nested MAIL command")
says(client, "DATA", "503 5.5.1 Error: need RCPT command")
says(client, "RSET", "250 2.0.0 Ok")
# R94, R95: parameters.
says(client, "MAIL FROM:<a@example.org> SIZE=51200001", "552 5.3.4 Message size exceeds fixed limit")
says(client, "MAIL FROM:<a@example.org> FOO=1", "555 5.5.4 Unsupported option: FOO=1")
says(client, "MAIL FROM:<a@example.org> BODY=9BIT", "501 5.5.4")
says(client, "MAIL FROM:<a@example.org> BODY=8BITMIME SIZE=1000 RET=HDRS ENVID=x1", "250 2.1.0 Ok")
says(client, "RCPT TO:<brian@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;brian@example.net", "250 2.1.5 Ok")
says(client, "RCPT TO:<brian@example.net> NOTIFY=NEVER,FAILURE", "501 5.5.4")
says(client, "RSET", "250 2.0.0 Ok")
# R74: no authentication here, not even inside TLS.
says(client, "AUTH PLAIN AGEAYgBj", "503 5.5.1 Error: authentication not enabled")
says(client, "STARTTLS now", "501 5.5.4 Syntax: STARTTLS")
client.starttls(context=CONTEXT)
says(client, "MAIL FROM:<a@example.org>", "503 5.5.1 Error: send HELO/EHLO first")
client.ehlo()
assert not client.has_extn("starttls") and not client.has_extn("auth"), client.esmtp_features
says(client, "STARTTLS", "554 5.5.1 Error: TLS already active")
# R101: a message that goes in a circle.
loop = "".join(f"Received: from a by b; hop {number}\r\n" for number in range(51)) + "Subject: loop\r\n\r\nx\r\n"
try:
    client.sendmail("a@example.org", [BRIAN], loop)
    raise SystemExit("a loop was taken")
except smtplib.SMTPDataError as error:
    same(error.smtp_code, 554)
    assert error.smtp_error.startswith(b"5.4.0 Error: too many hops"), error
# V7: after a refused message the transaction is empty.
says(client, "RCPT TO:<brian@example.net>", "503 5.5.1 Error: need MAIL command")
client.sendmail("", [BRIAN], "Subject: null\r\n\r\nfrom nobody\r\n")
# 8-bit text and long lines pass unchanged.
client.sendmail("a@example.org", [BRIAN], b"Subject: eight\r\n\r\n" + "Grüße\r\n".encode("latin-1") + b"y" * 900 + b"\r\n")
# R94: what turns out to be too large is refused at its end, and the session goes on.
says(client, "MAIL FROM:<a@example.org>", "250 2.1.0 Ok")
says(client, "RCPT TO:<brian@example.net>", "250 2.1.5 Ok")
says(client, "DATA", "354 ")
client.send(b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 52_000 + b".\r\n")
same(client.getreply(), (552, b"5.3.4 Error: message file too big"))
says(client, "NOOP", "250 2.0.0 Ok")
client.quit()

# R72: every way in which a login fails.
client = smtp("SUBMISSION")
client.ehlo()
assert not client.has_extn("auth"), client.esmtp_features
says(client, "AUTH PLAIN AGEAYgBj", "530 5.7.0 Must issue a STARTTLS command first")
client.starttls(context=CONTEXT)
says(client, "AUTH PLAIN AGEAYgBj", "503 5.5.1 Error: send HELO/EHLO first")
client.ehlo()
same(client.esmtp_features["auth"].split(), ["PLAIN", "LOGIN"])
says(client, "AUTH CRAM-MD5", "504 5.5.4")
says(client, "AUTH PLAIN", "334 ")
says(client, "*", "501 5.7.0 Authentication aborted")
says(client, "AUTH LOGIN", "334 VXNlcm5hbWU6")
says(client, base64.b64encode(BRIAN.encode()).decode(), "334 UGFzc3dvcmQ6")
says(client, base64.b64encode(b"wrong").decode(), "535 5.7.8 Error: authentication failed")
says(client, "AUTH PLAIN !!!", "501 5.5.2")
says(client, "AUTH LOGIN " + base64.b64encode(BRIAN.encode()).decode(), "334 UGFzc3dvcmQ6")
says(client, base64.b64encode(PASSWORD.encode()).decode(), "235 2.7.0 Authentication successful")
says(client, "AUTH PLAIN AGEAYgBj", "503 5.5.1 Error: already authenticated")
client.sendmail(BRIAN, [BRIAN, NOT_BRIAN], "From: brian@example.net\r\nSubject: submitted\r\n\r\nhi\r\n")
client.quit()

reader = imap()
same(ok(reader.select("INBOX")), [b"4"])
data = ok(reader.fetch("3", "(BODY.PEEK[TEXT])"))[0][1]
same(data, "Grüße\r\n".encode("latin-1") + b"y" * 900 + b"\r\n")
