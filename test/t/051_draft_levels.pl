# A draft is an open transaction. It changes rules, pools, members, reps and the lead table's
# fallback, and routes by all that; nobody else does before it is committed, and everybody from his
# next statement on. What is rolled back, or back to a savepoint, leaves nothing. At every isolation
# level. Caps hold across drafts and the sessions beside them.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $zone = noon_zone();
my $node = start_node('main');
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone) SELECT i, 'Rep ' || i, '$zone' FROM generate_series(1, 9) i;
INSERT INTO leadroute.pool (name, method) VALUES ('a', 'weighted'), ('b', 'weighted'), ('capped', 'weighted');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('a', 1), ('a', 2), ('b', 3), ('capped', 4);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'a', 'source = ''a''', 'a'), ('leads', 2, 'b', 'source = ''b''', 'b'), ('leads', 3, 'capped', 'source = ''capped''', 'capped');
SQL
my ($dba, $app) = sessions($node, 2);

# The owners of new leads, in order; '-' for one that waits.
sub route
{
	my ($session, $source, $n) = @_;
	my $owners = $session->query("INSERT INTO leads (source) SELECT '$source' FROM generate_series(1, @{[$n // 1]}) RETURNING coalesce(owner_id::text, '-')");
	return join ' ', split(/\n/, $owners), $session->errors;
}

# Who gets new leads at all. Enough of them for everybody to have a turn, whatever the draft of another
# session has given out: that counts until it is rolled back.
sub who
{
	my ($session, $source) = @_;
	my %owner = map { $_ => 1 } split / /, route($session, $source, $session == $dba ? 2 : 12);
	return join ' ', sort keys %owner;
}

sub change
{
	my ($session, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$session->query($sql);
	return is(join(' ', $session->errors), '', $sql =~ s/\s+/ /gr) || diag($session->message);
}

sub sound
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return psql_is($node, 'SELECT problems()', '', "$name: nothing is wrong");
}

# ---- each kind of change ---------------------------------------------------------------------------

# What is changed; the source to try; who gets leads before, and after.
my @changes = (
	[ 'a rule points to a rep', q{UPDATE leadroute.rule SET pool = NULL, rep = 9 WHERE name = 'a'}, 'a', '1 2', '9' ],
	[ 'another condition', q{UPDATE leadroute.rule SET condition = 'source = ''z''' WHERE name = 'b'}, 'z', '-', '3' ],
	[ 'a new rule', q{INSERT INTO leadroute.rule (lead_table, position, name, rep) VALUES ('leads', 9, 'else', 8)}, 'y', '-', '8' ],
	[ 'another order', q{UPDATE leadroute.rule SET position = -1, condition = 'true' WHERE name = 'b'}, 'a', '1 2', '3' ],
	[ 'a rule deleted', q{DELETE FROM leadroute.rule WHERE name = 'b'}, 'b', '3', '-' ],
	[ 'a rule inactive', q{UPDATE leadroute.rule SET active = false WHERE name = 'b'}, 'b', '3', '-' ],
	[ 'all rules truncated', q{TRUNCATE leadroute.rule}, 'a', '1 2', '-' ],
	[ 'a fallback', q{UPDATE leadroute.lead_table SET fallback_pool = 'b'}, 'y', '-', '3' ],
	[ 'a new pool', q{INSERT INTO leadroute.pool (name) VALUES ('new'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('new', 7), ('new', 6);
		UPDATE leadroute.rule SET pool = 'new' WHERE name = 'a'}, 'a', '1 2', '6 7' ],
	[ 'a pool with overflow', q{UPDATE leadroute.pool SET overflow_pool = 'b' WHERE name = 'a'; UPDATE leadroute.pool_member SET paused = true WHERE pool = 'a'}, 'a', '1 2', '3' ],
	[ 'a new rep and member', q{INSERT INTO leadroute.rep (id, name) VALUES (50, 'Rep 50'); DELETE FROM leadroute.pool_member WHERE pool = 'b';
		INSERT INTO leadroute.pool_member (pool, rep) VALUES ('b', 50)}, 'b', '3', '50' ],
	[ 'a member leaves', q{DELETE FROM leadroute.pool_member WHERE pool = 'a' AND rep = 1}, 'a', '1 2', '2' ],
	[ 'a member paused', q{UPDATE leadroute.pool_member SET paused = true WHERE pool = 'a' AND rep = 2}, 'a', '1 2', '1' ],
	[ 'a rep paused', q{UPDATE leadroute.rep SET paused = true WHERE id = 1}, 'a', '1 2', '2' ],
	[ 'a rep full', q{UPDATE leadroute.rep SET daily_cap = 0 WHERE id = 3}, 'b', '3', '-' ],
	[ 'a member full', q{UPDATE leadroute.pool_member SET daily_cap = 0 WHERE pool = 'b'}, 'b', '3', '-' ],
);

my $configuration = <<'SQL';
SELECT md5(string_agg(t, '' ORDER BY t)) FROM (
    SELECT x::text FROM leadroute.rule x UNION ALL SELECT x::text FROM leadroute.pool x UNION ALL SELECT x::text FROM leadroute.pool_member x
    UNION ALL SELECT x::text FROM leadroute.rep x UNION ALL SELECT (x.name, x.fallback_pool)::text FROM leadroute.lead_table x) c (t)
SQL
my $untouched = $node->safe_psql('postgres', $configuration);

# A draft that ends, in whole or in part, without a trace: for the app at once, for the dba after it.
sub try_draft
{
	my ($level, $name, $sql, $source, $before, $after) = @_;
	my $begin = "BEGIN ISOLATION LEVEL $level";
	my @got;
	is(who($app, $source), $before, "$level, $name: before");
	change($dba, "$begin; $sql");
	is(who($dba, $source), $after, 'the draft routes by itself');
	is(who($app, $source), $before, 'others do not');
	is(who($dba, $source), $after, 'and still by itself') ;
	change($dba, 'ROLLBACK');
	is(who($app, $source), $before, 'after ROLLBACK others still do not');
	is(who($dba, $source), $before, 'nor does the session that made it');

	change($dba, "$begin; SAVEPOINT s; $sql");
	is(who($dba, $source), $after, 'within a savepoint');
	change($dba, 'ROLLBACK TO s');
	is(who($dba, $source), $before, 'not after ROLLBACK TO');
	change($dba, 'COMMIT');
	is(who($app, $source), $before, 'nor others after COMMIT');
	is(who($dba, $source), $before, 'nor the session itself');
	psql_is($node, $configuration, $untouched, 'the configuration is as it was');
	return;
}

my $level = 0;
for my $change (@changes)
{
	my $name = (('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')[ $level++ % 3 ]);
	subtest "$change->[0], $name" => sub { try_draft($name, @$change) };
}
sound('after drafts');

# ---- committed -------------------------------------------------------------------------------------

# From the next statement on, whatever kind of transaction it is in, and whatever its snapshot.
sub undo { return $node->safe_psql('postgres', $_[0]) }

my $set = q{UPDATE leadroute.rule SET pool = NULL, rep = %s WHERE name = 'b'};
my $expected = 3;
for my $their (qw(autocommit), 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	for my $mine ('READ COMMITTED', 'REPEATABLE READ')
	{
		my $next = 5 + int rand 5;
		$next = 5 + ($next - 4) % 5 if $next == $expected;
		my $name = "$mine beside $their";
		change($dba, "BEGIN ISOLATION LEVEL $mine; " . sprintf $set, $next);
		$app->query("BEGIN ISOLATION LEVEL $their; SELECT count(*) FROM leadroute.rule") if $their ne 'autocommit';
		is(route($dba, 'b'), $next, "$name: the draft");
		is(route($app, 'b'), $expected, 'others before it is committed');
		change($dba, 'COMMIT');
		is(route($app, 'b'), $next, 'others by their next statement');
		$app->query('COMMIT') if $their ne 'autocommit';
		is(join(' ', $app->errors), '', 'which they can commit');
		is(route($dba, 'b'), $next, 'the session itself');
		$expected = $next;
	}
}
undo(q{UPDATE leadroute.rule SET pool = 'b', rep = NULL WHERE name = 'b'});
is(route($_, 'b'), 3, 'back to the pool') for $dba, $app;

# Nested: what is released stays, what is rolled back goes, at each depth.
change($dba, 'BEGIN; ' . sprintf $set, 5);
change($dba, 'SAVEPOINT one; ' . sprintf $set, 6);
change($dba, 'SAVEPOINT two; ' . sprintf $set, 7);
is(route($dba, 'b'), 7, 'the innermost');
change($dba, 'RELEASE two');
is(route($dba, 'b'), 7, 'released');
change($dba, 'ROLLBACK TO one');
is(route($dba, 'b'), 5, 'the one outside');
is(route($app, 'b'), 3, 'others are unaffected by all that');
$dba->query('DO $$ BEGIN ' . sprintf($set, 8) . q{; INSERT INTO leads (source) VALUES ('b'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$});
is(route($dba, 'b'), 5, 'an exception block leaves nothing');
change($dba, 'COMMIT');
is(route($app, 'b'), 5, 'committed: what was left');
undo(q{UPDATE leadroute.rule SET pool = 'b', rep = NULL WHERE name = 'b'});

# A draft that ends by an error, a timeout, and the end of its session.
for my $end ('SELECT 1 / 0', q{SET LOCAL statement_timeout = '5ms'; SELECT pg_sleep(60)}, 'SELECT pg_terminate_backend(pg_backend_pid())')
{
	change($dba, 'BEGIN; ' . sprintf $set, 6);
	is(route($dba, 'b', 3), '6 6 6', 'a draft');
	my $pid = $dba->pid;
	$dba->query($end);
	is(scalar(my @errors = $dba->errors), 1, "ends by $end");
	if ($dba->lost)
	{
		wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'the session is gone');
		$dba->close;
		($dba) = sessions($node, 1);
	}
	$dba->query('ROLLBACK');
	is(route($app, 'b'), 3, 'and leaves nothing to others');
	is(route($dba, 'b'), 3, 'nor to its session');
	psql_is($node, q{SELECT count(*) FROM leadroute.decision d LEFT JOIN leads l ON l.id::text = d.lead_id WHERE l.id IS NULL}, '0', 'nor in the record');
}
sound('after drafts that were committed, and drafts that failed');

# A draft is a set-up script, too: everything from nothing, in one transaction.
change($dba, <<'SQL');
BEGIN;
CREATE TABLE other (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner_id bigint);
SELECT leadroute.attach('other');
INSERT INTO leadroute.rep (id, name) VALUES (70, 'Rep 70'), (71, 'Rep 71');
INSERT INTO leadroute.pool (name) VALUES ('other');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('other', 70), ('other', 71);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('other', 1, 'all', 'other');
INSERT INTO other DEFAULT VALUES; INSERT INTO other DEFAULT VALUES;
SQL
is($dba->query('SELECT string_agg(owner_id::text, \' \' ORDER BY id) FROM other'), '70 71', 'a table attached in the draft');
is($dba->query("SELECT rep, received, open FROM leadroute.pool_state WHERE pool = 'other' ORDER BY rep"), "70|1|1\n71|1|1", 'it sees its own turns');
is($app->query("SELECT count(*) FROM leadroute.pool_state WHERE pool = 'other'"), '0', 'others do not');
change($dba, 'ROLLBACK');
is(route($dba, 'b'), 3, 'the session goes on');
psql_is($node, 'SELECT count(*) FROM leadroute.rep WHERE id >= 70', '0', 'nothing is left of it');
sound('after a set-up that was rolled back');

# ---- caps ------------------------------------------------------------------------------------------

sub cap { my ($n) = @_; return "UPDATE leadroute.rep SET daily_cap = $n WHERE id = 4" }

sub used { return $node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.assignment WHERE rep = 4') }

change($app, cap(10));
change($dba, 'BEGIN; ' . cap(6));
is(route($dba, 'capped', 8), '4 4 4 4 4 4 - -', 'a draft with a lower cap');
is(route($app, 'capped', 8), '4 4 4 4 - - - -', 'beside it, the turns of the draft count as used');
change($dba, 'ROLLBACK');
is(route($app, 'capped', 8), '4 4 4 4 4 4 - -', 'rolled back, they are free');
is(used(), 10, 'the cap is exactly full');

change($dba, 'BEGIN; ' . cap(15));
is(route($dba, 'capped', 2), '4 4', 'a draft with a higher cap');
is(route($app, 'capped', 2), '- -', 'which others do not have yet');
change($dba, 'SAVEPOINT s; ' . cap(30));
is(route($dba, 'capped', 9), '4 4 4 4 4 4 4 4 4', 'a still higher one');
change($dba, 'ROLLBACK TO s');
is(route($dba, 'capped', 5), '4 4 4 - -', 'is gone, and its turns with it');
change($dba, 'SAVEPOINT s; DELETE FROM leads WHERE source = \'none\'; UPDATE leadroute.pool_member SET daily_cap = 12 WHERE rep = 4');
is(route($dba, 'capped'), '-', 'a member\'s cap');
change($dba, 'ROLLBACK TO s; COMMIT');
is(route($app, 'capped', 2), '- -', 'committed: full for others, too');
is(used(), 15, 'exactly');
change($app, cap(17));
is(route($dba, 'capped', 3), '4 4 -', 'two more');

# Two drafts and a third session at once, on one rep. The limit of each is its own cap, of all turns.
my ($third) = sessions($node, 1);
change($app, cap(30));
change($dba, 'BEGIN; UPDATE leadroute.rep SET team = \'x\' WHERE id = 5; ' . "INSERT INTO leads (source) SELECT 'capped' FROM generate_series(1, 4)");
change($app, 'BEGIN; UPDATE leadroute.rep SET team = \'y\' WHERE id = 6; ' . "INSERT INTO leads (source) SELECT 'capped' FROM generate_series(1, 4)");
is(route($third, 'capped', 7), '4 4 4 4 4 - -', 'a session beside two drafts');
is(route($dba, 'capped'), '-', 'neither draft goes beyond');
is(route($app, 'capped'), '-', 'nor the other');
change($app, 'ROLLBACK');
is(route($dba, 'capped', 5), '4 4 4 4 -', 'one draft gets what the other gives back');
change($dba, 'COMMIT');
is(used(), 30, 'the cap is exactly full');
psql_is($node, "SELECT available, unavailable_reason FROM leadroute.pool_state WHERE pool = 'capped'", 'f|daily cap of 30 reached', 'and nobody available');
sound('after drafts and caps');

# ---- at random -------------------------------------------------------------------------------------

# Three sessions change their own part of the configuration at random, beside each other; each knows
# who must get its next lead. Rule r<i> and its rep are changed by session i alone.
$node->safe_psql('postgres', q{INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) SELECT 'leads', 10 + i, 'r' || i, format('source = %L', 'r' || i), 7 FROM generate_series(0, 2) i});
change($app, cap('NULL'));
my @session = ($dba, $app, $third);
my @committed = (7, 7, 7);
my @open = (undef) x 3; # the reps in force at each level of an open transaction
my ($wrong, $steps) = ('', 0);
my @history;
my @levels = ('READ COMMITTED', 'REPEATABLE READ');

sub step
{
	my ($i) = @_;
	my $open = $open[$i];
	my $sql;
	if (!$open) { $open[$i] = [ $committed[$i] ]; $sql = 'BEGIN ISOLATION LEVEL ' . $levels[ int rand 2 ] }
	elsif (rand() < 0.5) { $open->[-1] = 1 + int rand 9; $sql = "UPDATE leadroute.rule SET rep = $open->[-1] WHERE name = 'r$i'" }
	elsif (rand() < 0.5) { push @$open, $open->[-1]; $sql = 'SAVEPOINT s' . $#$open }
	elsif (rand() < 0.5 && $#$open) { my $to = 1 + int rand $#$open; $#$open = $to; $open->[$to] = $open->[ $to - 1 ]; $sql = "ROLLBACK TO s$to" }
	elsif (rand() < 0.5) { $committed[$i] = $open->[-1]; $open[$i] = undef; $sql = 'COMMIT' }
	else { $open[$i] = undef; $sql = 'ROLLBACK' }
	$session[$i]->query($sql);
	return ($sql, $session[$i]->errors);
}

# Each session tries every rule: its own as it has it, the others as they are committed.
while ($steps++ < soak(150, 3000) && $wrong eq '')
{
	my $i = int rand 3;
	my ($sql, @errors) = step($i);
	push @history, "session $i: $sql";
	my $try = int rand 3;
	for my $rule (0 .. 2)
	{
		my $expected = $rule == $try && $open[$try] ? $open[$try][-1] : $committed[$rule];
		my $got = route($session[$try], "r$rule");
		$wrong .= "step $steps, errors (@errors): session $try gives r$rule to $got, expected $expected\n" if $got ne $expected || @errors;
	}
}
is($wrong, '', "$steps random steps of three drafts") or diag(join "\n", @history);
$_->query('ROLLBACK') for @session;
sound('after random drafts');

done_testing();
