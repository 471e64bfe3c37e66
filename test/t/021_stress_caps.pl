# Caps under sixteen sessions whose demand is several times what the caps allow: one rep in five
# pools, members with caps of their own, overflow from pool to pool, a third of all transactions rolled
# back in one way or another, sessions cancelled and terminated, at every isolation level. The caps are
# raised bit by bit meanwhile, so that they are nearly full all the time, and three sessions have
# drafts: they change caps and weights, take members away and bring them back, insert leads by that, and
# commit it or not. Nothing beyond the cap in force at any moment, no error that a session did not ask
# for, and at quiescence every cap exactly full. Then owners given by hand, which count too, though they
# may exceed.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', conf => "jit = off\nlog_lock_waits = on\ndeadlock_timeout = 3ms");
my $zone = noon_zone();
my $cap = 12; # of each rep, for now; a multiple of 12
my $sessions = 16;

# Rep 1 is in all five pools. p1 overflows to p2, p2 to p3, p3 to p1 again; p4 and p5 to nobody.
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap) SELECT i, 'Rep ' || i, '$zone', CASE WHEN i < 9 THEN $cap END FROM generate_series(1, 11) i;
INSERT INTO leadroute.pool (name, method, overflow_pool) VALUES ('p1', 'round_robin', NULL), ('p2', 'weighted', NULL), ('p3', 'round_robin', NULL),
    ('p4', 'round_robin', NULL), ('p5', 'weighted', NULL);
UPDATE leadroute.pool SET overflow_pool = CASE name WHEN 'p1' THEN 'p2' WHEN 'p2' THEN 'p3' WHEN 'p3' THEN 'p1' END;
INSERT INTO leadroute.pool_member (pool, rep, weight, daily_cap) VALUES
    ('p1', 1, 1, NULL), ('p1', 2, 1, NULL), ('p1', 3, 1, $cap / 2), ('p2', 1, 5, $cap / 3), ('p2', 4, 2, NULL),
    ('p3', 1, 1, NULL), ('p3', 5, 1, NULL), ('p3', 3, 1, NULL), ('p4', 1, 1, NULL), ('p4', 6, 1, NULL), ('p4', 9, 1, $cap / 4), ('p4', 10, 1, 0),
    ('p5', 1, 0.5, NULL), ('p5', 7, 3, NULL), ('p5', 8, 1, NULL), ('p5', 11, 1, $cap);
CREATE TABLE member_at_first AS SELECT * FROM leadroute.pool_member;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', i, 'pool ' || i, format('source = %L', 'p' || i), 'p' || i FROM generate_series(1, 5) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep, overflow_pool) VALUES ('leads', 6, 'one rep', \$\$source = 'r'\$\$, 1, 'p4');

-- Leaves alone what a draft has changed and not committed.
CREATE PROCEDURE set_caps(cap integer) LANGUAGE sql AS \$\$
    UPDATE leadroute.rep SET daily_cap = cap WHERE id IN (SELECT id FROM leadroute.rep WHERE id < 9 FOR NO KEY UPDATE SKIP LOCKED);
    UPDATE leadroute.pool_member m SET daily_cap = cap / CASE WHEN rep = 3 THEN 2 WHEN rep = 1 THEN 3 WHEN rep = 9 THEN 4 ELSE 1 END
    WHERE (m.pool, m.rep) IN (SELECT pool, rep FROM leadroute.pool_member WHERE daily_cap > 0 FOR NO KEY UPDATE SKIP LOCKED);
\$\$;

-- Leads given beyond a cap, at this moment and by the record alone. Caps go up and down: of all leads
-- given when the cap was n or less, the last one was given when there were less than n.
CREATE FUNCTION beyond() RETURNS SETOF text LANGUAGE sql SET jit = off AS \$\$
    SELECT format('rep %s has %s of %s', rep, given, rep_cap)
    FROM (SELECT rep, rep_cap, count(*) OVER (PARTITION BY rep, day ORDER BY rep_cap) AS given FROM leadroute.assignment WHERE rep_cap IS NOT NULL) r
    WHERE given > rep_cap GROUP BY rep, given, rep_cap
UNION ALL
    SELECT format('rep %s has %s of %s in pool %s', rep, given, member_cap, pool)
    FROM (SELECT pool, rep, member_cap, count(*) OVER (PARTITION BY pool, rep, day ORDER BY member_cap) AS given FROM leadroute.assignment WHERE member_cap IS NOT NULL) m
    WHERE given > member_cap GROUP BY pool, rep, given, member_cap
\$\$;
SQL

# ---- drafts ----------------------------------------------------------------------------------------

# Each drafter changes rows of its own, so that no two wait for each other; rep 3 and its members stay.
my @drafter = map { { reps => $_ } } [ 2, 5, 11 ], [ 4, 6, 9 ], [ 7, 8 ];
$_->{key} = 80_000_000 + 1_000_000 * $_->{reps}[0] for @drafter;
my (@kept, @lost, %drafts);

sub change
{
	my ($reps) = @_;
	my $rep = $reps->[ int rand @$reps ];
	my $new = $cap + 12 - int rand 25; # up or down
	my @changes = (
		"UPDATE leadroute.rep SET daily_cap = $new WHERE id = $rep AND id < 9",
		"UPDATE leadroute.rep SET daily_cap = $new WHERE id = $rep AND id < 9",
		"UPDATE leadroute.pool_member SET daily_cap = $new / 4 WHERE rep = $rep AND daily_cap > 0",
		"UPDATE leadroute.pool_member SET weight = @{[1 + int rand 9]} WHERE rep = $rep",
		"UPDATE leadroute.pool_member SET paused = NOT paused WHERE rep = $rep",
		"DELETE FROM leadroute.pool_member WHERE rep = $rep",
		"INSERT INTO leadroute.pool_member SELECT * FROM member_at_first WHERE rep = $rep ON CONFLICT DO NOTHING",
		"INSERT INTO leadroute.pool_member SELECT * FROM member_at_first WHERE rep = $rep ON CONFLICT DO NOTHING");
	return $changes[ int rand @changes ] . ';';
}

# Leads of a draft; those that are kept if it is committed are noted.
sub draft_leads
{
	my ($drafter, $kept) = @_;
	my @keys = map { ++$drafter->{key} } 1 .. 1 + int rand 4;
	push @$kept, @keys;
	return 'INSERT INTO leads (id, source) VALUES ' . join(', ', map { "($_, 'p" . (1 + int rand 5) . "')" } @keys) . ';';
}

sub start_draft
{
	my ($drafter) = @_;
	my ($reps, @keys, @undone) = ($drafter->{reps});
	my $level = ('READ COMMITTED', 'REPEATABLE READ')[ int rand 2 ];
	my $sql = "BEGIN ISOLATION LEVEL $level; " . join '', map { change($reps) . draft_leads($drafter, \@keys) } 1 .. 1 + int rand 3;
	$sql .= 'SAVEPOINT s;' . change($reps) . draft_leads($drafter, \@undone) . 'ROLLBACK TO s;' if rand() < 0.4;
	$sql .= draft_leads($drafter, \@keys) if rand() < 0.5;
	push @lost, @undone;
	$drafter->{end} = rand() < 0.5 ? 'COMMIT' : 'ROLLBACK';
	$drafter->{keys} = \@keys;
	$drafter->{session}->send("$sql SELECT 'sound'; $drafter->{end}");
	return;
}

# Serialization failures are what the stricter level asks for: nothing of such a draft is kept, unless
# it went back to its savepoint and was sound again.
sub end_draft
{
	my ($drafter) = @_;
	my $sound = $drafter->{session}->wait =~ /^sound$/m;
	my $keys = delete $drafter->{keys} // return;
	my @errors = grep { $_ ne '25P02' && $_ ne '3B001' } $drafter->{session}->errors;
	$drafts{$_}++ for @errors ? map { "draft_error_$_" } @errors : lc "drafts_$drafter->{end}";
	push @{ $sound && $drafter->{end} eq 'COMMIT' ? \@kept : \@lost }, @$keys;
	return;
}

sub go_on_drafting
{
	for my $drafter (grep { $_->{session}->ready } @drafter)
	{
		end_draft($drafter);
		start_draft($drafter);
	}
	return;
}

# ---- load ------------------------------------------------------------------------------------------

my @levels = ('read committed', 'repeatable read', 'serializable', 'read committed');
my @scripts;
for my $number (1 .. $sessions * 3)
{
	my $script = load_script(number => $number, transactions => soak(120, 1200), sources => [qw(p1 p2 p3 p4 p5 r)], shared => 40);
	$script->{sql} = "SET default_transaction_isolation = '$levels[ $number % @levels ]';\n$script->{sql}";
	push @scripts, $script;
}
my $load = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => \@scripts);
my ($looker) = sessions($node, 1);
($_->{session}) = sessions($node, 1) for @drafter;
my (%beyond, $cancelled, $terminated);
my ($looks, $most_in_flight) = (0, 0);
$load->finish(sub {
	go_on_drafting();
	$beyond{$_}++ for split /\n/, $looker->query('SELECT beyond()');
	my $in_flight = $looker->query('SELECT count(*) FROM leadroute.in_flight');
	$most_in_flight = $in_flight if $in_flight > $most_in_flight;
	$looks++;
	$load->disturb($looker, $looks % 3 == 0) if $looks % 2 == 0 || $looks % 3 == 0;
	$cap += 12;
	$looker->query("CALL set_caps($cap)");
});
end_draft($_), $_->{session}->close for @drafter;

my %errors = $load->errors;
is(join(' ', $load->unexpected), '', 'no errors that nobody asked for') or diag($load->messages);
is(join(' ', grep { !/drafts|40001/ } sort keys %drafts), '', 'nor in a draft');
my %lead = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT id FROM leads');
is(join(' ', grep { !$lead{$_} } $load->acknowledged, @kept), '', 'every acknowledged lead is there');
is(join(' ', grep { $lead{$_} } $load->refused, @lost), '', 'none that was rolled back');
is(join('; ', sort keys %beyond), '', 'nothing beyond a cap at any moment');
psql_is($node, 'SELECT problems()', '', 'record, memory and leads agree');

# ---- quiescence ------------------------------------------------------------------------------------

# Beyond all caps that a draft has set, nobody away and nobody paused.
$cap += 24;
$looker->query("INSERT INTO leadroute.pool_member SELECT * FROM member_at_first ON CONFLICT DO NOTHING");
$looker->query("CALL set_caps($cap); UPDATE leadroute.pool_member SET paused = false WHERE paused");
$looker->query("INSERT INTO leads (id, source) SELECT 90000000 + i, 'p' || (1 + i % 5) FROM generate_series(1, 30 * $cap) i");
psql_is($node, 'SELECT beyond()', '', 'nothing beyond a cap');
psql_is($node, "SELECT count(*) FROM leadroute.rep r WHERE r.daily_cap <> (SELECT count(*) FROM leadroute.decision d WHERE d.rep = r.id)",
	'0', 'the cap of every rep is exactly full');
psql_is($node, "SELECT m.rep, m.pool, count(d.rep) - m.daily_cap FROM leadroute.pool_member m LEFT JOIN leadroute.decision d USING (pool, rep)
	WHERE m.rep IN (9, 10, 11) GROUP BY m.rep, m.pool, m.daily_cap ORDER BY 1", "9|p4|0\n10|p4|0\n11|p5|0", 'and that of every member who could reach it');
psql_is($node, "SELECT sum(d.waiting) > 2 * sum(d.given) FROM (SELECT count(*) FILTER (WHERE rep IS NULL) AS waiting, count(rep) AS given FROM leadroute.decision) d",
	't', 'the demand was over three times the caps');
psql_is($node, "SELECT count(*) FROM leadroute.pool_state WHERE available", '0', 'nobody is available');
psql_is($node, 'SELECT problems()', '', 'record, memory and leads still agree');

# ---- overlaps --------------------------------------------------------------------------------------

my $lock_waits = () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /still waiting for \w+Lock on transaction/g;
my $aborts = $node->safe_psql('postgres', "SELECT xact_rollback FROM pg_stat_database WHERE datname = 'postgres'");
my $refunded = $node->safe_psql('postgres', "SELECT value FROM leadroute.stat WHERE name = 'refunded'");
my %overlap = (aborts => $aborts, conflicts => $load->count('conflict'), lock_waits => $lock_waits, refunded => $refunded,
	most_in_flight => $most_in_flight, cancelled => $errors{57014} // 0, terminated => $errors{'57P01'} // 0, map { $_ => $drafts{$_} // 0 } qw(drafts_commit drafts_rollback));
cmp_ok($overlap{$_}, '>', $_ eq 'most_in_flight' ? 1 : 0, "there were $_") for sort keys %overlap;
figure(%overlap, looks => $looks, %drafts, draft_leads => scalar @kept, map { +"error_$_" => $errors{$_} } keys %errors);

# ---- by hand ---------------------------------------------------------------------------------------

# A rep whose cap is 5 is given three leads by hand, while another transaction holds a turn.
$looker->query("INSERT INTO leadroute.rep (id, name, timezone, daily_cap) VALUES (20, 'Rep 20', '$zone', 5), (21, 'Rep 21', '$zone', NULL);
	INSERT INTO leadroute.pool (name) VALUES ('hand'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('hand', 20), ('hand', 21);
	INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 7, 'hand', \$\$source = 'h'\$\$, 'hand');
	INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES ('leads', 8, 'other', \$\$source = 'o'\$\$, 21);
	INSERT INTO leads (id, source) VALUES (91000000, 'h'), (91000001, 'h'), (91000002, 'h')");
my ($other) = sessions($node, 1);
$other->query("BEGIN; INSERT INTO leads (id, source) VALUES (91000003, 'o')");
$looker->query('INSERT INTO leads (id, source, owner_id) VALUES (91000010, NULL, 20)');
$looker->query('UPDATE leads SET owner_id = 20 WHERE id IN (91000001, 91000002) AND owner_id <> 20');
is($looker->query("SELECT count(*) FROM leadroute.decision WHERE rep = 20"), '4', 'two by the engine, two by hand');
$looker->query("INSERT INTO leads (id, source) SELECT 91000100 + i, 'h' FROM generate_series(1, 20) i");
is($looker->query("SELECT count(*) FROM leadroute.decision WHERE rep = 20"), '5', 'the engine gives one more');
$looker->query('UPDATE leads SET owner_id = 20 WHERE id BETWEEN 91000110 AND 91000112');
is($looker->query("SELECT count(*) FROM leadroute.decision WHERE rep = 20 AND ended_at IS NULL"), '8', 'by hand beyond the cap');
is($looker->query('SELECT v FROM leadroute.verify() v'), '(0,0,0,0,0)', 'nothing is wrong');
$other->query('COMMIT');
psql_is($node, 'SELECT problems()', '', 'nor after the other transaction');
$_->close for $looker, $other;

done_testing();
