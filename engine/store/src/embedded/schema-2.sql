-- What became of each message: one row for each that was accepted and is not forgotten.
-- accepted = delivered + bounced + discarded + its rows in queued_recipient.
CREATE TABLE ledger (
    message   INTEGER PRIMARY KEY,          -- queue id: microseconds since 1970
    accepted  INTEGER NOT NULL,             -- final recipients
    delivered INTEGER NOT NULL,
    bounced   INTEGER NOT NULL,
    discarded INTEGER NOT NULL,
    began     TEXT NOT NULL                 -- the first events, as a JSON array
) STRICT;

-- What happened later.
CREATE TABLE event (
    message INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    event   TEXT NOT NULL,                  -- JSON
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;

-- Messages that must leave this machine, or cannot be delivered now.
CREATE TABLE queued (
    message      INTEGER PRIMARY KEY,
    blob         INTEGER NOT NULL,
    arrived      INTEGER NOT NULL,          -- milliseconds since 1970
    reverse_path TEXT NOT NULL,             -- empty for the null reverse-path
    account      TEXT,                      -- that submitted it
    parameters   INTEGER NOT NULL,          -- 1 BODY=8BITMIME, 2 SMTPUTF8, 4 REQUIRETLS, 8 RET=FULL, 16 RET=HDRS
    envelope_id  TEXT
) STRICT;

CREATE INDEX queued_by_blob ON queued (blob);

CREATE TABLE queued_recipient (
    message   INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    address   TEXT NOT NULL,
    notify    INTEGER,                      -- 0 NEVER, or the sum of 1 SUCCESS, 2 FAILURE, 4 DELAY
    original  TEXT,                         -- ORCPT
    via       TEXT,                         -- address of ours that led to it
    held      INTEGER NOT NULL,
    due       INTEGER NOT NULL,             -- milliseconds since 1970
    attempts  INTEGER NOT NULL,
    told      INTEGER NOT NULL,             -- whether its sender was told of the delay
    last      TEXT,                         -- the last try, as JSON
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;
