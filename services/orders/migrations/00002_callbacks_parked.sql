-- +goose NO TRANSACTION
-- +goose Up

-- Those that wait for a person, for their metric and for `ops callbacks list`.
DROP INDEX CONCURRENTLY IF EXISTS callbacks_parked; -- what an interrupted build left behind
CREATE INDEX CONCURRENTLY callbacks_parked ON callbacks (id) WHERE state = 'parked';
