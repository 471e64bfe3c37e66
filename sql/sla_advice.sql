-- What a policy allows and hardly anybody means: told when it is written, by NOTICE, and not refused.

CREATE FUNCTION leadroute._sla_advice(policy leadroute.sla_policy, only_step bigint DEFAULT NULL)
    RETURNS TABLE (message text, hint text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH step AS (SELECT s.*, coalesce(s.after, policy.first_touch * s.share::double precision) >= policy.first_touch AS late
        FROM leadroute.sla_step s WHERE s.tenant = policy.tenant AND s.policy = policy.name AND s.id = coalesce(only_step, s.id))
    SELECT format('policy "%s" has no recycle bin: at a breach its leads stay with their reps', policy.name),
        'Set recycle_pool, or another on_breach.'
    WHERE only_step IS NULL AND policy.on_breach = 'recycle' AND policy.recycle_pool IS NULL
    UNION ALL
    SELECT format('calendar "%s" of policy "%s" has no hours: but for reps with a calendar of their own no touch falls due', policy.calendar, policy.name),
        'Insert them into leadroute.calendar_hours.'
    WHERE only_step IS NULL AND NOT EXISTS (SELECT FROM leadroute.calendar_hours h WHERE h.tenant = policy.tenant AND h.calendar = policy.calendar)
        AND policy.calendar IS NOT NULL
    UNION ALL
    SELECT format('a step of policy "%s" recycles leads, and there is no recycle bin: they stay with their reps', policy.name),
        'Give the step a pool, or set the policy''s recycle_pool.'
    FROM step s WHERE s.action = 'recycle' AND s.pool IS NULL AND policy.recycle_pool IS NULL
    UNION ALL
    SELECT format('the step %s of policy "%s" does not come before the breach, at which a lead is taken from its rep (on_breach %s): it is done only for leads that stay',
            s.action, policy.name, policy.on_breach),
        'Let it come sooner than first_touch, or let steps take leads away, and on_breach be NULL.'
    FROM step s WHERE s.late AND (policy.on_breach = 'reroute' OR policy.on_breach = 'recycle' AND policy.recycle_pool IS NOT NULL)
$$;
COMMENT ON FUNCTION leadroute._sla_advice(leadroute.sla_policy, bigint) IS
    'What is odd about a policy and its steps (only_step: about that step alone), and what to do about it.';

CREATE FUNCTION leadroute._advise_sla() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy leadroute.sla_policy;
    advice record;
BEGIN
    IF TG_TABLE_NAME = 'sla_step' THEN
        SELECT s.* INTO policy FROM leadroute.sla_policy s WHERE s.tenant = NEW.tenant AND s.name = NEW.policy;
        FOR advice IN SELECT a.* FROM leadroute._sla_advice(policy, NEW.id) a LOOP
            RAISE NOTICE '%', advice.message USING HINT = advice.hint;
        END LOOP;
    ELSE
        FOR advice IN SELECT a.* FROM leadroute._sla_advice(NEW) a LOOP
            RAISE NOTICE '%', advice.message USING HINT = advice.hint;
        END LOOP;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._advise_sla() IS 'Tells of what is odd about a policy or step that was written; NOTICE.';
CREATE TRIGGER "9_advise" AFTER INSERT OR UPDATE OF first_touch, business_time, calendar, on_breach, recycle_pool ON leadroute.sla_policy
    FOR EACH ROW EXECUTE FUNCTION leadroute._advise_sla();
CREATE TRIGGER "9_advise" AFTER INSERT OR UPDATE OF after, share, action, pool ON leadroute.sla_step
    FOR EACH ROW EXECUTE FUNCTION leadroute._advise_sla();
