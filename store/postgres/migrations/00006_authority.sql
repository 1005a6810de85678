-- +goose Up
-- +goose StatementBegin

DROP TRIGGER issuers_move_one_way ON issuers;

-- Which rows have settled is known otherwise (ADR 0018).
ALTER TABLE ledger DROP COLUMN tx;
ALTER TABLE issuers DROP CONSTRAINT issuers_role_check;
ALTER TABLE issuers DROP CONSTRAINT issuers_state_check;
ALTER TABLE issuers
  ADD COLUMN profile   TEXT COLLATE "C" NOT NULL DEFAULT '',
  ADD COLUMN slot      BIGINT NOT NULL DEFAULT 0 CHECK (slot IN (0, 1)),
  ADD COLUMN retire_at BIGINT NOT NULL DEFAULT 0,
  ADD COLUMN upstream  TEXT COLLATE "C" NOT NULL DEFAULT '',
  ADD CHECK (role IN ('root', 'issuing', 'external')),
  ADD CHECK (state IN ('prepared', 'active', 'retiring', 'retired', 'revoked')),
  ADD CHECK (key_uri = '' OR (upstream = '' AND role <> 'external'));
DROP INDEX issuers_one_active;
CREATE UNIQUE INDEX issuers_one_active ON issuers (role, profile) WHERE role <> 'external' AND state = 'active';

-- The certificates of an issuer are spread over shards, each with a list of its own.
-- Shard 0 is what names the issuer's one address; ends is when its last certificate does.
CREATE TABLE crl_shards (
  issuer      TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  shard       BIGINT NOT NULL CHECK (shard >= 0),
  issued      BIGINT NOT NULL CHECK (issued >= 0),
  ends        BIGINT NOT NULL,
  revocations BIGINT NOT NULL CHECK (revocations >= 0),
  crl_number  BIGINT NOT NULL CHECK (crl_number >= 0),
  crl_covers  BIGINT NOT NULL CHECK (crl_covers BETWEEN 0 AND revocations),
  crl_next    BIGINT NOT NULL,
  address     TEXT COLLATE "C" NOT NULL, -- that its certificates name; empty for shard 0
  PRIMARY KEY (issuer, shard)
);
INSERT INTO crl_shards (issuer, shard, issued, ends, revocations, crl_number, crl_covers, crl_next, address)
  SELECT id, 0, 0, 0, revocations, crl_number, crl_covers, crl_next, '' FROM issuers;
ALTER TABLE issuers DROP COLUMN crl_covers, DROP COLUMN crl_number, DROP COLUMN crl_next, DROP COLUMN revocations;

ALTER TABLE certificates ADD COLUMN shard BIGINT NOT NULL DEFAULT 0;
DROP INDEX certificates_revoked;
-- All that a CRL is made of: only revoked certificates pay for its width.
CREATE INDEX certificates_revoked ON certificates (issuer, shard, serial, not_after, revoked_at, reason) WHERE revoked_at <> 0;

ALTER TABLE crls RENAME TO crls_before;
ALTER TABLE crls_before DROP CONSTRAINT crls_pkey;
CREATE TABLE crls (
  issuer      TEXT COLLATE "C" NOT NULL,
  shard       BIGINT NOT NULL,
  number      BIGINT NOT NULL CHECK (number > 0),
  base        BIGINT NOT NULL CHECK (base BETWEEN 0 AND number - 1), -- of a delta list; 0: a whole one
  this_update BIGINT NOT NULL,
  next_update BIGINT NOT NULL,
  entries     BIGINT NOT NULL,
  covers      BIGINT NOT NULL,
  der         BYTEA NOT NULL,
  PRIMARY KEY (issuer, shard, number, base),
  FOREIGN KEY (issuer, shard) REFERENCES crl_shards (issuer, shard)
);
INSERT INTO crls (issuer, shard, number, base, this_update, next_update, entries, covers, der)
  SELECT issuer, 0, number, 0, this_update, next_update, entries, covers, der FROM crls_before;
DROP TABLE crls_before;

-- Who signs OCSP answers for an issuer.
CREATE TABLE ocsp_responders (
  issuer      TEXT COLLATE "C" PRIMARY KEY REFERENCES issuers (id),
  certificate BYTEA NOT NULL,
  sealed_key  BYTEA NOT NULL,
  not_after   BIGINT NOT NULL
);

-- A CA whose key is made and whose certificate somebody else signs.
CREATE TABLE issuer_requests (
  id      TEXT COLLATE "C" PRIMARY KEY,
  name    TEXT COLLATE "C" NOT NULL,
  profile TEXT COLLATE "C" NOT NULL,
  key_uri TEXT COLLATE "C" NOT NULL,
  csr     BYTEA NOT NULL,
  created BIGINT NOT NULL
);

-- Further certificates for the key of an issuer, signed by another one.
CREATE TABLE cross_certificates (
  thumbprint  BYTEA PRIMARY KEY CHECK (length(thumbprint) = 32),
  issuer      TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  signed_by   TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  certificate BYTEA NOT NULL,
  created     BIGINT NOT NULL
);

-- What was asked of an authority elsewhere, before it was asked. serial and certificate are
-- what came back, once that is known.
CREATE TABLE intents (
  id              TEXT COLLATE "C" PRIMARY KEY,
  issuer          TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  registration_id TEXT COLLATE "C" NOT NULL,
  csr             BYTEA NOT NULL,
  created         BIGINT NOT NULL,
  state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'issued', 'refused', 'orphaned', 'revoked')),
  settled         BIGINT NOT NULL,
  serial          BYTEA NOT NULL,
  certificate     BYTEA NOT NULL,
  detail          TEXT COLLATE "C" NOT NULL,
  CHECK ((state = 'open') = (settled = 0))
);
CREATE INDEX intents_unsettled ON intents (created) WHERE state IN ('open', 'orphaned');

-- What an authority elsewhere is still to be told, or has been told, to revoke: certificates
-- on record, and those that an orphaned intent came to. told is when it confirmed.
CREATE TABLE upstream_revocations (
  issuer      TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
  serial      BYTEA NOT NULL CHECK (length(serial) BETWEEN 1 AND 20),
  reason      TEXT COLLATE "C" NOT NULL,
  certificate BYTEA NOT NULL,
  intent      TEXT COLLATE "C" NOT NULL,
  created     BIGINT NOT NULL,
  tries       BIGINT NOT NULL,
  next_try    BIGINT NOT NULL,
  told        BIGINT NOT NULL,
  detail      TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (issuer, serial)
);
CREATE INDEX upstream_revocations_due ON upstream_revocations (issuer, next_try) WHERE told = 0;

CREATE TABLE profile_versions (
  name     TEXT COLLATE "C" NOT NULL,
  version  BIGINT NOT NULL,
  settings TEXT COLLATE "C" NOT NULL,
  at       BIGINT NOT NULL,
  actor    TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (name, version)
);
INSERT INTO profile_versions (name, version, settings, at, actor) SELECT name, version, settings, updated, 'job:migration' FROM profiles;

-- The last certificate requests, kept to try changes of profiles on.
CREATE TABLE recent_requests (
  position        BIGSERIAL PRIMARY KEY,
  at              BIGINT NOT NULL,
  registration_id TEXT COLLATE "C" NOT NULL,
  profile         TEXT COLLATE "C" NOT NULL,
  csr             BYTEA NOT NULL
);

-- Which registration a key belongs to, for profiles with a rule about reuse.
CREATE TABLE key_holders (
  key_hash        BYTEA PRIMARY KEY CHECK (length(key_hash) = 32),
  registration_id TEXT COLLATE "C" NOT NULL
);

-- Codes that enroll one device once. Only their hashes are here.
CREATE TABLE enrollment_codes (
  hash            BYTEA PRIMARY KEY CHECK (length(hash) = 32),
  registration_id TEXT COLLATE "C" NOT NULL,
  group_id        TEXT COLLATE "C" NOT NULL, -- the group it makes the device a member of; '' = the device has an enrollment of its own
  created         BIGINT NOT NULL,
  created_by      TEXT COLLATE "C" NOT NULL,
  expires         BIGINT NOT NULL,
  used_at         BIGINT NOT NULL
);
CREATE INDEX enrollment_codes_registration ON enrollment_codes (registration_id);

CREATE TRIGGER issuers_move_one_way BEFORE UPDATE ON issuers
  FOR EACH ROW WHEN (CASE NEW.state WHEN 'prepared' THEN 0 WHEN 'active' THEN 1 WHEN 'retiring' THEN 2 WHEN 'retired' THEN 3 ELSE 4 END < CASE OLD.state WHEN 'prepared' THEN 0 WHEN 'active' THEN 1 WHEN 'retiring' THEN 2 WHEN 'retired' THEN 3 ELSE 4 END
  OR NEW.certificate <> OLD.certificate OR NEW.role <> OLD.role OR NEW.profile <> OLD.profile)
  EXECUTE FUNCTION refuse_change('issuers move one way');
CREATE TRIGGER shards_move_one_way BEFORE UPDATE ON crl_shards
  FOR EACH ROW WHEN (NEW.revocations < OLD.revocations OR NEW.crl_number < OLD.crl_number OR NEW.issued < OLD.issued)
  EXECUTE FUNCTION refuse_change('revocations and CRL numbers only grow');
DROP TRIGGER certificates_are_fixed ON certificates;
CREATE TRIGGER certificates_are_fixed
  BEFORE UPDATE OF position, issuer, serial, thumb8, thumbprint, key_hash, registration_id, parent, not_before, not_after, issued, shard, der ON certificates
  FOR EACH ROW EXECUTE FUNCTION refuse_change('certificates are append-only');
CREATE TRIGGER intents_settle_once BEFORE UPDATE ON intents
  FOR EACH ROW WHEN (OLD.state IN ('issued', 'refused', 'revoked'))
  EXECUTE FUNCTION refuse_change('an intent is settled once');
-- +goose StatementEnd
