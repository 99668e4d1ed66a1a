-- The database of one application's devices. Times are milliseconds since the Unix epoch, UTC; ids are 16 bytes; digests are
-- SHA-256, 32 bytes. "Sealed" columns are AES-256-GCM under the key file beside the database, bound to table, row and column.

-- What the file is.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY, -- "tenant".
    value BLOB NOT NULL              -- Its value. Never changes.
);

-- Statements of the tenant's root and nodes that were verified and found in the log, in the order they were taken in.
CREATE TABLE trust_statement (
    place     INTEGER PRIMARY KEY,  -- Order.
    digest    BLOB    NOT NULL UNIQUE, -- SHA-256 of the statement's bytes.
    log_index INTEGER NOT NULL,     -- Index of the log's leaf; 0 for a bundle, which the root alone vouches for.
    statement BLOB    NOT NULL      -- Protobuf of the SignedStatement.
);

-- The last checkpoint that was verified: the next one has to continue it.
CREATE TABLE log_head (
    id         INTEGER PRIMARY KEY CHECK (id = 1), -- One row.
    size       INTEGER NOT NULL, -- Leaves. Grows.
    root       BLOB    NOT NULL, -- RFC 6962 root. Replaced.
    checkpoint BLOB    NOT NULL  -- The signed note. Replaced.
);

-- Device certificates whose issuer's signature was verified.
CREATE TABLE certificate (
    digest    BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the statement's bytes.
    statement BLOB NOT NULL              -- Protobuf of the SignedStatement.
);

-- This application's devices.
CREATE TABLE device (
    device       BLOB NOT NULL PRIMARY KEY, -- The device.
    user_name    TEXT NOT NULL, -- The user.
    certificate  BLOB,          -- Digest of its certificate; none until the issuer has signed. Replaced by a renewal.
    mls_key      BLOB NOT NULL, -- Sealed: Ed25519 key of its MLS leaf.
    envelope_key BLOB NOT NULL  -- Sealed: Ed25519 key that signs envelopes and acknowledgements.
);

-- MLS state. Written in one transaction with whatever the operation produced.
CREATE TABLE mls_row (
    device BLOB NOT NULL, -- The device.
    kind   TEXT NOT NULL, -- "mls_group", "mls_tree", "mls_key_package" or "mls_disclosure".
    row    BLOB NOT NULL, -- The row's key.
    value  BLOB NOT NULL, -- Sealed. Replaced.
    PRIMARY KEY (device, kind, row)
);

-- Conversations of each device.
CREATE TABLE conversation (
    device       BLOB    NOT NULL, -- The device.
    conversation BLOB    NOT NULL, -- The conversation: its MLS group id.
    state        INTEGER NOT NULL, -- 0 not yet known to the relay, 1 taking part, 2 removed, 3 broken. Replaced.
    reason       TEXT    NOT NULL, -- Why it is broken; empty otherwise. Replaced.
    mode         INTEGER NOT NULL, -- The mode. Replaced, only upward.
    disclosure   BLOB    NOT NULL, -- Digest of the disclosure in force. Replaced by a commit.
    joined       INTEGER NOT NULL, -- Number of the commit that added the device; 0 for the creator.
    sequence     INTEGER NOT NULL, -- Highest number taken in. Grows.
    head         BLOB    NOT NULL, -- Chain head at that number. Replaced.
    counter      INTEGER NOT NULL, -- device_counter of the last sealed message. Steps back when one is refused unsequenced.
    previous     BLOB    NOT NULL, -- Envelope digest of that message; zeros before the first. Replaced.
    PRIMARY KEY (device, conversation)
);

-- Notices shown and acknowledged, with the exact bytes sent.
CREATE TABLE acknowledgement (
    device       BLOB NOT NULL, -- The device.
    conversation BLOB NOT NULL, -- The conversation.
    disclosure   BLOB NOT NULL, -- Digest of the disclosure acknowledged.
    statement    BLOB NOT NULL, -- Protobuf of the SignedStatement.
    log_index    INTEGER,       -- Index of its leaf; none until the relay has it logged. Set once.
    PRIMARY KEY (device, conversation, disclosure)
);

-- Exact bytes to send, until what they are came back in the mailbox or was refused.
CREATE TABLE outbox (
    place        INTEGER PRIMARY KEY, -- Order of sealing.
    device       BLOB    NOT NULL, -- The device.
    conversation BLOB    NOT NULL, -- The conversation.
    kind         INTEGER NOT NULL, -- 1 message (SendRequest), 2 commit (SubmitCommitRequest), 3 creation (CreateConversationRequest).
    digest       BLOB    NOT NULL, -- Envelope or handshake digest; of a creation the conversation.
    payload      BLOB    NOT NULL, -- Protobuf of the request. Emptied once its receipt was verified.
    content      BLOB    NOT NULL  -- Sealed: what the message says, for this device's own history; empty for the others.
);
CREATE UNIQUE INDEX outbox_digest ON outbox (device, digest);

-- What took each number of a conversation, as this device took it in.
CREATE TABLE item (
    device       BLOB    NOT NULL, -- The device.
    conversation BLOB    NOT NULL, -- The conversation.
    sequence     INTEGER NOT NULL, -- Its number.
    kind         INTEGER NOT NULL, -- 1 message, 2 commit, 3 void, as EntryKind.
    digest       BLOB    NOT NULL, -- What the chain took in.
    head         BLOB    NOT NULL, -- Chain head at the number.
    archived_at  INTEGER NOT NULL, -- The archive's clock, from the receipt.
    sender       TEXT    NOT NULL, -- User who sent it; empty for a void.
    sent_at      INTEGER NOT NULL, -- The sender's clock; 0 when none.
    reason       TEXT    NOT NULL, -- Why it was withheld from the user; empty when it was not.
    content      BLOB    NOT NULL, -- Sealed: content, content key, header. Empty when there is none.
    PRIMARY KEY (device, conversation, sequence)
) WITHOUT ROWID;

-- Reports of cheats, with the exact bytes sent.
CREATE TABLE report (
    device       BLOB    NOT NULL, -- The device.
    conversation BLOB    NOT NULL, -- The conversation.
    sequence     INTEGER NOT NULL, -- The item reported.
    reason       TEXT    NOT NULL, -- Stable reason.
    statement    BLOB    NOT NULL, -- Protobuf of the SignedStatement.
    log_index    INTEGER,          -- Index of its leaf; none until the relay has it logged. Set once.
    proves       INTEGER,          -- 1 when the relay says that the evidence verifies. Set with log_index.
    PRIMARY KEY (device, conversation, sequence)
);
