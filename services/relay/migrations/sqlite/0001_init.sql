-- The relay's tables. Times are milliseconds since the Unix epoch, UTC; ids are 16 bytes; digests are SHA-256, 32 bytes.
-- Every row carries its tenant, and `fence`: the lease epoch in which it was written last. A column is written once
-- unless its comment says otherwise. No row holds content, a content key or a share.

-- Root-signed statements in force, now or once: bundles, key records, share epochs, disclosures.
CREATE TABLE statement (
    tenant    TEXT    NOT NULL, -- The tenant.
    digest    BLOB    NOT NULL, -- SHA-256 of the statement's bytes.
    kind      TEXT    NOT NULL, -- "trust-bundle", "key-record", "share-epoch" or "disclosure".
    scope     BLOB    NOT NULL, -- What a later one of the same kind and scope supersedes: key id, or mode and standing order.
    serial    BIGINT  NOT NULL, -- Version, epoch or serial: the highest of a scope is in force.
    statement BLOB    NOT NULL, -- Protobuf of the SignedStatement, as received.
    log_index BIGINT  NOT NULL, -- Index of the log's leaf.
    fence     BIGINT  NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, digest)
);
CREATE UNIQUE INDEX statement_scope ON statement (tenant, kind, scope, serial);

-- How far this relay has followed the log.
CREATE TABLE follower (
    tenant    TEXT    NOT NULL PRIMARY KEY, -- The tenant.
    next_leaf BIGINT  NOT NULL, -- Index of the next leaf to look at: size of the tree followed. Grows.
    frontier  BLOB    NOT NULL, -- Hashes of that tree's complete subtrees, 32 bytes each, largest first. Replaced.
    fence     BIGINT  NOT NULL  -- Lease epoch of its writing. Replaced.
);

-- Device certificates that were verified and logged; a device renews by registering another one.
CREATE TABLE device_cert (
    tenant     TEXT    NOT NULL, -- The tenant.
    digest     BLOB    NOT NULL, -- SHA-256 of the certificate's statement bytes.
    device     BLOB    NOT NULL, -- The device.
    user_name  TEXT    NOT NULL, -- The user.
    not_before BIGINT  NOT NULL, -- First valid instant.
    not_after  BIGINT  NOT NULL, -- First instant no longer valid.
    statement  BLOB    NOT NULL, -- Protobuf of the SignedStatement.
    log_index  BIGINT  NOT NULL, -- Index of the log's leaf: a higher one supersedes a lower one of the same device.
    fence      BIGINT  NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, digest)
);
CREATE INDEX device_cert_device ON device_cert (tenant, device, log_index);
CREATE INDEX device_cert_user ON device_cert (tenant, user_name);

-- Challenges given out and not used yet.
CREATE TABLE challenge (
    tenant    TEXT   NOT NULL, -- The tenant.
    challenge BLOB   NOT NULL, -- 32 random bytes.
    device    BLOB   NOT NULL, -- Whom it was given to.
    expires   BIGINT NOT NULL, -- First instant at which it no longer serves.
    fence     BIGINT NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, challenge)
);

-- MLS key packages. A claimed one stays as a row without bytes, so that it can be neither claimed nor published again.
CREATE TABLE key_package (
    tenant      TEXT   NOT NULL, -- The tenant.
    device      BLOB   NOT NULL, -- Whose it is.
    reference   BLOB   NOT NULL, -- MLS key package reference.
    certificate BLOB   NOT NULL, -- Certificate its credential names.
    package     BLOB   NOT NULL, -- Its bytes. Emptied some time after it was claimed.
    last_resort BIGINT NOT NULL, -- 1: given when no other is left, and stays; 0: given once.
    not_after   BIGINT NOT NULL, -- First instant at which it no longer serves.
    claimed_by  BLOB,            -- The device that claimed it. Set once.
    claimed_at  BIGINT,          -- When. Set once, together with claimed_by.
    fence       BIGINT NOT NULL, -- Lease epoch of its writing. Replaced.
    PRIMARY KEY (tenant, reference)
);
CREATE INDEX key_package_free ON key_package (tenant, device, last_resort, not_after) WHERE claimed_at IS NULL;

-- Conversations.
CREATE TABLE conversation (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- MLS group id.
    created_by   BLOB   NOT NULL, -- The creating device.
    created_at   BIGINT NOT NULL, -- When.
    origin       BLOB   NOT NULL, -- Digest of the group info it was created from: the same call again is a retry.
    log_index    BIGINT NOT NULL, -- Index of the log's leaf.
    mode         BIGINT NOT NULL, -- Mode of the disclosure in force. Replaced, only upward.
    disclosure   BLOB   NOT NULL, -- SHA-256 of the disclosure's statement bytes. Replaced by a commit.
    epoch        BIGINT NOT NULL, -- MLS epoch. Grows; steps back only when the archive refuses the commit.
    sequence     BIGINT NOT NULL, -- Highest number given. Grows.
    released     BIGINT NOT NULL, -- Highest number with a receipt. Grows.
    head         BLOB   NOT NULL, -- Chain head at `released`. Replaced.
    observer     BLOB   NOT NULL, -- The observer's snapshot at `epoch`: public group state. Replaced by a commit.
    stalled      TEXT NOT NULL, -- Why nothing more gets a number: relay and archive contradict each other; empty otherwise. Replaced.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing. Replaced.
    PRIMARY KEY (tenant, conversation)
);

-- Who takes part, from which number to which, and how far each device has taken its mailbox in.
CREATE TABLE member (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    device       BLOB   NOT NULL, -- The device.
    from_seq     BIGINT NOT NULL, -- Number of the commit that added it; 0 for the creator.
    until_seq    BIGINT,          -- Number of the commit that removed it, which it still gets. Set once; cleared if refused.
    user_name    TEXT   NOT NULL, -- The user.
    certificate  BLOB   NOT NULL, -- Certificate of its MLS leaf. Replaced by a commit that renews it.
    cursor       BIGINT NOT NULL, -- Everything up to here is taken in; from_seq - 1 until the Welcome is. Grows.
    counter      BIGINT NOT NULL, -- device_counter of its last sequenced message. Grows.
    previous     BLOB   NOT NULL, -- Envelope digest of that message; zeros before the first. Replaced.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing. Replaced.
    PRIMARY KEY (tenant, conversation, device, from_seq)
);
CREATE INDEX member_device ON member (tenant, device);

-- Acknowledgements of notices that are in the log.
CREATE TABLE acknowledgement (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    device       BLOB   NOT NULL, -- The device.
    disclosure   BLOB   NOT NULL, -- SHA-256 of the disclosure's statement bytes.
    log_index    BIGINT NOT NULL, -- Index of the log's leaf.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, conversation, device, disclosure)
);

-- What took a number. A row without a receipt is the outbox to the archive.
CREATE TABLE item (
    id           INTEGER PRIMARY KEY, -- The relay's own order, over all conversations.
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    sequence     BIGINT NOT NULL, -- Its number: dense, from 1.
    kind         BIGINT NOT NULL, -- 1 message, 2 handshake, 3 void. Becomes 3 when the archive refuses.
    digest       BLOB   NOT NULL, -- Envelope digest or handshake digest.
    message_id   BLOB,            -- Header's message id; none for a handshake.
    device       BLOB   NOT NULL, -- The sending device.
    certificate  BLOB   NOT NULL, -- The sending device's certificate.
    epoch        BIGINT NOT NULL, -- MLS epoch it was made in.
    disclosure   BLOB   NOT NULL, -- Disclosure in force when it was made: who has not acknowledged it does not get the item.
    size         BIGINT NOT NULL, -- Bytes of its payload.
    receipt      BLOB,            -- Protobuf of the SignedStatement. Set once.
    void         BLOB,            -- Protobuf of the SignedStatement of a void. Set once, with the receipt.
    head         BLOB,            -- Chain head at this number. Set once, with the receipt.
    release_id   BIGINT,          -- Place in the order of release: dense, over all conversations. Set once, with the receipt.
    fence        BIGINT NOT NULL  -- Lease epoch of its writing. Replaced.
);
CREATE UNIQUE INDEX item_sequence ON item (tenant, conversation, sequence);
CREATE UNIQUE INDEX item_digest ON item (tenant, digest);
CREATE UNIQUE INDEX item_message_id ON item (tenant, conversation, message_id) WHERE message_id IS NOT NULL;
CREATE UNIQUE INDEX item_commit ON item (tenant, conversation, epoch) WHERE kind = 2;
CREATE UNIQUE INDEX item_released ON item (tenant, release_id) WHERE release_id IS NOT NULL;
CREATE INDEX item_outbox ON item (tenant, id) WHERE receipt IS NULL;

-- Bytes of items, until every member has taken them in.
CREATE TABLE payload (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    sequence     BIGINT NOT NULL, -- The item.
    payload      BLOB   NOT NULL, -- Protobuf of the DeliveredMessage, or the PublicMessage.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, conversation, sequence)
);

-- What a commit gives to the devices it adds, and what is restored if the archive refuses it.
CREATE TABLE commit_extra (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    sequence     BIGINT NOT NULL, -- The commit.
    welcome      BLOB   NOT NULL, -- MLS Welcome; empty when nobody is added. Emptied when all added devices have it.
    ratchet_tree BLOB   NOT NULL, -- Ratchet tree for the joiners. Emptied together with `welcome`.
    observer     BLOB   NOT NULL, -- The observer's snapshot before the commit. Emptied with the receipt.
    epoch        BIGINT NOT NULL, -- MLS epoch before the commit.
    disclosure   BLOB   NOT NULL, -- Disclosure in force before the commit.
    mode         BIGINT NOT NULL, -- Mode before the commit.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing. Replaced.
    PRIMARY KEY (tenant, conversation, sequence)
);

-- Certificates that a commit replaced, to restore them if the archive refuses it.
CREATE TABLE commit_renewal (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    sequence     BIGINT NOT NULL, -- The commit.
    device       BLOB   NOT NULL, -- The member.
    certificate  BLOB   NOT NULL, -- Its certificate before the commit.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, conversation, sequence, device)
);

-- Attachments that are complete in the archive and staged here for the members.
CREATE TABLE attachment (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    digest       BLOB   NOT NULL, -- SHA-256 of the ciphertext; with the conversation it names the staged file.
    size         BIGINT NOT NULL, -- Bytes of ciphertext.
    uploaded_at  BIGINT NOT NULL, -- When it was complete. Replaced by a later upload of the same bytes.
    staged       BIGINT NOT NULL, -- 1 while the file is here. Becomes 0 when all members have the messages that name it.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing. Replaced.
    PRIMARY KEY (tenant, conversation, digest)
);

-- Which item names which attachment.
CREATE TABLE item_attachment (
    tenant       TEXT   NOT NULL, -- The tenant.
    conversation BLOB   NOT NULL, -- The conversation.
    digest       BLOB   NOT NULL, -- The attachment.
    sequence     BIGINT NOT NULL, -- The item.
    fence        BIGINT NOT NULL, -- Lease epoch of its writing.
    PRIMARY KEY (tenant, conversation, digest, sequence)
);

-- Which replica writes. Every transaction checks that its own lease epoch is still the highest.
CREATE TABLE lease (
    tenant TEXT   NOT NULL PRIMARY KEY, -- The tenant.
    fence  BIGINT NOT NULL              -- Lease epoch of the replica that writes. Grows with every start.
);
