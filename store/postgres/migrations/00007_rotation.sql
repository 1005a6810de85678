-- +goose Up
-- +goose StatementBegin

-- When the planner looks at a registration's pair next: its renewal, the end of an overlap,
-- or at once, because a certificate left the pair and is still good. 0: nothing will come due.
ALTER TABLE registrations ADD COLUMN due_at BIGINT NOT NULL DEFAULT 0;
UPDATE registrations SET due_at = 1 WHERE primary_state <> 0 OR secondary_state <> 0;
CREATE INDEX registrations_due ON registrations (due_at) WHERE due_at <> 0;

-- What the planner did about the certificate ref of a registration. No row: nothing.
CREATE TABLE rolls (
  registration_id TEXT COLLATE "C" PRIMARY KEY,
  ref             BYTEA NOT NULL CHECK (length(ref) = 32),
  told_at         BIGINT NOT NULL, -- 0: the device was not told
  stuck           TEXT COLLATE "C" NOT NULL,    -- the rule word of why the roll does not go on; '': it does
  since           BIGINT NOT NULL, -- stuck for this reason
  tries           BIGINT NOT NULL
);
CREATE INDEX rolls_stuck ON rolls (stuck, registration_id) WHERE stuck <> '';

-- The last certificate request of devices whose profile has it signed again on schedule.
CREATE TABLE retained_csrs (
  registration_id TEXT COLLATE "C" PRIMARY KEY,
  csr             BYTEA NOT NULL,
  kept_at         BIGINT NOT NULL,
  pending         BYTEA CHECK (length(pending) = 32) -- the certificate that it was last signed into, until that is seen
);
CREATE INDEX retained_csrs_pending ON retained_csrs (registration_id) WHERE pending IS NOT NULL;

-- The slots of an entry are a pair: 1 staged, 2 active, 3 retiring. since is when the
-- credential came into its slot; seen_at when a device was first admitted by it.
ALTER TABLE entry_credentials ADD COLUMN state BIGINT NOT NULL DEFAULT 2 CHECK (state BETWEEN 1 AND 3);
ALTER TABLE entry_credentials ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entry_credentials ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entry_credentials ADD COLUMN retire_at BIGINT NOT NULL DEFAULT 0;
UPDATE entry_credentials SET state = 1 WHERE slot = 1 AND EXISTS
  (SELECT 1 FROM entry_credentials p WHERE p.kind = entry_credentials.kind AND p.id = entry_credentials.id AND p.slot = 0);
UPDATE entry_credentials SET since = (SELECT e.created FROM entries e WHERE e.kind = entry_credentials.kind AND e.id = entry_credentials.id);
CREATE UNIQUE INDEX entry_credentials_one_active ON entry_credentials (kind, id) WHERE state = 2;

-- When the planner looks at an entry's pair next; 0: never.
ALTER TABLE entries ADD COLUMN due_at BIGINT NOT NULL DEFAULT 0;
UPDATE entries SET due_at = 1;
CREATE INDEX entries_due ON entries (due_at) WHERE due_at <> 0;

-- The keys of a shared access policy are a pair too. Times of use are to the minute.
ALTER TABLE access_policies ADD COLUMN primary_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE access_policies ADD COLUMN primary_used BIGINT NOT NULL DEFAULT 0;
ALTER TABLE access_policies ADD COLUMN secondary_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE access_policies ADD COLUMN secondary_used BIGINT NOT NULL DEFAULT 0;
-- Nobody knows when they were used: as if both had been just now, no key is taken for unused.
UPDATE access_policies SET primary_since = created, secondary_since = created,
  primary_used = CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT), secondary_used = CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT);

-- Who is moved when, and how many in an hour (policies.RotationPlan, JSON).
CREATE TABLE rotation_plans (
  name     TEXT COLLATE "C" PRIMARY KEY,
  settings TEXT COLLATE "C" NOT NULL,
  hour     BIGINT NOT NULL, -- the hour that moved counts, in hours since 1970
  moved    BIGINT NOT NULL,
  created  BIGINT NOT NULL,
  updated  BIGINT NOT NULL,
  version  BIGINT NOT NULL CHECK (version > 0)
);

-- A campaign moves devices in waves, now. settings are JSON (policies.Campaign).
CREATE TABLE campaigns (
  id         TEXT COLLATE "C" PRIMARY KEY,
  settings   TEXT COLLATE "C" NOT NULL,
  state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('gathering', 'running', 'paused', 'aborted', 'done')),
  reason     TEXT COLLATE "C" NOT NULL, -- why it is paused or aborted
  cursor     TEXT COLLATE "C" NOT NULL, -- the last device gathered
  devices    BIGINT NOT NULL,
  wave       BIGINT NOT NULL, -- 0: gathering
  wave_taken BIGINT NOT NULL, -- of its devices, those that are due no more
  wave_seen  BIGINT NOT NULL,
  wave_ended BIGINT NOT NULL, -- failed or gone
  came       BIGINT NOT NULL, -- since it was started or resumed
  failed     BIGINT NOT NULL, -- likewise
  hour       BIGINT NOT NULL,
  moved      BIGINT NOT NULL,
  step       BIGINT NOT NULL, -- counts all changes of this row; whoever adds one has it
  created    BIGINT NOT NULL,
  created_by TEXT COLLATE "C" NOT NULL,
  updated    BIGINT NOT NULL,
  version    BIGINT NOT NULL CHECK (version > 0)
);
CREATE INDEX campaigns_open ON campaigns (id) WHERE state IN ('gathering', 'running', 'paused');
-- ref is the certificate that was in use when the device was gathered; all zero: none. place
-- is where it stands in the fixed order of the campaign; wave is 0 until it is its turn.
CREATE TABLE campaign_devices (
  campaign        TEXT COLLATE "C" NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
  registration_id TEXT COLLATE "C" NOT NULL,
  place           BIGINT NOT NULL,
  wave            BIGINT NOT NULL,
  state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('due', 'told', 'staged', 'seen', 'retired', 'failed', 'gone')),
  ref             BYTEA NOT NULL CHECK (length(ref) = 32),
  told_at         BIGINT NOT NULL,
  look_at         BIGINT NOT NULL, -- when its registration is looked at next; 0: it is due, or there is nothing more to see
  updated         BIGINT NOT NULL,
  reason          TEXT COLLATE "C" NOT NULL, -- why it failed
  PRIMARY KEY (campaign, registration_id)
);
CREATE INDEX campaign_devices_state ON campaign_devices (campaign, state, wave, place, registration_id);
CREATE INDEX campaign_devices_look ON campaign_devices (campaign, look_at) WHERE look_at <> 0;

-- Who is told of what is written into the ledger. cursor is the last entry delivered.
CREATE TABLE subscriptions (
  name       TEXT COLLATE "C" PRIMARY KEY,
  sealed_url BYTEA NOT NULL, -- it may carry a key
  sealed_key BYTEA NOT NULL, -- signs what is sent
  actions    TEXT COLLATE "C" NOT NULL, -- prefixes, one on a line; '': all
  enabled    BIGINT NOT NULL CHECK (enabled IN (0, 1)),
  cursor     BIGINT NOT NULL,
  tries      BIGINT NOT NULL, -- of the next delivery
  next_try   BIGINT NOT NULL,
  delivered  BIGINT NOT NULL, -- when something last was
  problem    TEXT COLLATE "C" NOT NULL,
  created    BIGINT NOT NULL,
  updated    BIGINT NOT NULL,
  version    BIGINT NOT NULL CHECK (version > 0)
);

-- How a hub that lives elsewhere is reached, and how it does. The built-in one has no row.
CREATE TABLE hub_links (
  hub        TEXT COLLATE "C" PRIMARY KEY REFERENCES hubs (name) ON DELETE CASCADE,
  sealed_url BYTEA NOT NULL, -- it may carry a key
  sealed_key BYTEA NOT NULL, -- signs what is sent
  tries      BIGINT NOT NULL, -- failures in a row
  next_try   BIGINT NOT NULL, -- not before
  answered   BIGINT NOT NULL, -- when it last did
  problem    TEXT COLLATE "C" NOT NULL
);

-- The devices on such hubs, by device id in lower case; a device on the built-in hub has no
-- row. generation numbers what is said to the hub about the device; applied is the last one
-- that the hub confirmed (0: none yet), of what stood at as_of. Ahead: the hub is to be told.
CREATE TABLE hub_identities (
  hub             TEXT COLLATE "C" NOT NULL REFERENCES hubs (name),
  device          TEXT COLLATE "C" NOT NULL,
  spelled         TEXT COLLATE "C" NOT NULL, -- the device id as first written
  registration_id TEXT COLLATE "C" NOT NULL,
  generation      BIGINT NOT NULL,
  applied         BIGINT NOT NULL CHECK (applied <= generation),
  as_of           BIGINT NOT NULL,
  since           BIGINT NOT NULL, -- ahead for so long
  tries           BIGINT NOT NULL,
  next_try        BIGINT NOT NULL,
  problem         TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (hub, device)
);
CREATE INDEX hub_identities_ahead ON hub_identities (hub, next_try) WHERE generation > applied;
CREATE INDEX hub_identities_registration ON hub_identities (registration_id);

-- Entries that were changed so that their devices' hubs are to be told; cursor is the last
-- device that was looked at.
CREATE TABLE hub_entries (
  kind   BIGINT NOT NULL,
  id     TEXT COLLATE "C" NOT NULL,
  cursor TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (kind, id)
);
-- +goose StatementEnd
