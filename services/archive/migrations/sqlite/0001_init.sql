-- The archive's database. Every row carries its tenant and the fencing epoch of the archive that wrote it ("fence").
-- Times are milliseconds since the Unix epoch, UTC. Digests are 32 bytes, ids 16. "Fixed" means never updated.

-- Who may write: a newer archive raises the epoch, and every transaction of an older one then fails.
CREATE TABLE fences (
    tenant TEXT NOT NULL PRIMARY KEY, -- the tenant; fixed
    epoch BIGINT NOT NULL             -- highest epoch given out; only grows
);

-- Statements of the log that the archive keeps its trust in (bundles, key records, share epochs, disclosures): verified again,
-- in the log's order, at every start.
CREATE TABLE statements (
    tenant TEXT NOT NULL,       -- the tenant; fixed
    log_index BIGINT NOT NULL,  -- leaf of the log; fixed
    statement BLOB NOT NULL,    -- SignedStatement; fixed
    fence BIGINT NOT NULL,      -- epoch of the writer; fixed
    PRIMARY KEY (tenant, log_index)
);

-- How far the log has been followed and verified.
CREATE TABLE followed (
    tenant TEXT NOT NULL PRIMARY KEY, -- the tenant; fixed
    size BIGINT NOT NULL,             -- leaves verified; only grows
    frontier BLOB NOT NULL,           -- hashes of the complete subtrees, 32 bytes each; follows the size
    fence BIGINT NOT NULL             -- epoch of the last writer
);

-- Device certificates that records name.
CREATE TABLE certificates (
    tenant TEXT NOT NULL,     -- the tenant; fixed
    digest BLOB NOT NULL,     -- SHA-256 of the statement bytes; fixed
    statement BLOB NOT NULL,  -- SignedStatement "device-cert"; fixed
    fence BIGINT NOT NULL,    -- epoch of the writer; fixed
    PRIMARY KEY (tenant, digest)
);

-- The chain of each conversation.
CREATE TABLE conversations (
    tenant TEXT NOT NULL,           -- the tenant; fixed
    conversation BLOB NOT NULL,     -- MLS group id; fixed
    sequence BIGINT NOT NULL,       -- highest number archived, 0 for none; grows
    head BLOB NOT NULL,             -- chain head at that number; follows the sequence
    disclosure BLOB,                -- digest of the disclosure in force; set by creation and by commits
    relay_fence BIGINT NOT NULL,    -- highest fencing epoch of the relay seen; only grows
    fence BIGINT NOT NULL,          -- epoch of the last writer
    PRIMARY KEY (tenant, conversation)
);

-- Who was a member at a number; the same set is stored once.
CREATE TABLE member_sets (
    tenant TEXT NOT NULL,      -- the tenant; fixed
    member_set BLOB NOT NULL,  -- SHA-256 over the sorted members; fixed
    member TEXT NOT NULL,      -- a user; fixed
    device BLOB NOT NULL,      -- a device of the user; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, member_set, device)
);
CREATE INDEX member_sets_by_member ON member_sets (tenant, member, member_set);

-- Everything that took a number.
CREATE TABLE records (
    tenant TEXT NOT NULL,           -- the tenant; fixed
    record BIGINT NOT NULL,         -- the archive's own number, dense from 1; fixed
    conversation BLOB NOT NULL,     -- the conversation; fixed
    sequence BIGINT NOT NULL,       -- number in the conversation; fixed
    kind BIGINT NOT NULL,           -- 1 message, 2 handshake, 3 void (EntryKind); fixed
    digest BLOB NOT NULL,           -- what the chain took in: envelope, handshake or void digest; fixed
    refused BLOB,                   -- for a void: digest of what was refused; fixed
    sender TEXT NOT NULL,           -- the sending user, empty for voids; fixed
    sent_at BIGINT NOT NULL,        -- the sender's clock, 0 for none; fixed
    archived_at BIGINT NOT NULL,    -- the archive's clock; fixed
    retain_until BIGINT NOT NULL,   -- end of retention; only grows
    mode BIGINT NOT NULL,           -- the mode (Mode), 0 for none; fixed
    record_class TEXT NOT NULL,     -- class of the pack, "handshake" for commits, "void" for voids; fixed
    policy_digest BLOB,             -- the pack its retention was computed by; fixed
    size BIGINT NOT NULL,           -- bytes of ciphertext, with attachments; fixed
    member_set BLOB,                -- who was a member; fixed
    content BLOB,                   -- name of the object with ciphertext or handshake; fixed
    body BLOB,                      -- EnvelopeBody bytes; null for others and once disposed of
    signature BLOB,                 -- the sender's signature; null for others and once disposed of
    certificate BLOB,               -- digest of the sender's certificate; fixed
    receipt BLOB NOT NULL,          -- SignedStatement "receipt"; fixed
    void BLOB,                      -- SignedStatement "void"; fixed
    proof BIGINT NOT NULL,          -- proofs of knowledge: 0 none to check, 1 unchecked, 2 verified, 3 failed; set once by the check
    disposal BIGINT NOT NULL,       -- 0 live, 1 decided, 2 wraps destroyed, 3 tombstone logged, 4 objects gone; only grows
    fence BIGINT NOT NULL,          -- epoch of the last writer
    PRIMARY KEY (tenant, record),
    UNIQUE (tenant, conversation, sequence)
);
-- A void may repeat (the same thing refused for the same reason twice); nothing else may.
CREATE UNIQUE INDEX records_by_digest ON records (tenant, digest) WHERE kind <> 3;
CREATE INDEX records_by_sender ON records (tenant, sender, record);
CREATE INDEX records_by_member_set ON records (tenant, member_set, record);
CREATE INDEX records_in_disposal ON records (tenant, disposal) WHERE disposal IN (1, 2, 3);

-- Retention never shortens, records never vanish, whoever holds the database handle.
CREATE TRIGGER records_retention BEFORE UPDATE OF retain_until ON records WHEN NEW.retain_until < OLD.retain_until
BEGIN SELECT RAISE(ABORT, 'RETENTION_SHORTENED'); END;
CREATE TRIGGER records_stay BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'RECORD_DELETED'); END;
CREATE TRIGGER records_fixed BEFORE UPDATE OF record, conversation, sequence, kind, digest, archived_at, receipt ON records
BEGIN SELECT RAISE(ABORT, 'RECORD_REWRITTEN'); END;

-- Attachments. A row comes before its object, so that what an interrupted upload leaves is found and removed.
CREATE TABLE attachments (
    tenant TEXT NOT NULL,        -- the tenant; fixed
    digest BLOB NOT NULL,        -- SHA-256 of the ciphertext: name of the object; fixed
    size BIGINT NOT NULL,        -- bytes of ciphertext; fixed
    conversation BLOB NOT NULL,  -- the conversation it was uploaded for; fixed
    stored_at BIGINT NOT NULL,   -- when its upload began or was complete; a repeated upload moves it on
    complete BIGINT NOT NULL,    -- 1 once the object is durable and was read back; only grows
    fence BIGINT NOT NULL,       -- epoch of the last writer
    PRIMARY KEY (tenant, digest)
);

-- Which records name which attachments.
CREATE TABLE record_attachments (
    tenant TEXT NOT NULL,      -- the tenant; fixed
    record BIGINT NOT NULL,    -- the record; fixed
    position BIGINT NOT NULL,  -- place in the header, from 0; fixed
    digest BLOB NOT NULL,      -- SHA-256 of the ciphertext; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record, position)
);
CREATE INDEX record_attachments_by_digest ON record_attachments (tenant, digest);

-- ML-KEM ciphertexts that have been used, remembered for ever: a second use would be opened under another order.
CREATE TABLE kem_uses (
    tenant TEXT NOT NULL,       -- the tenant; fixed
    key_tenant TEXT NOT NULL,   -- tenant of the journaling key; fixed
    key_id BLOB NOT NULL,       -- the journaling key; fixed
    ciphertext BLOB NOT NULL,   -- SHA-256 of the ML-KEM ciphertext; fixed
    envelope BLOB NOT NULL,     -- envelope digest that used it; fixed
    fence BIGINT NOT NULL,      -- epoch of the writer; fixed
    PRIMARY KEY (tenant, key_tenant, key_id, ciphertext)
);
CREATE TRIGGER kem_uses_stay BEFORE DELETE ON kem_uses
BEGIN SELECT RAISE(ABORT, 'KEM_USE_FORGOTTEN'); END;

-- What has to be, or has been, appended to the audit log: written in the transaction of the change it tells of.
CREATE TABLE outbox (
    tenant TEXT NOT NULL,        -- the tenant; fixed
    number BIGINT NOT NULL,      -- order of writing, from 1; fixed
    id BLOB NOT NULL,            -- id of the append: the same again is one entry; fixed
    entry BLOB NOT NULL,         -- LogEntry without recorded_by and at; fixed
    not_after BIGINT NOT NULL,   -- not sent from this instant on, 0 for always; fixed
    log_index BIGINT,            -- index of the leaf, once there; set once
    leaf BLOB,                   -- the leaf's exact bytes; set once
    failure TEXT,                -- why it is not and will not be logged; set once
    fence BIGINT NOT NULL,       -- epoch of the writer; fixed
    PRIMARY KEY (tenant, number),
    UNIQUE (tenant, id)
);
CREATE INDEX outbox_waiting ON outbox (tenant, number) WHERE log_index IS NULL AND failure IS NULL;

-- Batches of receipts, each one leaf of the log.
CREATE TABLE batches (
    tenant TEXT NOT NULL,   -- the tenant; fixed
    first BIGINT NOT NULL,  -- first record of the batch; fixed
    count BIGINT NOT NULL,  -- how many; fixed
    append BLOB NOT NULL,   -- id in the outbox; fixed
    fence BIGINT NOT NULL,  -- epoch of the writer; fixed
    PRIMARY KEY (tenant, first)
);

-- Each receipt's way to the root of its batch.
CREATE TABLE receipt_paths (
    tenant TEXT NOT NULL,    -- the tenant; fixed
    record BIGINT NOT NULL,  -- the record; fixed
    first BIGINT NOT NULL,   -- its batch; fixed
    path BLOB NOT NULL,      -- RFC 6962 path, 32 bytes a node; fixed
    fence BIGINT NOT NULL,   -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record)
);

-- Acts of people, by nonce: a second use is a retry.
CREATE TABLE acts (
    tenant TEXT NOT NULL,   -- the tenant; fixed
    nonce BLOB NOT NULL,    -- the act's id; fixed
    digest BLOB NOT NULL,   -- SHA-256 of the statement bytes; fixed
    append BLOB NOT NULL,   -- id in the outbox of the entry that answers it; fixed
    fence BIGINT NOT NULL,  -- epoch of the writer; fixed
    PRIMARY KEY (tenant, nonce)
);

-- Matters.
CREATE TABLE matters (
    tenant TEXT NOT NULL,       -- the tenant; fixed
    matter BLOB NOT NULL,       -- its id; fixed
    number BIGINT NOT NULL,     -- order of creation, from 1; fixed
    name TEXT NOT NULL,         -- what it is called; fixed
    opened_by TEXT NOT NULL,    -- who opened it; fixed
    opened_at BIGINT NOT NULL,  -- when; fixed
    closed_at BIGINT,           -- when it was closed; set once
    fence BIGINT NOT NULL,      -- epoch of the last writer
    PRIMARY KEY (tenant, matter),
    UNIQUE (tenant, number)
);

-- Holds. Which records a hold binds is what its query matches, now and later: nothing is copied.
CREATE TABLE holds (
    tenant TEXT NOT NULL,        -- the tenant; fixed
    hold BLOB NOT NULL,          -- its id; fixed
    matter BLOB NOT NULL,        -- its matter; fixed
    number BIGINT NOT NULL,      -- order of placing, from 1; fixed
    query BLOB NOT NULL,         -- RecordQuery; fixed
    reason TEXT NOT NULL,        -- why; fixed
    placed_by TEXT NOT NULL,     -- who placed it; fixed
    placed_at BIGINT NOT NULL,   -- when; fixed
    free_from BIGINT,            -- released, and from when it no longer holds; a second release never makes it earlier
    fence BIGINT NOT NULL,       -- epoch of the last writer
    PRIMARY KEY (tenant, hold),
    UNIQUE (tenant, number)
);
CREATE TRIGGER holds_stay BEFORE DELETE ON holds
BEGIN SELECT RAISE(ABORT, 'HOLD_DELETED'); END;

-- Decided dispositions and how far they have come.
CREATE TABLE dispositions (
    tenant TEXT NOT NULL,                -- the tenant; fixed
    record BIGINT NOT NULL,              -- the record; fixed
    decided_at BIGINT NOT NULL,          -- the trusted time of the decision; fixed
    backups_expire_at BIGINT NOT NULL,   -- when the last backup of the wrap store will have expired; fixed
    append BLOB NOT NULL,                -- id in the outbox of its tombstone; fixed
    acts BLOB NOT NULL,                  -- Tombstone with every act; fixed
    fence BIGINT NOT NULL,               -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record)
);

-- Orders to open records.
CREATE TABLE orders (
    tenant TEXT NOT NULL,        -- the tenant; fixed
    id BLOB NOT NULL,            -- the order's id; fixed
    number BIGINT NOT NULL,      -- order of filing, from 1; fixed
    digest BLOB NOT NULL,        -- order digest; fixed
    statement BLOB NOT NULL,     -- SignedStatement "order"; fixed
    filed_at BIGINT NOT NULL,    -- when it was filed; fixed
    expiry BIGINT NOT NULL,      -- first instant at which it no longer stands; fixed
    append BLOB,                 -- id in the outbox, once the approvals suffice; set once
    salt BLOB,                   -- the leaf's salt when sealed; set once
    fence BIGINT NOT NULL,       -- epoch of the last writer
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, number),
    UNIQUE (tenant, digest)
);

-- The exact records of an order.
CREATE TABLE order_records (
    tenant TEXT NOT NULL,      -- the tenant; fixed
    id BLOB NOT NULL,          -- the order; fixed
    position BIGINT NOT NULL,  -- place in the sorted list, from 0; fixed
    digest BLOB NOT NULL,      -- envelope digest; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, id, position)
);

-- Approvals of an order, one a person.
CREATE TABLE approvals (
    tenant TEXT NOT NULL,     -- the tenant; fixed
    id BLOB NOT NULL,         -- the order; fixed
    person TEXT NOT NULL,     -- who approves; fixed
    statement BLOB NOT NULL,  -- SignedStatement "approval"; fixed
    fence BIGINT NOT NULL,    -- epoch of the writer; fixed
    PRIMARY KEY (tenant, id, person)
);
