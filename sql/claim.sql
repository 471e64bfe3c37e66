-- claim() and claim_next(): reps take leads themselves. The library does it (src/pg/claim.cpp); here is how
-- it says no, and the way into the shark tank.

CREATE FUNCTION leadroute._access_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_access_changed';
COMMENT ON FUNCTION leadroute._access_changed() IS
    'Makes sessions that claim ask anew who may: they keep the answer for a role and a rep.';
CREATE TRIGGER access_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.access
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._access_changed();
ALTER TABLE leadroute.access ENABLE ALWAYS TRIGGER access_changed;

CREATE FUNCTION leadroute._claim_visible(caller name, level text, rep bigint, a leadroute.assignment) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT level IN ('admin', 'app') OR leadroute._sees_for(caller, a)
        OR EXISTS (SELECT FROM leadroute.pool p JOIN leadroute.pool_member m ON m.tenant = p.tenant AND m.pool = p.name
            WHERE p.tenant = a.tenant AND p.id IN (a.pool, a.tank_pool) AND m.rep = _claim_visible.rep)
$$;
COMMENT ON FUNCTION leadroute._claim_visible(name, text, bigint, leadroute.assignment) IS
    'Whether a role that claims for a rep may be told of an episode: one that it sees, or of a pool that the rep is a member of.';

CREATE FUNCTION leadroute._claim_reason(why text, tenant bigint, pool text, rep bigint, used integer, cap integer,
    until timestamptz) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- SQLSTATE, detail, hint
    SELECT CASE why
        WHEN 'no_member' THEN ARRAY['LR010', format('It waits in pool %I, of which the rep is not a member.', pool),
            format('An admin may INSERT INTO leadroute.pool_member (pool, rep) VALUES (%L, %s).', pool, rep)]
        WHEN 'foreign' THEN ARRAY['LR012', format('A manager claims for the reps that it manages, and for others out of the pools that it manages: pool %I is none of them.', pool),
            'Ask its manager.']
        WHEN 'unmatched' THEN ARRAY['LR010', 'It waits in the queue unmatched, which no rep is a member of.',
            'leadroute.reassign() gives it to a rep, leadroute.route() tries the rules again.']
        WHEN 'push' THEN ARRAY['LR010', format('Pool %I gives its leads out itself (mode push).', pool),
            'Leads are claimed from pools with the mode pull or broadcast, and where somebody released them.']
        WHEN 'blind' THEN ARRAY['LR010', format('Leads of pool %I are claimed unseen (claim_blind).', pool),
            format('leadroute.claim_next(%s, %L) takes the next one.', rep, pool)]
        WHEN 'own' THEN ARRAY['LR010', 'It is in the shark tank because this rep has not touched it.',
            'leadroute.touch() takes it out of there.']
        WHEN 'lost' THEN ARRAY['LR010', 'The rep has had it, and lost it to another in the shark tank.',
            'leadroute.reassign() gives it to a rep again.']
        WHEN 'avoided' THEN ARRAY['LR010', 'The rep has given it up.', 'leadroute.claim() takes it nevertheless.']
        WHEN 'exclusive' THEN ARRAY['LR010', format('Until %s it is for members of the first tier of pool %I (claim_exclusive).', until, pool),
            'Claim it then, or another one.']
        WHEN 'rep_paused' THEN ARRAY['LR010', 'The rep is paused.', format('UPDATE leadroute.rep SET paused = false WHERE id = %s.', rep)]
        WHEN 'member_paused' THEN ARRAY['LR010', format('The rep is paused in pool %I.', pool),
            format('UPDATE leadroute.pool_member SET paused = false WHERE pool = %L AND rep = %s.', pool, rep)]
        WHEN 'signed_out' THEN ARRAY['LR010', format('The rep is not signed in, and pool %I asks for it.', pool),
            format('SELECT leadroute.sign_in(%s).', rep)]
        WHEN 'unskilled' THEN ARRAY['LR010', 'The rep lacks a skill that the lead needs.', 'assignment.needs tells which it needs, rep.skills which the rep has.']
        WHEN 'no_ref' THEN ARRAY['LR010', 'The lead table''s owner column cannot name the rep.',
            format('UPDATE leadroute.rep SET ref = … WHERE id = %s, or give the owner column the type bigint.', rep)]
        WHEN 'claim_daily' THEN ARRAY['LR011', format('claim_daily: %s of %s leads claimed from pool %I today, until %s.', used, cap, pool, until),
            'pool_member.claim_daily and pool.claim_daily say how many.']
        WHEN 'claim_open' THEN ARRAY['LR011', format('claim_open: %s of %s leads claimed from pool %I are open, until one of them ends.', used, cap, pool),
            'leadroute.close() or leadroute.release() ends one.']
        WHEN 'claim_delay' THEN ARRAY['LR011', format('claim_delay: the next lead may be claimed from pool %I at %s.', pool, until),
            'pool_member.claim_delay and pool.claim_delay say how soon.']
        WHEN 'open_cap' THEN ARRAY['LR011', format('open_cap: %s of %s leads are open, until one of them ends.', used, cap),
            'leadroute.close() or leadroute.release() ends one.']
        WHEN 'rep_cap' THEN ARRAY['LR011', format('daily_cap: %s of %s leads today, until %s.', used, cap, until), 'rep.daily_cap says how many.']
        WHEN 'member_cap' THEN ARRAY['LR011', format('daily_cap: %s of %s leads of pool %I today, until %s.', used, cap, pool, until),
            'pool_member.daily_cap says how many.']
    END
$$;
COMMENT ON FUNCTION leadroute._claim_reason(text, bigint, text, bigint, integer, integer, timestamptz) IS
    'SQLSTATE, detail and hint for why a rep may not claim; NULL for what is about the lead alone.';

CREATE FUNCTION leadroute._refuse_claim(caller name, level text, tenant bigint, attachment integer, lead_id text, rep bigint,
    why text, used integer, cap integer, until timestamptz, pool integer) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT leadroute.lead_table := (SELECT leadroute._require_attached(t.name) FROM leadroute.lead_table t WHERE t.id = attachment);
    what CONSTANT text := CASE WHEN lead.id IS NULL THEN 'leads' ELSE format('lead %s of "%s"', coalesce(lead_id, 'NULL'), lead.name) END;
    pool_name CONSTANT text := coalesce((SELECT p.name FROM leadroute.pool p WHERE p.tenant = tenant AND p.id = pool), pool::text);
    day_ends CONSTANT timestamptz := (SELECT ((clock_timestamp() AT TIME ZONE r.timezone)::date + 1)::timestamp AT TIME ZONE r.timezone
        FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep);
    episode leadroute.assignment;
    visible boolean;
    problem text[];
BEGIN
    IF why = 'no_rep' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = format('there is no rep %s', coalesce(rep::text, 'NULL')),
            DETAIL = CASE WHEN tenant = 0 THEN 'leadroute.rep has no such id.'
                ELSE format('leadroute.rep has no such id in tenant %s.', tenant) END,
            HINT = 'Give the id of a rep of the lead''s tenant.';
    END IF;
    IF lead.id IS NOT NULL THEN
        episode := leadroute._latest_episode(lead.id, leadroute._lead_key(lead, lead_id), tenant);
        visible := leadroute._claim_visible(caller, level, rep, episode);
        IF NOT visible OR why = 'no_lead' THEN
            PERFORM leadroute._lock_lead(caller, CASE WHEN visible THEN 'app' ELSE level END, lead,
                leadroute._lead_relation(lead.id), lead_id, tenant);
        END IF;
    END IF;
    problem := leadroute._claim_reason(why, tenant, pool_name, rep, used, cap, coalesce(until, day_ends));
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = problem[1], DETAIL = problem[2], HINT = problem[3],
            MESSAGE = CASE problem[1] WHEN 'LR010' THEN format('rep %s may not claim %s', rep, what)
                ELSE format('rep %s may not claim more leads now', rep) END;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LR009',
        MESSAGE = CASE WHEN episode.rep = rep THEN format('%s is rep %s''s already', what, rep) ELSE format('%s is taken', what) END,
        DETAIL = CASE WHEN why = 'unknown_owner' THEN 'It has an owner whom the record does not know.'
            ELSE format('%s has it since %s (%s).', coalesce('Rep ' || episode.rep, 'Somebody who is not a rep'),
                episode.decided_at, episode.method) END,
        HINT = CASE WHEN episode.rep = rep THEN format('leadroute.why(%L, %L) tells how.', lead.name, episode.lead_id)
            ELSE format('Claim another one: leadroute.claim_next(%s), or of leadroute.available_leads(%s).', rep, rep) END;
END
$$;
COMMENT ON FUNCTION leadroute._refuse_claim(name, text, bigint, integer, text, bigint, text, integer, integer, timestamptz, integer) IS
    'Raises what keeps a rep from claiming: LR007, LR008, LR009, LR010 or LR011. A role is told of no lead that it may not know of.';

CREATE FUNCTION leadroute._refuse_pool(tenant bigint, pool text, rep bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leadroute.pool p WHERE p.tenant = _refuse_pool.tenant AND p.name = _refuse_pool.pool) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = format('there is no pool "%s"', pool),
            DETAIL = CASE WHEN tenant = 0 THEN 'leadroute.pool has no such name.'
                ELSE format('leadroute.pool has no such name in tenant %s.', tenant) END,
            HINT = 'Leave the pool out to claim from any that the rep is a member of.';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LR010', MESSAGE = format('rep %s may not claim leads of pool "%s"', rep, pool),
        DETAIL = 'The rep is not a member of it.',
        HINT = format('An admin may INSERT INTO leadroute.pool_member (pool, rep) VALUES (%L, %s).', pool, rep);
END
$$;
COMMENT ON FUNCTION leadroute._refuse_pool(bigint, text, bigint) IS
    'Raises LR008 for a pool that is not there, LR010 for one that the rep is not a member of.';

CREATE FUNCTION leadroute._to_shark_tank(attachment integer, lead_id text, tenant bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE leadroute.assignment a SET tank_at = clock_timestamp(), tank_pool = coalesce(a.pool,
        (SELECT p.id FROM leadroute.lead_table t JOIN leadroute.pool p ON p.tenant = a.tenant AND p.name = t.fallback_pool
         WHERE t.id = a.lead_table))
    WHERE a.tenant = tenant AND a.lead_table = attachment AND a.lead_id = lead_id AND a.ended_at IS NULL
      AND a.rep IS NOT NULL AND a.touched_at IS NULL AND a.tank_pool IS NULL
      AND (a.pool IS NOT NULL OR EXISTS (SELECT FROM leadroute.lead_table t JOIN leadroute.pool p
          ON p.tenant = a.tenant AND p.name = t.fallback_pool WHERE t.id = a.lead_table));
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION leadroute._to_shark_tank(integer, text, bigint) IS
    'Puts a lead that its rep has not touched into the shark tank of the pool it came from, else of the fallback pool: it stays the rep''s until somebody else takes it. False where there is nothing to put. The lead''s row is to be locked before.';

CREATE FUNCTION leadroute.claim(lead_table text, lead_id integer, rep bigint, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_claim';
COMMENT ON FUNCTION leadroute.claim(text, integer, bigint, bigint) IS
    'Takes a lead for a rep, and returns its new episode: method claim. The lead waits in a pool with the mode pull or broadcast, or was released, or is in the shark tank; the rep is a member of that pool, is not paused (and signed in where the pool asks for it), has the skills that the lead needs, and has room under its caps and allowances, where the claim counts as a turn of the pool. The first to come has it: whoever comes later gets LR009, and a rep who has claimed it already the same episode again. Takes the level app, or manager or rep for a rep of their own, and no right on the lead table: the owner is updated with the rights of its owner, and its deferred constraints are checked at once. Locks the leads row; waits for who has it locked, and where the rep has an allowance for others who claim for the rep. Raises LR001, LR002, LR007 (no such lead, or closed), LR008 (no such rep), LR009 (taken: by whom, since when), LR010 (not for this rep: why), LR011 (a cap or allowance is reached: which, until when), LR012, LR013.';
CREATE FUNCTION leadroute.claim(lead_table text, lead_id bigint, rep bigint, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_claim';
COMMENT ON FUNCTION leadroute.claim(text, bigint, bigint, bigint) IS
    'Takes a lead for a rep, and returns its new episode: method claim. The lead waits in a pool with the mode pull or broadcast, or was released, or is in the shark tank; the rep is a member of that pool, is not paused (and signed in where the pool asks for it), has the skills that the lead needs, and has room under its caps and allowances, where the claim counts as a turn of the pool. The first to come has it: whoever comes later gets LR009, and a rep who has claimed it already the same episode again. Takes the level app, or manager or rep for a rep of their own, and no right on the lead table: the owner is updated with the rights of its owner, and its deferred constraints are checked at once. Locks the leads row; waits for who has it locked, and where the rep has an allowance for others who claim for the rep. Raises LR001, LR002, LR007 (no such lead, or closed), LR008 (no such rep), LR009 (taken: by whom, since when), LR010 (not for this rep: why), LR011 (a cap or allowance is reached: which, until when), LR012, LR013.';
CREATE FUNCTION leadroute.claim(lead_table text, lead_id uuid, rep bigint, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_claim';
COMMENT ON FUNCTION leadroute.claim(text, uuid, bigint, bigint) IS
    'Takes a lead for a rep, and returns its new episode: method claim. The lead waits in a pool with the mode pull or broadcast, or was released, or is in the shark tank; the rep is a member of that pool, is not paused (and signed in where the pool asks for it), has the skills that the lead needs, and has room under its caps and allowances, where the claim counts as a turn of the pool. The first to come has it: whoever comes later gets LR009, and a rep who has claimed it already the same episode again. Takes the level app, or manager or rep for a rep of their own, and no right on the lead table: the owner is updated with the rights of its owner, and its deferred constraints are checked at once. Locks the leads row; waits for who has it locked, and where the rep has an allowance for others who claim for the rep. Raises LR001, LR002, LR007 (no such lead, or closed), LR008 (no such rep), LR009 (taken: by whom, since when), LR010 (not for this rep: why), LR011 (a cap or allowance is reached: which, until when), LR012, LR013.';
CREATE FUNCTION leadroute.claim(lead_table text, lead_id text, rep bigint, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_claim';
COMMENT ON FUNCTION leadroute.claim(text, text, bigint, bigint) IS
    'Takes a lead for a rep, and returns its new episode: method claim. The lead waits in a pool with the mode pull or broadcast, or was released, or is in the shark tank; the rep is a member of that pool, is not paused (and signed in where the pool asks for it), has the skills that the lead needs, and has room under its caps and allowances, where the claim counts as a turn of the pool. The first to come has it: whoever comes later gets LR009, and a rep who has claimed it already the same episode again. Takes the level app, or manager or rep for a rep of their own, and no right on the lead table: the owner is updated with the rights of its owner, and its deferred constraints are checked at once. Locks the leads row; waits for who has it locked, and where the rep has an allowance for others who claim for the rep. Raises LR001, LR002, LR007 (no such lead, or closed), LR008 (no such rep), LR009 (taken: by whom, since when), LR010 (not for this rep: why), LR011 (a cap or allowance is reached: which, until when), LR012, LR013.';
CREATE FUNCTION leadroute.claim_next(rep bigint, pool text DEFAULT NULL, from_shark_tank boolean DEFAULT false,
    tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_claim_next';
COMMENT ON FUNCTION leadroute.claim_next(bigint, text, boolean, bigint) IS
    'Takes the next lead for a rep as claim() does, unseen: of the pool, or with NULL of all with the mode pull or broadcast that the rep is a member of, those first whose first lead comes first; in a pool the first by priority, score and age that is for this rep; with from_shark_tank out of the shark tank, any one or the next one by pool.shark_tank_order. No row where there is none. Never waits for a lead that somebody else has locked, and gives a rep no lead that it gave up or lost. Leads at the head of the queue that are not for the rep are passed over one by one; where they are more than 256, a session does so again after a second or when a lead has come to the queue, and not with each claim. A lead whose update fails is left there, with an alert (backlog_error), if another one can be had: else, and after three of them, the error is raised. Raises LR001, LR008 (no such rep or pool), LR010 and LR011 (the rep may claim none there now: why), LR012, LR013, and what the update of the lead raises.';
