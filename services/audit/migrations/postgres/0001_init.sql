-- The audit service's tables. Times are milliseconds since the Unix epoch, UTC; digests are SHA-256, 32 bytes.
-- A log has a database of its own: two tenants never share one.

-- What no holder of a handle may do, whatever its rights on the table: the trigger's argument says what was tried.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'raise_exception';
END
$$;

-- The log: one row a leaf, without gaps from 0. Rows are never changed and never removed.
CREATE TABLE leaf (
    idx    BIGINT NOT NULL PRIMARY KEY, -- Index of the leaf.
    caller TEXT COLLATE "C" NOT NULL,    -- The service that asked for it, from its certificate.
    id     BYTEA   NOT NULL,    -- The caller's id for it, 16 bytes.
    event  BYTEA   NOT NULL,    -- SHA-256 of the entry as it was asked for: another event under the same id is refused.
    at     BIGINT NOT NULL,    -- When it was sequenced; never before the row before.
    leaf   BYTEA   NOT NULL,    -- The leaf's exact bytes.
    hash   BYTEA   NOT NULL     -- RFC 6962 hash of the leaf: what a flipped bit in the row contradicts.
);
CREATE UNIQUE INDEX leaf_id ON leaf (caller, id);
CREATE INDEX leaf_hash ON leaf (hash);

CREATE TRIGGER leaf_stays BEFORE UPDATE ON leaf FOR EACH ROW
    EXECUTE FUNCTION refuse('leaves do not change');
CREATE TRIGGER leaf_remains BEFORE DELETE ON leaf FOR EACH ROW
    EXECUTE FUNCTION refuse('leaves are not removed');
CREATE TRIGGER leaf_remains_all BEFORE TRUNCATE ON leaf FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('leaves are not removed');

-- The newest checkpoint signed, written before any witness sees it, and the newest one that a quorum has cosigned.
CREATE TABLE checkpoint (
    kind TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (kind IN ('signed', 'published')), -- Which of the two.
    size BIGINT NOT NULL, -- Leaves it covers. Grows.
    note BYTEA   NOT NULL  -- The signed note. Replaced.
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
