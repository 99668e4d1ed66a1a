-- The erasable store: what has to become unreadable when a record is disposed of. A database of its own with
-- a short backup life: deleted rows stay in pages and write-ahead log until these are vacuumed and written over. Every row carries
-- its tenant. Every archive writes here, and writing the same again is harmless: nobody holds a lease, "fence" is 0.

-- Keys sealed to journaling keys.
CREATE TABLE wraps (
    tenant TEXT COLLATE "C" NOT NULL,      -- the tenant; fixed
    envelope BYTEA NOT NULL,    -- envelope digest; fixed
    position BIGINT NOT NULL,  -- place in the envelope's list, from 0; fixed
    key_tenant TEXT COLLATE "C" NOT NULL,  -- tenant of the journaling key; fixed
    key_id BYTEA NOT NULL,      -- the journaling key; fixed
    sealed BYTEA NOT NULL,      -- enc, ct and proof, 1332 bytes; fixed
    fence BIGINT NOT NULL,     -- 0; fixed
    PRIMARY KEY (tenant, envelope, position)
);

-- MLS messages that carry the seed to the members: the key in another wrapping, so it goes with the wraps.
CREATE TABLE mls_messages (
    tenant TEXT COLLATE "C" NOT NULL,    -- the tenant; fixed
    envelope BYTEA NOT NULL,  -- envelope digest; fixed
    message BYTEA NOT NULL,   -- exact bytes of the PrivateMessage; fixed
    fence BIGINT NOT NULL,   -- 0; fixed
    PRIMARY KEY (tenant, envelope)
);

-- Envelopes whose wraps were destroyed: none of them is ever stored again.
CREATE TABLE destroyed (
    tenant TEXT COLLATE "C" NOT NULL,          -- the tenant; fixed
    envelope BYTEA NOT NULL,        -- envelope digest; fixed
    destroyed_at BIGINT NOT NULL,  -- when; fixed
    fence BIGINT NOT NULL,         -- 0; fixed
    PRIMARY KEY (tenant, envelope)
);

-- No process takes a lease of this store, so this has no row: transactions of every store that several processes write begin by
-- reading one.
CREATE TABLE lease (
    tenant  TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- The tenant.
    fence   BIGINT NOT NULL,                       -- Epoch of whoever holds it.
    holder  TEXT COLLATE "C" NOT NULL,             -- Which process that is, for people.
    expires BIGINT NOT NULL                        -- Until when it holds, by this server's clock; 0: given up.
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
