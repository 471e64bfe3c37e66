# Skills and territories against an oracle in plain SQL: for random leads the rule, the territory's
# entry, who qualifies and who is said not to; while skills and entries change, in drafts too. Then
# under load; and 10,000 members of whom five qualify.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', conf => 'jit = off');
my $reps = 12;

$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, $reps) i;
INSERT INTO leadroute.pool (name) VALUES ('even'), ('odd'), ('small');
INSERT INTO leadroute.pool_member (pool, rep)
    SELECT CASE i % 2 WHEN 0 THEN 'even' ELSE 'odd' END, i FROM generate_series(1, $reps) i UNION ALL VALUES ('small', 1), ('small', 2);
INSERT INTO leadroute.territory (name, key, match) VALUES ('exact', 'postal_code', 'exact'), ('prefix', 'postal_code || coalesce(city, '''')', 'prefix');
-- needs: words of industry, such as 'a>=2 b'
INSERT INTO leadroute.rule (lead_table, position, name, condition, territory, needs) VALUES
    ('leads', 1, 'exact', 'country = ''E''', 'exact', NULL),
    ('leads', 2, 'prefix', 'country <> ''N''', 'prefix', 'string_to_array(industry, '' '')');
INSERT INTO leadroute.rule (lead_table, position, name, pool, needs) VALUES ('leads', 3, 'rest', 'small', 'string_to_array(industry, '' '')');

-- skilled: who has all of some needs, by plain SQL.
CREATE FUNCTION skilled(needs text) RETURNS TABLE (rep bigint) LANGUAGE sql AS \$\$
    SELECT r.id FROM leadroute.rep r WHERE NOT EXISTS (
        SELECT FROM unnest(string_to_array(needs, ' ')) n
        WHERE coalesce((r.skills ->> split_part(n, '>=', 1))::numeric, -1) < coalesce(nullif(split_part(n, '>=', 2), ''), '1')::numeric)
\$\$;
-- expected: the rule, pool and rep that a lead is for.
CREATE FUNCTION expected(l leads, OUT rule text, OUT pool text, OUT rep bigint) LANGUAGE plpgsql AS \$\$
BEGIN
    IF l.country = 'E' THEN
        SELECT 'exact', e.pool, e.rep INTO rule, pool, rep FROM leadroute.territory_entry e WHERE e.territory = 'exact' AND e.key = l.postal_code;
    END IF;
    IF rule IS NULL AND l.country <> 'N' THEN
        SELECT 'prefix', e.pool, e.rep INTO rule, pool, rep FROM leadroute.territory_entry e
        WHERE e.territory = 'prefix' AND starts_with(l.postal_code || coalesce(l.city, ''), e.key) ORDER BY length(e.key) DESC LIMIT 1;
    END IF;
    IF rule IS NULL THEN
        rule := 'rest'; pool := 'small';
    END IF;
END \$\$;
-- wrong: what is wrong with a lead just inserted, or nothing.
CREATE FUNCTION wrong(l leads) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    want record := expected(l);
    needs text := CASE want.rule WHEN 'exact' THEN NULL ELSE l.industry END;
    given record;
    may bigint[];
BEGIN
    SELECT u.name AS rule, a.rep, leadroute._explanation(a.explanation) AS why INTO given FROM leadroute.assignment a
        LEFT JOIN leadroute.rule u ON u.id = a.rule WHERE a.lead_id = l.id::text AND a.ended_at IS NULL;
    SELECT array_agg(r.id) INTO may FROM leadroute.rep r
    WHERE (needs IS NULL OR r.id IN (SELECT s.rep FROM skilled(needs) s))
      AND (r.id = want.rep OR r.id IN (SELECT m.rep FROM leadroute.pool_member m WHERE m.pool = want.pool));
    RETURN nullif(concat_ws('; ',
        CASE WHEN given.rule IS DISTINCT FROM want.rule THEN format('rule %s, not %s', given.rule, want.rule) END,
        CASE WHEN NOT coalesce(l.owner_id = ANY (may), may IS NULL AND l.owner_id IS NULL) THEN format('owner %s, not one of %s', l.owner_id, may) END,
        (SELECT string_agg(format('%s said to be %s', c ->> 'rep', c ->> 'state'), ', ') FROM jsonb_array_elements(given.why #> '{tried,0,candidates}') c
         WHERE (c ->> 'state' = 'unskilled') = coalesce((c ->> 'rep')::bigint = ANY (may), false))), '');
END \$\$;
CREATE FUNCTION random_code() RETURNS text LANGUAGE sql VOLATILE AS \$\$
    SELECT string_agg(substr('01ä', 1 + floor(random() * 3)::int, 1), '') FROM generate_series(1, 1 + floor(random() * 5)::int) \$\$;
CREATE FUNCTION random_needs() RETURNS text LANGUAGE sql VOLATILE AS \$\$
    SELECT string_agg(substr('abc', 1 + floor(random() * 3)::int, 1) || (ARRAY['', '>=1', '>=2', '>=1.5'])[1 + floor(random() * 4)::int], ' ')
    FROM generate_series(1, floor(random() * 3)::int) \$\$;
CREATE FUNCTION random_edit() RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
    t text := (ARRAY['exact', 'prefix'])[1 + floor(random() * 2)::int];
    k text := random_code();
BEGIN
    CASE floor(random() * 5)::int
    WHEN 0 THEN UPDATE leadroute.rep SET skills = (SELECT coalesce(jsonb_object_agg(s, floor(random() * 5)::int / 2.0), '{}') FROM unnest('{a,b,c}'::text[]) s WHERE random() < 0.6)
        WHERE id = 1 + floor(random() * $reps)::int;
    WHEN 1 THEN DELETE FROM leadroute.territory_entry WHERE territory = t AND key = (SELECT key FROM leadroute.territory_entry WHERE territory = t ORDER BY random() LIMIT 1);
    WHEN 2 THEN UPDATE leadroute.territory_entry SET pool = 'small', rep = NULL WHERE territory = t AND length(key) = 2;
    ELSE INSERT INTO leadroute.territory_entry (territory, key, pool, rep)
        SELECT t, k, CASE WHEN r > 3 THEN (ARRAY['even', 'odd'])[1 + r % 2] END, CASE WHEN r <= 3 THEN r END FROM (SELECT 1 + floor(random() * 8)::int AS r) x
        ON CONFLICT DO NOTHING;
    END CASE;
END \$\$;
SQL

# ---- random leads against the oracle ----------------------------------------------------------------

my ($writer, $other) = sessions($node, 2);
$_->query('SELECT setseed(' . rand(1) . ')') for $writer, $other;
my $insert = "WITH n AS (INSERT INTO leads (country, postal_code, city, industry)
    SELECT substr('EPN', 1 + floor(random() * 3)::int, 1), CASE WHEN random() < 0.95 THEN random_code() END, CASE WHEN random() < 0.2 THEN '0' END, random_needs()
    FROM generate_series(1, 8) RETURNING leads)
    SELECT count(*) FROM n";
my $check = "SELECT string_agg(format('%s: %s', to_jsonb(l) - 'attrs', wrong(l)), E'\\n') FROM leads l WHERE wrong(l) IS NOT NULL";
my ($rounds, @wrong) = (soak(60, 2000));
for my $round (1 .. $rounds)
{
	my $draft = int rand 3;
	$writer->query('BEGIN') if $draft;
	$writer->query('SELECT random_edit() FROM generate_series(1, 3)');
	if ($draft == 2)
	{
		# a draft of which a part is undone
		$writer->query('SAVEPOINT a');
		$writer->query('SELECT random_edit() FROM generate_series(1, 3)');
		$writer->query('DELETE FROM leads');
		$writer->query($insert);
		my ($bad, @errors) = $writer->query($check);
		push @wrong, "round $round, in the subtransaction: $bad @errors" if $bad || @errors;
		$writer->query('ROLLBACK TO a');
	}
	for my $session ($draft ? ($writer) : ($writer, $other))
	{
		$session->query('DELETE FROM leads');
		$session->query($insert);
		my ($bad, @errors) = $session->query($check);
		push @wrong, "round $round: $bad @errors" if $bad || @errors;
	}
	$writer->query(rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') if $draft;
}
is(join("\n", @wrong[ 0 .. ($#wrong > 4 ? 4 : $#wrong) ]), '', "$rounds rounds of edits and leads: rule, entry, owner and reasons as SQL has them");
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.territory_entry'), '>', 3, 'there were entries');

# ---- others see a new entry from their first statement after the commit -------------------------------

$writer->query('DELETE FROM leads');
$writer->query("DELETE FROM leadroute.territory_entry");
$writer->query("INSERT INTO leadroute.territory_entry (territory, key, rep) VALUES ('exact', 'x', 1)");
for my $level ('READ COMMITTED', 'REPEATABLE READ')
{
	my @late;
	$other->query("BEGIN ISOLATION LEVEL $level");
	for my $turn (1 .. soak(30, 500))
	{
		my $rep = 1 + $turn % 2;
		$writer->query("UPDATE leadroute.territory_entry SET rep = $rep WHERE key = 'x'");
		my ($owner) = $other->query("INSERT INTO leads (country, postal_code) VALUES ('E', 'x') RETURNING owner_id");
		push @late, "$owner, not $rep" if $owner ne $rep;
	}
	$other->query('COMMIT');
	is("@late", '', "a session in a $level transaction follows each commit");
}
$_->close for $writer, $other;

# ---- under load -----------------------------------------------------------------------------------------

$node->safe_psql('postgres', <<'SQL');
DELETE FROM leads;
UPDATE leadroute.rep SET skills = jsonb_build_object('always', id % 3, 'now and then', 1);
DELETE FROM leadroute.rule;
INSERT INTO leadroute.rule (lead_table, position, name, pool, needs) VALUES ('leads', 1, 'load', 'even', $$ARRAY['always>=2', coalesce(source, 'always')]$$);
SQL
my @scripts = map { load_script(number => $_, transactions => soak(60, 1500), sources => [ 'always', 'now and then' ], shared => 40) } 1 .. 12;
my $load = LeadrouteTest::Clients->new($node, slots => 6, scripts => \@scripts);
my ($editor) = sessions($node, 1);
my $edits = 0;
$load->finish(sub {
	$editor->query("UPDATE leadroute.rep SET skills = CASE WHEN skills ? 'now and then' AND id % 4 > 0 THEN skills - 'now and then' ELSE skills || '{\"now and then\": 2}' END WHERE id = 1 + floor(random() * $reps)::int");
	$edits++;
});
cmp_ok($edits, '>', 5, "skills were edited under load");
is($node->safe_psql('postgres', "SELECT DISTINCT a.rep FROM leadroute.assignment a WHERE a.ended_at IS NULL AND a.rep IS NOT NULL AND a.rep % 3 <> 2"),
	'', 'nobody without the skill that never changed was given a lead');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT rep::text, ' ' ORDER BY rep::text) FROM leadroute.assignment WHERE ended_at IS NULL AND rep IS NOT NULL"),
	'2 8', 'all who have it were') or diag explain [ $load->messages ];
is($node->safe_psql('postgres', 'SELECT problems()'), '', 'and nothing is wrong');
$editor->close;

# ---- 10,000 members -----------------------------------------------------------------------------------------

$node->safe_psql('postgres', <<'SQL');
DELETE FROM leads;
INSERT INTO leadroute.rep (id, name, skills, paused, daily_cap)
    SELECT i, 'Rep ' || i, CASE WHEN i % 2000 = 7 THEN '{"rare": 2, "common": 1}'::jsonb WHEN i % 2 = 0 THEN '{"common": 1}' ELSE '{}' END,
        i % 10 = 1, CASE WHEN i % 10 = 2 THEN 0 END FROM generate_series(1001, 11000) i;
INSERT INTO leadroute.pool (name) VALUES ('crowd');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'crowd', i FROM generate_series(1001, 11000) i;
UPDATE leadroute.rule SET pool = 'crowd', needs = $$ARRAY['common', 'rare>=2']$$;
SQL
is($node->safe_psql('postgres', "INSERT INTO leads (name) SELECT 'x' FROM generate_series(1, 10) RETURNING owner_id"),
	join("\n", (2007, 4007, 6007, 8007, 10007) x 2), 'five of 10,000 take turns');
is($node->safe_psql('postgres', q(SELECT leadroute._explanation(explanation) #> '{tried,0}' #- '{candidates,0,deficit}' #- '{candidates,1,deficit}' #- '{candidates,2,deficit}' #- '{candidates,3,deficit}' FROM leadroute.assignment WHERE lead_id = (SELECT max(id)::text FROM leads))),
	'{"pool": 4, "others": {"turn": 1, "rep_cap": 1000, "unskilled": 7995, "rep_paused": 1000}, "members": 10000, "candidates": [{"rep": 10007, "state": "picked"}, {"rep": 2007, "state": "turn"}, {"rep": 4007, "state": "turn"}, {"rep": 6007, "state": "turn"}]}',
	'the pick, who is next, and how many are why not');

# their caps, filled by many at once: daily of the rep, of the member, and what a rep has open
$node->safe_psql('postgres', <<'SQL');
UPDATE leadroute.rep SET daily_cap = 20 WHERE id IN (2007, 4007);
UPDATE leadroute.rep SET open_cap = 30 WHERE id = 6007;
UPDATE leadroute.pool_member SET daily_cap = 25 WHERE pool = 'crowd' AND rep IN (8007, 10007);
SQL
my @rivals = sessions($node, 8);
for (1 .. 20)
{
	$_->send("INSERT INTO leads (name) VALUES ('x'), ('y')") for @rivals;
	wait_all(@rivals);
}
$_->close for @rivals;
psql_is($node, "SELECT string_agg(format('%s:%s', rep, many), ' ' ORDER BY rep) FROM (SELECT rep, count(*) AS many FROM leadroute.open_assignment GROUP BY rep) o",
	'2007:20 4007:20 6007:30 8007:25 10007:25 :210', 'each cap is filled, and none overrun');
verify_ok($node);

$node->safe_psql('postgres', q(UPDATE leadroute.rule SET needs = 'ARRAY[''common>=2'', ''rare'']'));
is($node->safe_psql('postgres', "INSERT INTO leads (name) VALUES ('x') RETURNING owner_id IS NULL"), 't', 'a combination that nobody has');
is($node->safe_psql('postgres', q(SELECT leadroute._explanation(explanation) #> '{tried,0}' FROM leadroute.assignment WHERE lead_id = (SELECT max(id)::text FROM leads))),
	'{"pool": 4, "others": {"rep_cap": 1002, "open_cap": 1, "unskilled": 7995, "member_cap": 2, "rep_paused": 1000}, "members": 10000, "candidates": []}', 'is told of all');
is($node->safe_psql('postgres', 'SELECT problems()'), '', 'and nothing is wrong then');
done_testing();
