-- An escrow node's own database. It holds no key in the clear: shares are sealed under a key that is outside of it.
-- Times are milliseconds since the Unix epoch; digests and hashes are 32 bytes. `fence` is the lease epoch of the writer.


-- How far the node has followed the log. Every leaf below `size` was verified under a witnessed checkpoint.
CREATE TABLE followed (
    tenant       TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- The tenant.
    size         BIGINT NOT NULL,             -- Leaves followed. Grows.
    head         BIGINT NOT NULL,             -- Size of the newest checkpoint seen. Replaced.
    checkpoint   BYTEA  NOT NULL,             -- The newest checkpoint seen, with its cosignatures. Replaced.
    witnessed_at BIGINT NOT NULL,             -- When the quorum of its witnesses stood by it. Replaced.
    fence        BIGINT NOT NULL              -- Lease epoch of the writer. Replaced.
);

-- The log's tree as the node has followed it: hashes of complete subtrees, leaves at level 0.
CREATE TABLE tree (
    tenant   TEXT COLLATE "C" NOT NULL, -- The tenant.
    level    BIGINT NOT NULL, -- Height above the leaves.
    position BIGINT NOT NULL, -- Number within the level, from 0.
    hash     BYTEA  NOT NULL, -- RFC 6962 hash of the subtree.
    fence    BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, level, position)
);

-- Statements of the log that are in force or were: what the node's trust is rebuilt from at start.
CREATE TABLE statement (
    tenant    TEXT COLLATE "C" NOT NULL, -- The tenant.
    log_index BIGINT NOT NULL, -- Index of the log's leaf.
    kind      TEXT COLLATE "C" NOT NULL, -- trust-bundle, key-record, share-epoch or disclosure.
    digest    BYTEA  NOT NULL, -- SHA-256 of the statement's bytes.
    statement BYTEA  NOT NULL, -- Protobuf of the SignedStatement.
    fence     BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, log_index)
);

-- Records that were disposed of: never opened again.
CREATE TABLE tombstone (
    tenant    TEXT COLLATE "C" NOT NULL, -- The tenant.
    envelope  BYTEA  NOT NULL, -- Envelope digest.
    log_index BIGINT NOT NULL, -- Index of the log's leaf.
    fence     BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, envelope)
);

-- The node's shares. Active is the one whose key record and share epoch are in force by the log.
CREATE TABLE share (
    tenant      TEXT COLLATE "C" NOT NULL, -- The tenant.
    key_id      BYTEA  NOT NULL, -- The journaling key.
    share_epoch BYTEA  NOT NULL, -- Digest of the share epoch it belongs to.
    position    BIGINT NOT NULL, -- Share index, from 1.
    sealed      BYTEA  NOT NULL, -- The share, sealed at this table, key_id || share_epoch and column. Set once.
    made_at     BIGINT NOT NULL, -- When the ceremony ended.
    fence       BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, key_id, share_epoch)
);

-- What the node has answered, or has begun to answer: counted from then on. A retry gets the stored bytes.
CREATE TABLE opening (
    tenant       TEXT COLLATE "C" NOT NULL, -- The tenant.
    order_digest BYTEA  NOT NULL, -- The order; it names the reader and the reader's key.
    envelope     BYTEA  NOT NULL, -- Envelope digest.
    key_id       BYTEA  NOT NULL, -- The journaling key.
    share_epoch  BYTEA  NOT NULL, -- Digest of the share epoch that answered.
    opened_at    BIGINT NOT NULL, -- When it was counted.
    answer       BYTEA,            -- The answer, sealed to the reader. Set once, when the log has the entry.
    log_index    BIGINT,          -- Index of the log's "opened" leaf. Set once, together with `answer`.
    fence        BIGINT NOT NULL, -- Lease epoch of the writer. Replaced when the answer is stored.
    PRIMARY KEY (tenant, order_digest, envelope, key_id, share_epoch)
);
CREATE INDEX opening_time ON opening (tenant, opened_at);

-- Which envelope an ML-KEM ciphertext was first opened for: the same one in another envelope is refused for ever.
CREATE TABLE kem_use (
    tenant     TEXT COLLATE "C" NOT NULL, -- The tenant.
    key_id     BYTEA  NOT NULL, -- The journaling key.
    ciphertext BYTEA  NOT NULL, -- SHA-256 of the ML-KEM ciphertext.
    envelope   BYTEA  NOT NULL, -- Envelope digest. Set once.
    fence      BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, key_id, ciphertext)
);

-- What the node as a witness of the log must not forget.
CREATE TABLE witness (
    tenant TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- The tenant.
    state  BYTEA  NOT NULL,             -- The checkpoint cosigned last and the evidence against a log that forked. Replaced.
    fence  BIGINT NOT NULL              -- Lease epoch of the writer. Replaced.
);

-- Which process writes: every transaction checks that its own epoch is still the one here.
CREATE TABLE lease (
    tenant  TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- The tenant.
    fence   BIGINT NOT NULL,                       -- Epoch of the process that writes. Grows with every take-over.
    holder  TEXT COLLATE "C" NOT NULL,             -- Which process that is, for people. Replaced.
    expires BIGINT NOT NULL                        -- Until when it holds, by this server's clock; 0: given up. Replaced.
);

-- The second fence between tenants: a connection says whose it is, and sees and writes that tenant's rows only. Owners too.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t
                ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE'
                WHERE c.table_schema = current_schema() AND c.column_name = 'tenant'
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant = current_setting(''greffe.tenant''))', name);
    END LOOP;
END
$$;
