# Lead tables with everything around them that an app may have (partitions of another layout, views,
# triggers, policies), and what the tests themselves know of leads, record and memory.
#
#   leads_sql(…)    for a new database of a server with the role limited: lead tables of these names;
#                   root and root_late are partitioned, with rows from id 5000000 on in root_high
#                   (root_late_high) and the others in root_low; the late ones have a BEFORE trigger
#                   that fires after leadroute's. Leads 1 and 5000001 are there from the start.
#   config_sql(…)   reps, pools and the rules of these lead tables, which go by the column src:
#                   'rep', 'capped', 'wait' and 'none' (no rule matches); all else goes to the pool
#                   'all', whose members are always available
#   checks_sql(…)   the functions problems(), one row for each thing that is wrong with these lead
#                   tables, and unfair(), one row for each member of pool 'all' off its share
#
# With set_tenant(n) before, all that is of tenant n, and the tables have a column for it.
#
# The setting test.fate ends the statement that inserts a lead: 'cancel', 'timeout' or 'die', each
# 'early' (before leadroute's AFTER trigger) or 'late' (after it).
package LeadrouteTest::Leads;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

our @EXPORT = qw(leads_sql config_sql checks_sql set_tenant noon_zone HIGH);

use constant HIGH => 5_000_000;

my $tenant = 0;

sub set_tenant { ($tenant) = @_; return }

# noon_zone is a time zone in which no day begins while the tests run.
sub noon_zone
{
	my $east = 12 - (gmtime)[2];
	return sprintf 'Etc/GMT%+d', -$east;
}

sub leads_sql
{
	my (@tables) = @_;
	return join "\n", 'CREATE EXTENSION leadroute;', _functions(), (map { _table($_) } @tables),
	  (map { _around($_) } @tables, map { /^root/ ? "${_}_high" : () } @tables),
	  config_sql(@tables), checks_sql(@tables),
	  (map { "INSERT INTO $_ (id, src) VALUES (1, 'x'), (" . (HIGH + 1) . ", 'x');" } @tables);
}

# What the triggers call.
sub _functions
{
	return <<'SQL';
CREATE SEQUENCE keys START 1000000;

-- Runs with the rights of a superuser, who alone may end a superuser's statement.
CREATE FUNCTION meet_fate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CASE split_part(current_setting('test.fate'), ' ', 1)
    WHEN 'cancel' THEN PERFORM pg_cancel_backend(pg_backend_pid());
    WHEN 'timeout' THEN PERFORM pg_sleep(60);
    WHEN 'die' THEN PERFORM pg_terminate_backend(pg_backend_pid());
    END CASE;
    PERFORM pg_sleep(60);
    RETURN NULL;
END $$;

-- A backend that was terminated ends its transaction after its client has heard of it.
CREATE PROCEDURE wait_gone(gone integer) LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = gone) LOOP
        PERFORM pg_sleep(0.001);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END $$;

CREATE FUNCTION insert_another() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %s (id, src) VALUES ($1, $2)', TG_RELID::regclass) USING NEW.id + 1, 'x';
    RETURN NEW;
END $$;

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'UU001', MESSAGE = 'refused at commit';
END $$;

CREATE FUNCTION change_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.src
    WHEN 'drop' THEN RETURN NULL;
    WHEN 'other owner' THEN NEW.owner_id := 5;
    WHEN 'no owner' THEN NEW.owner_id := NULL;
    WHEN 'other key' THEN NEW.id := NEW.id + 7;
    ELSE
    END CASE;
    RETURN NEW;
END $$;

-- argument: the lead table; a lead that cannot be stored is left out
CREATE FUNCTION form_to_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %s (id, src) VALUES ($1, $2)', TG_ARGV[0]) USING NEW.id, NEW.src;
    RETURN NEW;
EXCEPTION WHEN unique_violation THEN
    RETURN NEW;
END $$;

CREATE FUNCTION view_to_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %s (id, src) VALUES ($1, $2) RETURNING owner_id', TG_ARGV[0])
        INTO NEW.owner_id USING NEW.id, NEW.src;
    RETURN NEW;
END $$;
SQL
}

sub _table
{
	my ($table) = @_;
	my $key = $tenant ? "tenant bigint NOT NULL DEFAULT $tenant, PRIMARY KEY (tenant, id), UNIQUE (id)" : 'PRIMARY KEY (id)';
	my $columns = "id bigint DEFAULT nextval('keys'), src text NOT NULL, n int CONSTRAINT n_check CHECK (n >= 0), owner_id bigint, $key";
	my $more = $tenant ? ", tenant bigint NOT NULL DEFAULT $tenant" : '';
	my $sql = $table =~ /root/ ? <<"SQL" : "CREATE TABLE $table ($columns);\n";
CREATE TABLE $table ($columns) PARTITION BY RANGE (id);
CREATE TABLE ${table}_low PARTITION OF $table FOR VALUES FROM (MINVALUE) TO (@{[HIGH]});
-- another layout than the root's
CREATE TABLE ${table}_high (gone int, owner_id bigint, n int CONSTRAINT n_check CHECK (n >= 0), src text NOT NULL, gone2 text, id bigint NOT NULL DEFAULT nextval('keys')$more);
ALTER TABLE ${table}_high DROP gone, DROP gone2;
ALTER TABLE $table ATTACH PARTITION ${table}_high FOR VALUES FROM (@{[HIGH]}) TO (MAXVALUE);
SQL
	$sql .= "SELECT leadroute.attach('$table'" . ($tenant ? ", tenant_column => 'tenant'" : '') . ");\n";
	$sql .= "CREATE TRIGGER zzz_later BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION change_later();\n"
	  if $table =~ /late/;
	return $sql . <<"SQL";
CREATE TRIGGER a_fate AFTER INSERT ON $table FOR EACH ROW
    WHEN (current_setting('test.fate', true) LIKE '% early') EXECUTE FUNCTION meet_fate();
CREATE TRIGGER zzz_fate AFTER INSERT ON $table FOR EACH ROW
    WHEN (current_setting('test.fate', true) LIKE '% late') EXECUTE FUNCTION meet_fate();
CREATE TRIGGER a_another BEFORE INSERT ON $table FOR EACH ROW
    WHEN (NEW.src = 'another before') EXECUTE FUNCTION insert_another();
CREATE TRIGGER b_another AFTER INSERT ON $table FOR EACH ROW
    WHEN (NEW.src = 'another after') EXECUTE FUNCTION insert_another();
CREATE CONSTRAINT TRIGGER c_refuse AFTER INSERT ON $table DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.src = 'refused at commit') EXECUTE FUNCTION refuse();
SQL
}

# What stands around a table that is inserted into: a root, or a partition by its own name.
sub _around
{
	my ($table) = @_;
	return <<"SQL";
ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
CREATE POLICY allowed ON $table FOR ALL TO limited USING (true) WITH CHECK (src <> 'forbidden');
GRANT SELECT, INSERT ON $table TO limited;
CREATE VIEW v_$table AS SELECT id, src, n, owner_id FROM $table WHERE src <> 'outside' WITH CHECK OPTION;
CREATE VIEW w_$table AS SELECT id, src, owner_id FROM $table;
CREATE TRIGGER instead INSTEAD OF INSERT ON w_$table FOR EACH ROW EXECUTE FUNCTION view_to_lead('$table');
CREATE VIEW r_$table AS SELECT id, src FROM $table;
CREATE RULE instead AS ON INSERT TO r_$table DO INSTEAD INSERT INTO $table (id, src) VALUES (NEW.id, NEW.src);
CREATE TABLE form_$table (id bigint, src text);
CREATE TRIGGER to_lead AFTER INSERT ON form_$table FOR EACH ROW EXECUTE FUNCTION form_to_lead('$table');
CREATE TABLE early_form_$table (id bigint, src text);
CREATE TRIGGER to_lead BEFORE INSERT ON early_form_$table FOR EACH ROW EXECUTE FUNCTION form_to_lead('$table');

-- The record is there for the next statement.
CREATE FUNCTION f_$table(first bigint, many int, source text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    FOR i IN 0 .. many - 1 LOOP
        INSERT INTO $table (id, src) VALUES (first + i, source);
        PERFORM FROM leadroute.decision d WHERE d.lead_id = (first + i)::text AND d.ended_at IS NULL
            AND d.rep IS NOT DISTINCT FROM (SELECT owner_id FROM $table WHERE id = first + i);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no record of lead % yet', first + i;
        END IF;
    END LOOP;
END \$\$;
CREATE FUNCTION s_$table(first bigint, source text) RETURNS bigint LANGUAGE sql AS
    'INSERT INTO $table (id, src) VALUES (first, source), (first + 1, source) RETURNING owner_id';
SQL
}

sub config_sql
{
	my (@lead_tables) = @_;
	my $zone = noon_zone();
	return <<"SQL" . join '', map { _rules($_) } @lead_tables;
INSERT INTO leadroute.rep (tenant, id, name, timezone) SELECT $tenant, i, 'Rep ' || i, '$zone' FROM generate_series(1, 6) i;
INSERT INTO leadroute.pool (tenant, name, method, overflow_pool) VALUES
    ($tenant, 'all', 'weighted', NULL), ($tenant, 'empty', 'round_robin', NULL), ($tenant, 'capped', 'round_robin', 'all');
INSERT INTO leadroute.pool_member (tenant, pool, rep, weight, daily_cap) VALUES ($tenant, 'all', 1, 3, NULL), ($tenant, 'all', 2, 2, NULL),
    ($tenant, 'all', 3, 1, NULL), ($tenant, 'capped', 4, 1, 30), ($tenant, 'capped', 5, 1, 20);
SQL
}

sub _rules
{
	my ($lead_table) = @_;
	return <<"SQL";
INSERT INTO leadroute.rule (tenant, lead_table, position, name, condition, pool, rep) VALUES
    ($tenant, '$lead_table', 1, 'one rep', \$\$src = 'rep'\$\$, NULL, 6),
    ($tenant, '$lead_table', 2, 'capped', \$\$src = 'capped'\$\$, 'capped', NULL),
    ($tenant, '$lead_table', 3, 'nobody', \$\$src = 'wait'\$\$, 'empty', NULL),
    ($tenant, '$lead_table', 4, 'else', \$\$src <> 'none'\$\$, 'all', NULL);
SQL
}

sub checks_sql
{
	my (@lead_tables) = @_;
	my $only = $tenant ? "WHERE tenant = $tenant" : '';
	my $leads = join ' UNION ALL ', map { "SELECT '$_' AS lead_table, id::text AS lead_id, owner_id FROM $_ $only" } @lead_tables;
	return <<"SQL";
CREATE VIEW lead AS $leads;
CREATE VIEW decided AS SELECT * FROM leadroute.decision WHERE tenant = $tenant;
CREATE VIEW state AS SELECT * FROM leadroute.pool_state WHERE tenant = $tenant;

-- plpgsql, for its plan is kept; hash joins, whatever the statistics of the moment say
CREATE FUNCTION problems() RETURNS SETOF text LANGUAGE plpgsql SET enable_nestloop = off SET jit = off AS \$\$
BEGIN
    RETURN QUERY SELECT format('verify() says %s', v) FROM leadroute.verify(tenant => $tenant) v
    WHERE (v.lost, v."double", v.overshoot, v.drift, v.orphan) IS DISTINCT FROM (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)
UNION ALL
    SELECT format('lead %s of %s, owner %s, has %s open records, of rep %s', l.lead_id, l.lead_table,
        l.owner_id, count(d.lead_id), max(d.rep))
    FROM lead l LEFT JOIN decided d USING (lead_table, lead_id)
    WHERE d.ended_at IS NULL
    GROUP BY l.lead_table, l.lead_id, l.owner_id
    HAVING count(d.lead_id) <> 1 OR max(d.rep) IS DISTINCT FROM l.owner_id
UNION ALL
    SELECT format('lead %s of %s has no record', l.lead_id, l.lead_table)
    FROM lead l LEFT JOIN decided d USING (lead_table, lead_id) WHERE d.lead_id IS NULL
UNION ALL
    SELECT format('record of lead %s of %s, which is not there', d.lead_id, d.lead_table)
    FROM decided d LEFT JOIN lead l USING (lead_table, lead_id)
    WHERE d.ended_at IS NULL AND l.lead_id IS NULL
UNION ALL
    SELECT format('pool_state %s, rep %s: received %s, today %s, open %s; the record says %s, %s, %s', s.pool, s.rep,
        s.received, s.today, s.open, count(d.rep), count(d.rep) FILTER (WHERE d.today), count(d.rep) FILTER (WHERE d.ended_at IS NULL))
    FROM state s LEFT JOIN (
        SELECT d.pool, d.rep, d.ended_at, (d.decided_at AT TIME ZONE r.timezone)::date = (clock_timestamp() AT TIME ZONE r.timezone)::date AS today
        FROM decided d JOIN leadroute.rep r ON r.tenant = $tenant AND r.id = d.rep) d USING (pool, rep)
    GROUP BY s.pool, s.rep, s.received, s.today, s.open
    HAVING (count(d.rep), count(d.rep) FILTER (WHERE d.today), count(d.rep) FILTER (WHERE d.ended_at IS NULL))
        <> (s.received, s.today, s.open)
UNION ALL
    SELECT format('the deficits of pool %s sum up to %s', s.pool, sum(s.deficit))
    FROM state s GROUP BY s.pool HAVING abs(sum(s.deficit)) > 0.001
UNION ALL
    SELECT format('a transaction of process %s holds %s turns', f.pid, f.reservations) FROM leadroute.in_flight f WHERE NOT EXISTS (
        SELECT FROM pg_stat_activity s WHERE s.pid = f.pid AND s.application_name = 'busy');
END \$\$;

CREATE FUNCTION unfair() RETURNS SETOF text LANGUAGE sql AS \$\$
    SELECT format('rep %s received %s of %s, its share is %s', m.rep, m.received, m.total, round(m.share, 3))
    FROM (SELECT m.rep, count(d.rep) AS received, sum(count(d.rep)) OVER () AS total,
              sum(count(d.rep)) OVER () * m.weight / sum(m.weight) OVER () AS share
          FROM leadroute.pool_member m LEFT JOIN decided d ON d.pool = m.pool AND d.rep = m.rep
          WHERE m.tenant = $tenant AND m.pool = 'all' GROUP BY m.rep, m.weight) m
    WHERE abs(m.received - m.share) >= 1
\$\$;
SQL
}

1;
