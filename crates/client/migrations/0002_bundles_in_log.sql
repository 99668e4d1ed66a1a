-- Whether the log was seen to have the statement where log_index says: 1 for all that are taken in from now on, 0 for those of
-- before, of which bundles were not looked for. Set to 1 once.
ALTER TABLE trust_statement ADD COLUMN in_log INTEGER NOT NULL DEFAULT 0;
