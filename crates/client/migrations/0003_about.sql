-- Which items are about which message, so that a message is shown with everything that was said about it: edits, retractions,
-- reactions. Rows are only added. That an item is about another is known to whoever has the file; what it says is sealed.
CREATE TABLE about (
    device       BLOB    NOT NULL, -- The device.
    conversation BLOB    NOT NULL, -- The conversation.
    target       BLOB    NOT NULL, -- Envelope digest of the message, as the item names it: it may not be there.
    sequence     INTEGER NOT NULL, -- Number of the item.
    PRIMARY KEY (device, conversation, target, sequence)
) WITHOUT ROWID;
