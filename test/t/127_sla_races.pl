# sweep() against everything that may be done to a lead at the moment its touch is due: a touch, a close,
# reassign(), an UPDATE of the owner, DELETE, claim() out of the shark tank, and other sweeps. Four sweeps
# and twelve people begin at once, two people at the same leads. Whoever comes second finds the clock
# stopped, or the lead with its next rep: each lead has one of the stories that its kind allows, what is
# told of it and alerted agrees with the record to the last event, and who was told that a lead is his has it.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Listener;
use LeadrouteTest::Told;
use List::Util qw(shuffle);
use Test::More;

seed();
my $rounds = soak(3, 200);
my $each = 8; # leads of a kind

my $node = start_node('main', conf => "max_connections = 60\njit = off\nautovacuum_naptime = 5s");
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(<<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (9, 'Boss');
INSERT INTO leadroute.rep (id, name, manager) SELECT i, 'Rep ' || i, 9 FROM generate_series(1, 8) i;
INSERT INTO leadroute.sla_policy (name, first_touch, on_breach, digest_over) VALUES
    ('short', '200 milliseconds', 'reroute', 1000), ('tank', '100 milliseconds', 'shark_tank', 1000), ('long', '1 hour', 'reroute', 1000);
-- who takes a lead out of the tank works on it; where nobody does, it goes to pool "second", whose policy is "long"
INSERT INTO leadroute.pool (name, sla) VALUES ('first', NULL), ('second', 'long');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'first', i FROM generate_series(1, 6) i UNION ALL SELECT 'second', i FROM generate_series(7, 8) i;
INSERT INTO leadroute.sla_step (policy, after, action, pool) VALUES ('tank', '500 milliseconds', 'reroute', 'second');
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, sla) VALUES
    ('leads', 1, 'claim', 'source = ''claim''', 'first', 'tank'), ('leads', 2, 'else', 'true', 'first', 'short');
CREATE FUNCTION wait_for_due() RETURNS void LANGUAGE sql AS
    $$ SELECT pg_sleep(greatest(0, date_part('epoch', max(next_step_at) - clock_timestamp()))) FROM leadroute.assignment WHERE ended_at IS NULL AND next_step_at < now() + interval '1 minute' $$;
SQL
told_view($node);

# What a person does to a lead, and the stories that it may have then: its episodes, how each ended, !: its
# touch was missed, *: it was touched. With the clock stopped it has no !, and what has one is taken away.
my %kinds = (
	touch => [ sub { "SELECT leadroute.touch('leads', $_[0], 'call')" }, qr/^(breached! )?open\*$/ ],
	close => [ sub { "SELECT leadroute.close('leads', $_[0], 'won')" }, qr/^(breached! )?closed$/ ],
	reassign => [ sub { "SELECT rep FROM leadroute.reassign('leads', $_[0], $_[1])" }, qr/^(breached! open|(breached! )?(reassigned )+open)$/ ],
	update => [ sub { "UPDATE leads SET owner_id = $_[1] WHERE id = $_[0]" }, qr/^(breached! open|(breached! )?(manual )+open)$/ ],
	delete => [ sub { "DELETE FROM leads WHERE id = $_[0]" }, qr/^(breached! )?deleted$/ ],
	claim => [ sub { "SELECT 'claimed', c.lead_id, c.rep, leadroute.touch('leads', c.lead_id, 'call') FROM leadroute.claim('leads', $_[0], $_[1]) c" },
		qr/^(claimed! open\*|breached! open)$/ ],
	none => [ undef, qr/^breached! open$/ ]);
my @acts = sort grep { defined $kinds{$_}[0] } keys %kinds;

# LR007: no such lead, or closed; LR009: the rep has it already, or another has claimed it; LR010: it is not, or no
# longer, in the tank, or the rep's own.
my %expected = map { $_ => 1 } qw(LR007 LR009 LR010);

my ($gate) = sessions($node, 1);
my @sweeps = sessions($node, 4);
my @people = sessions($node, 2 * @acts);
my $listener = LeadrouteTest::Listener->new($node, 'leadroute');
my $begin = 'SELECT pg_advisory_lock_shared(1); SELECT pg_advisory_unlock_shared(1)';
my %seen;

# What each of the leads went through; what became of it: owner, who has it by the record.
sub stories
{
	my ($ids) = @_;
	my %story;
	for (split /\n/, ask(<<"SQL"))
SELECT a.lead_id, string_agg(concat(coalesce(end_reason, 'open'), CASE WHEN breached_at IS NOT NULL THEN '!' END, CASE WHEN touched_at IS NOT NULL THEN '*' END), ' ' ORDER BY episode),
    count(breached_at), count(*) FILTER (WHERE method = 'reroute'), coalesce(max(rep) FILTER (WHERE method = 'claim'), 0),
    coalesce(max(l.owner_id), 0), coalesce(max(rep) FILTER (WHERE ended_at IS NULL), 0), count(*) FILTER (WHERE ended_at IS NULL)
FROM leadroute.assignment a LEFT JOIN leads l ON l.id::text = a.lead_id WHERE a.lead_id IN ($ids) GROUP BY a.lead_id
SQL
	{
		my ($id, @of) = split /\|/;
		@{ $story{$id} }{qw(story breached rerouted claimer owner rep open)} = @of;
	}
	return %story;
}

sub counts
{
	my ($sql) = @_;
	return map { split /\|/ } split /\n/, ask($sql);
}

sub run_round
{
	my ($round) = @_;
	my $others = join ',', grep { $_ ne 'claim' } sort keys %kinds;
	# those to be claimed first, into the tank, which leaves the others alone; who has one next has an hour
	my %kind = map { reverse split /\|/ } grep { /\|/ } split /\n/, ask(<<"SQL");
INSERT INTO leads (source) SELECT 'claim' FROM generate_series(1, $each) RETURNING source, id;
SELECT pg_sleep(0.11);
CALL leadroute.sweep();
UPDATE leadroute.sla_policy SET first_touch = '200 milliseconds' WHERE name = 'short';
INSERT INTO leads (source) SELECT k FROM generate_series(1, $each), unnest('{$others}'::text[]) k RETURNING source, id;
UPDATE leadroute.sla_policy SET first_touch = '1 hour' WHERE name = 'short';
SELECT wait_for_due();
SQL
	my %leads;
	push @{ $leads{ $kind{$_} } }, $_ for keys %kind;

	$gate->query('SELECT pg_advisory_lock(1)');
	# a few leads at a time, or there is nothing left to race for
	my $bits = 'SELECT pg_sleep(random() * 0.04); CALL leadroute.sweep(max_rows => 3); ' x 6;
	$_->send("$begin; $bits CALL leadroute.sweep(); CALL leadroute.sweep()") for @sweeps;
	for my $person (0 .. $#people)
	{
		my $kind = $acts[ $person / 2 ];
		# the two are not the same rep, and mostly not the one who has it
		my $rep = 1 + (int(rand 3) * 2 + $person % 2);
		$people[$person]->send(join '; ', $begin, map { ("SELECT pg_sleep(random() * 0.03)", $kinds{$kind}[0]->($_, $rep)) } shuffle @{ $leads{$kind} });
	}
	wait_running($node, $_) for @sweeps, @people;
	$gate->query('SELECT pg_advisory_unlock(1)');
	my %winner;
	for my $person (@people)
	{
		my $answer = $person->wait;
		push @{ $winner{$1} }, $2 while $answer =~ /^claimed\|(\d+)\|(\d+)/mg;
	}
	wait_all(@sweeps);
	is(join(' ', grep { !$expected{$_} } map { $_->errors } @sweeps, @people), '', "round $round: no error but what the callers may be told");
	# what was locked whenever a sweep came by
	ask('CALL leadroute.sweep()');

	my $ids = join ', ', map { "'$_'" } sort { $a <=> $b } keys %kind;
	my %story = stories($ids);
	my @odd;
	for my $id (sort { $a <=> $b } keys %kind)
	{
		my $of = $story{$id};
		$seen{"$kind{$id}: $of->{story}"}++;
		push @odd, "lead $id, $kind{$id}: $of->{story}" unless $of->{story} =~ $kinds{ $kind{$id} }[1] && $of->{open} <= 1;
		push @odd, "lead $id, $kind{$id}: owner $of->{owner}, record $of->{rep}" if $of->{open} && $of->{owner} != $of->{rep};
		push @odd, "lead $id: claimed by $of->{claimer}, told " . join ', ', @{ $winner{$id} // [] } if join(',', @{ $winner{$id} // [0] }) ne $of->{claimer};
	}
	is(join("\n", @odd), '', "round $round: each lead has one story");

	# sla_action is silent about what came into the tank, which tells it
	my %action = counts("SELECT lead_id, count(*) FROM told WHERE kind = 'breached' AND lead_id IN ($ids) GROUP BY 1");
	my %alert = counts("SELECT lead_id, count(*) FROM leadroute.alert WHERE kind = 'sla_breach' AND lead_id IN ($ids) GROUP BY 1");
	is_deeply([ grep { ($action{$_} // 0) != ($kind{$_} eq 'claim' ? 0 : $story{$_}{breached}) || ($alert{$_} // 0) != $story{$_}{breached} } keys %kind ], [],
		"round $round: one breach and one alert for each that was missed");
	my (%want, %heard);
	for (keys %kind)
	{
		$want{"$_ breached"} = $story{$_}{breached} if $story{$_}{breached};
		$want{"$_ rerouted"} = $story{$_}{rerouted} if $story{$_}{rerouted};
	}
	my $total = 0;
	$total += $_ for values %want;
	$listener->heard(sub { $total <= grep { $_->{event} =~ /^(breached|rerouted)$/ } @_ }, 20);
	$heard{"$_->{lead_id} $_->{event}"}++ for grep { $_->{event} =~ /^(breached|rerouted)$/ } $listener->hear;
	is_deeply(\%heard, \%want, "round $round: listeners hear each once");
	$listener->forget;
	verify_ok($node, 0, "round $round: verify()");
	ask('DELETE FROM leads; DELETE FROM leadroute.alert; DELETE FROM leadroute.sla_action') if $round % 10 == 0;
	return;
}

run_round($_) for 1 .. $rounds;
# What there was to race for.
figure(map { s/ /_/gr =~ s/:_/: /r => $seen{$_} } keys %seen);
is(join(' ', grep { my $kind = $_; !grep { /^$kind:/ } keys %seen } keys %kinds), '', 'each kind was there');
my @raced = grep { !/^(none|claim)/ } keys %seen;
ok((grep { /breached!/ } @raced) && (grep { !/breached!/ } @raced), 'sweeps were first, and people were');
done_testing();
