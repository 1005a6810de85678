-- +goose Up
-- +goose StatementBegin

-- What the door of the built-in hubs made or changed (provisioning/hubdevices.go). device
-- is the device id in lower case. A row without a registration is a device of its own;
-- any other lies over its registration's device, which lives on this hub under this name.
CREATE TABLE hub_devices (
  hub                  TEXT COLLATE "C" NOT NULL CHECK (hub <> ''),
  device               TEXT COLLATE "C" NOT NULL CHECK (device <> ''),
  spelled              TEXT COLLATE "C" NOT NULL,
  registration         TEXT COLLATE "C" NOT NULL,
  operation            TEXT COLLATE "C" NOT NULL,
  enabled              BIGINT NOT NULL CHECK (enabled IN (0, 1)),
  reason               TEXT COLLATE "C" NOT NULL,
  status_by            TEXT COLLATE "C" NOT NULL,
  status_at            BIGINT NOT NULL,
  auth                 TEXT COLLATE "C" NOT NULL CHECK (auth IN ('', 'sas', 'selfSigned', 'certificateAuthority', 'none')),
  primary_key          BYTEA,
  secondary_key        BYTEA,
  primary_thumbprint   TEXT COLLATE "C" NOT NULL,
  secondary_thumbprint TEXT COLLATE "C" NOT NULL,
  iot_edge             BIGINT NOT NULL CHECK (iot_edge IN (-1, 0, 1)),
  tags                 BYTEA,
  desired              BYTEA,
  twin_updated         BIGINT NOT NULL,
  twin_version         BIGINT NOT NULL,
  desired_version      BIGINT NOT NULL,
  created              BIGINT NOT NULL,
  updated              BIGINT NOT NULL,
  version              BIGINT NOT NULL CHECK (version > 0),
  PRIMARY KEY (hub, device),
  CHECK (registration <> '' OR auth <> ''),
  CHECK ((tags IS NULL) = (desired IS NULL))
);
CREATE INDEX hub_devices_own ON hub_devices (hub, device) WHERE registration = '';
CREATE INDEX hub_devices_disabled ON hub_devices (hub) WHERE enabled = 0;

-- Devices of a hub in the order of their ids.
CREATE INDEX registrations_device ON registrations (hub, (CASE WHEN alias = '' THEN id ELSE alias END));

ALTER TABLE twins ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE twins ADD COLUMN desired_version BIGINT NOT NULL DEFAULT 1;
-- +goose StatementEnd
