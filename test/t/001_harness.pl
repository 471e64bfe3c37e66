# The helpers of the other tests do what they say: sessions run side by side, a cancelled or
# terminated one says so, and the clock goes where it is set.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', clock => '2024-03-31 00:59:50');
my $in_march = "clock_timestamp() BETWEEN '2024-03-31 00:59:50+00' AND '2024-03-31 01:09:50+00'";

psql_is($node, 'SHOW shared_preload_libraries', LeadrouteTest::Node::library(), 'preloaded by its path');
psql_is($node, "SELECT $in_march", 't', 'the clock starts where it is set');
$node->set_clock('2023-01-01 00:00:00');
psql_is($node, "SELECT clock_timestamp()::date", '2023-01-01', 'and goes back');

sqlstate_is($node, 'SELECT 1 / 0', '22012', 'sqlstate_is finds the code');

my @session = sessions($node, 4);
psql_ok($node, 'CREATE TABLE t (a int); INSERT INTO t VALUES (1)');
$session[0]->query('BEGIN');
$session[0]->query('UPDATE t SET a = 2');
$_->send('UPDATE t SET a = a + 1; SELECT 7') for @session[ 1 .. 3 ];
wait_blocked($node, $_) for @session[ 1 .. 3 ];
ok(!$session[1]->ready, 'a blocked session is not ready');

psql_ok($node, 'SELECT pg_cancel_backend(' . $session[1]->pid . ')');
my ($output, @errors) = $session[1]->wait;
is("$output, @errors", '7, 57014', 'a cancelled statement, and the next');
psql_ok($node, 'SELECT pg_terminate_backend(' . $session[2]->pid . ')');
$session[2]->wait;
ok($session[2]->lost, 'a terminated session is lost');
is(join(' ', $session[2]->errors), '57P01', 'with its SQLSTATE');

$session[0]->query('COMMIT');
is($session[3]->wait, '7', 'the last one was let through');
psql_is($node, 'SELECT a FROM t', '3', 'and only it');
$_->close for @session;

$node->restart;
psql_is($node, "SELECT clock_timestamp()::date", '2023-01-01', 'the clock survives a restart');
verify_ok($node, 0);

done_testing();
