-- Numbers that only rise: what was given out once is not given out again.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    modseq       INTEGER NOT NULL,          -- of the account's last change
    octets       INTEGER NOT NULL,          -- sum over its mailboxes
    messages     INTEGER NOT NULL,
    uid_validity INTEGER NOT NULL           -- the last one given to a mailbox
) STRICT;

CREATE TABLE mailbox (
    id           INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL,
    name         TEXT NOT NULL,
    special_use  TEXT,                      -- attribute of RFC 6154, such as \Sent
    uid_validity INTEGER NOT NULL,
    uid_next     INTEGER NOT NULL,
    modseq       INTEGER NOT NULL,          -- of its last change, expunges included
    messages     INTEGER NOT NULL,
    octets       INTEGER NOT NULL,
    recent       INTEGER NOT NULL DEFAULT 1, -- UIDs from here on were told to no session
    forgotten    INTEGER NOT NULL DEFAULT 0, -- the table expunged is whole above this mod-sequence
    UNIQUE (account, name)
) STRICT;

CREATE TABLE keyword (
    mailbox INTEGER NOT NULL,
    bit     INTEGER NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (mailbox, bit)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscription (
    account INTEGER NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    mailbox  INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    flags    INTEGER NOT NULL,              -- 1 Seen, 2 Answered, 4 Flagged, 8 Deleted, 16 Draft
    keywords INTEGER NOT NULL,              -- bit n: the keyword with bit = n
    modseq   INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    date     INTEGER NOT NULL,              -- seconds since 1970
    zone     INTEGER NOT NULL,              -- minutes east of Greenwich
    blob     INTEGER NOT NULL,
    PRIMARY KEY (mailbox, uid)
) STRICT, WITHOUT ROWID;

-- Runs of expunged UIDs.
CREATE TABLE expunged (
    mailbox INTEGER NOT NULL,
    modseq  INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, first)
) STRICT, WITHOUT ROWID;

-- Mailboxes that are gone, whose messages are still to be cleared away.
CREATE TABLE doomed (
    mailbox INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE segment (
    number INTEGER PRIMARY KEY,
    octets INTEGER NOT NULL,                -- the file's valid length
    live   INTEGER NOT NULL                 -- of these, in records that messages refer to
) STRICT;

CREATE TABLE blob (
    id      INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    stored  INTEGER NOT NULL,               -- octets of the record
    raw     INTEGER NOT NULL,               -- octets of the message
    refs    INTEGER NOT NULL,               -- rows of message with this blob
    hash    BLOB NOT NULL,
    digest  BLOB NOT NULL
) STRICT;

CREATE INDEX blob_by_segment ON blob (segment);

-- Blobs without a message, and since when, in seconds since 1970.
CREATE TABLE dead (
    blob  INTEGER PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT;

INSERT INTO account VALUES (1, 'old@example.net', 9, 3, 1, 1700000000);
INSERT INTO mailbox VALUES (1, 1, 'INBOX', NULL, 1700000000, 6, 9, 1, 3, 6, 0);
INSERT INTO keyword VALUES (1, 0, '$Forwarded');
INSERT INTO subscription VALUES (1, 'INBOX');
INSERT INTO message VALUES (1, 5, 1, 1, 9, 3, 1000000000, 60, 7);
INSERT INTO segment VALUES (1, 79, 79);
INSERT INTO blob VALUES (7, 1, 0, 79, 3, 1, x'1e953560084de987c9ceb0364576e728', x'00');
PRAGMA user_version = 1;
