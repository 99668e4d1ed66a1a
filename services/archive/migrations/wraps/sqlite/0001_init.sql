-- The erasable store: what has to become unreadable when a record is disposed of. A file of its own with secure_delete, so that
-- deleted bytes are overwritten, and a short backup life. Every row carries its tenant and the fencing epoch of its writer.

-- Keys sealed to journaling keys.
CREATE TABLE wraps (
    tenant TEXT NOT NULL,      -- the tenant; fixed
    envelope BLOB NOT NULL,    -- envelope digest; fixed
    position BIGINT NOT NULL,  -- place in the envelope's list, from 0; fixed
    key_tenant TEXT NOT NULL,  -- tenant of the journaling key; fixed
    key_id BLOB NOT NULL,      -- the journaling key; fixed
    sealed BLOB NOT NULL,      -- enc, ct and proof, 1332 bytes; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, envelope, position)
);

-- MLS messages that carry the seed to the members: the key in another wrapping, so it goes with the wraps.
CREATE TABLE mls_messages (
    tenant TEXT NOT NULL,    -- the tenant; fixed
    envelope BLOB NOT NULL,  -- envelope digest; fixed
    message BLOB NOT NULL,   -- exact bytes of the PrivateMessage; fixed
    fence BIGINT NOT NULL,   -- epoch of the writer; fixed
    PRIMARY KEY (tenant, envelope)
);

-- Envelopes whose wraps were destroyed: none of them is ever stored again.
CREATE TABLE destroyed (
    tenant TEXT NOT NULL,          -- the tenant; fixed
    envelope BLOB NOT NULL,        -- envelope digest; fixed
    destroyed_at BIGINT NOT NULL,  -- when; fixed
    fence BIGINT NOT NULL,         -- epoch of the writer; fixed
    PRIMARY KEY (tenant, envelope)
);
