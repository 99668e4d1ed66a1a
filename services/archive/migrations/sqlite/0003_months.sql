-- What PostgreSQL keeps in partitions by month is one table here: the same names over it, for the same queries.

-- The names of every record, and its month.
CREATE VIEW record_keys AS
    SELECT tenant, record, conversation, sequence, kind, digest, archived_at, fence FROM records;

-- Months that were made: none, the one table takes every month.
CREATE VIEW months_attached AS SELECT '' AS name, 0 AS begins, 0 AS ends, 1 AS attached WHERE 0;

-- Whether another record needs the same object.
CREATE INDEX records_by_content ON records (tenant, content);
