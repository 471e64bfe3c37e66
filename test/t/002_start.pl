# A server with and without leadroute preloaded, and the rotation across every way a server can
# start again: memory is lost each time and follows the record.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $insert = "INSERT INTO leads (source) VALUES ('Web') RETURNING owner_id";

# Not preloaded: the extension can be created and configured, and a lead is refused with the reason,
# or stored without an owner where the DBA prefers that.
my $node = start_node('main', preload => 0);
psql_ok($node, <<'SQL', 'create and configure without preload');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Rep 1'), (2, 'Rep 2'), (3, 'Rep 3');
INSERT INTO leadroute.pool (name) VALUES ('all');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('all', 1), ('all', 2), ('all', 3);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'else', 'all');
SQL
like(sqlstate_is($node, $insert, 'LR001', 'a lead is refused'), qr/HINT: .*shared_preload_libraries/, 'with the setting to change');
psql_is($node, 'SELECT count(*) FROM leads', '0', 'and not stored; only its number is gone');
$node->append_conf('postgresql.conf', "leadroute.unavailable = 'queue'");
$node->reload;
psql_is($node, $insert, '', 'or stored without an owner');
psql_is($node, 'SELECT queue, lead_id FROM leadroute.queue', 'unmatched|2', 'and waits');

# Preloaded: the rotation continues where it was.
$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . LeadrouteTest::Node::library() . "'");
$node->restart;
psql_is($node, $insert, '1', 'preloaded');
$node->restart;
psql_is($node, $insert, '2', 'after a restart');

my ($victim) = sessions($node, 1);
$victim->query('BEGIN');
is($victim->query($insert), '3', 'a turn that will be lost');
kill 'KILL', $victim->pid;
$victim->send('SELECT 1');
$victim->wait;
ok($victim->lost, 'a backend is killed');
wait_until($node, 'SELECT true', 'the server is back');
psql_is($node, $insert, '3', 'after the crash of a backend');

$node->stop('immediate');
$node->start;
psql_is($node, $insert, '1', 'after an immediate stop');
psql_is($node, 'SELECT rep, received FROM leadroute.pool_state ORDER BY rep', "1|2\n2|1\n3|1", 'each turn counted once');
verify_ok($node, 0);

done_testing();
