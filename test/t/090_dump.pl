# Dump and restore with the real tools: whole, in one transaction, in parallel, schema and data apart
# with and without triggers; databases copied as template; the extension dropped and made again.
# Configuration and record are there row by row, nothing is routed or logged again, and routing goes
# on where it was.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use LeadrouteTest;
use LeadrouteTest::Contents;
use LeadrouteTest::Leads;
use PostgreSQL::Test::Utils ();
use Test::More;

my $node = start_node('main', conf => 'max_worker_processes = 24'); # a notifier in each copy
my $zone = noon_zone();
my $dir = PostgreSQL::Test::Utils::tempdir();

# A lead table in a schema before leadroute's and one after it: the data of a dump comes in that order.
my @tables = ('crm.contact', 'public.leads', 'public.old_lead');
$node->safe_psql('postgres', <<"SQL");
CREATE ROLE seller; CREATE ROLE keeper; CREATE ROLE author;
CREATE SCHEMA crm;
CREATE TABLE crm.contact (company bigint, id text, source text, owner text, PRIMARY KEY (company, id));
SELECT leadroute.attach('crm.contact', owner_column => 'owner', tenant_column => 'company');
SELECT leadroute.create_lead_table('public.leads');
CREATE TABLE old_lead (id int PRIMARY KEY, owner_id int);
INSERT INTO old_lead VALUES (1, 1), (2, NULL), (3, 77);
INSERT INTO leadroute.rep (id, name, ref, timezone, daily_cap, db_role, location, skills)
    SELECT i, 'Rep ' || i, 'rep ' || i, '$zone', CASE i WHEN 3 THEN 7 END, CASE i WHEN 1 THEN 'seller' END, point(i, i), '{"a": 1}' FROM generate_series(1, 4) i;
INSERT INTO leadroute.rep (tenant, id, name, ref) VALUES (7, 1, 'Gil', 'gil'), (7, 2, 'Hal', 'hal');
UPDATE leadroute.rep SET manager = 4 WHERE id < 4 AND tenant = 0;
INSERT INTO leadroute.calendar (name) VALUES ('always');
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) SELECT 'always', d, '00:00', '24:00' FROM generate_series(1, 7) d;
INSERT INTO leadroute.calendar_holiday (calendar, day) VALUES ('always', '2001-01-01');
UPDATE leadroute.rep SET calendar = 'always' WHERE id = 2 AND tenant = 0;
INSERT INTO leadroute.rep_absence (rep, during) VALUES (1, '[2001-01-01,2001-01-15)');
SELECT leadroute.sign_in(1), leadroute.sign_in(2), leadroute.sign_in(3);
INSERT INTO leadroute.pool (name, method, manager) VALUES ('all', 'weighted', 4), ('few', 'round_robin', NULL);
INSERT INTO leadroute.pool (tenant, name) VALUES (7, 'all');
UPDATE leadroute.pool SET overflow_pool = 'few', presence_required = true WHERE name = 'all' AND tenant = 0;
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('all', 1, 3), ('all', 2, 2), ('all', 3, 1), ('few', 4, 1);
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (7, 'all', 1), (7, 'all', 2);
SELECT leadroute.attach('old_lead', existing => 'queue', fallback_pool => 'all');
GRANT SELECT ON leads TO author;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label, author) VALUES
    ('leads', 1, 'web', \$\$source = 'web'\$\$, 'all', '{"region": "north"}', 'author');
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool) VALUES (7, 'contact', 1, 'all', 'all');
INSERT INTO leadroute.territory (name, key, match, author) VALUES ('area', 'postal_code', 'prefix', 'author');
INSERT INTO leadroute.territory_entry (territory, key, pool, rep) VALUES ('area', '5', 'few', NULL), ('area', '56', NULL, 2);
INSERT INTO leadroute.rule (lead_table, position, name, territory, needs) VALUES ('leads', 2, 'area', 'area', 'ARRAY[''a>=1'']');
INSERT INTO leadroute.pool (name, mode, claim_daily, claim_open, claim_delay, claim_exclusive, claim_blind, shark_tank_order, offer_window, release_to, release_returns_turn)
    VALUES ('shelf', 'pull', 9, 8, '1 minute', '1 hour', true, 'next', NULL, 'front', true), ('floor', 'broadcast', NULL, NULL, NULL, NULL, false, 'random', '1 day', 'end', false);
INSERT INTO leadroute.pool_member (pool, rep, claim_daily, claim_open, claim_delay) VALUES ('shelf', 1, 3, 2, '1 second'), ('floor', 1, NULL, NULL, NULL), ('floor', 4, NULL, NULL, NULL);
INSERT INTO leadroute.rule (lead_table, position, name, condition, needs, pool) VALUES ('leads', 3, 'pulled', 'source = ''shelf''', 'ARRAY[''a>=1'']', 'shelf'), ('leads', 4, 'offered', 'source = ''floor''', NULL, 'floor');
SELECT leadroute.grant_access('seller', 'rep'), leadroute.grant_access('keeper', 'admin', NULL);
INSERT INTO leads (source) SELECT CASE i % 5 WHEN 0 THEN 'mail' ELSE 'web' END FROM generate_series(1, 40) i;
INSERT INTO leads (source, owner_id) VALUES ('web', 2), ('web', 99);
INSERT INTO leads (source, score) VALUES ('shelf', 5), ('floor', 7);
UPDATE leadroute.assignment SET at_front = true, avoid = '{1,2}' WHERE needs IS NOT NULL;
INSERT INTO crm.contact SELECT 7, 'c' || i, 'web' FROM generate_series(1, 9) i;
UPDATE leads SET owner_id = 4 WHERE id IN (1, 2);
UPDATE leads SET owner_id = NULL WHERE id = 3;
DELETE FROM leads WHERE id = 4;
UPDATE leadroute.rep SET paused = true WHERE name = 'Rep 2';
UPDATE leadroute.rep SET paused = false WHERE name = 'Rep 2';
SQL

# The next picks, by the shares so far; rolled back, so that the database stays as it was.
sub next_picks
{
	my ($server, $db) = @_;
	return $server->safe_psql($db, <<'SQL');
BEGIN;
INSERT INTO leads (id, source) SELECT 1000 + i, 'web' FROM generate_series(1, 12) i;
INSERT INTO crm.contact SELECT 7, 'd' || i FROM generate_series(1, 3) i;
SELECT string_agg(owner_id::text, ' ' ORDER BY id) FROM leads WHERE id > 1000 UNION ALL SELECT string_agg(owner, ' ' ORDER BY id) FROM crm.contact WHERE id LIKE 'd%';
ROLLBACK;
SQL
}

my $before = contents($node, 'postgres', @tables);
my $picks = next_picks($node, 'postgres');
is($node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', score, needs, at_front, avoid, offered_to, offered_until > now()), '; ' ORDER BY score) FROM leadroute.assignment WHERE score IS NOT NULL"),
	'5 {a} t {1,2}; 7 {1,4} t', 'leads wait to be claimed, and are offered');
like($picks, qr/^\d+( \d+){11}\n\w+( \w+){2}$/, 'leads are routed');

sub same
{
	my ($server, $db, $what) = @_;
	is(difference($before, contents($server, $db, @tables)), '', "$what: configuration, record, leads, sequences are the same");
	verify_ok($server, 0, "$what: verify() finds nothing", dbname => $db);
	verify_ok($server, 7, "$what: nor for another tenant", dbname => $db);
	is(next_picks($server, $db), $picks, "$what: routing goes on where it was");
	is($server->safe_psql($db, "SELECT string_agg(item || ': ' || detail, E'\n') FROM leadroute.health() WHERE NOT ok"), '', "$what: health() is well");
	return;
}

sub tool
{
	my ($what, @command) = @_;
	my ($out, $err);
	my $done = IPC::Run::run([ $node->installed_command($command[0]), @command[ 1 .. $#command ] ], '>', \$out, '2>', \$err);
	ok($done, "$what succeeds") or diag($err);
	# a rep's manager is a rep, a pool's overflow a pool
	$err =~ s/^pg_dump: warning: there are circular foreign-key constraints.*\n(?:pg_dump: (?:detail|hint): .*\n)+//mg;
	is($err, '', "$what is silent");
	return;
}

my @from = ('-d', $node->connstr('postgres'));
tool('pg_dump -Fc', 'pg_dump', @from, '-Fc', '-f', "$dir/custom");
tool('pg_dump -Fd -j2', 'pg_dump', @from, '-Fd', '-j2', '-f', "$dir/directory");
tool('pg_dump', 'pg_dump', @from, '-f', "$dir/plain.sql");
tool('pg_dump --data-only', 'pg_dump', @from, '--data-only', '--disable-triggers', '-f', "$dir/data.sql");

sub fresh { my ($db) = @_; $node->safe_psql('postgres', "CREATE DATABASE $db"); return ('-d', $node->connstr($db)); }

tool('psql of the dump', 'psql', fresh('plain'), '-Xqo', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql");
same($node, 'plain', 'plain');
tool('pg_restore -e', 'pg_restore', fresh('whole'), '-e', "$dir/custom");
same($node, 'whole', 'whole');
tool('pg_restore -1', 'pg_restore', fresh('single'), '-1', "$dir/custom");
same($node, 'single', 'one transaction');
tool('pg_restore -j2', 'pg_restore', fresh('parallel'), '-e', '-j2', "$dir/directory");
same($node, 'parallel', 'parallel');

for my $way ([], ['--disable-triggers'], ['-1'], [ '-j2' ])
{
	my $db = 'data_' . join '_', map { s/\W//gr } @$way;
	my @to = fresh($db);
	tool('pg_restore --schema-only', 'pg_restore', @to, '-e', '--schema-only', "$dir/custom");
	tool("pg_restore --data-only @$way", 'pg_restore', @to, '-e', '--data-only', @$way, "$dir/custom");
	same($node, $db, "data only @$way");
}

# Leads alone: whatever becomes of the record, none is without one, and none is given to a rep.
{
	my @to = fresh('leads_only');
	tool('pg_restore --schema-only', 'pg_restore', @to, '-e', '--schema-only', "$dir/custom");
	tool('pg_restore of configuration', 'pg_restore', @to, '-e', '--data-only', map({ ('-t', $_) } qw(rep pool pool_member lead_table rule)), "$dir/custom");
	tool('pg_restore of leads alone', 'pg_restore', @to, '-e', '--data-only', '-t', 'leads', "$dir/custom");
	psql_is($node, 'SELECT count(*) FROM leads', '43', 'the leads are there', dbname => 'leads_only');
	verify_ok($node, 0, 'each with a record', dbname => 'leads_only');
	is($node->safe_psql('leads_only', 'SELECT id, owner_id FROM leads ORDER BY id'), $node->safe_psql('postgres', 'SELECT id, owner_id FROM leads ORDER BY id'), 'and with the owner they had');
}

# Of two workers of pg_restore -j one may restore leads while the other restores their record: whoever
# comes second waits for the first.
{
	my @to = fresh('together');
	tool('pg_restore --schema-only', 'pg_restore', @to, '-e', '--schema-only', "$dir/custom");
	tool('pg_restore of configuration', 'pg_restore', @to, '-e', '--data-only', map({ ('-t', $_) } qw(rep pool pool_member lead_table rule)), "$dir/custom");
	my $key = 5000;
	for my $first (0, 1)
	{
		$key++;
		my @insert = (
			"INSERT INTO leads (id, source, owner_id) VALUES ($key, 'web', 1)",
			"INSERT INTO leadroute.assignment (lead_table, lead_id, rep, method) SELECT id, '$key', 1, 'push' FROM leadroute.lead_table WHERE name = 'leads'");
		my @worker = sessions($node, 2, dbname => 'together');
		$_->query('SET check_function_bodies = off; SET row_security = off; BEGIN') for @worker;
		$worker[0]->query($insert[$first]);
		$worker[1]->send($insert[ 1 - $first ]);
		wait_until($node, 'SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ' . $worker[1]->pid . " AND wait_event_type = 'Lock'", 'the second waits', dbname => 'together');
		$worker[0]->query('COMMIT');
		$worker[1]->wait;
		is(($worker[1]->query('COMMIT; SELECT 1'))[0], '1', 'and goes on');
		$_->close for @worker;
		psql_is($node, "SELECT method, rep FROM leadroute.assignment WHERE lead_id = '$key'", 'push|1', 'the record is that of the dump', dbname => 'together');
	}
}

# A copy as template shares nothing with its original.
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE plain');
$node->safe_psql('plain', "INSERT INTO leads (source) SELECT 'web' FROM generate_series(1, 5)");
same($node, 'copy', 'template');

# The extension dropped and made again knows nothing of the one before; a drop rolled back changes nothing.
$node->safe_psql('copy', 'BEGIN; DROP EXTENSION leadroute CASCADE; ROLLBACK');
same($node, 'copy', 'drop rolled back');
$node->safe_psql('copy', 'DROP EXTENSION leadroute CASCADE; CREATE EXTENSION leadroute');
psql_is($node, 'SELECT count(*) FROM leadroute.assignment', '0', 'a new extension is empty', dbname => 'copy');
$node->safe_psql('copy', <<'SQL');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cho');
INSERT INTO leadroute.pool (name, method) VALUES ('all', 'weighted');
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('all', 1, 3), ('all', 2, 2), ('all', 3, 1);
SELECT leadroute.attach('leads', existing => 'ignore', fallback_pool => 'all');
INSERT INTO leads (source) SELECT 'web' FROM generate_series(1, 6);
SQL
psql_is($node, "SELECT string_agg(received::text, ' ' ORDER BY rep) FROM leadroute.pool_state", '3 2 1', 'and its rotation begins anew', dbname => 'copy');
verify_ok($node, 0, 'verify() finds nothing', dbname => 'copy');

done_testing();
