-- From when to when the records of each 256 numbers are, so that a search for a time finds where to look. Clocks may go back and
-- senders' clocks are anybody's, hence both ends. Kept by a trigger of records; rounded, so that few inserts change a row.
CREATE TABLE record_spans (
    tenant TEXT NOT NULL,     -- the tenant; fixed
    span BIGINT NOT NULL,     -- record / 256; fixed
    earliest BIGINT NOT NULL, -- no record of it was archived before; only goes down
    latest BIGINT NOT NULL,   -- none was archived, or sent by its sender's clock, after; only grows
    fence BIGINT NOT NULL,    -- epoch of the last writer
    PRIMARY KEY (tenant, span)
);
CREATE TRIGGER records_span AFTER INSERT ON records
BEGIN
    INSERT INTO record_spans (tenant, span, earliest, latest, fence)
    VALUES (NEW.tenant, NEW.record / 256, NEW.archived_at & ~65535, max(NEW.archived_at, NEW.sent_at) | 65535, NEW.fence)
    ON CONFLICT (tenant, span) DO UPDATE SET
        earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest), fence = excluded.fence
    WHERE excluded.earliest < earliest OR excluded.latest > latest;
END;
INSERT INTO record_spans (tenant, span, earliest, latest, fence)
SELECT tenant, record / 256, min(archived_at) & ~65535, max(max(archived_at, sent_at)) | 65535, max(fence)
FROM records GROUP BY tenant, record / 256;

-- A span that shrank would hide records.
CREATE TRIGGER record_spans_stay BEFORE DELETE ON record_spans
BEGIN SELECT RAISE(ABORT, 'RECORD_DELETED'); END;
CREATE TRIGGER record_spans_grow BEFORE UPDATE ON record_spans
WHEN NEW.tenant <> OLD.tenant OR NEW.span <> OLD.span OR NEW.earliest > OLD.earliest OR NEW.latest < OLD.latest
BEGIN SELECT RAISE(ABORT, 'RECORD_REWRITTEN'); END;

-- A conversation's records in the archive's order, without looking at all others.
CREATE INDEX records_by_conversation ON records (tenant, conversation, record);
-- The members of a set, without looking at those of all others.
CREATE INDEX member_sets_by_set ON member_sets (tenant, member_set, member);
