# Everything that makes somebody eligible has the leads given out that wait for them: those, the oldest
# first, each once; by the worker, and without it by sweep(). What no commit tells of comes to be by the
# clock: a shift, a day, the end of a leave. A clock that is moved is sweep()'s alone, since libfaketime does
# not reach background workers; the worker waits for the real one.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $setup = <<'SQL';
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.territory (name, key) VALUES ('towns', 'city');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Nobody''s'), (2, 'Of the territory');
INSERT INTO leadroute.territory_entry (territory, key, rep) VALUES ('towns', 'Rome', 2);
SQL

# What keeps rep N, alone in pool pN, from five of the leads of source pN, how many it has before, what
# brings it back, and how many of the five it then may have. {day} is a day of March 2026.
my @scene = (
	[ 'sign_in()', "UPDATE leadroute.pool SET presence_required = true WHERE name = 'pN'", 0, 'SELECT leadroute.sign_in(N)', 5 ],
	[ 'presence is not required any more', "UPDATE leadroute.pool SET presence_required = true WHERE name = 'pN'", 0,
		"UPDATE leadroute.pool SET presence_required = false WHERE name = 'pN'", 5 ],
	[ 'close() at capacity', 'UPDATE leadroute.rep SET open_cap = 2 WHERE id = N', 2,
		"SELECT leadroute.close('leads', (SELECT min(id) FROM leads WHERE source = 'pN'), 'won')", 1 ],
	[ 'leads deleted at capacity', 'UPDATE leadroute.rep SET open_cap = 2 WHERE id = N', 2, "DELETE FROM leads WHERE source = 'pN' AND owner_id = N", 2 ],
	[ 'leads given to another rep at capacity', 'UPDATE leadroute.rep SET open_cap = 2 WHERE id = N', 2, "UPDATE leads SET owner_id = 1 WHERE source = 'pN' AND owner_id = N", 2 ],
	[ 'a capacity raised', 'UPDATE leadroute.rep SET open_cap = 2 WHERE id = N', 2, 'UPDATE leadroute.rep SET open_cap = 5 WHERE id = N', 3 ],
	[ 'a daily cap raised', 'UPDATE leadroute.rep SET daily_cap = 2 WHERE id = N', 2, 'UPDATE leadroute.rep SET daily_cap = 3 WHERE id = N', 1 ],
	[ 'a member\'s cap lifted', 'UPDATE leadroute.pool_member SET daily_cap = 2 WHERE rep = N', 2, 'UPDATE leadroute.pool_member SET daily_cap = NULL WHERE rep = N', 5 ],
	[ 'credit_back()', 'UPDATE leadroute.rep SET daily_cap = 2 WHERE id = N', 2,
		"SELECT leadroute.credit_back('leads', (SELECT min(id) FROM leads WHERE source = 'pN'), 'spam')", 1 ],
	[ 'a leave cut short', "INSERT INTO leadroute.rep_absence (rep, during) VALUES (N, '[2026-01-01,)')", 0, 'DELETE FROM leadroute.rep_absence WHERE rep = N', 5 ],
	[ 'other hours', "INSERT INTO leadroute.calendar (name, timezone) VALUES ('cN', 'UTC'); UPDATE leadroute.rep SET calendar = 'cN' WHERE id = N", 0,
		"INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) SELECT 'cN', d, '00:00', '24:00' FROM generate_series(1, 7) d", 5 ],
	[ 'a skill learnt', "UPDATE leadroute.rule SET needs = 'ARRAY[''dance'']' WHERE name = 'pN'", 0, "UPDATE leadroute.rep SET skills = '{\"dance\": 1}' WHERE id = N", 5 ],
	[ 'a skill not needed', "UPDATE leadroute.rule SET needs = 'ARRAY[''dance'']' WHERE name = 'pN'", 0, "UPDATE leadroute.rule SET needs = NULL WHERE name = 'pN'", 5 ],
	[ 'a member added', "DELETE FROM leadroute.pool_member WHERE rep = N", 0, "INSERT INTO leadroute.pool_member (pool, rep) VALUES ('pN', N)", 5 ],
	[ 'an overflow pool', "INSERT INTO leadroute.pool (name) VALUES ('oN'); UPDATE leadroute.pool_member SET pool = 'oN' WHERE rep = N", 0,
		"UPDATE leadroute.pool SET overflow_pool = 'oN' WHERE name = 'pN'", 5 ],
	[ 'a fallback pool', "UPDATE leadroute.rule SET active = false WHERE name = 'pN'", 0, "UPDATE leadroute.lead_table SET fallback_pool = 'pN'", 5,
		'UPDATE leadroute.lead_table SET fallback_pool = NULL' ],
	[ 'an entry of a territory', "UPDATE leadroute.rule SET pool = NULL, territory = 'towns' WHERE name = 'pN'", 0,
		"INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('towns', 'pN', 'pN')", 5 ],
	[ 'a rule switched on', "UPDATE leadroute.rule SET active = false WHERE name = 'pN'", 0, "UPDATE leadroute.rule SET active = true WHERE name = 'pN'", 5 ],
	[ 'the end of a leave', "INSERT INTO leadroute.rep_absence (rep, during) VALUES (N, '[2026-01-01, 2026-03-{day} 12:00+00)')", 0, 'clock 12:00:01', 5 ],
	[ 'the begin of a shift', "INSERT INTO leadroute.calendar (name, timezone) VALUES ('cN', 'UTC'); UPDATE leadroute.rep SET calendar = 'cN' WHERE id = N;
		INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) SELECT 'cN', d, '13:30', '20:00' FROM generate_series(1, 7) d", 0, 'clock 13:30:01', 5 ],
	[ 'a new day', 'UPDATE leadroute.rep SET daily_cap = 2 WHERE id = N', 2, 'clock 24:00:01', 2 ]);

my ($day, $number) = (2, 100);

my $node = start_node('swept', clock => '2026-03-02 08:00:00', conf => "jit = off\nleadroute.backlog = off");
$node->safe_psql('postgres', $setup);
play('off', @$_) for @scene;
$node->stop;

$node = start_node('worker', conf => "jit = off\nleadroute.backlog = on");
$node->safe_psql('postgres', $setup);
play('on', @$_) for grep { $_->[3] !~ /^clock/ } @scene;
by_the_clock();
done_testing();

# The worker looks once a minute while it runs: at a leave and at a night's rest that end at once.
sub by_the_clock
{
	$node->safe_psql('postgres', <<'SQL');
ALTER SYSTEM SET leadroute.notify_idle = 3600;
SELECT pg_reload_conf();
INSERT INTO leadroute.calendar (name, timezone) VALUES ('soon', 'UTC');
-- every day, but for the hour before that moment
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes)
    SELECT 'soon', d, o, o - interval '1 hour' FROM generate_series(1, 7) d, LATERAL (SELECT ((now() + interval '5 seconds') AT TIME ZONE 'UTC')::time AS o) x;
INSERT INTO leadroute.rep (id, name, calendar) VALUES (11, 'At rest', 'soon'), (12, 'On leave', NULL);
INSERT INTO leadroute.rep_absence (rep, during) VALUES (12, tstzrange(NULL, now() + interval '5 seconds'));
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES ('leads', 1, 'rest', 'source = ''rest''', 11), ('leads', 2, 'leave', 'source = ''leave''', 12);
INSERT INTO leads (source) SELECT s FROM generate_series(1, 3), unnest('{rest,leave}'::text[]) s;
SQL
	psql_is($node, 'SELECT count(*) FROM leadroute.queue', 6, 'a shift and a leave: six wait');
	wait_until($node, 'SELECT count(*) = 0 FROM leadroute.queue', 'given out within a minute of the begin of a shift, and of the end of a leave');
	psql_is($node, "SELECT string_agg(DISTINCT rep || ' ' || method, ', ' ORDER BY rep || ' ' || method) FROM leadroute.decision WHERE rep IN (11, 12)", '11 backlog, 12 backlog', 'by the worker');
	verify_ok($node);
	return;
}

sub play
{
	my ($worker, $what, $barrier, $before, $event, $given, $after) = @_;
	my $n = $number++;
	my $name = "worker $worker, $what";
	my $said = sub { my ($sql) = @_; $sql =~ s/\bN\b|(?<=\b[pco])N\b/$n/g; $sql =~ s/\{day\}/sprintf '%02d', $day/ge; return $sql };
	my $left = 5 - $given;
	$node->safe_psql('postgres', $said->(<<"SQL"));
INSERT INTO leadroute.rep (id, name) VALUES (N, 'Rep N');
INSERT INTO leadroute.pool (name) VALUES ('pN');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('pN', N);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', N, 'pN', 'source = ''pN''', 'pN');
$barrier;
SQL
	$node->safe_psql('postgres', $said->("INSERT INTO leads (source, city) VALUES ('pN', 'pN')")) for 1 .. $before + 5;
	my $waiting = $said->("SELECT count(*) FROM leadroute.queue q JOIN leads l ON l.id = q.lead_id::bigint WHERE l.source = 'pN'");
	psql_is($node, $waiting, 5, "$name: five wait");
	my @waited = split /\n/, $node->safe_psql('postgres', $said->("SELECT id FROM leads WHERE source = 'pN' AND owner_id IS NULL ORDER BY id"));

	if ($event =~ /^clock (.*)/) { move_clock($1) }
	else { $node->safe_psql('postgres', $said->($event)) }
	if ($worker eq 'off')
	{
		psql_is($node, $waiting, 5, "$name: without the worker they go on waiting");
		$node->safe_psql('postgres', 'CALL leadroute.sweep()');
	}
	wait_until($node, "SELECT ($waiting) = $left", "$name: given out");
	my $in = join ',', @waited;
	psql_is($node, $said->(<<"SQL"), join(' ', @waited[ 0 .. $given - 1 ]), "$name: the oldest first");
SELECT string_agg(d.lead_id, ' ' ORDER BY d.decided_at, d.lead_id::bigint) FROM leadroute.decision d
WHERE d.lead_table = 'leads' AND d.method = 'backlog' AND d.rep = N AND d.ended_at IS NULL AND d.lead_id::bigint IN ($in)
SQL
	psql_is($node, "SELECT count(*), count(*) FILTER (WHERE method = 'backlog') FROM leadroute.assignment WHERE lead_id::bigint IN ($in)",
		5 + $given . "|$given", "$name: each once");
	psql_is($node, $said->("SELECT count(*) FROM leads WHERE id IN ($in) AND owner_id = N"), $given, "$name: the leads have their owner");
	verify_ok($node, 0, "$name: verify");
	$node->safe_psql('postgres', $said->(($after // 'SELECT') . "; DELETE FROM leads WHERE source = 'pN'"));
	return;
}

# Later on the day; 24 hours are the next one.
sub move_clock
{
	my ($time) = @_;
	$day++ if $time =~ s/^24/00/;
	$node->set_clock(sprintf '2026-03-%02d %s', $day, $time);
	return;
}
