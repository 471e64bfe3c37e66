# Fairness under sixteen sessions: thousands of inserts of one and of several rows, a third of all
# transactions ending in ROLLBACK, ROLLBACK TO, an exception, an error, ON CONFLICT DO NOTHING, a cancel
# or a terminate. At every moment each member of a pool has received its share to within one turn and
# what is in flight; when quiet it is less than one turn off soon, and stays so.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use List::Util qw(max);
use Test::More;

seed();
my $node = start_node('main', conf => "jit = off\nlog_lock_waits = on\ndeadlock_timeout = 3ms");
my $zone = noon_zone();
my $sessions = 16;
my $most_turns = 5; # that one transaction holds

# Members are always available, so that their shares are known: weights from 0.5 to 10 at random, many
# members of the same weight, and two of very different ones.
my @members = map { [ 'random', $_, 0.5 + int(rand 20) / 2 ] } 1 .. 6;
push @members, map { [ 'equal', $_, 1 ] } 1 .. 12;
push @members, [ 'uneven', 1, 1 ], [ 'uneven', 2, 99 ];
my $members = join ', ', map { "('$_->[0]', $_->[1], $_->[2])" } @members;
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone) SELECT i, 'Rep ' || i, '$zone' FROM generate_series(1, 12) i;
INSERT INTO leadroute.pool (name, method) SELECT p, 'weighted' FROM unnest('{random,equal,uneven}'::text[]) p;
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES $members;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', p.id, p.name, format('source = %L', p.name), p.name FROM leadroute.pool p;

-- By the record alone, what has landed: how many turns more than its share each member has received.
CREATE FUNCTION surplus() RETURNS TABLE (pool text, rep bigint, weight numeric, total_weight numeric, members bigint, surplus numeric)
LANGUAGE sql SET jit = off AS \$\$
    SELECT s.pool, s.rep, s.weight, s.total, s.members, s.received - sum(s.received) OVER (PARTITION BY s.pool) * s.weight / s.total
    FROM (SELECT m.pool, m.rep, m.weight, sum(m.weight) OVER w AS total, count(*) OVER w AS members, (
            SELECT count(*) FROM leadroute.assignment a JOIN leadroute.pool p ON p.id = a.pool WHERE p.name = m.pool AND a.rep = m.rep) AS received
        FROM leadroute.pool_member m WINDOW w AS (PARTITION BY m.pool)) s
\$\$;
SQL

# ---- load ------------------------------------------------------------------------------------------

my @levels = ('read committed', 'repeatable read', 'serializable', 'read committed');
my @scripts;
for my $number (1 .. $sessions * 3)
{
	my $script = load_script(number => $number, transactions => soak(100, 2000), sources => [qw(random equal uneven)], shared => 60);
	$script->{sql} = "SET default_transaction_isolation = '$levels[ $number % @levels ]';\n$script->{sql}";
	push @scripts, $script;
}
my $load = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => \@scripts);
my ($looker) = sessions($node, 1);
my ($looks, $most_in_flight, $largest) = (0, 0, 0);
$load->finish(sub {
	$largest = max($largest, $looker->query('SELECT max(abs(surplus)) FROM surplus()') || 0);
	$most_in_flight = max($most_in_flight, $looker->query('SELECT coalesce(sum(reservations), 0) FROM leadroute.in_flight'));
	$load->disturb($looker, ++$looks % 5 == 0);
});

my %errors = $load->errors;
is(join(' ', $load->unexpected), '', 'no errors that nobody asked for') or diag($load->messages);
my %lead = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT id FROM leads');
is(join(' ', grep { !$lead{$_} } $load->acknowledged), '', 'every acknowledged lead is there');
is(join(' ', grep { $lead{$_} } $load->refused), '', 'none that was rolled back');
cmp_ok($largest, '<', 1 + $sessions * $most_turns, 'at every moment within one turn and what is in flight');
psql_is($node, 'SELECT problems()', '', 'record, memory and leads agree');

# ---- quiescence ------------------------------------------------------------------------------------

# Within the surplus's worth of leads and one round each member is off by less than a turn.
my $key = 100_000_000;
my ($after_load) = $looker->query('SELECT round(max(abs(surplus)), 3) FROM surplus()');
for my $line (split /\n/, $looker->query('SELECT pool, max(members) + ceil(max(greatest(surplus, 0) * total_weight / weight)) FROM surplus() GROUP BY pool'))
{
	my ($pool, $leads) = split /\|/, $line;
	my $insert = sub { my ($n) = @_; return join '', map { "INSERT INTO leads (id, source) VALUES (@{[$key++]}, '$pool');" } 1 .. $n };
	$looker->query($insert->($leads));
	my $look = "SELECT max(abs(surplus)) FROM surplus() WHERE pool = '$pool';";
	my @largest = split /\n/, $looker->query(join '', map { $look . $insert->(1 + $_ % 3) } 1 .. 40);
	cmp_ok(max(@largest), '<', 1, "pool $pool: within $leads leads each is less than a turn off, and stays so");
}
psql_is($node, 'SELECT problems()', '', 'record, memory and leads still agree');

# The state that leadroute shows says the same.
psql_is($node, 'SELECT count(*) FROM leadroute.pool_state s JOIN surplus() x USING (pool, rep) WHERE abs(s.deficit + x.surplus) > 0.001 OR abs(s.received - s.due - x.surplus) > 0.001',
	'0', 'pool_state shows what the record says');

# ---- overlaps --------------------------------------------------------------------------------------

# One wait for another session's key that does not hang on luck.
my ($first, $second) = sessions($node, 2);
$first->query("BEGIN; INSERT INTO leads (id, source) VALUES (@{[++$key]}, 'x')");
$second->send("INSERT INTO leads (id, source) VALUES ($key, 'x')");
$node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)}) or die 'nobody waits';
Time::HiRes::sleep(0.05);
$first->query('ROLLBACK');
$second->wait;
$_->close for $first, $second;

my $lock_waits = () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /still waiting for \w+Lock on transaction/g;
my %overlap = (
	aborts => $node->safe_psql('postgres', "SELECT xact_rollback FROM pg_stat_database WHERE datname = 'postgres'"),
	conflicts => $load->count('conflict'), lock_waits => $lock_waits, most_in_flight => $most_in_flight,
	refunded => $node->safe_psql('postgres', "SELECT value FROM leadroute.stat WHERE name = 'refunded'"),
	cancelled => $errors{57014} // 0, terminated => $errors{'57P01'} // 0);
cmp_ok($overlap{$_}, '>', $_ eq 'most_in_flight' ? 1 : 0, "there were $_") for sort keys %overlap;
figure(%overlap, looks => $looks, largest => sprintf('%.2f', $largest), after_load => $after_load, leads => scalar keys %lead);
$looker->close;

done_testing();
