# replay(): over days of random leads, with weights, tiers, caps, capacity, needs, territories, absences,
# hours, values, known contacts, overflow, leads given by hand, closed, re-assigned and credited, the
# configuration that made the record gives every lead to the same rep again, from the start and from any
# moment on. An edit in an open transaction changes what it is about alone. Nothing else changes.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', clock => '2024-05-06 06:00:00', conf => "jit = off\nleadroute.backlog = off\nautovacuum = off");
$node->safe_psql('postgres', <<'SQL' . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
CREATE TABLE known (id int PRIMARY KEY, email text, owner_id bigint);
SELECT leadroute.attach('known', sticky_on => 'lower(email)', sticky_window => '1 day');
UPDATE leadroute.lead_table SET value_expression = 'deal_value', location_column = 'location' WHERE name = 'leads';
INSERT INTO leadroute.calendar (name) VALUES ('office');
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) SELECT 'office', d, '08:00', '17:30' FROM generate_series(1, 5) d;
INSERT INTO leadroute.rep (id, name, timezone, daily_cap, open_cap, skills, calendar, location)
    SELECT i, 'Rep ' || i, (ARRAY['UTC', 'Asia/Kolkata', 'America/New_York'])[1 + i % 3], CASE WHEN i % 4 = 0 THEN 6 END,
        CASE WHEN i % 5 = 0 THEN 8 END, jsonb_build_object('s' || i % 3, 1 + i % 2), CASE WHEN i % 6 = 1 THEN 'office' END,
        point(i * 7, i * 3)
    FROM generate_series(1, 24) i;
INSERT INTO leadroute.rep_absence (rep, during) VALUES (3, '[2024-05-07 09:00+00, 2024-05-08 11:00+00)'), (9, '[2024-05-06 10:00+00, 2024-05-07)');
INSERT INTO leadroute.pool (name, method, catch_up, catch_up_limit) VALUES ('rr', 'round_robin', 'none', NULL), ('w', 'weighted', 'full', NULL),
    ('t', 'priority', 'bounded', 3), ('lo', 'least_open', 'none', NULL), ('v', 'value', 'none', NULL), ('near', 'nearest', 'none', NULL), ('solo', 'round_robin', 'none', NULL), ('known', 'weighted', 'none', NULL);
UPDATE leadroute.pool SET overflow_pool = 'w' WHERE name = 't';
INSERT INTO leadroute.pool_member (pool, rep, weight, tier, daily_cap)
    SELECT p.name, i, CASE p.name WHEN 'w' THEN i ELSE 1 END, 1 + i % 3, CASE WHEN i % 7 = 0 THEN 4 END
    FROM leadroute.pool p, generate_series(1, 20) i WHERE p.name <> 'solo' AND (i + p.id) % 3 <> 0;
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('solo', 21), ('solo', 22), ('solo', 23);
INSERT INTO leadroute.territory (name, key) VALUES ('zip', 'postal_code');
INSERT INTO leadroute.territory_entry (territory, key, pool, rep) SELECT 'zip', i::text, CASE WHEN i % 2 = 0 THEN 'rr' END, CASE WHEN i % 2 = 1 THEN i END FROM generate_series(1, 10) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, territory, needs, overflow_pool, valid) VALUES
    ('leads', 1, 'zip', 'source = ''zip''', NULL, 'zip', NULL, 'lo', NULL),
    ('leads', 2, 'skilled', 'source = ''needs''', 'rr', NULL, 'ARRAY[''s'' || score % 3]', NULL, NULL),
    ('leads', 3, 'for a day', 'source = ''w''', 'rr', NULL, NULL, NULL, '[2024-05-07, 2024-05-08)'),
    ('leads', 4, 'solo', 'source = ''solo'' AND owner_id IS NULL', 'solo', NULL, NULL, NULL, NULL);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) SELECT 'leads', 10 + id, 'to ' || name, format('source = %L', name), name FROM leadroute.pool WHERE name NOT IN ('solo', 'known');
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('known', 1, 'all', 'known');
SQL

# ---- days of leads ---------------------------------------------------------------------------------

my $id = 0;
my @source = qw(zip needs rr w t lo v near solo nothing);

sub lead
{
	my $key = ++$id;
	return sprintf "INSERT INTO known VALUES (%d, 'Person%d\@x')", $key, rand 30 if rand() < 0.15;
	my $owner = rand() < 0.05 ? 1 + int rand 24 : 'NULL';
	return sprintf "INSERT INTO leads (id, source, postal_code, score, deal_value, location, owner_id) OVERRIDING SYSTEM VALUE VALUES (%d, '%s', '%d', %d, %s, %s, %s)",
		$key, $source[rand @source], rand 14, rand 9, (rand() < 0.8 ? int rand 900 : 'NULL'),
		(rand() < 0.8 ? sprintf('point(%d, %d)', rand 170, rand 70) : 'NULL'), $owner;
}

# later touches a lead that a rep has, by one of the ways in which that ends
sub later
{
	my $lead = "SELECT a.lead_id FROM leadroute.assignment a JOIN leads l ON l.id::text = a.lead_id AND l.source <> 'solo'"
		. " WHERE a.lead_table = 1 AND a.ended_at IS NULL AND a.rep IS NOT NULL AND a.credited_at IS NULL ORDER BY random() LIMIT 1";
	my $given = $lead =~ s/AND a.rep IS/AND a.pool IS NOT NULL AND a.rep IS/r;
	my $way = int rand 4;
	return "SELECT leadroute.reassign('leads', ($lead), @{[1 + int rand 24]})" if $way == 0;
	return "SELECT leadroute.credit_back('leads', g.lead_id, 'spam') FROM ($given) g" if $way == 1;
	return "SELECT leadroute.close('leads', ($lead), 'won')";
}

my ($session, @moments);
for my $moment ('2024-05-06 06:00', '2024-05-06 15:00', '2024-05-06 23:50', '2024-05-07 08:30', '2024-05-07 18:00', '2024-05-08 10:59', '2024-05-11 12:00')
{
	$session->close if $session;
	$node->set_clock("$moment:00");
	($session) = sessions($node, 1);
	push @moments, $session->query('SELECT clock_timestamp()');
	for (1 .. soak(130, 1000))
	{
		$session->query(rand() < 0.2 ? later() : lead());
	}
}
my $leads = $session->query('SELECT count(*) FROM leads');
cmp_ok($session->query("SELECT count(*) FROM leadroute.assignment WHERE rep IS NULL AND rule IS NOT NULL AND episode = 1"), '>', 3, 'some were capped');

# ---- the same again --------------------------------------------------------------------------------

my $state = q{SELECT (SELECT string_agg(p::text, ' ' ORDER BY p::text) FROM leadroute.pool_state p) || (SELECT string_agg(s::text, ' ' ORDER BY name) FROM leadroute.stat s)
	|| (SELECT count(*) FROM leadroute.assignment) || ' ' || (SELECT count(*) FROM leadroute.alert) || ' ' || (SELECT count(*) FROM leadroute.config_change)};
my $before = $session->query($state);
my $same = sub {
	my ($table, $since, $what) = @_;
	return is($session->query("SELECT lead_id, then_rep, now_rep, then_rule, now_rule, reason FROM leadroute.replay('$table', $since) WHERE changed OR then_rule IS DISTINCT FROM now_rule LIMIT 5"), '', "$table: $what, all as it was");
};
$same->('leads', 'NULL', 'from the start');
$same->('known', 'NULL', 'from the start');
for my $moment (@moments[1, 3, 5])
{
	$same->($_, "'$moment'", "since $moment") for 'leads', 'known';
}
is($session->query("SELECT count(*) FROM leadroute.replay('leads')"), $leads, 'each lead once');
is($session->query("SELECT count(*) FROM leadroute.replay('leads', '$moments[1]', '$moments[3]')"),
	$session->query("SELECT count(*) FROM leadroute.assignment a JOIN leadroute.lead_table t ON t.id = a.lead_table AND t.name = 'leads' WHERE episode = 1 AND decided_at >= '$moments[1]' AND decided_at < '$moments[3]'"), 'those of the time asked for');
is($session->query("SELECT rep, then_leads = now_leads, then_value IS NOT DISTINCT FROM now_value FROM leadroute.replay_summary('leads') WHERE then_leads <> now_leads OR then_value <> now_value"), '', 'the sums agree');
is($session->query("SELECT sum(now_leads) FROM leadroute.replay_summary('leads')"), $leads, 'and are of all leads');
cmp_ok($session->query("SELECT sum(caps_filled) FROM leadroute.replay_summary('leads')"), '>', 3, 'caps were filled');
is($session->query('BEGIN READ ONLY') . $session->query("SELECT count(*) FROM leadroute.replay('leads')") . $session->query('COMMIT'), $leads, 'also in a READ ONLY transaction');
sqlstate_is($node, "SELECT * FROM leadroute.replay($$_[0])", $_->[1], "refused: $_->[2]")
  for ["'nowhere'", 'LR002', 'no lead table'], ["'leads', '2024-05-08', '2024-05-07'", 'LR005', 'the end before the start'],
  ["'leads', tenant => 7", 'LR005', 'a tenant that the table cannot have'], ["'leads', tenant => NULL", 'LR005', 'no tenant'];

# ---- a draft ---------------------------------------------------------------------------------------

my $affected = "SELECT count(*) || ' ' || count(*) FILTER (WHERE l.source = 'solo') || ' ' || count(*) FILTER (WHERE now_rep = 24) FROM leadroute.replay('leads') r JOIN leads l ON l.id::text = r.lead_id WHERE changed";
my $solo = $session->query("SELECT count(*) FROM leadroute.replay('leads') r JOIN leadroute.rule u ON u.id = r.then_rule AND u.name = 'solo'");
$session->query('BEGIN');
$session->query("UPDATE leadroute.rule SET pool = NULL, rep = 24 WHERE name = 'solo'; UPDATE leadroute.rep SET daily_cap = NULL WHERE id = 24");
is($session->query($affected), "$solo $solo $solo", 'a draft: what the rule is about goes to its new rep, nothing else changes');
is($session->query("SELECT DISTINCT reason FROM leadroute.replay('leads') WHERE changed"), "the rule's own rep takes it", 'and says why');
$session->query("UPDATE leadroute.rule SET active = false WHERE name = 'solo'");
is($session->query("SELECT DISTINCT reason, now_rep FROM leadroute.replay('leads') WHERE changed"), 'no rule matches; then rule "solo" did|', 'without the rule they wait');
$session->query('ROLLBACK');
$session->query('BEGIN');
$session->query("UPDATE leadroute.pool_member SET paused = true WHERE pool = 'solo' AND rep = 21");
is($session->query("SELECT count(*) FILTER (WHERE now_rep = 21), bool_and(l.source = 'solo') FROM leadroute.replay('leads') r JOIN leads l ON l.id::text = r.lead_id WHERE changed AND then_rep IN (21, 22, 23)"), '0|t', 'without a member the others share its leads');
$session->query('ROLLBACK');
$same->('leads', 'NULL', 'the draft is gone');

# ---- what is gone ----------------------------------------------------------------------------------

is($session->query($state), $before, 'no counter, no record, no alert, no event came of all that');
$session->query("DELETE FROM leads WHERE id IN (SELECT id FROM leads WHERE source IN ('rr', 'w', 'lo', 'v', 'near') ORDER BY random() LIMIT 20)");
is($session->query("SET client_min_messages = warning; SELECT count(*) FILTER (WHERE changed) || ' ' || count(*) FROM leadroute.replay('leads')"), "0 @{[$leads - 20]}", 'leads that were deleted have had their turns');
my ($status, $out, $err) = $node->psql('postgres', "SELECT count(*) FROM leadroute.replay('leads')");
like($err, qr/20 leads are left out/, 'of which a note tells');
$session->close;
verify_ok($node);
figure(leads => $leads);

done_testing();
