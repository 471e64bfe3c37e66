# The backlog: waiting leads are given out when somebody may take them: each once, in order, by the
# worker or by sweep(), beside a load that rolls back, with the worker killed in the middle; a lead
# that fails is set aside; nobody's code runs with more rights than its own.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

seed();
my $leads = soak(400, 20000);
my $clients = 16;

my $node = start_node('main', conf => "leadroute.backlog = on\njit = off\nmax_connections = 60\nrestart_after_crash = on");
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, paused) SELECT i, 'Rep ' || i, true FROM generate_series(1, 6) i;
INSERT INTO leadroute.pool (name) VALUES ('p'), ('q');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2), ('q', 3);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep, label) VALUES
    ('leads', 1, 'urgent', $$source = 'p' AND region = 'urgent'$$, 'p', NULL, '{"priority": 1}'),
    ('leads', 2, 'p', $$source = 'p'$$, 'p', NULL, NULL),
    ('leads', 3, 'q', $$source = 'q'$$, 'q', NULL, NULL),
    ('leads', 4, 'own', $$source = 'own'$$, NULL, 4, NULL);
SQL
my $waiting = "SELECT count(*) FROM leadroute.queue";
my $crowd = 0;

sub configure { return $node->safe_psql('postgres', $_[0]) }
# Without its reps, and with the worker off: leads pile up until something is switched on again.
sub stop_giving { return configure("UPDATE leadroute.rep SET paused = true; ALTER SYSTEM SET leadroute.backlog = off; SELECT pg_reload_conf()") }
sub worker { return configure("ALTER SYSTEM SET leadroute.backlog = $_[0]; SELECT pg_reload_conf(), pg_sleep(0.2)") }

# ---- the worker, when somebody becomes eligible ------------------------------------------------------

configure("INSERT INTO leads (source, region) SELECT 'p', CASE WHEN i > $leads * 0.9 THEN 'urgent' END FROM generate_series(1, $leads) i;
	INSERT INTO leads (source) SELECT 'own' FROM generate_series(1, 10); INSERT INTO leads (source) SELECT 'q' FROM generate_series(1, 10);
	INSERT INTO leads (source) SELECT 'new' FROM generate_series(1, 10)");
is(configure($waiting), $leads + 30, 'all wait');
configure('UPDATE leadroute.rep SET paused = false WHERE id IN (1, 2)');
wait_until($node, "SELECT count(*) = 30 FROM leadroute.queue", 'a rep who comes back has the queue given out');
psql_is($node, "SELECT count(*) FROM leadroute.decision WHERE method = 'backlog' AND rep IN (1, 2) AND pool = 'p'", $leads, 'each lead once, as backlog');
psql_is($node, "SELECT count(*) FROM leads WHERE source = 'p' AND owner_id IS NULL", 0, 'each lead has its owner');
psql_is($node, <<'SQL', 't', 'urgent ones first, then the oldest');
SELECT bool_and(label IS NULL AND before IS NULL OR before <= ord) FROM (
    SELECT a.label, CASE WHEN a.label IS NULL THEN 1000000 ELSE 0 END + a.lead_id::int AS ord,
        lag(CASE WHEN a.label IS NULL THEN 1000000 ELSE 0 END + a.lead_id::int) OVER (ORDER BY a.decided_at) AS before
    FROM leadroute.assignment a WHERE a.method = 'backlog') x WHERE before IS NOT NULL
SQL
psql_is($node, "SELECT max(received) - min(received) <= 1 FROM leadroute.pool_state WHERE pool = 'p'", 't', 'in turn');
configure('UPDATE leadroute.rep SET paused = false WHERE id = 4');
wait_until($node, "SELECT count(*) = 20 FROM leadroute.queue", 'a rule\'s own rep too');
configure("INSERT INTO leadroute.pool_member (pool, rep) VALUES ('q', 1)");
wait_until($node, "SELECT count(*) = 10 FROM leadroute.queue", 'a new member');
configure("INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 5, 'new', 'source = ''new''', 'p')");
wait_until($node, "$waiting" =~ s/count\(\*\)/count(*) = 0/r, 'a new rule for what nothing matched');
verify_ok($node);

# A cap that an open transaction holds and gives back: who waits because of it is given out.
configure("INSERT INTO leadroute.rep (id, name, daily_cap) VALUES (7, 'Cap', 1); INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES ('leads', 6, 'cap', 'source = ''cap''', 7)");
my ($holder) = sessions($node, 1);
$holder->query("BEGIN; INSERT INTO leads (source) VALUES ('cap')");
configure("INSERT INTO leads (source) VALUES ('cap')");
psql_is($node, $waiting, 1, 'a lead waits for a cap that another transaction holds');
$holder->query('ROLLBACK');
wait_until($node, "$waiting" =~ s/count\(\*\)/count(*) = 0/r, 'and is given out when that is rolled back');

# The other way round: the rep comes while the lead's transaction is open.
configure("UPDATE leadroute.rep SET paused = true WHERE id = 4");
$holder->query("BEGIN; INSERT INTO leads (source) VALUES ('own')");
configure("UPDATE leadroute.rep SET paused = false WHERE id = 4; SELECT pg_sleep(0.3)");
$holder->query('COMMIT');
wait_until($node, "$waiting" =~ s/count\(\*\)/count(*) = 0/r, 'nor is one missed that was not committed yet');
verify_ok($node);

# ---- beside a load, two sweeps at once, and a worker that is killed ----------------------------------

stop_giving();
configure("INSERT INTO leads (source) SELECT 'p' FROM generate_series(1, $leads) i");
my @load = sessions($node, $clients);
my @sweep = sessions($node, 2);
configure('UPDATE leadroute.rep SET paused = false');
$_->send('CALL leadroute.sweep()') for @sweep;
for my $n (0 .. $#load)
{
	$load[$n]->send(join '', map { "BEGIN; INSERT INTO leads (source) VALUES ('p'); " . ($_ % 3 ? 'COMMIT; ' : 'ROLLBACK; ') } 1 .. 30);
}
wait_all(@load, @sweep);
is(join(',', map { $_->errors } @load, @sweep), '', 'sixteen sessions insert while two sweep');
psql_is($node, $waiting, 0, 'nothing waits');
psql_is($node, "SELECT count(*) FROM (SELECT FROM leadroute.assignment WHERE method = 'backlog' AND ended_at IS NOT NULL) x", 0, 'nothing was given out twice');
verify_ok($node);

stop_giving();
configure("INSERT INTO leads (source) SELECT 'p' FROM generate_series(1, $leads) i");
configure(<<'SQL');
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION slow();
SQL
worker('on');
configure('UPDATE leadroute.rep SET paused = false');
wait_until($node, "SELECT count(*) < $leads AND count(*) > 0 FROM leadroute.queue", 'the worker is in the middle');
my $pid = configure("SELECT pid FROM pg_stat_activity WHERE backend_type = 'leadroute notifier' AND datname = 'postgres'");
$node->safe_psql('postgres', "SELECT 1");
kill 'KILL', $pid;
$node->poll_query_until('postgres', 'SELECT 1', '1');
wait_until($node, "SELECT count(*) = 0 FROM leadroute.queue", 'a crash in the middle: the rest is given out afterwards');
verify_ok($node);
configure('DROP TRIGGER slow ON leads');

# ---- sweep(): limits, leads that fail, rights --------------------------------------------------------

stop_giving();
configure("INSERT INTO leads (source) SELECT 'p' FROM generate_series(1, 100); UPDATE leadroute.rep SET paused = false");
configure('CALL leadroute.sweep(max_rows => 30)');
psql_is($node, $waiting, 70, 'at most max_rows');
configure("CALL leadroute.sweep(budget => '0 seconds')");
psql_is($node, $waiting, 70, 'nothing after the budget');
sqlstate_is($node, 'CALL leadroute.sweep(max_rows => -1)', 'LR005', 'a negative limit');
sqlstate_is($node, 'BEGIN; CALL leadroute.sweep(); COMMIT', '2D000', 'in a transaction block');
configure(<<'SQL');
CREATE ROLE tables LOGIN; CREATE ROLE boss LOGIN; CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA leadroute TO nobody;
SELECT leadroute.grant_access('boss', 'admin');
GRANT CREATE ON SCHEMA public TO tables; ALTER TABLE leads OWNER TO tables;
CREATE TABLE seen (who name, in_role name); GRANT ALL ON seen TO tables;
SET ROLE tables;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen VALUES (current_user, current_setting('role'));
    IF NEW.id % 10 = 0 THEN RAISE EXCEPTION 'not this one'; END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_user, 'late'); RETURN NULL; END $$;
CREATE TRIGGER look BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION look();
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON leads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
SQL
sqlstate_is($node, 'CALL leadroute.sweep()', 'LR012', 'who is no admin', extra_params => [ '-U', 'nobody' ]);
psql_is($node, 'CALL leadroute.sweep()', '', 'who is', extra_params => [ '-U', 'boss' ]);
psql_is($node, $waiting, 7, 'leads that fail do not keep the others waiting');
psql_is($node, "SELECT count(*) || ' ' || count(DISTINCT lead_id) || ' ' || bool_and(message ~ 'cannot be given out, and waits: not this one') FROM leadroute.alert WHERE kind = 'backlog_error'", '7 7 true', 'each is alerted');
psql_is($node, "SELECT string_agg(DISTINCT who || ' ' || in_role, ', ' ORDER BY who || ' ' || in_role) FROM seen", 'tables late, tables none', 'the table\'s triggers run with the rights of its owner, deferred ones too');
configure('CALL leadroute.sweep(); CALL leadroute.sweep()');
psql_is($node, "SELECT count(*) FROM leadroute.alert WHERE kind = 'backlog_error'", 7, 'once');
configure("DROP TRIGGER look ON leads; UPDATE leadroute.alert SET acknowledged_at = now() WHERE kind = 'backlog_error'; CALL leadroute.sweep()");
psql_is($node, $waiting, 0, 'and tried again when somebody has seen to it');
verify_ok($node);

# A lead that an app has locked is left alone, and waited for by nobody.
configure("UPDATE leadroute.rep SET paused = true; INSERT INTO leads (source) VALUES ('p'), ('p'); UPDATE leadroute.rep SET paused = false");
$holder = (sessions($node, 1))[0];
$holder->query("BEGIN; SELECT FROM leads WHERE id = (SELECT max(id) FROM leads) FOR UPDATE");
configure("SET statement_timeout = '5s'; CALL leadroute.sweep()");
psql_is($node, $waiting, 1, 'a locked lead is left to the next sweep');
$holder->query('COMMIT');
configure('CALL leadroute.sweep()');
psql_is($node, $waiting, 0, 'which gives it out');

# A pool that somebody edits is not weighed, and waited for by nobody.
configure("INSERT INTO leadroute.pool (name, method) VALUES ('edited', 'performance'), ('other', 'performance'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('edited', 1), ('other', 1)");
my $weighed = "SELECT string_agg(p.name, ' ') FROM leadroute.performance f JOIN leadroute.pool p ON p.id = f.pool WHERE f.rep = 1";
$holder->query("BEGIN; UPDATE leadroute.pool SET performance_bound = 3 WHERE name = 'edited'");
psql_ok($node, "SET statement_timeout = '5s'; CALL leadroute.sweep()", 'sweep() does not wait for whoever edits a pool');
psql_is($node, $weighed, 'other', 'leaves that pool out, and goes on');
$holder->query('COMMIT');
configure("CALL leadroute.sweep()");
psql_is($node, "$weighed AND p.name = 'edited'", 'edited', 'the next sweep weighs it');

# ---- a new day, without the worker -------------------------------------------------------------------

configure("UPDATE leadroute.rep SET daily_cap = 0 WHERE id = 4; INSERT INTO leads (source) VALUES ('own'); UPDATE leadroute.rep SET daily_cap = NULL WHERE id = 4");
psql_is($node, $waiting, 1, 'off, the worker gives nothing out');
$node->safe_psql('postgres', 'CALL leadroute.sweep()');
psql_is($node, $waiting, 0, 'sweep() does the same');
verify_ok($node);

done_testing();
