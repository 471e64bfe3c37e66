# Turns of prepared transactions: used while prepared, kept when committed and given back when rolled
# back, by whatever session, whatever happens to the server in between; on a standby that was
# promoted, too. Caps are at the brim throughout, so that one turn too many or too few shows.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

my $node = start_node('main', init => { allows_streaming => 1 }, extension => 0,
	conf => "max_prepared_transactions = 20\nhot_standby = on");
my $zone = noon_zone();
$node->safe_psql('postgres', 'CREATE DATABASE clean');
$node->safe_psql('clean', <<"SQL" . checks_sql('leads'));
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap) VALUES (1, 'Rep 1', '$zone', 3), (2, 'Rep 2', '$zone', NULL);
INSERT INTO leadroute.pool (name) VALUES ('all');
INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('all', 1, NULL), ('all', 2, 4);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'all');
SQL

my $dbname;
my $database = 0;

# A database of its own for each scene: seven turns in all, three of rep 1 and four of rep 2.
sub scene
{
	my ($name) = @_;
	$dbname = 'scene' . ++$database;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE clean");
	note($name);
	return $name;
}

sub sql { my ($sql) = @_; return $node->safe_psql($dbname, $sql) }

sub prepare
{
	my ($gid, $from, $to) = @_;
	sql("BEGIN; INSERT INTO leads (id) SELECT i FROM generate_series($from, $to) i; PREPARE TRANSACTION '$gid'");
	return;
}

# What remains, and how many turns prepared transactions hold; nothing else may be wrong.
sub state_is
{
	my ($received, $held, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	psql_is($node, "SELECT string_agg(rep || ':' || received || '/' || today, ' ' ORDER BY rep), (SELECT coalesce(sum(reservations), 0) FROM leadroute.in_flight),
		(SELECT string_agg(p, '; ') FROM problems() p WHERE p !~ '^(pool_state|a transaction of process  holds)') FROM leadroute.pool_state",
		"$received|$held|", $name, dbname => $dbname);
	return;
}

# Nobody is left to take another lead; or one rep is.
sub next_is
{
	my ($rep, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	psql_is($node, 'BEGIN; INSERT INTO leads (id) VALUES (100000) RETURNING owner_id; ROLLBACK', $rep, $name, dbname => $dbname);
	return;
}

my %between = (
	nothing => sub { },
	'an immediate stop' => sub { $node->stop('immediate'); $node->start },
	'a restart' => sub { $node->restart },
	'two crashes' => sub { $node->stop('immediate'), $node->start for 1 .. 2 },
	'a backend killed' => sub {
		my ($victim) = sessions($node, 1);
		kill 'KILL', $victim->pid;
		$victim->send('SELECT 1');
		$victim->wait;
		$victim->close;
		$node->poll_query_until('postgres', 'SELECT true') or die;
	},
	'an attempt to forget' => sub { is(sql('SELECT leadroute._forget(0)'), 'f', 'what is held is not forgotten') },
	'changed configuration' => sub {
		sql("INSERT INTO leadroute.rep (id, name, paused) VALUES (3, 'Rep 3', true); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('all', 3)");
		sql("DELETE FROM leadroute.pool_member WHERE rep = 3; DELETE FROM leadroute.rep WHERE id = 3");
	});

for my $what (sort keys %between)
{
	my $name = scene($what);
	prepare("$dbname a", 1, 4);
	state_is('1:2/2 2:2/2', 4, "$name: prepared turns are used");
	prepare("$dbname b", 5, 7);
	next_is('', "$name: and fill the caps");
	$between{$what}->();
	state_is('1:3/3 2:4/4', 7, "$name: also after it");
	next_is('', "$name: and still do");
	sql("ROLLBACK PREPARED '$dbname b'");
	state_is('1:2/2 2:2/2', 4, "$name: rolled back, the turns are free");
	sql("COMMIT PREPARED '$dbname a'");
	state_is('1:2/2 2:2/2', 0, "$name: committed, they are kept");
	sql('INSERT INTO leads (id) SELECT i FROM generate_series(11, 13) i');
	state_is('1:3/3 2:4/4', 0, "$name: the rest is taken by others");
	next_is('', "$name: and no more");
	psql_is($node, 'SELECT problems()', '', "$name: nothing is wrong", dbname => $dbname);
}

# More subtransactions than a backend keeps in its cache, some of them rolled back, over a crash.
for my $end ('COMMIT', 'ROLLBACK')
{
	my $name = scene("subtransactions, $end PREPARED");
	my $sql = join '', map { my $undo = $_ % 20; "SAVEPOINT s$_; INSERT INTO leads (id) VALUES ($_);" . ($undo ? "ROLLBACK TO s$_;" : '') } 1 .. 100;
	sql("BEGIN; $sql PREPARE TRANSACTION '$dbname'");
	my $used = sql("SELECT string_agg(rep || ':' || received || '/' || today, ' ' ORDER BY rep) FROM leadroute.pool_state");
	like($used, qr{^1:(\d)/\1 2:(\d)/\2$}, "$name: used today");
	is(sql('SELECT sum(received) FROM leadroute.pool_state'), '5', "$name: five of a hundred");
	state_is($used, 5, "$name: and held");
	$node->stop('immediate');
	$node->start;
	state_is($used, 5, "$name: also after a crash");
	sql("$end PREPARED '$dbname'");
	state_is($end eq 'COMMIT' ? $used : '1:0/0 2:0/0', 0, "$name: settled");
}

# A checkpoint that is taken while one transaction is prepared, and used while it still is.
for my $end ('COMMIT', 'ROLLBACK')
{
	my $name = scene("a checkpoint, $end PREPARED");
	sql('UPDATE leadroute.rep SET daily_cap = NULL; UPDATE leadroute.pool_member SET daily_cap = NULL');
	prepare($dbname, 1, 5);
	sql("INSERT INTO leads (id) SELECT i FROM generate_series(101, 1200) i; INSERT INTO leads (id) VALUES (2000)");
	is(sql('SELECT cardinality(in_flight) > 0 FROM leadroute.checkpoint'), 't', "$name: taken while prepared");
	my $before = sql('SELECT sum(received) FROM leadroute.pool_state');
	$node->stop('immediate');
	$node->start;
	is(sql('SELECT sum(received) FROM leadroute.pool_state'), $before, "$name: used after a crash");
	sql("$end PREPARED '$dbname'");
	psql_is($node, 'SELECT sum(received) FROM leadroute.pool_state', $end eq 'COMMIT' ? 1106 : 1101, "$name: settled", dbname => $dbname);
	psql_is($node, 'SELECT problems()', '', "$name: nothing is wrong", dbname => $dbname);
	sql('INSERT INTO leads (id) VALUES (2001)');
	$node->restart;
	psql_is($node, 'SELECT problems()', '', "$name: nor after a restart", dbname => $dbname);
}

# Nobody waits for what a prepared transaction, or one that edits the record by hand, has written
# besides, and no checkpoint that is taken meanwhile is wrong when it has ended. A new checkpoint is
# wanted each time that the configuration was changed.
for my $scene (
	[ 'a prepared transaction', "BEGIN; INSERT INTO leads (id) VALUES (1); PREPARE TRANSACTION '%s'", "ROLLBACK PREPARED '%s'" ],
	[ 'a prepared one that is committed', "BEGIN; INSERT INTO leads (id) VALUES (1); PREPARE TRANSACTION '%s'", "COMMIT PREPARED '%s'" ],
	[ 'one that changes an owner', 'BEGIN; UPDATE leads SET owner_id = 3 - owner_id WHERE id = 50', 'COMMIT' ],
	[ 'one that edits the record', "BEGIN; DELETE FROM leadroute.assignment WHERE lead_id = '50'", 'ROLLBACK' ],
	[ 'an edit that is committed', "BEGIN; DELETE FROM leadroute.assignment WHERE lead_id = '50'; DELETE FROM leads WHERE id = 50", 'COMMIT' ],
	[ 'an edit with no checkpoint before', "BEGIN; DELETE FROM leadroute.assignment WHERE lead_id = '50'; DELETE FROM leads WHERE id = 50", 'COMMIT' ])
{
	my ($what, $sql, $end) = @$scene;
	my $name = scene("beside $what");
	sql('INSERT INTO leads (id) VALUES (50)');
	sql('UPDATE leadroute.rep SET daily_cap = NULL; UPDATE leadroute.pool_member SET daily_cap = NULL');
	sql('INSERT INTO leads (id) VALUES (51)');
	is(sql('SELECT count(*) FROM leadroute.checkpoint'), '1', "$name: there is a checkpoint");
	sql('DELETE FROM leadroute.checkpoint') if $what =~ /no checkpoint/;
	sql("UPDATE leadroute.rep SET team = 'a'");
	my ($holder) = sessions($node, 1, dbname => $dbname);
	$holder->query($sql =~ s/%s/$dbname/r);
	for my $id (61 .. 63)
	{
		psql_ok($node, "SET lock_timeout = '3s'; INSERT INTO leads (id) VALUES ($id)", "$name: nobody waits", dbname => $dbname);
		sql("UPDATE leadroute.rep SET team = 'b'");
	}
	$holder->query($end =~ s/%s/$dbname/r);
	is(join(' ', $holder->errors), '', "$name: it ends as it should");
	$holder->close;
	psql_is($node, 'SELECT problems()', '', "$name: nothing is wrong", dbname => $dbname);
	$node->restart;
	psql_is($node, 'SELECT problems()', '', "$name: nor after a restart", dbname => $dbname);
}

# Prepared here, committed there: settled by sessions that never saw the transaction.
{
	my $name = scene('many at once');
	my @session = sessions($node, 6, dbname => $dbname);
	$session[$_]->send("BEGIN; INSERT INTO leads (id) VALUES ($_), ($_ + 10); PREPARE TRANSACTION '$dbname $_'") for 0 .. 5;
	wait_all(@session);
	is(sql('SELECT sum(today) FROM leadroute.pool_state'), '7', "$name: seven of the twelve leads have an owner");
	is(sql('SELECT count(*) FROM leadroute.in_flight WHERE pid IS NULL'), '1', "$name: in_flight shows what is prepared");
	$session[$_]->send(($_ % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$dbname @{[5 - $_]}'") for 0 .. 5;
	wait_all(@session);
	is(join(' ', map { $_->errors } @session), '', "$name: no errors");
	psql_is($node, 'SELECT problems()', '', "$name: nothing is wrong", dbname => $dbname);
	sql('INSERT INTO leads (id) SELECT i FROM generate_series(31, 40) i');
	is(sql('SELECT string_agg(today::text, $$ $$ ORDER BY rep) FROM leadroute.pool_state'), '3 4', "$name: the caps are full, and not beyond");
	$_->close for @session;
}

# Two tenants in one transaction, of which only one knows its pool; one gid, two memories.
{
	my $name = scene('two tenants');
	sql(<<"SQL");
CREATE TABLE many (tenant bigint NOT NULL, id bigint, owner_id bigint, PRIMARY KEY (tenant, id));
SELECT leadroute.attach('many', tenant_column => 'tenant');
INSERT INTO leadroute.rep (tenant, id, name, timezone, daily_cap) VALUES (42, 1, 'Rep 1', '$zone', 2), (43, 1, 'Rep 1', '$zone', 3);
INSERT INTO leadroute.pool (tenant, name) VALUES (42, 'all'), (43, 'all');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (42, 'all', 1), (43, 'all', 1);
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool) VALUES (42, 'many', 1, 'all', 'all'), (43, 'many', 1, 'all', 'all');
SQL
	sql("BEGIN; INSERT INTO many SELECT t, i FROM generate_series(42, 43) t, generate_series(1, 3) i; PREPARE TRANSACTION '$dbname'");
	my $today = 'SELECT string_agg(today::text, $$ $$ ORDER BY tenant) FROM leadroute.pool_state WHERE tenant > 0';
	is(sql($today), '2 3', "$name: both are used");
	$node->stop('immediate');
	$node->start;
	is(sql($today), '2 3', "$name: after a crash");
	sql("ROLLBACK PREPARED '$dbname'");
	is(sql($today), '0 0', "$name: both are given back");
	verify_ok($node, $_, "$name: nothing is wrong with $_", dbname => $dbname) for 42, 43;
}

# A draft cannot be prepared: nobody would hear of the configuration when it is committed.
{
	my $name = scene('a draft');
	sqlstate_is($node, "BEGIN; INSERT INTO leads (id) VALUES (1); UPDATE leadroute.rep SET daily_cap = 1 WHERE id = 1; INSERT INTO leads (id) VALUES (2); PREPARE TRANSACTION '$dbname'",
		'0A000', "$name: is refused", dbname => $dbname);
	state_is('1:0/0 2:0/0', 0, "$name: and leaves nothing");
}

# A standby that is promoted with prepared transactions: it has no memory of its own, and no MVCC
# snapshot shows their rows.
{
	my $name = scene('promotion');
	sql('INSERT INTO leads (id) VALUES (1), (2)');
	prepare("$dbname a", 11, 12);
	prepare("$dbname b", 13, 14);
	$node->backup('base');
	my $standby = LeadrouteTest::Node->new('standby');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	$standby->start;
	prepare("$dbname c", 15, 15);
	$node->wait_for_catchup($standby);
	$node->stop('immediate');
	$standby->promote;
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die;
	my $primary = $node;
	$node = $standby;
	state_is('1:3/3 2:4/4', 5, "$name: what was prepared is used");
	next_is('', "$name: and fills the caps");
	sql("ROLLBACK PREPARED '$dbname a'");
	sql("COMMIT PREPARED '$dbname $_'") for qw(b c);
	state_is('1:2/2 2:3/3', 0, "$name: settled");
	sql('INSERT INTO leads (id) VALUES (21), (22), (23)');
	state_is('1:3/3 2:4/4', 0, "$name: and the rest is taken");
	psql_is($node, 'SELECT problems()', '', "$name: nothing is wrong", dbname => $dbname);
	$node = $primary;
}

done_testing();
