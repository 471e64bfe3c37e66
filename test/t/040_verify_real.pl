# verify() names what is wrong, and nothing else: each fault that it looks for is planted by hand, in
# a database of its own, and only its count may rise, by the right number.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

my $node = start_node('main', extension => 0);
$node->safe_psql('postgres', 'CREATE DATABASE sound');
my $zone = noon_zone();
$node->safe_psql('sound', <<"SQL");
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap) VALUES (1, 'Rep 1', '$zone', 8), (2, 'Rep 2', '$zone', NULL), (3, 'Rep 3', '$zone', NULL);
INSERT INTO leadroute.pool (id, name) VALUES (1, 'all'), (2, 'capped');
INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('all', 1, NULL), ('all', 2, NULL), ('all', 3, NULL), ('capped', 2, 4);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'capped', \$\$source = 'capped'\$\$, 'capped'), ('leads', 2, 'else', 'true', 'all');
INSERT INTO leads (id, source) SELECT i, CASE WHEN i % 5 = 0 THEN 'capped' END FROM generate_series(1, 40) i;
UPDATE leads SET owner_id = 1 WHERE id = 2;
DELETE FROM leads WHERE id = 3;
SQL

# Edits by hand that leadroute does not notice: memory follows the record also where other triggers do
# not fire.
sub unfollowed { return "SET session_replication_role = replica; ALTER TABLE leadroute.assignment DISABLE TRIGGER USER; $_[0]; ALTER TABLE leadroute.assignment ENABLE TRIGGER USER; RESET session_replication_role" }
sub unseen { return unfollowed($_[0]) . '; SELECT leadroute._forget(0)' }

my $engine = "INSERT INTO leadroute.assignment (lead_table, lead_id, rep, pool, day, rep_cap, member_cap) SELECT lead_table, '%s', rep, pool, day, rep_cap, member_cap FROM leadroute.assignment WHERE %s LIMIT 1";
my $lead = 'INSERT INTO leads (id) VALUES (%s)';

# Each: a name, the fault, what verify() says then (lost, double, overshoot, drift, orphan).
my @faults = (
	[ 'nothing', 'SELECT', '0|0|0|0|0' ],
	[ 'a record deleted', unseen("DELETE FROM leadroute.assignment WHERE lead_id = '7'"), '1|0|0|0|0' ],
	[ 'records deleted', unseen("DELETE FROM leadroute.assignment WHERE lead_id IN ('7', '8', '9')"), '3|0|0|0|0' ],
	[ 'all episodes of a lead deleted', unseen("DELETE FROM leadroute.assignment WHERE lead_id = '2'"), '1|0|0|0|0' ],
	[ 'the open episode of a lead deleted', unseen("DELETE FROM leadroute.assignment WHERE lead_id = '2' AND ended_at IS NULL"), '1|0|0|0|0' ],
	[ 'a lead inserted with triggers off', unseen(sprintf $lead, 100), '1|0|0|0|0' ],
	[ 'a lead inserted while the trigger is disabled',
		'ALTER TABLE leads DISABLE TRIGGER zz_leadroute; ' . sprintf($lead, 100) . '; ALTER TABLE leads ENABLE TRIGGER zz_leadroute', '1|0|0|0|0' ],
	[ 'a second open episode', 'DROP INDEX leadroute.assignment_open; ' . unseen(
			"INSERT INTO leadroute.assignment (lead_table, lead_id, episode, rep, method) SELECT lead_table, lead_id, 2, 3, 'manual' FROM leadroute.assignment WHERE lead_id = '7'"),
		'0|1|0|0|0' ],
	[ 'a third one, too', 'DROP INDEX leadroute.assignment_open; ' . unseen(
			"INSERT INTO leadroute.assignment (lead_table, lead_id, episode, rep, method) SELECT lead_table, lead_id, e, 3, 'manual' FROM leadroute.assignment, generate_series(2, 3) e WHERE lead_id = '7'"),
		'0|2|0|0|0' ],
	[ 'one above the cap of a rep', unseen(sprintf($lead, 100) . '; ' . sprintf($engine, 100, 'rep = 1 AND rep_cap = 8')), '0|0|1|0|0' ],
	[ 'one above the cap of a member', unseen(sprintf($lead, 100) . '; ' . sprintf($engine, 100, 'pool = 2 AND member_cap = 4')), '0|0|1|0|0' ],
	[ 'above the caps, but by hand', unseen(sprintf($lead, 100)
		. "; INSERT INTO leadroute.assignment (lead_table, lead_id, rep, day, method) SELECT lead_table, 100, rep, day, 'manual' FROM leadroute.assignment WHERE rep = 1 AND day IS NOT NULL LIMIT 1"), '0|0|0|0|0' ],
	[ 'an orphan', unseen(sprintf $engine, 'gone', 'rep = 3 AND rep_cap IS NULL AND pool = 1'), '0|0|0|0|1' ],
	[ 'leads deleted with triggers off', unseen('DELETE FROM leads WHERE id IN (10, 11)'), '0|0|0|0|2' ],
	[ 'an open record of a lead table that is gone', unseen(
			"INSERT INTO leadroute.assignment (lead_table, lead_id, rep, method) VALUES (99, '1', 3, 'manual')"), '0|0|0|0|1' ],
	[ 'memory that missed two records', unfollowed("$lead; $engine; $lead; $engine"), '0|0|0|6|0' ],
);

# Into which keys the placeholders of the last one go.
$faults[-1][1] = sprintf $faults[-1][1], 100, 100, 'rep = 3 AND pool = 1', 101, 101, 'rep = 3 AND pool = 1';

sub plant
{
	my ($name, $fault, $expected) = @_;
	$node->safe_psql('postgres', 'CREATE DATABASE faulty TEMPLATE sound');
	$node->safe_psql('faulty', 'SELECT * FROM leadroute.pool_state');
	psql_ok($node, $fault, "planted: $name", dbname => 'faulty');
	psql_is($node, 'SELECT v.lost, v."double", v.overshoot, v.drift, v.orphan FROM leadroute.verify() v', $expected,
		"verify() finds $name", dbname => 'faulty');
	$node->safe_psql('postgres', 'DROP DATABASE faulty');
	return;
}
plant(@$_) for @faults;

# A shifted counter: the checkpoint says one turn more than there was, and memory follows it.
$node->safe_psql('sound', 'INSERT INTO leads (id) SELECT 1000 + i FROM generate_series(1, 1200) i');
$node->safe_psql('sound', 'INSERT INTO leads (id) VALUES (3000)');
psql_is($node, 'SELECT count(*) FROM leadroute.checkpoint', '1', 'a checkpoint was taken', dbname => 'sound');
psql_is($node, 'SELECT leadroute._forget(0)', 't', 'memory forgotten', dbname => 'sound');
psql_is($node, 'SELECT * FROM leadroute.verify()', '0|0|0|0|0', 'and rebuilt from the checkpoint', dbname => 'sound');
plant('a counter shifted by one',
	'UPDATE leadroute.checkpoint SET received[2] = received[2] + 1; SELECT leadroute._forget(0)', '0|0|0|1|0');
plant('counters shifted both ways',
	'UPDATE leadroute.checkpoint SET received[1] = received[1] - 2, received[2] = received[2] + 2; SELECT leadroute._forget(0)', '0|0|0|4|0');

# All of them at once, and each by its own number.
plant('everything at once', join('; ', 'DROP INDEX leadroute.assignment_open',
		'UPDATE leadroute.checkpoint SET received[2] = received[2] + 1', unseen(join '; ',
			"DELETE FROM leadroute.assignment WHERE lead_id IN (SELECT id::text FROM leads WHERE source IS NULL AND id IN (7, 8))",
			'DELETE FROM leads WHERE id IN (11, 12, 13)',
			"INSERT INTO leadroute.assignment (lead_table, lead_id, episode, method) SELECT lead_table, lead_id, e, 'manual' FROM leadroute.assignment, generate_series(2, 5) e WHERE lead_id = '20' AND ended_at IS NULL",
			sprintf($lead, 10000), sprintf($engine, 10000, 'pool = 2 AND member_cap = 4'))),
	'2|4|1|4|3');

# In a transaction that holds turns itself, and beside one that does, nothing is wrong.
my ($other) = sessions($node, 1, dbname => 'sound');
$other->query('BEGIN; INSERT INTO leads (id) VALUES (3001), (3002)');
psql_is($node, 'SELECT * FROM leadroute.verify()', '0|0|0|0|0', 'beside an open transaction', dbname => 'sound');
is($other->query('SELECT * FROM leadroute.verify()'), '0|0|0|0|0', 'within it');
$other->query('ROLLBACK');
is($other->query('SELECT * FROM leadroute.verify()'), '0|0|0|0|0', 'after it');
$other->close;

done_testing();
