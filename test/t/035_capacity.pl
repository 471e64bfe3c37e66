# Capacity under sixteen sessions that want more than it: leads come in, are deleted, released and given
# away by hand, in transactions that are committed, rolled back (a third of them), rolled back to a
# savepoint, or prepared and ended later. Meanwhile capacities are raised, taken away and set again, and a
# draft goes by its own. No more than the capacity is open at any moment, what has ended is free at once
# and not before its commit, and at quiescence every rep has exactly as many open as allowed. The same
# after crashes in the middle of the load, and after the tenant was forgotten.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use Test::More;
use Time::HiRes ();

seed();
my $node = start_node('main', conf => "jit = off\nmax_prepared_transactions = 200\nmax_connections = 60");
my $zone = noon_zone();
my $cap = 6;
my $sessions = 16;

# Rep 1 is in both pools, and the only one of a rule; rep 20 takes what is given away by hand.
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
CREATE INDEX ON leads (owner_id);
INSERT INTO leadroute.rep (id, name, timezone, open_cap, daily_cap) SELECT i, 'Rep ' || i, '$zone', $cap, CASE i WHEN 3 THEN 100000 END FROM generate_series(1, 6) i;
INSERT INTO leadroute.rep (id, name, timezone) VALUES (20, 'Rep 20', '$zone');
INSERT INTO leadroute.pool (name, method, overflow_pool) VALUES ('p1', 'round_robin', NULL), ('p2', 'weighted', 'p1');
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('p1', 1, 1), ('p1', 2, 1), ('p1', 3, 1), ('p2', 1, 5), ('p2', 4, 2), ('p2', 5, 1), ('p2', 6, 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep) VALUES
    ('leads', 1, 'p1', \$\$source = 'p1'\$\$, 'p1', NULL), ('leads', 2, 'p2', \$\$source = 'p2'\$\$, 'p2', NULL), ('leads', 3, 'r', \$\$source = 'r'\$\$, NULL, 1);
-- one that is credited back already stays so
CREATE FUNCTION credit(lead bigint) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    RETURN leadroute.credit_back('leads', lead, 'spam');
EXCEPTION WHEN SQLSTATE 'LR009' THEN
    RETURN NULL;
END \$\$;
-- reps 1 to 3 keep their capacity but for raises
CREATE FUNCTION beyond() RETURNS SETOF text LANGUAGE sql AS \$\$
    SELECT format('rep %s has %s open of %s', a.rep, count(*), max(a.open_cap)) FROM leadroute.assignment a
    WHERE a.ended_at IS NULL AND a.rep <= 3 GROUP BY a.rep HAVING count(*) > max(a.open_cap)
\$\$;
SQL

# ---- load ------------------------------------------------------------------------------------------

my $key = 1000;
my $gid = 0;

sub insert
{
	my ($many) = @_;
	return 'INSERT INTO leads (id, source) VALUES ' . join(', ', map { '(' . ++$key . ", '" . (qw(p1 p1 p2 p2 r))[ int rand 5 ] . "')" } 1 .. $many) . ";\n";
}

# Takes leads that nobody else is at, so that sessions do not wait for each other.
sub some { my ($many) = @_; my $from = 1 + int rand 6; return "SELECT id FROM leads WHERE owner_id = $from LIMIT $many FOR UPDATE SKIP LOCKED" }

sub end_some
{
	my $leads = some(1 + int rand 3);
	return (
		"DELETE FROM leads WHERE id IN ($leads);\n",
		"UPDATE leads SET owner_id = NULL WHERE id IN ($leads);\n",
		"UPDATE leads SET owner_id = 20 WHERE id IN ($leads);\n",
		"SELECT count(leadroute.reassign('leads', id, 20)) FROM ($leads) l;\n",
		"SELECT count(leadroute.release('leads', id, 'busy')) FROM ($leads) l;\n", credit_some($leads),
		credit_some($leads))[ int rand 7 ];
}

sub credit_some { my ($leads) = @_; return "SELECT count(credit(id)) FROM ($leads) l;\n" }

sub work { return join '', map { rand() < 0.5 ? insert(1 + int rand 3) : end_some() } 1 .. 1 + int rand 3 }

sub transaction
{
	my $kind = int rand 10;
	return insert(1) if $kind == 0;
	return end_some() if $kind == 1;
	return 'BEGIN;' . work() . "COMMIT;\n" if $kind <= 3;
	return 'BEGIN;' . work() . 'SAVEPOINT a;' . work() . 'ROLLBACK TO a;' . work() . 'SAVEPOINT b;' . work() . "RELEASE b; COMMIT;\n" if $kind <= 5;
	return 'BEGIN;' . work() . "PREPARE TRANSACTION 'g" . ++$gid . "';\n" . work() . (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'g$gid';\n" if $kind == 6;
	return 'BEGIN;' . work() . "ROLLBACK;\n";
}

sub scripts
{
	my ($number, $transactions) = @_;
	return map { { sql => join('', map { transaction() } 1 .. $transactions), kept => [], refused => [] } } 1 .. $number;
}

# More leads of each source than all six have room for.
sub fill
{
	my $leads = 3 * 6 * $cap + 100;
	return "INSERT INTO leads (id, source) SELECT " . ($key += $leads + 1) . " - i, (ARRAY['p1', 'p2', 'r'])[1 + i % 3] FROM generate_series(1, $leads) i";
}

sub full_is
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', fill());
	psql_is($node, "SELECT string_agg(format('%s:%s', r.id, (SELECT count(*) FROM leadroute.open_assignment o WHERE o.rep = r.id) - r.open_cap), ' ' ORDER BY r.id)
		FROM leadroute.rep r WHERE r.open_cap IS NOT NULL", '1:0 2:0 3:0 4:0 5:0 6:0', "$what: every capacity is exactly full");
	psql_is($node, "SELECT p FROM problems() p WHERE p !~ '^pool_state'", '', "$what: record, memory and leads agree");
	return;
}

# A draft that goes by another capacity, for its own leads alone.
sub draft
{
	my $rep = 4 + int rand 3;
	my $new = (1 + int rand(2 * $cap), 'NULL')[ rand() < 0.2 ];
	return "BEGIN; UPDATE leadroute.rep SET open_cap = $new WHERE id = $rep;" . work() . work() . (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK');
}

my $load = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => [ scripts($sessions * 2, soak(60, 800)) ]);
my ($looker, $drafter) = sessions($node, 2);
my (%beyond, %draft_errors);
my $looks = 0;
$load->finish(sub {
	if ($drafter->ready)
	{
		$draft_errors{$_}++ for $drafter->errors;
		$drafter->send(draft());
	}
	$beyond{$_}++ for split /\n/, $looker->query('SELECT beyond()');
	$looker->query('UPDATE leadroute.rep SET open_cap = ' . ++$cap . ' WHERE id IN (SELECT id FROM leadroute.rep WHERE id <= 3 FOR NO KEY UPDATE SKIP LOCKED)') if $looks++ % 20 == 19;
});
$drafter->wait;
$draft_errors{$_}++ for $drafter->errors;
my %errors = $load->errors;
is(join(' ', map { "$_: $errors{$_}" } sort keys %errors), '', 'no errors') or diag($load->messages);
is(join(' ', sort keys %draft_errors), '', 'none in a draft') or diag($drafter->message);
is(join('; ', sort keys %beyond), '', 'nothing beyond a capacity at any moment');
psql_is($node, "SELECT p FROM problems() p WHERE p !~ '^pool_state'", '', 'record, memory and leads agree');
# A draft may have allowed some more.
$node->safe_psql('postgres', "UPDATE leadroute.rep SET open_cap = $cap WHERE id <= 6; DELETE FROM leads WHERE owner_id BETWEEN 4 AND 6");
full_is('after the load');
psql_is($node, "SELECT leadroute._forget(0)", 't', 'the tenant is forgotten');
full_is('counted anew');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM leadroute.assignment WHERE ended_at IS NOT NULL AND rep <= 6"), '>', 100, 'many have ended');
cmp_ok($node->safe_psql('postgres', 'SELECT count(credited_at) FROM leadroute.assignment'), '>', 20, 'many are credited back');
figure(looks => $looks, %errors);

# ---- crashes ---------------------------------------------------------------------------------------

for my $round (1 .. soak(2, 10))
{
	my $busy = LeadrouteTest::Clients->new($node, slots => 8, scripts => [ scripts(8, 400) ]);
	$node->safe_psql('postgres', 'BEGIN;' . work() . work() . "PREPARE TRANSACTION 'crash$round$_'") for 1, 2;
	$busy->step, Time::HiRes::sleep(0.05) for 1 .. 12;
	$node->stop('immediate');
	$busy->stop;
	$busy->finish;
	$node->start;
	my @gids = split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
	$node->safe_psql('postgres', insert(20));
	psql_is($node, 'SELECT overshoot, drift FROM leadroute.verify()', '0|0', "round $round: memory agrees while some are prepared");
	$node->safe_psql('postgres', (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_'") for @gids;
	full_is("crash $round");
}

# ---- credits after a checkpoint --------------------------------------------------------------------

$node->safe_psql('postgres', "INSERT INTO leadroute.pool (name) VALUES ('free');
	INSERT INTO leadroute.pool_member (pool, rep) VALUES ('free', 20);
	INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 4, 'free', \$\$source = 'free'\$\$, 'free')");
my $first = $key + 10;
$node->safe_psql('postgres', "INSERT INTO leads (id, source) SELECT $first + i, 'free' FROM generate_series(0, 1499) i");
$node->safe_psql('postgres', 'INSERT INTO leads (id, source) VALUES (' . ($first - 1) . ", 'free')");
psql_is($node, "SELECT max(c.ticket) >= (SELECT max(a.ticket) FROM leadroute.assignment a WHERE a.lead_id = '$first') FROM leadroute.checkpoint c", 't', 'a checkpoint has them');
$node->safe_psql('postgres', "SELECT leadroute.credit_back('leads', $first + i, 'spam') FROM generate_series(1, 5) i");
# the row is changed again after the credit
$node->safe_psql('postgres', "BEGIN; SELECT leadroute.credit_back('leads', $first + 7, 'spam'); SELECT leadroute.touch('leads', $first + 7, 'call'); PREPARE TRANSACTION 'credit'");
$node->stop('immediate');
$node->start;
psql_is($node, "SELECT received, today FROM leadroute.pool_state WHERE pool = 'free'", '1496|1496', 'credits are known after a crash');
psql_is($node, 'SELECT drift FROM leadroute.verify()', '0', 'as the record says');
$node->safe_psql('postgres', "COMMIT PREPARED 'credit'");
psql_is($node, "SELECT received, today FROM leadroute.pool_state WHERE pool = 'free'", '1495|1495', 'so is a prepared one');
psql_is($node, 'SELECT drift FROM leadroute.verify()', '0', 'as the record says');
# Tickets go on after those of credits, so that a checkpoint that knows these is not taken for an older one.
$node->safe_psql('postgres', "UPDATE leadroute.rep SET team = 'x' WHERE id = 20; INSERT INTO leads (id, source) VALUES ($first - 2, 'free')");
psql_is($node, 'SELECT c.ticket > (SELECT max(a.credit_ticket) FROM leadroute.assignment a) FROM leadroute.checkpoint c', 't', 'a later checkpoint has them');
psql_is($node, "SELECT leadroute._forget(0)", 't', 'the tenant is forgotten');
psql_is($node, "SELECT received, today FROM leadroute.pool_state WHERE pool = 'free'", '1496|1496', 'credits are taken back once');

# ---- a capacity that is set while a lead is being closed -------------------------------------------

my ($closer) = sessions($node, 1);
for my $end ('ROLLBACK', 'COMMIT')
{
	my $rep = $end eq 'COMMIT' ? 31 : 30;
	my $id = $first + 10 * $rep + 10000;
	$node->safe_psql('postgres', "INSERT INTO leadroute.rep (id, name) VALUES ($rep, 'Rep $rep');
		INSERT INTO leadroute.pool (name) VALUES ('pool$rep');
		INSERT INTO leadroute.pool_member (pool, rep) VALUES ('pool$rep', $rep);
		INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', $rep, 'rule$rep', \$\$source = 's$rep'\$\$, 'pool$rep')");
	$node->safe_psql('postgres', "INSERT INTO leads (id, source) SELECT $id + i, 's$rep' FROM generate_series(1, 3) i");
	$closer->query("BEGIN; SELECT leadroute.close('leads', $id + 1, 'won')");
	$node->safe_psql('postgres', "UPDATE leadroute.rep SET open_cap = 3 WHERE id = $rep");
	psql_is($node, "INSERT INTO leads (id, source) VALUES ($id + 4, 's$rep') RETURNING owner_id", '', "$end: a lead that is being closed is open still");
	$closer->query($end);
	psql_is($node, "INSERT INTO leads (id, source) SELECT $id + i, 's$rep' FROM generate_series(5, 8) i; SELECT count(*) FROM leadroute.open_assignment WHERE rep = $rep", '3', "$end: and makes room, or does not");
	psql_is($node, 'SELECT overshoot, drift FROM leadroute.verify()', '0|0', "$end: as verify() says");
}

$_->close for $looker, $drafter, $closer;
done_testing();
