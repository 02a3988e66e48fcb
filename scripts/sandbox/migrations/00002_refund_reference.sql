-- +goose Up

-- The caller's name for a refund. It finds the refund when its key is forgotten.
ALTER TABLE processor_operations ADD COLUMN reference text NOT NULL DEFAULT '';

CREATE INDEX processor_operations_of_reference ON processor_operations (reference) WHERE reference <> '';
