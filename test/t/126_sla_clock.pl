# First touches by the clock: leads of many policies, calendars and zones, with times worked out by hand.
# The server's clock is moved to each moment that matters, in order of time: to when a lead comes, to
# twenty seconds before its touch is due, when no sweep may take it away, and to a second after, when the
# next one has to. What is due next, for the rep who has it then, is foretold, too.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Told;
use POSIX ();
use Test::More;
use Time::Local ();

my $node = start_node('main', clock => '2026-03-01 12:00:00', conf => "autovacuum = off\njit = off");
psql_ok($node, <<'SQL', 'calendars');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.calendar (name, timezone) VALUES
    ('office', NULL), ('Berlin', 'Europe/Berlin'), ('New York', 'America/New_York'), ('night', 'Europe/Berlin'), ('small hours', 'Europe/Berlin'), ('bar', NULL);
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes)
SELECT c, d, time '09:00', time '17:00' FROM unnest('{office,Berlin,New York}'::text[]) c, generate_series(1, 5) d
UNION ALL SELECT 'night', d, '22:00', '06:00' FROM generate_series(1, 7) d
UNION ALL SELECT 'small hours', d, '02:00', '03:00' FROM generate_series(1, 7) d
UNION ALL SELECT 'bar', d, '20:00', '02:00' FROM generate_series(5, 6) d;
INSERT INTO leadroute.calendar_holiday (calendar, day, name) VALUES
    ('Berlin', '2026-04-03', 'Good Friday'), ('Berlin', '2026-04-06', 'Easter Monday'), ('Berlin', '2026-12-25', 'Christmas Day'),
    ('Berlin', '2026-12-26', 'Boxing Day'), ('night', '2026-05-01', 'Labour Day'), ('New York', '2026-11-26', 'Thanksgiving');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Boss');
SQL
told_view($node);

# Each with a policy, a pool and two reps of its own: of this zone, then ! and their own calendar. A lead
# comes 5 seconds after `comes`; its touch is due at the minute `due`, exactly where no hours were open when
# it came; and `next` is due for the second rep, who gets it a second after that. All times are UTC.
#
# Berlin is UTC+1, from March 29 1:00 UTC to October 25 1:00 UTC UTC+2; New York UTC-5, from March 8 7:00
# UTC to November 1 6:00 UTC UTC-4. In 2026, March 6, May 1, July 10, October 23 and November 20 are Fridays.
my @cases = (
	# Friday 17:30 in New York; Monday 9:15 is 13:15 UTC since clocks have gone forward
	{ what => 'Friday evening, and summer time begins', calendar => 'New York', reps => [ 'UTC', 'UTC' ], touch => '15 min',
		comes => '2026-03-06 22:30', due => '2026-03-09 13:15', next => '2026-03-09 13:30', exactly => 1 },
	# Friday 16:50 in Berlin: ten minutes until 17:00, five from Monday 9:00, 7:00 UTC, on
	{ what => 'ten minutes before the weekend in which clocks go forward', calendar => 'Berlin', reps => [ 'UTC', 'UTC' ], touch => '15 min',
		comes => '2026-03-27 15:50', due => '2026-03-30 07:05', next => '2026-03-30 07:20' },
	# Saturday 23:30; until 6:00 it is 5:30 hours, since 2:00 to 3:00 is left out; 1:30 from 22:00 CEST, 20:00 UTC, on;
	# then 6:30 until 6:00 of Monday and half an hour from 22:00 on
	{ what => 'a night shift with an hour less', calendar => 'night', reps => [ 'UTC', 'UTC' ], touch => '7 hours',
		comes => '2026-03-28 22:30', due => '2026-03-29 21:30', next => '2026-03-30 20:30' },
	# Saturday 13:00; on Sunday there is no 2:00 to 3:00, on Monday it begins at 0:00 UTC
	{ what => 'hours that a day leaves out', calendar => 'small hours', reps => [ 'UTC', 'UTC' ], touch => '20 min',
		comes => '2026-03-28 12:00', due => '2026-03-30 00:20', next => '2026-03-30 00:40', exactly => 1 },
	# Thursday 18:00; Good Friday, weekend, Easter Monday; Tuesday 10:00
	{ what => 'holidays around a weekend', calendar => 'Berlin', reps => [ 'UTC', 'UTC' ], touch => '1 hour',
		comes => '2026-04-02 16:00', due => '2026-04-07 08:00', next => '2026-04-07 09:00', exactly => 1 },
	# Thursday 21:00; the night of the 30th goes on into the holiday, on which none begins: 8 hours, and one from
	# Saturday 22:00 on; then 7 hours until Sunday 6:00, and 2 from 22:00 on
	{ what => 'a night before a holiday', calendar => 'night', reps => [ 'UTC', 'UTC' ], touch => '9 hours',
		comes => '2026-04-30 19:00', due => '2026-05-02 21:00', next => '2026-05-03 22:00', exactly => 1 },
	# 8:00; six weeks of 5 days of 8 hours, May 4 to June 12; then six from June 15 on
	{ what => 'thirty working days', calendar => 'office', reps => [ 'UTC', 'UTC' ], touch => '240 hours',
		comes => '2026-05-04 08:00', due => '2026-06-12 17:00', next => '2026-07-24 17:00', exactly => 1 },
	# Wednesday 16:30 in India: half an hour, and half an hour from Thursday 9:00 on, whatever the policy's calendar says;
	# which counts for the second: in Berlin it is 6:00, and due at 10:00
	{ what => 'a rep in India, and a policy of Berlin', calendar => 'Berlin', reps => [ 'Asia/Kolkata!office', 'UTC' ], touch => '1 hour',
		comes => '2026-07-08 11:00', due => '2026-07-09 04:00', next => '2026-07-09 08:00' },
	# Friday 18:30 in India, Monday 9:15; in New York it is Sunday 23:45 then, and due on Monday 9:15 EDT
	{ what => 'reps in India and New York, by their own clocks', calendar => 'office', reps => [ 'Asia/Kolkata', 'America/New_York' ], touch => '15 min',
		comes => '2026-07-10 13:00', due => '2026-07-13 03:45', next => '2026-07-13 13:15', exactly => 1 },
	# Friday 19:30 in Berlin, 13:30 where the rep is: by the rep's calendar, in that one's zone, Monday 9:15
	{ what => 'an owner named by the app out of hours', calendar => 'office', reps => [ 'America/New_York!Berlin', 'UTC' ], touch => '15 min',
		comes => '2026-07-17 17:30', due => '2026-07-20 07:15', next => '2026-07-20 09:15', exactly => 1, manual => 1 },
	# Friday 16:50 in Berlin; Monday 9:05 is 8:05 UTC
	{ what => 'ten minutes before the weekend in which clocks go back', calendar => 'Berlin', reps => [ 'UTC', 'UTC' ], touch => '15 min',
		comes => '2026-10-23 14:50', due => '2026-10-26 08:05', next => '2026-10-26 08:20' },
	# Saturday 23:30; until 6:00 CET it is 7:30 hours: due at 5:30, 4:30 UTC; half an hour is left, and 6:30 from 21:00 UTC on
	{ what => 'a night shift with an hour more', calendar => 'night', reps => [ 'UTC', 'UTC' ], touch => '7 hours',
		comes => '2026-10-24 21:30', due => '2026-10-25 04:30', next => '2026-10-26 03:30' },
	# Saturday 14:00; on Sunday it is 2:00 to 3:00 from 0:00 to 2:00 UTC; 40 minutes are left, 40 follow on Monday from 1:00 UTC on
	{ what => 'hours that a day has twice', calendar => 'small hours', reps => [ 'UTC', 'UTC' ], touch => '80 min',
		comes => '2026-10-24 12:00', due => '2026-10-25 01:20', next => '2026-10-26 01:40', exactly => 1 },
	# a day is 24 hours
	{ what => 'all hours count, of a day of 25, too', calendar => undef, reps => [ 'Europe/Berlin', 'Europe/Berlin' ], touch => '1 day',
		comes => '2026-10-24 12:00', due => '2026-10-25 12:00', next => '2026-10-26 12:00' },
	# Friday 17:30 EDT; Monday 9:15 EST
	{ what => 'Friday evening, and summer time ends', calendar => 'New York', reps => [ 'UTC', 'UTC' ], touch => '15 min',
		comes => '2026-10-30 21:30', due => '2026-11-02 14:15', next => '2026-11-02 14:30', exactly => 1 },
	# 17 minutes before the office opens; due when it closes; for the second when it does on the next day
	{ what => 'due when the office closes', calendar => 'office', reps => [ 'UTC', 'UTC' ], touch => '8 hours',
		comes => '2026-11-18 08:43', due => '2026-11-18 17:00', next => '2026-11-19 17:00', exactly => 1 },
	# Friday 23:50, in one span until Saturday 2:00; an hour, and another; the second's is done at 1:50
	{ what => 'over midnight', calendar => 'bar', reps => [ 'UTC', 'UTC' ], touch => '1 hour',
		comes => '2026-11-20 23:50', due => '2026-11-21 00:50', next => '2026-11-21 01:50' },
	# Sunday 1:30, of the night that began on Saturday: half an hour, then nothing until Friday 20:00
	{ what => 'after midnight', calendar => 'bar', reps => [ 'UTC', 'UTC' ], touch => '1 hour',
		comes => '2026-11-22 01:30', due => '2026-11-27 20:30', next => '2026-11-27 21:30' },
	# Wednesday 16:30 EST: half an hour, Thanksgiving, 15 minutes of Friday
	{ what => 'a holiday in the week', calendar => 'New York', reps => [ 'UTC', 'UTC' ], touch => '45 min',
		comes => '2026-11-25 21:30', due => '2026-11-27 14:15', next => '2026-11-27 15:00' },
	# Thursday 16:50; Christmas, Boxing Day and Sunday; Monday 9:20
	{ what => 'Christmas', calendar => 'Berlin', reps => [ 'UTC', 'UTC' ], touch => '30 min',
		comes => '2026-12-24 15:50', due => '2026-12-28 08:20', next => '2026-12-28 08:50' },
	# Thursday 23:00 of the old year until 7:00 of the new
	{ what => 'over the end of the year', calendar => undef, reps => [ 'UTC', 'UTC' ], touch => '8 hours',
		comes => '2026-12-31 23:00', due => '2027-01-01 07:00', next => '2027-01-01 15:00' });

# Neither the zone of the session that inserts nor that of the one that sweeps has to do with it.
my ($app, $sweeper) = sessions($node, 2);
$app->query("SET timezone = 'Pacific/Auckland'");
$sweeper->query("SET timezone = 'America/Los_Angeles'");

sub ask { return $node->safe_psql('postgres', $_[0]) }
sub literal { return defined $_[0] ? "'$_[0]'" : 'NULL' }

for my $number (1 .. @cases)
{
	my $case = $cases[ $number - 1 ];
	$case->{name} = "case $number";
	$case->{rep} = [ map { $number * 10 + $_ } 1, 2 ];
	my $reps = join ', ', map
		{
			my ($zone, $calendar) = split /!/, $case->{reps}[$_];
			sprintf '(%d, \'Rep\', 1, \'%s\', %s)', $case->{rep}[$_], $zone, literal($calendar)
		} 0, 1;
	my $business = defined $case->{calendar} ? 'true' : 'false';
	my $calendar = literal($case->{calendar});
	my $manual = $case->{manual} ? 'true' : 'false';
	ask(<<"SQL");
INSERT INTO leadroute.rep (id, name, manager, timezone, calendar) VALUES $reps;
INSERT INTO leadroute.sla_policy (name, first_touch, business_time, calendar, moves_manual) VALUES ('$case->{name}', '$case->{touch}', $business, $calendar, $manual);
INSERT INTO leadroute.pool (name) VALUES ('$case->{name}');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('$case->{name}', $case->{rep}[0]), ('$case->{name}', $case->{rep}[1]);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, sla) VALUES ('leads', $number, '$case->{name}', 'source = ''$case->{name}''', '$case->{name}', '$case->{name}');
UPDATE leadroute.rep SET sla = '$case->{name}' WHERE id = $case->{rep}[0] AND $manual;
SQL
}

# ---- the agenda ------------------------------------------------------------------------------------

my @agenda;

sub seconds
{
	my ($y, $mo, $d, $h, $mi) = $_[0] =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+)/ or die "cannot read '$_[0]'";
	return Time::Local::timegm(0, $mi, $h, $d, $mo - 1, $y);
}

sub at
{
	my ($moment, $what, $case) = @_;
	@agenda = sort { $a->[0] <=> $b->[0] } @agenda, [ $moment, $what, $case ];
	return;
}

sub set_clock { $node->set_clock(POSIX::strftime('%Y-%m-%d %H:%M:%S', gmtime $_[0])); return }

# An episode of the case's lead: rep, when it is due, to the minute, the seconds after that, how it ended.
sub episode
{
	my ($case, $number) = @_;
	return split /\|/, ask(<<"SQL"), -1;
SELECT rep, to_char(due_at, 'YYYY-MM-DD HH24:MI'), date_part('second', due_at), coalesce(end_reason, 'open'), date_part('epoch', due_at),
    date_part('epoch', ended_at - due_at) BETWEEN 0 AND 30
FROM leadroute.assignment WHERE lead_id = '$case->{lead}' AND episode = $number
SQL
}

sub lead_comes
{
	my ($case) = @_;
	my $owner = $case->{manual} ? $case->{rep}[0] : 'NULL';
	$case->{lead} = $app->query("INSERT INTO leads (source, owner_id) VALUES ('$case->{name}', $owner) RETURNING id");
	my ($rep, $due, $second, undef, $moment) = episode($case, 1);
	is("$rep: $due", "$case->{rep}[0]: $case->{due}", "$case->{what}: when it is due");
	cmp_ok($second, $case->{exactly} ? '==' : '>=', $case->{exactly} ? 0 : 5, "$case->{what}: to the second") or diag($second);
	at($moment - 20, \&too_early, $case);
	at($moment + 1, \&missed, $case);
	return;
}

sub too_early
{
	my ($case) = @_;
	$sweeper->query('CALL leadroute.sweep()');
	is((episode($case, 1))[3], 'open', "$case->{what}: not before");
	return;
}

sub missed
{
	my ($case) = @_;
	$sweeper->query('CALL leadroute.sweep()');
	is(join(' ', $sweeper->errors), '', "$case->{what}: the sweep after");
	is(join(' ', (episode($case, 1))[ 3, 5 ]), 'breached t', "$case->{what}: then it is taken away");
	is(join(': ', (episode($case, 2))[ 0, 1 ]), "$case->{rep}[1]: $case->{next}", "$case->{what}: for whom it is due when");
	$app->query("SELECT leadroute.touch('leads', $case->{lead}, 'call')");
	return;
}

at(seconds($_->{comes}) + 5, \&lead_comes, $_) for @cases;
while (my $next = shift @agenda)
{
	my ($moment, $what, $case) = @$next;
	set_clock($moment);
	$what->($case);
}

# ---- and nothing else ------------------------------------------------------------------------------

my $everything = q{SELECT string_agg(format('%s %s', kind, n), ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM told GROUP BY kind
	UNION ALL SELECT kind, count(*) FROM leadroute.alert WHERE kind <> 'sweep_late' GROUP BY kind
	UNION ALL SELECT 'episodes', count(*) FROM leadroute.assignment) x};
my $expected = join ', ', 'breached ' . @cases, 'episodes ' . 2 * @cases, 'sla_breach ' . @cases;
psql_is($node, $everything, $expected, 'each was missed once, and its manager told once');
$node->set_clock('2026-11-01 12:00:00');
$sweeper->query('CALL leadroute.sweep()');
$node->set_clock('2027-06-01 12:00:00');
$sweeper->query('CALL leadroute.sweep()');
psql_is($node, $everything, $expected, 'nor twice, with the clock set back, and months later');
verify_ok($node);
done_testing();
