-- What the commitments of reads in the log are to. Kept as long as the archive: whoever oversees reads may look years later.
CREATE TABLE reads (
    tenant TEXT NOT NULL,     -- the tenant; fixed
    number BIGINT NOT NULL,   -- its entry's number in the outbox; fixed
    subject BLOB NOT NULL,    -- what was read or asked for; fixed
    salt BLOB NOT NULL,       -- 32 fresh bytes; fixed
    fence BIGINT NOT NULL,    -- epoch of the writer; fixed
    PRIMARY KEY (tenant, number)
);
CREATE TRIGGER reads_stay BEFORE DELETE ON reads
BEGIN SELECT RAISE(ABORT, 'READ_DELETED'); END;
CREATE TRIGGER reads_fixed BEFORE UPDATE ON reads
BEGIN SELECT RAISE(ABORT, 'READ_REWRITTEN'); END;
