-- +goose Up
-- +goose StatementBegin

-- Rows of other tables refer to the issuers while their table is made anew.
PRAGMA defer_foreign_keys = ON;
CREATE TABLE issuers_before AS SELECT * FROM issuers;
DROP TABLE issuers;
CREATE TABLE issuers (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  role        TEXT NOT NULL CHECK (role IN ('root', 'issuing', 'external')),
  profile     TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('prepared', 'active', 'retiring', 'retired', 'revoked')),
  slot        INTEGER NOT NULL CHECK (slot IN (0, 1)),
  retire_at   INTEGER NOT NULL,
  parent      TEXT NOT NULL REFERENCES issuers (id),
  key_uri     TEXT NOT NULL,
  upstream    TEXT NOT NULL,
  certificate BLOB NOT NULL,
  created     INTEGER NOT NULL,
  CHECK (key_uri = '' OR (upstream = '' AND role <> 'external'))
) STRICT, WITHOUT ROWID;
INSERT INTO issuers (id, name, role, profile, state, slot, retire_at, parent, key_uri, upstream, certificate, created)
  SELECT id, name, role, '', state, 0, 0, parent, key_uri, '', certificate, created FROM issuers_before;
CREATE UNIQUE INDEX issuers_one_active ON issuers (role, profile) WHERE role <> 'external' AND state = 'active';

-- The certificates of an issuer are spread over shards, each with a list of its own.
-- Shard 0 is what names the issuer's one address; ends is when its last certificate does.
CREATE TABLE crl_shards (
  issuer      TEXT NOT NULL REFERENCES issuers (id),
  shard       INTEGER NOT NULL CHECK (shard >= 0),
  issued      INTEGER NOT NULL CHECK (issued >= 0),
  ends        INTEGER NOT NULL,
  revocations INTEGER NOT NULL CHECK (revocations >= 0),
  crl_number  INTEGER NOT NULL CHECK (crl_number >= 0),
  crl_covers  INTEGER NOT NULL CHECK (crl_covers BETWEEN 0 AND revocations),
  crl_next    INTEGER NOT NULL,
  address     TEXT NOT NULL, -- that its certificates name; empty for shard 0
  PRIMARY KEY (issuer, shard)
) STRICT, WITHOUT ROWID;
INSERT INTO crl_shards (issuer, shard, issued, ends, revocations, crl_number, crl_covers, crl_next, address)
  SELECT id, 0, 0, 0, revocations, crl_number, crl_covers, crl_next, '' FROM issuers_before;
DROP TABLE issuers_before;

ALTER TABLE certificates ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;
DROP INDEX certificates_revoked;
-- All that a CRL is made of: only revoked certificates pay for its width.
CREATE INDEX certificates_revoked ON certificates (issuer, shard, serial, not_after, revoked_at, reason) WHERE revoked_at <> 0;

ALTER TABLE crls RENAME TO crls_before;
CREATE TABLE crls (
  issuer      TEXT NOT NULL,
  shard       INTEGER NOT NULL,
  number      INTEGER NOT NULL CHECK (number > 0),
  base        INTEGER NOT NULL CHECK (base BETWEEN 0 AND number - 1), -- of a delta list; 0: a whole one
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  entries     INTEGER NOT NULL,
  covers      INTEGER NOT NULL,
  der         BLOB NOT NULL,
  PRIMARY KEY (issuer, shard, number, base),
  FOREIGN KEY (issuer, shard) REFERENCES crl_shards (issuer, shard)
) STRICT;
INSERT INTO crls (issuer, shard, number, base, this_update, next_update, entries, covers, der)
  SELECT issuer, 0, number, 0, this_update, next_update, entries, covers, der FROM crls_before;
DROP TABLE crls_before;

-- Who signs OCSP answers for an issuer.
CREATE TABLE ocsp_responders (
  issuer      TEXT PRIMARY KEY REFERENCES issuers (id),
  certificate BLOB NOT NULL,
  sealed_key  BLOB NOT NULL,
  not_after   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A CA whose key is made and whose certificate somebody else signs.
CREATE TABLE issuer_requests (
  id      TEXT PRIMARY KEY,
  name    TEXT NOT NULL,
  profile TEXT NOT NULL,
  key_uri TEXT NOT NULL,
  csr     BLOB NOT NULL,
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Further certificates for the key of an issuer, signed by another one.
CREATE TABLE cross_certificates (
  thumbprint  BLOB PRIMARY KEY CHECK (length(thumbprint) = 32),
  issuer      TEXT NOT NULL REFERENCES issuers (id),
  signed_by   TEXT NOT NULL REFERENCES issuers (id),
  certificate BLOB NOT NULL,
  created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was asked of an authority elsewhere, before it was asked. serial and certificate are
-- what came back, once that is known.
CREATE TABLE intents (
  id              TEXT PRIMARY KEY,
  issuer          TEXT NOT NULL REFERENCES issuers (id),
  registration_id TEXT NOT NULL,
  csr             BLOB NOT NULL,
  created         INTEGER NOT NULL,
  state           TEXT NOT NULL CHECK (state IN ('open', 'issued', 'refused', 'orphaned', 'revoked')),
  settled         INTEGER NOT NULL,
  serial          BLOB NOT NULL,
  certificate     BLOB NOT NULL,
  detail          TEXT NOT NULL,
  CHECK ((state = 'open') = (settled = 0))
) STRICT, WITHOUT ROWID;
CREATE INDEX intents_unsettled ON intents (created) WHERE state IN ('open', 'orphaned');

-- What an authority elsewhere is still to be told, or has been told, to revoke: certificates
-- on record, and those that an orphaned intent came to. told is when it confirmed.
CREATE TABLE upstream_revocations (
  issuer      TEXT NOT NULL REFERENCES issuers (id),
  serial      BLOB NOT NULL CHECK (length(serial) BETWEEN 1 AND 20),
  reason      TEXT NOT NULL,
  certificate BLOB NOT NULL,
  intent      TEXT NOT NULL,
  created     INTEGER NOT NULL,
  tries       INTEGER NOT NULL,
  next_try    INTEGER NOT NULL,
  told        INTEGER NOT NULL,
  detail      TEXT NOT NULL,
  PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX upstream_revocations_due ON upstream_revocations (issuer, next_try) WHERE told = 0;

CREATE TABLE profile_versions (
  name     TEXT NOT NULL,
  version  INTEGER NOT NULL,
  settings TEXT NOT NULL,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
INSERT INTO profile_versions (name, version, settings, at, actor) SELECT name, version, settings, updated, 'job:migration' FROM profiles;

-- The last certificate requests, kept to try changes of profiles on.
CREATE TABLE recent_requests (
  position        INTEGER PRIMARY KEY,
  at              INTEGER NOT NULL,
  registration_id TEXT NOT NULL,
  profile         TEXT NOT NULL,
  csr             BLOB NOT NULL
) STRICT;

-- Which registration a key belongs to, for profiles with a rule about reuse.
CREATE TABLE key_holders (
  key_hash        BLOB PRIMARY KEY CHECK (length(key_hash) = 32),
  registration_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Codes that enroll one device once. Only their hashes are here.
CREATE TABLE enrollment_codes (
  hash            BLOB PRIMARY KEY CHECK (length(hash) = 32),
  registration_id TEXT NOT NULL,
  group_id        TEXT NOT NULL, -- the group it makes the device a member of; '' = the device has an enrollment of its own
  created         INTEGER NOT NULL,
  created_by      TEXT NOT NULL,
  expires         INTEGER NOT NULL,
  used_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX enrollment_codes_registration ON enrollment_codes (registration_id);

CREATE TRIGGER issuers_move_one_way BEFORE UPDATE ON issuers
WHEN CASE NEW.state WHEN 'prepared' THEN 0 WHEN 'active' THEN 1 WHEN 'retiring' THEN 2 WHEN 'retired' THEN 3 ELSE 4 END < CASE OLD.state WHEN 'prepared' THEN 0 WHEN 'active' THEN 1 WHEN 'retiring' THEN 2 WHEN 'retired' THEN 3 ELSE 4 END
  OR NEW.certificate <> OLD.certificate OR NEW.role <> OLD.role OR NEW.profile <> OLD.profile
BEGIN SELECT RAISE(ABORT, 'issuers move one way'); END;
CREATE TRIGGER shards_move_one_way BEFORE UPDATE ON crl_shards
WHEN NEW.revocations < OLD.revocations OR NEW.crl_number < OLD.crl_number OR NEW.issued < OLD.issued
BEGIN SELECT RAISE(ABORT, 'revocations and CRL numbers only grow'); END;
DROP TRIGGER certificates_are_fixed;
CREATE TRIGGER certificates_are_fixed
BEFORE UPDATE OF position, issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, shard, der ON certificates
BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;
CREATE TRIGGER intents_settle_once BEFORE UPDATE ON intents
WHEN OLD.state IN ('issued', 'refused', 'revoked')
BEGIN SELECT RAISE(ABORT, 'an intent is settled once'); END;
-- +goose StatementEnd
