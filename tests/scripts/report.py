"""Reads a delivery status notification with Python's email package.

Standard input: the report. Arguments: the type of the third part, and fields as `name=value` that its second part must
have, those of the message before those of the recipients. The returned message must have the subject `original`.
"""

import email
import email.policy
import sys


def check(condition, what):
    if not condition:
        sys.exit(str(what))


report = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
for part in report.walk():
    check(not part.defects, part.defects)
check(report.get_content_type() == "multipart/report", report["Content-Type"])
check(report.get_param("report-type") == "delivery-status", report["Content-Type"])
check(report["Auto-Submitted"] == "auto-replied", report["Auto-Submitted"])
check(report["From"].addresses[0].username == "MAILER-DAEMON", report["From"])
check(report["Date"].datetime, report["Date"])

words, status, returned = report.get_payload()
check(words.get_content_type() == "text/plain", words["Content-Type"])
check("This is the mail system at" in words.get_content(), words.get_content())

check(status.get_content_maintype() == "message", status["Content-Type"])
# Of the global type Python has not heard, and reads its groups as a message with a body.
if status.get_content_type() == "message/delivery-status":
    groups = status.get_payload()
else:
    first = status.get_payload()[0]
    octets = first.as_bytes(policy=email.policy.default.clone(cte_type="8bit", utf8=True))
    texts = octets.replace(b"\r\n", b"\n").strip().split(b"\n\n")
    groups = [email.message_from_bytes(text, policy=email.policy.default) for text in texts]
fields = [(name.lower(), str(value)) for group in groups for name, value in group.items()]
for argument in sys.argv[2:]:
    name, _, value = argument.partition("=")
    check((name.lower(), value) in fields, f"{argument} is not in {fields}")

check(returned.get_content_type() == sys.argv[1], returned["Content-Type"])
text = returned.get_payload()
text = text[0].as_bytes() if isinstance(text, list) else text.encode("utf-8", "surrogateescape")
check(email.message_from_bytes(text, policy=email.policy.default)["Subject"].startswith("original"), text)
