-- +goose Up
-- +goose StatementBegin

-- What the door of the built-in hubs made or changed (provisioning/hubdevices.go). device
-- is the device id in lower case. A row without a registration is a device of its own;
-- any other lies over its registration's device, which lives on this hub under this name.
CREATE TABLE hub_devices (
  hub                  TEXT NOT NULL CHECK (hub <> ''),
  device               TEXT NOT NULL CHECK (device <> ''),
  spelled              TEXT NOT NULL,
  registration         TEXT NOT NULL,
  operation            TEXT NOT NULL,
  enabled              INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  reason               TEXT NOT NULL,
  status_by            TEXT NOT NULL,
  status_at            INTEGER NOT NULL,
  auth                 TEXT NOT NULL CHECK (auth IN ('', 'sas', 'selfSigned', 'certificateAuthority', 'none')),
  primary_key          BLOB,
  secondary_key        BLOB,
  primary_thumbprint   TEXT NOT NULL,
  secondary_thumbprint TEXT NOT NULL,
  iot_edge             INTEGER NOT NULL CHECK (iot_edge IN (-1, 0, 1)),
  tags                 BLOB,
  desired              BLOB,
  twin_updated         INTEGER NOT NULL,
  twin_version         INTEGER NOT NULL,
  desired_version      INTEGER NOT NULL,
  created              INTEGER NOT NULL,
  updated              INTEGER NOT NULL,
  version              INTEGER NOT NULL CHECK (version > 0),
  PRIMARY KEY (hub, device),
  CHECK (registration <> '' OR auth <> ''),
  CHECK ((tags IS NULL) = (desired IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX hub_devices_own ON hub_devices (hub, device) WHERE registration = '';
CREATE INDEX hub_devices_disabled ON hub_devices (hub) WHERE enabled = 0;

-- Devices of a hub in the order of their ids.
CREATE INDEX registrations_device ON registrations (hub, (CASE WHEN alias = '' THEN id ELSE alias END));

ALTER TABLE twins ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE twins ADD COLUMN desired_version INTEGER NOT NULL DEFAULT 1;
-- +goose StatementEnd
