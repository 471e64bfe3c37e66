-- The functions of the library: what routes and records leads, what tells it of changed
-- configuration and hand-made edits, and the windows onto shared memory.

-- Triggers of an attached lead table; the argument is lead_table.id.
CREATE FUNCTION leadroute.route_lead() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_route_lead';
COMMENT ON FUNCTION leadroute.route_lead() IS
    'Gives the lead its owner before it is stored. attach() makes the trigger.';

CREATE FUNCTION leadroute.record_lead() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_record_lead';
COMMENT ON FUNCTION leadroute.record_lead() IS
    'Writes the record after the lead is stored, where it could not be written before. attach() makes the trigger.';

CREATE FUNCTION leadroute._after_pending() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_after_pending';
COMMENT ON FUNCTION leadroute._after_pending() IS
    'True when record_lead() has something to do for this statement; the trigger''s WHEN, so that nothing is queued otherwise.';

-- Configuration and the record, when somebody writes them.
CREATE FUNCTION leadroute._config_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_config_changed';
COMMENT ON FUNCTION leadroute._config_changed() IS
    'Makes this transaction route by its own configuration, and the others reload it once it commits.';

CREATE FUNCTION leadroute._config_truncated() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_config_truncated';
COMMENT ON FUNCTION leadroute._config_truncated() IS '_config_changed() for TRUNCATE.';

CREATE FUNCTION leadroute._record_edited() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_record_edited';
COMMENT ON FUNCTION leadroute._record_edited() IS
    'Makes shared memory follow an edit of the record by SQL.';

CREATE FUNCTION leadroute._record_truncated() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_record_truncated';
COMMENT ON FUNCTION leadroute._record_truncated() IS '_record_edited() for TRUNCATE.';

CREATE FUNCTION leadroute._record_ending() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_record_ending';
COMMENT ON FUNCTION leadroute._record_ending() IS
    'Frees the rep''s capacity once the end of an episode is committed.';

CREATE FUNCTION leadroute._record_credited() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_record_credited';
COMMENT ON FUNCTION leadroute._record_credited() IS
    'Returns the turn of an episode once the credit is committed.';

CREATE FUNCTION leadroute._check_rule() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_check_rule';
COMMENT ON FUNCTION leadroute._check_rule() IS
    'Refuses a rule whose condition would not work, with the position in it.';

CREATE FUNCTION leadroute._check_author() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    superuser CONSTANT boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
BEGIN
    IF superuser THEN
        NEW.author := coalesce(NEW.author, current_user);
        RETURN NEW;
    END IF;
    -- A condition runs with its author's rights, so it cannot be put into another's name.
    IF NEW.author <> current_user AND (TG_OP = 'INSERT' OR NEW.author <> OLD.author) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" cannot name "%s" as a rule''s author', current_user, NEW.author),
            DETAIL = 'A rule''s condition runs with its author''s rights.',
            HINT = 'Leave the author out; only a superuser may name another.';
    ELSIF TG_OP = 'INSERT' OR NEW.author IS NULL
        OR (NEW.condition, NEW.needs) IS DISTINCT FROM (OLD.condition, OLD.needs) THEN
        NEW.author := current_user;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_author() IS
    'Whoever writes a condition is its author; only a superuser may name another (LR012).';
CREATE TRIGGER a_author BEFORE INSERT OR UPDATE ON leadroute.rule
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_author();
CREATE TRIGGER b_condition BEFORE INSERT OR UPDATE ON leadroute.rule
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_rule();

CREATE FUNCTION leadroute._rule_error(lead regclass, lead_table integer, tenant bigint, rule bigint)
    RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_rule_error';
COMMENT ON FUNCTION leadroute._rule_error(regclass, integer, bigint, bigint) IS
    'What is wrong with a rule now; NULL when it compiles.';

CREATE FUNCTION leadroute._on_conflict() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_on_conflict';
COMMENT ON FUNCTION leadroute._on_conflict() IS
    'True in a row trigger of an INSERT ... ON CONFLICT, which deals with duplicates itself.';

CREATE FUNCTION leadroute._give(tenant bigint, rep bigint, sla integer, table_sla integer,
    OUT ticket bigint, OUT day date, OUT given_at timestamptz, OUT policy integer, OUT due_at timestamptz, OUT next_step_at timestamptz)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_give';
COMMENT ON FUNCTION leadroute._give(bigint, bigint, integer, integer) IS
    'Charges the rep''s day for a lead given by hand, in this transaction, and gives the ticket, the day and the moment for its record; NULLs when the rep is not known. Starts the clock of a policy: the first of these, else the rep''s, else the second; NULLs where there is none.';

-- Shared memory.
CREATE FUNCTION leadroute._pool_memory(tenant bigint,
    OUT pool integer, OUT rep bigint, OUT weight double precision, OUT received bigint,
    OUT in_flight integer, OUT own_in_flight integer, OUT deficit double precision,
    OUT active boolean, OUT reason text, OUT member_used integer, OUT member_cap integer,
    OUT rep_used integer, OUT rep_cap integer, OUT open_used integer, OUT open_cap integer,
    OUT extra bigint, OUT in_flight_extra bigint, OUT own_extra bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_pool_memory';
COMMENT ON FUNCTION leadroute._pool_memory(bigint) IS
    'Pool members as they stand: received and the used counts include what is in flight, that is reserved by transactions that have not ended; own_in_flight is this transaction''s part of it. reason: why it is away, as in the explanations. open_used: of reps whose open leads are counted. extra: what the leads received cost beyond 1 each, in 1/1024, as do the two after it.';

CREATE FUNCTION leadroute._day_memory(tenant bigint,
    OUT rep bigint, OUT day date, OUT used integer, OUT in_flight integer, OUT own_in_flight integer)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_day_memory';
COMMENT ON FUNCTION leadroute._day_memory(bigint) IS 'Leads of each rep by calendar day, for the days that are kept.';

CREATE FUNCTION leadroute._member_day_memory(tenant bigint,
    OUT pool integer, OUT rep bigint, OUT day date, OUT used integer, OUT in_flight integer,
    OUT own_in_flight integer)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_member_day_memory';
COMMENT ON FUNCTION leadroute._member_day_memory(bigint) IS 'Leads of each pool member by calendar day, for the days that are kept.';

CREATE FUNCTION leadroute._open_memory(tenant bigint,
    OUT rep bigint, OUT open integer, OUT in_flight integer, OUT own_in_flight integer, OUT own_ending integer)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_open_memory';
COMMENT ON FUNCTION leadroute._open_memory(bigint) IS
    'Open leads of each rep who has a capacity or is in a pool that goes by them. own_ending: ended by this transaction; they count until it commits.';

CREATE FUNCTION leadroute._in_flight(OUT pid integer, OUT since timestamptz, OUT reservations bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_in_flight';
COMMENT ON FUNCTION leadroute._in_flight() IS
    'Transactions that hold reservations, on this node; pid is NULL for a prepared one.';

CREATE FUNCTION leadroute._stat(tenant bigint, OUT name text, OUT value bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_stat';
COMMENT ON FUNCTION leadroute._stat(bigint) IS 'Counters of a tenant since the server started.';

CREATE FUNCTION leadroute._forget(tenant bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_forget';
COMMENT ON FUNCTION leadroute._forget(bigint) IS
    'Drops the tenant''s state from shared memory; its next use rebuilds it from the record. False while it is in use.';

CREATE FUNCTION leadroute._explanation(explanation bytea) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_explanation';
COMMENT ON FUNCTION leadroute._explanation(bytea) IS 'Decodes assignment.explanation.';

CREATE FUNCTION leadroute.placement(lead regclass, tenant bigint DEFAULT 0,
    OUT assignment regclass, OUT here boolean)
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_placement';
COMMENT ON FUNCTION leadroute.placement(regclass, bigint) IS
    'Which relation holds the record of the leads of this relation, and whether the tenant is served by this node.';

CREATE FUNCTION leadroute._library_version() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_library_version';
COMMENT ON FUNCTION leadroute._library_version() IS 'Version of the loaded library, to compare with the extension''s.';

CREATE FUNCTION leadroute._require_library(version text) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_require_library';
COMMENT ON FUNCTION leadroute._require_library(text) IS
    'Raises LR014 unless the loaded library is of this version: the first statement of every upgrade script.';

-- The counts in shared memory depend on the columns named here. Ending an episode changes what the
-- rep has open, and that alone.
CREATE TRIGGER record_inserted AFTER INSERT ON leadroute.assignment
    FOR EACH ROW WHEN (NEW.rep IS NOT NULL AND (NEW.pool IS NOT NULL OR NEW.day IS NOT NULL OR NEW.ended_at IS NULL))
    EXECUTE FUNCTION leadroute._record_edited();
CREATE TRIGGER record_updated AFTER UPDATE ON leadroute.assignment
    FOR EACH ROW WHEN ((OLD.tenant, OLD.rep, OLD.pool, OLD.day, OLD.ticket, OLD.decided_at, OLD.method, OLD.deficit, OLD.cost)
        IS DISTINCT FROM (NEW.tenant, NEW.rep, NEW.pool, NEW.day, NEW.ticket, NEW.decided_at, NEW.method, NEW.deficit, NEW.cost)
        OR OLD.rep IS NOT NULL AND OLD.ended_at IS NOT NULL AND NEW.ended_at IS NULL
        OR OLD.credited_at IS NOT NULL AND (OLD.credited_at, OLD.credit_ticket, OLD.credit_day)
            IS DISTINCT FROM (NEW.credited_at, NEW.credit_ticket, NEW.credit_day))
    EXECUTE FUNCTION leadroute._record_edited();
CREATE TRIGGER record_ending BEFORE UPDATE ON leadroute.assignment
    FOR EACH ROW WHEN (OLD.rep IS NOT NULL AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)
    EXECUTE FUNCTION leadroute._record_ending();
CREATE TRIGGER record_credited BEFORE UPDATE ON leadroute.assignment
    FOR EACH ROW WHEN (NEW.rep IS NOT NULL AND OLD.credited_at IS NULL AND NEW.credited_at IS NOT NULL)
    EXECUTE FUNCTION leadroute._record_credited();
CREATE TRIGGER record_deleted AFTER DELETE ON leadroute.assignment
    FOR EACH ROW WHEN (OLD.rep IS NOT NULL AND (OLD.pool IS NOT NULL OR OLD.day IS NOT NULL OR OLD.ended_at IS NULL))
    EXECUTE FUNCTION leadroute._record_edited();
CREATE TRIGGER record_truncated AFTER TRUNCATE ON leadroute.assignment
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._record_truncated();

-- Also for rows that logical replication applies, or a restore brings without other triggers.
ALTER TABLE leadroute.assignment ENABLE ALWAYS TRIGGER record_inserted;
ALTER TABLE leadroute.assignment ENABLE ALWAYS TRIGGER record_updated;
ALTER TABLE leadroute.assignment ENABLE ALWAYS TRIGGER record_ending;
ALTER TABLE leadroute.assignment ENABLE ALWAYS TRIGGER record_credited;
ALTER TABLE leadroute.assignment ENABLE ALWAYS TRIGGER record_deleted;
ALTER TABLE leadroute.assignment ENABLE ALWAYS TRIGGER record_truncated;

-- The record follows the leads -----------------------------------------------------------------
--
-- These triggers run with the rights of leadroute's owner, so that the app needs none on its
-- tables. They read the key, owner and tenant columns alone, whose types attach() has checked: no
-- code of the lead table's owner runs here. They refuse tables that attach() has not made them for.

CREATE FUNCTION leadroute._followed(relation regclass, argument text) RETURNS leadroute.lead_table
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
BEGIN
    SELECT t.* INTO attachment FROM leadroute.lead_table t WHERE t.id = argument::integer;
    IF attachment.id IS NULL OR leadroute._attachment(relation) IS DISTINCT FROM attachment.id THEN
        RAISE EXCEPTION USING ERRCODE = 'LR002',
            MESSAGE = format('a trigger of leadroute is on table %s, which is not attached', relation),
            DETAIL = format('No attachment has the trigger''s argument %s and this table.', argument),
            HINT = 'Drop the trigger; leadroute.attach() makes the triggers of a lead table.';
    END IF;
    RETURN attachment;
END
$$;
COMMENT ON FUNCTION leadroute._followed(regclass, text) IS
    'The attachment of the table whose trigger runs; raises LR002 for a trigger that attach() did not make.';

CREATE FUNCTION leadroute._lead_values(relation regclass, attachment leadroute.lead_table) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %1$s, ($1).%2$I::text, ($1).%3$I IS NOT NULL, %4$s',
        leadroute._tenant_expression(attachment, '($1)'), attachment.key_column, attachment.owner_column,
        leadroute._rep_expression(relation, attachment, '($1)'))
$$;
COMMENT ON FUNCTION leadroute._lead_values(regclass, leadroute.lead_table) IS
    'Text of the query that gives the tenant, the key''s output form, whether there is an owner, and the owner''s rep id, for the row $1.';

CREATE FUNCTION leadroute._actor() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(current_setting('role'), 'none'), session_user) $$;
COMMENT ON FUNCTION leadroute._actor() IS
    'The role at work, also within functions that run with another''s rights: what SET ROLE said, else the session''s user.';

CREATE FUNCTION leadroute._end_episode(attachment integer, tenant bigint, lead_id text, reason text,
    OUT ended leadroute.assignment, OUT next_episode integer)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE leadroute.assignment a SET ended_at = clock_timestamp(), end_reason = reason,
        episode = greatest(a.episode, 1 + (SELECT max(e.episode) FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.ended_at IS NOT NULL))
    WHERE a.tenant = tenant AND a.lead_table = attachment AND a.lead_id = lead_id AND a.ended_at IS NULL
    RETURNING a.* INTO ended;
    next_episode := ended.episode + 1;
END
$$;
COMMENT ON FUNCTION leadroute._end_episode(integer, bigint, text, text) IS
    'Ends the lead''s open episode, and gives it with the number of the next one; NULLs where none was open.';

CREATE FUNCTION leadroute._rule_sla(rule bigint, tenant bigint, previous_tenant bigint) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.id FROM leadroute.rule r JOIN leadroute.sla_policy s ON s.tenant = r.tenant AND s.name = r.sla
    WHERE r.tenant = _rule_sla.tenant AND r.id = _rule_sla.rule AND _rule_sla.previous_tenant = _rule_sla.tenant
$$;
COMMENT ON FUNCTION leadroute._rule_sla(bigint, bigint, bigint) IS 'The policy of a rule, by id; of a lead that came from another tenant none.';

CREATE FUNCTION leadroute._other_sla(previous integer, table_policy text, tenant bigint, previous_tenant bigint) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(CASE WHEN _other_sla.previous_tenant = _other_sla.tenant THEN previous END,
        (SELECT s.id FROM leadroute.sla_policy s WHERE s.tenant = _other_sla.tenant AND s.name = table_policy))
$$;
COMMENT ON FUNCTION leadroute._other_sla(integer, text, bigint, bigint) IS
    'The policy, by id, of a lead for which neither rule nor rep names one: the one it had, else its table''s.';

CREATE FUNCTION leadroute._hand_over(attachment leadroute.lead_table, tenant bigint, lead_id text,
    owned boolean, rep bigint, reason text, previous_tenant bigint, remark text DEFAULT NULL,
    gives_up boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    ended leadroute.assignment;
    next_episode integer;
BEGIN
    SELECT (e.ended).* INTO ended FROM leadroute._end_episode(attachment.id, previous_tenant, lead_id, reason) e;
    IF ended.lead_id IS NULL AND EXISTS (
        SELECT FROM leadroute.unmanaged_lead u
        WHERE u.tenant = tenant AND u.lead_table = attachment.id AND u.lead_id = lead_id) THEN
        RETURN;
    END IF;
    SELECT coalesce(max(e.episode), 0) + 1 INTO next_episode
    FROM leadroute._episodes(attachment.id, lead_id, tenant) e;

    IF owned THEN
        -- counts as used on the rep's day; may exceed the cap
        INSERT INTO leadroute.assignment (tenant, lead_table, lead_id, episode, method, rep, ticket, day, given_by, remark, contact, avoid,
            decided_at, sla, due_at, next_step_at)
        SELECT tenant, attachment.id, lead_id, next_episode, 'manual', rep, coalesce(g.ticket, 0), g.day,
            leadroute._actor(), remark, ended.contact, CASE WHEN tenant = previous_tenant
                THEN leadroute._without(ended.avoid, CASE WHEN gives_up THEN ended.rep END, rep) END,
            coalesce(g.given_at, clock_timestamp()), g.policy, g.due_at, g.next_step_at
        FROM leadroute._give(tenant, rep, leadroute._rule_sla(ended.rule, tenant, previous_tenant),
            leadroute._other_sla(ended.sla, attachment.sla, tenant, previous_tenant)) g;
    ELSE
        PERFORM leadroute._wait_again(attachment, tenant, lead_id, next_episode, ended, reason, remark);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._hand_over(leadroute.lead_table, bigint, text, boolean, bigint, text, bigint, text, boolean) IS
    'Ends the lead''s open episode and opens the next one: with the owner somebody gave it, or waiting (_wait_again()). gives_up: the former rep is not to get it again.';

CREATE FUNCTION leadroute._episodes(lead_table integer, lead_id text, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- one half for each of the two partial indexes
    SELECT a.* FROM leadroute.assignment a
    WHERE a.tenant = _episodes.tenant AND a.lead_table = _episodes.lead_table
      AND a.lead_id = _episodes.lead_id AND a.ended_at IS NULL
    UNION ALL
    SELECT a.* FROM leadroute.assignment a
    WHERE a.tenant = _episodes.tenant AND a.lead_table = _episodes.lead_table
      AND a.lead_id = _episodes.lead_id AND a.ended_at IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._episodes(integer, text, bigint) IS 'All episodes of a lead, by index.';

-- The triggers --------------------------------------------------------------------------------

CREATE FUNCTION leadroute._is_recorded(attachment integer, tenant bigint, lead_id text, owned boolean, rep bigint)
    RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leadroute.assignment a
        WHERE a.tenant = _is_recorded.tenant AND a.lead_table = _is_recorded.attachment
          AND a.lead_id = _is_recorded.lead_id AND a.ended_at IS NULL
          AND CASE WHEN owned THEN a.rep = _is_recorded.rep ELSE a.rep IS NULL AND a.method <> 'manual' END)
$$;
COMMENT ON FUNCTION leadroute._is_recorded(integer, bigint, text, boolean, bigint) IS
    'True when the lead''s open episode names this owner already.';

CREATE FUNCTION leadroute._follow_owner() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._followed(TG_RELID, TG_ARGV[0]);
    tenant bigint;
    lead_id text;
    owned boolean;
    rep bigint;
BEGIN
    EXECUTE leadroute._lead_values(TG_RELID, attachment) INTO tenant, lead_id, owned, rep USING NEW;
    IF leadroute._is_recorded(attachment.id, tenant, lead_id, owned, rep) THEN
        RETURN NULL;
    END IF;
    PERFORM leadroute._hand_over(attachment, tenant, lead_id, owned, rep,
        CASE WHEN owned THEN 'manual' ELSE 'released' END, tenant);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_owner() IS
    'follow_owner() of a change that the record may not know.';
-- reassign() and the like tell the record first, then the lead: then there is nothing to do
CREATE FUNCTION leadroute.follow_owner() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_follow_owner';
COMMENT ON FUNCTION leadroute.follow_owner() IS
    'An owner that somebody changed: ends the episode and opens a manual one; NULL releases the lead to its queue.';

CREATE FUNCTION leadroute.follow_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._followed(TG_RELID, TG_ARGV[0]);
    old_tenant bigint;
    old_id text;
    old_owned boolean;
    old_rep bigint;
    new_tenant bigint;
    new_id text;
    owned boolean;
    rep bigint;
    previous_episodes integer;
    key_taken boolean;
BEGIN
    EXECUTE leadroute._lead_values(TG_RELID, attachment) INTO old_tenant, old_id, old_owned, old_rep USING OLD;
    EXECUTE leadroute._lead_values(TG_RELID, attachment) INTO new_tenant, new_id, owned, rep USING NEW;

    -- A key that other leads have had before keeps their episodes: ours count on from them.
    SELECT coalesce(max(e.episode), 0) INTO previous_episodes
    FROM leadroute._episodes(attachment.id, new_id, old_tenant) e WHERE new_id <> old_id;
    BEGIN
        UPDATE leadroute.assignment a SET lead_id = new_id, episode = a.episode + previous_episodes
        WHERE a.tenant = old_tenant AND a.lead_table = attachment.id AND a.lead_id = old_id AND a.ended_at IS NULL;
    EXCEPTION WHEN unique_violation THEN
        -- Another lead has the key: its own index says so, in the app's words, if it looks at once.
        EXECUTE format('SELECT EXISTS (SELECT FROM %s l WHERE l.%I = %L AND %s = $1)', leadroute._lead_relation(attachment.id),
            attachment.key_column, new_id, leadroute._tenant_expression(attachment, 'l')) INTO key_taken USING new_tenant;
        IF key_taken AND EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = TG_RELID AND i.indisprimary AND i.indimmediate) THEN
            RETURN NEW;
        END IF;
        RAISE;
    END;
    UPDATE leadroute.assignment a SET lead_id = new_id, episode = a.episode + previous_episodes
    WHERE a.tenant = old_tenant AND a.lead_table = attachment.id AND a.lead_id = old_id AND a.ended_at IS NOT NULL;
    UPDATE leadroute.activity a SET lead_id = new_id, episode = a.episode + previous_episodes
    WHERE a.tenant = old_tenant AND a.lead_table = attachment.id AND a.lead_id = old_id;
    UPDATE leadroute.unmanaged_lead u SET tenant = new_tenant, lead_id = new_id
    WHERE u.tenant = old_tenant AND u.lead_table = attachment.id AND u.lead_id = old_id;

    IF new_tenant <> old_tenant THEN
        PERFORM leadroute._hand_over(attachment, new_tenant, new_id, owned, rep, 'moved', old_tenant);
    ELSIF owned <> old_owned OR rep <> old_rep THEN
        PERFORM leadroute._hand_over(attachment, new_tenant, new_id, owned, rep,
            CASE WHEN owned THEN 'manual' ELSE 'released' END, old_tenant);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute.follow_key() IS
    'A lead whose key changed takes its record along; one that moved to another tenant starts a new episode there. Runs before the row is moved to another partition, where only an insert would be seen.';

CREATE FUNCTION leadroute.follow_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._followed(TG_RELID, TG_ARGV[0]);
    old_tenant bigint;
    old_id text;
BEGIN
    EXECUTE leadroute._lead_values(TG_RELID, attachment) INTO old_tenant, old_id USING OLD;
    UPDATE leadroute.assignment a SET ended_at = clock_timestamp(), end_reason = 'deleted',
        episode = greatest(a.episode, 1 + (SELECT max(e.episode) FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.ended_at IS NOT NULL))
    WHERE a.tenant = old_tenant AND a.lead_table = attachment.id AND a.lead_id = old_id AND a.ended_at IS NULL;
    DELETE FROM leadroute.unmanaged_lead u
    WHERE u.tenant = old_tenant AND u.lead_table = attachment.id AND u.lead_id = old_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute.follow_delete() IS 'A deleted lead''s episode ends; it has used its turn.';

CREATE FUNCTION leadroute.follow_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._end_orphans(leadroute._followed(TG_RELID, TG_ARGV[0]), 'truncated');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute.follow_truncate() IS 'Ends the episodes of the leads that a TRUNCATE removed.';

CREATE FUNCTION leadroute._end_orphans(attachment leadroute.lead_table, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lead CONSTANT regclass := leadroute._lead_relation(attachment.id);
    gone CONSTANT text := format('NOT EXISTS (SELECT FROM %s l WHERE l.%I::text COLLATE "C" = r.lead_id AND %s = r.tenant)',
        lead, attachment.key_column, leadroute._tenant_expression(attachment, 'l'));
BEGIN
    EXECUTE 'UPDATE leadroute.assignment r SET ended_at = clock_timestamp(), end_reason = $2,
            episode = greatest(r.episode, 1 + (SELECT max(e.episode) FROM leadroute.assignment e
                WHERE e.tenant = r.tenant AND e.lead_table = r.lead_table AND e.lead_id = r.lead_id
                  AND e.ended_at IS NOT NULL))
        WHERE r.lead_table = $1 AND r.ended_at IS NULL AND ' || gone USING attachment.id, reason;
    EXECUTE 'DELETE FROM leadroute.unmanaged_lead r WHERE r.lead_table = $1 AND ' || gone
        USING attachment.id;
END
$$;
COMMENT ON FUNCTION leadroute._end_orphans(leadroute.lead_table, text) IS
    'Ends the open episodes of leads that are no longer in the table.';
