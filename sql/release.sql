-- What becomes of a lead that is given up: where it waits then, what a claim has to know of it there,
-- whom it does not go back to, and whether the turn is returned. _hand_over() (route.sql) asks here.

CREATE FUNCTION leadroute._waiting_values(relation regclass, rule bigint, lead_row record,
    OUT known boolean, OUT failed boolean, OUT needs text[], OUT score double precision)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_waiting_values';
COMMENT ON FUNCTION leadroute._waiting_values(regclass, bigint, record) IS
    'A lead''s score, and what a rule''s needs say of it now; known: the rule is there. failed: its needs raised an error, which is alerted. NULLs where there is no such lead, or no shared memory.';

CREATE FUNCTION leadroute._waits_as(attachment leadroute.lead_table, tenant bigint, lead_id text,
    INOUT pool integer, rule bigint, INOUT needs text[], INOUT score double precision)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    relation CONSTANT regclass := leadroute._lead_relation(attachment.id);
    found_lead record;
BEGIN
    IF pool IS NOT NULL AND (rule IS NOT NULL OR attachment.score_column IS NOT NULL) THEN
        EXECUTE format('SELECT v.* FROM leadroute._read_lead($1, $2) AS o (l %s), leadroute._waiting_values($1, $3, o.l) v', relation)
            INTO found_lead USING relation, format('SELECT l FROM %s l WHERE %s', relation,
                leadroute._lead_condition(attachment, relation, lead_id, tenant)), rule;
        IF found_lead.failed THEN
            -- better seen by a person than claimed by whoever lacks the licence
            pool := NULL;
            needs := NULL;
        ELSIF found_lead.known THEN
            needs := found_lead.needs;
        END IF;
        score := CASE WHEN found_lead.known IS NULL THEN score ELSE found_lead.score END;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._waits_as(leadroute.lead_table, bigint, text, integer, bigint, text[], double precision) IS
    'What the record has to say of a lead that comes back to a pool''s queue: what its rule needs of whoever claims it, computed anew where the rule is there and kept otherwise, and its score. Where the needs raise an error the lead waits in unmatched.';

CREATE FUNCTION leadroute._without(reps bigint[], former bigint, present bigint) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(array_remove(CASE WHEN former IS NULL OR former = ANY (coalesce(reps, '{}')) THEN coalesce(reps, '{}')
        ELSE coalesce(reps, '{}') || former END, present), '{}')
$$;
COMMENT ON FUNCTION leadroute._without(bigint[], bigint, bigint) IS
    'assignment.avoid with a rep who gave the lead up (NULL: nobody), and without the one who has it now.';

CREATE FUNCTION leadroute._return_turn(ended leadroute.assignment, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy leadroute.pool;
BEGIN
    IF ended.rep IS NULL OR ended.pool IS NULL OR ended.credited_at IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT p.* INTO policy FROM leadroute.pool p WHERE p.tenant = ended.tenant AND p.id = ended.pool;
    IF policy.release_returns_turn THEN
        UPDATE leadroute.assignment a SET credited_at = clock_timestamp(), credited_by = leadroute._actor(),
            credit_reason = coalesce(reason, 'released'), credit_day = ended.day IS NOT NULL AND policy.credit_returns_cap
        WHERE a.tenant = ended.tenant AND a.lead_table = ended.lead_table AND a.lead_id = ended.lead_id
          AND a.ended_at IS NOT NULL AND a.episode = ended.episode AND a.credited_at IS NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._return_turn(leadroute.assignment, text) IS
    'Credits back the turn of an episode that a release has ended, where its pool says so (release_returns_turn).';

CREATE FUNCTION leadroute._came_from(attachment integer, tenant bigint, lead_id text, before integer)
    RETURNS leadroute.assignment
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.* FROM leadroute.assignment a
    WHERE a.tenant = _came_from.tenant AND a.lead_table = _came_from.attachment AND a.lead_id = _came_from.lead_id
      AND a.ended_at IS NOT NULL AND a.episode < before AND a.method <> 'manual'
    ORDER BY a.episode DESC LIMIT 1
$$;
COMMENT ON FUNCTION leadroute._came_from(integer, bigint, text, integer) IS
    'The latest episode before this one in which the lead was not a person''s choice: the pool that it came from; NULL: there is none.';

CREATE FUNCTION leadroute._wait_again(attachment leadroute.lead_table, tenant bigint, lead_id text, next_episode integer,
    ended leadroute.assignment, reason text, remark text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    stays CONSTANT boolean := coalesce(ended.tenant = tenant, true);
    origin leadroute.assignment := CASE WHEN stays THEN ended END;
    waits record;
    policy leadroute.pool;
BEGIN
    IF origin.method = 'manual' THEN
        origin := leadroute._came_from(attachment.id, tenant, lead_id, next_episode);
    END IF;
    SELECT w.* INTO waits FROM leadroute._waits_as(attachment, tenant, lead_id,
        coalesce(origin.pool, (SELECT p.id FROM leadroute.pool p WHERE p.tenant = tenant AND p.name = attachment.fallback_pool)),
        origin.rule, origin.needs, origin.score) w;
    SELECT p.* INTO policy FROM leadroute.pool p WHERE p.tenant = tenant AND p.id = waits.pool;
    INSERT INTO leadroute.assignment (tenant, lead_table, lead_id, episode, pool, rule, rule_version, label, given_by, remark, contact,
        score, needs, at_front, avoid)
    VALUES (tenant, attachment.id, lead_id, next_episode, waits.pool, origin.rule, origin.rule_version, origin.label, leadroute._actor(), remark,
        ended.contact, waits.score, waits.needs, CASE WHEN reason = 'released' AND policy.release_to = 'front' THEN true END,
        CASE WHEN stays THEN leadroute._without(ended.avoid, CASE WHEN reason = 'released' THEN ended.rep END, NULL) END);
    IF reason = 'released' THEN
        PERFORM leadroute._return_turn(ended, remark);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._wait_again(leadroute.lead_table, bigint, text, integer, leadroute.assignment, text, text) IS
    'Opens the episode of a lead that has no owner any more: it waits in the queue of the pool it came from, else of the fallback pool, with what a rule''s label said. Of one that was released the former rep is avoided; the pool says whether it waits in front (release_to), and whether the turn is returned.';
