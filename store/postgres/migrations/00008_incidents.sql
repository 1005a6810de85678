-- +goose Up
-- +goose StatementBegin
-- Acts against what is compromised, and what came of them. What they name stands in disallowances.
CREATE TABLE incidents (
  id          TEXT COLLATE "C" PRIMARY KEY,
  scope       TEXT COLLATE "C" NOT NULL CHECK (scope IN ('certificate', 'key', 'below')),
  reason      TEXT COLLATE "C" NOT NULL,
  subject     TEXT COLLATE "C" NOT NULL, -- the certificate's, for people
  certificate BYTEA NOT NULL, -- DER
  since       BIGINT NOT NULL, -- what was issued on its word from then on falls, too; 0: nothing does
  actor       TEXT COLLATE "C" NOT NULL,
  created     BIGINT NOT NULL,
  entries     TEXT COLLATE "C" NOT NULL, -- what became of those that held it; JSON
  issuers     TEXT COLLATE "C" NOT NULL, -- of ours that fell by it: their ids
  revoked     BIGINT NOT NULL, -- certificates of ours, so far
  devices     BIGINT NOT NULL, -- registrations that rest on it, so far
  cursor      TEXT COLLATE "C" NOT NULL, -- the last one that was looked at
  passed      BIGINT NOT NULL, -- when all had been; 0: not yet
  done        BIGINT NOT NULL, -- when every hub had confirmed; 0: not yet
  lifted_at   BIGINT NOT NULL,
  lifted_by   TEXT COLLATE "C" NOT NULL
);
CREATE INDEX incidents_open ON incidents (id) WHERE done = 0;

-- Their receipts. awaited: hubs that live elsewhere know the device, and are to confirm what
-- stood when it was found or later; the built-in one knew at the commit.
CREATE TABLE incident_devices (
  incident        TEXT COLLATE "C" NOT NULL REFERENCES incidents (id),
  registration_id TEXT COLLATE "C" NOT NULL,
  hub             TEXT COLLATE "C" NOT NULL,
  device          TEXT COLLATE "C" NOT NULL,
  awaited         BIGINT NOT NULL CHECK (awaited IN (0, 1)),
  found           BIGINT NOT NULL,
  confirmed       BIGINT NOT NULL, -- 0: not yet
  PRIMARY KEY (incident, registration_id)
);
CREATE INDEX incident_devices_pending ON incident_devices (incident, registration_id) WHERE confirmed = 0;

-- Devices that were taken out of service, and their receipts. awaited counts the hubs that live
-- elsewhere and have not confirmed.
CREATE TABLE retirements (
  registration_id TEXT COLLATE "C" PRIMARY KEY,
  spelled         TEXT COLLATE "C" NOT NULL,
  entry           TEXT COLLATE "C" NOT NULL CHECK (entry IN ('disabled', 'was-disabled', 'exception')),
  owner_kind      BIGINT NOT NULL,
  owner_id        TEXT COLLATE "C" NOT NULL, -- of its registration; '': it had none
  hub             TEXT COLLATE "C" NOT NULL,
  device          TEXT COLLATE "C" NOT NULL,
  elsewhere       BIGINT NOT NULL CHECK (elsewhere IN (0, 1)),
  certificates    BIGINT NOT NULL, -- revoked
  stays_open      TEXT COLLATE "C" NOT NULL, -- words, a space between them
  deleted         BIGINT NOT NULL CHECK (deleted IN (0, 1)), -- the registration's record was, too
  actor           TEXT COLLATE "C" NOT NULL,
  campaign        TEXT COLLATE "C" NOT NULL, -- '': none
  retired_at      BIGINT NOT NULL,
  confirmed       BIGINT NOT NULL -- 0: not yet
);
CREATE INDEX retirements_campaign ON retirements (campaign, registration_id) WHERE campaign <> '';
CREATE INDEX retirements_pending ON retirements (registration_id) WHERE confirmed = 0;

-- Of a campaign that ends something: what was planned of each device when it was gathered.
ALTER TABLE campaign_devices ADD COLUMN entry TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE campaign_devices ADD COLUMN hub TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE campaign_devices ADD COLUMN certificates BIGINT NOT NULL DEFAULT 0;
ALTER TABLE campaign_devices ADD COLUMN stays_open TEXT COLLATE "C" NOT NULL DEFAULT '';

ALTER TABLE disallowances ADD COLUMN incident TEXT COLLATE "C" NOT NULL DEFAULT ''; -- '': a key, with a revocation
-- Of a CA: it refuses what it signed where a device leaves it out.
ALTER TABLE disallowances ADD COLUMN subject_hash BYTEA;
ALTER TABLE disallowances ADD COLUMN certificate BYTEA;
-- Two acts may name the same: each refuses until it is lifted itself.
DROP INDEX disallowances_active;
CREATE UNIQUE INDEX disallowances_active ON disallowances (digest, incident) WHERE lifted_at = 0;
CREATE INDEX disallowances_subject ON disallowances (subject_hash) WHERE subject_hash IS NOT NULL AND lifted_at = 0;

-- The name of who signed a certificate in a slot: what a disallowed CA signed is found by it.
ALTER TABLE entry_credentials ADD COLUMN issuer_hash BYTEA;
CREATE INDEX entry_credentials_issuer ON entry_credentials (issuer_hash) WHERE issuer_hash IS NOT NULL;
ALTER TABLE chain_links ADD COLUMN issuer_hash BYTEA;
CREATE INDEX chain_links_issuer ON chain_links (issuer_hash) WHERE issuer_hash IS NOT NULL;
CREATE INDEX chain_links_key ON chain_links (key_hash);

-- Calls a minute that a hub which lives elsewhere takes; 0: as its driver has it. They are given
-- out up to paced. trial: until then a process tries one that failed.
ALTER TABLE hubs ADD COLUMN rate BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hub_links ADD COLUMN paced BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hub_links ADD COLUMN trial BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hub_identities ADD COLUMN told BIGINT NOT NULL DEFAULT 0; -- when the hub confirmed last

-- What hubs were found to hold. Of a hub the last check that was done is kept, the last that
-- failed, and the one that is open; their drift stands in hub_drifts.
CREATE TABLE hub_checks (
  id          TEXT COLLATE "C" PRIMARY KEY, -- in the order of time
  hub         TEXT COLLATE "C" NOT NULL REFERENCES hubs (name) ON DELETE CASCADE,
  actor       TEXT COLLATE "C" NOT NULL,
  requested   BIGINT NOT NULL,
  taken       BIGINT NOT NULL, -- a process is at it, until then; 0: none is
  began       BIGINT NOT NULL, -- what was told since is not judged
  ended       BIGINT NOT NULL, -- 0: not yet
  problem     TEXT COLLATE "C" NOT NULL,
  held        BIGINT NOT NULL, -- devices that the hub holds
  untold      BIGINT NOT NULL, -- of those and ours, that it is still to be told of
  unnamed     BIGINT NOT NULL, -- under ids that none of ours can have
  drift       TEXT COLLATE "C" NOT NULL, -- how many of each kind; JSON
  repair_at   BIGINT NOT NULL, -- 0: never
  repair_by   TEXT COLLATE "C" NOT NULL,
  removes     BIGINT NOT NULL CHECK (removes IN (0, 1)), -- devices that are not ours, too
  cursor      TEXT COLLATE "C" NOT NULL, -- the last one that was repaired
  repaired    BIGINT NOT NULL, -- devices, so far
  repair_done BIGINT NOT NULL
);
CREATE INDEX hub_checks_hub ON hub_checks (hub, id);
CREATE UNIQUE INDEX hub_checks_open ON hub_checks (hub) WHERE ended = 0;

-- grade is the kind of drift; what is most dangerous comes first.
CREATE TABLE hub_drifts (
  check_id        TEXT COLLATE "C" NOT NULL REFERENCES hub_checks (id) ON DELETE CASCADE,
  grade           BIGINT NOT NULL,
  device          TEXT COLLATE "C" NOT NULL,
  spelled         TEXT COLLATE "C" NOT NULL,
  registration_id TEXT COLLATE "C" NOT NULL, -- '': it is not ours
  generation      BIGINT NOT NULL, -- as it was found to differ
  PRIMARY KEY (check_id, grade, device)
);

-- A held registration is refused until it is released; 0: it is not held.
ALTER TABLE registrations ADD COLUMN held_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX registrations_held ON registrations (id) WHERE held_at <> 0;

-- What looks like a device that is two. One row for a registration, kind and period of time: what is
-- seen again in it is counted.
CREATE TABLE tripwires (
  id              TEXT COLLATE "C" PRIMARY KEY, -- in the order of time
  registration_id TEXT COLLATE "C" NOT NULL,
  kind            TEXT COLLATE "C" NOT NULL CHECK (kind IN ('old-certificate', 'shared-key', 'two-chains')),
  period          BIGINT NOT NULL, -- when it began
  first           BIGINT NOT NULL,
  last            BIGINT NOT NULL,
  count           BIGINT NOT NULL CHECK (count > 0),
  object          TEXT COLLATE "C" NOT NULL, -- "certificate 0a…", "registration dev-2"
  detail          TEXT COLLATE "C" NOT NULL,
  door            TEXT COLLATE "C" NOT NULL, -- where it was seen last, and from which address
  address         TEXT COLLATE "C" NOT NULL,
  held            BIGINT NOT NULL CHECK (held IN (0, 1)) -- the registration was held for it
);
CREATE UNIQUE INDEX tripwires_period ON tripwires (registration_id, kind, period);

-- Who came with a key first. A sweep keeps it, behind the registrations: no registration waits for it.
CREATE TABLE seen_keys (
  key_hash        BYTEA PRIMARY KEY CHECK (octet_length(key_hash) = 32),
  registration_id TEXT COLLATE "C" NOT NULL
);

-- A registration in quarantine lives where its operator has it, until that is ended; 0: it is not.
ALTER TABLE registrations ADD COLUMN quarantined_at BIGINT NOT NULL DEFAULT 0;
CREATE TABLE quarantines (
  registration_id TEXT COLLATE "C" PRIMARY KEY,
  spelled         TEXT COLLATE "C" NOT NULL,
  hub             TEXT COLLATE "C" NOT NULL,
  twin            BYTEA, -- JSON; NULL: an empty one
  from_hub        TEXT COLLATE "C" NOT NULL, -- that it was taken off; '': none
  from_device     TEXT COLLATE "C" NOT NULL,
  shut            TEXT COLLATE "C" NOT NULL, -- what refused it anyway
  why             TEXT COLLATE "C" NOT NULL,
  actor           TEXT COLLATE "C" NOT NULL,
  campaign        TEXT COLLATE "C" NOT NULL, -- '': none
  started         BIGINT NOT NULL,
  ended_by        TEXT COLLATE "C" NOT NULL,
  ended           BIGINT NOT NULL, -- 0: it stands
  confirmed       BIGINT NOT NULL -- by all hubs, that it began or ended; 0: not yet
);
CREATE INDEX quarantines_hub ON quarantines (hub) WHERE ended = 0;
CREATE INDEX quarantines_pending ON quarantines (registration_id) WHERE confirmed = 0;
-- +goose StatementEnd
