# Crashes in the middle of a sweep: the backend that sweeps is killed, or the postmaster, with -9, at random
# moments. What was committed is there, the rest is not, and the next sweep does it: each step of each
# policy once, each alert once, each lead with one breach.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Told;
use Test::More;
use Time::HiRes ();

seed();
my $kills = soak(2, 50);
my $leads = 240; # of the policy that moves them; several batches of a sweep

my $node = start_node('main', conf => "max_connections = 60\nrestart_after_crash = on\njit = off\nleadroute.notify = worker");
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(<<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (8, 'Top');
INSERT INTO leadroute.rep (id, name, manager) VALUES (9, 'Boss', 8);
INSERT INTO leadroute.rep (id, name, manager) SELECT i, 'Rep ' || i, 9 FROM generate_series(1, 6) i;
INSERT INTO leadroute.pool (name) VALUES ('team'), ('bin');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'team', i FROM generate_series(1, 5) i UNION ALL SELECT 'bin', 6;
INSERT INTO leadroute.sla_policy (name, first_touch, on_breach, recycle_pool, returns_turn, digest_over) VALUES
    ('moves', '200 milliseconds', 'reroute', NULL, true, 1000), ('tells', '200 milliseconds', 'notify_manager', NULL, false, 1000), ('drops', '200 milliseconds', 'recycle', 'bin', false, 1000), ('later', '1 hour', 'reroute', NULL, false, 1000);
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('moves', 0.5, 'remind'), ('tells', 0.3, 'remind'), ('tells', 0.5, 'notify_manager'), ('tells', 1.1, 'escalate'), ('drops', 0.5, 'remind');
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, sla) SELECT 'leads', i, p, format('source = %L', p), 'team', p FROM unnest('{moves,tells,drops}'::text[]) WITH ORDINALITY x (p, i);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION slow();
SQL
told_view($node);

# What has been done for the leads of one policy, each kind of it once for each lead, or not at all.
sub done
{
	my ($policy) = @_;
	return ask(<<"SQL");
WITH mine AS (SELECT l.id::text AS id FROM leads l WHERE source = '$policy'),
    acts AS (SELECT lead_id, kind FROM told UNION ALL
        SELECT lead_id, kind || '>' || manager FROM leadroute.alert WHERE lead_id IS NOT NULL UNION ALL
        SELECT lead_id, concat('episode', ' ' || end_reason, CASE WHEN breached_at IS NOT NULL THEN '!' END, CASE WHEN credited_at IS NOT NULL THEN ' credited' END) FROM leadroute.assignment)
SELECT string_agg(format('%s %s', kind, n), ', ' ORDER BY kind) FROM (
    SELECT kind, count(*) || CASE WHEN count(*) > count(DISTINCT lead_id) THEN ' TWICE' ELSE '' END AS n FROM acts JOIN mine ON id = lead_id GROUP BY kind) x
SQL
}
my %all = (
	moves => "breached $leads, episode $leads, episode breached! credited $leads, reminder $leads, sla_breach>9 $leads",
	tells => 'breached 30, episode! 30, escalated>8 30, escalated>9 30, reminder 30, sla_breach>9 30',
	drops => 'breached 30, episode 30, episode breached! 30, recycled 30, reminder 30, sla_breach>9 30');

sub crash
{
	my ($postmaster, $backend) = @_;
	return kill 'KILL', $backend unless $postmaster;
	my $pid = $node->{_pid};
	$node->kill9;
	# its children leave when they notice; until then there is no start
	for (1 .. 300)
	{
		Time::HiRes::sleep(0.1);
		return 1 if !kill(0, $pid) && $node->start(fail_ok => 1);
	}
	return 0;
}

# Leads of all policies whose every step is due; those who have them next have an hour.
sub leads_due
{
	my ($what) = @_;
	ask(<<'SQL');
UPDATE leadroute.rule SET sla = name;
INSERT INTO leads (source) SELECT CASE WHEN i % 10 = 0 THEN 'tells' WHEN i % 10 = 5 THEN 'drops' ELSE 'moves' END FROM generate_series(0, 299) i;
UPDATE leadroute.rule SET sla = 'later';
SELECT pg_sleep(0.25);
SQL
	psql_is($node, "SELECT count(*) FILTER (WHERE source = 'moves') || ' ' || count(*) FILTER (WHERE source = 'tells') FROM leads", "$leads 30", "$what: leads");
	return;
}

sub all_done
{
	my ($what) = @_;
	is(done($_), $all{$_}, "$what: all of policy $_ is done, each once") for sort keys %all;
	psql_is($node, 'SELECT count(*) FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text AND a.ended_at IS NULL WHERE a.rep IS DISTINCT FROM l.owner_id', 0, "$what: the leads are with whom the record says");
	psql_is($node, "SELECT string_agg(DISTINCT p.name, ',') FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text AND a.ended_at IS NULL JOIN leadroute.pool p ON p.id = a.pool WHERE source = 'drops'", 'bin', "$what: and those for the bin are there");
	verify_ok($node, 0, "$what: verify()");
	ask('DELETE FROM leads; DELETE FROM leadroute.alert; DELETE FROM leadroute.sla_action');
	return;
}

# How long it takes when nobody disturbs it.
leads_due('undisturbed');
my $begun = Time::HiRes::time();
ask('CALL leadroute.sweep()');
my $duration = Time::HiRes::time() - $begun;
all_done('undisturbed');

for my $number (1 .. $kills)
{
	my $postmaster = $number % 2;
	my $what = "crash $number, of the " . ($postmaster ? 'server' : 'backend');
	leads_due($what);
	my ($sweep) = sessions($node, 1);
	my $pid = $sweep->pid;
	$sweep->send('CALL leadroute.sweep()');
	$sweep->push_input;
	Time::HiRes::sleep((0.1 + rand 0.9) * $duration);
	ok(crash($postmaster, $pid), "$what: killed");
	$sweep->wait;
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	my %before = map { $_ => done($_) } keys %all;
	is(join(', ', grep { $before{$_} =~ /TWICE/ } keys %all), '', "$what: nothing twice");
	my ($before) = $before{moves} =~ /episode breached! credited (\d+)/;
	figure(moved_before => $before // 0);
	ask('CALL leadroute.sweep()');
	all_done($what);
}

done_testing();
