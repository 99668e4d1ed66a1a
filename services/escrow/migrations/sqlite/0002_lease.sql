-- The lease names its holder, and on a shared database runs out.
ALTER TABLE lease ADD COLUMN holder TEXT NOT NULL DEFAULT '';     -- Which process that is, for people. Replaced.
ALTER TABLE lease ADD COLUMN expires BIGINT NOT NULL DEFAULT 0;   -- Until when it holds; here a start takes it at once.
