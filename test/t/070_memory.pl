# Memory: a backend that routes many leads does not grow with their number, and databases that come
# and go leave nothing in shared memory that another could not have.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', conf => "leadroute.max_pools = 16\nleadroute.max_members = 64\nfsync = off\nmax_wal_size = 4GB\nautovacuum = off");
my $setup = <<'SQL';
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 50) i;
INSERT INTO leadroute.pool (name, method) VALUES ('all', 'weighted'), ('north', 'round_robin');
INSERT INTO leadroute.pool_member (pool, rep, weight) SELECT 'all', i, 1 + i % 3 FROM generate_series(1, 50) i;
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'north', i FROM generate_series(1, 5) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label) VALUES
    ('leads', 1, 'north', $$region = 'North'$$, 'north', '{"product": "n"}'), ('leads', 2, 'else', 'true', 'all', NULL);
SQL
psql_ok($node, $setup, 'reps, pools, rules');

# The memory of a process that is its own: not the shared buffers that it has touched.
sub private_kb
{
	my ($pid) = @_;
	open my $in, '<', "/proc/$pid/status" or die "/proc/$pid/status: $!";
	my ($kb) = join('', <$in>) =~ /^RssAnon:\s+(\d+)/m;
	return $kb;
}

# The file is read by the server. What a COPY of a few rows needs is there before.
my $rows = soak(200_000, 10_000_000);
my $file = $node->basedir . '/leads.csv';
open my $out, '>', $file or die "$file: $!";
printf $out "Web,%s,%d\n", $_ % 4 ? 'South' : 'North', $_ for 1 .. $rows;
close $out or die "$file: $!";
my ($session) = sessions($node, 1, timeout => 3600);
my $copy = "COPY leads (source, region, deal_value) FROM '$file' WITH (FORMAT csv)";

# The most that the backend has while it copies, seen from outside.
sub peak
{
	my ($sql) = @_;
	my $most = 0;
	$session->send($sql);
	until ($session->ready)
	{
		my $now = private_kb($session->pid);
		$most = $now if $now > $most;
		select undef, undef, undef, 0.02;
	}
	return $most;
}

$session->query("INSERT INTO leads (source, region) SELECT 'Web', 'North' FROM generate_series(1, 10)");
$session->query("COPY (SELECT 'Web', 'South', i FROM generate_series(1, 5000) i) TO '$file.small' WITH (FORMAT csv)");
$session->query("COPY leads (source, region, deal_value) FROM '$file.small' WITH (FORMAT csv)");
is(join(' ', $session->errors), '', 'a small COPY');
my $before = private_kb($session->pid);
my $peak = peak($copy);
is(join(' ', $session->errors), '', "a COPY of $rows leads");
figure(rows => $rows, before_kb => $before, peak_grew_kb => $peak - $before, after_grew_kb => private_kb($session->pid) - $before);
cmp_ok($peak - $before, '<', 12288, 'it takes less than 12 MB, whatever the number of rows');
$before = private_kb($session->pid);
$peak = peak("BEGIN; $copy; ROLLBACK");
cmp_ok($peak - $before, '<', 12288, 'nor does one that is rolled back');
# the safe way, where a later BEFORE trigger may change the row
psql_ok($node, <<'SQL', 'a trigger after that of leadroute');
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER zzz_later BEFORE INSERT ON leads FOR EACH ROW EXECUTE FUNCTION later();
SQL
$session->query("COPY leads (source, region, deal_value) FROM '$file.small' WITH (FORMAT csv)");
$before = private_kb($session->pid);
$session->query("COPY leads (source, region, deal_value) FROM '$file.small' WITH (FORMAT csv)") for 1 .. 10;
cmp_ok(private_kb($session->pid) - $before, '<', 1024, 'many statements the safe way leave nothing behind');
$session->query('DROP TRIGGER zzz_later ON leads');

# One transaction of many statements, subtransactions and rules matched.
$before = private_kb($session->pid);
$session->query(<<'SQL');
DO $$ BEGIN
    FOR i IN 1 .. 5000 LOOP
        BEGIN
            INSERT INTO leads (source, region) VALUES ('Web', CASE WHEN i % 2 = 0 THEN 'North' END);
            IF i % 3 = 0 THEN RAISE EXCEPTION 'given back'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$
SQL
cmp_ok(private_kb($session->pid) - $before, '<', 4096, 'thousands of subtransactions do not pile up');
verify_ok($node, 0, 'all are counted');
$session->close;
unlink $file, "$file.small";

# Databases come and go: sixteen have room at a time, and what is left of a dropped one is reused.
my $cycles = soak(20, 1000);
psql_ok($node, 'CREATE DATABASE model');
psql_ok($node, "CREATE EXTENSION leadroute; $setup", 'a model', dbname => 'model');
my $shared = $node->safe_psql('postgres', "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'leadroute%'");
my $served = 0;
for my $cycle (1 .. $cycles)
{
	$node->safe_psql('postgres', 'CREATE DATABASE passing TEMPLATE model STRATEGY file_copy');
	$served += $node->safe_psql('passing', "INSERT INTO leads (source, region) SELECT 'Web', 'North' FROM generate_series(1, 5) RETURNING owner_id") eq "1\n2\n3\n4\n5";
	$node->safe_psql('postgres', 'DROP DATABASE passing');
}
is($served, $cycles, "each of $cycles databases started from nothing and was served");
psql_is($node, "INSERT INTO leads (source) VALUES ('Web') RETURNING owner_id IS NULL", 'f', 'the first database is, too');
verify_ok($node, 0, 'with its own counts');
psql_is($node, "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'leadroute%'", $shared, 'in the memory of the beginning');

# The same with extensions, within one database.
my $again = join ';', 'DROP SCHEMA IF EXISTS app CASCADE', 'DROP EXTENSION IF EXISTS leadroute', 'CREATE SCHEMA app', 'SET search_path = app, public', 'CREATE EXTENSION leadroute',
  "SELECT leadroute.create_lead_table('app.leads')", "INSERT INTO leadroute.rep (id, name) VALUES (1, 'Rep 1')", "INSERT INTO leadroute.pool (name) VALUES ('all')",
  "INSERT INTO leadroute.pool_member (pool, rep) VALUES ('all', 1)", "INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'else', 'all')";
psql_ok($node, 'CREATE DATABASE again');
$served = 0;
for my $cycle (1 .. soak(20, 200))
{
	my $answer = $node->safe_psql('again', "$again; INSERT INTO app.leads (source) VALUES ('Web') RETURNING 'owner ' || owner_id");
	$served += $answer =~ /owner 1$/;
}
is($served, soak(20, 200), 'an extension that is dropped and created again starts from nothing');
psql_is($node, 'SELECT * FROM leadroute.verify()', '0|0|0|0|0', 'and is right', dbname => 'again');

done_testing();
