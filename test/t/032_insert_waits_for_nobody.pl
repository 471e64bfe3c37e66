# An insert that writes a checkpoint does not wait for a prepared transaction that wrote one before
# it: what that one deleted is left alone. Nor does it fail under a stricter isolation, when somebody
# has written that checkpoint since its snapshot.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', conf => 'max_prepared_transactions = 5');
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO leadroute.pool (name) VALUES ('p');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'p');
INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 1500);
INSERT INTO leads (source) VALUES ('x');
SQL
my $checkpoints = 'SELECT count(*) FROM leadroute.checkpoint';
is($node->safe_psql('postgres', $checkpoints), '1', 'there is a checkpoint');
$node->safe_psql('postgres', "BEGIN; INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 2500); INSERT INTO leads (source) VALUES ('x'); PREPARE TRANSACTION 'p'");
my $insert = "SET lock_timeout = '5s'; INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 2500); INSERT INTO leads (source) VALUES ('x')";
is($node->psql('postgres', $insert, on_error_stop => 1), 0, 'nobody waits for it');
is($node->safe_psql('postgres', $checkpoints), '2', 'and the next checkpoint is there');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'p'");

my $strict = LeadrouteTest::Session->new($node);
$strict->query("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO leads (source) VALUES ('x')");
my $latest = 'SELECT max(ticket) FROM leadroute.checkpoint';
my $before = $node->safe_psql('postgres', $latest);
$node->safe_psql('postgres', "BEGIN; INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 2500); INSERT INTO leads (source) VALUES ('x'); COMMIT");
cmp_ok($node->safe_psql('postgres', $latest), '>', $before, 'another has written a checkpoint');
$strict->query("INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 2500); INSERT INTO leads (source) VALUES ('x')");
is($strict->query("SELECT count(*) >= 2502 FROM leads"), 't', 'who cannot see it goes on');
$strict->query('COMMIT');
verify_ok($node, 0, 'all is well afterwards');
done_testing();
