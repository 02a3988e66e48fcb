-- +goose NO TRANSACTION
-- +goose Up

-- Each query begins at an entry and finds its postings by their primary key. With this index,
-- one planned while the tables were young read all postings of the platform's account instead:
-- every settlement took longer than the one before.
DROP INDEX CONCURRENTLY IF EXISTS postings_of_account;
