"""Sends a small message with REQUIRETLS (RFC 8689), inside TLS.

Usage: requiretls.py PORT RECIPIENT
"""

import smtplib
import ssl
import sys

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), "client.example.org") as smtp:
    smtp.starttls(context=context)
    smtp.ehlo()
    for command in ["MAIL FROM:<brian@example.net> REQUIRETLS", f"RCPT TO:<{sys.argv[2]}>"]:
        code, text = smtp.docmd(command)
        assert code == 250, (command, code, text)
    print(smtp.data("Subject: private\r\n\r\nx\r\n"))
