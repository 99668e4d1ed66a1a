-- The audit service's tables. Times are milliseconds since the Unix epoch, UTC; digests are SHA-256, 32 bytes.

-- The log: one row a leaf, without gaps from 0. Rows are never changed and never removed.
CREATE TABLE leaf (
    idx    INTEGER PRIMARY KEY, -- Index of the leaf.
    caller TEXT    NOT NULL,    -- The service that asked for it, from its certificate.
    id     BLOB    NOT NULL,    -- The caller's id for it, 16 bytes.
    event  BLOB    NOT NULL,    -- SHA-256 of the entry as it was asked for: another event under the same id is refused.
    at     INTEGER NOT NULL,    -- When it was sequenced; never before the row before.
    leaf   BLOB    NOT NULL,    -- The leaf's exact bytes.
    hash   BLOB    NOT NULL     -- RFC 6962 hash of the leaf: what a flipped bit in the row contradicts.
) STRICT;
CREATE UNIQUE INDEX leaf_id ON leaf (caller, id);
CREATE INDEX leaf_hash ON leaf (hash);

CREATE TRIGGER leaf_stays BEFORE UPDATE ON leaf BEGIN SELECT RAISE(ABORT, 'leaves do not change'); END;
CREATE TRIGGER leaf_remains BEFORE DELETE ON leaf BEGIN SELECT RAISE(ABORT, 'leaves are not removed'); END;

-- The newest checkpoint signed, written before any witness sees it, and the newest one that a quorum has cosigned.
CREATE TABLE checkpoint (
    kind TEXT    NOT NULL PRIMARY KEY CHECK (kind IN ('signed', 'published')), -- Which of the two.
    size INTEGER NOT NULL, -- Leaves it covers. Grows.
    note BLOB    NOT NULL  -- The signed note. Replaced.
) STRICT;
