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

-- Of every tenant: its policy binds the owner too, but for this.
ALTER TABLE records NO FORCE ROW LEVEL SECURITY;
INSERT INTO record_spans (tenant, span, earliest, latest, fence)
SELECT tenant, record / 256, min(archived_at) & ~65535::BIGINT, max(GREATEST(archived_at, sent_at)) | 65535, max(fence)
FROM records GROUP BY tenant, record / 256;
ALTER TABLE records FORCE ROW LEVEL SECURITY;

-- A span that shrank would hide records.
CREATE TRIGGER record_spans_stay BEFORE DELETE ON record_spans FOR EACH ROW
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER record_spans_stay_all BEFORE TRUNCATE ON record_spans FOR EACH STATEMENT
    EXECUTE FUNCTION refuse('RECORD_DELETED');
CREATE TRIGGER record_spans_grow BEFORE UPDATE ON record_spans FOR EACH ROW
    WHEN (NEW.tenant <> OLD.tenant OR NEW.span <> OLD.span OR NEW.earliest > OLD.earliest OR NEW.latest < OLD.latest)
    EXECUTE FUNCTION refuse('RECORD_REWRITTEN');

ALTER TABLE record_spans ENABLE ROW LEVEL SECURITY;
ALTER TABLE record_spans FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON record_spans USING (tenant = current_setting('greffe.tenant'));
