-- The databases and their roles: one role a service, which owns its database and
-- can connect to no other. A service that could read its neighbour's tables
-- would sooner or later depend on them. One statement to a semicolon, so that a
-- program can run them one by one. The passwords are for the lab.
CREATE ROLE orders   LOGIN PASSWORD 'orders';
CREATE ROLE payments LOGIN PASSWORD 'payments';
CREATE ROLE ledger   LOGIN PASSWORD 'ledger';
CREATE ROLE sandbox  LOGIN PASSWORD 'sandbox';

CREATE DATABASE orders   OWNER orders;
CREATE DATABASE payments OWNER payments;
CREATE DATABASE ledger   OWNER ledger;
CREATE DATABASE sandbox  OWNER sandbox;

REVOKE CONNECT, TEMPORARY ON DATABASE orders   FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE payments FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE ledger   FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE sandbox  FROM PUBLIC;

-- No statement of ours takes seconds. One that does is stuck, and is better
-- ended than left to hold its locks; so is a transaction whose client has stalled.
ALTER ROLE orders   SET statement_timeout = '10s';
ALTER ROLE payments SET statement_timeout = '10s';
ALTER ROLE ledger   SET statement_timeout = '10s';
ALTER ROLE sandbox  SET statement_timeout = '10s';
ALTER ROLE orders   SET lock_timeout = '5s';
ALTER ROLE payments SET lock_timeout = '5s';
ALTER ROLE ledger   SET lock_timeout = '5s';
ALTER ROLE sandbox  SET lock_timeout = '5s';
ALTER ROLE orders   SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE payments SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE ledger   SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE sandbox  SET idle_in_transaction_session_timeout = '10s';
