-- What PostgreSQL keeps in partitions by month is one table here: the same names over it, for the same queries.

-- The names of every record, and its month.
CREATE VIEW record_keys AS
    SELECT tenant, record, conversation, sequence, kind, digest, archived_at, fence FROM records;

-- Months that were made: none, the one table takes every month.
CREATE VIEW months_attached AS SELECT '' AS name, 0 AS begins, 0 AS ends, 1 AS attached WHERE 0;

-- Objects that are nobody's and are being removed: no record comes to name one, and no upload of it begins or ends, meanwhile.
CREATE TABLE removals (
    tenant TEXT NOT NULL,  -- the tenant; fixed
    object BLOB NOT NULL,  -- SHA-256 of its bytes: its name; fixed
    fence BIGINT NOT NULL, -- epoch of the writer; fixed
    PRIMARY KEY (tenant, object)
);

-- Whether another record needs the same object.
CREATE INDEX records_by_content ON records (tenant, content);
