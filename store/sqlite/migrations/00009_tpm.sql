-- +goose Up
-- +goose StatementBegin
-- Groups may admit TPMs: those on a list (endorsement_keys), and those that a manufacturer has
-- certified ('tpm-ca', by a trust anchor). An individual enrollment may name a TPM: its certificate is then the endorsement key and, if
-- one is named, the storage root key behind it, as they travel (TPM2B_PUBLIC each); the
-- thumbprint is the SHA-256 of the endorsement key as a certificate has it. What a column may hold cannot be changed in
-- SQLite: the table is made anew.
CREATE TABLE entry_credentials_new (
  kind         INTEGER NOT NULL,
  id           TEXT NOT NULL,
  slot         INTEGER NOT NULL CHECK (slot IN (0, 1)),
  role         TEXT NOT NULL CHECK (role IN ('client', 'signing', 'ca-reference', 'key', 'tpm', 'tpm-list', 'tpm-ca')),
  thumbprint   BLOB,
  subject_hash BLOB,
  certificate  BLOB,
  anchor       TEXT REFERENCES trust_anchors (name) ON DELETE CASCADE,
  sealed_key   BLOB,
  state        INTEGER NOT NULL DEFAULT 2 CHECK (state BETWEEN 1 AND 3),
  since        INTEGER NOT NULL DEFAULT 0,
  seen_at      INTEGER NOT NULL DEFAULT 0,
  retire_at    INTEGER NOT NULL DEFAULT 0,
  issuer_hash  BLOB,
  PRIMARY KEY (kind, id, slot),
  FOREIGN KEY (kind, id) REFERENCES entries (kind, id) ON DELETE CASCADE,
  CHECK ((certificate IS NOT NULL) = (role IN ('client', 'signing', 'tpm'))),
  CHECK ((thumbprint IS NOT NULL) = (role IN ('client', 'signing', 'tpm'))),
  CHECK ((subject_hash IS NOT NULL) = (role = 'signing')),
  CHECK ((anchor IS NOT NULL) = (role IN ('ca-reference', 'tpm-ca'))),
  CHECK ((sealed_key IS NOT NULL) = (role = 'key')),
  CHECK (role <> 'tpm' OR (kind = 0 AND slot = 0)),
  CHECK (role <> 'tpm-list' OR (kind = 1 AND slot = 0)),
  CHECK (role <> 'tpm-ca' OR kind = 1)
) STRICT, WITHOUT ROWID;
INSERT INTO entry_credentials_new (kind, id, slot, role, thumbprint, subject_hash, certificate, anchor, sealed_key, state, since, seen_at, retire_at, issuer_hash)
  SELECT kind, id, slot, role, thumbprint, subject_hash, certificate, anchor, sealed_key, state, since, seen_at, retire_at, issuer_hash FROM entry_credentials;
DROP TABLE entry_credentials;
ALTER TABLE entry_credentials_new RENAME TO entry_credentials;
CREATE INDEX entry_credentials_thumbprint ON entry_credentials (thumbprint) WHERE thumbprint IS NOT NULL;
CREATE INDEX entry_credentials_subject ON entry_credentials (subject_hash) WHERE subject_hash IS NOT NULL;
CREATE INDEX entry_credentials_anchor ON entry_credentials (anchor) WHERE anchor IS NOT NULL;
CREATE INDEX entry_credentials_group_keys ON entry_credentials (id) WHERE kind = 1 AND role = 'key';
CREATE UNIQUE INDEX entry_credentials_one_active ON entry_credentials (kind, id) WHERE state = 2;
CREATE INDEX entry_credentials_issuer ON entry_credentials (issuer_hash) WHERE issuer_hash IS NOT NULL;

-- What a certified TPM has to be (JSON); NULL: whatever it is.
ALTER TABLE entries ADD COLUMN tpm BLOB;

-- The TPMs that a group admits, by the SHA-256 of their endorsement keys as certificates have them. One
-- that has a registration id is admitted as that alone.
CREATE TABLE endorsement_keys (
  kind            INTEGER NOT NULL CHECK (kind = 1),
  id              TEXT NOT NULL,
  key_hash        BLOB NOT NULL CHECK (length(key_hash) = 32),
  registration_id TEXT NOT NULL,
  since           INTEGER NOT NULL,
  PRIMARY KEY (kind, id, key_hash),
  FOREIGN KEY (kind, id) REFERENCES entries (kind, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX endorsement_keys_hash ON endorsement_keys (key_hash);

-- What a TPM was asked to prove itself by: the key of a token, wrapped for the two keys of
-- which these are the SHA-256. One for each device, replaced, never two; expired ones are
-- deleted.
CREATE TABLE tpm_challenges (
  registration_id  TEXT PRIMARY KEY,
  nonce            BLOB NOT NULL CHECK (length(nonce) = 16), -- tells it from the one before
  endorsement_key  BLOB NOT NULL CHECK (length(endorsement_key) = 32),
  storage_root_key BLOB NOT NULL CHECK (length(storage_root_key) = 32),
  sealed_key       BLOB NOT NULL,
  expires          INTEGER NOT NULL,
  spent_at         INTEGER NOT NULL -- when a registration was made by it; 0: none was
) STRICT, WITHOUT ROWID;
CREATE INDEX tpm_challenges_expires ON tpm_challenges (expires);

-- The TPMs of registered devices, and the keys that they connect to their hubs with.
CREATE TABLE tpm_devices (
  registration_id  TEXT PRIMARY KEY REFERENCES registrations (id) ON DELETE CASCADE,
  endorsement_key  BLOB NOT NULL, -- TPM2B_PUBLIC, as the next
  storage_root_key BLOB NOT NULL,
  sealed_key       BLOB NOT NULL,
  key_hash         BLOB NOT NULL CHECK (length(key_hash) = 32), -- of the endorsement key, as a certificate has it
  by_group         INTEGER NOT NULL -- 1: a group admitted it, so that it has no other registration
) STRICT, WITHOUT ROWID;
CREATE INDEX tpm_devices_key ON tpm_devices (key_hash);
CREATE UNIQUE INDEX tpm_devices_one_each ON tpm_devices (key_hash) WHERE by_group = 1;

-- Where a certificate's key is known to be; '' where nothing is.
ALTER TABLE certificates ADD COLUMN key_attestation TEXT NOT NULL DEFAULT '' CHECK (key_attestation IN ('', 'tpm'));
-- By key, for who disallows one; its first octets, as every issuance pays for them.
CREATE INDEX certificates_key ON certificates (substr(key_hash, 1, 8));
CREATE INDEX certificates_attested ON certificates (position) WHERE key_attestation <> '';
DROP TRIGGER certificates_are_fixed;
CREATE TRIGGER certificates_are_fixed
BEFORE UPDATE OF position, issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, shard, der, key_attestation ON certificates
BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;
-- +goose StatementEnd
