"""An open session whose login is refused while it lasts (R142).

Usage: sasl_access.py PORT TABLE LOGIN PASSWORD RECIPIENT
"""

import smtplib
import ssl
import sys
import time

port, table, login, password, recipient = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def answer(smtp):
    smtp.docmd("RSET")
    smtp.docmd(f"MAIL FROM:<{login}>")
    code, text = smtp.docmd(f"RCPT TO:<{recipient}>")
    return f"{code} {text.decode()}"


with smtplib.SMTP("127.0.0.1", int(port), "client.example.org") as smtp:
    smtp.starttls(context=context)
    smtp.login(login, password)
    print("before:", answer(smtp))
    with open(table, "a", encoding="ascii") as file:
        file.write(f"{login} REJECT\n")
    # Tables are looked at once a second.
    begun = time.monotonic()
    while time.monotonic() - begun < 10 and answer(smtp).startswith("250"):
        time.sleep(0.1)
    print("after:", answer(smtp))
