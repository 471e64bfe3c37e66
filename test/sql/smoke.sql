-- The example in autocommit, and again with more leads, so that every pool has given out some.
\getenv abs_srcdir PG_ABS_SRCDIR
\set example :abs_srcdir '/data/example.sql'
\i :example

-- The rotation goes on: with these, four leads for north, four for senior (weights 3 : 1), three
-- for general.
INSERT INTO leads (source, region) VALUES ('Web', 'North'), ('Web', 'North'), ('Web', 'North') RETURNING id, owner_id;
INSERT INTO leads (source) SELECT 'Enterprise form' FROM generate_series(1, 3) RETURNING id, owner_id;
INSERT INTO leads (source) SELECT 'Web' FROM generate_series(1, 3) RETURNING id, owner_id;

-- What is rolled back takes no turn: all three have one more after the next three.
BEGIN;
INSERT INTO leads (source) SELECT 'Web' FROM generate_series(1, 2);
ROLLBACK;
INSERT INTO leads (source) SELECT 'Web' FROM generate_series(1, 3);
SELECT rep, received FROM leadroute.pool_state WHERE pool = 'general' ORDER BY rep;
SELECT * FROM leadroute.verify();

SET client_min_messages = warning;
DROP TABLE leads;
DROP EXTENSION leadroute;
