-- Configuration is checked when it is written: what CHECKs would refuse is refused here first, by
-- BEFORE triggers, with a SQLSTATE of class LR and a hint. What a row refers to: references.sql.
-- Custom plans: a session that loads many rows begins with empty tables, where every index looks as
-- good as another, and would keep a plan that reads a whole tenant for each row.

CREATE FUNCTION leadroute._name_problem(name text, most integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN coalesce(btrim(_name_problem.name), '') = '' THEN 'is empty'
        WHEN _name_problem.name <> btrim(_name_problem.name) THEN 'begins or ends with a blank'
        WHEN _name_problem.name ~ '[[:cntrl:]]' THEN 'contains a control character'
        WHEN char_length(_name_problem.name) > most THEN format('is longer than %s characters', most) END;
END
$$;
COMMENT ON FUNCTION leadroute._name_problem(text, integer) IS 'What is wrong with a name; NULL when it will do.';

CREATE FUNCTION leadroute._is_time_zone(name text) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF _is_time_zone.name IN ('UTC', 'GMT') THEN
        RETURN true;
    ELSIF _is_time_zone.name ~ '^[A-Za-z_-]+(/[A-Za-z_-]+)+$' THEN
        -- A name of this form can be nothing else, and the list below takes long to read.
        PERFORM now() AT TIME ZONE _is_time_zone.name;
        RETURN true;
    END IF;
    -- Of the others the listed names will do, such as Iran, or EST, which is a zone without summer
    -- time. Not so mere abbreviations and offsets such as PST, 5 or UTC+5: these have the wrong sign.
    RETURN EXISTS (SELECT FROM pg_timezone_names z WHERE lower(z.name) = lower(_is_time_zone.name));
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION leadroute._is_time_zone(text) IS 'Whether this is the full name of a time zone.';

-- rep -----------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._skill_problem(skills jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN leadroute._name_problem(s.key, 100) IS NOT NULL
            THEN format('The name "%s" %s.', left(s.key, 100), leadroute._name_problem(s.key, 100))
        WHEN s.key ~ '[<>=]' THEN format('The name "%s" contains <, > or =.', s.key)
        ELSE format('The level of "%s" is %s.', s.key, s.value) END
    FROM jsonb_each(CASE jsonb_typeof(skills) WHEN 'object' THEN skills ELSE '{}' END) s
    WHERE leadroute._name_problem(s.key, 100) IS NOT NULL OR s.key ~ '[<>=]'
       OR CASE jsonb_typeof(s.value) WHEN 'number' THEN abs(s.value::numeric) > 1000000 END
    ORDER BY s.key LIMIT 1
$$;
COMMENT ON FUNCTION leadroute._skill_problem(jsonb) IS
    'What is wrong with the names of skills, or with levels that are numbers; NULL when they will do.';

CREATE FUNCTION leadroute._check_rep() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    added CONSTANT boolean := TG_OP = 'INSERT';
    problem text[];
BEGIN
    problem := CASE
        WHEN NOT added AND (NEW.tenant, NEW.id) IS DISTINCT FROM (OLD.tenant, OLD.id) THEN ARRAY[
            format('rep %s cannot change its id or tenant', OLD.id), 'The record refers to it.',
            'Insert another rep, and pause or delete this one.']
        WHEN NEW.id <= 0 THEN ARRAY[format('rep id %s is not positive', NEW.id), 'Ids start at 1.', 'Leave it out.']
        WHEN leadroute._name_problem(NEW.name, 200) IS NOT NULL THEN ARRAY[
            format('the name of rep %s %s', NEW.id, leadroute._name_problem(NEW.name, 200)),
            'People tell reps apart by their names.', 'Give a name of 1 to 200 characters.']
        WHEN leadroute._name_problem(NEW.ref, 200) IS NOT NULL AND NEW.ref IS NOT NULL THEN ARRAY[
            format('the ref of rep %s %s', NEW.id, leadroute._name_problem(NEW.ref, 200)),
            'It is what a text or uuid owner column receives.', 'Give 1 to 200 characters, or NULL.']
        WHEN NEW.manager = NEW.id THEN ARRAY[
            format('rep %s cannot be their own manager', NEW.id), 'Alerts would go nowhere else.',
            'Name another rep, or NULL.']
        WHEN NEW.timezone IS NULL OR (added OR NEW.timezone IS DISTINCT FROM OLD.timezone)
            AND NOT leadroute._is_time_zone(NEW.timezone) THEN ARRAY[
            coalesce(format('unknown time zone "%s"', nullif(NEW.timezone, '')), 'the time zone is empty'),
            format('Rep %s''s day, and so the daily cap, begins at its midnight.', NEW.id),
            'Use a full name such as Europe/London; pg_timezone_names lists them.']
        WHEN NEW.paused IS NULL THEN ARRAY[
            format('rep %s is neither paused nor not', NEW.id), 'paused was given as NULL.', 'Use true or false.']
        WHEN NEW.daily_cap < 0 THEN ARRAY[
            format('daily cap %s is negative', NEW.daily_cap), 'It is the most leads in one day.',
            'Use NULL for no cap, 0 for no leads at all.']
        WHEN NEW.skills IS NULL OR jsonb_typeof(NEW.skills) <> 'object' OR EXISTS (
            SELECT FROM jsonb_each(CASE jsonb_typeof(NEW.skills) WHEN 'object' THEN NEW.skills ELSE '{}' END) s
            WHERE jsonb_typeof(s.value) <> 'number') THEN ARRAY[
            format('the skills of rep %s are not levels by name', NEW.id),
            format('Given is %s.', coalesce(NEW.skills::text, 'NULL')), 'Give an object such as {"enterprise": 3}.']
        WHEN leadroute._skill_problem(NEW.skills) IS NOT NULL THEN ARRAY[
            format('the skills of rep %s name what no rule can ask for', NEW.id), leadroute._skill_problem(NEW.skills),
            'Give names of 1 to 100 characters without <, > and =, and levels up to 1000000.']
        WHEN NOT (NEW.location[0] BETWEEN -180 AND 180 AND NEW.location[1] BETWEEN -90 AND 90) THEN ARRAY[
            format('location %s is not on the globe', NEW.location), 'It is (longitude, latitude) in degrees.',
            'Longitude is -180 to 180, latitude -90 to 90.']
        WHEN NEW.open_cap < 0 THEN ARRAY[
            format('open cap %s is negative', NEW.open_cap), 'It is the most open leads of a rep.',
            'Use NULL for no capacity, 0 for no leads at all.']
        WHEN NOT on_conflict AND EXISTS (SELECT FROM leadroute.rep r
            WHERE r.tenant = NEW.tenant AND r.id = NEW.id AND added) THEN ARRAY[
            format('rep %s exists already', NEW.id), 'Ids are unique within a tenant.',
            'Where the id was made, the sequence is behind ids given by hand: SELECT setval(''leadroute.rep_id_seq'', max(id)) FROM leadroute.rep.']
        WHEN NOT on_conflict AND EXISTS (SELECT FROM leadroute.rep r
            WHERE r.tenant = NEW.tenant AND r.ref = NEW.ref AND r.id <> NEW.id) THEN ARRAY[
            format('another rep has the ref "%s"', NEW.ref), 'A ref names one rep of a tenant.', 'Give another ref.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_rep() IS 'Refuses (LR005) a rep with a wrong value.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.rep
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_rep();

-- pool ----------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._claim_problem(claim_daily integer, claim_open integer, claim_delay interval) RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN claim_daily < 0 THEN ARRAY[format('claim_daily %s is negative', claim_daily),
            'It is the most leads that a member claims from the pool in one day.', 'Use NULL for no limit, 0 for none at all.']
        WHEN claim_open < 0 THEN ARRAY[format('claim_open %s is negative', claim_open),
            'It is the most leads claimed from the pool that a member has open.', 'Use NULL for no limit, 0 for none at all.']
        WHEN claim_delay < '0' THEN ARRAY[format('claim_delay %s is negative', claim_delay),
            'It is the least time between two claims of a member from the pool.', 'Use NULL for none.'] END
$$;
COMMENT ON FUNCTION leadroute._claim_problem(integer, integer, interval) IS
    'What is wrong with the allowances of a pool or member: message, detail, hint; NULL when they will do.';

CREATE FUNCTION leadroute._check_pool() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    added CONSTANT boolean := TG_OP = 'INSERT';
    problem text[];
BEGIN
    problem := CASE
        WHEN NOT added AND (NEW.tenant, NEW.id) IS DISTINCT FROM (OLD.tenant, OLD.id) THEN ARRAY[
            format('pool "%s" cannot change its id or tenant', OLD.name), 'The record refers to it.',
            'A pool may change its name: its members and rules follow.']
        WHEN NEW.id <= 0 THEN ARRAY[format('pool id %s is not positive', NEW.id), 'Ids start at 1.', 'Leave it out.']
        WHEN leadroute._name_problem(NEW.name, 63) IS NOT NULL THEN ARRAY[
            format('the name of the pool %s', leadroute._name_problem(NEW.name, 63)),
            'Rules and members refer to a pool by its name.', 'Give a name of 1 to 63 characters.']
        WHEN NEW.name = 'unmatched' THEN ARRAY[
            'a pool cannot be called "unmatched"', 'It is the queue of leads that no rule matches.',
            'Give another name.']
        WHEN NEW.method IS NULL OR NEW.method NOT IN ('round_robin', 'weighted', 'least_open', 'priority', 'nearest', 'performance', 'value') THEN ARRAY[
            format('unknown method %s', coalesce('"' || NEW.method || '"', 'NULL')),
            format('It says how pool "%s" chooses among its members.', NEW.name),
            'Use round_robin, weighted, least_open, priority, nearest, performance or value.']
        WHEN NEW.mode IS NULL OR NEW.mode NOT IN ('push', 'pull', 'broadcast') THEN ARRAY[
            format('unknown mode %s', coalesce('"' || NEW.mode || '"', 'NULL')),
            format('It says how the leads of pool "%s" reach its members.', NEW.name), 'Use push, pull or broadcast.']
        WHEN NEW.presence_required IS NULL THEN ARRAY[
            format('pool "%s" needs presence_required to be true or false', NEW.name),
            'It says whether members must be signed in.', 'Leave it out for false.']
        WHEN NEW.catch_up IS NULL OR NEW.catch_up NOT IN ('none', 'full', 'bounded') THEN ARRAY[
            format('unknown catch_up %s', coalesce('"' || NEW.catch_up || '"', 'NULL')), 'It says what a joiner or returner is owed.',
            'Use none, full or bounded.']
        WHEN (NEW.catch_up = 'bounded') <> (NEW.catch_up_limit IS NOT NULL) THEN ARRAY[
            format('catch_up "%s" and catch_up_limit %s do not go together', NEW.catch_up,
                coalesce(NEW.catch_up_limit::text, 'NULL')),
            'The limit is the most turns that a joiner or returner is owed.',
            'Give a limit with catch_up = ''bounded'', and only there.']
        WHEN NOT NEW.catch_up_limit BETWEEN 0 AND 1000000 THEN ARRAY[
            format('catch_up_limit %s is out of range', NEW.catch_up_limit), 'It is a number of turns.',
            'Give 0 to 1000000.']
        WHEN NEW.credit_returns_cap IS NULL THEN ARRAY[
            format('credit_returns_cap of pool "%s" is NULL', NEW.name),
            'It says whether a turn that is credited back counts for the day.', 'Use true or false.']
        WHEN NEW.performance_window IS NULL OR NEW.performance_window <= '0' THEN ARRAY[
            format('performance_window %s is no time', coalesce(NEW.performance_window::text, 'NULL')),
            'With the method performance it says how far back outcomes and speed count.', 'Give an interval such as ''90 days''.']
        WHEN NEW.performance_bound IS NULL OR NOT NEW.performance_bound BETWEEN 1 AND 100 THEN ARRAY[
            format('performance_bound %s is out of range', coalesce(NEW.performance_bound::text, 'NULL')),
            'With the method performance no member weighs more than so many times the average.', 'Give 1 to 100.']
        WHEN NEW.performance_won IS NULL OR array_position(NEW.performance_won, NULL) IS NOT NULL THEN ARRAY[
            'performance_won names no outcome', 'With the method performance it lists the outcomes that count as won.',
            'Give outcomes as close() receives them, such as ''{won}''.']
        WHEN leadroute._claim_problem(NEW.claim_daily, NEW.claim_open, NEW.claim_delay) IS NOT NULL THEN
            leadroute._claim_problem(NEW.claim_daily, NEW.claim_open, NEW.claim_delay)
        WHEN NEW.claim_exclusive < '0' THEN ARRAY[
            format('claim_exclusive %s is negative', NEW.claim_exclusive),
            'For so long after a lead has come to wait only members of the first tier may claim it.',
            'Use NULL for all members at once.']
        WHEN NEW.offer_window <= '0' OR NEW.offer_window > '10 years' THEN ARRAY[
            format('offer_window %s is out of range', NEW.offer_window),
            'With the mode broadcast it says how long an offer stands.',
            'Give more than no time and at most 10 years, or NULL for until somebody claims the lead.']
        WHEN NEW.claim_blind IS NULL OR NEW.release_returns_turn IS NULL THEN ARRAY[
            format('%s of pool "%s" is NULL', CASE WHEN NEW.claim_blind IS NULL THEN 'claim_blind'
                ELSE 'release_returns_turn' END, NEW.name),
            CASE WHEN NEW.claim_blind IS NULL THEN 'It says whether members claim without seeing the leads.'
                ELSE 'It says whether a rep who releases a lead has the turn returned.' END,
            'Use true or false; leave it out for false.']
        WHEN NEW.shark_tank_order IS NULL OR NEW.shark_tank_order NOT IN ('random', 'next') THEN ARRAY[
            format('unknown shark_tank_order %s', coalesce('"' || NEW.shark_tank_order || '"', 'NULL')),
            'It says which lead claim_next() takes from the shark tank.', 'Use random or next.']
        WHEN NEW.release_to IS NULL OR NEW.release_to NOT IN ('front', 'end') THEN ARRAY[
            format('unknown release_to %s', coalesce('"' || NEW.release_to || '"', 'NULL')),
            'It says where in the queue a lead goes that somebody releases.', 'Use front or end.']
        WHEN NEW.overflow_pool = NEW.name THEN ARRAY[
            format('pool "%s" cannot overflow into itself', NEW.name),
            'The overflow pool is asked when nobody in this pool is eligible.', 'Name another pool, or NULL.']
        WHEN NOT on_conflict AND EXISTS (SELECT FROM leadroute.pool p WHERE p.tenant = NEW.tenant
            AND p.name = NEW.name AND (added OR p.id <> NEW.id)) THEN ARRAY[
            format('pool "%s" exists already', NEW.name), 'Names are unique within a tenant.', 'Give another name.']
        WHEN NOT on_conflict AND added AND EXISTS (SELECT FROM leadroute.pool p
            WHERE p.tenant = NEW.tenant AND p.id = NEW.id) THEN ARRAY[
            format('another pool has the id %s', NEW.id), 'Ids are unique within a tenant.',
            'Where the id was made, the sequence is behind ids given by hand: SELECT setval(''leadroute.pool_id_seq'', max(id)) FROM leadroute.pool.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    IF NOT added THEN
        NEW.value_since := CASE WHEN (NEW.method = 'value') = (OLD.method = 'value') THEN OLD.value_since ELSE clock_timestamp() END;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_pool() IS 'Refuses (LR005) a pool with a wrong value.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.pool
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_pool();

-- pool_member ---------------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_pool_member() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    moved CONSTANT boolean := TG_OP = 'INSERT'
        OR (NEW.tenant, NEW.pool, NEW.rep) IS DISTINCT FROM (OLD.tenant, OLD.pool, OLD.rep);
    problem text[];
BEGIN
    problem := CASE
        WHEN NEW.pool IS NULL OR NEW.rep IS NULL OR NEW.paused IS NULL THEN ARRAY[
            format('a pool member needs %s', CASE WHEN NEW.pool IS NULL THEN 'a pool'
                WHEN NEW.rep IS NULL THEN 'a rep' ELSE 'paused to be true or false' END),
            'A row of pool_member says which rep shares the leads of which pool.',
            'Give the pool by name and the rep by id; leave out what is to have its default.']
        WHEN NEW.weight IS NULL OR NOT NEW.weight BETWEEN 0.000001 AND 1000000 THEN ARRAY[
            format('weight %s is out of range', coalesce(NEW.weight::text, 'NULL')),
            format('Rep %s''s share of pool "%s" is the weight against those of the other members.', NEW.rep, NEW.pool),
            'Give 0.000001 to 1000000; for a member who is to receive nothing set paused = true.']
        WHEN NEW.daily_cap < 0 THEN ARRAY[
            format('daily cap %s is negative', NEW.daily_cap),
            'It is the most leads a day that the member receives from this pool.',
            'Use NULL for no cap, 0 for no leads at all.']
        WHEN NEW.tier IS NULL OR NEW.tier < 1 THEN ARRAY[
            format('tier %s is out of range', coalesce(NEW.tier::text, 'NULL')),
            format('With the method priority, a tier of pool "%s" receives what those before it cannot take.', NEW.pool),
            'Give a whole number, 1 for the first tier.']
        WHEN leadroute._claim_problem(NEW.claim_daily, NEW.claim_open, NEW.claim_delay) IS NOT NULL THEN
            leadroute._claim_problem(NEW.claim_daily, NEW.claim_open, NEW.claim_delay)
        WHEN NOT on_conflict AND moved AND EXISTS (SELECT FROM leadroute.pool_member m
            WHERE m.tenant = NEW.tenant AND m.pool = NEW.pool AND m.rep = NEW.rep) THEN ARRAY[
            format('rep %s is in pool "%s" already', NEW.rep, NEW.pool), 'A rep is in a pool once.',
            'Update the member''s weight, cap or pause instead.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_pool_member() IS 'Refuses (LR005) a pool member with a wrong value.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.pool_member
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_pool_member();

-- lead_table ----------------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_lead_table() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    added CONSTANT boolean := TG_OP = 'INSERT';
    problem text[];
BEGIN
    problem := CASE
        WHEN NOT added AND NEW.id IS DISTINCT FROM OLD.id THEN ARRAY[
            format('lead table "%s" cannot change its id', OLD.name), 'The record and the triggers refer to it.',
            'leadroute.detach() the table and attach it again.']
        WHEN leadroute._name_problem(NEW.name, 127) IS NOT NULL THEN ARRAY[
            format('the name of the lead table %s', leadroute._name_problem(NEW.name, 127)),
            'Rules, functions and views refer to it.', 'Give a name of 1 to 127 characters.']
        WHEN cardinality(NEW.reroute_on) = 0 OR array_position(NEW.reroute_on, NULL) IS NOT NULL THEN ARRAY[
            'reroute_on names no column', format('It was given for "%s".', NEW.name),
            'Give names of columns, or NULL.']
        WHEN EXISTS (SELECT FROM leadroute.lead_table t
            WHERE t.name = NEW.name AND (added OR t.id <> NEW.id)) THEN ARRAY[
            format('another lead table is attached as "%s"', NEW.name),
            'Rules, functions and views tell lead tables apart by this name.', 'Give another name.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_lead_table() IS 'Refuses (LR005) an attachment with a wrong value.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_lead_table();

-- rule ----------------------------------------------------------------------------------------

-- Rules come by the hundred thousand, for which planning anew would be most of the work. Whatever the
-- table held when the plan was made, only one index gives the order that is asked for without a sort.
CREATE FUNCTION leadroute._check_rule_values() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    added CONSTANT boolean := TG_OP = 'INSERT';
    namesake record;
    same_id bigint;
    problem text[];
BEGIN
    SELECT r.tenant, r.lead_table, r.name, r.id INTO namesake FROM leadroute.rule r
    WHERE (r.tenant, r.lead_table, r.name) >= (NEW.tenant, NEW.lead_table, NEW.name)
    ORDER BY r.tenant, r.lead_table, r.name LIMIT 1;
    IF added AND NOT on_conflict THEN
        SELECT CASE r.tenant WHEN NEW.tenant THEN r.id END INTO same_id FROM leadroute.rule r
        WHERE (r.tenant, r.id) >= (NEW.tenant, NEW.id) ORDER BY r.tenant, r.id LIMIT 1;
    END IF;
    problem := CASE
        WHEN NOT added AND (NEW.tenant, NEW.id) IS DISTINCT FROM (OLD.tenant, OLD.id) THEN ARRAY[
            format('rule "%s" cannot change its id or tenant', OLD.name), 'The record refers to it.',
            'Insert another rule, and delete this one.']
        WHEN leadroute._name_problem(NEW.name, 200) IS NOT NULL THEN ARRAY[
            format('the name of the rule %s', leadroute._name_problem(NEW.name, 200)),
            'The record and the alerts show it.', 'Give a name of 1 to 200 characters.']
        WHEN NEW.lead_table IS NULL OR NEW.condition IS NULL OR NEW.active IS NULL THEN ARRAY[
            format('rule "%s" has no %s', NEW.name, CASE WHEN NEW.lead_table IS NULL THEN 'lead table'
                WHEN NEW.condition IS NULL THEN 'condition' ELSE 'value for active' END),
            'A rule says which leads of which table go where.',
            'Name an attached table; leave condition and active out for true.']
        WHEN NEW.position IS NULL THEN ARRAY[
            format('rule "%s" has no position', NEW.name), 'Rules are tried by ascending position.', 'Give a number.']
        WHEN num_nonnulls(NEW.pool, NEW.rep, NEW.territory) <> 1 THEN ARRAY[
            format('rule "%s" has %s', NEW.name,
                CASE num_nonnulls(NEW.pool, NEW.rep, NEW.territory) WHEN 0 THEN 'no target' WHEN 2 THEN 'two targets' ELSE 'three targets' END),
            'A rule says who receives the leads that match it.', 'Give either pool, rep or territory.']
        WHEN NEW.overflow_pool = NEW.pool THEN ARRAY[
            format('rule "%s" overflows into its own pool', NEW.name),
            'The overflow pool is asked when nobody in the target is eligible.', 'Name another pool, or NULL.']
        WHEN jsonb_typeof(NEW.label) <> 'object' THEN ARRAY[
            format('the label of rule "%s" is not a JSON object', NEW.name), format('Given is %s.', NEW.label),
            'Give values by name, such as {"priority": 1}.']
        WHEN isempty(NEW.valid) OR lower(NEW.valid) = 'infinity' OR upper(NEW.valid) = '-infinity' THEN ARRAY[
            format('rule "%s" is never valid', NEW.name), format('Its period is %s.', NEW.valid),
            'Give a period with time in it, or NULL for always.']
        WHEN NOT on_conflict AND (added OR namesake.id <> NEW.id) AND (namesake.tenant, namesake.lead_table, namesake.name)
            = (NEW.tenant, NEW.lead_table, NEW.name) THEN ARRAY[
            format('lead table "%s" has a rule "%s" already', NEW.lead_table, NEW.name),
            'Names are unique among a table''s rules.', 'Give another name.']
        WHEN same_id = NEW.id THEN ARRAY[
            format('another rule has the id %s', NEW.id), 'Ids are unique within a tenant.',
            'Where the id was made, the sequence is behind ids given by hand: SELECT setval(''leadroute.rule_id_seq'', max(id)) FROM leadroute.rule.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_rule_values() IS 'Refuses (LR005) a rule with a wrong value.';

-- a_author (route.sql) comes before, b_condition after.
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.rule
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_rule_values();
