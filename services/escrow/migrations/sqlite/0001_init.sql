-- An escrow node's own database. It holds no key in the clear: shares are sealed under a key that is outside of it.
-- Times are milliseconds since the Unix epoch; digests and hashes are 32 bytes. `fence` is the lease epoch of the writer.

-- Which process writes. Every transaction that writes checks that its own lease epoch is still the highest.
CREATE TABLE lease (
    tenant TEXT   NOT NULL PRIMARY KEY, -- The tenant.
    fence  BIGINT NOT NULL              -- Lease epoch of the process that writes. Grows with every start.
);

-- How far the node has followed the log. Every leaf below `size` was verified under a witnessed checkpoint.
CREATE TABLE followed (
    tenant       TEXT   NOT NULL PRIMARY KEY, -- The tenant.
    size         BIGINT NOT NULL,             -- Leaves followed. Grows.
    head         BIGINT NOT NULL,             -- Size of the newest checkpoint seen. Replaced.
    checkpoint   BLOB   NOT NULL,             -- The newest checkpoint seen, with its cosignatures. Replaced.
    witnessed_at BIGINT NOT NULL,             -- When the quorum of its witnesses stood by it. Replaced.
    fence        BIGINT NOT NULL              -- Lease epoch of the writer. Replaced.
);

-- The log's tree as the node has followed it: hashes of complete subtrees, leaves at level 0.
CREATE TABLE tree (
    tenant   TEXT   NOT NULL, -- The tenant.
    level    BIGINT NOT NULL, -- Height above the leaves.
    position BIGINT NOT NULL, -- Number within the level, from 0.
    hash     BLOB   NOT NULL, -- RFC 6962 hash of the subtree.
    fence    BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, level, position)
) WITHOUT ROWID;

-- Statements of the log that are in force or were: what the node's trust is rebuilt from at start.
CREATE TABLE statement (
    tenant    TEXT   NOT NULL, -- The tenant.
    log_index BIGINT NOT NULL, -- Index of the log's leaf.
    kind      TEXT   NOT NULL, -- trust-bundle, key-record, share-epoch or disclosure.
    digest    BLOB   NOT NULL, -- SHA-256 of the statement's bytes.
    statement BLOB   NOT NULL, -- Protobuf of the SignedStatement.
    fence     BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, log_index)
);

-- Records that were disposed of: never opened again.
CREATE TABLE tombstone (
    tenant    TEXT   NOT NULL, -- The tenant.
    envelope  BLOB   NOT NULL, -- Envelope digest.
    log_index BIGINT NOT NULL, -- Index of the log's leaf.
    fence     BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, envelope)
);

-- The node's shares. Active is the one whose key record and share epoch are in force by the log.
CREATE TABLE share (
    tenant      TEXT   NOT NULL, -- The tenant.
    key_id      BLOB   NOT NULL, -- The journaling key.
    share_epoch BLOB   NOT NULL, -- Digest of the share epoch it belongs to.
    position    BIGINT NOT NULL, -- Share index, from 1.
    sealed      BLOB   NOT NULL, -- The share, sealed at this table, key_id || share_epoch and column. Set once.
    made_at     BIGINT NOT NULL, -- When the ceremony ended.
    fence       BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, key_id, share_epoch)
);

-- What the node has answered, or has begun to answer: counted from then on. A retry gets the stored bytes.
CREATE TABLE opening (
    tenant       TEXT   NOT NULL, -- The tenant.
    order_digest BLOB   NOT NULL, -- The order; it names the reader and the reader's key.
    envelope     BLOB   NOT NULL, -- Envelope digest.
    key_id       BLOB   NOT NULL, -- The journaling key.
    share_epoch  BLOB   NOT NULL, -- Digest of the share epoch that answered.
    opened_at    BIGINT NOT NULL, -- When it was counted.
    answer       BLOB,            -- The answer, sealed to the reader. Set once, when the log has the entry.
    log_index    BIGINT,          -- Index of the log's "opened" leaf. Set once, together with `answer`.
    fence        BIGINT NOT NULL, -- Lease epoch of the writer. Replaced when the answer is stored.
    PRIMARY KEY (tenant, order_digest, envelope, key_id, share_epoch)
);
CREATE INDEX opening_time ON opening (tenant, opened_at);

-- Which envelope an ML-KEM ciphertext was first opened for: the same one in another envelope is refused for ever.
CREATE TABLE kem_use (
    tenant     TEXT   NOT NULL, -- The tenant.
    key_id     BLOB   NOT NULL, -- The journaling key.
    ciphertext BLOB   NOT NULL, -- SHA-256 of the ML-KEM ciphertext.
    envelope   BLOB   NOT NULL, -- Envelope digest. Set once.
    fence      BIGINT NOT NULL, -- Lease epoch of the writer.
    PRIMARY KEY (tenant, key_id, ciphertext)
);

-- What the node as a witness of the log must not forget.
CREATE TABLE witness (
    tenant TEXT   NOT NULL PRIMARY KEY, -- The tenant.
    state  BLOB   NOT NULL,             -- The checkpoint cosigned last and the evidence against a log that forked. Replaced.
    fence  BIGINT NOT NULL              -- Lease epoch of the writer. Replaced.
);
