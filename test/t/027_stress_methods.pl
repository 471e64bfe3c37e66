# The methods under sixteen sessions, a third of all transactions rolled back: what is in memory, in the
# record and in the leads agrees, and each method keeps its law.
#   priority     a later tier receives nothing while the first one has somebody; within the first one
#                each is within a turn of its share, when quiet
#   nearest      each lead goes to the nearest place, within it as above
#   performance  each is within a turn of its share by weight, when quiet
#   least_open   no two differ by more than one open lead, when quiet
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
my $node = start_node('main', conf => 'jit = off');
my $zone = noon_zone();
my @pools = qw(priority nearest performance least_open);

$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
-- anywhere, and now and then nowhere
ALTER TABLE leads ALTER location SET DEFAULT CASE WHEN random() < 0.9 THEN point(random() * 360 - 180, random() * 180 - 90) END;
UPDATE leadroute.lead_table SET location_column = 'location';
INSERT INTO leadroute.rep (id, name, timezone, location)
    SELECT i, 'Rep ' || i, '$zone', point(i / 3 * 40 - 80, i / 3 * 25 - 50) FROM generate_series(1, 12) i;
INSERT INTO leadroute.pool (name, method) SELECT p, p FROM unnest('{priority,nearest,performance,least_open}'::text[]) p;
INSERT INTO leadroute.pool_member (pool, rep, tier) SELECT p.name, i, 1 + (i % 2) FROM leadroute.pool p, generate_series(1, 12) i;
INSERT INTO leadroute.performance (pool, rep, weight, closes, won, touches)
    SELECT p.id, i, 0.5 + i / 8.0, 0, 0, 0 FROM leadroute.pool p, generate_series(1, 12) i WHERE p.name = 'performance';
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', p.id, p.name, format('source = %L', p.name), p.name FROM leadroute.pool p;

CREATE FUNCTION kilometres(a point, b point) RETURNS double precision LANGUAGE sql IMMUTABLE AS \$\$
    SELECT 2 * 6371.0088 * asin(sqrt(sin(radians(b[1] - a[1]) / 2) ^ 2 + cos(radians(a[1])) * cos(radians(b[1])) * sin(radians(b[0] - a[0]) / 2) ^ 2))
\$\$;
-- How many turns more than its share has each member received, of what its tier or place has?
CREATE FUNCTION surplus() RETURNS TABLE (pool text, rep bigint, weight double precision, total double precision, members bigint, surplus double precision)
LANGUAGE sql SET jit = off AS \$\$
    SELECT s.pool, s.rep, s.weight, sum(s.weight) OVER w, count(*) OVER w, s.received - sum(s.received) OVER w * s.weight / sum(s.weight) OVER w
    FROM (SELECT m.pool, m.rep, coalesce(f.weight, 1) AS weight,
            CASE m.pool WHEN 'priority' THEN m.tier WHEN 'nearest' THEN m.rep / 3 ELSE 0 END AS part, (
                SELECT count(*) FROM leadroute.assignment a WHERE a.pool = p.id AND a.rep = m.rep)::double precision AS received
        FROM leadroute.pool_member m JOIN leadroute.pool p ON p.name = m.pool
            LEFT JOIN leadroute.performance f ON f.pool = p.id AND f.rep = m.rep) s
    WINDOW w AS (PARTITION BY s.pool, s.part)
\$\$;
CREATE FUNCTION spread() RETURNS bigint LANGUAGE sql SET jit = off AS \$\$
    SELECT max(s.open) - min(s.open) FROM (SELECT m.rep, (SELECT count(*) FROM leadroute.assignment a
        WHERE a.rep = m.rep AND a.ended_at IS NULL) AS open FROM leadroute.pool_member m WHERE m.pool = 'least_open') s
\$\$;
SQL

my ($looker, $looks) = disturbed_load($node, sessions => 16, transactions => soak(60, 1000), sources => \@pools, shared => 60);
cmp_ok($node->safe_psql('postgres', "SELECT min(n) FROM (SELECT count(*) AS n FROM leadroute.assignment GROUP BY pool) c"), '>', 100, 'leads for each');
psql_is($node, "SELECT count(*) FROM leadroute.assignment a JOIN leadroute.pool p ON p.id = a.pool
	JOIN leadroute.pool_member m ON m.pool = p.name AND m.rep = a.rep WHERE p.name = 'priority' AND m.tier > 1", '0', 'priority: nothing for the second tier');
psql_is($node, "SELECT count(*) FROM leads l JOIN leadroute.rep r ON r.id = l.owner_id, LATERAL (
	SELECT min(kilometres(o.location, l.location)) AS nearest FROM leadroute.rep o) n
	WHERE l.source = 'nearest' AND l.location IS NOT NULL AND kilometres(r.location, l.location) > n.nearest + 0.001", '0', 'nearest: each lead at the nearest place');

# ---- quiescence ------------------------------------------------------------------------------------

my $key = 100_000_000;
my $insert = sub { my ($pool, $n, $where) = @_; return join '', map { "INSERT INTO leads (id, source" . ($where ? ', location' : '') . ") VALUES (@{[$key++]}, '$pool'" . ($where ? ", $where" : '') . ');' } 1 .. $n };
for my $pool (qw(priority performance nearest))
{
	# of nearest a place with three reps
	my $where = $pool eq 'nearest' ? 'point(1, 0)' : '';
	my $which = $pool eq 'priority' ? 'AND rep % 2 = 0' : $pool eq 'nearest' ? 'AND rep / 3 = 2' : '';
	my $leads = $looker->query("SELECT max(members) + ceil(max(greatest(surplus, 0) * total / weight)) FROM surplus() WHERE pool = '$pool' $which");
	$looker->query($insert->($pool, $leads, $where));
	my $look = "SELECT max(abs(surplus)) FROM surplus() WHERE pool = '$pool' $which;";
	my @largest = split /\n/, $looker->query(join '', map { $look . $insert->($pool, 1 + $_ % 3, $where) } 1 .. 30);
	cmp_ok(max(@largest), '<', 1, "$pool: within $leads leads each is less than a turn off, and stays so");
}
my $spread = $looker->query('SELECT spread()');
$looker->query($insert->('least_open', 12 * $spread));
my @spreads = split /\n/, $looker->query(join '', map { 'SELECT spread();' . $insert->('least_open', 1 + $_ % 3) } 1 .. 20);
cmp_ok(max(@spreads), '<=', 1, 'least_open: nobody has more than one open lead more than another');
verify_ok($node);

# ---- a crash ---------------------------------------------------------------------------------------

my $state = "SELECT pool, rep, received, round(deficit, 3) FROM leadroute.pool_state WHERE pool <> 'least_open' ORDER BY pool, rep";
my $before = $looker->query($state);
$looker->close;
$node->stop('immediate');
$node->start;
psql_is($node, $state, $before, 'after a crash each stands where it stood');
verify_ok($node);
figure(looks => $looks, spread => $spread, leads => $node->safe_psql('postgres', 'SELECT count(*) FROM leads'));

done_testing();
