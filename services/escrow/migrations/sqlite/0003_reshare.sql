-- Resharings that the node took part in: one session has one story, also after a restart. Nothing secret: the new share is in
-- `share`, of no use before the log has its epoch.
CREATE TABLE reshare (
    tenant      TEXT   NOT NULL, -- The tenant.
    session     BLOB   NOT NULL, -- The ceremony's 16 bytes.
    descriptor  BLOB   NOT NULL, -- Digest of the root's descriptor.
    begun_at    BIGINT NOT NULL, -- When the node began.
    share_epoch BLOB,            -- Protobuf of the SignedStatement that the node ended it with. Set once.
    fence       BIGINT NOT NULL, -- Lease epoch of the writer. Replaced with `share_epoch`.
    PRIMARY KEY (tenant, session)
);

-- Shares that were destroyed, and the node's word on it, which goes into the log.
CREATE TABLE destruction (
    tenant      TEXT   NOT NULL, -- The tenant.
    key_id      BLOB   NOT NULL, -- The journaling key.
    share_epoch BLOB   NOT NULL, -- Digest of the share epoch that the share was of.
    statement   BLOB   NOT NULL, -- Protobuf of the SignedStatement that says so. Set once.
    log_index   BIGINT,          -- Index of the log's leaf. Set once, when the log has it.
    fence       BIGINT NOT NULL, -- Lease epoch of the writer. Replaced with `log_index`.
    PRIMARY KEY (tenant, key_id, share_epoch)
);
