# A draft: one transaction changes the configuration and inserts leads. It routes by its own changes,
# savepoint by savepoint; all others by what is committed, and by the draft from their first statement
# after its COMMIT; what it takes below a cap nobody else is given meanwhile. Rolled back, nothing
# stays, in memory either. With sixteen sessions inserting beside it, too.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', extension => 0, conf => 'jit = off');
my $zone = noon_zone();
$node->safe_psql('postgres', 'CREATE DATABASE clean');
$node->safe_psql('clean', <<"SQL" . checks_sql('leads'));
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone) SELECT i, 'Rep ' || i, '$zone' FROM generate_series(1, 4) i;
INSERT INTO leadroute.pool (name) VALUES ('one'), ('two');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('one', 1), ('two', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 10, 'else', 'one');
SQL
$node->safe_psql('clean', 'INSERT INTO leads (source) VALUES (NULL), (NULL)');

my ($scenes, $name, $draft, $other) = (0);
my $lead = "INSERT INTO leads (source) VALUES ('web') RETURNING owner_id";

# Each scene has a database, and two sessions that have inserted before.
sub scene
{
	($name) = @_;
	my $dbname = 'scene' . ++$scenes;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE clean");
	($draft, $other) = sessions($node, 2, dbname => $dbname);
	$_->query($lead) for $draft, $other;
	$draft->query('BEGIN');
	return;
}

sub end_scene
{
	is($other->query('SELECT problems()'), '', "$name: nothing is wrong");
	$_->close for $draft, $other;
	return;
}

sub outcome { my ($output, @errors) = $_[0]->query($_[1]); return join ' ', $output, @errors }

sub draft_is
{
	my ($sql, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(outcome($draft, $sql), $expected, "$name: $what");
}

sub other_is
{
	my ($expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(outcome($other, $lead), $expected, "$name: others $what");
}

# Each kind of change: SQL, and the owner that the draft then gives; others give rep 1 until it is
# committed.
my @changes = (
	[ 'a new rule', "INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'new', 'two')", 2 ],
	[ 'another pool', "UPDATE leadroute.rule SET pool = 'two'", 2 ],
	[ 'a rep for a pool', 'UPDATE leadroute.rule SET pool = NULL, rep = 3', 3 ],
	[ 'no rule', 'DELETE FROM leadroute.rule', '' ],
	[ 'an inactive rule', 'UPDATE leadroute.rule SET active = false', '' ],
	[ 'a condition', "UPDATE leadroute.rule SET condition = \$\$source = 'fair'\$\$", '' ],
	[ 'a period', "UPDATE leadroute.rule SET valid = tstzrange(now() + '1 day', NULL)", '' ],
	[ 'a fallback pool', "DELETE FROM leadroute.rule; UPDATE leadroute.lead_table SET fallback_pool = 'two'", 2 ],
	[ 'another member', "UPDATE leadroute.pool_member SET rep = 4 WHERE pool = 'one'", 4 ],
	[ 'a new rep', "INSERT INTO leadroute.rep (id, name) VALUES (9, 'Rep 9'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('one', 9); UPDATE leadroute.pool_member SET paused = true WHERE rep = 1", 9 ],
	[ 'a new pool', "INSERT INTO leadroute.pool (name) VALUES ('new'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('new', 3); UPDATE leadroute.rule SET pool = 'new'", 3 ],
	[ 'a pause', 'UPDATE leadroute.rep SET paused = true WHERE id = 1', '' ],
	[ 'a cap', 'UPDATE leadroute.rep SET daily_cap = 4 WHERE id = 1', '' ],
	[ 'a cap of a member', 'UPDATE leadroute.pool_member SET daily_cap = 4', '' ],
	[ 'overflow', "UPDATE leadroute.pool SET overflow_pool = 'two' WHERE name = 'one'; UPDATE leadroute.rep SET paused = true WHERE id = 1", 2 ],
	[ 'a rename', "UPDATE leadroute.pool SET name = 'renamed' WHERE name = 'two'; UPDATE leadroute.rule SET pool = 'renamed'", 2 ],
);

for my $change (@changes)
{
	my ($what, $sql, $owner) = @$change;
	for my $end ('COMMIT', 'ROLLBACK')
	{
		scene("$what, $end");
		draft_is($sql, '', 'changed');
		draft_is($lead, $owner, 'the draft routes by it');
		draft_is('SELECT v FROM leadroute.verify() v', '(0,0,0,0,0)', 'the draft is sound');
		other_is(1, 'do not');
		draft_is('SELECT v FROM leadroute.verify() v', '(0,0,0,0,0)', 'and still is');
		$draft->query($end);
		other_is($end eq 'COMMIT' ? $owner : 1, "after $end");
		is($draft->query($lead), $end eq 'COMMIT' ? $owner : 1, "$name: it itself, too");
		end_scene();
	}
}

# Savepoints: what is rolled back no longer routes.
scene('savepoints');
draft_is("SAVEPOINT a; UPDATE leadroute.rule SET pool = 'two'; $lead", 2, 'changed');
draft_is("SAVEPOINT b; UPDATE leadroute.rule SET pool = NULL, rep = 3; $lead", 3, 'changed again');
draft_is("ROLLBACK TO b; $lead", 2, 'rolled back to the first change');
draft_is("RELEASE b; $lead", 2, 'released');
draft_is("ROLLBACK TO a; $lead", 1, 'rolled back altogether');
draft_is('SELECT v FROM leadroute.verify() v', '(0,0,0,0,0)', 'sound');
other_is(1, 'never noticed');
$draft->query('COMMIT');
other_is(1, 'nor later');
end_scene();

# Leads before the change, in the same transaction, are kept and counted.
scene('leads, then a change');
draft_is("$lead; $lead", "1\n1", 'before');
draft_is("UPDATE leadroute.rule SET pool = 'two'; $lead", 2, 'after');
is($other->query("SELECT received FROM leadroute.pool_state WHERE rep = 1"), '6', "$name: others see all turns taken");
$draft->query('ROLLBACK');
is($other->query("SELECT received FROM leadroute.pool_state WHERE rep = 1"), '4', "$name: and given back");
end_scene();

# A cap is shared with the others, in both directions. Four turns of rep 1 are used.
scene('a cap raised');
$other->query('UPDATE leadroute.rep SET daily_cap = 5 WHERE id = 1');
draft_is("UPDATE leadroute.rep SET daily_cap = 7 WHERE id = 1; $lead; $lead", "1\n1", 'two turns are taken');
other_is('', 'are not given what is left of their cap');
draft_is($lead, 1, 'the third');
draft_is($lead, '', 'and no fourth');
$draft->query('ROLLBACK');
other_is(1, 'take the one that is free again');
other_is('', 'and no more');
end_scene();

scene('a cap used by others meanwhile');
draft_is("UPDATE leadroute.rep SET daily_cap = 6 WHERE id = 1; $lead", 1, 'the fifth');
other_is(1, 'take the sixth');
draft_is($lead, '', 'and there is no seventh');
$draft->query('COMMIT');
other_is('', 'are not given one either');
end_scene();

# The rotation of a pool goes on where the draft left it, and is not disturbed by one rolled back.
for my $end ('COMMIT', 'ROLLBACK')
{
	scene("rotation, $end");
	$other->query("INSERT INTO leadroute.pool_member (pool, rep) VALUES ('one', 2), ('one', 3)");
	$other->query("INSERT INTO leads (id) SELECT 100 + i FROM generate_series(1, 9) i");
	draft_is("UPDATE leadroute.rule SET name = 'renamed'; INSERT INTO leads (id) SELECT 200 + i FROM generate_series(1, 7) i", '', 'seven leads');
	$other->query("INSERT INTO leads (id) SELECT 300 + i FROM generate_series(1, 5) i");
	$draft->query($end);
	$other->query("INSERT INTO leads (id) SELECT 400 + i FROM generate_series(1, 9) i");
	my $leads = $other->query("SELECT count(*) FROM leadroute.decision WHERE lead_id::int > 100 AND pool = 'one'");
	my ($least, $most) = split /\|/, $other->query("SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM leadroute.decision WHERE lead_id::int > 100 AND pool = 'one' GROUP BY rep) r");
	is($leads, $end eq 'COMMIT' ? 30 : 23, "$name: the leads of the pool since");
	cmp_ok($most - $least, '<=', 1, "$name: equal shares, $least to $most");
	end_scene();
}

# Everything in one transaction that had nothing before: as a set-up script does.
for my $end ('COMMIT', 'ROLLBACK')
{
	($name) = "from nothing, $end";
	my $dbname = 'scene' . ++$scenes;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	($draft, $other) = sessions($node, 2, dbname => $dbname);
	$other->query('CREATE EXTENSION leadroute');
	draft_is("BEGIN; SELECT leadroute.create_lead_table('public.leads'); INSERT INTO leadroute.rep (id, name, timezone) VALUES (1, 'Rep 1', '$zone');
		INSERT INTO leadroute.pool (name) VALUES ('one'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('one', 1);
		INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'one'); $lead; $lead", "leads\n1\n1", 'routes at once');
	draft_is('SELECT v FROM leadroute.verify() v', '(0,0,0,0,0)', 'sound');
	$draft->query($end);
	if ($end eq 'COMMIT')
	{
		$other->query(checks_sql('leads'));
		other_is(1, 'go on');
		is($other->query('SELECT received FROM leadroute.pool_state'), '3', "$name: all counted");
		end_scene();
		next;
	}
	is($other->query('SELECT count(*) FROM leadroute.assignment'), '0', "$name: nothing stays");
	is($other->query('SELECT count(*) FROM leadroute.pool_state'), '0', "$name: in memory either");
	is($other->query('SELECT v FROM leadroute.verify() v'), '(0,0,0,0,0)', "$name: nothing is wrong");
	$_->close for $draft, $other;
}

# ---- drafts under load -----------------------------------------------------------------------------

# Sessions insert all the time while drafts come and go; the members of pool 'one' are always eligible
# to all, so that everybody's share is known; a draft that is committed changes only names and rules.
$node->safe_psql('postgres', 'CREATE DATABASE load TEMPLATE clean');
$node->safe_psql('load', "INSERT INTO leadroute.pool_member (pool, rep) VALUES ('one', 3), ('one', 4)");
my @scripts = map { load_script(number => $_, transactions => soak(80, 800), sources => [ 'x', 'y' ]) } 1 .. 32;
my $load = LeadrouteTest::Clients->new($node, dbname => 'load', slots => 16, scripts => \@scripts);
($draft) = sessions($node, 1, dbname => 'load');
my ($committed, $rolled_back, @wrong) = (0, 0);
my $key = 50_000_000;
$load->finish(sub {
	my $end = rand() < 0.5 ? 'COMMIT' : 'ROLLBACK';
	my $pool = $key % 2 ? 'one' : 'two';
	my $expected = $pool eq 'two' ? '2' : '[134]';
	my $owner = $draft->query("BEGIN; INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
		VALUES ('leads', 1, 'draft', \$\$source = 'draft'\$\$, '$pool') ON CONFLICT (tenant, lead_table, name) DO UPDATE SET pool = EXCLUDED.pool;
		INSERT INTO leads (id, source) VALUES (@{[$key++]}, 'draft') RETURNING owner_id; $end");
	push @wrong, "$owner for $pool" if $owner !~ /^$expected$/;
	$end eq 'COMMIT' ? $committed++ : $rolled_back++;
});
is(join('; ', @wrong), '', 'under load drafts route by their own rule');
my %lead = map { $_ => 1 } split /\n/, $node->safe_psql('load', 'SELECT id FROM leads');
is(join(' ', grep { !$lead{$_} } $load->acknowledged), '', 'under load every acknowledged lead is there');
my %errors = $load->errors;
is(join(' ', grep { !/^(23505|57014)$/ } sort keys %errors), '', 'under load no errors that nobody asked for') or diag($load->messages);
is($node->safe_psql('load', 'SELECT problems()'), '', 'under load record, memory and leads agree');
$draft->query('INSERT INTO leads (id) VALUES (' . $key++ . ')') for 1 .. 12;
my @deficits = split /\n/, $node->safe_psql('load', "SELECT abs(deficit) FROM leadroute.pool_state WHERE pool = 'one'");
is(scalar(grep { $_ >= 1 } @deficits), 0, "under load the shares are right: off by @deficits");
cmp_ok($_, '>', 0, 'there were such drafts') for $committed, $rolled_back;
figure(committed => $committed, rolled_back => $rolled_back, rebuilds => $node->safe_psql('load', "SELECT value FROM leadroute.stat WHERE name = 'rebuilds'"));
$draft->close;

done_testing();
