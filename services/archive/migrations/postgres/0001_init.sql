-- The archive's database. Every row carries its tenant and the fencing epoch of the archive that wrote it ("fence").
-- Times are milliseconds since the Unix epoch, UTC. Digests are 32 bytes, ids 16. "Fixed" means never updated.

-- What no holder of a handle may do, whatever its rights on the table: the trigger's argument says what was tried.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'raise_exception';
END
$$;


-- Statements of the log that the archive keeps its trust in (bundles, key records, share epochs, disclosures): verified again,
-- in the log's order, at every start.
CREATE TABLE statements (
    tenant TEXT COLLATE "C" NOT NULL,       -- the tenant; fixed
    log_index BIGINT NOT NULL,  -- leaf of the log; fixed
    statement BYTEA NOT NULL,    -- SignedStatement; fixed
    fence BIGINT NOT NULL,      -- epoch of the writer; fixed
    PRIMARY KEY (tenant, log_index)
);

-- How far the log has been followed and verified.
CREATE TABLE followed (
    tenant TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- the tenant; fixed
    size BIGINT NOT NULL,             -- leaves verified; only grows
    frontier BYTEA NOT NULL,           -- hashes of the complete subtrees, 32 bytes each; follows the size
    fence BIGINT NOT NULL             -- epoch of the last writer
);

-- Device certificates that records name.
CREATE TABLE certificates (
    tenant TEXT COLLATE "C" NOT NULL,     -- the tenant; fixed
    digest BYTEA NOT NULL,     -- SHA-256 of the statement bytes; fixed
    statement BYTEA NOT NULL,  -- SignedStatement "device-cert"; fixed
    fence BIGINT NOT NULL,    -- epoch of the writer; fixed
    PRIMARY KEY (tenant, digest)
);

-- The chain of each conversation.
CREATE TABLE conversations (
    tenant TEXT COLLATE "C" NOT NULL,           -- the tenant; fixed
    conversation BYTEA NOT NULL,     -- MLS group id; fixed
    sequence BIGINT NOT NULL,       -- highest number archived, 0 for none; grows
    head BYTEA NOT NULL,             -- chain head at that number; follows the sequence
    disclosure BYTEA,                -- digest of the disclosure in force; set by creation and by commits
    relay_fence BIGINT NOT NULL,    -- highest fencing epoch of the relay seen; only grows
    fence BIGINT NOT NULL,          -- epoch of the last writer
    PRIMARY KEY (tenant, conversation)
);

-- Who was a member at a number; the same set is stored once.
CREATE TABLE member_sets (
    tenant TEXT COLLATE "C" NOT NULL,      -- the tenant; fixed
    member_set BYTEA NOT NULL,  -- SHA-256 over the sorted members; fixed
    member TEXT COLLATE "C" NOT NULL,      -- a user; fixed
    device BYTEA NOT NULL,      -- a device of the user; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, member_set, device)
);
CREATE INDEX member_sets_by_member ON member_sets (tenant, member, member_set);

-- Everything that took a number, a partition for each month (UTC) of archived_at, so that one month can be moved, copied or
-- detached. What is unique over all of them is in record_keys. There is no default partition: a record of a month that was
-- not made is refused (ensure_months below).
CREATE TABLE records (
    tenant TEXT COLLATE "C" NOT NULL,           -- the tenant; fixed
    record BIGINT NOT NULL,         -- the archive's own number, dense from 1; fixed
    conversation BYTEA NOT NULL,     -- the conversation; fixed
    sequence BIGINT NOT NULL,       -- number in the conversation; fixed
    kind BIGINT NOT NULL,           -- 1 message, 2 handshake, 3 void (EntryKind); fixed
    digest BYTEA NOT NULL,           -- what the chain took in: envelope, handshake or void digest; fixed
    refused BYTEA,                   -- for a void: digest of what was refused; fixed
    sender TEXT COLLATE "C" NOT NULL,           -- the sending user, empty for voids; fixed
    sent_at BIGINT NOT NULL,        -- the sender's clock, 0 for none; fixed
    archived_at BIGINT NOT NULL,    -- the archive's clock; fixed
    retain_until BIGINT NOT NULL,   -- end of retention; only grows
    mode BIGINT NOT NULL,           -- the mode (Mode), 0 for none; fixed
    record_class TEXT COLLATE "C" NOT NULL,     -- class of the pack, "handshake" for commits, "void" for voids; fixed
    policy_digest BYTEA,             -- the pack its retention was computed by; fixed
    size BIGINT NOT NULL,           -- bytes of ciphertext, with attachments; fixed
    member_set BYTEA,                -- who was a member; fixed
    content BYTEA,                   -- name of the object with ciphertext or handshake; fixed
    body BYTEA,                      -- EnvelopeBody bytes; null for others and once disposed of
    signature BYTEA,                 -- the sender's signature; null for others and once disposed of
    certificate BYTEA,               -- digest of the sender's certificate; fixed
    receipt BYTEA NOT NULL,          -- SignedStatement "receipt"; fixed
    void BYTEA,                      -- SignedStatement "void"; fixed
    proof BIGINT NOT NULL,          -- proofs of knowledge: 0 none to check, 1 unchecked, 2 verified, 3 failed; set once by the check
    disposal BIGINT NOT NULL,       -- 0 live, 1 decided, 2 wraps destroyed, 3 tombstone logged, 4 objects gone; only grows
    fence BIGINT NOT NULL,          -- epoch of the last writer
    PRIMARY KEY (tenant, record, archived_at)
) PARTITION BY RANGE (archived_at);
CREATE INDEX records_by_conversation ON records (tenant, conversation, record);
CREATE INDEX records_by_content ON records (tenant, content);
CREATE INDEX records_by_sender ON records (tenant, sender, record);
CREATE INDEX records_by_member_set ON records (tenant, member_set, record);
CREATE INDEX records_in_disposal ON records (tenant, disposal) WHERE disposal IN (1, 2, 3);

-- Retention never shortens, records never vanish, whoever holds the database handle.
CREATE TRIGGER records_retention BEFORE UPDATE OF retain_until ON records FOR EACH ROW WHEN (NEW.retain_until < OLD.retain_until)
    EXECUTE FUNCTION refuse('RETENTION_SHORTENED');
CREATE TRIGGER records_stay BEFORE DELETE ON records FOR EACH ROW
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER records_stay_all BEFORE TRUNCATE ON records FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER records_fixed BEFORE UPDATE OF record, conversation, sequence, kind, digest, archived_at, receipt ON records FOR EACH ROW
    EXECUTE FUNCTION refuse('RECORD_REWRITTEN');

-- The names of every record, and its month, for as long as there is an archive; kept by a trigger of records.
CREATE TABLE record_keys (
    tenant TEXT COLLATE "C" NOT NULL,  -- the tenant; fixed
    record BIGINT NOT NULL,            -- the archive's own number; fixed
    conversation BYTEA NOT NULL,       -- the conversation; fixed
    sequence BIGINT NOT NULL,          -- number in the conversation; fixed
    kind BIGINT NOT NULL,              -- EntryKind; fixed
    digest BYTEA NOT NULL,             -- what the chain took in; fixed
    archived_at BIGINT NOT NULL,       -- the archive's clock: in which month the record is; fixed
    fence BIGINT NOT NULL,             -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record),
    UNIQUE (tenant, conversation, sequence)
);
-- A void may repeat (the same thing refused for the same reason twice); nothing else may.
CREATE UNIQUE INDEX record_keys_by_digest ON record_keys (tenant, digest) WHERE kind <> 3;
CREATE TRIGGER record_keys_stay BEFORE DELETE ON record_keys FOR EACH ROW
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER record_keys_stay_all BEFORE TRUNCATE ON record_keys FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER record_keys_fixed BEFORE UPDATE ON record_keys FOR EACH ROW
    EXECUTE FUNCTION refuse('RECORD_REWRITTEN');

CREATE FUNCTION keep_record_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO record_keys (tenant, record, conversation, sequence, kind, digest, archived_at, fence)
    VALUES (NEW.tenant, NEW.record, NEW.conversation, NEW.sequence, NEW.kind, NEW.digest, NEW.archived_at, NEW.fence);
    RETURN NULL;
END
$$;
CREATE TRIGGER records_key AFTER INSERT ON records FOR EACH ROW EXECUTE FUNCTION keep_record_key();

-- From when to when the records of each 256 numbers are, so that a search for a time finds where to look, and knows which months it
-- needs. Clocks may go back and senders' clocks are anybody's, hence both ends. Kept by a trigger of records; rounded, so that few
-- inserts change a row.
CREATE TABLE record_spans (
    tenant TEXT COLLATE "C" NOT NULL, -- the tenant; fixed
    span BIGINT NOT NULL,             -- record / 256; fixed
    earliest BIGINT NOT NULL,         -- no record of it was archived before; only goes down
    latest BIGINT NOT NULL,           -- none was archived, or sent by its sender's clock, after; only grows
    fence BIGINT NOT NULL,            -- epoch of the last writer
    PRIMARY KEY (tenant, span)
) WITH (fillfactor = 70);

CREATE FUNCTION keep_record_span() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO record_spans AS s (tenant, span, earliest, latest, fence)
    VALUES (NEW.tenant, NEW.record / 256, NEW.archived_at & ~65535::BIGINT, GREATEST(NEW.archived_at, NEW.sent_at) | 65535, NEW.fence)
    ON CONFLICT (tenant, span) DO UPDATE SET
        earliest = LEAST(s.earliest, EXCLUDED.earliest), latest = GREATEST(s.latest, EXCLUDED.latest), fence = EXCLUDED.fence
    WHERE EXCLUDED.earliest < s.earliest OR EXCLUDED.latest > s.latest;
    RETURN NULL;
END
$$;
CREATE TRIGGER records_span AFTER INSERT ON records FOR EACH ROW EXECUTE FUNCTION keep_record_span();

-- A span that shrank would hide records.
CREATE TRIGGER record_spans_stay BEFORE DELETE ON record_spans FOR EACH ROW
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER record_spans_stay_all BEFORE TRUNCATE ON record_spans FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER record_spans_grow BEFORE UPDATE ON record_spans FOR EACH ROW
    WHEN (NEW.tenant <> OLD.tenant OR NEW.span <> OLD.span OR NEW.earliest > OLD.earliest OR NEW.latest < OLD.latest)
    EXECUTE FUNCTION refuse('RECORD_REWRITTEN');

-- Months that were made, whosever records are in them. One that is here and not among the partitions was detached.
CREATE TABLE months (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- name of the partition, records_YYYY_MM; fixed
    begins BIGINT NOT NULL,                     -- its first instant; fixed
    ends BIGINT NOT NULL                        -- the first instant after it; fixed
);
CREATE TRIGGER months_stay BEFORE UPDATE OR DELETE ON months FOR EACH ROW
    EXECUTE FUNCTION refuse('MONTH_FORGOTTEN');
CREATE TRIGGER months_stay_all BEFORE TRUNCATE ON months FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('MONTH_FORGOTTEN');

-- Each with whether it is a partition now.
CREATE VIEW months_attached AS
    SELECT m.name, m.begins, m.ends,
        CAST(EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                     WHERE i.inhparent = 'records'::regclass AND c.relname = m.name AND NOT i.inhdetachpending) AS INT)::BIGINT AS attached
    FROM months m;

-- Makes the partitions of the month of an instant (milliseconds) and of those that follow it, as far as they are not there; gives
-- how many it made. The role of the service owns no tables and may create none: this, with its owner's rights, is all it can
-- have made. At most 12 a call, and no more while 48 of the database's future are empty: a clock that runs away makes no thousands.
CREATE FUNCTION ensure_months(at_ms BIGINT, how_many BIGINT) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    epoch CONSTANT TIMESTAMP := TIMESTAMP '1970-01-01';
    first CONSTANT TIMESTAMP := date_trunc('month', epoch + at_ms * INTERVAL '1 millisecond');
    month_begins TIMESTAMP;
    month_name TEXT;
    begins_ms BIGINT;
    ends_ms BIGINT;
    empty_ahead BIGINT;
    made BIGINT := 0;
BEGIN
    IF how_many < 1 OR how_many > 12 THEN
        RAISE EXCEPTION 'MONTHS_REFUSED: 1 to 12 at once' USING ERRCODE = 'raise_exception';
    END IF;
    FOR n IN 0 .. how_many - 1 LOOP
        month_begins := first + n * INTERVAL '1 month';
        month_name := to_char(month_begins, '"records_"YYYY_MM');
        CONTINUE WHEN EXISTS (SELECT 1 FROM months m WHERE m.name = month_name);
        -- Of two processes that find it missing one makes it.
        LOCK TABLE months IN SHARE ROW EXCLUSIVE MODE;
        CONTINUE WHEN EXISTS (SELECT 1 FROM months m WHERE m.name = month_name);
        SELECT count(*) INTO empty_ahead FROM months m
            WHERE m.begins > extract(epoch FROM clock_timestamp()) * 1000 AND pg_relation_size(to_regclass(m.name)) = 0;
        IF empty_ahead >= 48 THEN
            RAISE EXCEPTION 'MONTHS_REFUSED: % months ahead are empty', empty_ahead USING ERRCODE = 'raise_exception';
        END IF;
        begins_ms := extract(epoch FROM month_begins) * 1000;
        ends_ms := extract(epoch FROM month_begins + INTERVAL '1 month') * 1000;
        -- Attached afterwards: a CREATE TABLE ... PARTITION OF would keep readers and writers of every other month waiting.
        EXECUTE format('CREATE TABLE %I (LIKE records INCLUDING ALL EXCLUDING INDEXES)', month_name);
        -- Neither goes with a partition that is reached by its own name; triggers on rows do.
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', month_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', month_name);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant = current_setting(''greffe.tenant''))', month_name);
        EXECUTE format('CREATE TRIGGER records_stay_all BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse(''RECORD_DELETED'')',
            month_name);
        EXECUTE format('ALTER TABLE records ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', month_name, begins_ms, ends_ms);
        INSERT INTO months (name, begins, ends) VALUES (month_name, begins_ms, ends_ms);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Attachments. A row comes before its object, so that what an interrupted upload leaves is found and removed.
CREATE TABLE attachments (
    tenant TEXT COLLATE "C" NOT NULL,        -- the tenant; fixed
    digest BYTEA NOT NULL,        -- SHA-256 of the ciphertext: name of the object; fixed
    size BIGINT NOT NULL,        -- bytes of ciphertext; fixed
    conversation BYTEA NOT NULL,  -- the conversation it was uploaded for; fixed
    stored_at BIGINT NOT NULL,   -- when its upload began or was complete; a repeated upload moves it on
    complete BIGINT NOT NULL,    -- 1 once the object is durable and was read back; only grows
    fence BIGINT NOT NULL,       -- epoch of the last writer
    PRIMARY KEY (tenant, digest)
);

-- Which records name which attachments.
CREATE TABLE record_attachments (
    tenant TEXT COLLATE "C" NOT NULL,      -- the tenant; fixed
    record BIGINT NOT NULL,    -- the record; fixed
    position BIGINT NOT NULL,  -- place in the header, from 0; fixed
    digest BYTEA NOT NULL,      -- SHA-256 of the ciphertext; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record, position)
);
CREATE INDEX record_attachments_by_digest ON record_attachments (tenant, digest);

-- Objects that are nobody's and are being removed: no record comes to name one, and no upload of it begins or ends, meanwhile.
CREATE TABLE removals (
    tenant TEXT COLLATE "C" NOT NULL, -- the tenant; fixed
    object BYTEA NOT NULL,            -- SHA-256 of its bytes: its name; fixed
    fence BIGINT NOT NULL,            -- epoch of the writer; fixed
    PRIMARY KEY (tenant, object)
);

-- ML-KEM ciphertexts that have been used, remembered for ever: a second use would be opened under another order.
CREATE TABLE kem_uses (
    tenant TEXT COLLATE "C" NOT NULL,       -- the tenant; fixed
    key_tenant TEXT COLLATE "C" NOT NULL,   -- tenant of the journaling key; fixed
    key_id BYTEA NOT NULL,       -- the journaling key; fixed
    ciphertext BYTEA NOT NULL,   -- SHA-256 of the ML-KEM ciphertext; fixed
    envelope BYTEA NOT NULL,     -- envelope digest that used it; fixed
    fence BIGINT NOT NULL,      -- epoch of the writer; fixed
    PRIMARY KEY (tenant, key_tenant, key_id, ciphertext)
);
CREATE TRIGGER kem_uses_stay BEFORE DELETE ON kem_uses FOR EACH ROW
    EXECUTE FUNCTION refuse('KEM_USE_FORGOTTEN');
CREATE TRIGGER kem_uses_stay_all BEFORE TRUNCATE ON kem_uses FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('KEM_USE_FORGOTTEN');

-- What has to be, or has been, appended to the audit log: written in the transaction of the change it tells of.
CREATE TABLE outbox (
    tenant TEXT COLLATE "C" NOT NULL,        -- the tenant; fixed
    number BIGINT NOT NULL,      -- order of writing, from 1; fixed
    id BYTEA NOT NULL,            -- id of the append: the same again is one entry; fixed
    entry BYTEA NOT NULL,         -- LogEntry without recorded_by and at; fixed
    not_after BIGINT NOT NULL,   -- not sent from this instant on, 0 for always; fixed
    log_index BIGINT,            -- index of the leaf, once there; set once
    leaf BYTEA,                   -- the leaf's exact bytes; set once
    failure TEXT COLLATE "C" ,                -- why it is not and will not be logged; set once
    fence BIGINT NOT NULL,       -- epoch of the writer; fixed
    PRIMARY KEY (tenant, number),
    UNIQUE (tenant, id)
);
CREATE INDEX outbox_waiting ON outbox (tenant, number) WHERE log_index IS NULL AND failure IS NULL;

-- Batches of receipts, each one leaf of the log.
CREATE TABLE batches (
    tenant TEXT COLLATE "C" NOT NULL,   -- the tenant; fixed
    first BIGINT NOT NULL,  -- first record of the batch; fixed
    count BIGINT NOT NULL,  -- how many; fixed
    append BYTEA NOT NULL,   -- id in the outbox; fixed
    fence BIGINT NOT NULL,  -- epoch of the writer; fixed
    PRIMARY KEY (tenant, first)
);

-- Each receipt's way to the root of its batch.
CREATE TABLE receipt_paths (
    tenant TEXT COLLATE "C" NOT NULL,    -- the tenant; fixed
    record BIGINT NOT NULL,  -- the record; fixed
    first BIGINT NOT NULL,   -- its batch; fixed
    path BYTEA NOT NULL,      -- RFC 6962 path, 32 bytes a node; fixed
    fence BIGINT NOT NULL,   -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record)
);

-- Acts of people, by nonce: a second use is a retry.
CREATE TABLE acts (
    tenant TEXT COLLATE "C" NOT NULL,   -- the tenant; fixed
    nonce BYTEA NOT NULL,    -- the act's id; fixed
    digest BYTEA NOT NULL,   -- SHA-256 of the statement bytes; fixed
    append BYTEA NOT NULL,   -- id in the outbox of the entry that answers it; fixed
    fence BIGINT NOT NULL,  -- epoch of the writer; fixed
    PRIMARY KEY (tenant, nonce)
);

-- Matters.
CREATE TABLE matters (
    tenant TEXT COLLATE "C" NOT NULL,       -- the tenant; fixed
    matter BYTEA NOT NULL,       -- its id; fixed
    number BIGINT NOT NULL,     -- order of creation, from 1; fixed
    name TEXT COLLATE "C" NOT NULL,         -- what it is called; fixed
    opened_by TEXT COLLATE "C" NOT NULL,    -- who opened it; fixed
    opened_at BIGINT NOT NULL,  -- when; fixed
    closed_at BIGINT,           -- when it was closed; set once
    fence BIGINT NOT NULL,      -- epoch of the last writer
    PRIMARY KEY (tenant, matter),
    UNIQUE (tenant, number)
);

-- Holds. Which records a hold binds is what its query matches, now and later: nothing is copied.
CREATE TABLE holds (
    tenant TEXT COLLATE "C" NOT NULL,        -- the tenant; fixed
    hold BYTEA NOT NULL,          -- its id; fixed
    matter BYTEA NOT NULL,        -- its matter; fixed
    number BIGINT NOT NULL,      -- order of placing, from 1; fixed
    query BYTEA NOT NULL,         -- RecordQuery; fixed
    reason TEXT COLLATE "C" NOT NULL,        -- why; fixed
    placed_by TEXT COLLATE "C" NOT NULL,     -- who placed it; fixed
    placed_at BIGINT NOT NULL,   -- when; fixed
    free_from BIGINT,            -- released, and from when it no longer holds; a second release never makes it earlier
    fence BIGINT NOT NULL,       -- epoch of the last writer
    PRIMARY KEY (tenant, hold),
    UNIQUE (tenant, number)
);
CREATE TRIGGER holds_stay BEFORE DELETE ON holds FOR EACH ROW
    EXECUTE FUNCTION refuse('HOLD_DELETED');
CREATE TRIGGER holds_stay_all BEFORE TRUNCATE ON holds FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('HOLD_DELETED');

-- Decided dispositions and how far they have come.
CREATE TABLE dispositions (
    tenant TEXT COLLATE "C" NOT NULL,                -- the tenant; fixed
    record BIGINT NOT NULL,              -- the record; fixed
    decided_at BIGINT NOT NULL,          -- the trusted time of the decision; fixed
    backups_expire_at BIGINT NOT NULL,   -- when the last backup of the wrap store will have expired; fixed
    append BYTEA NOT NULL,                -- id in the outbox of its tombstone; fixed
    acts BYTEA NOT NULL,                  -- Tombstone with every act; fixed
    fence BIGINT NOT NULL,               -- epoch of the writer; fixed
    PRIMARY KEY (tenant, record)
);

-- Orders to open records.
CREATE TABLE orders (
    tenant TEXT COLLATE "C" NOT NULL,        -- the tenant; fixed
    id BYTEA NOT NULL,            -- the order's id; fixed
    number BIGINT NOT NULL,      -- order of filing, from 1; fixed
    digest BYTEA NOT NULL,        -- order digest; fixed
    statement BYTEA NOT NULL,     -- SignedStatement "order"; fixed
    filed_at BIGINT NOT NULL,    -- when it was filed; fixed
    expiry BIGINT NOT NULL,      -- first instant at which it no longer stands; fixed
    append BYTEA,                 -- id in the outbox, once the approvals suffice; set once
    salt BYTEA,                   -- the leaf's salt when sealed; set once
    fence BIGINT NOT NULL,       -- epoch of the last writer
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, number),
    UNIQUE (tenant, digest)
);

-- The exact records of an order.
CREATE TABLE order_records (
    tenant TEXT COLLATE "C" NOT NULL,      -- the tenant; fixed
    id BYTEA NOT NULL,          -- the order; fixed
    position BIGINT NOT NULL,  -- place in the sorted list, from 0; fixed
    digest BYTEA NOT NULL,      -- envelope digest; fixed
    fence BIGINT NOT NULL,     -- epoch of the writer; fixed
    PRIMARY KEY (tenant, id, position)
);

-- Approvals of an order, one a person.
CREATE TABLE approvals (
    tenant TEXT COLLATE "C" NOT NULL,     -- the tenant; fixed
    id BYTEA NOT NULL,         -- the order; fixed
    person TEXT COLLATE "C" NOT NULL,     -- who approves; fixed
    statement BYTEA NOT NULL,  -- SignedStatement "approval"; fixed
    fence BIGINT NOT NULL,    -- epoch of the writer; fixed
    PRIMARY KEY (tenant, id, person)
);

-- Which process does the background work of all: its transactions check that its epoch is still the one here.
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

-- Whoever calls it, names mean what they mean to the owner.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_months(BIGINT, BIGINT) SET search_path = %I, pg_temp', current_schema());
END
$$;

-- ensure_months runs with its owner's rights: it is for those who may write records, and for nobody else. A role that is given
-- INSERT on records later needs EXECUTE on this as well.
REVOKE EXECUTE ON FUNCTION ensure_months(BIGINT, BIGINT) FROM PUBLIC;
DO $$
DECLARE
    writer RECORD;
BEGIN
    FOR writer IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::TEXT END AS name
                  FROM pg_class c, aclexplode(c.relacl) a
                  WHERE c.oid = 'records'::regclass AND a.privilege_type = 'INSERT'
    LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION ensure_months(BIGINT, BIGINT) TO ' || writer.name;
    END LOOP;
END
$$;

-- This month and three more; a job of the service goes on with it.
SELECT ensure_months(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT), 4);
