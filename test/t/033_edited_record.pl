# The record is edited by hand while others take checkpoints: none that counts what the edit took
# away, or does not count what it brought, is ever used. Also of drafts that give out leads of a tenant
# that is not in memory, and without leadroute preloaded.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

$ENV{PGOPTIONS} = '-c lock_timeout=10s'; # nobody waits for long

my $node = start_node('main', extension => 0, conf => 'max_prepared_transactions = 20');
my $zone = noon_zone();
$node->safe_psql('postgres', 'CREATE DATABASE clean');
$node->safe_psql('clean', <<"SQL" . checks_sql('leads'));
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone) VALUES (1, 'Rep 1', '$zone'), (2, 'Rep 2', '$zone');
INSERT INTO leadroute.pool (name) VALUES ('all');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('all', 1), ('all', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'all');
SQL

my ($dbname, $database) = ('', 0);
my $changed = q{UPDATE leadroute.rep SET team = 'a'}; # after which the next lead takes a checkpoint
my $edit = q{DELETE FROM leadroute.assignment WHERE lead_id IN ('1', '2', '3'); DELETE FROM leads WHERE id IN (1, 2, 3)};

sub sql { my ($sql) = @_; return $node->safe_psql($dbname, $sql) }

# A database of its own for each scene, with ten leads and a checkpoint.
sub scene
{
	my ($name) = @_;
	$dbname = 'scene' . ++$database;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE clean");
	sql("INSERT INTO leads (id) SELECT i FROM generate_series(1, 10) i; $changed");
	sql('INSERT INTO leads (id) VALUES (11)');
	is(sql('SELECT count(*) FROM leadroute.checkpoint'), '1', "$name: there is a checkpoint");
	return $name;
}

# Now, when memory is rebuilt, after further leads and the next checkpoint, and rebuilt from that.
sub sound
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $look = sub { psql_is($node, 'SELECT problems()', '', "$name: $_[0]", dbname => $dbname) };
	my $forget = sub { psql_is($node, 'SELECT leadroute._forget(0)', 't', "$name: forgotten", dbname => $dbname) };
	$look->('nothing is wrong');
	$forget->();
	$look->('nor after a rebuild');
	sql("INSERT INTO leads (id) VALUES (201), (202); $changed");
	sql('INSERT INTO leads (id) VALUES (203)');
	is(sql("SELECT since > '-infinity' FROM leadroute.checkpoint ORDER BY ticket DESC LIMIT 1"), 't', "$name: there is a checkpoint again");
	$look->('nor after the next one');
	$forget->();
	$look->('nor when it is used');
	return;
}

# ---- a checkpoint under way when an edit is committed ----------------------------------------------

for my $end ('COMMIT', 'ROLLBACK')
{
	for my $restart (0, 1)
	{
		my $name = scene("prepared, $end PREPARED" . ($restart ? ', after a restart' : ''));
		sql($changed);
		sql("BEGIN; INSERT INTO leads (id) VALUES (21), (22); PREPARE TRANSACTION '$dbname'");
		$node->restart if $restart;
		sql("BEGIN; $edit; COMMIT");
		sql("$end PREPARED '$dbname'");
		sound($name);
	}

	my $name = scene("a session's, $end");
	sql($changed);
	my ($writer) = sessions($node, 1, dbname => $dbname);
	$writer->query('BEGIN; INSERT INTO leads (id) VALUES (21), (22)');
	is($writer->query('SELECT count(*) FROM leadroute.checkpoint'), '1', "$name: it has written one");
	sql("BEGIN; $edit; COMMIT");
	$writer->query($end);
	$writer->close;
	sound($name);
}

# ---- one that is taken while an edit is open --------------------------------------------------------

for my $end ('COMMIT', 'ROLLBACK', 'ROLLBACK TO s; COMMIT')
{
	my $name = scene("while an edit is open, $end");
	my ($editor) = sessions($node, 1, dbname => $dbname);
	$editor->query("BEGIN; SAVEPOINT s; $edit");
	for my $id (31 .. 33)
	{
		sql($changed);
		psql_ok($node, "SET lock_timeout = '3s'; INSERT INTO leads (id) VALUES ($id)", "$name: nobody waits", dbname => $dbname);
	}
	$editor->query('INSERT INTO leads (id) VALUES (34)');
	$editor->query($end);
	is(join(' ', $editor->errors), '', "$name: it ends as it should");
	$editor->close;
	sound($name);
}

{
	my $name = scene('TRUNCATE, with a lead that waits for it');
	sql($changed);
	my ($editor, $writer) = sessions($node, 2, dbname => $dbname);
	$editor->query('BEGIN; TRUNCATE leadroute.assignment, leads');
	$writer->send('INSERT INTO leads (id) VALUES (41)');
	wait_blocked($node, $writer);
	$editor->query('COMMIT');
	$writer->wait;
	is(join(' ', $writer->errors), '', "$name: which is stored afterwards");
	$_->close for $editor, $writer;
	sound($name);
}

# ---- a draft of a tenant that is not in memory -------------------------------------------------------

for my $end ('COMMIT', 'ROLLBACK')
{
	my $name = scene("a draft, $end");
	psql_is($node, 'SELECT leadroute._forget(0)', 't', "$name: not in memory", dbname => $dbname);
	my ($draft) = sessions($node, 1, dbname => $dbname);
	$draft->query("BEGIN; $changed; INSERT INTO leads (id) VALUES (51), (52), (53)");
	sql('INSERT INTO leads (id) VALUES (54)');
	$draft->query("INSERT INTO leads (id) VALUES (55); $end");
	$draft->close;
	sound($name);
}

# A turn is in flight when the edit is committed, so that memory is not counted anew yet: a draft and
# the others still go by the same counts.
for my $end ('COMMIT', 'ROLLBACK')
{
	my $name = scene("a draft after an edit, $end");
	sql('DELETE FROM leadroute.pool_member WHERE rep = 2; UPDATE leadroute.rep SET daily_cap = 9 WHERE id = 1');
	my ($holder, $draft) = sessions($node, 2, dbname => $dbname);
	$holder->query('BEGIN; INSERT INTO leads (id) VALUES (61)');
	sql("UPDATE leadroute.assignment SET deficit = deficit + 0.25 WHERE lead_id = '10'");
	is($draft->query("BEGIN; $changed; INSERT INTO leads (id) VALUES (62) RETURNING owner_id"), '1', "$name: one for the draft");
	is(sql('INSERT INTO leads (id) VALUES (63), (64) RETURNING coalesce(owner_id, 0)'), "1\n0", "$name: one for the others");
	is($draft->query('INSERT INTO leads (id) VALUES (65) RETURNING coalesce(owner_id, 0)'), '0', "$name: none then");
	$_->query($end) for $draft, $holder;
	is(sql('INSERT INTO leads (id) VALUES (66), (67), (68) RETURNING coalesce(owner_id, 0)'), $end eq 'COMMIT' ? "0\n0\n0" : "1\n1\n0", "$name: what is left");
	$_->close for $draft, $holder;
	verify_ok($node, 0, "$name: nothing beyond the cap", dbname => $dbname);
	sql('UPDATE leadroute.rep SET daily_cap = NULL');
	sound($name);
}

# ---- not preloaded ------------------------------------------------------------------------------------

{
	my $name = scene('an edit without leadroute preloaded');
	my $preloaded = $node->safe_psql('postgres', 'SHOW shared_preload_libraries');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	sql("SET session_replication_role = replica; DELETE FROM leads WHERE id = 1; RESET session_replication_role; DELETE FROM leadroute.assignment WHERE lead_id = '1'");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preloaded'");
	$node->restart;
	sound($name);
}

done_testing();
