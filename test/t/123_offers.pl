# Offers: each member who may take a lead hears of it at once, on a channel of his own, and so does
# events_since(); when their time is over the worker gives the leads out, or sweep(); against claims at
# the same moment exactly one has each lead.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Listener;
use LeadrouteTest::Session;
use Test::More;
use Time::HiRes ();

seed();
my $leads = soak(200, 3000);

my $node = start_node('main', conf => "jit = off\nmax_connections = 60\nleadroute.backlog = on");
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, skills) SELECT i, 'Rep ' || i, CASE WHEN i = 2 THEN '{"big": 1}' ELSE '{}' END::jsonb FROM generate_series(1, 8) i;
INSERT INTO leadroute.pool (name, mode, offer_window) VALUES ('floor', 'broadcast', NULL), ('brief', 'broadcast', '2 seconds'), ('long', 'broadcast', '1 hour');
INSERT INTO leadroute.pool_member (pool, rep) SELECT p, i FROM generate_series(1, 3) i, unnest('{floor,brief,long}'::text[]) p;
INSERT INTO leadroute.rule (lead_table, position, name, condition, needs, pool) VALUES
    ('leads', 1, 'brief', $$source = 'brief'$$, NULL, 'brief'), ('leads', 2, 'long', $$source = 'long'$$, NULL, 'long'),
    ('leads', 3, 'floor', 'true', $$CASE WHEN deal_value > 0 THEN ARRAY['big'] END$$, 'floor');
SQL
my $listener = LeadrouteTest::Listener->new($node, 'leadroute', map { "leadroute_rep_$_" } 1 .. 3);
my $cursor = $node->safe_psql('postgres', 'SELECT leadroute.event_cursor()');

sub offers { return grep { $_->{event} eq 'offered' } @_ }
sub told { return join ' ', sort map { ($_->{channel} =~ s/^leadroute_?//r) . ":$_->{lead_id}:$_->{rep}:$_->{pool}" } @_ }
sub pending { return $node->poll_query_until('postgres', "SELECT value = 0 FROM leadroute.stat WHERE name = 'events_pending'") }

# who hears ---------------------------------------------------------------------------------------

$node->safe_psql('postgres', 'INSERT INTO leads (id, deal_value) VALUES (1, 0)');
ok($listener->heard(sub { offers(@_) >= 6 }), 'a lead is offered');
is(told(offers($listener->hear)), join(' ', sort map { (":1:$_:floor", "rep_$_:1:$_:floor") } 1 .. 3),
	'each member hears of it on his channel, all on the common one');
is(scalar(keys %{ $listener->ids }), 3, 'the offers to each have an id of their own');
$node->safe_psql('postgres', 'INSERT INTO leads (id, deal_value) VALUES (2, 5)');
ok($listener->heard(sub { offers(@_) >= 8 }), 'one that needs a skill');
is(told(grep { $_->{lead_id} == 2 } $listener->hear), ':2:2:floor rep_2:2:2:floor', 'is offered to who has it');
is_deeply(events_since_ids($node, $cursor), { map { $_ => 1 } keys %{ $listener->ids } }, 'events_since() has the same, once each');

# transactions that keep some and drop some
$listener->forget;
$cursor = $node->safe_psql('postgres', 'SELECT leadroute.event_cursor()');
$node->safe_psql('postgres', <<'SQL');
BEGIN;
INSERT INTO leads (id) VALUES (10);
SAVEPOINT s;
INSERT INTO leads (id) VALUES (11);
ROLLBACK TO s;
INSERT INTO leads (id) VALUES (12);
COMMIT;
BEGIN;
INSERT INTO leads (id) VALUES (13);
ROLLBACK;
SQL
ok($listener->heard(sub { offers(@_) >= 12 }), 'what is committed');
ok(pending(), 'nothing is thought to be on its way');
is(join(' ', sort { $a <=> $b } map { $_->{lead_id} } $listener->channel('leadroute')), '10 10 10 12 12 12', 'and nothing else is heard');

# more than is gathered: derived from the record
$node->safe_psql('postgres', 'INSERT INTO leads (id, deal_value) SELECT i, 0 FROM generate_series(1001, 3000) i');
ok($listener->heard(sub { $listener->channel('leadroute') >= 6006 }), 'a load of 2,000 leads at once');
ok(pending(), 'all of it is sent');
my @twice = grep { $_ > 2 } values %{ $listener->ids };
is(scalar(@twice), 0, 'each once, on its two channels');
is_deeply([ sort keys %{ events_since_ids($node, $cursor) } ], [ sort keys %{ $listener->ids } ], 'events_since() has the same');
$node->safe_psql('postgres', 'DELETE FROM leads WHERE id > 1000');

# who has claimed it is told, and the others have lost it
$listener->forget;
$node->safe_psql('postgres', "SELECT leadroute.claim('leads', 1, 2)");
ok($listener->heard(sub { grep { $_->{event} eq 'claimed' } @_ }), 'a claim');
is(told(grep { $_->{event} eq 'claimed' } $listener->hear), ':1:2:floor rep_2:1:2:floor', 'is heard of');
sqlstate_is($node, "SELECT leadroute.claim('leads', 1, 3)", 'LR009', 'who comes later');

# the end -----------------------------------------------------------------------------------------

$listener->forget;
my $start = Time::HiRes::time();
$node->safe_psql('postgres', "INSERT INTO leads (id, source) VALUES (20, 'brief'), (21, 'long')");
ok($listener->heard(sub { grep { $_->{event} eq 'assigned' } @_ }, 20), 'the worker gives a lead out whose offer is over');
my $took = Time::HiRes::time() - $start;
cmp_ok($took, '>=', 1.9, 'not before');
cmp_ok($took, '<', 6, 'and soon');
psql_is($node, "SELECT string_agg(format('%s:%s', lead_id, status), ' ' ORDER BY lead_id) FROM leadroute.open_assignment WHERE lead_id IN ('20', '21')", '20:assigned 21:offered', 'another offer stands');

# without the worker
$node->safe_psql('postgres', "ALTER SYSTEM SET leadroute.backlog = off; SELECT pg_reload_conf()");
$node->safe_psql('postgres', "INSERT INTO leads (id, source) VALUES (22, 'brief')");
Time::HiRes::sleep(2.5);
psql_is($node, "SELECT status FROM leadroute.open_assignment WHERE lead_id = '22'", 'offered', 'without the worker it stands');
$node->safe_psql('postgres', 'CALL leadroute.sweep()');
psql_is($node, "SELECT status FROM leadroute.open_assignment WHERE lead_id = '22'", 'assigned', 'until sweep()');

# a lead that somebody has locked is left to the next walk
$node->safe_psql('postgres', "INSERT INTO leads (id, source) VALUES (23, 'brief')");
my $holder = LeadrouteTest::Session->new($node);
$holder->query('BEGIN');
$holder->query('SELECT FROM leads WHERE id = 23 FOR UPDATE');
Time::HiRes::sleep(2.1);
$node->safe_psql('postgres', 'CALL leadroute.sweep()');
psql_is($node, "SELECT status FROM leadroute.open_assignment WHERE lead_id = '23'", 'offered', 'sweep() does not wait for a lead');
$holder->query('COMMIT');
$node->safe_psql('postgres', 'CALL leadroute.sweep()');
psql_is($node, "SELECT status FROM leadroute.open_assignment WHERE lead_id = '23'", 'assigned', 'the next one has it');

# offers that a restart finds
$node->safe_psql('postgres', "INSERT INTO leads (id, source) VALUES (24, 'brief'); ALTER SYSTEM SET leadroute.backlog = on");
$node->restart;
Time::HiRes::sleep(2);
$node->safe_psql('postgres', "INSERT INTO leads (id, source) VALUES (25, 'long')");
wait_until($node, "SELECT status = 'assigned' FROM leadroute.open_assignment WHERE lead_id = '24'", 'an offer from before a restart');

# claims, the worker and sweep() at the same moment -----------------------------------------------

for my $round (1 .. 3)
{
	my $first = $round * 10000;
	$node->safe_psql('postgres', "INSERT INTO leads (id, source) SELECT i, 'brief' FROM generate_series($first, $first + $leads - 1) i");
	Time::HiRes::sleep(1.85);
	my @scripts;
	for my $rep (1 .. 3)
	{
		for my $client (1 .. 2)
		{
			my @ids = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand, $_ ] } $first .. $first + $leads - 1;
			push @scripts, { kept => [], refused => [], sql => join "\n", map { "SELECT leadroute.claim('leads', $_, $rep);" } @ids };
		}
	}
	push @scripts, { kept => [], refused => [], sql => "CALL leadroute.sweep();\nSELECT pg_sleep(0.05);\n" x 20 };
	my $load = LeadrouteTest::Clients->new($node, slots => scalar @scripts, scripts => \@scripts);
	$load->finish;
	is(join(' ', $load->unexpected('LR009', 'LR010')), '', 'no errors but of those who come too late');
	wait_until($node, "SELECT count(*) = 0 FROM leadroute.open_assignment WHERE lead_id::bigint BETWEEN $first AND $first + $leads AND rep IS NULL", 'all have an owner');
	psql_is($node, "SELECT count(*) FROM leadroute.assignment a JOIN leads l ON l.id::text = a.lead_id WHERE a.ended_at IS NULL AND a.rep IS DISTINCT FROM l.owner_id", 0, 'the one that the record names');
	psql_is($node, "SELECT count(*) FROM (SELECT FROM leadroute.assignment WHERE rep IS NOT NULL AND lead_id::bigint >= $first GROUP BY lead_id HAVING count(*) > 1) x", 0, 'none was ever given twice');
	figure("round $round", $node->safe_psql('postgres', "SELECT string_agg(method || ' ' || many, ', ') FROM (SELECT method, count(*) AS many FROM leadroute.open_assignment WHERE lead_id::bigint >= $first GROUP BY 1) x"));
}
verify_ok($node);
done_testing();
