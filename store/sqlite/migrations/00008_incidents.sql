-- +goose Up
-- Acts against what is compromised, and what came of them. What they name stands in disallowances.
CREATE TABLE incidents (
  id          TEXT PRIMARY KEY,
  scope       TEXT NOT NULL CHECK (scope IN ('certificate', 'key', 'below')),
  reason      TEXT NOT NULL,
  subject     TEXT NOT NULL, -- the certificate's, for people
  certificate BLOB NOT NULL, -- DER
  since       INTEGER NOT NULL, -- what was issued on its word from then on falls, too; 0: nothing does
  actor       TEXT NOT NULL,
  created     INTEGER NOT NULL,
  entries     TEXT NOT NULL, -- what became of those that held it; JSON
  revoked     INTEGER NOT NULL, -- certificates of ours, so far
  devices     INTEGER NOT NULL, -- registrations that rest on it, so far
  cursor      TEXT NOT NULL, -- the last one that was looked at
  passed      INTEGER NOT NULL, -- when all had been; 0: not yet
  done        INTEGER NOT NULL, -- when every hub had confirmed; 0: not yet
  lifted_at   INTEGER NOT NULL,
  lifted_by   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX incidents_open ON incidents (id) WHERE done = 0;

-- Their receipts. awaited: hubs that live elsewhere know the device, and are to confirm what
-- stood when it was found or later; the built-in one knew at the commit.
CREATE TABLE incident_devices (
  incident        TEXT NOT NULL REFERENCES incidents (id),
  registration_id TEXT NOT NULL,
  hub             TEXT NOT NULL,
  device          TEXT NOT NULL,
  awaited         INTEGER NOT NULL CHECK (awaited IN (0, 1)),
  found           INTEGER NOT NULL,
  confirmed       INTEGER NOT NULL, -- 0: not yet
  PRIMARY KEY (incident, registration_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_devices_pending ON incident_devices (incident, registration_id) WHERE confirmed = 0;

ALTER TABLE disallowances ADD COLUMN incident TEXT NOT NULL DEFAULT ''; -- '': a key, with a revocation
-- Of a CA: it refuses what it signed where a device leaves it out.
ALTER TABLE disallowances ADD COLUMN subject_hash BLOB;
ALTER TABLE disallowances ADD COLUMN certificate BLOB;
-- Two acts may name the same: each refuses until it is lifted itself.
DROP INDEX disallowances_active;
CREATE UNIQUE INDEX disallowances_active ON disallowances (digest, incident) WHERE lifted_at = 0;
CREATE INDEX disallowances_subject ON disallowances (subject_hash) WHERE subject_hash IS NOT NULL AND lifted_at = 0;

-- The name of who signed a certificate in a slot: what a disallowed CA signed is found by it.
ALTER TABLE entry_credentials ADD COLUMN issuer_hash BLOB;
CREATE INDEX entry_credentials_issuer ON entry_credentials (issuer_hash) WHERE issuer_hash IS NOT NULL;
ALTER TABLE chain_links ADD COLUMN issuer_hash BLOB;
CREATE INDEX chain_links_issuer ON chain_links (issuer_hash) WHERE issuer_hash IS NOT NULL;
CREATE INDEX chain_links_key ON chain_links (key_hash);

-- A held registration is refused until it is released; 0: it is not held.
ALTER TABLE registrations ADD COLUMN held_at INTEGER NOT NULL DEFAULT 0;

-- What looks like a device that is two. One row for a registration, kind and period of time: what is
-- seen again in it is counted.
CREATE TABLE tripwires (
  id              TEXT PRIMARY KEY, -- in the order of time
  registration_id TEXT NOT NULL,
  kind            TEXT NOT NULL CHECK (kind IN ('old-certificate', 'shared-key', 'two-chains')),
  period          INTEGER NOT NULL, -- when it began
  first           INTEGER NOT NULL,
  last            INTEGER NOT NULL,
  count           INTEGER NOT NULL CHECK (count > 0),
  object          TEXT NOT NULL, -- "certificate 0a…", "registration dev-2"
  detail          TEXT NOT NULL,
  door            TEXT NOT NULL, -- where it was seen last, and from which address
  address         TEXT NOT NULL,
  held            INTEGER NOT NULL CHECK (held IN (0, 1)) -- the registration was held for it
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tripwires_period ON tripwires (registration_id, kind, period);

-- Who came with a key first. A sweep keeps it, behind the registrations: no registration waits for it.
CREATE TABLE seen_keys (
  key_hash        BLOB PRIMARY KEY CHECK (length(key_hash) = 32),
  registration_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
