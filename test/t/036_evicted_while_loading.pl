# A tenant is evicted from memory while a session loads it, and the record shows turns in progress:
# the load starts anew instead of making room for them in a slot that is nobody's, without end.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', conf => 'max_prepared_transactions = 2');
psql_ok($node, <<'SQL', 'three reps, and a lead whose transaction is prepared');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 3) i;
INSERT INTO leadroute.pool (name) VALUES ('all');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'all', i FROM generate_series(1, 3) i;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'all');
INSERT INTO leads (id) VALUES (1);
BEGIN;
INSERT INTO leads (id) VALUES (2);
PREPARE TRANSACTION 'first';
SQL
$node->restart;

my ($blocker, $loader) = sessions($node, 2);
$blocker->query('BEGIN; LOCK TABLE leadroute.pool_member IN ACCESS EXCLUSIVE MODE');
$loader->send("SET statement_timeout = '30s'; INSERT INTO leads (id) VALUES (3), (4), (5)");
wait_blocked($node, $loader);
psql_is($node, 'SELECT leadroute._forget(0)', 't', 'the tenant is evicted in the middle of its load');
$blocker->query('COMMIT');
$loader->wait;
is(join(' ', $loader->errors), '', 'the load comes to an end');
psql_ok($node, q{COMMIT PREPARED 'first'}, 'the prepared transaction commits');
psql_is($node, q{SELECT string_agg(owner_id::text, ' ' ORDER BY id) FROM leads}, '1 2 3 1 2', 'its turn was counted');
verify_ok($node);
$_->close for $blocker, $loader;
done_testing();
