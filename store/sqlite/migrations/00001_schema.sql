-- +goose Up
-- +goose StatementBegin
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: how many changes of trust have been committed.
CREATE TABLE trust_epoch (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  value INTEGER NOT NULL
) STRICT;
INSERT INTO trust_epoch (one, value) VALUES (1, 1);

CREATE TABLE issuers (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  role        TEXT NOT NULL CHECK (role IN ('root', 'issuing')),
  state       TEXT NOT NULL CHECK (state IN ('active', 'retired')),
  parent      TEXT NOT NULL REFERENCES issuers (id),
  key_uri     TEXT NOT NULL,
  certificate BLOB NOT NULL,
  created     INTEGER NOT NULL,
  revocations INTEGER NOT NULL CHECK (revocations >= 0),
  crl_number  INTEGER NOT NULL CHECK (crl_number >= 0),
  crl_covers  INTEGER NOT NULL CHECK (crl_covers BETWEEN 0 AND revocations),
  crl_next    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX issuers_one_active ON issuers (role) WHERE role = 'issuing' AND state = 'active';

-- The row id is the place in the inventory: rows are only ever appended.
CREATE TABLE certificates (
  position        INTEGER PRIMARY KEY,
  issuer          TEXT NOT NULL REFERENCES issuers (id),
  serial          BLOB NOT NULL CHECK (length(serial) BETWEEN 1 AND 20),
  thumb8          INTEGER NOT NULL,
  thumbprint      BLOB NOT NULL CHECK (length(thumbprint) = 32),
  key_hash        BLOB NOT NULL,
  registration_id TEXT NOT NULL,
  parent          BLOB NOT NULL,
  not_before      INTEGER NOT NULL,
  not_after       INTEGER NOT NULL,
  issued          INTEGER NOT NULL,
  revoked_at      INTEGER NOT NULL DEFAULT 0,
  reason          TEXT NOT NULL DEFAULT '',
  der             BLOB NOT NULL,
  CHECK ((revoked_at = 0) = (reason = ''))
) STRICT;
-- Serials begin with a clock, so that new ones land on the same pages.
CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer);
CREATE INDEX certificates_thumb ON certificates (thumb8);
CREATE INDEX certificates_registration ON certificates (registration_id);
CREATE INDEX certificates_revoked ON certificates (issuer, serial) WHERE revoked_at <> 0;
CREATE INDEX certificates_revoked_list ON certificates (position) WHERE revoked_at <> 0;

CREATE TABLE ledger (
  seq     INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  body    BLOB NOT NULL
) STRICT;

CREATE TABLE crls (
  issuer      TEXT NOT NULL REFERENCES issuers (id),
  number      INTEGER NOT NULL CHECK (number > 0),
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  entries     INTEGER NOT NULL,
  covers      INTEGER NOT NULL,
  der         BLOB NOT NULL,
  PRIMARY KEY (issuer, number)
) STRICT;

CREATE TABLE trust_anchors (
  name         TEXT PRIMARY KEY,
  thumbprint   BLOB NOT NULL CHECK (length(thumbprint) = 32),
  subject_hash BLOB NOT NULL CHECK (length(subject_hash) = 32),
  certificate  BLOB NOT NULL,
  verified_at  INTEGER NOT NULL,
  verified_by  TEXT NOT NULL,
  code         TEXT NOT NULL,
  code_expires INTEGER NOT NULL,
  created      INTEGER NOT NULL,
  updated      INTEGER NOT NULL,
  version      INTEGER NOT NULL CHECK (version > 0),
  CHECK ((verified_at = 0) = (verified_by = '')),
  CHECK ((code = '') = (code_expires = 0))
) STRICT, WITHOUT ROWID;
CREATE INDEX trust_anchors_thumbprint ON trust_anchors (thumbprint);
CREATE INDEX trust_anchors_subject ON trust_anchors (subject_hash);

-- Enrollments (kind 0) and enrollment groups (kind 1) have the same settings.
CREATE TABLE entries (
  kind          INTEGER NOT NULL CHECK (kind IN (0, 1)),
  id            TEXT NOT NULL CHECK (id <> ''),
  spelled       TEXT NOT NULL,
  enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  device_id     TEXT NOT NULL,
  allocation    TEXT NOT NULL,
  hubs          TEXT NOT NULL,
  update_hub    INTEGER NOT NULL CHECK (update_hub IN (0, 1)),
  migrate_data  INTEGER NOT NULL CHECK (migrate_data IN (0, 1)),
  initial_twin  BLOB,
  profile       TEXT NOT NULL,
  iot_edge      INTEGER NOT NULL CHECK (iot_edge IN (0, 1)),
  optional_info BLOB,
  created       INTEGER NOT NULL,
  updated       INTEGER NOT NULL,
  version       INTEGER NOT NULL CHECK (version > 0),
  PRIMARY KEY (kind, id),
  CHECK (kind = 0 OR device_id = '')
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_profile ON entries (profile) WHERE profile <> '';

CREATE TABLE entry_credentials (
  kind         INTEGER NOT NULL,
  id           TEXT NOT NULL,
  slot         INTEGER NOT NULL CHECK (slot IN (0, 1)),
  role         TEXT NOT NULL CHECK (role IN ('client', 'signing', 'ca-reference', 'key')),
  thumbprint   BLOB,
  subject_hash BLOB,
  certificate  BLOB,
  anchor       TEXT REFERENCES trust_anchors (name) ON DELETE CASCADE,
  sealed_key   BLOB,
  PRIMARY KEY (kind, id, slot),
  FOREIGN KEY (kind, id) REFERENCES entries (kind, id) ON DELETE CASCADE,
  CHECK ((certificate IS NOT NULL) = (role IN ('client', 'signing'))),
  CHECK ((thumbprint IS NOT NULL) = (role IN ('client', 'signing'))),
  CHECK ((subject_hash IS NOT NULL) = (role = 'signing')),
  CHECK ((anchor IS NOT NULL) = (role = 'ca-reference')),
  CHECK ((sealed_key IS NOT NULL) = (role = 'key'))
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_credentials_thumbprint ON entry_credentials (thumbprint) WHERE thumbprint IS NOT NULL;
CREATE INDEX entry_credentials_subject ON entry_credentials (subject_hash) WHERE subject_hash IS NOT NULL;
CREATE INDEX entry_credentials_anchor ON entry_credentials (anchor) WHERE anchor IS NOT NULL;
CREATE INDEX entry_credentials_group_keys ON entry_credentials (id) WHERE kind = 1 AND role = 'key';

-- The certificates above leaves, once for each distinct chain.
CREATE TABLE chains (
  id INTEGER PRIMARY KEY CHECK (id <> 0)
) STRICT;
CREATE TABLE chain_links (
  chain      INTEGER NOT NULL REFERENCES chains (id),
  position   INTEGER NOT NULL,
  thumbprint BLOB NOT NULL CHECK (length(thumbprint) = 32),
  key_hash   BLOB NOT NULL CHECK (length(key_hash) = 32),
  der        BLOB NOT NULL,
  PRIMARY KEY (chain, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX chain_links_thumbprint ON chain_links (thumbprint);

-- alias is the device id in lower case where it is not the registration id.
CREATE TABLE registrations (
  id                TEXT PRIMARY KEY CHECK (id <> ''),
  spelled           TEXT NOT NULL,
  owner_kind        INTEGER,
  owner_id          TEXT,
  mechanism         TEXT NOT NULL,
  state             TEXT NOT NULL CHECK (state IN ('unassigned', 'assigning', 'assigned', 'failed')),
  substatus         TEXT NOT NULL,
  hub               TEXT NOT NULL,
  device_id         TEXT NOT NULL,
  alias             TEXT NOT NULL,
  error_code        INTEGER NOT NULL,
  error_message     TEXT NOT NULL,
  payload           BLOB,
  created           INTEGER NOT NULL,
  updated           INTEGER NOT NULL,
  version           INTEGER NOT NULL CHECK (version > 0),
  operation_id      TEXT NOT NULL,
  operation_digest  BLOB NOT NULL,
  operation_at      INTEGER NOT NULL,
  primary_ref       BLOB NOT NULL,
  primary_state     INTEGER NOT NULL CHECK (primary_state BETWEEN 0 AND 3),
  primary_from      INTEGER NOT NULL,
  primary_until     INTEGER NOT NULL,
  primary_seen      INTEGER NOT NULL,
  primary_retire    INTEGER NOT NULL,
  secondary_ref     BLOB NOT NULL,
  secondary_state   INTEGER NOT NULL CHECK (secondary_state BETWEEN 0 AND 3),
  secondary_from    INTEGER NOT NULL,
  secondary_until   INTEGER NOT NULL,
  secondary_seen    INTEGER NOT NULL,
  secondary_retire  INTEGER NOT NULL,
  issuer            TEXT NOT NULL,
  serial            BLOB NOT NULL,
  leaf              BLOB NOT NULL,
  leaf_key          BLOB NOT NULL,
  chain             INTEGER REFERENCES chains (id),
  FOREIGN KEY (owner_kind, owner_id) REFERENCES entries (kind, id) ON DELETE SET NULL,
  CHECK ((owner_kind IS NULL) = (owner_id IS NULL)),
  CHECK (state <> 'assigned' OR hub <> ''),
  CHECK (NOT (primary_state = 2 AND secondary_state = 2)),
  CHECK ((primary_state = 0) = (length(primary_ref) = 0)),
  CHECK ((secondary_state = 0) = (length(secondary_ref) = 0)),
  CHECK (length(primary_ref) = 0 OR primary_ref <> secondary_ref)
) STRICT, WITHOUT ROWID;
CREATE INDEX registrations_owner ON registrations (owner_kind, owner_id);
CREATE UNIQUE INDEX registrations_alias ON registrations (alias, hub) WHERE alias <> '' AND hub <> '';

CREATE TABLE twins (
  registration_id TEXT PRIMARY KEY,
  tags            BLOB NOT NULL,
  desired         BLOB NOT NULL,
  updated         INTEGER NOT NULL
) STRICT;

CREATE TABLE hubs (
  name     TEXT PRIMARY KEY,
  driver   TEXT NOT NULL,
  location TEXT NOT NULL,
  weight   INTEGER NOT NULL CHECK (weight >= 0),
  draining INTEGER NOT NULL CHECK (draining IN (0, 1)),
  created  INTEGER NOT NULL,
  updated  INTEGER NOT NULL,
  version  INTEGER NOT NULL CHECK (version > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE profiles (
  name     TEXT PRIMARY KEY,
  settings TEXT NOT NULL,
  created  INTEGER NOT NULL,
  updated  INTEGER NOT NULL,
  version  INTEGER NOT NULL CHECK (version > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE disallowances (
  id        TEXT PRIMARY KEY,
  digest    BLOB NOT NULL CHECK (length(digest) = 32),
  is_key    INTEGER NOT NULL CHECK (is_key IN (0, 1)),
  reason    TEXT NOT NULL,
  actor     TEXT NOT NULL,
  created   INTEGER NOT NULL,
  lifted_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX disallowances_active ON disallowances (digest) WHERE lifted_at = 0;

CREATE TABLE tokens (
  name       TEXT PRIMARY KEY,
  hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  scopes     TEXT NOT NULL,
  created    INTEGER NOT NULL,
  expires    INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is only ever added to, and what moves one way, is held to it here too.

CREATE TRIGGER ledger_is_append_only BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_keeps_rows BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER certificates_keep_rows BEFORE DELETE ON certificates
BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;
CREATE TRIGGER certificates_are_fixed
BEFORE UPDATE OF position, issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, der ON certificates
BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;
CREATE TRIGGER revocation_is_one_way BEFORE UPDATE OF revoked_at, reason ON certificates
WHEN OLD.revoked_at <> 0 AND (NEW.revoked_at = 0 OR NEW.reason <> 'keyCompromise')
BEGIN SELECT RAISE(ABORT, 'a revoked certificate stays revoked'); END;
CREATE TRIGGER issuers_move_one_way BEFORE UPDATE ON issuers
WHEN NEW.revocations < OLD.revocations OR NEW.crl_number < OLD.crl_number OR (OLD.state = 'retired' AND NEW.state <> 'retired')
BEGIN SELECT RAISE(ABORT, 'issuers move one way'); END;
CREATE TRIGGER lifting_is_one_way BEFORE UPDATE ON disallowances
WHEN OLD.lifted_at <> 0 OR NEW.digest <> OLD.digest OR NEW.is_key <> OLD.is_key
BEGIN SELECT RAISE(ABORT, 'a disallowance is only ever lifted'); END;
-- +goose StatementEnd
