# First-touch policies at work: who hears of a breach; sweeps beside touches, hand-overs, releases,
# claims, deletes and other sweeps; sweeps that are killed; and what is caught up afterwards.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Listener;
use LeadrouteTest::Told;
use Test::More;

seed();
my $rounds = soak(5, 200);
my $kills = soak(2, 50);

my $node = start_node('main', conf => "max_connections = 60\nrestart_after_crash = on\njit = off");
sub configure { return $node->safe_psql('postgres', $_[0]) }
configure(<<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (9, 'Boss');
INSERT INTO leadroute.rep (id, name, manager) SELECT i, 'Rep ' || i, 9 FROM generate_series(1, 6) i;
INSERT INTO leadroute.pool (name) VALUES ('p'), ('q'), ('bin');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'p', i FROM generate_series(1, 6) i UNION ALL SELECT 'q', i FROM generate_series(1, 2) i;
INSERT INTO leadroute.pool (name, mode) VALUES ('pull', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'pull', i FROM generate_series(1, 6) i;
INSERT INTO leadroute.sla_policy (name, first_touch, digest_over) VALUES ('short', '300 milliseconds', 1000), ('long', '1 hour', 1000);
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('short', 0.5, 'remind');
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, sla) VALUES
    ('leads', 1, 'p', 'source = ''p''', 'p', 'short'), ('leads', 2, 'q', 'source = ''q''', 'q', 'short'), ('leads', 3, 'pull', 'source = ''pull''', 'pull', 'short');
SQL
told_view($node);

# ---- who hears of it -------------------------------------------------------------------------------

my %heard;
$heard{$_} = LeadrouteTest::Listener->new($node, $_) for qw(leadroute_rep_1 leadroute_rep_2 leadroute_manager_9);
sub kinds { my ($channel) = @_; return join ' ', sort map { $_->{event} } $heard{$channel}->hear }
configure("INSERT INTO leads (source) VALUES ('q')");
# who has it next has time, however slow the machine is
configure("UPDATE leadroute.rule SET sla = 'long' WHERE name = 'q'; SELECT pg_sleep(0.4)");
configure("CALL leadroute.sweep()");
ok($heard{leadroute_rep_2}->heard(sub { grep { $_->{event} eq 'rerouted' } @_ }), 'the new rep hears of a lead that is taken from another');
ok($heard{leadroute_rep_1}->heard(sub { grep { $_->{event} eq 'breached' } @_ }), 'the old rep that it is gone');
ok($heard{leadroute_manager_9}->heard(sub { grep { $_->{event} eq 'sla_breach' } @_ }), 'the manager that it was missed');
configure("CALL leadroute.sweep(); SELECT pg_sleep(0.2)");
is(kinds('leadroute_rep_1'), 'assigned breached reminder', 'the old rep: each event once');
is(kinds('leadroute_rep_2'), 'rerouted', 'the new rep');
is(kinds('leadroute_manager_9'), 'sla_breach', 'the manager');
my ($breach) = grep { $_->{event} eq 'breached' } $heard{leadroute_rep_1}->hear;
my ($assigned) = grep { $_->{event} eq 'assigned' } $heard{leadroute_rep_1}->hear;
ok(defined $assigned->{due_at} && $assigned->{due_at} eq $breach->{due_at}, 'the rep is told when the touch is due');
my $since = LeadrouteTest::Listener::events_since_ids($node);
is_deeply([ sort grep { !$since->{$_} } map { keys %{ $_->ids } } values %heard ], [], 'events_since() tells the same');
$_->close for values %heard;
configure("UPDATE leadroute.rule SET sla = 'short' WHERE name = 'q'");

# ---- sixteen sessions at once ----------------------------------------------------------------------

my @sweeps = sessions($node, 4);
my @people = sessions($node, 12);
my %expected = map { $_ => 1 } qw(LR007 LR009 LR010 LR011);
my @unexpected;
for my $round (1 .. $rounds)
{
	my @ids = split /\n/, configure("INSERT INTO leads (source) SELECT (ARRAY['p', 'p', 'pull'])[1 + i % 3] FROM generate_series(1, 40) i RETURNING id");
	configure("SELECT leadroute.claim_next(1 + i % 6, 'pull') FROM generate_series(1, 10) i");
	configure('SELECT pg_sleep(0.32)');
	$_->send('CALL leadroute.sweep(); CALL leadroute.sweep()') for @sweeps;
	for my $person (@people)
	{
		$person->send(join ' ', map
			{
				my $lead = $ids[ rand @ids ];
				(
					"SELECT leadroute.touch('leads', $lead, 'call');",
					"SELECT leadroute.reassign('leads', $lead, " . (1 + int rand 6) . ');',
					"SELECT leadroute.release('leads', $lead);",
					"DELETE FROM leads WHERE id = $lead;",
					"SELECT leadroute.claim('leads', $lead, " . (1 + int rand 6) . ');',
					"UPDATE leads SET owner_id = " . (1 + int rand 6) . " WHERE id = $lead;"
				)[ rand 6 ]
			} 1 .. 4);
	}
	wait_all(@sweeps, @people);
	push @unexpected, grep { !$expected{$_} } map { $_->errors } @sweeps, @people;
}
is(join(' ', @unexpected), '', "$rounds rounds of sixteen sessions: no error but what the callers may be told");
psql_is($node, 'SELECT count(*) > 0 FROM leadroute.assignment WHERE end_reason = \'breached\'', 't', 'leads were taken away');
psql_is($node, 'SELECT count(*) FROM (SELECT FROM told GROUP BY lead_id, episode, kind HAVING count(*) > 1) x', 0, 'no step was done twice');
psql_is($node, 'SELECT count(*) FROM leadroute.assignment WHERE breached_at > touched_at', 0, 'none after a touch');
psql_is($node, 'SELECT count(*) FROM leadroute.assignment a WHERE (a.end_reason = \'breached\') > (a.breached_at IS NOT NULL)', 0, 'none was taken away without a breach');
psql_is($node, <<'SQL', 0, 'no lead went back to one who had missed it, but by a person');
SELECT count(*) FROM leadroute.assignment a JOIN leadroute.assignment b USING (lead_id, rep)
WHERE a.end_reason = 'breached' AND b.method IN ('reroute', 'backlog') AND b.episode > a.episode
SQL
psql_is($node, 'SELECT count(*) FROM leads l LEFT JOIN leadroute.assignment a ON a.lead_id = l.id::text AND a.ended_at IS NULL WHERE a.rep IS DISTINCT FROM l.owner_id', 0, 'lead and record name the same owner');
verify_ok($node);
configure('DELETE FROM leads');

# ---- killed in the middle, and caught up -----------------------------------------------------------

configure(<<'SQL');
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION slow();
SQL
$_->close for @sweeps, @people;
for my $kill (1 .. $kills)
{
	configure("UPDATE leadroute.sla_policy SET first_touch = '300 milliseconds' WHERE name = 'short'");
	configure("INSERT INTO leads (source) SELECT 'p' FROM generate_series(1, 250)");
	configure("UPDATE leadroute.sla_policy SET first_touch = '1 hour' WHERE name = 'short'; SELECT pg_sleep(0.32)");
	my ($sweep) = sessions($node, 1);
	my $pid = $sweep->pid;
	$sweep->send('CALL leadroute.sweep()');
	wait_until($node, "SELECT count(*) BETWEEN 20 AND 249 FROM leadroute.assignment WHERE end_reason = 'breached' AND lead_id IN (SELECT id::text FROM leads)", "kill $kill: in the middle");
	kill 'KILL', $pid;
	$sweep->wait;
	$node->poll_query_until('postgres', 'SELECT 1', '1');
	my $before = configure("SELECT count(*) FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text WHERE a.end_reason = 'breached'");
	configure('CALL leadroute.sweep()');
	psql_is($node, "SELECT count(*) || ' ' || count(DISTINCT a.lead_id) FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text WHERE a.end_reason = 'breached'", '250 250',
		"$before before, the rest in one sweep after the crash, each once");
	psql_is($node, 'SELECT count(*) FROM (SELECT FROM told GROUP BY lead_id, episode, kind HAVING count(*) > 1) x', 0, 'no step was done twice');
	verify_ok($node);
	configure('DELETE FROM leads');
}

# A lead that an app has locked is left alone, and waited for by nobody.
configure("UPDATE leadroute.sla_policy SET first_touch = '300 milliseconds' WHERE name = 'short'; INSERT INTO leads (source) VALUES ('p'), ('p')");
my ($holder) = sessions($node, 1);
$holder->query('BEGIN; SELECT FROM leads WHERE id = (SELECT max(id) FROM leads) FOR UPDATE');
configure("SELECT pg_sleep(0.32)");
configure("SET statement_timeout = '5s'; CALL leadroute.sweep()");
my $moved = "SELECT count(*) FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text WHERE a.end_reason = 'breached'";
psql_is($node, $moved, 1, 'a locked lead is left to the next sweep');
$holder->query('COMMIT');
configure('CALL leadroute.sweep()');
psql_is($node, "SELECT count(DISTINCT a.lead_id) FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text WHERE a.end_reason = 'breached'", 2, 'which sees to it');
verify_ok($node);

done_testing();
