# The method value under sixteen sessions, a third of all transactions rolled back: each member is owed
# exactly what its share of the pool's value lacks, however much was charged and given back; when quiet, it
# is within the largest lead of it and stays so. A crash changes nothing, nor do prepared transactions.
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
my $node = start_node('main', conf => "jit = off\nmax_prepared_transactions = 5");
my $zone = noon_zone();
my $members = 12;

# values from 0.001 to 1000, now and then none, or an error
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
ALTER TABLE leads ALTER deal_value SET DEFAULT CASE WHEN random() < 0.95 THEN power(10, random() * 6 - 3) END,
    ALTER company_size SET DEFAULT CASE WHEN random() < 0.98 THEN 1 ELSE 0 END;
UPDATE leadroute.lead_table SET value_expression = 'deal_value / company_size';
INSERT INTO leadroute.rep (id, name, timezone) SELECT i, 'Rep ' || i, '$zone' FROM generate_series(1, $members) i;
INSERT INTO leadroute.pool (name, method) VALUES ('value', 'value');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'value', i FROM generate_series(1, $members) i;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'value');

-- by the record: how much value less than its share has each member received, and the largest lead
CREATE FUNCTION lacking() RETURNS TABLE (rep bigint, lacking double precision, largest double precision)
LANGUAGE sql SET jit = off AS \$\$
    SELECT s.rep, sum(s.received) OVER () / $members - s.received, max(s.largest) OVER ()
    FROM (SELECT m.rep, coalesce(sum(coalesce(a.cost, 1)) FILTER (WHERE a.rep IS NOT NULL), 0) AS received,
            max(coalesce(a.cost, 1)) AS largest
        FROM leadroute.pool_member m LEFT JOIN leadroute.assignment a ON a.rep = m.rep GROUP BY m.rep) s
\$\$;
-- by how much memory is off that
CREATE FUNCTION off() RETURNS double precision LANGUAGE sql AS \$\$
    SELECT max(abs(l.lacking - s.deficit)) FROM lacking() l JOIN leadroute.pool_state s USING (rep)
\$\$;
SQL

my ($looker, $looks) = disturbed_load($node, sessions => 16, transactions => soak(60, 1000), sources => ['x'], shared => 60);
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.assignment WHERE rep IS NOT NULL'), '>', 500, 'there are leads');
cmp_ok($node->safe_psql('postgres', 'SELECT off()'), '<', 0.01, 'each is owed what its share lacks');
psql_is($node, 'SELECT bool_and(extra IS NOT NULL) FROM leadroute.checkpoint', 't', 'checkpoints know the values');
psql_is($node, "SELECT count(*) > 0 FROM leadroute.alert WHERE kind = 'rule_error' AND rule IS NULL", 't', 'errors were told');

# ---- quiescence ------------------------------------------------------------------------------------

my $key = 100_000_000;
my $insert = sub { my ($n) = @_; return join '', map { "INSERT INTO leads (id) VALUES (@{[$key++]});" } 1 .. $n };
my $within = 'SELECT max(abs(lacking) / largest) FROM lacking();';
my $rounds = 0;
$looker->query($insert->(50)) while $rounds++ < 100 && $looker->query($within) > 1;
my @largest = split /\n/, $looker->query(join '', map { $within . $insert->(1 + $_ % 5) } 1 .. 60);
cmp_ok(max(@largest), '<=', 1 + 1e-6, 'when quiet, value received is within the largest lead of value due');
verify_ok($node);

# ---- a crash, with prepared transactions ------------------------------------------------------------

my $state = 'SELECT rep, received, round(due, 2), round(deficit, 2) FROM leadroute.pool_state ORDER BY rep';
my $before = $looker->query($state);
$looker->query("BEGIN; @{[$insert->(7)]} PREPARE TRANSACTION 'gone'");
$looker->query("BEGIN; @{[$insert->(5)]} PREPARE TRANSACTION 'kept'");
my $prepared = $looker->query($state);
$looker->close;
$node->stop('immediate');
$node->start;
psql_is($node, $state, $prepared, 'after a crash each stands where it stood, prepared leads included');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'gone'");
$node->safe_psql('postgres', "COMMIT PREPARED 'kept'");
verify_ok($node, 0, 'one rolled back, one committed');
cmp_ok($node->safe_psql('postgres', 'SELECT off()'), '<', 0.01, 'each is owed what its share lacks');
my $now = $node->safe_psql('postgres', $state);
isnt($now, $before, 'with what was committed');
psql_is($node, "SELECT leadroute._forget(0); $state", "t\n$now", 'memory that is dropped comes back the same');
$node->safe_psql('postgres', "BEGIN; @{[$insert->(20)]} ROLLBACK");
psql_is($node, $state, $now, 'and a rollback leaves nothing');
figure(looks => $looks, rounds => $rounds, leads => $node->safe_psql('postgres', 'SELECT count(*) FROM leads'));

done_testing();
