# Members and reps that leave a pool, or are deleted, and come back while turns of theirs are in flight:
# inserted, prepared, or in a COPY whose record is not written yet. Their turns stay used, no cap is
# passed, and what is kept or given back is so where it was taken. Also turns that a draft gives to
# members whom the others do not know yet.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

my $node = start_node('main', extension => 0, conf => "jit = off\nmax_prepared_transactions = 20");
my $zone = noon_zone();
my $caps = 4; # of each
$node->safe_psql('postgres', 'CREATE DATABASE clean');
$node->safe_psql('clean', <<"SQL" . checks_sql('leads'));
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END\$\$;
CREATE TRIGGER a_hold BEFORE INSERT ON leads FOR EACH ROW WHEN (NEW.source = 'hold') EXECUTE FUNCTION hold();
INSERT INTO leadroute.rep (id, name, timezone) SELECT i, 'Rep ' || i, '$zone' FROM generate_series(1, 3) i;
INSERT INTO leadroute.pool (name) VALUES ('p'), ('other');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2), ('other', 3);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'hold', \$\$source = 'hold'\$\$, 'other'),
    ('leads', 2, 'other', \$\$source = 'other'\$\$, 'other'), ('leads', 3, 'all', 'true', 'p');
SQL

my ($name, $dbname, $scenes, $turns) = ('', '', 0, 0);
my ($config, $others, $gate, @holder);

sub sql { my ($sql) = @_; return $node->safe_psql($dbname, $sql) }

# A database, and sessions of which the first has loaded its memory.
sub scene
{
	($name) = @_;
	$dbname = 'scene' . ++$scenes;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE clean");
	($config, $others, $gate, @holder) = sessions($node, 6, dbname => $dbname);
	reload();
	return;
}

# What is changed is loaded with the next lead.
sub change { $config->query($_[0]); is(join(' ', $config->errors), '', "$name: $_[0]"); return }
sub reload { $others->query("INSERT INTO leads (source) VALUES ('other')"); return }

# Owners of so many leads of pool p, '-' for none.
sub given
{
	my ($session, $count) = @_;
	return join ' ', sort split /\n/, $session->query("INSERT INTO leads (source) SELECT 'a' FROM generate_series(1, $count) RETURNING coalesce(owner_id::text, '-')");
}

sub sound
{
	my ($when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(sql("SELECT string_agg(p, '; ') FROM problems() p WHERE p !~ '^(a transaction of process|pool_state|the deficits)'"), '', "$name: memory and record agree $when");
	return;
}

sub end_scene
{
	sound('at the end');
	is(sql('SELECT problems()'), '', "$name: nothing is wrong");
	is(sql("SELECT coalesce(sum(in_flight), 0) || ' ' || coalesce(min(in_flight), 0) FROM leadroute._pool_memory(0)"), '0 0', "$name: nothing is in flight");
	is(sql('SELECT leadroute._forget(0)'), 't', "$name: what is left is forgotten");
	is(sql('SELECT problems()'), '', "$name: nothing is wrong when counted anew");
	$_->close for $config, $others, $gate, @holder;
	return;
}

# ---- holding turns: two of each -----------------------------------------------------------------------

sub hold_prepared
{
	my ($session) = @_;
	my $gid = "$dbname " . ++$turns;
	is(given($session, 4), '1 1 2 2', "$name: two of each are held");
	$session->query("PREPARE TRANSACTION '$gid'");
	return sub { $session->query("$_[0] PREPARED '$gid'") };
}

# The fifth row waits at the gate.
sub hold_copy
{
	my ($session) = @_;
	$gate->query('BEGIN; SELECT pg_advisory_xact_lock(1)');
	$session->send(q{COPY leads (source) FROM PROGRAM 'printf "a\na\na\na\nhold\n"'});
	wait_blocked($node, $session);
	return sub { $gate->query('COMMIT'); $session->wait; is(join(' ', $session->errors), '', "$name: copied"); $session->query($_[0]) };
}

my %hold = (
	inserted => sub { my ($session) = @_; is(given($session, 4), '1 1 2 2', "$name: two of each are held"); return sub { $session->query($_[0]) } },
	prepared => \&hold_prepared,
	copied => \&hold_copy);

# Each returns what ends it.
sub hold
{
	my ($how, $session) = @_;
	$session->query('BEGIN');
	return $hold{$how}->($session);
}

# ---- leaving and returning ------------------------------------------------------------------------------

my $leave = "DELETE FROM leadroute.pool_member WHERE pool = 'p'";
my $return = "INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('p', 1, $caps), ('p', 2, $caps)";
my %way = (
	'members' => [ $leave, $return ],
	'one after the other' => [ "$leave AND rep = 1", "$leave AND rep = 2",
		"INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('p', 2, $caps)", "INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('p', 1, $caps)" ],
	'twice' => [ $leave, $return, $leave, $return ],
	'for a while' => [ $leave, ("UPDATE leadroute.rep SET team = 'a' WHERE id = 3") x 2, $return ],
	'reps' => [ $leave, 'DELETE FROM leadroute.rep WHERE id < 3', "UPDATE leadroute.rep SET team = 'a' WHERE id = 3",
		"INSERT INTO leadroute.rep (id, name, timezone, daily_cap) SELECT i, 'Rep ' || i, '$zone', $caps FROM generate_series(1, 2) i", "INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2)" ]);

for my $how (sort keys %hold)
{
	for my $way (sort keys %way)
	{
		for my $end ('COMMIT', 'ROLLBACK')
		{
			scene("$how, $way, $end");
			my $settle = hold($how, $holder[0]);
			change($_), reload() for @{ $way{$way} };
			sound('after they returned');
			is(given($others, 10), '- - - - - - 1 1 2 2', "$name: what is held stays used");
			$settle->($end);
			is(given($others, 10), $end eq 'COMMIT' ? '-' . ' -' x 9 : '- - - - - - 1 1 2 2', "$name: what is left");
			end_scene();
		}
	}
}

# Settled while they are away; the record is counted when they return.
for my $how (sort keys %hold)
{
	for my $end ('COMMIT', 'ROLLBACK')
	{
		scene("$how, settled while away, $end");
		my $settle = hold($how, $holder[0]);
		change($leave);
		reload();
		$settle->($end);
		sound('while they are away');
		change($return);
		is(given($others, 10), $end eq 'COMMIT' ? '- - - - - - 1 1 2 2' : '- - 1 1 1 1 2 2 2 2', "$name: what is left");
		end_scene();
	}
}

# Several hold turns, and some end while the members are away.
for my $ends ([ 'COMMIT', 'ROLLBACK', 'COMMIT' ], [ 'ROLLBACK', 'COMMIT', 'ROLLBACK' ])
{
	scene("several, @$ends");
	$caps = 8;
	my $back = $return =~ s/4/8/gr;
	my @settle = hold('inserted', $holder[0]);
	change($leave), reload();
	change($back), reload();
	push @settle, hold('prepared', $holder[1]), hold('copied', $holder[2]);
	change($leave), reload();
	$settle[0]->($ends->[0]);
	change($back), reload();
	is(given($others, 6), $ends->[0] eq 'COMMIT' ? '- - 1 1 2 2' : '1 1 1 2 2 2', "$name: what is left");
	change($leave), reload();
	$settle[$_]->($ends->[$_]) for 1, 2;
	change($back);
	given($others, 20);
	is(sql("SELECT string_agg(received::text, ' ' ORDER BY rep) FROM leadroute.pool_state WHERE pool = 'p'"), '8 8', "$name: the caps are full, and not beyond");
	end_scene();
	$caps = 4;
}

# Who is away is shown nowhere.
scene('away');
{
	my $settle = hold('inserted', $holder[0]);
	change($leave), reload();
	is(sql('SELECT string_agg(rep::text, $$ $$) FROM leadroute._pool_memory(0)'), '3', "$name: not in memory");
	is(sql("SELECT count(*) FROM leadroute.pool_state WHERE pool = 'p'"), '0', "$name: nor in the view");
	is($others->query("INSERT INTO leads (source) VALUES ('a') RETURNING coalesce(owner_id::text, '-')"), '-', "$name: given nothing");
	$settle->('COMMIT');
	end_scene();
}

# The rotation goes on: who returns is owed nothing for the time away, nor for turns that were kept.
for my $end ('COMMIT', 'ROLLBACK')
{
	scene("rotation, $end");
	my $settle = hold('inserted', $holder[0]);
	change("$leave AND rep = 1"), reload();
	is(given($others, 20), '2' . ' 2' x 19, "$name: all to the other");
	change("INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1)"), reload();
	$settle->($end);
	is(given($others, 20), join(' ', (1) x 10, (2) x 10), "$name: then by turns");
	end_scene();
}

# ---- drafts ----------------------------------------------------------------------------------------------

# Members that the others do not know yet: added by somebody else, or by the draft itself.
my $new_rep = "INSERT INTO leadroute.rep (id, name, timezone, daily_cap) VALUES (9, 'Rep 9', '$zone', 4);";
my $new = "INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('p', 9, 4);";
my $only = "DELETE FROM leadroute.pool_member WHERE pool = 'p' AND rep < 3;";

for my $end ('COMMIT', 'ROLLBACK')
{
	scene("a draft with another's new member, $end");
	change($only . $new_rep . $new);
	$holder[0]->query("BEGIN; UPDATE leadroute.rep SET team = 'a' WHERE id = 3");
	is(given($holder[0], 3), '9 9 9', "$name: three");
	reload();
	sound('with it in flight');
	is(given($others, 3), '- - 9', "$name: the fourth");
	$holder[0]->query($end);
	is(given($others, 4), $end eq 'COMMIT' ? '- - - -' : '- 9 9 9', "$name: what is left");
	end_scene();

	scene("two drafts with another's new member, $end");
	change($only . $new_rep . $new);
	$holder[$_]->query("BEGIN; UPDATE leadroute.rep SET team = 'a' WHERE id = 1 + $_") for 0, 1;
	is(given($holder[0], 2), '9 9', "$name: two for one");
	is(given($holder[1], 3), '- 9 9', "$name: two for the other");
	is(given($holder[0], 1), '-', "$name: and no more");
	$holder[0]->query($end);
	is(given($holder[1], 3), $end eq 'COMMIT' ? '- - -' : '- 9 9', "$name: what one draft left, to the other");
	$holder[1]->query('COMMIT');
	is(given($others, 1), '-', "$name: nothing is left");
	end_scene();

	scene("a draft's own, $end");
	my $draft = $holder[0];
	$draft->query("BEGIN; $only $new_rep $new");
	is(given($draft, 2), '9 9', "$name: two");
	is($draft->query('SELECT v FROM leadroute.verify() v'), '(0,0,0,0,0)', "$name: the draft is sound");
	$draft->query("SAVEPOINT s; UPDATE leadroute.pool_member SET daily_cap = 2 WHERE rep = 9");
	is(given($draft, 2), '- -', "$name: capped");
	$draft->query('ROLLBACK TO s');
	change("UPDATE leadroute.rep SET team = 'b' WHERE id = 3"), reload();
	is(given($draft, 1), '9', "$name: one more, after the others have loaded anew");
	$draft->query("SAVEPOINT t; INSERT INTO leads (source) VALUES ('a'); ROLLBACK TO t");
	is($draft->query('SELECT v FROM leadroute.verify() v'), '(0,0,0,0,0)', "$name: the draft still is sound");
	is(sql('SELECT string_agg(rep::text, $$ $$ ORDER BY rep) FROM leadroute._pool_memory(0)'), '1 2 3', "$name: others do not see it");
	$draft->query($end);
	change($only . $new_rep . $new) if $end eq 'ROLLBACK';
	is(given($others, 5), $end eq 'COMMIT' ? '- - - - 9' : '- 9 9 9 9', "$name: what is left");
	end_scene();

	scene("a draft's own pool, $end");
	$holder[0]->query("BEGIN; INSERT INTO leadroute.pool (name) VALUES ('q'); INSERT INTO leadroute.pool_member (pool, rep) SELECT 'q', i FROM generate_series(1, 3) i;
		UPDATE leadroute.rule SET pool = 'q' WHERE position = 3");
	is(given($holder[0], 1), '1', "$name: the first");
	$holder[0]->query($end);
	is(given($others, $end eq 'COMMIT' ? 2 : 6), $end eq 'COMMIT' ? '2 3' : '1 1 1 2 2 2', "$name: others go on");
	end_scene();
}

# What drafts leave behind when they are rolled back is cleared, though some are still open.
scene('many drafts');
{
	my $draft = 'BEGIN; INSERT INTO leadroute.rep (id, name) SELECT %1$d + i, $$Rep$$ FROM generate_series(1, 150) i;'
		. ' INSERT INTO leadroute.pool_member (pool, rep) SELECT $$p$$, %1$d + i FROM generate_series(1, 150) i';
	for my $round (1 .. soak(4, 40))
	{
		$holder[$_]->query(sprintf $draft, 1000 * ($_ + 1)) for 0 .. 2;
		for (1 .. 3)
		{
			unlike(given($_, 3), qr/-/, "$name: leads, round $round") for @holder;
		}
		is($_->query('SELECT v FROM leadroute.verify() v'), '(0,0,0,0,0)', "$name: sound") for @holder;
		$_->query('ROLLBACK') for @holder[0, 1];
		$holder[2]->query($round % 2 ? 'ROLLBACK' : 'COMMIT; DELETE FROM leadroute.pool_member WHERE rep > 1000; UPDATE leads SET owner_id = 3 WHERE owner_id > 1000; DELETE FROM leadroute.rep WHERE id > 1000');
		is(join(' ', map { $_->errors } @holder), '', "$name: no errors");
	}
	sound('afterwards');
	$_->close for $config, $others, $gate, @holder;
}

done_testing();
