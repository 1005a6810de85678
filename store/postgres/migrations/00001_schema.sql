-- +goose Up
-- +goose StatementBegin
CREATE TABLE meta (
  key   TEXT COLLATE "C" PRIMARY KEY,
  value TEXT COLLATE "C" NOT NULL
);

-- One row: how many changes of trust have been committed.
CREATE TABLE trust_epoch (
  one   BIGINT PRIMARY KEY CHECK (one = 1),
  value BIGINT NOT NULL
);
INSERT INTO trust_epoch (one, value) VALUES (1, 1);

CREATE TABLE issuers (
  id          TEXT COLLATE "C" PRIMARY KEY,
  name        TEXT COLLATE "C" NOT NULL,
  role        TEXT COLLATE "C" NOT NULL CHECK (role IN ('root', 'issuing')),
  state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('active', 'retired')),
  parent      TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  key_uri     TEXT COLLATE "C" NOT NULL,
  certificate BYTEA NOT NULL,
  created     BIGINT NOT NULL,
  revocations BIGINT NOT NULL CHECK (revocations >= 0),
  crl_number  BIGINT NOT NULL CHECK (crl_number >= 0),
  crl_covers  BIGINT NOT NULL CHECK (crl_covers BETWEEN 0 AND revocations),
  crl_next    BIGINT NOT NULL
);
CREATE UNIQUE INDEX issuers_one_active ON issuers (role) WHERE role = 'issuing' AND state = 'active';

-- The position is the place in the inventory: rows are only ever appended.
CREATE TABLE certificates (
  position        BIGSERIAL PRIMARY KEY,
  issuer          TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  serial          BYTEA NOT NULL CHECK (length(serial) BETWEEN 1 AND 20),
  thumb8          BIGINT NOT NULL,
  thumbprint      BYTEA NOT NULL CHECK (length(thumbprint) = 32),
  key_hash        BYTEA NOT NULL,
  registration_id TEXT COLLATE "C" NOT NULL,
  parent          BYTEA NOT NULL,
  not_before      BIGINT NOT NULL,
  not_after       BIGINT NOT NULL,
  issued          BIGINT NOT NULL,
  revoked_at      BIGINT NOT NULL DEFAULT 0,
  reason          TEXT COLLATE "C" NOT NULL DEFAULT '',
  der             BYTEA NOT NULL,
  CHECK ((revoked_at = 0) = (reason = ''))
);
-- Serials begin with a clock, so that new ones land on the same pages.
CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer);
CREATE INDEX certificates_thumb ON certificates (thumb8);
CREATE INDEX certificates_registration ON certificates (registration_id, position);
CREATE INDEX certificates_revoked ON certificates (issuer, serial) WHERE revoked_at <> 0;
CREATE INDEX certificates_revoked_list ON certificates (position) WHERE revoked_at <> 0;

-- tx lets a sequencer take settled rows in order: sequence numbers become visible out of
-- order and have gaps.
CREATE TABLE ledger (
  seq     BIGSERIAL PRIMARY KEY,
  at      BIGINT NOT NULL,
  actor   TEXT COLLATE "C" NOT NULL,
  action  TEXT COLLATE "C" NOT NULL,
  subject TEXT COLLATE "C" NOT NULL,
  body    BYTEA NOT NULL,
  tx      xid8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE TABLE crls (
  issuer      TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  number      BIGINT NOT NULL CHECK (number > 0),
  this_update BIGINT NOT NULL,
  next_update BIGINT NOT NULL,
  entries     BIGINT NOT NULL,
  covers      BIGINT NOT NULL,
  der         BYTEA NOT NULL,
  PRIMARY KEY (issuer, number)
);

CREATE TABLE trust_anchors (
  name         TEXT COLLATE "C" PRIMARY KEY,
  thumbprint   BYTEA NOT NULL CHECK (length(thumbprint) = 32),
  subject_hash BYTEA NOT NULL CHECK (length(subject_hash) = 32),
  certificate  BYTEA NOT NULL,
  verified_at  BIGINT NOT NULL,
  verified_by  TEXT COLLATE "C" NOT NULL,
  code         TEXT COLLATE "C" NOT NULL,
  code_expires BIGINT NOT NULL,
  created      BIGINT NOT NULL,
  updated      BIGINT NOT NULL,
  version      BIGINT NOT NULL CHECK (version > 0),
  CHECK ((verified_at = 0) = (verified_by = '')),
  CHECK ((code = '') = (code_expires = 0))
);
CREATE INDEX trust_anchors_thumbprint ON trust_anchors (thumbprint);
CREATE INDEX trust_anchors_subject ON trust_anchors (subject_hash);

-- Enrollments (kind 0) and enrollment groups (kind 1) have the same settings.
CREATE TABLE entries (
  kind          BIGINT NOT NULL CHECK (kind IN (0, 1)),
  id            TEXT COLLATE "C" NOT NULL CHECK (id <> ''),
  spelled       TEXT COLLATE "C" NOT NULL,
  enabled       BIGINT NOT NULL CHECK (enabled IN (0, 1)),
  device_id     TEXT COLLATE "C" NOT NULL,
  allocation    TEXT COLLATE "C" NOT NULL,
  hubs          TEXT COLLATE "C" NOT NULL,
  update_hub    BIGINT NOT NULL CHECK (update_hub IN (0, 1)),
  migrate_data  BIGINT NOT NULL CHECK (migrate_data IN (0, 1)),
  initial_twin  BYTEA,
  profile       TEXT COLLATE "C" NOT NULL,
  iot_edge      BIGINT NOT NULL CHECK (iot_edge IN (0, 1)),
  optional_info BYTEA,
  created       BIGINT NOT NULL,
  updated       BIGINT NOT NULL,
  version       BIGINT NOT NULL CHECK (version > 0),
  PRIMARY KEY (kind, id),
  CHECK (kind = 0 OR device_id = '')
);
CREATE INDEX entries_profile ON entries (profile) WHERE profile <> '';

CREATE TABLE entry_credentials (
  kind         BIGINT NOT NULL,
  id           TEXT COLLATE "C" NOT NULL,
  slot         BIGINT NOT NULL CHECK (slot IN (0, 1)),
  role         TEXT COLLATE "C" NOT NULL CHECK (role IN ('client', 'signing', 'ca-reference', 'key')),
  thumbprint   BYTEA,
  subject_hash BYTEA,
  certificate  BYTEA,
  anchor       TEXT COLLATE "C" REFERENCES trust_anchors (name) ON DELETE CASCADE,
  sealed_key   BYTEA,
  PRIMARY KEY (kind, id, slot),
  FOREIGN KEY (kind, id) REFERENCES entries (kind, id) ON DELETE CASCADE,
  CHECK ((certificate IS NOT NULL) = (role IN ('client', 'signing'))),
  CHECK ((thumbprint IS NOT NULL) = (role IN ('client', 'signing'))),
  CHECK ((subject_hash IS NOT NULL) = (role = 'signing')),
  CHECK ((anchor IS NOT NULL) = (role = 'ca-reference')),
  CHECK ((sealed_key IS NOT NULL) = (role = 'key'))
);
CREATE INDEX entry_credentials_thumbprint ON entry_credentials (thumbprint) WHERE thumbprint IS NOT NULL;
CREATE INDEX entry_credentials_subject ON entry_credentials (subject_hash) WHERE subject_hash IS NOT NULL;
CREATE INDEX entry_credentials_anchor ON entry_credentials (anchor) WHERE anchor IS NOT NULL;
CREATE INDEX entry_credentials_group_keys ON entry_credentials (id) WHERE kind = 1 AND role = 'key';

-- The certificates above leaves, once for each distinct chain.
CREATE TABLE chains (
  id BIGINT PRIMARY KEY CHECK (id <> 0)
);
CREATE TABLE chain_links (
  chain      BIGINT NOT NULL REFERENCES chains (id),
  position   BIGINT NOT NULL,
  thumbprint BYTEA NOT NULL CHECK (length(thumbprint) = 32),
  key_hash   BYTEA NOT NULL CHECK (length(key_hash) = 32),
  der        BYTEA NOT NULL,
  PRIMARY KEY (chain, position)
);
CREATE INDEX chain_links_thumbprint ON chain_links (thumbprint);

-- alias is the device id in lower case where it is not the registration id.
CREATE TABLE registrations (
  id                TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
  spelled           TEXT COLLATE "C" NOT NULL,
  owner_kind        BIGINT,
  owner_id          TEXT COLLATE "C",
  mechanism         TEXT COLLATE "C" NOT NULL,
  state             TEXT COLLATE "C" NOT NULL CHECK (state IN ('unassigned', 'assigning', 'assigned', 'failed')),
  substatus         TEXT COLLATE "C" NOT NULL,
  hub               TEXT COLLATE "C" NOT NULL,
  device_id         TEXT COLLATE "C" NOT NULL,
  alias             TEXT COLLATE "C" NOT NULL,
  error_code        BIGINT NOT NULL,
  error_message     TEXT COLLATE "C" NOT NULL,
  payload           BYTEA,
  created           BIGINT NOT NULL,
  updated           BIGINT NOT NULL,
  version           BIGINT NOT NULL CHECK (version > 0),
  operation_id      TEXT COLLATE "C" NOT NULL,
  operation_digest  BYTEA NOT NULL,
  operation_at      BIGINT NOT NULL,
  primary_ref       BYTEA NOT NULL,
  primary_state     BIGINT NOT NULL CHECK (primary_state BETWEEN 0 AND 3),
  primary_from      BIGINT NOT NULL,
  primary_until     BIGINT NOT NULL,
  primary_seen      BIGINT NOT NULL,
  primary_retire    BIGINT NOT NULL,
  secondary_ref     BYTEA NOT NULL,
  secondary_state   BIGINT NOT NULL CHECK (secondary_state BETWEEN 0 AND 3),
  secondary_from    BIGINT NOT NULL,
  secondary_until   BIGINT NOT NULL,
  secondary_seen    BIGINT NOT NULL,
  secondary_retire  BIGINT NOT NULL,
  issuer            TEXT COLLATE "C" NOT NULL,
  serial            BYTEA NOT NULL,
  leaf              BYTEA NOT NULL,
  leaf_key          BYTEA NOT NULL,
  chain             BIGINT REFERENCES chains (id),
  FOREIGN KEY (owner_kind, owner_id) REFERENCES entries (kind, id) ON DELETE SET NULL,
  CHECK ((owner_kind IS NULL) = (owner_id IS NULL)),
  CHECK (state <> 'assigned' OR hub <> ''),
  CHECK (NOT (primary_state = 2 AND secondary_state = 2)),
  CHECK ((primary_state = 0) = (length(primary_ref) = 0)),
  CHECK ((secondary_state = 0) = (length(secondary_ref) = 0)),
  CHECK (length(primary_ref) = 0 OR primary_ref <> secondary_ref)
);
CREATE INDEX registrations_owner ON registrations (owner_kind, owner_id, id);
CREATE UNIQUE INDEX registrations_alias ON registrations (alias, hub) WHERE alias <> '' AND hub <> '';

CREATE TABLE twins (
  registration_id TEXT COLLATE "C" PRIMARY KEY,
  tags            BYTEA NOT NULL,
  desired         BYTEA NOT NULL,
  updated         BIGINT NOT NULL
);

CREATE TABLE hubs (
  name     TEXT COLLATE "C" PRIMARY KEY,
  driver   TEXT COLLATE "C" NOT NULL,
  location TEXT COLLATE "C" NOT NULL,
  weight   BIGINT NOT NULL CHECK (weight >= 0),
  draining BIGINT NOT NULL CHECK (draining IN (0, 1)),
  created  BIGINT NOT NULL,
  updated  BIGINT NOT NULL,
  version  BIGINT NOT NULL CHECK (version > 0)
);

CREATE TABLE profiles (
  name     TEXT COLLATE "C" PRIMARY KEY,
  settings TEXT COLLATE "C" NOT NULL,
  created  BIGINT NOT NULL,
  updated  BIGINT NOT NULL,
  version  BIGINT NOT NULL CHECK (version > 0)
);

CREATE TABLE disallowances (
  id        TEXT COLLATE "C" PRIMARY KEY,
  digest    BYTEA NOT NULL CHECK (length(digest) = 32),
  is_key    BIGINT NOT NULL CHECK (is_key IN (0, 1)),
  reason    TEXT COLLATE "C" NOT NULL,
  actor     TEXT COLLATE "C" NOT NULL,
  created   BIGINT NOT NULL,
  lifted_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX disallowances_active ON disallowances (digest) WHERE lifted_at = 0;

CREATE TABLE tokens (
  name       TEXT COLLATE "C" PRIMARY KEY,
  hash       BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
  scopes     TEXT COLLATE "C" NOT NULL,
  created    BIGINT NOT NULL,
  expires    BIGINT NOT NULL,
  revoked_at BIGINT NOT NULL
);

-- What is only ever added to, and what moves one way, is held to it here too.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE ON ledger
  FOR EACH ROW EXECUTE FUNCTION refuse_change('the ledger is append-only');
CREATE TRIGGER certificates_keep_rows BEFORE DELETE ON certificates
  FOR EACH ROW EXECUTE FUNCTION refuse_change('certificates are append-only');
CREATE TRIGGER certificates_are_fixed
  BEFORE UPDATE OF position, issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, der ON certificates
  FOR EACH ROW EXECUTE FUNCTION refuse_change('certificates are append-only');
CREATE TRIGGER revocation_is_one_way BEFORE UPDATE OF revoked_at, reason ON certificates
  FOR EACH ROW WHEN (OLD.revoked_at <> 0 AND (NEW.revoked_at = 0 OR NEW.reason <> 'keyCompromise'))
  EXECUTE FUNCTION refuse_change('a revoked certificate stays revoked');
CREATE TRIGGER issuers_move_one_way BEFORE UPDATE ON issuers
  FOR EACH ROW WHEN (NEW.revocations < OLD.revocations OR NEW.crl_number < OLD.crl_number OR (OLD.state = 'retired' AND NEW.state <> 'retired'))
  EXECUTE FUNCTION refuse_change('issuers move one way');
CREATE TRIGGER lifting_is_one_way BEFORE UPDATE ON disallowances
  FOR EACH ROW WHEN (OLD.lifted_at <> 0 OR NEW.digest <> OLD.digest OR NEW.is_key <> OLD.is_key)
  EXECUTE FUNCTION refuse_change('a disallowance is only ever lifted');
-- +goose StatementEnd
