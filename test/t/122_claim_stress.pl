# Claims under 8 and under 32 sessions that race for the same leads and the same reps: claim(), claim_next(),
# release, reassign, close, DELETE, UPDATEs and sweep(), with rollbacks, savepoints, prepared transactions,
# cancelled and terminated backends. Each round is a tenant of its own, with its own leads, reps and caps:
#   1  all at once and disturbed; nobody is ever seen beyond an allowance
#   2  undisturbed, until nobody may take more: each rep then has exactly what is allowed, and what was
#      acknowledged is what the record says, each lead once
#   3  reps without allowances take the rest: nothing is left
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $rounds = soak(1, 50);
my $reps = 16;
# of a claim, and what follows one that was refused in a transaction to be prepared
my @refusals = qw(LR007 LR009 LR010 LR011 42704);
my $node = start_node('main', conf => "jit = off\nleadroute.backlog = off\nmax_connections = 60\nmax_prepared_transactions = 40");
my $zone = noon_zone();
my ($looker) = sessions($node, 1);

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE leads (tenant bigint, id bigint, kind text, score int DEFAULT random() * 10, owner_id bigint, PRIMARY KEY (tenant, id));
SELECT leadroute.attach('leads', tenant_column => 'tenant');
UPDATE leadroute.lead_table SET score_column = 'score';

-- What each rep may claim of a pool: in all, today being the only day, and at once.
CREATE VIEW allowance AS
    SELECT m.tenant, m.rep, m.pool, p.id AS pool_id,
        least(coalesce(m.claim_daily, p.claim_daily), m.daily_cap, r.daily_cap,
            CASE WHEN coalesce(m.claim_delay, p.claim_delay) IS NOT NULL THEN 1 END) AS per_day,
        least(coalesce(m.claim_open, p.claim_open), r.open_cap) AS at_once
    FROM leadroute.pool_member m JOIN leadroute.pool p ON p.tenant = m.tenant AND p.name = m.pool
        JOIN leadroute.rep r ON r.tenant = m.tenant AND r.id = m.rep
    WHERE p.mode <> 'push';

CREATE VIEW claimed AS
    SELECT w.tenant, w.rep, w.pool, w.per_day, w.at_once, count(a.lead_id) AS claims, count(a.lead_id) FILTER (WHERE a.ended_at IS NULL) AS open
    FROM allowance w LEFT JOIN leadroute.assignment a ON a.tenant = w.tenant AND a.rep = w.rep AND a.pool = w.pool_id AND a.method = 'claim'
    GROUP BY w.tenant, w.rep, w.pool, w.per_day, w.at_once;

CREATE FUNCTION beyond(of_tenant bigint) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('rep %s has claimed %s of %s (%s open of %s) in %s', c.rep, c.claims, c.per_day, c.open, c.at_once, c.pool)
    FROM claimed c WHERE c.tenant = of_tenant AND (c.claims > c.per_day OR c.open > c.at_once)
UNION ALL
    SELECT format('lead %s, owner %s, has an open record of %s', l.id, l.owner_id, a.rep)
    FROM leads l JOIN leadroute.assignment a ON a.tenant = l.tenant AND a.lead_id = l.id::text
    WHERE l.tenant = of_tenant AND a.ended_at IS NULL AND a.rep IS DISTINCT FROM l.owner_id
$$;

-- Takes for these reps one after the other until nobody gets more.
CREATE PROCEDURE take_the_rest(of_tenant bigint, reps bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    got boolean;
    r bigint;
BEGIN
    LOOP
        got := false;
        FOREACH r IN ARRAY reps LOOP
            BEGIN
                got := got OR EXISTS (SELECT FROM leadroute.claim_next(r, tenant => of_tenant));
            EXCEPTION WHEN SQLSTATE 'LR011' THEN
                NULL;
            END;
        END LOOP;
        EXIT WHEN NOT got;
        COMMIT;
    END LOOP;
END $$;
SQL

my $tenant = 100;
for my $round (1 .. $rounds)
{
	for my $sessions (8, 32)
	{
		$tenant++;
		subtest "$sessions sessions, round $round" => sub { race($sessions, $round == 1 ? soak(600, 5000) : 1000) };
	}
}
done_testing();

sub race
{
	my ($sessions, $leads) = @_;
	set_up($leads);

	my @scripts = map { chaos($_, $leads) } 1 .. $sessions;
	my $load = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => \@scripts);
	my $times = 0;
	my @seen;
	$load->finish(sub {
		$load->disturb($looker, $times++ % 3 == 0);
		push @seen, $looker->query("SELECT * FROM beyond($tenant)");
	});
	settle_prepared();
	is(join("\n", grep { length } @seen), '', 'nobody is seen beyond an allowance');
	is(join(' ', $load->unexpected(@refusals)), '', 'no errors that nobody asked for') or say_errors($load, @refusals);
	right('after the disturbed load');
	my ($claims) = claims();

	my $quiet = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => [ map { take($_, [ 1 .. $reps ], 3 * $leads) } 1 .. $sessions ]);
	$quiet->finish;
	acknowledged($quiet, $claims);
	$looker->query("CALL take_the_rest($tenant, ARRAY(SELECT generate_series(1, $reps)))");
	psql_is($node, "SELECT count(*) > 0 FROM leadroute.queue WHERE tenant = $tenant AND queue = 'pull'", 't', 'there is more than anybody may take');
	exact();
	right('when each has what is allowed');

	$node->safe_psql('postgres', "INSERT INTO leadroute.pool_member (tenant, pool, rep, claim_daily) SELECT $tenant, p, r, 1000000 FROM unnest('{pull,event}'::text[]) p, generate_series($reps + 1, $reps + 4) r");
	($claims) = claims();
	my $rest = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => [ map { take($_, [ $reps + 1 .. $reps + 4 ], 3 * $leads) } 1 .. $sessions ]);
	$rest->finish;
	acknowledged($rest, $claims);
	psql_is($node, "SELECT count(*) FROM leadroute.queue WHERE tenant = $tenant AND queue IN ('pull', 'event')", '0', 'those without an allowance take all that is left');
	right('at the end');
	figure(claims => $claims, disturbed => $times, lost_races => { $load->errors }->{LR009} // 0, refused => { $load->errors }->{LR011} // 0);
	return;
}

# Two pools to pull from, one of them offered to all at once, and one that pushes first: what its caps do not
# let through waits in the first. Each rep has one kind of limit, or two.
sub set_up
{
	my ($leads) = @_;
	$node->safe_psql('postgres', <<"SQL");
INSERT INTO leadroute.rep (tenant, id, name, timezone, daily_cap, open_cap)
    SELECT $tenant, i, 'Rep ' || i, '$zone', CASE WHEN i % 8 = 3 THEN 6 END, CASE WHEN i % 8 = 4 THEN 7 END FROM generate_series(1, $reps + 4) i;
INSERT INTO leadroute.pool (tenant, name, mode, overflow_pool, claim_daily) VALUES
    ($tenant, 'pull', 'pull', NULL, NULL), ($tenant, 'event', 'broadcast', NULL, 4), ($tenant, 'push', 'push', 'pull', NULL);
INSERT INTO leadroute.pool_member (tenant, pool, rep, claim_daily, claim_open, claim_delay, daily_cap)
    SELECT $tenant, 'pull', i, CASE i % 8 WHEN 0 THEN 5 WHEN 6 THEN 10 WHEN 7 THEN 2 END, CASE i % 8 WHEN 1 THEN 4 WHEN 6 THEN 3 END,
        CASE WHEN i % 8 = 2 THEN interval '1 day' END, CASE WHEN i % 8 = 5 THEN 3 END
    FROM generate_series(1, $reps) i;
INSERT INTO leadroute.pool_member (tenant, pool, rep) SELECT $tenant, 'event', i FROM generate_series(1, $reps) i WHERE i % 8 IN (0, 1, 2, 6, 7);
INSERT INTO leadroute.pool_member (tenant, pool, rep, daily_cap) SELECT $tenant, 'push', i, 5 FROM generate_series(1, $reps) i WHERE i % 8 IN (0, 1);
INSERT INTO leadroute.rule (tenant, lead_table, position, name, condition, pool) VALUES
    ($tenant, 'leads', 1, 'event', \$\$kind = 'event'\$\$, 'event'), ($tenant, 'leads', 2, 'hot', \$\$kind = 'hot'\$\$, 'push'), ($tenant, 'leads', 3, 'else', 'true', 'pull');
INSERT INTO leads (tenant, id, kind) SELECT $tenant, i, CASE WHEN i % 3 = 0 THEN 'hot' WHEN i % 5 = 0 THEN 'event' END FROM generate_series(1, $leads) i;
SQL
	return;
}

# ---- what clients do --------------------------------------------------------------------------------

# By hand leads go to reps whose allowances they do not count for.
sub chaos
{
	my ($number, $leads) = @_;
	my $sql = '';
	for my $n (1 .. soak(60, 100))
	{
		my $rep = 1 + int rand $reps;
		my $lead = 1 + int rand $leads;
		my $other = (0, 1, 2, 6)[ rand 4 ] || 8;
		my $pool = rand() < 0.5 ? ", 'pull'" : '';
		my $next = "SELECT FROM leadroute.claim_next($rep$pool, tenant => $tenant)";
		my @do = (
			($next) x 4,
			("SELECT FROM leadroute.claim('leads', $lead, $rep, $tenant)") x 4,
			"BEGIN; $next; $next; ROLLBACK",
			"BEGIN; $next; SAVEPOINT a; $next; ROLLBACK TO a; $next; COMMIT",
			"BEGIN; SAVEPOINT a; $next; RELEASE a; $next; SELECT pg_sleep(0.005); COMMIT",
			"DO \$\$BEGIN PERFORM FROM leadroute.claim_next($rep, tenant => $tenant); BEGIN PERFORM FROM leadroute.claim_next($rep, tenant => $tenant); "
			  . "RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END\$\$",
			"BEGIN; $next; PREPARE TRANSACTION 'claim$tenant-$number-$n'; SELECT pg_sleep(0.005); " . (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'claim$tenant-$number-$n'",
			"BEGIN; SET LOCAL statement_timeout = '5ms'; $next; SELECT pg_sleep(5); ROLLBACK",
			("SELECT FROM leadroute.release('leads', $lead, 'no time', $tenant)") x 2,
			"SELECT FROM leadroute.reassign('leads', $lead, $other, 'asked for', $tenant)",
			"SELECT leadroute.close('leads', $lead, 'won', tenant => $tenant)",
			"DELETE FROM leads WHERE (tenant, id) = ($tenant, $lead)",
			"UPDATE leads SET owner_id = $other WHERE (tenant, id) = ($tenant, $lead)",
			"UPDATE leads SET score = random() * 10 WHERE (tenant, id) = ($tenant, $lead)");
		push @do, 'CALL leadroute.sweep(max_rows => 20)' if $number % 8 == 0;
		(my $do = $do[ int rand @do ]) =~ s/; /;\n/g;
		$sql .= "$do;\n";
	}
	return { sql => $sql, kept => [], refused => [] };
}

# Claims one by one, and says what is acknowledged. Enough of them that all together may take all.
sub take
{
	my ($number, $who, $most) = @_;
	my $sql = '';
	for (1 .. $most / 8)
	{
		my $rep = $who->[ int rand @$who ];
		my $pool = ('', '', ", 'pull'", $rep > $reps ? ", 'event'" : '')[ rand 4 ];
		$sql .= "SELECT 'got', lead_id, rep FROM leadroute.claim_next($rep$pool, tenant => $tenant);\n";
	}
	return { sql => $sql, kept => [], refused => [], got => [] };
}

# ---- what must hold ----------------------------------------------------------------------------------

# A client may have been ended between PREPARE and the rest.
sub settle_prepared
{
	$node->safe_psql('postgres', "ROLLBACK PREPARED '$_'")
	  for split /\n/, $node->safe_psql('postgres', "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'claim$tenant-%'");
	return;
}

sub right
{
	my ($when) = @_;
	verify_ok($node, $tenant, "$when: verify() finds nothing");
	psql_is($node, "SELECT * FROM beyond($tenant)", '', "$when: nobody beyond an allowance, each owner as recorded");
	psql_is($node, 'SELECT * FROM leadroute.in_flight', '', "$when: nothing is in flight");
	return;
}

# Every limit is reached, to the lead.
sub exact
{
	psql_is($node, <<"SQL", '', 'each rep has claimed exactly what is allowed');
SELECT c.* FROM claimed c WHERE c.tenant = $tenant AND c.pool = 'pull' AND c.claims IS DISTINCT FROM c.per_day AND c.open IS DISTINCT FROM c.at_once
SQL
	return;
}

sub claims
{
	return $node->safe_psql('postgres', "SELECT count(*) FROM leadroute.assignment WHERE tenant = $tenant AND method = 'claim'");
}

# What the clients were told is what the record says, beside the claims there were before.
sub acknowledged
{
	my ($load, $before) = @_;
	my @got = $load->lines(qr/^got\|(\d+)\|(\d+)$/);
	my %rep;
	my @twice = grep { defined $rep{ $_->[0] } || !defined($rep{ $_->[0] } = $_->[1]) } @got;
	is(join(' ', map { $_->[0] } @twice), '', 'no lead is given to two');
	is(claims() - $before, scalar @got, 'each claim was acknowledged');
	my $values = join ', ', map { "('$_', $rep{$_})" } keys %rep;
	psql_is($node, "SELECT count(*) FROM (VALUES $values) v (lead, rep) WHERE NOT EXISTS (SELECT FROM leadroute.assignment a
		WHERE a.tenant = $tenant AND a.lead_id = v.lead AND a.rep = v.rep AND a.method = 'claim' AND a.ended_at IS NULL)", '0', 'and is in the record') if @got;
	is(join(' ', $load->unexpected('LR011')), '', 'no errors but of allowances') or say_errors($load, 'LR011');
	return;
}

sub say_errors
{
	my ($load, @expected) = @_;
	my $unexpected = join '|', $load->unexpected(@expected);
	diag(join "\n", (grep { /(?:ERROR|FATAL|PANIC):\s+(?:$unexpected):/ } split /\n(?=psql:)/, $load->messages)[ 0 .. 4 ]);
	return;
}
