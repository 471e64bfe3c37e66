# Listeners and a load, a third of it rolled back: each listener hears every committed event, once,
# and no other; the payloads keep to the limit; one that was away catches up with events_since() on
# exactly what it missed.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Listener;
use Test::More;

seed();
my $listeners = soak(5, 20);
my $clients = soak(8, 32);
my $leads = soak(3000, 50000);

my $node = start_node('main', conf => "jit = off\nmax_connections = 120");
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, manager) SELECT i, 'Rep ' || i, NULLIF(9, i) FROM generate_series(9, 1, -1) i;
INSERT INTO leadroute.pool (name) VALUES ('p');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'p', i FROM generate_series(1, 8) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'x', $$source <> 'none'$$, 'p');
UPDATE leadroute.lead_table SET manager = 9;
SQL

my @listener = map { LeadrouteTest::Listener->new($node, 'leadroute', 'leadroute_rep_1', 'leadroute_manager_9') } 1 .. $listeners;
my $away = LeadrouteTest::Listener->new($node, 'leadroute');
my $cursor = $node->safe_psql('postgres', 'SELECT leadroute.event_cursor()');

# On average a client's transaction inserts 1.9 leads, a third of which is rolled back.
sub load
{
	my ($first, $amount) = @_;
	my $transactions = int($amount / 1.9 / $clients) + 1;
	my $load = LeadrouteTest::Clients->new($node, slots => $clients,
		scripts => [ map { load_script(number => $_, transactions => $transactions, sources => [ ('x') x 9, 'none' ]) } $first .. $first + $clients - 1 ]);
	$load->finish(sub { $_->hear for @listener });
	return $load;
}

sub differences
{
	my ($got, $wanted) = @_;
	my $missed = grep { !$got->{$_} } keys %$wanted;
	my $foreign = grep { !$wanted->{$_} } keys %$got;
	my $twice = grep { $_ > 1 } values %$got;
	return "missed $missed, foreign $foreign, twice $twice";
}

sub sent_all
{
	my ($amount) = @_;
	return $node->poll_query_until('postgres', "SELECT value >= $amount FROM leadroute.stat WHERE name = 'events_sent'");
}

sub lead_events { return grep { $_->{event} =~ /^(assigned|waiting)$/ } @_ }

my $first = load(0, $leads / 2);
my %acknowledged = map { $_ => 1 } $first->acknowledged;
my $before_leaving = events_since_ids($node, $cursor);
ok(sent_all(scalar keys %$before_leaving), 'all is sent');
$away->hear;
my $at_leaving = $node->safe_psql('postgres', 'SELECT leadroute.event_cursor()');
$away->close;

my $second = load(1000, $leads / 2);
$acknowledged{$_} = 1 for $second->acknowledged;
my @refused = ($first->refused, $second->refused);
cmp_ok(scalar @refused, '>', 0.2 * keys %acknowledged, 'a good part was rolled back');
is(keys %acknowledged, $node->safe_psql('postgres', 'SELECT count(*) FROM leads'), 'all that was acknowledged is there');
my $all = events_since_ids($node, $cursor);
ok(sent_all(scalar keys %$all), 'all is sent');
figure(leads => scalar keys %acknowledged, rolled_back => scalar @refused, events => scalar keys %$all);

for my $i (0 .. $#listener)
{
	my $l = $listener[$i];
	$l->heard(sub { (grep { $_->{channel} eq 'leadroute' } @_) >= keys %$all }, 30);
	my @all = $l->channel('leadroute');
	my %heard;
	$heard{ $_->{id} }++ for @all;
	is(differences(\%heard, $all), 'missed 0, foreign 0, twice 0', "listener $i heard every event once and no other");
	my %leads;
	$leads{ $_->{lead_id} }++ for lead_events(@all);
	is(differences(\%leads, \%acknowledged), 'missed 0, foreign 0, twice 0', "listener $i: one for each acknowledged lead");
	cmp_ok($l->largest, '<=', 7999, "listener $i: no payload is too long");
}

my $l = $listener[0];
my @of_rep = sort map { $_->{id} } grep { ($_->{rep} // 0) == 1 } lead_events($l->channel('leadroute'));
is_deeply([ sort map { $_->{id} } $l->channel('leadroute_rep_1') ], \@of_rep, 'the rep\'s channel has its events and no other');
my @of_manager = $l->channel('leadroute_manager_9');
ok(@of_manager > 0 && !grep({ $_->{event} ne 'unmatched' } @of_manager), 'the manager\'s channel has the alerts');
is(join(' ', sort keys %{ ($l->channel('leadroute'))[0] }),
	'at channel due_at event id lead_id lead_table pool rep rule tenant', 'an event is what it should be');

# who was away
my $missed = events_since_ids($node, $at_leaving);
my %caught_up = (%{ $away->ids }, %$missed);
is(differences(\%caught_up, $all), 'missed 0, foreign 0, twice 0', 'who was away catches up on all');
is((grep { $away->ids->{$_} } keys %$missed), 0, 'and on nothing that was heard before');
cmp_ok(scalar keys %$missed, '>', $leads / 8, 'which was a lot');

# the same in SQL and on the channel
my ($sample) = lead_events($l->channel('leadroute'));
my $same = $node->safe_psql('postgres', "SELECT event FROM leadroute.events_since() WHERE event ->> 'id' = '$sample->{id}'");
is_deeply({ %{ JSON::PP->new->decode($same) }, channel => 'leadroute' }, $sample, 'events_since() gives the very same event');

verify_ok($node, 0);
done_testing();
