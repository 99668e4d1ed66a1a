-- Which process writes: every transaction checks that its own epoch is still the one here.
CREATE TABLE lease (
    tenant  TEXT   NOT NULL PRIMARY KEY, -- The tenant.
    fence   BIGINT NOT NULL,             -- Epoch of the process that writes. Grows with every start.
    holder  TEXT   NOT NULL,             -- Which process that is, for people. Replaced.
    expires BIGINT NOT NULL              -- Until when it holds; here a start takes it at once.
);
