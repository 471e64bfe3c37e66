# Working hours, absences and presence, as the clock is moved: the change to and from summer time in
# Berlin and New York, a night shift, a holiday, an absence's first and last second, a rep who falls
# silent. Memory agrees with the record each time, rebuilt or not. Who signs in or out in a
# transaction that is rolled back, or not yet committed, has not for others. A returner is owed what
# the pool's policy says, also when memory is rebuilt meanwhile.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', clock => '2026-03-27 12:00:00', conf => 'max_prepared_transactions = 2');
psql_ok($node, <<'SQL', 'reps in shifts');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.calendar (name, timezone) VALUES ('office', NULL), ('night', 'Europe/Berlin'), ('dawn', 'Europe/Berlin');
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes)
    SELECT 'office', d, o, c FROM generate_series(1, 7) d, (VALUES (time '09:00', time '12:00'), ('13:00', '17:00')) v (o, c)
    UNION ALL SELECT 'night', d, '22:00', '06:00' FROM generate_series(1, 7) d
    UNION ALL SELECT 'dawn', d, '01:00', '02:30' FROM generate_series(1, 7) d;
INSERT INTO leadroute.calendar_holiday (calendar, day, name) VALUES ('office', '2026-12-25', 'Christmas Day'), ('night', '2026-12-25', 'Christmas Day');
INSERT INTO leadroute.rep (id, name, timezone, calendar) VALUES (1, 'Berlin', 'Europe/Berlin', 'office'), (2, 'New York', 'America/New_York', 'office'),
    (3, 'Night', 'UTC', 'night'), (4, 'Dawn', 'UTC', 'dawn'), (5, 'Backup', 'UTC', NULL), (6, 'Desk', 'UTC', NULL), (7, 'Other desk', 'UTC', NULL);
INSERT INTO leadroute.pool (name, overflow_pool, presence_required) VALUES ('rest', NULL, false), ('berlin', 'rest', false), ('ny', 'rest', false), ('night', 'rest', false), ('dawn', 'rest', false), ('desk', 'rest', true);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('berlin', 1), ('ny', 2), ('night', 3), ('dawn', 4), ('rest', 5), ('desk', 6), ('desk', 7);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) SELECT 'leads', n, p, format('source = %L', p), p FROM unnest('{berlin,ny,night,dawn,desk}'::text[]) WITH ORDINALITY AS x (p, n);
SQL

my ($one, $two) = sessions($node, 2);
sub lead { my ($session, $source) = @_; return $session->query("INSERT INTO leads (source) VALUES ('$source') RETURNING owner_id") }

sub sound
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	verify_ok($node, 0, $name);
	psql_is($node, 'SELECT leadroute._forget(0)', 't', "$name: memory forgotten");
	verify_ok($node, 0, "$name, rebuilt");
	return;
}

# Each moment: the clock, and who then receives a lead of the pool. Asked in two sessions; every
# other time memory is made anew.
my $turn = 0;
sub moments
{
	my ($name, $pool, @moments) = @_;
	while (my ($clock, $rep) = splice @moments, 0, 2)
	{
		$node->set_clock($clock);
		$one->query('SELECT leadroute._forget(0)') if $turn++ % 2;
		is(lead($one, $pool) . lead($two, $pool), "$rep$rep", "$name: $clock");
		my $available = $rep == 5 ? 'f' : 't';
		is($two->query("SELECT available FROM leadroute.pool_state WHERE pool = '$pool'"), $available, "$name: $clock, pool_state");
	}
	sound($name);
	return;
}

moments('Berlin in winter', 'berlin', '2026-03-27 07:59:55', 5, '2026-03-27 08:00:01', 1, '2026-03-27 10:59:50', 1, '2026-03-27 11:00:01', 5,
	'2026-03-27 11:59:50', 5, '2026-03-27 12:00:01', 1, '2026-03-27 15:59:50', 1, '2026-03-27 16:00:01', 5);
moments('Berlin in summer', 'berlin', '2026-03-29 06:59:50', 5, '2026-03-29 07:00:01', 1, '2026-03-29 14:59:50', 1, '2026-03-29 15:00:01', 5);
moments('New York, too', 'ny', '2026-03-29 12:59:50', 5, '2026-03-29 13:00:01', 2, '2026-03-29 20:59:50', 2, '2026-03-29 21:00:01', 5);
moments('the clock set back', 'berlin', '2026-03-29 08:00:00', 1, '2026-03-28 07:30:00', 5, '2026-03-28 09:00:00', 1, '2026-03-20 12:30:00', 1, '2026-03-20 16:30:00', 5);
moments('the hour that is left out', 'dawn', '2026-03-28 23:59:50', 5, '2026-03-29 00:00:01', 4, '2026-03-29 00:59:50', 4, '2026-03-29 01:00:01', 5);
moments('a night of seven hours', 'night', '2026-03-28 20:59:50', 5, '2026-03-28 21:00:01', 3, '2026-03-29 00:30:00', 3, '2026-03-29 01:30:00', 3, '2026-03-29 03:59:50', 3, '2026-03-29 04:00:01', 5);
moments('a night of nine hours', 'night', '2026-10-24 19:59:50', 5, '2026-10-24 20:00:01', 3, '2026-10-25 01:30:00', 3, '2026-10-25 04:59:50', 3, '2026-10-25 05:00:01', 5);
moments('the hour that comes twice', 'dawn', '2026-10-25 00:29:50', 4, '2026-10-25 00:30:01', 5, '2026-10-25 01:00:01', 4, '2026-10-25 01:29:50', 4, '2026-10-25 01:30:01', 5);
moments('Berlin in winter again', 'berlin', '2026-10-25 07:59:50', 5, '2026-10-25 08:00:01', 1);
moments('Christmas in Berlin', 'berlin', '2026-12-24 12:30:00', 1, '2026-12-25 12:30:00', 5, '2026-12-26 12:30:00', 1);
moments('in New York it is some hours later', 'ny', '2026-12-25 01:00:00', 5, '2026-12-25 15:00:00', 5, '2026-12-26 15:00:00', 2);
moments('at night', 'night', '2026-12-24 22:00:00', 3, '2026-12-25 04:59:50', 3, '2026-12-25 22:00:00', 5, '2026-12-26 04:00:00', 5, '2026-12-26 22:00:00', 3);

# One statement goes over the end of the shift: it sleeps between its rows.
$node->set_clock('2026-12-28 10:59:58');
$one->query("INSERT INTO leads (source, name) SELECT 'berlin', 'over' FROM generate_series(1, 80) WHERE pg_sleep(0.05) IS NOT NULL");
is($one->query("SELECT bool_and(a.rep = CASE WHEN a.decided_at < '2026-12-28 11:00+00' THEN 1 ELSE 5 END), count(DISTINCT a.rep) FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text WHERE l.name = 'over'"),
	't|2', 'within a statement the shift ends when it ends');

# An absence, from its first second to its last; memory was made before it began.
$node->set_clock('2027-02-01 12:30:00');
psql_ok($node, "INSERT INTO leadroute.rep_absence (rep, during) VALUES (1, '[2027-02-02 12:30+00,2027-02-02 14:00+00)'), (1, '[2027-02-02 13:00+00,2027-02-02 15:00+00]')", 'absent tomorrow');
moments('absent', 'berlin', '2027-02-01 12:30:00', 1, '2027-02-02 12:29:50', 1, '2027-02-02 12:30:01', 5, '2027-02-02 14:30:00', 5, '2027-02-02 14:59:50', 5, '2027-02-02 15:00:01', 1);
psql_is($node, "SELECT leadroute.why('leads', max(id)) ~ 'absent' FROM leads WHERE source = 'berlin' AND owner_id = 5", 't', 'why() says so');
is($one->query("BEGIN; INSERT INTO leadroute.rep_absence (rep, during) VALUES (1, '(,)'); INSERT INTO leads (source) VALUES ('berlin') RETURNING owner_id"), '5', 'one who is away in an open transaction');
is(lead($two, 'berlin'), '1', 'is there for others');
$one->query('ROLLBACK');
is(lead($one, 'berlin'), '1', 'and when it is rolled back');

# Presence. ------------------------------------------------------------------------------------------

sub there { return $node->safe_psql('postgres', "SELECT string_agg(rep::text, ' ' ORDER BY rep) FROM leadroute.pool_state WHERE pool = 'desk' AND available") // '' }

$node->set_clock('2027-03-01 12:00:00');
is(lead($one, 'desk'), '5', 'nobody is signed in');
$one->query('BEGIN; SELECT leadroute.sign_in(6)');
is(lead($one, 'desk'), '6', 'signed in, to the transaction that does it');
is(lead($two, 'desk'), '5', 'not to others');
$one->query('ROLLBACK');
is(lead($one, 'desk') . lead($two, 'desk'), '55', 'rolled back');
$one->query('BEGIN; SAVEPOINT a; SELECT leadroute.sign_in(6); ROLLBACK TO a; SELECT leadroute.sign_in(7); COMMIT');
is(there(), '7', 'of two in savepoints the one that was kept');
$one->query("DO \$\$ BEGIN PERFORM leadroute.sign_in(6); RAISE EXCEPTION 'no'; EXCEPTION WHEN OTHERS THEN END \$\$");
is(there(), '7', 'an exception takes a sign-in back');
$one->query('BEGIN; SELECT leadroute.sign_out(7)');
is(lead($one, 'desk') . lead($two, 'desk'), '57', 'signed out, to the transaction that does it');
$two->send('SELECT leadroute.sign_in(7)');
wait_blocked($node, $two);
$one->query('COMMIT');
$two->wait;
is(there(), '7', 'the later sign-in counts');
$one->query('SELECT leadroute.sign_out(7)');
is(there(), '', 'signed out');
sqlstate_is($node, "BEGIN; SELECT leadroute.sign_in(6); PREPARE TRANSACTION 'x'", '0A000', 'a sign-in cannot be prepared');
is(there(), '', 'and is none then');
sound('after signing in and out');

# A rep who falls silent; a heartbeat keeps it, and is on disk once a minute.
$node->set_clock('2027-03-02 12:00:00');
$one->query('SELECT leadroute.sign_in(6), leadroute.sign_in(7)');
$node->set_clock('2027-03-02 12:14:50');
is(lead($one, 'desk') . lead($two, 'desk'), '67', 'silent for less than a quarter of an hour');
$two->query('BEGIN; SELECT leadroute.heartbeat(7); ROLLBACK');
$node->set_clock('2027-03-02 12:15:01');
is(lead($one, 'desk') . lead($two, 'desk'), '77', 'then one is gone; of the other was heard, though that was rolled back');
is(there(), '7', 'pool_state says so');
sqlstate_is($node, 'SELECT leadroute.heartbeat(6)', 'LR010', 'a heartbeat does not bring a rep back');
$node->set_clock('2027-03-02 12:15:30');
$two->query('SELECT leadroute.heartbeat(7)');
is($one->query('SELECT seen_at < \'2027-03-02 12:14:00+00\' FROM leadroute.presence WHERE rep = 7'), 't', 'not written again within the minute');
$node->set_clock('2027-03-02 12:16:30');
$two->query('SELECT leadroute.heartbeat(7)');
is($one->query('SELECT seen_at > \'2027-03-02 12:16:00+00\' FROM leadroute.presence WHERE rep = 7'), 't', 'but after it');
my $writes = 'SELECT xmin::text FROM leadroute.presence WHERE rep = 7';
my $before = $one->query($writes);
$node->set_clock(sprintf '2027-03-02 12:16:%02d', 31 + $_), $two->query('SELECT leadroute.heartbeat(7)') for 1 .. 20;
is($one->query($writes), $before, 'twenty more within the minute write nothing');
$two->query('BEGIN; SELECT leadroute.sign_out(7)');
$node->set_clock('2027-03-02 12:20:00');
$one->query('SELECT leadroute.heartbeat(7)');
is(join(' ', $one->errors), '', 'a heartbeat waits for nobody');
$two->query('ROLLBACK');

# What memory knows of heartbeats survives a change of configuration; what is on disk a crash.
$node->set_clock('2027-03-02 12:20:40');
$one->query('SELECT leadroute.heartbeat(7)');
psql_ok($node, "UPDATE leadroute.rep SET team = 'x' WHERE id = 7", 'configuration changes');
$node->set_clock('2027-03-02 12:35:38');
is(there(), '7', 'the latest heartbeat counts to the second');
$node->set_clock('2027-03-02 12:30:00');
$one->query('SELECT leadroute.heartbeat(7)');
$_->close for $one, $two;
$node->stop('immediate');
$node->start;
is(there(), '7', 'still there after a crash');
$node->restart;
is(there(), '7', 'and a restart');
$node->append_conf('postgresql.conf', "leadroute.presence_timeout = '2min'");
$node->reload;
$node->set_clock('2027-03-02 12:33:00');
wait_until($node, "SELECT current_setting('leadroute.presence_timeout') = '2min'", 'the setting');
is(there(), '', 'a shorter timeout counts at once');
($one, $two) = sessions($node, 2);
is(lead($one, 'desk'), '5', 'for picks too');
$node->append_conf('postgresql.conf', "leadroute.presence_timeout = '1h'");
$node->reload;
wait_until($node, "SELECT current_setting('leadroute.presence_timeout') = '1h'", 'the setting');
is($two->query('SELECT 1') . lead($two, 'desk'), '17', 'and a longer one');
sound('presence');

# Who comes back from leave -----------------------------------------------------------------------------

$node->set_clock('2027-04-01 12:00:00');
psql_ok($node, <<'SQL', 'three policies');
INSERT INTO leadroute.rep (id, name) SELECT i, 'R' || i FROM generate_series(21, 29) i;
INSERT INTO leadroute.pool (name, catch_up, catch_up_limit) VALUES ('none', 'none', NULL), ('full', 'full', NULL), ('bounded', 'bounded', 2);
INSERT INTO leadroute.pool_member (pool, rep) SELECT p, i FROM (VALUES ('none', 21), ('full', 24), ('bounded', 27)) AS x (p, f), generate_series(f, f + 2) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) SELECT 'leads', 30 + n, p, format('source = ''%s''', p), p FROM (VALUES (1, 'none'), (2, 'full'), (3, 'bounded')) AS x (n, p);
INSERT INTO leadroute.rep_absence (rep, during) SELECT i, '[2027-04-02 12:00+00,2027-04-12 12:00+00)' FROM unnest('{21,24,27}'::int[]) i;
SQL
sub received { my ($rep) = @_; return $node->safe_psql('postgres', "SELECT count(*) FROM leadroute.assignment WHERE rep = $rep") }
sub give { my ($pool, $n) = @_; $one->query("INSERT INTO leads (source) SELECT '$pool' FROM generate_series(1, $n)"); return }
give($_, 9) for 'none', 'full', 'bounded';
is(join(' ', map { received($_) } 21 .. 29), '3 3 3 3 3 3 3 3 3', 'all are there');
$node->set_clock('2027-04-03 12:00:00');
give($_, 12) for 'none', 'full', 'bounded';
is(join(' ', map { received($_) } 21 .. 29), '3 9 9 3 9 9 3 9 9', 'one is away: the others share its leads');
$node->set_clock('2027-04-12 12:00:01');
give($_, 3) for 'none', 'full', 'bounded';
is(join(' ', map { received($_) } 21 .. 29), '4 10 10 6 9 9 6 9 9', 'back: a third of what comes, or all of it');
give($_, 60) for 'none', 'full', 'bounded';
is(join(' ', map { received($_) } 21, 24, 27), '24 28 26', 'in the long run: nothing, all, or two turns of what was missed');
sound('back from leave');

# The same with memory made anew when they are back and nothing has been given out since.
psql_ok($node, "INSERT INTO leadroute.rep_absence (rep, during) SELECT i, '[2027-04-20 12:00+00,2027-04-21 12:00+00)' FROM unnest('{21,24,27}'::int[]) i", 'another day off');
$node->set_clock('2027-04-20 13:00:00');
my @then = map { received($_) } 21, 24, 27;
give($_, 12) for 'none', 'full', 'bounded';
is(join(' ', map { received($_) } 21, 24, 27), "@then", 'away again');
$node->set_clock('2027-04-21 13:00:00');
$node->safe_psql('postgres', 'SELECT leadroute._forget(0)');
give($_, 30) for 'none', 'full', 'bounded';
my @more = map { received($_) } 21, 24, 27;
$more[$_] -= $then[$_] for 0 .. 2;
ok(abs($more[0] - 10) <= 1, "rebuilt, without catch-up: a third ($more[0])");
ok(abs($more[1] - 14) <= 1, "with all of it: four more ($more[1])");
ok(abs($more[2] - 12) <= 1, "with two: two more ($more[2])");
sound('rebuilt');

$_->close for $one, $two;
done_testing();
