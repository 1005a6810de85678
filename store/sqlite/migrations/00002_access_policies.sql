-- +goose Up
-- +goose StatementBegin

-- Shared access policies of the service and hub doors (provisioning/access.go).
CREATE TABLE access_policies (
  plane         TEXT NOT NULL CHECK (plane IN ('service', 'hub')),
  name          TEXT NOT NULL,
  rights        INTEGER NOT NULL CHECK (rights > 0),
  primary_key   BLOB NOT NULL,
  secondary_key BLOB NOT NULL,
  created       INTEGER NOT NULL,
  updated       INTEGER NOT NULL,
  version       INTEGER NOT NULL CHECK (version > 0),
  PRIMARY KEY (plane, name)
) STRICT, WITHOUT ROWID;
-- +goose StatementEnd
