-- +goose Up
-- +goose StatementBegin

-- Who chooses hubs for an entry with custom allocation: the API version, a line break, the
-- address of the webhook.
ALTER TABLE entries ADD COLUMN webhook BLOB;

-- What the webhook has for the device: JSON.
ALTER TABLE registrations ADD COLUMN answer BLOB;
-- +goose StatementEnd
