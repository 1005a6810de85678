-- +goose Up
-- +goose StatementBegin

-- Shared access policies of the service and hub doors (provisioning/access.go).
CREATE TABLE access_policies (
  plane         TEXT COLLATE "C" NOT NULL CHECK (plane IN ('service', 'hub')),
  name          TEXT COLLATE "C" NOT NULL,
  rights        BIGINT NOT NULL CHECK (rights > 0),
  primary_key   BYTEA NOT NULL,
  secondary_key BYTEA NOT NULL,
  created       BIGINT NOT NULL,
  updated       BIGINT NOT NULL,
  version       BIGINT NOT NULL CHECK (version > 0),
  PRIMARY KEY (plane, name)
);
-- +goose StatementEnd
