-- +goose Up
-- +goose StatementBegin

-- Which devices of the built-in hubs stand with a certificate: a revocation takes it from them.
CREATE INDEX hub_devices_primary ON hub_devices (primary_thumbprint) WHERE primary_thumbprint <> '';
CREATE INDEX hub_devices_secondary ON hub_devices (secondary_thumbprint) WHERE secondary_thumbprint <> '';
-- +goose StatementEnd
