-- What the commitments of reads in the log are to. Kept as long as the archive: whoever oversees reads may look years later.
CREATE TABLE reads (
    tenant TEXT COLLATE "C" NOT NULL, -- the tenant; fixed
    number BIGINT NOT NULL,           -- its entry's number in the outbox; fixed
    subject BYTEA NOT NULL,           -- what was read or asked for; fixed
    salt BYTEA NOT NULL,              -- 32 fresh bytes; fixed
    fence BIGINT NOT NULL,            -- epoch of the writer; fixed
    PRIMARY KEY (tenant, number)
);
CREATE TRIGGER reads_stay BEFORE DELETE ON reads FOR EACH ROW
    EXECUTE FUNCTION refuse('READ_DELETED');
CREATE TRIGGER reads_stay_all BEFORE TRUNCATE ON reads FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('READ_DELETED');
CREATE TRIGGER reads_fixed BEFORE UPDATE ON reads FOR EACH ROW
    EXECUTE FUNCTION refuse('READ_REWRITTEN');
ALTER TABLE reads ENABLE ROW LEVEL SECURITY;
ALTER TABLE reads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON reads USING (tenant = current_setting('greffe.tenant'));

-- Whoever writes the outbox writes these beside it.
DO $$
DECLARE
    writer RECORD;
BEGIN
    FOR writer IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::TEXT END AS name
                  FROM pg_class c, aclexplode(c.relacl) a
                  WHERE c.oid = 'outbox'::regclass AND a.privilege_type = 'INSERT'
    LOOP
        EXECUTE 'GRANT SELECT, INSERT ON reads TO ' || writer.name;
    END LOOP;
END
$$;
